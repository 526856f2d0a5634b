"""`python -m conversion`: the commands of `hf-ast` for checkpoints."""

import sys
from collections.abc import Sequence

from hf_ast import cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; arguments and result as in `hf_ast.cli.main`."""
    return cli.main(arguments, program="python -m conversion")


if __name__ == "__main__":
    sys.exit(main())
