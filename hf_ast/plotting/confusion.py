"""Which classes a classifier confuses. Needs the extra `plot` (matplotlib)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import SHARE, label_rows, set_title, square_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# With more classes than these, cells have no room for a number
MAX_NUMBERED = 20
# With more classes than these, there is no room for names, and those with the most errors are shown
MAX_CLASSES = 100


def confusion_counts(true: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Count clips by true and predicted class.

    Args:
        true: True class of each clip, by its number, shape (N,).
        predicted: Class that the model finds most probable, shape (N,).
        num_classes: C.

    Returns:
        Counts, shape (C, C); the row is the true class.
    """
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts, (true, predicted), 1)
    return counts


def confusion_from_rows(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Make a matrix from the `confusion` in the result of an evaluation (`hf-ast evaluate --json`, metrics.json).

    Args:
        rows: Each with `true` and `predicted`, names of classes, and `num_recordings`.
        labels: Names of all classes, in their order.

    Returns:
        The classes that occur, and counts by true and predicted class, shape (C, C).
    """
    occurring = {row[side] for row in rows for side in ("true", "predicted")}
    shown = [label for label in labels if label in occurring]
    numbers = {label: number for number, label in enumerate(shown)}
    counts = np.zeros((len(shown), len(shown)), dtype=np.int64)
    for row in rows:
        counts[numbers[row["true"]], numbers[row["predicted"]]] += row["num_recordings"]
    return shown, counts


def plot_confusion(counts: np.ndarray, labels: Sequence[str], *, title: str | None = None) -> "Figure":
    """Plot a confusion matrix; the shade of a cell is its share of the row, its number the count.

    The shades are of one hue, from light to dark, so that they read the same in grey and to colour-blind eyes. Of more
    than 100 classes, those with the most errors are shown, and the figure says so; shares and title count all classes.

    Args:
        counts: Clips by true and predicted class, shape (C, C), as `confusion_counts` gives them.
        labels: Names of the classes, C.
        title: Above the figure; the share of clips on the diagonal if None.

    Returns:
        A matplotlib figure; `figure.savefig("confusion.png")` writes it.

    Raises:
        ValueError: The counts are not of shape (C, C).
    """
    counts = np.asarray(counts)
    if counts.shape != (len(labels), len(labels)):
        raise ValueError(f"counts has shape {counts.shape}, but there are {len(labels)} labels.")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shown = classes_with_most_errors(counts, MAX_CLASSES)
    names, cells = [labels[index] for index in shown], np.ix_(shown, shown)
    side = float(np.clip(0.4 * len(names), 3, 14))
    figure = square_figure(names, side)
    axes = figure.subplots()
    image = axes.imshow(shares[cells], cmap=SHARE, vmin=0, vmax=1, interpolation="nearest")
    label_rows(axes.xaxis, names, side, rotation=90)
    label_rows(axes.yaxis, names, side)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if len(names) <= MAX_NUMBERED:
        for row, column in zip(*counts[cells].nonzero(), strict=True):
            colour = "white" if shares[cells][row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[cells][row, column]), ha="center", va="center", color=colour)
    remarks = [f"the {len(names)} of {len(labels)} classes with the most errors"] * (len(names) < len(labels))
    set_title(axes, title or f"{np.trace(counts)} of {counts.sum()} recordings right", *remarks)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.7, pad=0.01, aspect=30)
    return figure


def classes_with_most_errors(counts: np.ndarray, max_classes: int) -> np.ndarray:
    """Numbers of the classes that are missed or wrongly predicted most often, in ascending order.

    Args:
        counts: Shape (C, C).
        max_classes: How many to choose; all if there are no more.
    """
    errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diagonal(counts)
    return np.sort(np.argsort(-errors, kind="stable")[:max_classes])
