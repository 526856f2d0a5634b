"""Figures, one file per kind. Needs the extra `plot` (matplotlib)."""

from .attention import attention_rollout, patch_attention, plot_attention
from .average_precision import plot_average_precision
from .confusion import confusion_counts, plot_confusion
from .found_events import plot_found_events
from .learning_curves import learning_curves, plot_learning_curves
from .patchout import plot_patchout
from .reconstruction import plot_reconstruction
from .similarity import cosine_similarity, plot_similarity
from .spectrogram import plot_spectrogram
from .timeline import plot_timeline, timeline

__all__ = [
    "attention_rollout",
    "confusion_counts",
    "cosine_similarity",
    "learning_curves",
    "patch_attention",
    "plot_attention",
    "plot_average_precision",
    "plot_confusion",
    "plot_found_events",
    "plot_learning_curves",
    "plot_patchout",
    "plot_reconstruction",
    "plot_similarity",
    "plot_spectrogram",
    "plot_timeline",
    "timeline",
]
