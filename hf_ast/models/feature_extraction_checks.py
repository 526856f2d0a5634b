"""Checks of the feature extractors' waveforms and settings; a wrong one raises one clear error."""

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Far above any float waveform in [-1, 1], resampling overshoot included, and far below 16-bit sample values
LOUDEST_PEAK = 100.0
# Levels are between -16 and 20, frequencies below half of the highest rate
LARGEST_NUMBER = 1e6
SMALLEST_STD = 1e-6
# A two-dimensional array with more rows than this, none longer than this, is taken for (samples, channels)
MOST_CHANNELS = 32
# Far above what any front end is used with: a preprocessor_config.json from elsewhere must not fill the memory
HIGHEST_RATE_HZ = 10**6
MOST_MEL_BINS = 2**10
LONGEST_FFT = 2**17
MOST_VALUES = 2**28  # of one spectrogram: 5.8 hours of 128 mel bins every 10 ms


def front_end_name(settings: Mapping[str, Any]) -> str | None:
    """Name of the feature extractor's class that a preprocessor_config.json was written for; None if it names none."""
    named = settings.get("feature_extractor_type")
    auto_map = settings.get("auto_map")
    if named is None and isinstance(auto_map, Mapping):
        named = auto_map.get("AutoFeatureExtractor")
    return str(named).rpartition(".")[2] if named else None


def expect_front_end(settings: Mapping[str, Any], known: Iterable[str], where: Any) -> None:
    """Raise a ValueError if a preprocessor_config.json was written for a feature extractor other than the known ones.

    Args:
        settings: Content of the file.
        known: Names of classes that compute the same as its reader.
        where: Folder or Hub id that the file is from.
    """
    named, known = front_end_name(settings), tuple(known)
    if named is not None and named not in known:
        raise ValueError(
            f"{str(where)!r} names the feature extractor {named}, which is none of {', '.join(known)}: features of "
            "another front end would give wrong results without an error. Compute the features with that class, and "
            "pass them to the model as `input_values`; or, if the model was trained with the features of one of "
            "these, name it as `feature_extractor_type` in preprocessor_config.json."
        )


def as_waveforms(raw_speech: Any) -> list[Tensor]:
    """Turn one waveform or several into a list of tensors.

    Args:
        raw_speech: Float samples in [-1, 1]: shape (S,), (B, S), or a list or tuple of clips of any lengths; arrays,
            tensors or lists.

    Returns:
        Clips, each of shape (S,), float32, detached.

    Raises:
        ValueError: There is no clip, or one is not a mono waveform of finite float samples, or is empty or too loud.
    """
    clips = [_as_waveform(clip, f"raw_speech[{index}]") for index, clip in enumerate(_as_clips(raw_speech))]
    for index, clip in enumerate(clips):
        if len(clip) == 0:
            raise ValueError(f"raw_speech[{index}] has 0 samples, but a clip needs at least one; leave it out.")
    clips = [clip.to(clips[0].device) for clip in clips]
    extremes = torch.stack([torch.stack(clip.aminmax()) for clip in clips])
    peaks = extremes.abs().amax(dim=1).tolist()  # waits for a GPU once, not per clip
    for index, peak in enumerate(peaks):
        if not peak <= LOUDEST_PEAK:
            raise ValueError(
                f"raw_speech[{index}] has a peak of {peak}, but must hold finite samples in [-1, 1]; remove NaN and "
                "infinite values, and divide 16-bit samples by 32768."
            )
    return clips


def as_count(name: str, value: Any, minimum: int = 1, maximum: int = MOST_VALUES) -> int:
    """Return a whole number in a range as an int, or raise a ValueError that names it."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not minimum <= value < math.inf or value != int(value):
        raise ValueError(f"{name}={value!r} must be a whole number of at least {minimum}.")
    if value > maximum:
        raise ValueError(f"{name}={value!r} must be at most {maximum}; more would fill the memory.")
    return int(value)


def on_device(clips: list[Tensor], device: Any) -> list[Tensor]:
    """Move clips to a device, or raise a ValueError that names it if it cannot be used."""
    try:
        is_usable = not torch.empty(0, device=device).is_meta
        problem = "it holds no values"
    except (AssertionError, RuntimeError, TypeError) as error:
        is_usable, problem = False, str(error).partition("\n")[0]
    if not is_usable:
        raise ValueError(f"device={device!r} cannot be used: {problem}.")
    return [clip.to(device) for clip in clips]


def as_finite(name: str, value: Any) -> float:
    """Return a finite number as a float, or raise a ValueError that names it."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not -math.inf < value < math.inf:
        raise ValueError(f"{name}={value!r} must be a finite number.")
    if abs(value) > LARGEST_NUMBER:
        raise ValueError(f"{name}={value!r} must not exceed +-{LARGEST_NUMBER:g}, or features would overflow.")
    return float(value)


def check_sampling_rate(sampling_rate: Any, expected: int) -> None:
    """Raise a ValueError if waveforms of that rate, in Hz, do not suit an extractor that works at the expected one."""
    is_array = isinstance(sampling_rate, np.ndarray | Tensor) and math.prod(sampling_rate.shape) == 1
    rate = sampling_rate.item() if is_array else sampling_rate
    if isinstance(rate, bool) or not isinstance(rate, Real) or not 0 < float(rate) < math.inf:
        raise ValueError(f"sampling_rate={sampling_rate!r} must be a number in Hz, here {expected}.")
    if rate != expected:
        raise ValueError(
            f"sampling_rate={rate} Hz, but this extractor works at {expected} Hz; resample the waveform first, for "
            f"example with `hf_ast.audio.resample(waveform, {rate}, {expected})`."
        )


def _as_clips(raw_speech: Any) -> list[Any]:
    """One clip or a batch of clips -> the list of clips."""
    if isinstance(raw_speech, Tensor) or hasattr(raw_speech, "__array__"):
        array = raw_speech if isinstance(raw_speech, Tensor) else np.asarray(raw_speech)
        if array.ndim not in (1, 2):
            raise ValueError(
                f"raw_speech has shape {tuple(array.shape)}, but must be (samples,) or (batch, samples); mix stereo "
                "down with `waveform.mean(axis)` over the channel axis."
            )
        _expect_no_channels(tuple(array.shape))
        clips = list(array) if array.ndim == 2 else [array]
    elif not isinstance(raw_speech, list | tuple):
        raise ValueError(
            f"raw_speech is a {type(raw_speech).__name__}, but must be samples: an array, a tensor, or a list; read a "
            "file with `hf_ast.audio.read(path, sampling_rate)`, and pass the `array` of a row of a data set."
        )
    else:
        is_one_clip = len(raw_speech) > 0 and (
            isinstance(raw_speech[0], Real) or getattr(raw_speech[0], "ndim", 1) == 0
        )
        clips = [raw_speech] if is_one_clip else list(raw_speech)
        if not is_one_clip and clips and all(isinstance(clip, list | tuple) for clip in clips):
            _expect_no_channels((len(clips), max(map(len, clips))))
    if not clips:
        raise ValueError("raw_speech is empty; pass at least one clip.")
    return clips


def _expect_no_channels(shape: tuple[int, ...]) -> None:
    """Raise an error for the shape of a stereo waveform (samples, channels), which is no batch of tiny clips."""
    if len(shape) == 2 and 0 < shape[1] <= MOST_CHANNELS < shape[0]:
        raise ValueError(
            f"raw_speech has shape {shape}, which looks like (samples, channels); it must be mixed down first, with "
            "`waveform.mean(1)`. If these are clips of so few samples, pass a list of one-dimensional arrays."
        )


def _as_waveform(clip: Any, name: str) -> Tensor:
    """Return a clip as a float32 tensor (S,), or raise an error that says what is wrong with its shape or type."""
    if not isinstance(clip, Tensor):
        clip = _as_array(clip, name)
    if clip.ndim != 1:
        raise ValueError(
            f"{name} has shape {tuple(clip.shape)}, but must be mono, shape (samples,); mix stereo down with "
            "`waveform.mean(axis)` over the channel axis."
        )
    is_float = clip.is_floating_point() if isinstance(clip, Tensor) else clip.dtype.kind == "f"
    if not is_float:
        raise ValueError(
            f"{name} holds {clip.dtype}, but must be float samples in [-1, 1]; divide 16-bit samples by 32768."
        )
    if isinstance(clip, Tensor):
        if clip.is_meta or clip.layout is not torch.strided:
            raise ValueError(f"{name} is a {clip.layout} tensor on {clip.device}, but must hold dense samples.")
        return clip.detach().float()
    # Tensors share memory only with writable arrays of native byte order and without negative strides
    with np.errstate(over="ignore"):  # the peak is checked later
        clip = np.require(clip, np.float32, ["C", "W"])
    return torch.from_numpy(clip.copy() if clip.strides[0] < 0 else clip)  # of one sample, contiguous either way


def _as_array(clip: Any, name: str) -> np.ndarray:
    """Return a clip that is not a tensor as an array of any shape."""
    wanted = "must be samples: an array, a tensor, or a list of numbers"
    if not isinstance(clip, list | tuple) and not hasattr(clip, "__array__"):
        raise ValueError(f"{name} is {clip!r:.50}, a {type(clip).__name__}, but {wanted}.")
    try:
        if isinstance(clip, list | tuple) and any(isinstance(sample, Tensor) for sample in clip[:1]):
            clip = [sample.detach() if isinstance(sample, Tensor) else sample for sample in clip]
        return np.asarray(clip)
    except (RuntimeError, TypeError, ValueError) as error:  # RuntimeError: tensors among other things
        raise ValueError(f"{name} is a list of unequal parts, but {wanted}; a batch is a list of clips.") from error
