"""Convert official checkpoints to our models and back."""

from .convert import convert_checkpoint

__all__ = ["convert_checkpoint"]
