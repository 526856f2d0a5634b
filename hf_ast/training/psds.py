"""Polyphonic sound detection score (Bilen et al. 2020, https://arxiv.org/abs/1910.08440), over all thresholds.

The curve is exact, as in Ebbers et al. 2022 (https://arxiv.org/abs/2201.13148): instead of a list of thresholds, it
takes every one at which a detection begins or ends to exist.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .sound_events import SoundEvents

# Times are whole numbers, so that a share of exactly the tolerance meets it
NANOSECONDS = 10**9
HOUR_S = 3600.0


class Scenario(NamedTuple):
    """What is asked of detections.

    Attributes:
        detection_tolerance: Least share of a detection that lies in reference events of its class (DTC).
        reference_tolerance: Least share of a reference event that such detections cover (GTC).
        cross_tolerance: Least share of any other detection in events of another class, which it triggers (CTTC).
        cross_weight: Weight of the rate of cross triggers, beside that of false detections (alpha_CT).
        spread_weight: Weight of the standard deviation over the classes, which is subtracted (alpha_ST).
        max_rate: False detections per hour up to which the curve counts (e_max).
    """

    detection_tolerance: float
    reference_tolerance: float
    cross_tolerance: float = 0.3
    cross_weight: float = 0.0
    spread_weight: float = 0.0
    max_rate: float = 100.0


# The two of DCASE task 4: the first asks for exact times, the second for the right classes
PSDS1 = Scenario(detection_tolerance=0.7, reference_tolerance=0.7, cross_weight=0.0, spread_weight=1.0)
PSDS2 = Scenario(detection_tolerance=0.1, reference_tolerance=0.1, cross_weight=0.5, spread_weight=1.0)


class PSDS(NamedTuple):
    """The score, its curve, and the scores of the classes.

    Attributes:
        value: From 0 to 1; NaN if the reference has no event.
        per_class: Area under the curve of each class alone, shape (C,); NaN for those without a reference event.
        rates, ratios: Corners of the curve, which is constant from one to the next: effective rate of false detections
            per hour, and effective share of the reference events that are found, shape (number of corners,).
    """

    value: float
    per_class: np.ndarray
    rates: np.ndarray
    ratios: np.ndarray


class Timeline:
    """Scores of all recordings and the reference events, behind one another on one axis of time in nanoseconds.

    Args:
        scores: Scores of the cells of each recording, shape (K, C).
        edges_s: Edges of its cells in seconds, ascending, shape (K + 1,).
        reference: The events. Those of one class that overlap are one.
        durations_s: Length of each recording, shape (number of recordings,).

    Raises:
        ValueError: The shapes do not fit, or scores are not finite.
    """

    def __init__(
        self,
        scores: Sequence[np.ndarray],
        edges_s: Sequence[np.ndarray],
        reference: SoundEvents,
        durations_s: np.ndarray,
    ):
        for number, (of_file, edges) in enumerate(zip(scores, edges_s, strict=True)):
            if len(edges) != len(of_file) + 1 or of_file.shape[1] != scores[0].shape[1]:
                raise ValueError(
                    f"scores[{number}] has shape {of_file.shape}, which does not fit {len(edges)} edges, or the "
                    f"{scores[0].shape[1]} classes of the first recording."
                )
            if not np.isfinite(of_file).all():
                raise ValueError("scores holds values that are NaN or infinite; the model has diverged.")
        self.num_labels = scores[0].shape[1]
        self.hours = float(np.sum(durations_s)) / HOUR_S
        self._scores = scores
        self.max_cells = max(map(len, scores))
        ends = [max(edges[-1], duration) for edges, duration in zip(edges_s, durations_s, strict=True)]
        # A second between two recordings keeps events apart that reach beyond the end of theirs
        self._starts = np.concatenate(([0], np.cumsum([_nanoseconds(end) + NANOSECONDS for end in ends])[:-1]))
        self.edges = np.concatenate(
            [_nanoseconds(edges) + start for edges, start in zip(edges_s, self._starts, strict=True)]
        )
        self.events = [self._merged(reference.of_label(label)) for label in range(self.num_labels)]

    def column(self, label: int) -> np.ndarray:
        """Return the scores of a class at every edge: of the cell behind it, or minus infinity behind a recording."""
        gap = np.full(1, -np.inf)
        return np.concatenate([part for scores in self._scores for part in (scores[:, label].astype(np.float64), gap)])

    def covered(self, label: int) -> np.ndarray:
        """Return how long a class is heard before each edge, in nanoseconds, shape (number of edges,)."""
        starts, ends = self.events[label]
        before = np.concatenate(([0], (ends - starts).cumsum()))
        number = np.searchsorted(starts, self.edges, side="right")
        total: np.ndarray = before[number]
        inside = number > 0
        total[inside] -= np.maximum(ends[number[inside] - 1] - self.edges[inside], 0)
        return total

    def _merged(self, events: SoundEvents) -> tuple[np.ndarray, np.ndarray]:
        """Return the starts and ends of the events of a class, ascending and disjoint."""
        offsets = self._starts[events.files]
        starts, ends = _nanoseconds(events.onsets_s) + offsets, _nanoseconds(events.offsets_s) + offsets
        order = np.lexsort((ends, starts))
        starts, ends = starts[order], ends[order]
        some = starts < ends
        starts, ends = starts[some], np.maximum.accumulate(ends[some])
        is_first = np.concatenate((np.ones(min(1, len(starts)), dtype=bool), starts[1:] > ends[:-1]))
        first = is_first.nonzero()[0]
        return starts[first], ends[np.concatenate((first[1:], [len(ends)]))[: len(first)] - 1]


def psds(timeline: Timeline, scenario: Scenario) -> PSDS:
    """Compute the score: the area under the curve up to `max_rate`, divided by it.

    The curve of a class is the largest share of its events that is found with at most so many false detections, over
    all thresholds; a detection is a run of cells with scores above the threshold. Classes without a reference event
    have no curve and are left out of the mean and the deviation.
    """
    labels = [label for label in range(timeline.num_labels) if len(timeline.events[label][0])]
    per_class = np.full(timeline.num_labels, np.nan)
    if not labels:
        return PSDS(np.nan, per_class, np.zeros(1), np.full(1, np.nan))
    curves = [_class_curve(timeline, label, labels, scenario) for label in labels]
    rates = np.unique(np.concatenate([[0.0], *(rates for rates, _ in curves)]))
    rates = rates[rates <= scenario.max_rate]
    ratios = np.stack([_at(rates, *curve) for curve in curves])
    effective = np.maximum(ratios.mean(axis=0) - scenario.spread_weight * ratios.std(axis=0), 0.0)
    widths = np.diff(rates, append=scenario.max_rate) / scenario.max_rate
    per_class[labels] = ratios @ widths
    return PSDS(float(effective @ widths), per_class, rates, effective)


def _class_curve(
    timeline: Timeline, label: int, labels: Sequence[int], scenario: Scenario
) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of the curve of a class: effective rates of false detections, and shares that are found."""
    first, end, own, parent = detections(timeline.column(label), timeline.max_cells)
    lengths = timeline.edges[end] - timeline.edges[first]
    covered = timeline.covered(label)
    is_right = (covered[end] - covered[first]) / lengths >= scenario.detection_tolerance
    levels = np.unique(np.concatenate((own, parent[np.isfinite(parent)])))[::-1]
    false = ~is_right
    rates = _alive(own[false], parent[false], levels) / timeline.hours
    others = [other for other in labels if other != label]
    if scenario.cross_weight and others:
        triggers = np.zeros(len(levels))
        for other in others:
            covered = timeline.covered(other)
            shares = (covered[end] - covered[first]) / lengths
            cross = false & (shares >= scenario.cross_tolerance) & (shares > 0)
            hours = covered[-1] / NANOSECONDS / HOUR_S
            triggers += _alive(own[cross], parent[cross], levels) / hours
        rates = rates + scenario.cross_weight * triggers / len(others)
    found = _found(timeline, label, (first, end, own, parent), is_right, levels, scenario.reference_tolerance)
    return rates, found / len(timeline.events[label][0])


def detections(scores: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Find every run of cells that is a detection at some threshold, and these thresholds.

    Args:
        scores: Scores of cells, float64, shape (K,), with minus infinity behind each recording.
        longest: Largest number of cells of a recording.

    Returns:
        For each detection its first cell, the cell behind its last one, and the thresholds: it is there from `parent`
        on and below `own`. All of shape (number of detections,).
    """
    is_cell = np.isfinite(scores)
    cells = is_cell.nonzero()[0]
    left, right = _reach(scores, cells, longest, before=True), _reach(scores, cells, longest, before=False)
    # A plateau is one detection, though each of its cells has found it
    _, chosen = np.unique(left * (len(scores) + 1) + right, return_index=True)
    first, end = left[chosen], right[chosen]
    outside = np.concatenate((scores, [-np.inf]))
    parent = np.maximum(outside[first - 1], outside[end])  # -1 is the last one, which is behind a recording
    return first, end, scores[cells[chosen]], parent


def _reach(scores: np.ndarray, cells: np.ndarray, longest: int, *, before: bool) -> np.ndarray:
    """Return how far the run around each cell reaches in which no score is below that of the cell.

    Shape (number of cells,): its first cell, or the one behind its last. It uses the minima of blocks of 2^n cells.
    """
    minima = [scores if before else scores[::-1]]
    while 2 ** len(minima) <= longest:
        last = minima[-1]
        shifted = np.full_like(last, -np.inf)
        width = 2 ** (len(minima) - 1)
        shifted[width:] = np.minimum(last[width:], last[:-width])
        minima.append(shifted)
    places = cells if before else len(scores) - 1 - cells
    own = scores[cells]
    reached = places.copy()  # the run begins here
    for power in range(len(minima) - 1, -1, -1):
        width = 2**power
        block_end = reached - 1
        fits = (block_end >= 0) & (minima[power][np.maximum(block_end, 0)] >= own)
        reached = np.where(fits, reached - width, reached)
    return reached if before else len(scores) - reached


def _alive(own: np.ndarray, parent: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Count the detections that are there just below each of the levels, shape (number of levels,)."""
    own, parent = np.sort(own), np.sort(parent)
    begun = len(own) - np.searchsorted(own, levels)
    ended = len(parent) - np.searchsorted(parent, levels)
    alive: np.ndarray = begun - ended
    return alive


def _found(
    timeline: Timeline,
    label: int,
    runs: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    is_right: np.ndarray,
    levels: np.ndarray,
    tolerance: float,
) -> np.ndarray:
    """Count the reference events that right detections cover well enough just below each of the levels."""
    first, end, own, parent = (values[is_right] for values in runs)
    starts, ends = timeline.events[label]
    begin_ns, end_ns = timeline.edges[first], timeline.edges[end]
    low, high = np.searchsorted(ends, begin_ns, side="right"), np.searchsorted(starts, end_ns)
    count = np.maximum(high - low, 0)
    run = np.repeat(np.arange(len(own)), count)
    event = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count) + np.repeat(low, count)
    shared = np.minimum(end_ns[run], ends[event]) - np.maximum(begin_ns[run], starts[event])
    # At its own level a detection adds what it shares with an event, at that of its parent it takes it away: the
    # changes of an event sum to zero
    events = np.concatenate((event, event))
    at = np.concatenate((own[run], parent[run]))
    change = np.concatenate((shared, -shared))
    order = np.lexsort((-at, events))
    events, at, total = events[order], at[order], change[order].cumsum()
    is_last = np.ones(len(events), dtype=bool)  # of its event and level
    is_last[:-1] = (events[1:] != events[:-1]) | (at[1:] != at[:-1])
    events, at, total = events[is_last], at[is_last], total[is_last]
    is_new = np.ones(len(events), dtype=bool)
    is_new[1:] = events[1:] != events[:-1]
    is_found = total / (ends - starts)[events] >= tolerance
    was_found = np.concatenate(([False], is_found[:-1])) & ~is_new
    gained, lost = np.sort(at[is_found & ~was_found]), np.sort(at[~is_found & was_found])
    found: np.ndarray = len(gained) - np.searchsorted(gained, levels) - (len(lost) - np.searchsorted(lost, levels))
    return found


def _at(places: np.ndarray, rates: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """Return the largest ratio with at most each of these rates, 0 if there is none, shape of `places`."""
    order = np.argsort(rates, kind="stable")
    best = np.concatenate(([0.0], np.maximum.accumulate(ratios[order])))
    at: np.ndarray = best[np.searchsorted(rates[order], places, side="right")]
    return at


def _nanoseconds(seconds: np.ndarray | float) -> np.ndarray:
    whole: np.ndarray = np.round(np.asarray(seconds, dtype=np.float64) * NANOSECONDS).astype(np.int64)
    return whole
