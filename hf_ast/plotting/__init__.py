"""Figures, one file per kind. Needs the extra `plot` (matplotlib)."""

from .reconstruction import plot_reconstruction

__all__ = ["plot_reconstruction"]
