"""Read and resample recordings. Needs the extra `audio` (soundfile and soxr)."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np


def read(
    file: str | os.PathLike | bytes,
    sampling_rate: int | None = None,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
) -> tuple[np.ndarray, int]:
    """Read a recording as mono, in any format that libsndfile knows (WAV, FLAC, OGG, MP3, AIFF, ...).

    Args:
        file: Path, or the content of a file.
        sampling_rate: Rate to resample to, in Hz; the file's own if None.
        start_s: Where to begin, in seconds.
        duration_s: How much to read, in seconds; to the end if None, or if there is less.

    Returns:
        The mean of the channels, float32 in [-1, 1], shape (S,), and its sampling rate.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no audio file, its format is unknown, or it holds no samples where they are read.
    """
    with _open(file) as recording:
        file_rate = recording.samplerate
        recording.seek(min(round(start_s * file_rate), recording.frames))
        num_samples = -1 if duration_s is None else round(duration_s * file_rate)
        samples = recording.read(num_samples, dtype="float32", always_2d=True)
    if len(samples) == 0:
        raise ValueError(f"file={_name(file)!r} holds no samples.")
    waveform = samples.mean(axis=1)
    if sampling_rate is None:
        return waveform, file_rate
    return resample(waveform, file_rate, sampling_rate), sampling_rate


def duration(file: str | os.PathLike | bytes) -> float:
    """Length of a recording in seconds, from its header; errors as in `read`."""
    with _open(file) as recording:
        return recording.frames / recording.samplerate


@contextmanager
def _open(file: str | os.PathLike | bytes) -> Iterator[Any]:
    """The recording as a `soundfile.SoundFile`; errors of libsndfile become ones that name the file."""
    soundfile = _import("soundfile")
    if not isinstance(file, bytes) and not os.path.isfile(file):
        raise FileNotFoundError(f"file={_name(file)!r} does not exist.")
    try:
        with soundfile.SoundFile(io.BytesIO(file) if isinstance(file, bytes) else os.fspath(file)) as recording:
            yield recording
    except soundfile.LibsndfileError as error:
        known = ", ".join(sorted(soundfile.available_formats()))
        raise ValueError(f"file={_name(file)!r} cannot be read ({error}). Convert it to one of: {known}.") from error


def _name(file: str | os.PathLike | bytes) -> str:
    return f"{len(file)} bytes of audio" if isinstance(file, bytes) else os.fspath(file)


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
