"""Audio Spectrogram Transformer (Gong et al. 2021, https://arxiv.org/abs/2104.01778) for transformers.

It reproduces the official code (YuanGongND/ast, src/models/ast_models.py), including the layer-norm epsilons, where
transformers' own `ASTModel` uses others. The classes also open checkpoints of `ASTModel` and
`ASTForAudioClassification`, in both key layouts that these have had.
"""

from transformers.conversion_mapping import register_checkpoint_conversion_mapping

from .configuration_ast import HfASTConfig
from .modeling_common import (
    SpectrogramForAudioClassification,
    SpectrogramForAudioFrameClassification,
    SpectrogramModel,
    SpectrogramPreTrainedModel,
)
from .modeling_native_common import native_ast_mapping


class HfASTPreTrainedModel(SpectrogramPreTrainedModel):
    """Base class of all AST models: their config class, and the Auto class of each."""

    config: HfASTConfig
    config_class = HfASTConfig
    _auto_classes = {
        "AutoModel": "HfASTModel",
        "AutoModelForAudioClassification": "HfASTForAudioClassification",
        "AutoModelForAudioFrameClassification": "HfASTForAudioFrameClassification",
    }


class HfASTModel(HfASTPreTrainedModel, SpectrogramModel):
    """AST without a head: `last_hidden_state` (B, N, D) and `pooler_output` (B, D)."""

    _auto_class = "AutoModel"


class HfASTForAudioClassification(HfASTPreTrainedModel, SpectrogramForAudioClassification):
    """AST with a layer norm and a linear layer on the pooled output: `logits` (B, C)."""

    _auto_class = "AutoModelForAudioClassification"
    backbone_class = HfASTModel


for _name in ("HfASTModel", "HfASTForAudioClassification"):
    # By class name: while a checkpoint of transformers' own AST loads, the config has that model type
    register_checkpoint_conversion_mapping(_name, native_ast_mapping(), overwrite=True)


class HfASTForAudioFrameClassification(HfASTPreTrainedModel, SpectrogramForAudioFrameClassification):
    """AST with a head for each column of patches: `logits` (B, K, C), and `clip_logits` (B, C)."""

    _auto_class = "AutoModelForAudioFrameClassification"
    backbone_class = HfASTModel


__all__ = ["HfASTForAudioClassification", "HfASTForAudioFrameClassification", "HfASTModel", "HfASTPreTrainedModel"]
