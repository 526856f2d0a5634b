"""`hf-ast checkpoints`."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from hf_ast.families import BY_NAME

from .options import Json
from .output import results, show_table

if TYPE_CHECKING:
    Family = str
else:  # typer takes choices as an enum
    Family = StrEnum("Family", {name.upper(): name for name in BY_NAME})


def checkpoints(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORDS]...", help="Any name of a checkpoint, or words in its names and title."),
    ] = None,
    family: Annotated[Family | None, typer.Option(help="Only checkpoints of this family.")] = None,
    details: Annotated[bool, typer.Option("--details", help="Show all that is known about each of them.")] = False,
    as_json: Json = False,
) -> None:
    """List the released checkpoints.

    Prints a table of the checkpoints whose names and title contain all words. A word that is the exact name of a
    checkpoint selects only that one. All names that `--details` shows are valid as `--model`, for `hf-ast convert`,
    and in Python for `hf_ast.get_checkpoint`.

    With `--json`, the result is an array with one object per checkpoint, which holds all that is known about it.
    """
    from hf_ast.conversion import commands, listing

    found = commands.list_checkpoints(" ".join(words or ()), family)
    if as_json:
        with results(as_json) as add:
            for checkpoint in found:
                add(listing.as_data(checkpoint), [])
    elif details:
        for number, checkpoint in enumerate(found):
            show_table([*([("", "")] if number else []), *listing.facts(checkpoint)])
    else:
        show_table([listing.summary(checkpoint) for checkpoint in found], listing.HEADER)
