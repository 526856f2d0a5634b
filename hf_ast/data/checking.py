"""Reading recordings once, to learn their lengths and what is wrong with them."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tqdm.auto import tqdm

from hf_ast.data import audio

from .copies import digest_of
from .entries import Entry
from .sources import Source

# Rate at which recordings are decoded to be checked; its value does not matter
CHECK_RATE_HZ = 16000
# By how much a segment may end behind its recording: tables are rounded, and decoders of MP3 disagree on the padding
END_TOLERANCE_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What is known about recordings and segments after they were read.

    Attributes:
        usable: Those that can be used, each with its length in seconds.
        skipped: Title of each other one -> what is wrong with it.
        warned: Title -> what is wrong with one that can be used nevertheless.
        digests: Hashes of recordings whose bytes lie in a data set, by their names.
    """

    usable: list[tuple[Entry, float]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    warned: dict[str, str] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What reading one file gave."""

    duration_s: float = 0.0
    problem: str = ""
    warnings: tuple[str, ...] = ()
    digest: bytes | None = None


def check_recordings(
    source: Source, entries: Sequence[Entry], min_duration_s: float, *, decode: bool, progress: bool
) -> Checked:
    """Read the recordings of a source, each once, however many segments of it there are.

    Args:
        source: The source.
        entries: Recordings and segments of it.
        min_duration_s: Those that are shorter are skipped.
        decode: Whether to decode everything; otherwise only headers are read.
        progress: Whether to show a progress bar on stderr.
    """
    reader = source.reader()

    def read(entry: Entry) -> _Found:
        warnings: list[str] = []
        digest = None
        try:
            with reader.open(entry.name, entry.index) as recording:
                if isinstance(recording, bytes):
                    digest = digest_of(recording)
                duration_s = _duration_s(recording, decode, warnings.append)
        except (ImportError, MemoryError):  # these concern all recordings
            raise
        except Exception as error:  # a decoder or an archive may raise anything
            is_known = isinstance(error, OSError | ValueError)
            return _Found(problem=str(error) if is_known else f"{type(error).__name__}: {error}")
        return _Found(duration_s=duration_s, warnings=tuple(dict.fromkeys(warnings)), digest=digest)

    files = list({entry.name: entry for entry in reversed(entries) if not entry.problem}.values())[::-1]
    # Decoders and soxr release the GIL; data sets are not made for several threads
    num_threads = 1 if source.kind == "dataset" else min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(num_threads) as pool:
        results = tqdm(pool.map(read, files), total=len(files), desc="Checking", unit="file", disable=not progress)
        found = {entry.name: result for entry, result in zip(files, results, strict=True)}
    checked = Checked(skipped=source.unreadable())
    for entry in entries:
        _judge(entry, found, min_duration_s, checked)
    return checked


def _judge(entry: Entry, found: Mapping[str, _Found], min_duration_s: float, checked: Checked) -> None:
    """Add what is known about a recording or segment."""
    if entry.problem:
        add_reason(checked.skipped, entry.title, entry.problem)
        return
    file = found[entry.name]
    if file.digest is not None:
        checked.digests[entry.name] = file.digest
    problem = file.problem
    duration_s = file.duration_s
    if not problem and entry.end_s is not None:
        if entry.start_s >= file.duration_s:
            problem = f"it begins at {entry.start_s:g} s, but the recording lasts {file.duration_s:.6g} s"
        elif entry.end_s > file.duration_s + END_TOLERANCE_S:
            problem = f"it ends at {entry.end_s:g} s, but the recording lasts {file.duration_s:.6g} s"
        duration_s = min(entry.end_s, file.duration_s) - entry.start_s
    if not problem and duration_s <= 0:
        problem = "it holds no samples"
    if not problem and duration_s < min_duration_s:
        problem = f"it lasts {duration_s:.3g} s, less than {min_duration_s:.3g} s"
    if problem:
        add_reason(checked.skipped, entry.title, problem)
        return
    checked.usable.append((entry, duration_s))
    for warning in file.warnings:
        add_reason(checked.warned, entry.name, warning)


def add_reason(reasons: dict[str, str], name: str, reason: str) -> None:
    """Add a reason to those by name; a name with several reasons has all of them."""
    earlier = reasons.get(name)
    if earlier is None:
        reasons[name] = reason
    elif reason not in earlier:
        reasons[name] = f"{earlier}; {reason}"


def noting(reasons: dict[str, str], name: str) -> Callable[[str], None]:
    """Return what adds a sentence to the reasons of a name."""
    return lambda message: add_reason(reasons, name, message)


def _duration_s(recording: Any, decode: bool, warn: Callable[[str], None]) -> float:
    if not decode:
        return audio.duration(recording, warn=warn)
    return sum(map(len, audio.stream(recording, CHECK_RATE_HZ, warn=warn))) / CHECK_RATE_HZ
