"""Official checkpoints -> our models. Part of the checkout only: the package does not depend on it."""

from .convert import convert_checkpoint

__all__ = ["convert_checkpoint"]
