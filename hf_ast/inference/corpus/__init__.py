"""Extraction of whole corpora into Parquet files: resumable, on this machine or on Ray.

Needs the extra `corpus`; Ray also needs the extra `ray`.
"""

try:
    import pyarrow  # noqa: F401
except ImportError as error:
    raise ImportError('Extracting a corpus needs pyarrow: pip install "hf-ast[corpus]"') from error

from .extraction import Extraction, extract

__all__ = ["Extraction", "extract"]
