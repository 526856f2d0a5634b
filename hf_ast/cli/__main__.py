"""`python -m hf_ast.cli`, the same as `hf-ast`."""

import sys

from . import main

sys.exit(main())
