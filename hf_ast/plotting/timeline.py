"""What is heard in a recording, and when. Needs the extra `plot` (matplotlib)."""

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hf_ast.inference.events import Event
from hf_ast.inference.tagging import Tagging

from .style import BLACK, SHARE, in_words, label_rows, label_times, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Where fewer labels than these have events, the labels with the largest scores follow
MIN_ROWS = 5
# With more columns than the axes have pixels, some would be lost; at 100 dots per inch, there are about 600
MAX_COLUMNS = 600


class Timeline(NamedTuple):
    """The rows of a timeline.

    Attributes:
        labels: R of them, in the order in which they are first heard, and then those without an event.
        scores: Shape (R, K).
        edges_s: Times at which one column of the scores ends and the next one begins, shape (K + 1,).
        events: Events of each row, R lists.
        num_left_out: Labels with events that have no row.
    """

    labels: list[str]
    scores: np.ndarray
    edges_s: np.ndarray
    events: list[list[Event]]
    num_left_out: int


def plot_timeline(tagging: Tagging, *, max_labels: int = 15, title: str | None = None) -> "Figure":
    """Plot the scores of the windows of a recording, a row per label, and above each row a bar per event.

    The rows are the labels with events, in the order in which they are first heard. If there are fewer than five of
    them, the labels with the largest scores follow; if more than `max_labels`, those with the largest peaks are shown,
    and the figure says so.

    Args:
        tagging: Result of `hf_ast.tag`.
        max_labels: Largest number of rows.
        title: Above the figure; the number of events if None.

    Returns:
        A matplotlib figure; `figure.savefig("timeline.png")` writes it.
    """
    rows = timeline(tagging, max_labels)
    num_rows = len(rows.labels)
    height = 1.2 + 0.4 * num_rows
    figure = new_figure(9, height)
    axes = figure.subplots()
    largest = max(1.0, float(rows.scores.max()))
    smallest = min(0.0, float(rows.scores.min()))
    for row, (scores, events) in enumerate(zip(rows.scores, rows.events, strict=True)):
        image = axes.pcolormesh(
            rows.edges_s,
            [row - 0.2, row + 0.4],
            scores[None],
            cmap=SHARE,
            vmin=smallest,
            vmax=largest,
            rasterized=True,  # otherwise a PDF or SVG has thousands of rectangles with seams between them
        )
        spans = [(event.start_s, event.end_s - event.start_s) for event in events]
        # The outline makes an event of a second visible in an hour
        axes.broken_barh(spans, (row - 0.39, 0.14), facecolor=BLACK, edgecolor=BLACK, linewidth=0.8)
    axes.hlines(np.arange(1, num_rows) - 0.47, 0, tagging.duration_s, color="0.8", linewidth=0.6)
    axes.set_ylim(num_rows - 0.5, -0.5)
    label_rows(axes.yaxis, rows.labels, height - 1.2)
    label_times(axes, 0.0, tagging.duration_s)
    num_heard = len({event.label for event in tagging.events})
    if title is None:
        found = f"{len(tagging.events)} events (bars) of {num_heard} labels" if tagging.events else "No event"
        title = f"{found} in {in_words(tagging.duration_s)}, and scores of windows"
    remark = f"{rows.num_left_out} more labels with events have lower peaks and are not shown"
    set_title(axes, title, *([remark] if rows.num_left_out else []))
    figure.colorbar(image, ax=axes, label="score", pad=0.01, fraction=0.05)
    return figure


def timeline(tagging: Tagging, max_labels: int = 15) -> Timeline:
    """Choose the rows of `plot_timeline`.

    A column is one window, drawn between the midpoints of its centre and those of its neighbours. If there are more
    than 600 windows, neighbours are joined, and the largest score is kept, so that no short sound is lost.

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
    for index in tagging.window_scores.amax(dim=0).argsort(descending=True).tolist():
        if len(labels) >= min(MIN_ROWS, max_labels):
            break
        if tagging.labels[index] not in events:
            labels.append(tagging.labels[index])
    scores = tagging.window_scores[:, [tagging.labels.index(label) for label in labels]].T.numpy()
    centres = tagging.window_times_s.mean(dim=1).numpy()
    edges_s = np.concatenate(([0.0], (centres[1:] + centres[:-1]) / 2, [tagging.duration_s]))
    step = -(-len(centres) // MAX_COLUMNS)
    firsts = np.arange(0, len(centres), step)
    return Timeline(
        labels=labels,
        scores=np.maximum.reduceat(scores, firsts, axis=1),
        edges_s=np.concatenate((edges_s[firsts], edges_s[-1:])),
        events=[events[label] for label in labels],
        num_left_out=len(by_peak) - min(len(by_peak), max_labels),
    )
