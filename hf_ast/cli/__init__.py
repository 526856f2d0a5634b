"""`hf-ast`: the command line. One file per command; `app` puts them together."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: What follows the name of the program; those of this process if None.

    Returns:
        The exit status, as the help of `hf-ast` lists it.
    """
    try:
        from .app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        print('error: The command line needs typer and rich: pip install "hf-ast[cli,audio]"', file=sys.stderr)
        return 1
    return run(arguments)
