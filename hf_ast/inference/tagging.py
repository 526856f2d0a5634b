"""Labels for recordings of any length, window by window."""

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    FeatureExtractionMixin,
    PreTrainedModel,
)

from hf_ast.models.configuration_ast import NATIVE_MODEL_TYPE
from hf_ast.models.feature_extraction_ast import HfASTFeatureExtractor
from hf_ast.models.modeling_ast import HfASTForAudioClassification


class Tag(NamedTuple):
    """A label and its probability."""

    label: str
    score: float


@dataclass(frozen=True)
class Segment:
    """What a model says about one window of a recording; most probable label first."""

    start_s: float
    end_s: float
    tags: list[Tag]


def load_classifier(model: str | os.PathLike) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    """A classification model and its feature extractor, in eval mode, from a Hub id or a folder.

    Checkpoints of transformers' own AST open as ours, which gives the numbers of the official code.
    """
    if AutoConfig.from_pretrained(model).model_type == NATIVE_MODEL_TYPE:
        return HfASTForAudioClassification.from_pretrained(model), HfASTFeatureExtractor.from_pretrained(model)
    return AutoModelForAudioClassification.from_pretrained(model), AutoFeatureExtractor.from_pretrained(model)


@torch.inference_mode()
def tag_recording(
    model: PreTrainedModel,
    feature_extractor: FeatureExtractionMixin,
    waveform: np.ndarray,
    *,
    top_k: int = 5,
    batch_size: int = 8,
    progress: bool = False,
) -> list[Segment]:
    """Classify a recording in consecutive windows of the model's length.

    The last window of a longer recording ends where the recording ends, so that all of it is heard.

    Args:
        model: A classification model; its device is used.
        feature_extractor: Its feature extractor.
        waveform: Mono samples at the extractor's sampling rate, shape (S,).
        top_k: Labels per window, at most all.
        batch_size: Windows per forward pass.
        progress: Whether to show a progress bar.

    Returns:
        One segment per window.
    """
    if top_k < 1:
        raise ValueError(f"top_k={top_k} must be at least 1.")
    rate = feature_extractor.sampling_rate
    window = getattr(feature_extractor, "max_samples", len(waveform))
    starts = window_starts(len(waveform), window)
    segments = []
    for first in tqdm(range(0, len(starts), batch_size), disable=not progress, unit="batch", leave=False):
        batch = starts[first : first + batch_size]
        clips = [waveform[start : start + window] for start in batch]
        inputs = feature_extractor(clips, sampling_rate=rate, return_tensors="pt").to(model.device)
        for start, clip, scores in zip(batch, clips, probabilities(model, inputs), strict=True):
            best = scores.topk(min(top_k, len(scores)))
            tags = [
                Tag(model.config.id2label[index], score)
                for score, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
            segments.append(Segment(start / rate, (start + len(clip)) / rate, tags))
    return segments


def window_starts(num_samples: int, window: int) -> list[int]:
    """Starts of windows that cover a recording: side by side, the last one moved back to end with the recording."""
    if num_samples <= window:
        return [0]
    return [*range(0, num_samples - window, window), num_samples - window]


def probabilities(model: PreTrainedModel, inputs: Any) -> torch.Tensor:
    """Forward pass -> probabilities (B, C): independent ones for multi-label models, else summing to one."""
    logits = model(**inputs).logits.float()
    if model.config.problem_type == "multi_label_classification":
        return logits.sigmoid()
    return logits if model.config.problem_type == "regression" else logits.softmax(-1)
