"""Read, stream and resample recordings: the public functions of `hf_ast.data.audio`."""

from .data.audio import duration, read, resample, stream

__all__ = ["duration", "read", "resample", "stream"]
