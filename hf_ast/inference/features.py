"""Model inputs for the windows of a recording, one by one or from one spectrogram of all of them."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature

from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor

from .windows import Span

DEFAULT_WINDOW_S = 10.0


class FeatureExtractor(Protocol):
    """A feature extractor for waveforms: one of ours, or any other of transformers."""

    sampling_rate: int

    def __call__(self, raw_speech: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        """Waveforms -> model inputs."""

    def to_dict(self) -> dict[str, Any]:
        """Its settings."""


def model_window(feature_extractor: FeatureExtractor) -> int:
    """Samples that a model hears at once: what fills its extractor's `max_length`; 10 s if it has no such length."""
    num_samples = getattr(feature_extractor, "max_samples", None)
    return round(DEFAULT_WINDOW_S * feature_extractor.sampling_rate) if num_samples is None else num_samples


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
        device: Where to compute the features, and where they are returned; the CPU if None.

    Returns:
        `input_values` (K, T, M), and `attention_mask` (K, T) where the extractor gives one.
    """
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
    clips: Sequence[np.ndarray],
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

    def spectrograms(clips: list[np.ndarray]) -> Tensor:
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
