"""Patchout faSt Spectrogram Transformer (Koutini et al. 2022, https://arxiv.org/abs/2110.05069) for transformers.

It reproduces the official code (kkoutini/PaSST, models/passt.py). The family is characterised by factorised positions
and by patchout, which the other families support, too.
"""

from .configuration_passt import PaSSTConfig
from .modeling_common import (
    SpectrogramForAudioClassification,
    SpectrogramForAudioFrameClassification,
    SpectrogramModel,
    SpectrogramPreTrainedModel,
)


class PaSSTPreTrainedModel(SpectrogramPreTrainedModel):
    """Base class of all PaSST models: their config class, and the Auto class of each."""

    config: PaSSTConfig
    config_class = PaSSTConfig
    _auto_classes = {
        "AutoModel": "PaSSTModel",
        "AutoModelForAudioClassification": "PaSSTForAudioClassification",
        "AutoModelForAudioFrameClassification": "PaSSTForAudioFrameClassification",
    }


class PaSSTModel(PaSSTPreTrainedModel, SpectrogramModel):
    """PaSST without a head: `last_hidden_state` (B, N, D) and `pooler_output` (B, D)."""

    _auto_class = "AutoModel"


class PaSSTForAudioClassification(PaSSTPreTrainedModel, SpectrogramForAudioClassification):
    """PaSST with a layer norm and a linear layer on the pooled output: `logits` (B, C)."""

    _auto_class = "AutoModelForAudioClassification"
    backbone_class = PaSSTModel


class PaSSTForAudioFrameClassification(PaSSTPreTrainedModel, SpectrogramForAudioFrameClassification):
    """PaSST with a head for each column of patches: `logits` (B, K, C), and `clip_logits` (B, C)."""

    _auto_class = "AutoModelForAudioFrameClassification"
    backbone_class = PaSSTModel


__all__ = ["PaSSTForAudioClassification", "PaSSTForAudioFrameClassification", "PaSSTModel", "PaSSTPreTrainedModel"]
