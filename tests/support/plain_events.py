"""The rule of events once more, cell by cell and label by label, as a reference."""

import numpy as np

from hf_ast.inference.events import Event


def plain_events(
    scores: np.ndarray,
    edges_s: np.ndarray,
    labels: list[str],
    *,
    threshold: dict[str, float],
    release: dict[str, float],
    median_cells: int = 1,
    shortest_s: float = 0.0,
    longest_gap_s: float = 0.0,
) -> list[Event]:
    """The events of scores (K, C) in cells with the given edges (K + 1,); limits are given for every label."""
    found = []
    for index, label in enumerate(labels):
        values = plain_median([float(score) for score in scores[:, index]], median_cells)
        high, low = np.float32(threshold[label]), np.float32(release[label])
        events: list[Event] = []
        first = None
        for cell in range(len(values) + 1):
            is_high = cell < len(values) and values[cell] > low
            if is_high and first is None:
                first = cell
            if not is_high and first is not None:
                if (peak := max(values[first:cell])) > high:
                    events.append(Event(label, float(edges_s[first]), float(edges_s[cell]), peak))
                first = None
        joined: list[Event] = []
        for event in events:
            if joined and event.start_s - joined[-1].end_s <= longest_gap_s + 1e-6:
                before = joined.pop()
                event = Event(label, before.start_s, event.end_s, max(before.peak, event.peak))
            joined.append(event)
        found += [event for event in joined if event.end_s - event.start_s >= shortest_s - 1e-6]
    return sorted(found, key=lambda event: (event.start_s, -event.peak, labels.index(event.label)))


def plain_median(values: list[float], length: int) -> list[float]:
    """The median over `length` values around each; the ends are mirrored, and of two middle ones the upper counts."""
    mirrored = [*values, *reversed(values)]
    first = -(length // 2)
    return [
        sorted(mirrored[(place + first + offset) % len(mirrored)] for offset in range(length))[length // 2]
        for place in range(len(values))
    ]
