"""Frame-wise PaSST (Schmid et al. 2025, https://arxiv.org/abs/2409.09546) for transformers.

It reproduces the official code (fschmid56/PretrainedSED, models/frame_passt/fpasst.py and
models/prediction_wrapper.py). A convolutional stem makes one token per 40 ms; the heads have no layer norm.
"""

from .configuration_fpasst import FPaSSTConfig
from .modeling_common import (
    SpectrogramForAudioClassification,
    SpectrogramForAudioFrameClassification,
    SpectrogramModel,
    SpectrogramPreTrainedModel,
)


class FPaSSTPreTrainedModel(SpectrogramPreTrainedModel):
    """Base class of all fPaSST models: their config class, and the Auto class of each."""

    config: FPaSSTConfig
    config_class = FPaSSTConfig
    _auto_classes = {
        "AutoModel": "FPaSSTModel",
        "AutoModelForAudioClassification": "FPaSSTForAudioClassification",
        "AutoModelForAudioFrameClassification": "FPaSSTForAudioFrameClassification",
    }


class FPaSSTModel(FPaSSTPreTrainedModel, SpectrogramModel):
    """fPaSST without a head: `last_hidden_state` (B, N, D), and `pooler_output` (B, D), the mean of the cells."""

    _auto_class = "AutoModel"


class FPaSSTForAudioClassification(FPaSSTPreTrainedModel, SpectrogramForAudioClassification):
    """fPaSST with a linear layer on the mean of the cells, the official weak head: `logits` (B, C)."""

    _auto_class = "AutoModelForAudioClassification"
    backbone_class = FPaSSTModel


class FPaSSTForAudioFrameClassification(FPaSSTPreTrainedModel, SpectrogramForAudioFrameClassification):
    """fPaSST with the official strong head: `logits` (B, K, C), and the weak one: `clip_logits` (B, C)."""

    _auto_class = "AutoModelForAudioFrameClassification"
    backbone_class = FPaSSTModel


__all__ = ["FPaSSTForAudioClassification", "FPaSSTForAudioFrameClassification", "FPaSSTModel", "FPaSSTPreTrainedModel"]
