"""A page on which to try a model on recordings. Needs the extra `demo` (Gradio)."""

from .analysis import Analysis, analyse
from .app import build, launch

__all__ = ["Analysis", "analyse", "build", "launch"]
