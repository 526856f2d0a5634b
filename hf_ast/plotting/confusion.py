"""Which classes a classifier takes for which. Needs the extra `plot` (matplotlib)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# More cells than these have no room for a number
MAX_NUMBERED = 20


def confusion_counts(true: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Count clips by their class and the predicted one.

    Args:
        true: Numbers of the classes of the clips, shape (N,).
        predicted: Those that the model finds most probable, shape (N,).
        num_classes: C.

    Returns:
        Counts, shape (C, C); the row is the true class.
    """
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts, (true, predicted), 1)
    return counts


def plot_confusion(counts: np.ndarray, labels: Sequence[str], *, title: str | None = None) -> "Figure":
    """Plot a confusion matrix; the shade of a cell is its share of the row, its number the count.

    The shades are of one hue, from light to dark, so that they tell the same in grey and to colour-blind eyes.

    Args:
        counts: Clips by true and predicted class, shape (C, C), as `confusion_counts` gives them.
        labels: Names of the classes, C.
        title: Above the figure; the share of clips on the diagonal if None.

    Returns:
        A matplotlib figure; `figure.savefig("confusion.png")` writes it.

    Raises:
        ValueError: The counts are not of shape (C, C).
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Figures need matplotlib: pip install "hf-ast[plot]"') from error
    counts = np.asarray(counts)
    num_classes = len(labels)
    if counts.shape != (num_classes, num_classes):
        raise ValueError(f"counts has shape {counts.shape}, but there are {num_classes} labels.")
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    size = float(np.clip(2.5 + 0.45 * num_classes, 4, 20))
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    font = "medium" if num_classes <= MAX_NUMBERED else float(np.clip(400 / num_classes, 2, 8))
    axes.set_xticks(range(num_classes), labels, rotation=90, fontsize=font)
    axes.set_yticks(range(num_classes), labels, fontsize=font)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if num_classes <= MAX_NUMBERED:
        for row, column in zip(*counts.nonzero(), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
    if title is None:
        title = f"{np.trace(counts)} of {counts.sum()} recordings right"
    axes.set_title(title, loc="left", fontsize="medium")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.7)
    return figure
