"""Figures, one file per kind. Needs the extra `plot` (matplotlib)."""

from .average_precision import plot_average_precision
from .confusion import confusion_counts, plot_confusion
from .reconstruction import plot_reconstruction

__all__ = ["confusion_counts", "plot_average_precision", "plot_confusion", "plot_reconstruction"]
