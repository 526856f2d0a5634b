"""Convert official checkpoints to our models and back; `hf_ast.conversion` in the wheel."""

from .convert import convert_checkpoint

__all__ = ["convert_checkpoint"]
