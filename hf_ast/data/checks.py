"""Checks of what readers of recordings are given: rates, times, and the packages of the extra `audio`."""

import importlib
import math
from numbers import Real
from types import ModuleType
from typing import Any

# Rates outside this range are mistakes or attacks: from 1 Hz, resampling would turn each sample into 16,000
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1000, 10**7


def checked_rate(name: str, rate: Any) -> int:
    """Return a sampling rate in Hz as an int, or raise a ValueError that names the argument."""
    number = rate.item() if hasattr(rate, "item") and math.prod(getattr(rate, "shape", ())) == 1 else rate
    is_number = isinstance(number, Real) and not isinstance(number, bool)
    if not is_number or not LOWEST_RATE_HZ <= number <= HIGHEST_RATE_HZ or number != int(number):
        raise ValueError(
            f"{name}={rate!r:.80} must be a whole number of Hz, from {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}, as audio "
            "recordings have."
        )
    return int(number)


def checked_seconds(name: str, seconds: Any) -> float:
    """Return a time as a float, or raise a ValueError that names the argument."""
    is_number = isinstance(seconds, Real) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds < 1e9:
        raise ValueError(f"{name}={seconds!r:.80} must be a finite, non-negative number of seconds.")
    return float(seconds)


def import_for_audio(name: str, purpose: str = "Reading audio") -> ModuleType:
    """Return a package of the extra `audio`."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f'{purpose} needs {name}: pip install "hf-ast[audio]"') from error
