"""Official checkpoints -> our models, and back: `conversion` in a checkout, `hf_ast.conversion` in the wheel."""

from .convert import convert_checkpoint

__all__ = ["convert_checkpoint"]
