"""Events: when something is heard, from the scores of consecutive windows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hf_ast.models.feature_extraction_checks import as_count, as_finite

# Share of the windows over a moment that must hear an event, and part of the largest share that bounds its extent
LEAST_SHARE = 1 / 2
EXTENT_SHARE = 2 / 3
NANOSECONDS = 10**9


def filter_median(scores: Tensor, size: int) -> Tensor:
    """Replace each score by the median of the scores around it in time, which removes short peaks and gaps.

    It is that of the official fPaSST code (PretrainedSED helpers/decode.py:43-70): the scores are reflected at both
    ends; of an even number, the upper one of the two middle scores is taken, and one more of them is from before.

    Args:
        scores: Shape (K, C).
        size: Scores of which the median is taken, 1 for none.
    """
    size = as_count("size", size)
    before = size // 2
    padded = np.pad(scores.numpy(force=True), ((before, size - 1 - before), (0, 0)), mode="symmetric")
    return torch.from_numpy(padded).unfold(0, size, 1).sort(dim=2).values[:, :, before]


class Event(NamedTuple):
    """A label, when it is heard, in seconds, and the largest score of the windows that hear it."""

    label: str
    start_s: float
    end_s: float
    peak: float


def find_events(
    scores: Tensor,
    times_s: Tensor,
    labels: Sequence[str],
    *,
    threshold: float = 0.5,
    release: float | None = None,
) -> list[Event]:
    """Join consecutive windows that hear a label into events, with hysteresis.

    A run of windows hears a label if its scores are all at least `release`, and one of them is at least `threshold`: a
    short dip does not end an event. Without overlap, the event lasts as long as the windows of the run.

    Where windows overlap, each moment is covered by several, and the share of them that belong to the run tells how
    likely the sound is there. The event consists of the moments with at least two thirds of the largest share, which
    locates a short sound to a third of a window and a long one to a sixth. If the largest share is less than half,
    there is no event: most windows do not hear it, and the others probably cut another sound in two.

    Args:
        scores: Shape (K, C).
        times_s: Start and end of each window in seconds, both ascending, shape (K, 2).
        labels: Names of the classes, C.
        threshold: Score that makes an event, in (0, 1].
        release: Score below which a run ends, at most `threshold`; half of it if None.

    Returns:
        Events in the order of their starts; those that start together, by descending peak.

    Raises:
        ValueError: `threshold` or `release` is out of its range.
    """
    release = checked_release(threshold, release)
    moments = _Moments(times_s)
    events = []
    for index in (scores >= threshold).any(dim=0).nonzero().flatten().tolist():
        column = scores[:, index]
        for first, last in _runs(column >= release):
            peak = column[first : last + 1].max().item()
            if peak >= threshold and (extent := moments.extent(first, last)) is not None:
                events.append(Event(labels[index], *extent, peak))
    return sorted(events, key=lambda event: (event.start_s, -event.peak))


def checked_release(threshold: float, release: float | None = None) -> float:
    """Return the release of `find_events`, by default half of the threshold; ValueError if either is out of range."""
    threshold = as_finite("threshold", threshold)
    release = threshold / 2 if release is None else as_finite("release", release)
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold} must be greater than 0 and at most 1.")
    if not 0 < release <= threshold:
        raise ValueError(f"release={release} must be greater than 0 and at most threshold={threshold}.")
    return release


def _runs(is_active: Tensor) -> list[tuple[int, int]]:
    """First and last index of each run of True in a (K,) mask."""
    edge = torch.zeros(1, dtype=torch.int)
    steps = torch.diff(is_active.int(), prepend=edge, append=edge)
    starts, ends = (steps == 1).nonzero().flatten(), (steps == -1).nonzero().flatten() - 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


class _Moments:
    """The stretches of time between all starts and ends of windows, each with the windows that cover it.

    At both ends of a recording, fewer windows cover a moment than elsewhere. So windows are added beyond the ends,
    which are taken to hear what the outermost window hears.
    """

    def __init__(self, times_s: Tensor):
        # As whole numbers: the end of a window and the start of the next one must not differ by rounding
        times = (times_s.double() * NANOSECONDS).round().long()
        self.num_windows = len(times)
        self.recording = (int(times[0, 0]), int(times[-1, 1])) if len(times) else (0, 0)
        self.num_added = 0
        if len(times) > 2:  # the second of two windows ends with the recording, at any distance
            length, hop = int(times[0, 1] - times[0, 0]), int(times[1, 0] - times[0, 0])
            self.num_added = -(-length // hop) - 1
            beyond = hop * torch.arange(1, self.num_added + 1).unsqueeze(1)
            times = torch.cat((times[:1] - beyond.flip(0), times, times[-1:] + beyond))
        self.starts, self.ends = times.T.contiguous()
        self.edges = times.flatten().unique()
        # The windows from `first` to `last` cover a stretch
        self.first = torch.searchsorted(self.ends, self.edges[:-1], right=True)
        self.last = torch.searchsorted(self.starts, self.edges[:-1], right=True) - 1

    def extent(self, first: int, last: int) -> tuple[float, float] | None:
        """Start and end of the event that the windows from `first` to `last` hear, or None; see `find_events`."""
        first = 0 if first == 0 else first + self.num_added
        last = last + self.num_added * (2 if last == self.num_windows - 1 else 1)
        low, high = torch.searchsorted(self.edges, torch.stack((self.starts[first], self.ends[last]))).tolist()
        covering_first, covering_last = self.first[low:high], self.last[low:high]
        num_hearing = covering_last.clamp(max=last) - covering_first.clamp(min=first) + 1
        share = num_hearing / (covering_last - covering_first + 1)
        if share.max() < LEAST_SHARE:
            return None
        heard = (share >= EXTENT_SHARE * share.max()).nonzero().flatten().tolist()
        start = max(int(self.edges[low + heard[0]]), self.recording[0])
        end = min(int(self.edges[low + heard[-1] + 1]), self.recording[1])
        return (start / NANOSECONDS, end / NANOSECONDS) if start < end else None
