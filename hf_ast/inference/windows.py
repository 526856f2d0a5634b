"""Windows over a recording: where they start, and how to cut them from samples that arrive piece by piece."""

from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from hf_ast.models.feature_extraction_checks import as_finite


def covering_starts(num_samples: int, window: int, hop: int) -> list[int]:
    """First samples of the windows that cover a recording.

    A window starts at every multiple of `hop` from which a whole window fits. Where samples are left at the end, one
    more window ends with the recording, so that each sample is in at least one window. A recording that is not longer
    than one window is a single window, however short it is.

    Args:
        num_samples: Length of the recording, S, at least 1.
        window: Length of a window, in samples.
        hop: Distance between windows, in samples, at most `window`: a larger one would leave samples out.

    Returns:
        Ascending numbers; each of the windows is `min(window, num_samples)` long.
    """
    check_windows(window, hop)
    if num_samples < 1:
        raise ValueError(f"num_samples={num_samples} must be at least 1.")
    if num_samples <= window:
        return [0]
    starts, last = list(whole_windows(num_samples, window, hop)), num_samples - window
    return starts if starts[-1] == last else [*starts, last]


def whole_windows(num_samples: int, window: int, hop: int, first: int = 0) -> range:
    """First samples of the windows that lie in the first `num_samples` samples, from the window at `first` on."""
    return range(first, num_samples - window + 1, hop)


def num_centred_windows(num_samples: int, hop: int) -> int:
    """Number of windows around the multiples of `hop` in a recording, as the HEAR benchmark places them.

    The first and the last ones reach beyond the recording.
    """
    return num_samples // hop + 1


def check_windows(window: int, hop: int) -> None:
    """Raise a ValueError if windows of that length and distance, in samples, would leave samples out."""
    if window < 1:
        raise ValueError(f"window={window} must be at least one sample long.")
    if not 1 <= hop <= window:
        raise ValueError(
            f"hop={hop} must be between 1 and window={window} samples: with a larger hop, the samples between two "
            "windows would be lost."
        )


class Span(NamedTuple):
    """A stretch of a recording that holds some windows.

    Args:
        samples: Shape (S,).
        offset: Number of its first sample in the recording.
        starts: First samples of the windows, counted in the recording.
    """

    samples: np.ndarray | Tensor
    offset: int
    starts: list[int]

    def on_device(self, device: torch.device | str | None) -> Self:
        """The same with its samples as a tensor on a device; where they are if None."""
        samples = self.samples
        if not isinstance(samples, Tensor):
            samples = torch.from_numpy(np.require(samples, requirements=["C", "W"]))
        return self._replace(samples=samples if device is None else samples.to(device))

    def windows(self, window: int) -> list[np.ndarray | Tensor]:
        """The windows, each of shape (window,); a shorter recording is its only window."""
        return [self.samples[start - self.offset :][:window] for start in self.starts]


class WindowStream:
    """The windows of `covering_starts` from samples that arrive in pieces of any size, in bounded memory.

    It keeps the last `window` samples and what was pushed since, so its memory grows only with the size of the pieces.

    Args:
        window, hop: In samples; see `covering_starts`.
        step: The last window begins with a multiple of these samples, and is up to as much shorter.
    """

    def __init__(self, window: int, hop: int, step: int = 1):
        check_windows(window, hop)
        self.window = window
        self.hop = hop
        self.step = step
        self.reset()

    def reset(self) -> None:
        """Begin a new recording."""
        self.num_samples = 0
        self._kept = np.zeros(0, dtype=np.float32)
        self._next_start = 0

    def push(self, samples: np.ndarray) -> Span | None:
        """Take the next samples (S,) of the recording, and return the windows that they complete, if any."""
        self.num_samples += len(samples)
        self._kept = np.concatenate((self._kept, samples))
        starts = list(whole_windows(self.num_samples, self.window, self.hop, self._next_start))
        span = None
        if starts:
            span = self._span(starts)
            self._next_start = starts[-1] + self.hop
        # The last window, which ends with the recording, is not known yet, but does not begin before this sample
        oldest = max(0, min(self._next_start, self.num_samples - self.window))
        self._kept = self._kept[oldest - self._offset :]
        return span

    def flush(self) -> Span | None:
        """End the recording, return the window that ends with it unless `push` did, and begin a new recording."""
        last = max(0, -(-(self.num_samples - self.window) // self.step) * self.step)
        is_new = self.num_samples > 0 and last > self._next_start - self.hop
        span = self._span([last]) if is_new else None
        self.reset()
        return span

    @property
    def _offset(self) -> int:
        return self.num_samples - len(self._kept)

    def _span(self, starts: list[int]) -> Span:
        first = starts[0] - self._offset
        samples = self._kept[first : first + starts[-1] - starts[0] + self.window]
        return Span(samples, starts[0], starts)


def as_samples(name: str, seconds: float, sampling_rate: int) -> int:
    """Convert the seconds of an argument to samples, or raise a ValueError that names it if there is not even one."""
    num_samples = round(as_finite(name, seconds) * sampling_rate)
    if num_samples < 1:
        raise ValueError(f"{name}={seconds} must be at least one sample long.")
    return num_samples
