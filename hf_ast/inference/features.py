"""Model inputs for the windows of a recording, one by one or from one spectrogram of all of them."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature, PreTrainedModel
from transformers.utils import logging

from hf_ast.families import MODEL_TYPES
from hf_ast.models.feature_extraction_ast import NATIVE_CLASS
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.models.modules_fbank import frame_geometry

from .windows import Span

logger = logging.get_logger(__name__)

DEFAULT_WINDOW_S = 10.0


class FeatureExtractor(Protocol):
    """A feature extractor for waveforms: one of ours, or any other of transformers."""

    sampling_rate: int

    def __call__(self, raw_speech: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        """Waveforms -> model inputs."""

    def to_dict(self) -> dict[str, Any]:
        """Its settings."""


def model_window(feature_extractor: FeatureExtractor) -> int:
    """Samples that a model hears at once: what fills its extractor's input; 10 s if that takes any length."""
    longest = longest_input(feature_extractor)
    return round(DEFAULT_WINDOW_S * feature_extractor.sampling_rate) if longest is None else longest


def longest_input(feature_extractor: FeatureExtractor) -> int | None:
    """Samples of the longest clip that an extractor does not cut; None if it takes any length.

    It knows ours, transformers' `ASTFeatureExtractor`, those that state the number of samples (Whisper, CLAP), and
    those with a number of frames and the samples between them, such as the official one of MAEST.
    """
    settings: Any = feature_extractor
    for name in ("max_samples", "nb_max_samples", "n_samples"):
        if isinstance(num_samples := getattr(settings, name, None), int):
            return num_samples
    num_frames = getattr(settings, "max_length", None)
    if not isinstance(num_frames, int) or num_frames < 1:
        return None
    rate: int = settings.sampling_rate
    if any(base.__name__ == NATIVE_CLASS for base in type(settings).__mro__):
        frame_length, frame_shift, _ = frame_geometry(rate)
        return frame_length + (num_frames - 1) * frame_shift
    if isinstance(hop_length := getattr(settings, "hop_length", None), int):
        return max(1, (num_frames - 1) * hop_length)
    logger.warning_once(
        f"{type(settings).__name__} has max_length={num_frames}, in a unit that is not known; windows of "
        f"{DEFAULT_WINDOW_S:g} s are assumed. Pass `window_s`, the seconds that the model hears at once."
    )
    return None


def check_front_end(model: PreTrainedModel, feature_extractor: FeatureExtractor) -> None:
    """Raise a ValueError if a model of ours gets an extractor of transformers that computes something else."""
    extractor_class = type(feature_extractor)
    is_foreign = extractor_class.__module__.startswith("transformers.") and extractor_class.__name__ != NATIVE_CLASS
    if is_foreign and model.config.model_type in MODEL_TYPES:
        raise ValueError(
            f"feature_extractor is a {extractor_class.__name__}, but a {type(model).__name__} was trained with an "
            "HfASTFeatureExtractor, PaSSTFeatureExtractor or MAESTFeatureExtractor; pass that of the model."
        )


def window_features(
    feature_extractor: FeatureExtractor,
    span: Span,
    window: int,
    *,
    shared: bool = True,
    device: torch.device | str | None = None,
) -> BatchFeature:
    """Make the model inputs of the windows of a span, as the feature extractor does for each of them by default.

    Where windows overlap and lie on the grid of the frames, the spectrogram is computed once, and the windows are
    slices of it. Frames that reach over the edge of a window are computed for each window: those of PaSST are centred,
    and its windows are reflected at their ends; those of AST lie wholly inside. Slices differ from separate
    spectrograms by float noise, below 1e-4 (the mean that AST subtracts is that of the span).

    Args:
        feature_extractor: The feature extractor of the model.
        span: The windows, of `window` samples; a single one may be shorter.
        window: Length of a window, in samples.
        shared: Whether to compute the spectrogram of overlapping windows once.
        device: Where to compute the features, and where they are returned; if None, where the samples are.

    Returns:
        `input_values` (K, T, M), and `attention_mask` (K, T) where the extractor gives one.
    """
    if isinstance(feature_extractor, SpectrogramFeatureExtractor):
        span = span.on_device(device)  # once, not window by window
    if shared and isinstance(feature_extractor, SpectrogramFeatureExtractor):
        shift = feature_extractor.frame_shift
        overlaps = len(span.starts) > 1 and span.starts[1] - span.starts[0] < window
        has_inner_frames = feature_extractor.num_frames(window) > 2 * feature_extractor.num_edge_frames
        has_inner_frames &= window >= feature_extractor.min_samples  # shorter ones are continued with zeros
        if overlaps and has_inner_frames and all((start - span.offset) % shift == 0 for start in span.starts):
            return _sliced_features(feature_extractor, span, window, device)
    return clip_features(feature_extractor, span.windows(window), device=device)


def clip_features(
    feature_extractor: FeatureExtractor,
    clips: Sequence[np.ndarray | Tensor],
    *,
    device: torch.device | str | None = None,
) -> BatchFeature:
    """Make the model inputs of separate clips, each of shape (S,), as the feature extractor does by default."""
    rate = feature_extractor.sampling_rate
    if isinstance(feature_extractor, SpectrogramFeatureExtractor):
        return feature_extractor(clips, sampling_rate=rate, return_tensors="pt", device=device)
    return feature_extractor(clips, sampling_rate=rate, return_tensors="pt").to(device or "cpu")


def _sliced_features(
    feature_extractor: SpectrogramFeatureExtractor, span: Span, window: int, device: torch.device | str | None
) -> BatchFeature:
    """`window_features` of overlapping windows that all begin with a frame of the span."""
    shift, num_edge = feature_extractor.frame_shift, feature_extractor.num_edge_frames
    num_frames = min(feature_extractor.num_frames(window), feature_extractor.max_length)

    def spectrograms(clips: Sequence[np.ndarray | Tensor]) -> Tensor:
        settings = {"padding": False, "truncation": False, "return_attention_mask": False}
        rate = feature_extractor.sampling_rate
        return feature_extractor(clips, rate, return_tensors="pt", device=device, **settings)["input_values"]

    whole = spectrograms([span.samples])[0]
    firsts = [(start - span.offset) // shift for start in span.starts]
    features = torch.stack([whole[first : first + num_frames] for first in firsts])
    if num_edge:
        clips = span.windows(window)
        # Clips of one length, long enough that the frames that are taken do not reach the other edge
        left = spectrograms([clip[: 2 * num_edge * shift + feature_extractor.min_samples] for clip in clips])
        features[:, :num_edge] = left[:, :num_edge]
        first_right = num_frames - num_edge
        skipped = max(0, first_right - num_edge - feature_extractor.num_frames(feature_extractor.min_samples))
        right = spectrograms([clip[skipped * shift :] for clip in clips])
        features[:, first_right:] = right[:, first_right - skipped : num_frames - skipped]
    return _as_by_default(feature_extractor, features)


def _as_by_default(feature_extractor: SpectrogramFeatureExtractor, features: Tensor) -> BatchFeature:
    """Pad spectrograms (K, T, M) of one length, and add the mask, as a call of the extractor does by default."""
    num_clips, num_frames, _ = features.shape
    mask = torch.ones(num_clips, num_frames, dtype=torch.long, device=features.device)
    is_whole = feature_extractor.default_padding == "max_length"
    padding = max(0, (feature_extractor.max_length if is_whole else feature_extractor.min_length) - num_frames)
    features = torch.nn.functional.pad(features, (0, 0, 0, padding), value=feature_extractor.padding_value)
    mask = torch.nn.functional.pad(mask, (0, padding))
    with_mask = feature_extractor.return_attention_mask or feature_extractor.default_padding == "longest"
    return BatchFeature({"input_values": features} | ({"attention_mask": mask} if with_mask else {}))
