"""The recordings that arguments of commands stand for: files, URLs, folders and patterns."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from .errors import report

Recordings = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE|DIR",
        help="Recordings in any format that libsndfile reads: files, URLs, or patterns such as `'**/*.wav'`. A folder "
        "stands for all audio files in it and its subfolders that are not hidden.",
        show_default=False,
    ),
]


def expand_arguments(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """List the recordings that arguments stand for, and report arguments that stand for none.

    Returns:
        Paths and URLs in the order of the arguments, those of a folder or pattern in the order of their names, each of
        them once; and whether there is at least one for each argument.
    """
    files: dict[str, None] = {}
    all_found = True
    for argument in arguments:
        found = list(_recordings(argument))
        files.update(dict.fromkeys(found))
        if not found:
            all_found = False
            is_folder = os.path.isdir(argument)
            report(f"{argument}: {'there is no audio file in this folder' if is_folder else 'there is no such file'}.")
    return list(files), all_found


def _recordings(argument: str) -> Iterator[str]:
    if argument.startswith(("http://", "https://")):
        yield argument
    elif os.path.isdir(argument):
        yield from _in_folder(Path(argument))
    elif os.path.exists(argument):
        yield argument
    else:
        for path in sorted(glob.glob(argument, recursive=True)):  # empty if it is not a pattern
            yield from _in_folder(Path(path)) if os.path.isdir(path) else [path]


def _in_folder(folder: Path) -> Iterator[str]:
    from hf_ast.data.audio import SUFFIXES

    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield str(path)
