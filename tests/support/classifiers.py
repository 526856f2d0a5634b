"""Tiny classifiers of all families with their feature extractors, as they are exported and deployed."""

from typing import Any

import torch
from transformers import PreTrainedModel

from hf_ast import (
    FPaSSTFeatureExtractor,
    HfASTFeatureExtractor,
    PaSSTForAudioFrameClassification,
    SSASTForAudioClassification,
)
from hf_ast.assets import EMBEDDED_MODEL
from hf_ast.inference.loading import load_classifier
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from tests.support.tiny import (
    passt_extractor,
    randomize,
    tiny_fpasst_frames,
    tiny_frames,
    tiny_model,
    tiny_passt,
    tiny_ssast_config,
)

FAMILIES = ("ast", "ssast", "passt")
# Those that label cells of time
FRAMES = ("ast-frames", "passt-frames", "fpasst-frames")


def tiny_classifier(family: str, **changes: Any) -> tuple[PreTrainedModel, SpectrogramFeatureExtractor]:
    """A model with five labels, or "keywords", the embedded model; only PaSST's clips are not padded to its length."""
    if family == "keywords":
        return load_classifier(EMBEDDED_MODEL)
    if family == "passt":
        return tiny_passt(**changes), passt_extractor()
    if family == "passt-frames":
        model, extractor = randomize(PaSSTForAudioFrameClassification(tiny_passt(**changes).config)), passt_extractor()
        extractor.min_length = model.config.min_frames  # as `load_classifier` sets it
        return model, extractor
    if family == "fpasst-frames":
        return tiny_fpasst_frames(**changes), FPaSSTFeatureExtractor(num_mel_bins=32, max_length=52)
    extractor = HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
    if family == "ast-frames":
        return tiny_frames(**changes), extractor
    if family == "ast":
        return tiny_model(**changes), extractor
    return randomize(SSASTForAudioClassification(tiny_ssast_config(num_labels=5, **changes))), extractor


@torch.no_grad()
def logits_of(model: PreTrainedModel, extractor: SpectrogramFeatureExtractor, waveforms: torch.Tensor) -> torch.Tensor:
    """What users get: the feature extractor as it is called by default, then the model; shape (B, C)."""
    return model(**extractor(list(waveforms), extractor.sampling_rate, return_tensors="pt")).logits
