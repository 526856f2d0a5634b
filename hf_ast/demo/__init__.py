"""A page on which to try a model on recordings. Needs the extra `demo` (Gradio)."""

try:
    import gradio  # noqa: F401  Asked for before torch is imported, which takes seconds
except ImportError as error:
    raise ImportError('The page needs gradio: pip install "hf-ast[demo]"') from error

from .analysis import Analysis, analyse
from .app import build, launch

__all__ = ["Analysis", "analyse", "build", "launch"]
