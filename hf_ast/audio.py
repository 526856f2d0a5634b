"""Read and resample recordings. Needs the extra `audio` (soundfile and soxr)."""

import io
import os
from types import ModuleType

import numpy as np


def read(file: str | os.PathLike | bytes, sampling_rate: int | None = None) -> tuple[np.ndarray, int]:
    """Read a recording as mono, in any format that libsndfile knows (WAV, FLAC, OGG, MP3, AIFF, ...).

    Args:
        file: Path, or the content of a file.
        sampling_rate: Rate to resample to, in Hz; the file's own if None.

    Returns:
        The mean of the channels, float32 in [-1, 1], shape (S,), and its sampling rate.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no audio file, its format is unknown, or it holds no samples.
    """
    soundfile = _import("soundfile")
    name = f"{len(file)} bytes of audio" if isinstance(file, bytes) else os.fspath(file)
    if not isinstance(file, bytes) and not os.path.isfile(file):
        raise FileNotFoundError(f"file={name!r} does not exist.")
    try:
        samples, file_rate = soundfile.read(
            io.BytesIO(file) if isinstance(file, bytes) else name, dtype="float32", always_2d=True
        )
    except soundfile.LibsndfileError as error:
        known = ", ".join(sorted(soundfile.available_formats()))
        raise ValueError(f"file={name!r} cannot be read ({error}). Convert it to one of: {known}.") from error
    if len(samples) == 0:
        raise ValueError(f"file={name!r} holds no samples.")
    waveform = samples.mean(axis=1)
    if sampling_rate is None:
        return waveform, file_rate
    return resample(waveform, file_rate, sampling_rate), sampling_rate


def resample(waveform: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample a mono waveform (S,) between two rates in Hz, with soxr's high quality; keeps the dtype."""
    if from_rate == to_rate:
        return waveform
    return _import("soxr").resample(waveform, from_rate, to_rate)


def _import(name: str) -> ModuleType:
    try:
        return __import__(name)
    except ImportError as error:
        raise ImportError(f'Reading audio needs {name}: pip install "hf-ast[audio]"') from error
