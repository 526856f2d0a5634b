"""Read, stream and resample recordings. Needs the extra `audio` (soundfile and soxr).

Recordings come in many forms, and every function here takes all of them as its `source`:

- a path, a URL (http or https), or the bytes of a file, in a format that libsndfile knows (WAV, FLAC, OGG, MP3, ...);
- a waveform, as array, tensor or list of float samples in [-1, 1]: mono (S,), or (S, channels) or (channels, S);
- a value of an audio column of `datasets`: `{"array": ..., "sampling_rate": ...}`, `{"bytes": ..., "path": ...}` (with
  `Audio(decode=False)`), or a decoder object; and a whole row that holds one as `audio`.

Several channels are mixed down to their mean.
"""

import io
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from types import ModuleType
from typing import Any

import numpy as np

# Suffixes of the formats that libsndfile recognises by content. A file that is given by name may have any suffix
SUFFIXES = frozenset(
    ".aif .aifc .aiff .au .avr .caf .flac .htk .iff .ircam .m1a .mp1 .mp2 .mp3 .mpc .nist .oga .ogg .opus .paf .pvf "
    ".rf64 .sd2 .sds .sf .snd .sph .svx .voc .w64 .wav .wave .wve .xi".split()
)
BLOCK_S = 10.0
# A two-dimensional array is taken for a recording of several channels if exactly one axis is no longer than this
MAX_CHANNELS = 32
# Rates outside this range are mistakes or attacks: from 1 Hz, resampling would turn each sample into 16,000
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1000, 10**7
# Values that are read at once, over all channels, whatever rate and number of channels a header claims
MAX_BLOCK_VALUES = 2**26
URL_TIMEOUT_S = 60.0


def read(
    source: Any,
    sampling_rate: int | None = None,
    *,
    source_rate: int | None = None,
    start_s: float = 0.0,
    duration_s: float | None = None,
) -> tuple[np.ndarray, int]:
    """Read a recording as one mono waveform.

    Args:
        source: See the module.
        sampling_rate: Rate to resample to, in Hz; the recording's own if None.
        source_rate: Rate of a waveform that does not carry its own, in Hz; `sampling_rate` if None.
        start_s: Where to begin, in seconds.
        duration_s: How much to read, in seconds; up to the end if None, or if less is left.

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
    rate, blocks = 0, []
    for block, rate in _mono_blocks(source, source_rate, BLOCK_S, start_s, duration_s):  # noqa: B007
        blocks.append(block)
    waveform = np.concatenate(blocks)
    if sampling_rate is None:
        return waveform, rate
    return resample(waveform, rate, sampling_rate), sampling_rate


def stream(
    source: Any, sampling_rate: int, *, source_rate: int | None = None, block_s: float = BLOCK_S
) -> Iterator[np.ndarray]:
    """Read a recording piece by piece: the same samples as `read`, in memory that does not grow with its length.

    Args:
        source, sampling_rate, source_rate: As in `read`.
        block_s: How much to read at once, in seconds.

    Yields:
        Consecutive mono pieces, float32, each of shape (S,); together they are the waveform of `read`.
    """
    sampling_rate = checked_rate("sampling_rate", sampling_rate)
    resampler, num_samples, first = None, 0, np.zeros(0, dtype=np.float32)
    source_rate = sampling_rate if source_rate is None else source_rate
    for block, rate in _mono_blocks(source, source_rate, block_s, 0.0, None):
        if rate == sampling_rate:
            yield block
            continue
        if resampler is None:
            resampler = _import("soxr").ResampleStream(rate, sampling_rate, 1, dtype="float32")
            first = block[:1]
        yield (piece := resampler.resample_chunk(block))
        num_samples += len(piece)
    if resampler is not None:
        last = resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
        yield last if num_samples + len(last) else first  # as in `resample`


def duration(source: Any, *, source_rate: int | None = None) -> float:
    """Length of a recording in seconds, from its header; arguments and errors as in `read`."""
    source = unwrap(source)
    if _is_file(source):
        with _open(source) as recording:
            return recording.frames / recording.samplerate
    waveform, rate = _as_mono(source, source_rate)
    return len(waveform) / rate


def resample(waveform: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample a mono waveform (S,) between two rates in Hz, with soxr's high quality; keeps the dtype.

    A waveform of a few samples, of which soxr would leave none, keeps its first one.
    """
    if from_rate == to_rate:
        return waveform
    resampled = _import("soxr").resample(waveform, from_rate, to_rate)
    return resampled if len(resampled) else waveform[:1]


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


def _checked_seconds(name: str, seconds: Any) -> float:
    is_number = isinstance(seconds, Real) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds < 1e9:
        raise ValueError(f"{name}={seconds!r:.80} must be a finite, non-negative number of seconds.")
    return float(seconds)


def unwrap(source: Any) -> Any:
    """Return the file or waveform in a row or an audio value of `datasets`, or at a URL; other sources unchanged.

    Returns:
        A path or bytes; or a waveform, or a mapping with `array` and `sampling_rate`.
    """
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        return _download(source)
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
    source: Any, source_rate: int | None, block_s: float, start_s: float, duration_s: float | None
) -> Iterator[tuple[np.ndarray, int]]:
    """Consecutive pieces (S,) of a recording at its own rate, and that rate; at least one piece."""
    source = unwrap(source)
    num_read = 0
    start_s = _checked_seconds("start_s", start_s)
    duration_s = None if duration_s is None else _checked_seconds("duration_s", duration_s)
    if _is_file(source):
        with _open(source) as recording:
            rate = recording.samplerate
            max_samples = max(1, min(round(block_s * rate), MAX_BLOCK_VALUES // recording.channels))
            recording.seek(min(round(start_s * rate), recording.frames))
            num_wanted = np.inf if duration_s is None else round(duration_s * rate)
            while num_read < num_wanted:
                num_samples = int(min(max_samples, num_wanted - num_read))
                samples = recording.read(num_samples, dtype="float32", always_2d=True)
                if len(samples) == 0:
                    break
                num_read += len(samples)
                yield _finite(samples.mean(axis=1), source), rate
    else:
        waveform, rate = _as_mono(source, source_rate)
        start = round(start_s * rate)
        waveform = waveform[start : None if duration_s is None else start + round(duration_s * rate)]
        num_read, size = len(waveform), max(1, round(block_s * rate))
        for first in range(0, num_read, size):
            yield _finite(waveform[first : first + size], source), rate
    if num_read == 0:
        raise ValueError(f"{_name(source)} holds no samples{' in that part' if start_s or duration_s else ''}.")


def _finite(samples: np.ndarray, source: Any) -> np.ndarray:
    if not np.isfinite(samples).all():
        raise ValueError(f"{_name(source)} holds samples that are NaN or infinite; remove them.")
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


def _is_file(source: Any) -> bool:
    return isinstance(source, str | os.PathLike | bytes | bytearray)


@contextmanager
def _open(file: str | os.PathLike[str] | bytes) -> Iterator[Any]:
    """The recording as a `soundfile.SoundFile`; errors of libsndfile become errors that name the file."""
    soundfile = _import("soundfile")
    if not isinstance(file, bytes | bytearray):
        if os.path.isdir(file):
            raise IsADirectoryError(f"{_name(file)} is a folder, but must be an audio file.")
        if not os.path.exists(file):
            raise FileNotFoundError(f"{_name(file)} does not exist.")
        if not os.path.isfile(file):  # reading it might never end
            raise ValueError(f"{_name(file)} is a device, pipe or socket, but must be an audio file.")
    try:
        with soundfile.SoundFile(
            io.BytesIO(file) if isinstance(file, bytes | bytearray) else os.fspath(file)
        ) as recording:
            checked_rate(f"{_name(file)}: the sampling rate in its header", recording.samplerate)
            yield recording
    except soundfile.LibsndfileError as error:
        known = ", ".join(sorted(soundfile.available_formats()))
        raise ValueError(f"{_name(file)} cannot be read ({error}). Convert it to one of: {known}.") from error


def _download(url: str) -> bytes:
    import httpx2

    try:
        response = httpx2.get(url, follow_redirects=True, timeout=URL_TIMEOUT_S)
        response.raise_for_status()
    except httpx2.HTTPError as error:
        raise OSError(f"file={url!r} cannot be downloaded: {error}") from error
    return response.content


def _name(source: Any) -> str:
    """Return what an error message calls a recording."""
    if isinstance(source, bytes | bytearray):
        return f"file={f'{len(source)} bytes of audio'!r}"
    return f"file={os.fspath(source)!r:.500}" if _is_file(source) else "source"


def _import(name: str) -> ModuleType:
    try:
        return __import__(name)
    except ImportError as error:
        raise ImportError(f'Reading audio needs {name}: pip install "hf-ast[audio]"') from error
