"""The work of the commands for checkpoints; `hf_ast.cli` takes their arguments and prints their results."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cards import write_card
from .checkpoint import Checkpoint
from .downloads import cached, digest_problem, fetch
from .folders import convert_file, read_provenance, sha256
from .registry import ALIASES, close_names, find, search
from .verify import verify_folder


@dataclass(frozen=True)
class Source:
    """An official file, or one that is like it.

    Args:
        checkpoint: What the registry says of it.
        file: Where it is.
        url: Where it came from; None for a local file.
    """

    checkpoint: Checkpoint
    file: Path
    url: str | None = None


def list_checkpoints(words: str = "", family: str | None = None) -> list[Checkpoint]:
    """The checkpoint that is called so, or all whose names or title hold each of the words.

    Raises:
        ValueError: There is none; the message names what comes close.
    """
    if words.lower() in ALIASES and family in (None, ALIASES[words.lower()].family):
        return [ALIASES[words.lower()]]
    found = search(family=family, words=words)
    if not found:
        among = "" if family is None else f" of the family {family!r}"
        raise ValueError(f"No checkpoint{among} has {words!r} in its names or its title{close_names(words)}.")
    return found


def find_source(what: str, like: str | None = None, *, cache: Path | None = None) -> Source:
    """The file that a name or a path stands for, downloaded if need be.

    Args:
        what: Any name of a checkpoint, or a file.
        like: Any name of the checkpoint that a renamed or fine-tuned file is like.
        cache: Folder of the official files.

    Raises:
        ValueError: Nothing is called that, or a file of an official name does not have the official digest.
        OSError: As in `downloads.fetch`.
    """
    file = Path(what)
    if not file.is_file():
        if like is not None:
            raise ValueError(f"--as is for files, and {what!r} is none.")
        try:
            checkpoint = find(what)
        except ValueError as error:
            raise ValueError(f"{what!r} is no file. {error}") from error
        return Source(checkpoint, *fetch(checkpoint, cache=cache))
    if like is not None:
        return Source(find(like), file)
    try:
        checkpoint = find(file.name)
    except ValueError as error:
        raise ValueError(f"{error} Say with --as what {what!r} is, or is like.") from error
    if (problem := digest_problem(checkpoint, sha256(file), file.name)) is not None:
        raise ValueError(f"{what}: {problem}. If it is meant to differ, take --as {checkpoint.name}.")
    return Source(checkpoint, file)


def convert_source(
    source: Source, folder: Path, *, changes: Mapping[str, Any] | None = None, verify: bool = False
) -> dict[str, Any] | None:
    """Convert a file into a folder with a card, and prove it if asked to.

    Returns:
        The report of the verification, which was passed; None if it was not asked for.

    Raises:
        ValueError: As in `folders.convert_file`; or the folder does not pass its verification.
        OSError: The disk is full, for example.
    """
    convert_file(source.file, source.checkpoint, folder, url=source.url, changes=changes)
    report = None
    if verify:
        report = verify_folder(folder, source.file)
        expect_passed(report, folder, source.file)
    if verify or not (folder / "README.md").is_file():
        write_card(folder)
    return report


def convert_released(
    checkpoint: Checkpoint, folder: Path, *, cache: Path | None = None
) -> tuple[Source, dict[str, Any]]:
    """Download, convert, prove and describe a checkpoint; errors as in `find_source` and `convert_source`."""
    source = Source(checkpoint, *fetch(checkpoint, cache=cache))
    report = convert_source(source, folder, verify=True)
    assert report is not None  # as it was asked for
    return source, report


def source_of(folder: Path, *, cache: Path | None = None) -> Path:
    """The official file that a folder was made from, in the cache.

    Raises:
        ValueError: It is not there, or no conversion made the folder.
    """
    checkpoint = find(read_provenance(folder)["checkpoint"])
    file = cached(checkpoint, cache=cache)
    if file is None:
        raise ValueError(
            f"{checkpoint.file_name} is not in the cache; give the file that the folder was made from as --source."
        )
    return file


def expect_passed(report: Mapping[str, Any], folder: Path, source: Path) -> None:
    """Raise a ValueError with all problems if a folder did not pass its verification."""
    if not report["passed"]:
        raise ValueError(f"{folder} is not what {source} holds: {'; '.join(report['problems'])}")
