"""The official checkpoint layouts, and what brings their tensors into our shapes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from hf_ast import (
    HfASTConfig,
    HfASTForAudioClassification,
    HfASTModel,
    SSASTConfig,
    SSASTForAudioClassification,
    SSASTForPreTraining,
)
from hf_ast.models.modules_positions import resize_axis

from . import key_maps

# One table for all tokens, until it is split into prefix and patch positions
POSITIONS = "backbone.embeddings.positions"


@dataclass(frozen=True)
class Layout:
    """An official layout.

    Args:
        name: For messages.
        marker: A tensor that tells it from the other layouts of the family.
        key_map: Its names and ours.
        model_class: The class that it fills completely.
        adapt: Brings tensors, already under our names, into our shapes, in place.
    """

    name: str
    marker: str
    key_map: key_maps.KeyMap
    model_class: type[PreTrainedModel]
    adapt: Callable[[dict[str, Tensor], PreTrainedConfig], None] | None = None


def adapt_image_model(renamed: dict[str, Tensor], config: PreTrainedConfig) -> None:
    """ImageNet initialisation (ast_models.py:59-113): RGB summed, square position grid cut or stretched to ours."""
    weight = "backbone.embeddings.patch_embedding.projection.weight"
    renamed[weight] = renamed[weight].sum(dim=1, keepdim=True)
    prefix, patches = renamed[POSITIONS][:, :2], renamed[POSITIONS][:, 2:]
    side = round(patches.shape[1] ** 0.5)
    if side * side != patches.shape[1]:
        raise ValueError(f"state_dict['pos_embed'] has {patches.shape[1]} patch positions, which is no square grid.")
    rows, columns = config.grid
    grid = patches.unflatten(1, (side, side))
    grid = resize_axis(resize_axis(grid, 2, columns), 1, rows)
    renamed[POSITIONS] = torch.cat((prefix, grid.flatten(1, 2)), dim=1)


def adapt_torch_only(renamed: dict[str, Tensor], config: PreTrainedConfig) -> None:
    """TorchOnlyAST adds the positions of prefix tokens to the tokens themselves, and leaves out axes of size 1."""
    for name in (
        "backbone.embeddings.cls_token",
        "backbone.embeddings.distillation_token",
        "objectives.mask_embedding",
    ):
        if name in renamed:
            renamed[name] = renamed[name].view(1, 1, -1)
    table = renamed[f"{POSITIONS}.table"]
    renamed[f"{POSITIONS}.table"] = table.permute(1, 2, 0).unsqueeze(0).contiguous()
    num_prefix_tokens = 2 if config.use_distillation_token else 1
    renamed["backbone.embeddings.prefix_positions"] = table.new_zeros(1, num_prefix_tokens, len(table))


TORCH_ONLY_MARKER = "embedding.positional_embedding"

# By the config class of the family; the first layout whose marker is there applies
LAYOUTS: dict[type[PreTrainedConfig], tuple[Layout, ...]] = {
    HfASTConfig: (
        Layout("AST", "v.pos_embed", key_maps.AST, HfASTForAudioClassification),
        Layout("DeiT", "pos_embed", key_maps.DEIT, HfASTModel, adapt_image_model),
        Layout("TorchOnlyAST", TORCH_ONLY_MARKER, key_maps.TORCH_ONLY, HfASTForAudioClassification, adapt_torch_only),
    ),
    SSASTConfig: (
        Layout("SSAST pretraining", "mask_embed", key_maps.SSAST, SSASTForPreTraining),
        Layout("SSAST", "v.pos_embed", key_maps.SSAST, SSASTForAudioClassification),
        Layout(
            "TorchOnlyAST pretraining",
            "masker.mask_embedding",
            key_maps.TORCH_ONLY,
            SSASTForPreTraining,
            adapt_torch_only,
        ),
        Layout("TorchOnlyAST", TORCH_ONLY_MARKER, key_maps.TORCH_ONLY, SSASTForAudioClassification, adapt_torch_only),
    ),
}
