"""What is heard in a recording, and when. Needs the extra `plot` (matplotlib)."""

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hf_ast.inference.events import Event, EventRule, MedianFilter
from hf_ast.inference.tagging import Tagging

from .style import BLACK, BLUE, SKY_BLUE, VERMILION, in_words, label_rows, label_times, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Where fewer labels than these have events, the labels with the largest scores follow
MIN_ROWS = 5
# With more columns than the axes have pixels, some would be lost; at 100 dots per inch, there are about 600
MAX_COLUMNS = 600
# Scores from the smallest to the largest take this part of a row, from its lower end on; events are above
SCORE_HEIGHT, ROW_END = 0.68, 0.42


class Timeline(NamedTuple):
    """The rows of a timeline.

    Attributes:
        labels: R of them, in the order in which they are first heard, and then those without an event.
        scores: Scores of the cells, after the median filter, shape (R, K).
        edges_s: Times at which one column of the scores ends and the next one begins, shape (K + 1,).
        thresholds, releases: Of each row, shape (R,).
        events: Events of each row, R lists.
        num_left_out: Labels with events that have no row.
    """

    labels: list[str]
    scores: np.ndarray
    edges_s: np.ndarray
    thresholds: np.ndarray
    releases: np.ndarray
    events: list[list[Event]]
    num_left_out: int


def plot_timeline(tagging: Tagging, *, max_labels: int = 15, title: str | None = None) -> "Figure":
    """Plot the scores of a recording over time, a row per label, and above each row a bar per event.

    Scores are grey up to the release, light blue above it, and dark blue above the threshold, which are lines: there
    is an event where the score is above the release and somewhere above the threshold, unless it is shorter than
    `shortest_s`. The rows are the labels with events, in the order in which they are first heard. If there are fewer
    than five of them, the labels with the largest scores follow; if more than `max_labels`, those with the largest
    peaks are shown, and the figure says so.

    Args:
        tagging: Result of `hf_ast.tag`.
        max_labels: Largest number of rows.
        title: Above the figure; the number of events if None.

    Returns:
        A matplotlib figure; `figure.savefig("timeline.png")` writes it.
    """
    rows = timeline(tagging, max_labels)
    num_rows = len(rows.labels)
    height = 1.5 + 0.5 * num_rows
    figure = new_figure(9, height)
    axes = figure.subplots()
    for row in range(num_rows):
        _plot_row(axes, rows, row)
    axes.hlines(np.arange(1, num_rows) - 0.5, 0, tagging.duration_s, color="0.8", linewidth=0.6)
    axes.set_ylim(num_rows - 0.5, -0.5)
    label_rows(axes.yaxis, rows.labels, height - 1.5)
    label_times(axes, 0.0, tagging.duration_s)
    num_heard = len({event.label for event in tagging.events})
    if title is None:
        found = f"{len(tagging.events)} events (bars) of {num_heard} labels" if tagging.events else "No event"
        title = f"{found} in {in_words(tagging.duration_s)}, and scores"
    remark = f"{rows.num_left_out} more labels with events have lower peaks and are not shown"
    set_title(axes, title, *([remark] if rows.num_left_out else []), _rule_in_words(tagging.rule))
    return figure


def _plot_row(axes: "Axes", rows: Timeline, row: int) -> None:
    """Draw scores, limits and events of one label."""
    smallest, largest = min(0.0, float(rows.scores.min())), max(1.0, float(rows.scores.max()))

    def place(score: Any) -> Any:
        return row + ROW_END - SCORE_HEIGHT * (score - smallest) / (largest - smallest)

    scores, low, high = rows.scores[row], rows.releases[row], rows.thresholds[row]
    for floor, colour in ((-np.inf, "0.75"), (low, SKY_BLUE), (high, BLUE)):
        tops = np.where(scores > floor, place(scores), place(smallest))
        axes.stairs(tops, rows.edges_s, baseline=place(smallest), fill=True, color=colour, rasterized=True)
    if low < high:
        axes.hlines(place(low), *rows.edges_s[[0, -1]], color=BLACK, linestyle=":", linewidth=0.8)
    axes.hlines(place(high), *rows.edges_s[[0, -1]], color=VERMILION, linestyle="--", linewidth=0.8)
    spans = [(event.start_s, event.end_s - event.start_s) for event in rows.events[row]]
    # The outline makes an event of a second visible in an hour
    axes.broken_barh(spans, (row - 0.41, 0.1), facecolor=BLACK, edgecolor=BLACK, linewidth=0.8)


def _rule_in_words(rule: EventRule) -> str:
    """Tell how scores became events, and what the lines are."""
    parts = ["dashed: threshold" + ("" if isinstance(rule.threshold, Mapping) else f" {rule.threshold:g}")]
    if rule.release is not None:
        parts.append("dotted: release" + ("" if isinstance(rule.release, Mapping) else f" {rule.release:g}"))
    values = (("median", rule.median_s), ("longest gap", rule.longest_gap_s), ("shortest event", rule.shortest_s))
    return ", ".join([*parts, *(f"{name} {seconds:g} s" for name, seconds in values if seconds)])


def timeline(tagging: Tagging, max_labels: int = 15) -> Timeline:
    """Choose the rows of `plot_timeline`.

    A column is one cell. If there are more than 600 cells, neighbours are joined, and the largest score is kept, so
    that no short sound is lost.

    Raises:
        ValueError: `max_labels` is not positive.
    """
    if max_labels < 1:
        raise ValueError(f"max_labels={max_labels} must be at least 1.")
    events: dict[str, list[Event]] = defaultdict(list)
    for event in tagging.events:
        events[event.label].append(event)
    by_peak = sorted(events, key=lambda label: -max(event.peak for event in events[label]))
    labels = sorted(by_peak[:max_labels], key=lambda label: events[label][0].start_s)
    for index in tagging.cell_scores.amax(dim=0).argsort(descending=True).tolist():
        if len(labels) >= min(MIN_ROWS, max_labels):
            break
        if tagging.labels[index] not in events:
            labels.append(tagging.labels[index])
    edges_s = tagging.cell_edges_s.numpy()
    filter_length = tagging.rule.filter_length(float(np.median(np.diff(edges_s))))
    scores = tagging.cell_scores[:, [tagging.labels.index(label) for label in labels]].numpy()
    firsts = np.arange(0, len(scores), -(-len(scores) // MAX_COLUMNS))
    thresholds, releases = tagging.rule.limits(labels)
    return Timeline(
        labels=labels,
        scores=np.maximum.reduceat(MedianFilter(filter_length).whole(scores).T, firsts, axis=1),
        edges_s=np.concatenate((edges_s[firsts], edges_s[-1:])),
        thresholds=thresholds,
        releases=releases,
        events=[events[label] for label in labels],
        num_left_out=len(by_peak) - min(len(by_peak), max_labels),
    )
