"""What the commands for checkpoints do, without their arguments and their output, which are in `hf_ast.cli`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .assumptions import format_assumptions
from .cards import CARD, write_card
from .checkpoint import Checkpoint
from .containers import AVERAGE
from .downloads import cached, digest_problem, fetch
from .files import CheckpointFile
from .folders import convert_file, read_provenance
from .registry import ALIASES, close_names, find, search
from .verification import Verification
from .verify import verify_folder


@dataclass(frozen=True)
class Source:
    """A file to convert.

    Args:
        checkpoint: Registry entry of the file, or of the checkpoint that it resembles.
        file: The file.
        url: URL from which the file was downloaded; None for a local file.
    """

    checkpoint: Checkpoint
    file: CheckpointFile
    url: str | None = None


def list_checkpoints(words: str = "", family: str | None = None) -> list[Checkpoint]:
    """Return the checkpoint with that name, or all checkpoints whose names and title contain all of the words.

    Raises:
        ValueError: There is none. The message suggests similar names.
    """
    if words.lower() in ALIASES and family in (None, ALIASES[words.lower()].family):
        return [ALIASES[words.lower()]]
    found = search(family=family, words=words)
    if not found:
        among = "" if family is None else f" of the family {family!r}"
        raise ValueError(f"No checkpoint{among} has {words!r} in its names or its title{close_names(words)}.")
    return found


def find_source(what: str, like: str | None = None, *, cache: Path | None = None) -> Source:
    """Find the file for a name or a path. The file of a name is downloaded if it is not in the cache.

    Args:
        what: Any name of a checkpoint, or the path of a file, or with `like` of a folder with one
            (`files.CheckpointFile`).
        like: Any name of the checkpoint that a renamed or fine-tuned file resembles.
        cache: Folder of the official files.

    Raises:
        ValueError: There is no such checkpoint or file, or a file with an official name has another digest.
        OSError: As in `downloads.fetch`.
    """
    path = Path(what)
    # A folder may be the result of an earlier conversion of that name
    if not (path.is_file() or (like is not None and path.is_dir())):
        if like is not None:
            raise ValueError(f"--as is for files, and {what!r} is not a file.")
        try:
            checkpoint = find(what)
        except ValueError as error:
            raise ValueError(f"{what!r} is not a file. {error}") from error
        return Source(checkpoint, *fetch(checkpoint, cache=cache))
    file = CheckpointFile(path)
    if like is not None:
        return Source(find(like), file)
    try:
        checkpoint = find(file.path.name)
    except ValueError as error:
        raise ValueError(f"{error} Use --as to say what {what!r} is, or resembles.") from error
    if (problem := digest_problem(checkpoint, file.sha256, file.path.name)) is not None:
        raise ValueError(f"{what}: {problem}. If it is meant to differ, use --as {checkpoint.name}.")
    return Source(checkpoint, file)


def convert_source(
    source: Source,
    folder: Path,
    *,
    changes: Mapping[str, Any] | None = None,
    weights: str | None = None,
    verify: bool = False,
) -> Verification | None:
    """Convert a file into a folder with a model card.

    Args:
        source: The file.
        folder: Folder to make.
        changes, weights: Fields in which a fine-tuned file differs, and which weights of it to take; see
            `folders.convert_file`.
        verify: Whether to verify the folder against the file.

    Returns:
        The verification, which the folder passed; None without `verify`.

    Raises:
        ValueError: As in `folders.convert_file`, or the folder does not pass its verification.
        OSError: The folder cannot be written.
    """
    convert_file(source.file, source.checkpoint, folder, url=source.url, changes=changes, weights=weights)
    verification = None
    if verify:
        verification = verify_folder(folder, source.file)
        expect_passed(verification, folder, source.file.path)
    if verify or not (folder / CARD).is_file():
        write_card(folder)
    return verification


def convert_released(
    checkpoint: Checkpoint, folder: Path, *, cache: Path | None = None
) -> tuple[Source, Verification]:
    """Download, convert and verify a checkpoint; errors as in `find_source` and `convert_source`."""
    source = Source(checkpoint, *fetch(checkpoint, cache=cache))
    verification = convert_source(source, folder, verify=True)
    assert verification is not None  # as it was asked for
    return source, verification


def source_of(folder: Path, *, cache: Path | None = None) -> Path:
    """Return the official file, in the cache, from which a folder was made.

    Raises:
        ValueError: The file is not in the cache, or the folder was not made by a conversion.
    """
    checkpoint = find(read_provenance(folder)["checkpoint"])
    file = cached(checkpoint, cache=cache)
    if file is None:
        raise ValueError(
            f"{checkpoint.file_name} is not in the cache; give the file that the folder was made from as --source."
        )
    return file


def expect_passed(verification: Verification, folder: Path, source: Path) -> None:
    """Raise a ValueError with all problems if a folder did not pass its verification."""
    if not verification.passed:
        raise ValueError(f"{folder} is not what {source} holds: {'; '.join(verification.problems)}")


def remarks(folder: Path) -> list[str]:
    """Say what of its file a folder was made from, what of it was left out, and what was assumed; a sentence each."""
    provenance = read_provenance(folder)
    unwrapped, assumed = provenance["unwrapped"], provenance["assumed"]
    lines = []
    if unwrapped["containers"]:
        lines.append(f"unwrapped: {'.'.join(unwrapped['containers'])}")
    if unwrapped["weights"]:
        kind = "averaged" if unwrapped["weights"] == AVERAGE else unwrapped["weights"]
        others = [f"--weights {name} takes {where or 'the others'}" for name, where in unwrapped["others"].items()]
        lines.append("; ".join([f"weights: the {kind} ones", *others]))
    if unwrapped["left_out"]:
        lines.append(f"left out: {', '.join(f'{name} ({what})' for name, what in unwrapped['left_out'].items())}")
    if assumed:
        lines.append(f"assumed, as no tensor tells it: {format_assumptions(assumed)}")
    return lines
