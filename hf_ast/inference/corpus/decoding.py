"""Recordings -> batches of windows, in processes beside the model's."""

import itertools
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from hf_ast.data import audio
from hf_ast.data.sources import Source
from hf_ast.inference.windows import WindowStream
from hf_ast.text import storable

from .plan import Item

# Errors that concern all recordings: a missing decoder, and too little memory
FATAL = (ImportError, MemoryError)
# Warnings that are kept of one recording
MAX_WARNINGS = 20
# A part of a recording may end this much later than the recording, in seconds, as times are rounded
ROUNDING_S = 0.01


class Piece(NamedTuple):
    """A window: its recording by its number in the plan, its first sample in it or in the part of it, its samples."""

    file: int
    start: int
    clip: np.ndarray


class End(NamedTuple):
    """The end of a recording, or of the part that is meant: all its windows have been given.

    Attributes:
        file: Its number in the plan.
        error: Why it cannot be read, or None.
        warnings: What is wrong with it although it is read.
    """

    file: int
    error: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass
class WindowBatch:
    """Windows of one or several recordings.

    Attributes:
        windows: Shape (n, S), padded with zeros where a recording is shorter than a window; n may be 0.
        lengths: Real samples of each.
        files: The recording of each, by its number in the plan.
        starts_s: Where each begins in its recording, in seconds.
        ends: Recordings whose last window is in this batch or an earlier one.
    """

    windows: Tensor
    lengths: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)

    def clips(self) -> list[np.ndarray]:
        """The windows without their padding, each of shape (S,)."""
        return [row[:length] for row, length in zip(self.windows.numpy(), self.lengths, strict=True)]


class WindowBatches:
    """Decode recordings into windows, in bounded memory: each process is at most two batches ahead of the model.

    Every process takes the next recording when it is done with one, so that a long one holds up no other, and the
    recordings in progress are neighbours at any time. Parts of one recording that follow each other are read by one
    process, which opens it once. Batches are filled across recordings.

    Args:
        source: Where the recordings are.
        items: All of them, as in the plan.
        files: Those to decode, by their numbers.
        sampling_rate: Rate that the model takes, in Hz.
        window, hop: In samples at that rate.
        batch_size: Windows per batch.
        num_workers: Processes that decode; 0 means this one.
    """

    def __init__(
        self,
        source: Source,
        items: Sequence[Item],
        files: Sequence[int],
        *,
        sampling_rate: int,
        window: int,
        hop: int,
        batch_size: int,
        num_workers: int,
    ):
        self.num_workers = num_workers
        # The number of each process, and the place of the recording that it has taken
        self.taken = multiprocessing.Array("q", 2 * num_workers)
        self.recordings = _Recordings(source, items, files, sampling_rate, window, hop, batch_size, self.taken)

    def __iter__(self) -> Iterator[WindowBatch]:
        return iter(DataLoader(self.recordings, batch_size=None, num_workers=self.num_workers, in_order=False))

    def explained(self, error: RuntimeError) -> Exception:
        """What to raise when a process has died: an error that names the recording that it was reading."""
        readers = dict(zip(self.taken[::2], self.taken[1::2], strict=True))
        lost = {int(number) for number in re.findall(r"\d+", str(error))} & readers.keys()
        groups, items = self.recordings.groups, self.recordings.items
        names = [items[groups[readers[pid]][0]].name for pid in sorted(lost) if readers[pid] < len(groups)]
        place = f" while it read {names}" if names else ""
        return ChildProcessError(
            f"A process that decodes has died{place} ({str(error).strip()}). What is done is kept. If it happens "
            "again, a decoder crashes there, or memory is short: take the recording out, or convert it."
        )


def is_lost_process(error: Exception) -> bool:
    """Whether torch says that a process of its DataLoader has died, which it may say in the middle of anything."""
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")


class _Recordings(IterableDataset[WindowBatch]):
    """See `WindowBatches`."""

    def __init__(
        self,
        source: Source,
        items: Sequence[Item],
        files: Sequence[int],
        sampling_rate: int,
        window: int,
        hop: int,
        batch_size: int,
        taken: Any,
    ):
        self.source = source
        self.items = items
        self.groups = [list(group) for _, group in itertools.groupby(files, key=lambda file: items[file].name)]
        self.sampling_rate = sampling_rate
        self.window = window
        self.hop = hop
        self.batch_size = batch_size
        self.taken = taken
        self.num_taken = multiprocessing.Value("q", 0)

    def __iter__(self) -> Iterator[WindowBatch]:
        pieces: list[Piece] = []
        ends: list[End] = []
        for result in self._results():
            if isinstance(result, Piece):
                pieces.append(result)
            else:
                ends.append(result)
                if result.error is not None:
                    pieces = [piece for piece in pieces if piece.file != result.file]
            if len(pieces) == self.batch_size or len(ends) > self.batch_size:  # or many files without a window
                yield self._batch(pieces, ends)
                pieces, ends = [], []
        yield self._batch(pieces, ends)

    def _results(self) -> Iterator[Piece | End]:
        """The windows of recordings, each followed by its end."""
        reader = self.source.reader()
        while (group := self._take()) is not None:
            first, num_done = self.items[group[0]], 0
            try:
                if first.problem is not None:
                    raise OSError(first.problem)
                with reader.open(first.name, first.index) as recording:
                    for file in group:
                        yield from self._of_part(file, recording)
                        num_done += 1
            except FATAL:
                raise
            except Exception as problem:  # from a file system or an archive
                yield from (End(file, _described(problem)) for file in group[num_done:])

    def _of_part(self, file: int, recording: str | bytes) -> Iterator[Piece | End]:
        warnings: dict[str, None] = {}
        error = None
        try:
            for start, clip in self._windows(self.items[file], recording, lambda text: warnings.update({text: None})):
                yield Piece(file, start, clip)
        except FATAL:
            raise
        except Exception as problem:  # from a decoder; it goes into the row of the recording
            error = _described(problem)
        kept = list(warnings)[:MAX_WARNINGS]
        if len(warnings) > MAX_WARNINGS:
            kept.append(f"{len(warnings) - MAX_WARNINGS} more warnings of this kind")
        yield End(file, error, tuple(kept))

    def _take(self) -> list[int] | None:
        """The next recording that no process has, as its parts that are wanted."""
        with self.num_taken.get_lock():
            place = self.num_taken.value
            self.num_taken.value += 1
        if (worker := get_worker_info()) is not None:
            self.taken[2 * worker.id : 2 * worker.id + 2] = [os.getpid(), place]
        return self.groups[place] if place < len(self.groups) else None

    def _windows(
        self, item: Item, recording: str | bytes, warn: Callable[[str], None]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """First sample and samples of every window."""
        stream = WindowStream(self.window, self.hop)
        duration_s = None if item.end_s is None else item.end_s - item.start_s
        blocks = audio.stream(recording, self.sampling_rate, start_s=item.start_s, duration_s=duration_s, warn=warn)
        for block in blocks:
            span = stream.push(block)
            if span is not None:
                yield from zip(span.starts, span.windows(self.window), strict=True)
        end_s = item.start_s + stream.num_samples / self.sampling_rate
        span = stream.flush()
        if span is not None:
            yield from zip(span.starts, span.windows(self.window), strict=True)
        if item.end_s is not None and end_s < item.end_s - ROUNDING_S:
            warn(f"{item.name!r} ends at {end_s:.2f} s, before the end of the part, {item.end_s:.2f} s.")

    def _batch(self, pieces: list[Piece], ends: list[End]) -> WindowBatch:
        batch = WindowBatch(torch.zeros(len(pieces), self.window), ends=ends)
        for row, (file, start, clip) in enumerate(pieces):
            batch.windows[row, : len(clip)] = torch.from_numpy(clip)
            batch.lengths.append(len(clip))
            batch.files.append(file)
            batch.starts_s.append(self.items[file].start_s + start / self.sampling_rate)
        return batch


def _described(problem: Exception) -> str:
    return storable(f"{type(problem).__name__}: {problem}")


def default_num_workers() -> int:
    """Number of processes that decode for one model: the processors that this process may use, at most four."""
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
