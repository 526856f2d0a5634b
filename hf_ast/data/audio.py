"""Read, stream and resample recordings. Needs the extra `audio` (soundfile, soxr and av).

Recordings come in many forms, and every function here takes all of them as its `source`:

- a path, a URL (http or https), the bytes of a file, or a file object, in any format of docs/recordings.md: WAV, FLAC,
  MP3, AAC, Opus, the sound of videos, and many others;
- a waveform, as array, tensor or list of float samples in [-1, 1]: mono (S,), or (S, channels) or (channels, S);
- a value of an audio column of `datasets`: `{"array": ..., "sampling_rate": ...}`, `{"bytes": ..., "path": ...}` (with
  `Audio(decode=False)`), or a decoder object; and a whole row that holds one as `audio`.

Several channels are mixed down to their mean.
"""

import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from .checks import checked_rate, checked_seconds, import_for_audio
from .decoding import decode, joined, measure
from .downloads import download
from .files import describe, is_file, open_recording
from .formats import SUFFIXES, RecordingWarning

__all__ = ["SUFFIXES", "RecordingWarning", "duration", "read", "resample", "stream"]

BLOCK_S = 10.0
# A two-dimensional array is taken for a recording of several channels if exactly one axis is no longer than this
MAX_CHANNELS = 32


def read(
    source: Any,
    sampling_rate: int | None = None,
    *,
    source_rate: int | None = None,
    start_s: float = 0.0,
    duration_s: float | None = None,
    warn: Callable[[str], None] | None = None,
) -> tuple[np.ndarray, int]:
    """Read a recording as one mono waveform.

    Args:
        source: See the module.
        sampling_rate: Rate to resample to, in Hz; the recording's own if None.
        source_rate: Rate of a waveform that does not carry its own, in Hz; `sampling_rate` if None.
        start_s: Where to begin, in seconds.
        duration_s: How much to read, in seconds; up to the end if None, or if less is left.
        warn: Called with a sentence for whatever is wrong with a recording that is still read, such as an end before
            its header says; by default a `RecordingWarning`.

    Returns:
        The mean of the channels, float32 in [-1, 1], shape (S,), and its sampling rate.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The source is not an audio file, has an unknown format, has no samples in the part that is read or
            has NaN or infinite ones, or is an array without float samples or with an ambiguous channel axis; or a rate
            or time is out of range.
    """
    sampling_rate = None if sampling_rate is None else checked_rate("sampling_rate", sampling_rate)
    source_rate = sampling_rate if source_rate is None else source_rate
    warn = _warner(warn)
    runs: list[tuple[int, list[np.ndarray]]] = []  # a rate, and what is read at it
    for block, rate in _mono_blocks(source, source_rate, BLOCK_S, start_s, duration_s, warn):
        if not runs or runs[-1][0] != rate:
            runs.append((rate, []))
        if len(block):
            runs[-1][1].append(block)
    to_rate = runs[0][0] if sampling_rate is None else sampling_rate
    _report_rates([rate for rate, _ in runs], to_rate, source, warn)
    return joined([resample(joined(blocks), rate, to_rate) for rate, blocks in runs if blocks]), to_rate


def stream(
    source: Any,
    sampling_rate: int,
    *,
    source_rate: int | None = None,
    block_s: float = BLOCK_S,
    start_s: float = 0.0,
    duration_s: float | None = None,
    warn: Callable[[str], None] | None = None,
) -> Iterator[np.ndarray]:
    """Read a recording piece by piece: the same samples as `read`, in memory that does not grow with its length.

    Args:
        source, sampling_rate, source_rate, start_s, duration_s, warn: As in `read`.
        block_s: How much to read at once, in seconds.

    Yields:
        Consecutive mono pieces, float32, each of shape (S,); together they are the waveform of `read`.
    """
    sampling_rate = checked_rate("sampling_rate", sampling_rate)
    source_rate = sampling_rate if source_rate is None else source_rate
    warn = _warner(warn)
    rates: list[int] = []
    for rate, run in groupby(_mono_blocks(source, source_rate, block_s, start_s, duration_s, warn), key=itemgetter(1)):
        rates.append(rate)
        yield from _resampled((block for block, _ in run), rate, sampling_rate)
    _report_rates(rates, sampling_rate, source, warn)


def _resampled(blocks: Iterator[np.ndarray], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """Consecutive pieces of a waveform at another rate; together what `resample` returns for the whole."""
    if from_rate == to_rate:
        yield from blocks
        return
    resampler = import_for_audio("soxr").ResampleStream(from_rate, to_rate, 1, dtype="float32")
    num_samples, first = 0, None
    for block in blocks:
        first = block[:1] if first is None else first
        yield (piece := resampler.resample_chunk(block))
        num_samples += len(piece)
    last = resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
    yield last if num_samples + len(last) or first is None else first  # as in `resample`


def _report_rates(rates: list[int], to_rate: int, source: Any, warn: Callable[[str], None]) -> None:
    if len(rates) > 1:
        warn(
            f"{describe(source)} changes its sampling rate ({' -> '.join(f'{rate:,}' for rate in rates[:8])} Hz); "
            f"all of it is read at {to_rate:,} Hz."
        )


def duration(source: Any, *, source_rate: int | None = None, warn: Callable[[str], None] | None = None) -> float:
    """Length of a recording in seconds; arguments and errors as in `read`, but without `warn`, nothing is said.

    It comes from the header where the format stores samples one by one and the file is as long as that takes. Headers
    of other formats state estimates, or nothing, so that the recording is decoded.
    """
    source = unwrap(source)
    if is_file(source):
        with open_recording(source) as recording:
            duration_s = measure(recording, warn or (lambda sentence: None))
    else:
        waveform, rate = _as_mono(source, source_rate)
        duration_s = len(waveform) / rate
    if duration_s == 0:
        raise ValueError(f"{describe(source)} holds no samples.")
    return duration_s


def resample(waveform: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample a mono waveform (S,) between two rates in Hz, with soxr's high quality; keeps the dtype.

    A waveform of a few samples, of which soxr would leave none, keeps its first one.
    """
    if from_rate == to_rate:
        return waveform
    resampled = import_for_audio("soxr").resample(waveform, from_rate, to_rate)
    return resampled if len(resampled) else waveform[:1]


def unwrap(source: Any) -> Any:
    """Return the file or waveform in a row or an audio value of `datasets`, or at a URL; other sources unchanged.

    Returns:
        A path, bytes or a file object; or a waveform, or a mapping with `array` and `sampling_rate`.
    """
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        return download(source)
    if hasattr(source, "get_all_samples"):  # the decoder object of `datasets`
        samples = source.get_all_samples()
        return {"array": samples.data, "sampling_rate": samples.sample_rate}
    if not isinstance(source, Mapping):
        return source
    for name in ("array", "raw"):
        if source.get(name) is not None:
            return {"array": source[name], "sampling_rate": source.get("sampling_rate")}
    for name in ("audio", "bytes", "path"):
        if source.get(name) is not None:
            return unwrap(source[name])
    raise ValueError(
        f"source is a mapping with the keys {sorted(map(str, source))}, but must hold a waveform as 'array' or 'raw' "
        "with its 'sampling_rate', the 'bytes' of a file, its 'path', or one of these as 'audio'."
    )


def _mono_blocks(
    source: Any,
    source_rate: int | None,
    block_s: float,
    start_s: float,
    duration_s: float | None,
    warn: Callable[[str], None],
) -> Iterator[tuple[np.ndarray, int]]:
    """Consecutive pieces (S,) of a recording at its own rate, and that rate; at least one piece."""
    source = unwrap(source)
    num_read = 0
    start_s = checked_seconds("start_s", start_s)
    duration_s = None if duration_s is None else checked_seconds("duration_s", duration_s)
    if is_file(source):
        with open_recording(source) as recording:
            for samples, rate in decode(recording, warn, block_s=block_s, start_s=start_s, duration_s=duration_s):
                num_read += len(samples)
                yield _finite(samples, source), rate
    else:
        waveform, rate = _as_mono(source, source_rate)
        start = round(start_s * rate)
        waveform = waveform[start : None if duration_s is None else start + round(duration_s * rate)]
        num_read, size = len(waveform), max(1, round(block_s * rate))
        for first in range(0, num_read, size):
            yield _finite(waveform[first : first + size], source), rate
    if num_read == 0:
        raise ValueError(f"{describe(source)} holds no samples{' in that part' if start_s or duration_s else ''}.")


def _finite(samples: np.ndarray, source: Any) -> np.ndarray:
    # Both are NaN if one sample is; an array of truth values would cost more than reading a short part
    if len(samples) and not (math.isfinite(samples.min()) and math.isfinite(samples.max())):
        raise ValueError(f"{describe(source)} holds samples that are NaN or infinite; remove them.")
    return samples


def _as_mono(source: Any, source_rate: int | None) -> tuple[np.ndarray, int]:
    """A waveform in any form, or a mapping with one, as mono float32 samples (S,), and its rate."""
    if isinstance(source, Mapping):
        source_rate = source_rate if source["sampling_rate"] is None else source["sampling_rate"]
        source = source["array"]
    if source_rate is None:
        raise ValueError("source is a waveform without a sampling rate; give it as source_rate, in Hz.")
    source_rate = checked_rate("sampling_rate of source", source_rate)
    return _mixed_down(as_floats("source", source)), source_rate


def as_floats(name: str, samples: Any) -> np.ndarray:
    """Float samples in any form as a float32 array of any shape, or a ValueError that names the argument."""
    if hasattr(samples, "detach"):  # a tensor
        samples = samples.detach()
        samples = samples.float() if samples.is_floating_point() else samples
    try:
        array = np.asarray(samples.cpu() if hasattr(samples, "cpu") else samples)
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{name} cannot be read as a waveform: {error}.") from error
    if array.dtype.kind != "f":
        raise ValueError(
            f"{name} is a {type(samples).__name__} of {array.dtype}, but must be a path, the bytes of a file, or "
            "float samples in [-1, 1]; divide 16-bit samples by 32768."
        )
    with np.errstate(over="ignore"):  # values that become infinite are refused later
        return array.astype(np.float32, copy=False)


def _mixed_down(waveform: np.ndarray) -> np.ndarray:
    """The mean of the channels of (S,), (S, channels) or (channels, S), where it is clear which axis is which."""
    if waveform.ndim == 1:
        return waveform
    few = [axis for axis, size in enumerate(waveform.shape) if size <= MAX_CHANNELS]
    if waveform.ndim != 2 or len(few) != 1:
        raise ValueError(
            f"source has shape {waveform.shape}, in which the channel axis is ambiguous; it must be (samples,), "
            "(samples, channels) or (channels, samples). Mix it down with `waveform.mean(axis)` over the channel axis."
        )
    return waveform.mean(axis=few[0])


def _warner(warn: Callable[[str], None] | None) -> Callable[[str], None]:
    """What is called with sentences about damaged recordings; by default, they are warnings of Python."""
    return warn or (lambda sentence: warnings.warn(sentence, RecordingWarning, stacklevel=_stacklevel()))


def _stacklevel() -> int:
    """How many frames below the caller of `warnings.warn` the code outside of this package begins."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("hf_ast.data"):
        frame, level = frame.f_back, level + 1
    return level
