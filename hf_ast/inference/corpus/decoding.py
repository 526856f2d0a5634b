"""Recordings -> batches of windows, in processes beside the model's."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from hf_ast.data import audio
from hf_ast.data.sources import Source
from hf_ast.inference.windows import WindowStream


class End(NamedTuple):
    """The end of a recording: all its windows have been given.

    Attributes:
        file: Its number in the plan.
        error: Why it cannot be read, or None.
    """

    file: int
    error: str | None


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


def window_batches(
    source: Source,
    names: Sequence[str],
    files: Sequence[int],
    *,
    sampling_rate: int,
    window: int,
    hop: int,
    batch_size: int,
    num_workers: int,
) -> Iterator[WindowBatch]:
    """Decode recordings into windows, in bounded memory: each process is at most two batches ahead of the model.

    Every process takes the next recording when it is done with one, so that a long one holds up no other, and the
    recordings in progress are neighbours at any time. Batches are filled across recordings.

    Args:
        source: Where the recordings are.
        names: All of them, as in the plan.
        files: Those to decode, by their numbers.
        sampling_rate: Rate that the model takes, in Hz.
        window, hop: In samples at that rate.
        batch_size: Windows per batch.
        num_workers: Processes that decode; 0 means this one.
    """
    recordings = _Recordings(source, names, files, sampling_rate, window, hop, batch_size)
    return iter(DataLoader(recordings, batch_size=None, num_workers=num_workers, in_order=False))


class _Recordings(IterableDataset[WindowBatch]):
    """See `window_batches`."""

    def __init__(
        self,
        source: Source,
        names: Sequence[str],
        files: Sequence[int],
        sampling_rate: int,
        window: int,
        hop: int,
        batch_size: int,
    ):
        self.source = source
        self.names = names
        self.files = files
        self.sampling_rate = sampling_rate
        self.window = window
        self.hop = hop
        self.batch_size = batch_size
        self.num_taken = multiprocessing.Value("q", 0)

    def __iter__(self) -> Iterator[WindowBatch]:
        reader = self.source.reader()
        pieces: list[tuple[int, int, np.ndarray]] = []
        ends: list[End] = []
        while (file := self._take()) is not None:
            error = None
            try:
                with reader.open(self.names[file], file) as recording:
                    for start, clip in self._windows(recording):
                        pieces.append((file, start, clip))
                        if len(pieces) == self.batch_size:
                            yield self._batch(pieces, ends)
                            pieces, ends = [], []
            except ImportError:  # a missing decoder concerns all recordings
                raise
            except Exception as problem:  # from a decoder or a file system; it goes into the recording's row
                error = f"{type(problem).__name__}: {problem}"
                pieces = [piece for piece in pieces if piece[0] != file]
            ends.append(End(file, error))
            if len(ends) > self.batch_size:  # many files without a window
                yield self._batch(pieces, ends)
                pieces, ends = [], []
        yield self._batch(pieces, ends)

    def _take(self) -> int | None:
        """The next recording that no process has."""
        with self.num_taken.get_lock():
            place = self.num_taken.value
            self.num_taken.value += 1
        return self.files[place] if place < len(self.files) else None

    def _windows(self, recording: str | bytes) -> Iterator[tuple[int, np.ndarray]]:
        """First sample and samples of every window."""
        stream = WindowStream(self.window, self.hop)
        for block in audio.stream(recording, self.sampling_rate):
            span = stream.push(block)
            if span is not None:
                yield from zip(span.starts, span.windows(self.window), strict=True)
        span = stream.flush()
        if span is not None:
            yield from zip(span.starts, span.windows(self.window), strict=True)

    def _batch(self, pieces: list[tuple[int, int, np.ndarray]], ends: list[End]) -> WindowBatch:
        batch = WindowBatch(torch.zeros(len(pieces), self.window), ends=ends)
        for row, (file, start, clip) in enumerate(pieces):
            batch.windows[row, : len(clip)] = torch.from_numpy(clip)
            batch.lengths.append(len(clip))
            batch.files.append(file)
            batch.starts_s.append(start / self.sampling_rate)
        return batch


def default_num_workers() -> int:
    """Number of processes that decode for one model: the processors that this process may use, at most four."""
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
