"""How well each class of a multi-label model is found. Needs the extra `plot` (matplotlib)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .style import BLUE, label_rows, new_figure, set_title, short_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# More bars cannot be read; then the best and the worst classes are shown
MAX_BARS = 60


def plot_average_precision(
    average_precision: np.ndarray, num_positives: np.ndarray, labels: Sequence[str], *, title: str | None = None
) -> "Figure":
    """Plot the average precision of each class as a bar, the best class on top, with a line at their mean.

    Beside each name stands the number of its recordings. Of more than 60 classes, the 30 best and the 30 worst ones
    are shown, and the figure says so. Classes without a recording have no average precision; the figure says how many.

    Args:
        average_precision: Of each class, in [0, 1] or NaN, shape (C,).
        num_positives: Recordings of each class, shape (C,).
        labels: Names of the classes, C.
        title: Above the figure; the mean average precision if None.

    Returns:
        A matplotlib figure; `figure.savefig("average_precision.png")` writes it.

    Raises:
        ValueError: The shapes differ, or no class has a recording.
    """
    average_precision, num_positives = np.asarray(average_precision), np.asarray(num_positives)
    if not average_precision.shape == num_positives.shape == (len(labels),):
        raise ValueError(
            f"average_precision {average_precision.shape} and num_positives {num_positives.shape} must have one value "
            f"for each of the {len(labels)} labels."
        )
    known = np.isfinite(average_precision).nonzero()[0]
    if not len(known):
        raise ValueError("average_precision is NaN for every class; there is nothing to plot.")
    order = known[np.argsort(average_precision[known], kind="stable")]
    mean = average_precision[known].mean()
    shown = order if len(order) <= MAX_BARS else np.concatenate((order[: MAX_BARS // 2], order[-MAX_BARS // 2 :]))
    remarks = []
    if len(shown) < len(order):
        remarks.append(f"the {MAX_BARS // 2} best and the {MAX_BARS // 2} worst of {len(order)} classes")
    if len(known) < len(labels):
        remarks.append(f"left out, because no recording has them: {len(labels) - len(known)} of {len(labels)} classes")
    height = float(np.clip(1.2 + 0.25 * len(shown), 2.5, 16))
    figure = new_figure(8, height)
    axes = figure.subplots()
    axes.barh(range(len(shown)), average_precision[shown], color=BLUE, height=0.7)
    axes.axvline(mean, color="black", linestyle="--", linewidth=1)
    label_rows(axes.yaxis, [f"{short_name(labels[i], 32)} ({num_positives[i]})" for i in shown], height - 1.2)
    if len(shown) < len(order):
        axes.axhline(MAX_BARS // 2 - 0.5, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlabel("average precision; dashed: mean over all classes")
    axes.set_ylabel("class (recordings)")
    set_title(axes, title or f"Mean average precision {mean:.3f}", *remarks)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
