"""Self-Supervised Audio Spectrogram Transformer (Gong et al. 2022, https://arxiv.org/abs/2110.09784) for transformers.

It reproduces the official code (YuanGongND/ssast, src/models/ast_models.py): pretraining, and fine-tuning with other
strides, lengths and mel bins than in pretraining.
"""

from dataclasses import dataclass
from typing import ClassVar, Unpack

import torch
from torch import Tensor
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.utils.generic import ModelOutput, TransformersKwargs, can_return_tuple

from .configuration_ssast import SSASTConfig
from .modeling_common import (
    SpectrogramForAudioClassification,
    SpectrogramForAudioFrameClassification,
    SpectrogramModel,
    SpectrogramPreTrainedModel,
)
from .modeling_native_common import native_ast_mapping
from .modules_objectives import MaskedPatchObjectives
from .modules_pretraining import pretraining_step


@dataclass
class SSASTForPreTrainingOutput(ModelOutput):
    """Output of `SSASTForPreTraining`: the fields of `MaskedPatchOutput`, hidden states and attentions if requested.

    Without `return_loss`, the total `loss` is None; the fields of an objective of weight 0 always are.
    """

    loss: Tensor | None = None
    classification_loss: Tensor | None = None
    reconstruction_loss: Tensor | None = None
    accuracy: Tensor | None = None
    classification_predictions: Tensor | None = None
    reconstructions: Tensor | None = None
    targets: Tensor | None = None
    mask_indices: Tensor | None = None
    mask_lengths: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class SSASTPreTrainedModel(SpectrogramPreTrainedModel):
    """Base class of all SSAST models: their config class, and the Auto class of each."""

    config: SSASTConfig
    config_class = SSASTConfig
    # Each class ignores the heads of the other ones in a checkpoint
    _keys_to_ignore_on_load_unexpected = [r"^objectives\.", r"^classifier\.", r"^frame_classifier\."]
    _auto_classes = {
        "AutoModel": "SSASTModel",
        "AutoModelForPreTraining": "SSASTForPreTraining",
        "AutoModelForAudioClassification": "SSASTForAudioClassification",
        "AutoModelForAudioFrameClassification": "SSASTForAudioFrameClassification",
    }


class SSASTModel(SSASTPreTrainedModel, SpectrogramModel):
    """SSAST without a head: `last_hidden_state` (B, N, D) and `pooler_output` (B, D)."""

    _auto_class = "AutoModel"


class SSASTForPreTraining(SSASTPreTrainedModel):
    """SSAST with both objectives of its pretraining: masks patches, tells them apart, and reconstructs them."""

    _auto_class = "AutoModelForPreTraining"
    backbone_class: ClassVar[type[SpectrogramModel]] = SSASTModel

    def __init__(self, config: SSASTConfig):
        super().__init__(config)
        if config.time_patchout or config.frequency_patchout or config.unstructured_patchout:
            raise ValueError(
                "time_patchout, frequency_patchout and unstructured_patchout must be 0 in SSASTForPreTraining: every "
                "masked patch is predicted, so none can be left out."
            )
        self.backbone = self.backbone_class(config)
        self.objectives = MaskedPatchObjectives(
            config.hidden_size, config.patch_sides, **config.objectives_arguments()
        )
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        mask_indices: Tensor | None = None,
        generator: torch.Generator | None = None,
        return_loss: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SSASTForPreTrainingOutput:
        """Mask patches and predict them, in training and in eval mode.

        Args:
            input_values: Normalised log-mel spectrograms, shape (B, T, M); NaN values are propagated, not refused.
            attention_mask: 1 for real frames, 0 for padding, shape (B, T). Padding is never masked.
            mask_indices: Row-major indices of the patches to mask, shape (B, K), -1 for none; patches of padding among
                them are not masked. Drawn if None.
            generator: Source of the random draw; the global one if None.
            return_loss: Whether to return `loss`. This argument tells Trainer that the model needs no labels.
        """
        if input_values is None:
            raise ValueError("input_values is required: a spectrogram of shape (B, frames, mel bins).")
        encoded, output = pretraining_step(
            self.backbone, self.objectives, input_values, attention_mask, mask_indices, generator, **kwargs
        )
        values = output._asdict() | {"loss": output.loss if return_loss else None}
        return SSASTForPreTrainingOutput(**values, hidden_states=encoded.hidden_states, attentions=encoded.attentions)


class SSASTForAudioClassification(SSASTPreTrainedModel, SpectrogramForAudioClassification):
    """SSAST with a layer norm and a linear layer on the pooled output: `logits` (B, C)."""

    _auto_class = "AutoModelForAudioClassification"
    backbone_class = SSASTModel


class SSASTForAudioFrameClassification(SSASTPreTrainedModel, SpectrogramForAudioFrameClassification):
    """SSAST with a head for each column of patches: `logits` (B, K, C), and `clip_logits` (B, C)."""

    _auto_class = "AutoModelForAudioFrameClassification"
    backbone_class = SSASTModel


for _name in ("SSASTModel", "SSASTForAudioClassification"):
    # Ports to transformers' own AST; by class name, as in `modeling_ast.py`
    register_checkpoint_conversion_mapping(_name, native_ast_mapping(), overwrite=True)

__all__ = [
    "SSASTForAudioClassification",
    "SSASTForAudioFrameClassification",
    "SSASTForPreTraining",
    "SSASTForPreTrainingOutput",
    "SSASTModel",
]
