"""Segment-based and event-based F1 of sound events. Needs the extra `train`.

The definitions are those of sed_eval (Mesaros et al. 2016, https://doi.org/10.3390/app6060162), with the tolerances of
DCASE and DESED: segments of 1 s; onsets within 200 ms, and offsets within 200 ms or a fifth of the event's length.
"""

from typing import NamedTuple

import numpy as np

SEGMENT_S = 1.0
COLLAR_S, OFFSET_SHARE = 0.2, 0.2


class SoundEvents(NamedTuple):
    """Events in recordings, in any order; N is their number.

    Attributes:
        files: Number of the recording that each is in, shape (N,).
        labels: Number of its class, shape (N,).
        onsets_s, offsets_s: Its start and end in seconds, float64, shape (N,).
    """

    files: np.ndarray
    labels: np.ndarray
    onsets_s: np.ndarray
    offsets_s: np.ndarray

    @classmethod
    def of(cls, rows: list[tuple[int, int, float, float]]) -> "SoundEvents":
        """Make it of rows (file, class, onset, offset)."""
        table = np.array(rows, dtype=np.float64).reshape(-1, 4)
        return cls(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2], table[:, 3])

    def of_label(self, label: int) -> "SoundEvents":
        """Return the events of a class."""
        return SoundEvents(*(values[self.labels == label] for values in self))


class F1(NamedTuple):
    """F1 of classes, and of all together.

    Attributes:
        per_class: Shape (C,); NaN for a class that the reference does not have.
        macro: Mean over the classes that the reference has, 0 for those in which nothing is found (sed_eval's
            `empty_system_output_handling="zero_score"`); NaN without any.
        micro: From the counts of all classes together, also of those that the reference does not have; NaN where
            neither side has an event.
        precision, recall: Those of all classes together; NaN without an estimate, or without a reference.
    """

    per_class: np.ndarray
    macro: float
    micro: float
    precision: float
    recall: float


def f1_of(hits: np.ndarray, references: np.ndarray, estimates: np.ndarray) -> F1:
    """Compute F1 from the number of matches, of references and of estimates of each class, each of shape (C,)."""
    with np.errstate(invalid="ignore"):
        per_class = np.where(references > 0, 2 * hits / (references + estimates), np.nan)
        total, wanted, given = hits.sum(), references.sum(), estimates.sum()
        micro, precision, recall = 2 * total / (wanted + given), total / given, total / wanted
    macro = float(np.nanmean(per_class)) if (references > 0).any() else np.nan
    return F1(per_class, macro, float(micro), float(precision), float(recall))


def segment_f1(
    reference: SoundEvents,
    estimated: SoundEvents,
    num_labels: int,
    durations_s: np.ndarray,
    *,
    segment_s: float = SEGMENT_S,
) -> F1:
    """Compute F1 over segments of equal length, in which a class is active if one of its events reaches into it.

    Args:
        reference, estimated: The events.
        num_labels: C.
        durations_s: Length of each recording, shape (number of recordings,). What lies beyond is not counted.
        segment_s: Length of a segment.
    """
    num_segments = np.ceil(np.asarray(durations_s) / segment_s).astype(np.int64)
    starts = np.concatenate(([0], num_segments.cumsum()))

    def active(events: SoundEvents) -> np.ndarray:
        """Return which segment each class is active in, shape (segments of all recordings, C)."""
        first = np.floor(events.onsets_s / segment_s).astype(np.int64)
        end = np.ceil(events.offsets_s / segment_s).astype(np.int64)
        limits = num_segments[events.files]
        first, end = np.minimum(first, limits), np.minimum(end, limits)
        steps = np.zeros((starts[-1] + 1, num_labels), dtype=np.int64)
        some = first < end
        np.add.at(steps, (starts[events.files[some]] + first[some], events.labels[some]), 1)
        np.add.at(steps, (starts[events.files[some]] + end[some], events.labels[some]), -1)
        is_active: np.ndarray = steps.cumsum(axis=0)[:-1] > 0
        return is_active

    wanted, given = active(reference), active(estimated)
    return f1_of((wanted & given).sum(axis=0), wanted.sum(axis=0), given.sum(axis=0))


def event_f1(
    reference: SoundEvents,
    estimated: SoundEvents,
    num_labels: int,
    *,
    collar_s: float = COLLAR_S,
    offset_share: float = OFFSET_SHARE,
) -> F1:
    """Compute F1 over events: each reference is matched with at most one estimate, as many as possible.

    A match needs onsets that differ by at most `collar_s`, and offsets that differ by at most `collar_s` or
    `offset_share` of the length of the reference, whichever is longer.

    Args:
        reference, estimated: The events.
        num_labels: C.
        collar_s, offset_share: The tolerances.
    """
    hits = np.array(
        [
            _matches(reference.of_label(label), estimated.of_label(label), collar_s, offset_share)
            for label in range(num_labels)
        ],
        dtype=np.int64,
    )
    return f1_of(
        hits, np.bincount(reference.labels, minlength=num_labels), np.bincount(estimated.labels, minlength=num_labels)
    )


def _matches(reference: SoundEvents, estimated: SoundEvents, collar_s: float, offset_share: float) -> int:
    """Count the pairs of the largest matching of events of one class."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    order = np.lexsort((estimated.onsets_s, estimated.files))
    files, onsets, offsets = estimated.files[order], estimated.onsets_s[order], estimated.offsets_s[order]
    # Candidates lie next to each other in the order of files and onsets: the recordings are put behind one another,
    # further apart than any collar
    latest = max(np.max(onsets, initial=0.0), np.max(reference.onsets_s, initial=0.0))
    apart = latest + 10 * collar_s + 1
    places, wanted = files * apart + onsets, reference.files * apart + reference.onsets_s
    first = np.searchsorted(places, wanted - 1.5 * collar_s - 1e-6)
    count = np.searchsorted(places, wanted + 1.5 * collar_s + 1e-6) - first
    rows = np.repeat(np.arange(len(wanted)), count)
    columns = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count) + np.repeat(first, count)
    tolerance = np.maximum(collar_s, offset_share * (reference.offsets_s - reference.onsets_s))
    fits = (
        (files[columns] == reference.files[rows])
        & (np.abs(reference.onsets_s[rows] - onsets[columns]) <= collar_s)
        & (np.abs(reference.offsets_s[rows] - offsets[columns]) <= tolerance[rows])
    )
    if not fits.any():
        return 0
    graph = csr_array(
        (np.ones(fits.sum(), dtype=np.int8), (rows[fits], columns[fits])), shape=(len(wanted), len(places))
    )
    return int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())
