"""Recordings for tests."""

import numpy as np


def sine(rate: int, duration_s: float = 1.0, frequency_hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(int(duration_s * rate)) / rate)).astype(np.float32)
