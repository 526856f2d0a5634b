"""The recordings that arguments of commands stand for: files, URLs, folders and patterns."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from .errors import note, report

Recordings = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE|DIR",
        help="Recordings, or videos with sound: files, URLs, or patterns such as `'**/*.wav'`. A folder stands for "
        "all recordings in it and its subfolders that are not hidden, whatever their suffix.",
        show_default=False,
    ),
]
# Number of archives that are shown by name
MAX_NAMES = 3


@dataclass(frozen=True)
class Failure:
    """A recording, or an argument, for which nothing could be done.

    Attributes:
        file: Its name.
        error: Why, as a sentence.
    """

    file: str
    error: str

    def as_data(self) -> dict[str, str]:
        """Return it as an object for JSON."""
        return {"file": self.file, "error": self.error}


@dataclass(frozen=True)
class Expanded:
    """What arguments stand for.

    Attributes:
        files: Paths and URLs in the order of the arguments, those of a folder or pattern in the order of their names,
            each of them once.
        failures: Arguments that stand for nothing, and folders and files in them that cannot be searched or opened;
            commands add the recordings that fail.
    """

    files: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def fail(self, file: str, error: str) -> Failure:
        """Note a failure, and report it on stderr."""
        self.failures.append(Failure(file, error))
        report(f"{file}: {error}")
        return self.failures[-1]

    def failed(self) -> list[dict[str, str]]:
        """Return the failures as data for JSON."""
        return [failure.as_data() for failure in self.failures]


def expand_arguments(arguments: Sequence[str]) -> Expanded:
    """List the recordings that arguments stand for, and report arguments that stand for none."""
    expanded = Expanded()
    files: dict[str, None] = {}
    for argument in arguments:
        found = list(_recordings(argument, expanded))
        files.update(dict.fromkeys(found))
        if not found and not any(failure.file.startswith(argument) for failure in expanded.failures):
            is_folder = os.path.isdir(argument)
            expanded.fail(argument, f"there is no {'audio file in this folder' if is_folder else 'such file'}.")
    expanded.files.extend(files)
    return expanded


def note_archives(archives: Sequence[str], folder: str) -> None:
    """Say on stderr which archives in a folder were not opened."""
    if archives:
        names = ", ".join(archives[:MAX_NAMES]) + (", ..." if len(archives) > MAX_NAMES else "")
        note(f"{folder}: left out {len(archives)} archives, which must be unpacked: {names}")


def _recordings(argument: str, expanded: Expanded) -> Iterator[str]:
    if argument.startswith(("http://", "https://")):
        yield argument
    elif os.path.isdir(argument):
        yield from _in_folder(argument, expanded)
    elif os.path.lexists(argument):
        yield argument
    else:
        for path in sorted(glob.glob(_pattern(argument), recursive=True)):  # empty if it is not a pattern
            yield from _in_folder(path, expanded) if os.path.isdir(path) else [path]


def _pattern(argument: str) -> str:
    """A pattern in which the folders that exist as they are written stand for themselves, such as `[live]/*.wav`."""
    path = Path(argument)
    for folder in path.parents:
        if folder.name and folder.exists():
            return os.path.join(glob.escape(str(folder)), str(path.relative_to(folder)))
    return argument


def _in_folder(folder: str, expanded: Expanded) -> Iterator[str]:
    from hf_ast.data.finding import find_recordings

    try:
        found = find_recordings(folder)
    except OSError as error:
        expanded.fail(folder, f"the folder cannot be searched ({error.strerror}).")
        return
    for name, reason in found.unreadable.items():
        expanded.fail(os.path.join(folder, name), f"{reason}.")
    note_archives(found.archives, folder)
    for name in found.names:
        yield str(Path(folder, name))
