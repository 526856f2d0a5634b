"""Masked-patch pretraining of a spectrogram transformer, in plain torch.

Example:
    backbone = SpectrogramTransformer(frequency_stride=16, time_stride=16, pooling="mean")
    model = MaskedPatchPretraining(backbone)
    model(input_values).loss.backward()
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .modules_embeddings import SpectrogramEmbeddings, move_to_start
from .modules_masking import masked_grid, without_padding
from .modules_objectives import OBJECTIVES_ARGUMENTS, MaskedPatchObjectives, MaskedPatchOutput
from .modules_transformer import SpectrogramTransformer, initialize_weights


class MaskedPatchPretraining(nn.Module):
    """A backbone and the objectives of SSAST, with the parameter names of `SSASTForPreTraining`.

    Args:
        backbone: A backbone whose strides equal its patch size.
        objectives: Keyword arguments of `MaskedPatchObjectives`.
    """

    def __init__(self, backbone: SpectrogramTransformer, **objectives: Any):
        super().__init__()
        self.backbone = backbone
        self.objectives = MaskedPatchObjectives(backbone.hidden_size, backbone.embeddings.patch_size, **objectives)
        self.objectives.apply(initialize_weights)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "MaskedPatchPretraining":
        """Build the pretraining model that a config.json of SSAST describes.

        Args:
            config: Content of the file, as `json.load` returns it. Fields that are not arguments are ignored.
        """
        objectives = {name: config[field] for field, name in OBJECTIVES_ARGUMENTS.items() if field in config}
        return cls(SpectrogramTransformer.from_config(config), **objectives)

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        mask_indices: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> MaskedPatchOutput:
        """One pretraining step on normalised log-mel spectrograms (B, T, M); arguments as in `pretraining_step`."""
        _, output = pretraining_step(
            self.backbone, self.objectives, input_values, attention_mask, mask_indices, generator
        )
        return output


class Backbone(Protocol):
    """The backbone that `pretraining_step` takes: `SpectrogramTransformer`, or a transformers model like it."""

    embeddings: SpectrogramEmbeddings

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Arguments of `SpectrogramTransformer.forward`; the result has `last_hidden_state`."""


def pretraining_step(
    backbone: Backbone,
    objectives: MaskedPatchObjectives,
    input_values: Tensor,
    attention_mask: Tensor | None = None,
    mask_indices: Tensor | None = None,
    generator: torch.Generator | None = None,
    **kwargs: Any,
) -> tuple[Any, MaskedPatchOutput]:
    """Mask patches, encode the clips, and predict the masked patches.

    Args:
        backbone: A backbone whose strides equal its patch size.
        objectives: Masking and losses.
        input_values: Normalised log-mel spectrograms, shape (B, T, M).
        attention_mask: 1 for real frames, 0 for padding, shape (B, T). Padding is never masked.
        mask_indices: Row-major indices of the patches to mask, shape (B, K), -1 for none; patches of padding among
            them are not masked. Drawn if None.
        generator: Source of the random draw; the global one if None.
        kwargs: Further arguments of the backbone.

    Returns:
        Outputs of the backbone and of the objectives.
    """
    embeddings = backbone.embeddings
    embeddings.check(input_values, attention_mask)
    if tuple(embeddings.stride) != tuple(embeddings.patch_size):
        raise ValueError(
            f"frequency_stride and time_stride are {embeddings.stride}, but pretraining needs patches that do not "
            f"overlap, with strides equal to patch_size={tuple(embeddings.patch_size)}; load the model with these."
        )
    if attention_mask is None:
        frame_mask = torch.ones_like(input_values[..., 0])
    else:  # as the backbone does, because the targets are taken from these frames
        input_values, attention_mask = move_to_start(input_values, attention_mask)
        frame_mask = attention_mask
    column_mask = embeddings.column_mask(frame_mask)
    if mask_indices is None:
        mask_indices = objectives.draw_mask(column_mask, embeddings.num_rows, generator)
    else:
        mask_indices = without_padding(mask_indices, column_mask, embeddings.num_rows)
    outputs = backbone(
        input_values,
        attention_mask=attention_mask,
        masked_patches=masked_grid(mask_indices, embeddings.num_rows, column_mask.shape[1]),
        mask_embedding=objectives.mask_embedding,
        **kwargs,
    )
    patch_tokens = outputs.last_hidden_state[:, embeddings.num_prefix_tokens :]
    return outputs, objectives(patch_tokens, input_values, mask_indices)
