"""Whole corpora into Parquet files: resumable, on this machine or on Ray."""

from .extraction import Extraction, extract

__all__ = ["Extraction", "extract"]
