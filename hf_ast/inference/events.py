"""Events: when something is heard, from scores over time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict, Unpack, cast

import numpy as np

from hf_ast.models.feature_extraction_checks import as_finite

# Times that differ by less are the same: cells are at least a hundred times as long, and sums of their lengths round
TOLERANCE_S = 1e-6
NOT_ASCENDING = "The edges of cells_s must be finite and ascend, by more than a microsecond."
DEFAULT_THRESHOLD = 0.5
# Cells that are worked on at a time, so that memory does not grow with the length of a recording
BLOCK = 4096


class Event(NamedTuple):
    """A label, when it is heard, in seconds, and the largest of its scores in this time."""

    label: str
    start_s: float
    end_s: float
    peak: float


class EventSettings(TypedDict, total=False):
    """The settings of `EventRule` as keywords."""

    threshold: float | Mapping[str, float]
    release: float | Mapping[str, float] | None
    median_s: float
    shortest_s: float
    longest_gap_s: float


@dataclass(frozen=True)
class EventRule:
    """How scores over time become events; these defaults are those of everything that finds events.

    1. Scores are smoothed by a median over `median_s`, if that is given.
    2. An event begins where the score rises above `release`, ends where it falls to it, and counts if the score is
       above `threshold` somewhere between. Without `release`, both are one.
    3. Events of one label with at most `longest_gap_s` between them become one; those shorter than `shortest_s` are
       dropped.

    Args:
        threshold: Score in (0, 1] above which there is an event; or one for each label by its name, where labels that
            are not named keep 0.5.
        release: Score above which an event lasts, at most `threshold`, or one for each label; the threshold if None.
        median_s: Length of the median filter, in seconds: the nearest number of cells. The ends of the recording are
            mirrored, and an even number of cells takes the upper of the two middle values, as scipy does.
        shortest_s: Length of the shortest event, in seconds.
        longest_gap_s: Length of the longest gap that is closed, in seconds.

    Raises:
        ValueError: A value is out of its range.
    """

    threshold: float | Mapping[str, float] = DEFAULT_THRESHOLD
    release: float | Mapping[str, float] | None = None
    median_s: float = 0.0
    shortest_s: float = 0.0
    longest_gap_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("median_s", "shortest_s", "longest_gap_s"):
            if as_finite(name, getattr(self, name)) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative.")
        named = {
            name: None for given in (self.threshold, self.release) if isinstance(given, Mapping) for name in given
        }
        self.limits([*named, ""])  # the last stands for all labels without a name of their own

    def filter_length(self, cell_s: float) -> int:
        """Number of cells of the median filter, at least 1, for cells of a usual length in seconds."""
        return max(1, math.floor(self.median_s / cell_s + 0.5 + TOLERANCE_S))

    def limits(self, labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Threshold and release of each label, float64, shape (C,) each; ValueError if one is out of its range."""
        threshold = _by_label("threshold", self.threshold, labels, [DEFAULT_THRESHOLD] * len(labels))
        release = _by_label("release", self.release, labels, threshold)
        for label, high, low in zip(labels, threshold, release, strict=True):
            of = f" of {label!r}" if isinstance(self.threshold, Mapping) or isinstance(self.release, Mapping) else ""
            if not 0 < high <= 1:
                raise ValueError(f"threshold={high}{of} must be greater than 0 and at most 1.")
            if not 0 < low <= high:
                raise ValueError(f"release={low}{of} must be greater than 0 and at most threshold={high}.")
        return np.array(threshold), np.array(release)


def find_events(scores: Any, cells_s: Any, labels: Sequence[str], **settings: Unpack[EventSettings]) -> list[Event]:
    """Find events in scores over time.

    Args:
        scores: Score of each label in consecutive cells of time, shape (K, C): an array or a tensor. They are compared
            as float32.
        cells_s: Edges of the cells in seconds, ascending, shape (K + 1,); or the length of each, from 0 s on.
        labels: Names of the labels, C different ones.
        settings: Those of `EventRule`, which tells the rule.

    Returns:
        Events in the order of their starts; those that start together, by descending peak, and then as their labels.
        Events of one label do not overlap, and all lie between the first and the last edge.

    Raises:
        ValueError: A setting is out of its range; or scores are NaN or infinite, or do not fit the cells or labels.
    """
    scores = np.asarray(scores, dtype=np.float32)
    if scores.ndim != 2:
        raise ValueError(
            f"scores has shape {scores.shape}, but must have a row for each cell, a column for each label."
        )
    edges_s: np.ndarray = np.asarray(cells_s, dtype=np.float64)
    if edges_s.ndim == 0:
        edges_s = np.arange(len(scores) + 1) * as_finite("cells_s", float(edges_s))
    cell_s = float(np.median(np.diff(edges_s))) if len(edges_s) > 1 else 1.0
    finder = EventFinder(labels, cell_s, **settings)
    if edges_s.shape != (len(scores) + 1,):
        raise ValueError(f"cells_s has shape {edges_s.shape}, but must have the {len(scores) + 1} edges of the cells.")
    return finder.whole(scores, edges_s)


class EventFinder:
    """Events of scores that arrive piece by piece: those of `find_events`, each as soon as no later score changes it.

    Args:
        labels: Names of the labels, C different ones.
        cell_s: Usual length of a cell in seconds, in which `median_s` is measured.
        settings: Those of `EventRule`.
    """

    def __init__(self, labels: Sequence[str], cell_s: float, **settings: Unpack[EventSettings]):
        self.labels = list(labels)
        if len(set(self.labels)) < len(self.labels):
            twice = next(label for number, label in enumerate(self.labels) if label in self.labels[:number])
            raise ValueError(f"labels has {twice!r} twice; give them different names, in a model in config.id2label.")
        self.rule = EventRule(**settings)
        for name in ("threshold", "release"):
            given = getattr(self.rule, name)
            if isinstance(given, Mapping) and (unknown := sorted(given.keys() - set(self.labels))):
                raise ValueError(f"{name} names {unknown[0]!r}, which is not among the {len(self.labels)} labels.")
        # As models give scores: one of 0.6 is not above a threshold of 0.6
        self._threshold, self._release = (limit.astype(np.float32) for limit in self.rule.limits(self.labels))
        if not cell_s > TOLERANCE_S:
            raise ValueError(NOT_ASCENDING)
        self._filter_length = self.rule.filter_length(cell_s)
        self._begin()

    def _begin(self) -> None:
        self._filter = MedianFilter(self._filter_length, self._release)
        self._edges = np.zeros(0)  # of the cells that the filter has not returned
        self._open = self._waiting = NO_RUNS

    def push(self, scores: np.ndarray, edges_s: np.ndarray) -> list[Event]:
        """Take the scores (n, C) of the next cells, whose edges (n + 1,) begin with the last edge of those before.

        Returns:
            The events that are settled now, in no order.
        """
        if scores.shape != (len(edges_s) - 1, len(self.labels)):
            expected = (len(edges_s) - 1, len(self.labels))
            raise ValueError(f"scores has shape {scores.shape}, but must have {expected}: cells, labels.")
        if not (np.diff(edges_s) > TOLERANCE_S).all():
            raise ValueError(NOT_ASCENDING)
        if not (is_finite := np.isfinite(scores)).all():
            cell, index = np.argwhere(~is_finite)[0]
            raise ValueError(
                f"scores holds {scores[cell, index]} for {self.labels[index]!r} at {edges_s[cell]:g} s; events need "
                "finite scores."
            )
        self._edges = np.concatenate((self._edges[:-1], edges_s))
        return self._take(self._filter.push(scores), is_end=False)

    def whole(self, scores: np.ndarray, edges_s: np.ndarray) -> list[Event]:
        """Return the events of a recording's scores (K, C) in their order; `edges_s` has shape (K + 1,)."""
        events = []
        for first in range(0, len(scores), BLOCK):
            events += self.push(scores[first : first + BLOCK], edges_s[first : first + BLOCK + 1])
        number = {label: index for index, label in enumerate(self.labels)}
        return sorted([*events, *self.flush()], key=lambda event: (event.start_s, -event.peak, number[event.label]))

    def flush(self) -> list[Event]:
        """End the recording: return the events that are left, in no order, and begin a new one."""
        events = self._take(self._filter.flush(), is_end=True)
        self._begin()
        return events

    def _take(self, scores: np.ndarray, *, is_end: bool) -> list[Event]:
        edges, self._edges = self._edges[: len(scores) + 1], self._edges[len(scores) :]
        runs = _joined(self._open, _runs(scores, edges, self._release), gap_s=0.0)
        now = edges[-1] if len(edges) else 0.0
        lasts = (runs.end_s == now) & (not is_end)
        self._open = runs.where(lasts)
        heard = runs.where(~lasts & (runs.peak > self._threshold[runs.label]))
        events = _joined(self._waiting, heard, gap_s=self.rule.longest_gap_s)
        # The next run of a label begins now at the earliest
        next_s = np.full(len(self.labels), np.inf if is_end else now)
        next_s[self._open.label] = self._open.start_s
        is_settled = next_s[events.label] > events.end_s + self.rule.longest_gap_s + TOLERANCE_S
        self._waiting = events.where(~is_settled)
        events = events.where(is_settled)
        events = events.where(events.end_s - events.start_s >= self.rule.shortest_s - TOLERANCE_S)
        return [Event(self.labels[label], *values) for label, *values in zip(*map(_as_list, events), strict=True)]


class MedianFilter:
    """Medians over neighbouring rows, of rows that arrive piece by piece; the ends are mirrored.

    Args:
        length: Number of rows; of an even one, one more row before than after, and the upper of the two middle values.
        floor: Values (C,) up to which medians need not be exact, but only stay below them: columns that nowhere rise
            above theirs are left as they are, which saves most of the time where few of many labels are heard.
    """

    def __init__(self, length: int, floor: Any = -np.inf):
        self.length, self.floor = length, floor
        self._before, self._after = length // 2, length - 1 - length // 2
        self._rows: np.ndarray | None = None
        self._is_begun = False

    def push(self, rows: np.ndarray) -> np.ndarray:
        """Take the next rows (n, C), and return those that are complete, shape (m, C)."""
        self._rows = rows if self._rows is None else np.concatenate((self._rows, rows))
        if not self._is_begun and len(self._rows) >= self.length:
            self._rows = _mirrored(self._rows, self._before, 0)
            self._is_begun = True
        return self._medians() if self._is_begun else self._rows[:0]

    def whole(self, rows: np.ndarray) -> np.ndarray:
        """Return the medians of all rows (K, C)."""
        return np.concatenate((self.push(rows), self.flush()))

    def flush(self) -> np.ndarray:
        """Return the rows that are left."""
        if self._rows is None:
            return np.zeros((0, 0))
        self._rows = _mirrored(self._rows, 0 if self._is_begun else self._before, self._after)
        return self._medians()

    def _medians(self) -> np.ndarray:
        rows = cast("np.ndarray", self._rows)
        if self.length == 1:
            self._rows = rows[:0]
            return rows
        self._rows = rows[max(0, len(rows) - self.length + 1) :]
        if len(rows) < self.length:
            return rows[:0]
        medians = rows[self._before : len(rows) - self._after].copy()
        is_high = (rows > self.floor).any(axis=0)
        windows = np.lib.stride_tricks.sliding_window_view(rows[:, is_high], self.length, axis=0)
        medians[:, is_high] = np.partition(windows, self._before, axis=-1)[..., self._before]
        return medians


def _mirrored(rows: np.ndarray, before: int, after: int) -> np.ndarray:
    return np.pad(rows, ((before, after), (0, 0)), mode="symmetric") if len(rows) else rows


class _Runs(NamedTuple):
    """Stretches of time in which the score of a label is high: numbers of the labels, times, and largest scores."""

    label: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    peak: np.ndarray

    def where(self, mask: np.ndarray) -> "_Runs":
        """Those of them for which the mask is true."""
        return _Runs(*(values[mask] for values in self))


NO_RUNS = _Runs(np.zeros(0, dtype=np.intp), np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.float32))


def _runs(scores: np.ndarray, edges_s: np.ndarray, release: np.ndarray) -> _Runs:
    """Find the runs of cells whose scores (n, C) are above the release (C,) of their label."""
    if not len(scores):
        return NO_RUNS
    is_high = scores > release
    labels = np.flatnonzero(is_high.any(axis=0))
    if not len(labels):
        return NO_RUNS
    # All labels in a row, with a low cell after each, so that runs begin and end alternately
    width = len(scores) + 1
    in_a_row = np.zeros((len(labels), width), dtype=bool)
    in_a_row[:, :-1] = is_high[:, labels].T
    changes = np.flatnonzero(np.diff(in_a_row.ravel(), prepend=False))
    values = np.zeros((len(labels), width), dtype=scores.dtype)
    values[:, :-1] = scores[:, labels].T
    peak = np.maximum.reduceat(values.ravel(), changes)[::2]
    row, first = np.divmod(changes[::2], width)
    return _Runs(labels[row], edges_s[first], edges_s[changes[1::2] - row * width], peak)


def _joined(*parts: _Runs, gap_s: float) -> _Runs:
    """Join runs of the same label that are at most a gap apart."""
    label, start_s, end_s, peak = (np.concatenate(values) for values in zip(*parts, strict=True))
    if not len(label):
        return NO_RUNS
    order = np.lexsort((start_s, label))
    label, start_s, end_s, peak = label[order], start_s[order], end_s[order], peak[order]
    is_apart = (label[1:] != label[:-1]) | (start_s[1:] > end_s[:-1] + gap_s + TOLERANCE_S)
    firsts = np.flatnonzero(np.concatenate(([True], is_apart)))
    lasts = np.append(firsts[1:], len(label)) - 1
    return _Runs(label[firsts], start_s[firsts], end_s[lasts], np.maximum.reduceat(peak, firsts))


def _by_label(name: str, given: Any, labels: Sequence[str], default: Sequence[float]) -> list[float]:
    """The value of each label: the given one, that of its name, or the default."""
    if isinstance(given, Mapping):
        return [as_finite(name, given.get(label, value)) for label, value in zip(labels, default, strict=True)]
    return list(default) if given is None else [as_finite(name, given)] * len(labels)


def _as_list(values: np.ndarray) -> list[Any]:
    return cast("list[Any]", values.tolist())
