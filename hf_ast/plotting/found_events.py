"""Events that a model finds, beside those that are marked. Needs the extra `plot` (matplotlib)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .style import BLUE, label_rows, new_figure, set_title, short_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# More rows cannot be read; then the classes with most events are shown
MAX_ROWS = 30
GREY = "0.6"
# A label, and start and end in seconds
Span = tuple[int, float, float]


def plot_found_events(
    marked: Sequence[Span], found: Sequence[Span], labels: Sequence[str], duration_s: float, *, title: str = ""
) -> "Figure":
    """Plot the events in a recording: those that are marked above, in grey, and those that are found below, in blue.

    Of more than 30 classes with events, those with most are shown, and the figure says so.

    Args:
        marked, found: The events, each with the number of its label, its start and its end in seconds.
        labels: Names of the classes.
        duration_s: Length of the recording.
        title: Above the figure.

    Returns:
        A matplotlib figure.
    """
    counts = {label: 0 for label, *_ in (*marked, *found)}
    for label, *_ in (*marked, *found):
        counts[label] += 1
    shown = sorted(sorted(counts, key=lambda label: -counts[label])[:MAX_ROWS], reverse=True)
    height = 1.6 + 0.35 * max(1, len(shown))
    figure = new_figure(9, height)
    axes = figure.subplots()
    for spans, color, shift, name in ((marked, GREY, 0.05, "marked"), (found, BLUE, -0.4, "found")):
        label_of_bars = name
        for row, label in enumerate(shown):
            bars = [(start, end - start) for number, start, end in spans if number == label]
            if bars:
                axes.broken_barh(bars, (row + shift, 0.35), facecolors=color, label=label_of_bars)
                label_of_bars = f"_{name}"  # one entry in the legend
    label_rows(axes.yaxis, [short_name(labels[label], 32) for label in shown], height - 1.2)
    axes.set_xlim(0, duration_s)
    axes.set_ylim(-0.6, max(1, len(shown)) - 0.4)
    axes.set_xlabel("time (s)")
    if shown:
        axes.legend(loc="lower right", ncols=2, frameon=False, bbox_to_anchor=(1.0, 1.0), fontsize="small")
    remarks = [f"the {MAX_ROWS} of {len(counts)} classes with most events"] if len(counts) > len(shown) else []
    set_title(axes, short_name(title, 60) if title else "Events", *remarks)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
