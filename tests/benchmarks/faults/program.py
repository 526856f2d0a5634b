"""What a trial runs: a command of hf-ast, or a download, which no command does alone.

python -m tests.benchmarks.faults.program card FOLDER
python -m tests.benchmarks.faults.program download URL CACHE
python -m tests.benchmarks.faults.program get_checkpoint URL CACHE
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx2

import hf_ast
import hf_ast.conversion.downloads
import hf_ast.conversion.registry
import hf_ast.hub
from hf_ast.cli import main as run_command
from hf_ast.conversion.checkpoint import Checkpoint
from tests.support.converted import tiny_ast

# Of the trials; what users get is longer
TIMEOUT_S = 1.0


def run(arguments: Sequence[str]) -> int:
    """Run a command, or a download; the exit status."""
    hf_ast.conversion.downloads.TIMEOUT = httpx2.Timeout(TIMEOUT_S)
    hf_ast.hub.TIMEOUT = (TIMEOUT_S,) * 4
    if arguments[0] not in ("download", "get_checkpoint"):
        return run_command(arguments)
    what, url, cache = arguments
    checkpoint = register_tiny(url)
    try:
        if what == "download":
            hf_ast.conversion.downloads.fetch(checkpoint, cache=Path(cache))
        else:
            hf_ast.get_checkpoint(checkpoint.name, cache=cache)
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError) as error:  # all that their docstrings announce
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def register_tiny(url: str) -> Checkpoint:
    """Make the registry know the tiny checkpoint, at a URL, in place of all others."""
    checkpoint = dataclasses.replace(tiny_ast()[0], urls=(url,))
    hf_ast.conversion.registry.ALIASES = {checkpoint.name: checkpoint}
    return checkpoint


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
