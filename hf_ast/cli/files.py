"""Recordings that were named on the command line: files, folders and patterns."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from .errors import report

# Endings of the formats that libsndfile finds out by itself; it also reads files of any other name, if they are named
SUFFIXES = frozenset(
    ".aif .aifc .aiff .au .avr .caf .flac .htk .iff .ircam .m1a .mp1 .mp2 .mp3 .mpc .nist .oga .ogg .opus .paf .pvf "
    ".rf64 .sd2 .sds .sf .snd .sph .svx .voc .w64 .wav .wave .wve .xi".split()
)
Recordings = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE|DIR",
        help="Recordings in any format that libsndfile reads: files, URLs, or patterns such as `'**/*.wav'`. Of a "
        "folder, all audio files are taken that are not hidden, also those in its subfolders.",
        show_default=False,
    ),
]


def expand_arguments(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The files that the arguments stand for, and whether each argument stands for some; if not, that is reported.

    Files of a folder are in the order of their names. A file that several arguments stand for is there once.
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
        for path in sorted(glob.glob(argument, recursive=True)):  # nothing, where it is no pattern
            yield from _in_folder(Path(path)) if os.path.isdir(path) else [path]


def _in_folder(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield str(path)
