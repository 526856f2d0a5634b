"""The official checkpoint layouts, and how their tensors are reshaped to ours and back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from hf_ast import (
    FPaSSTConfig,
    FPaSSTForAudioClassification,
    FPaSSTForAudioFrameClassification,
    FPaSSTModel,
    HfASTConfig,
    HfASTForAudioClassification,
    HfASTModel,
    PaSSTConfig,
    PaSSTForAudioClassification,
    PaSSTModel,
    SSASTConfig,
    SSASTForAudioClassification,
    SSASTForPreTraining,
)
from hf_ast.models.modules_conv_stem import NUM_CHANNELS
from hf_ast.models.modules_positions import resize_axis

from . import key_maps

EMBEDDINGS = "backbone.embeddings"
PREFIX_POSITIONS = f"{EMBEDDINGS}.prefix_positions"
# One table for all tokens, until it is split into prefix and patch positions
POSITIONS = f"{EMBEDDINGS}.positions"
JOINT_TABLE = f"{POSITIONS}.table"
FREQUENCY_TABLE = f"{POSITIONS}.frequency_table"
TIME_TABLE = f"{POSITIONS}.time_table"
PROJECTION = f"{EMBEDDINGS}.patch_embedding.projection.weight"
Adaptation = Callable[[dict[str, Tensor], PreTrainedConfig], None]


@dataclass(frozen=True)
class Layout:
    """An official layout.

    Args:
        name: Name of the layout in messages.
        marker: Name of a tensor that tells the layout from the others of the family.
        key_map: Official names and ours.
        model_class: The class whose parameters the layout fills completely.
        adapt: Reshapes tensors, already under our names, in place. It skips tensors that are missing, so that all
            missing ones can be reported together.
        restore: The inverse of `adapt`; None if there is none.
        prefix: Prefix of the names in official files.
        random: Beginnings of the names of our tensors that the official code leaves random.
        with_fewer_heads: Classes for files that lack the head of `model_class`, in the order in which they are tried.
        derived: Tensors in official files that `restore` cannot bring back, and how they were changed.
        new: Our tensors that are not in official files; they are zeros.
    """

    name: str
    marker: str
    key_map: key_maps.KeyMap
    model_class: type[PreTrainedModel]
    adapt: Adaptation
    restore: Adaptation | None
    prefix: str = ""
    random: tuple[str, ...] = ()
    with_fewer_heads: tuple[type[PreTrainedModel], ...] = ()
    derived: Mapping[str, str] = field(default_factory=dict)
    new: tuple[str, ...] = ()


def split_positions(renamed: dict[str, Tensor], config: PreTrainedConfig) -> None:
    """One table (1, P + F' * T', D) -> prefix positions (1, P, D) and patch positions (1, F', T', D)."""
    if POSITIONS not in renamed:
        return
    table = renamed.pop(POSITIONS)
    num_prefix_tokens = 2 if config.use_distillation_token else 1
    rows, columns = config.grid
    if table.shape[1] != num_prefix_tokens + rows * columns:
        raise ValueError(
            f"state_dict['pos_embed'] holds {table.shape[1]} positions, config describes {num_prefix_tokens} + {rows} "
            f"x {columns}; give the config the strides, max_length and num_mel_bins of the checkpoint (for another "
            "geometry, load the converted model with `from_pretrained(..., max_length=...)`)."
        )
    renamed[PREFIX_POSITIONS] = table[:, :num_prefix_tokens].clone()
    renamed[JOINT_TABLE] = table[:, num_prefix_tokens:].unflatten(1, (rows, columns)).clone()


def join_positions(tensors: dict[str, Tensor], config: PreTrainedConfig) -> None:
    """Invert `split_positions`."""
    tensors[POSITIONS] = torch.cat((tensors.pop(PREFIX_POSITIONS), tensors.pop(JOINT_TABLE).flatten(1, 2)), dim=1)


def adapt_image_model(renamed: dict[str, Tensor], config: PreTrainedConfig) -> None:
    """Initialise as AST does (ast_models.py:59-113): sum RGB, cut or interpolate the square position grid."""
    prefix, grid = _split_image_model(renamed)
    rows, columns = config.grid
    grid = resize_axis(resize_axis(grid, 2, columns), 1, rows)
    renamed[PREFIX_POSITIONS] = prefix.clone()
    renamed[JOINT_TABLE] = grid.contiguous()


def adapt_passt(renamed: dict[str, Tensor], config: PreTrainedConfig) -> None:
    """Channels-first tables (1, D, F', 1) and (1, D, 1, T') -> (1, F', 1, D) and (1, 1, T', D)."""
    for name in (FREQUENCY_TABLE, TIME_TABLE):
        if name in renamed:
            renamed[name] = renamed[name].permute(0, 2, 3, 1).contiguous()


def restore_passt(tensors: dict[str, Tensor], config: PreTrainedConfig) -> None:
    """Invert `adapt_passt`."""
    for name in (FREQUENCY_TABLE, TIME_TABLE):
        tensors[name] = tensors[name].permute(0, 3, 1, 2).contiguous()


def adapt_passt_image_model(renamed: dict[str, Tensor], config: PreTrainedConfig) -> None:
    """Initialise as PaSST does (passt.py:656-706): sum RGB, resize positions, average over each axis.

    As in the official code, both tables contain the mean over the whole grid, so the model adds it twice.
    """
    prefix, grid = _split_image_model(renamed)
    channels_first = nn.functional.interpolate(
        grid.permute(0, 3, 1, 2), size=config.position_grid, mode="bicubic", align_corners=False
    )
    grid = channels_first.permute(0, 2, 3, 1)
    renamed[PREFIX_POSITIONS] = prefix.clone()
    renamed[FREQUENCY_TABLE] = grid.mean(dim=2, keepdim=True)
    renamed[TIME_TABLE] = grid.mean(dim=1, keepdim=True)


def adapt_fpasst_image_model(renamed: dict[str, Tensor], config: PreTrainedConfig) -> None:
    """Initialise as fPaSST does (fpasst.py:600-648, vit_helpers.py:26-147).

    The three colours are repeated up to the channels of the stem, each kernel is read row by row as one of 128 x 2,
    and the position grid is resized to a single row. The stem stays random.
    """
    if PROJECTION in renamed:
        weight = renamed[PROJECTION]
        colours = torch.arange(NUM_CHANNELS) % weight.shape[1]
        scaled = weight[:, colours] * (weight.shape[1] / NUM_CHANNELS)
        renamed[PROJECTION] = scaled.reshape(len(weight), NUM_CHANNELS, -1, 2)
    prefix, grid = _split_image_positions(renamed)
    channels_first = nn.functional.interpolate(
        grid.permute(0, 3, 1, 2), size=config.position_grid, mode="bicubic", align_corners=False
    )
    row = channels_first.permute(0, 2, 3, 1).contiguous()
    renamed[PREFIX_POSITIONS] = prefix.clone()
    renamed[FREQUENCY_TABLE] = row.mean(dim=2, keepdim=True)
    renamed[TIME_TABLE] = row


def adapt_torch_only(renamed: dict[str, Tensor], config: PreTrainedConfig) -> None:
    """TorchOnlyAST leaves out axes of size 1, and adds the positions of prefix tokens to the tokens themselves.

    Its tables are (D, F', T'), or (D, F') and (D, T').
    """
    for name in (f"{EMBEDDINGS}.cls_token", f"{EMBEDDINGS}.distillation_token", "objectives.mask_embedding"):
        if name in renamed:
            renamed[name] = renamed[name].view(1, 1, -1)
    if JOINT_TABLE in renamed:
        renamed[JOINT_TABLE] = renamed[JOINT_TABLE].permute(1, 2, 0).unsqueeze(0).contiguous()
    for name, axis in ((FREQUENCY_TABLE, 2), (TIME_TABLE, 1)):
        if name in renamed:
            renamed[name] = renamed[name].T.unsqueeze(0).unsqueeze(axis).contiguous()
    num_prefix_tokens = 2 if config.use_distillation_token else 1
    renamed[PREFIX_POSITIONS] = torch.zeros(1, num_prefix_tokens, config.hidden_size)


def restore_torch_only(tensors: dict[str, Tensor], config: PreTrainedConfig) -> None:
    """Invert `adapt_torch_only`; prefix positions other than zero are added to the tokens."""
    prefix_positions = tensors.pop(PREFIX_POSITIONS)
    for index, name in enumerate((f"{EMBEDDINGS}.cls_token", f"{EMBEDDINGS}.distillation_token")):
        if name in tensors:
            tensors[name] = (tensors[name] + prefix_positions[:, index]).flatten()
    if "objectives.mask_embedding" in tensors:
        tensors["objectives.mask_embedding"] = tensors["objectives.mask_embedding"].flatten()
    if JOINT_TABLE in tensors:
        tensors[JOINT_TABLE] = tensors[JOINT_TABLE].squeeze(0).permute(2, 0, 1).contiguous()
    for name, axis in ((FREQUENCY_TABLE, 2), (TIME_TABLE, 1)):
        if name in tensors:
            tensors[name] = tensors[name].squeeze(axis).squeeze(0).T.contiguous()


def restore_native(tensors: dict[str, Tensor], config: PreTrainedConfig) -> None:
    """Reshape for transformers' own AST: one position table, and separate query, key and value projections."""
    join_positions(tensors, config)
    for name in [name for name in tensors if ".attention.qkv." in name]:
        for projection, part in zip(("q_proj", "k_proj", "v_proj"), tensors.pop(name).chunk(3), strict=True):
            tensors[name.replace("qkv", projection)] = part.clone()


def _split_image_model(renamed: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Sum the patch weights over RGB; return the positions of the prefix (1, 2, D) and the grid (1, n, n, D)."""
    if PROJECTION in renamed:
        renamed[PROJECTION] = renamed[PROJECTION].sum(dim=1, keepdim=True)
    return _split_image_positions(renamed)


def _split_image_positions(renamed: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Take out the positions of the prefix (1, 2, D) and of the square grid (1, n, n, D)."""
    positions = renamed.pop(POSITIONS)
    prefix, patches = positions[:, :2], positions[:, 2:]
    side = round(patches.shape[1] ** 0.5)
    if side * side != patches.shape[1]:
        raise ValueError(
            f"state_dict['pos_embed'] has {patches.shape[1]} patch positions, which do not form a square grid."
        )
    return prefix, patches.unflatten(1, (side, side))


def _joint(name: str, marker: str, key_map: key_maps.KeyMap, model_class: type[PreTrainedModel]) -> Layout:
    return Layout(name, marker, key_map, model_class, split_positions, join_positions, prefix="module.")


def _torch_only(marker: str, model_class: type[PreTrainedModel]) -> Layout:
    return Layout(
        "TorchOnlyAST",
        marker,
        key_maps.TORCH_ONLY,
        model_class,
        adapt_torch_only,
        restore_torch_only,
        new=(PREFIX_POSITIONS,),
    )


# Layouts by the config class of the family; the first one whose marker is in the file applies
LAYOUTS: dict[type[PreTrainedConfig], tuple[Layout, ...]] = {
    HfASTConfig: (
        _joint("AST", "v.pos_embed", key_maps.AST, HfASTForAudioClassification),
        Layout(
            "DeiT",
            "pos_embed",
            key_maps.DEIT,
            HfASTModel,
            adapt_image_model,
            join_positions,
            derived={
                "patch_embed.proj.weight": "summed over the three colours",
                "pos_embed": "cut or stretched from the image's grid to the spectrogram's",
            },
        ),
        Layout("MAEST", "time_new_pos_embed", key_maps.MAEST, HfASTForAudioClassification, adapt_passt, restore_passt),
        _torch_only("embedding.positional_embedding", HfASTForAudioClassification),
    ),
    SSASTConfig: (
        _joint("SSAST pretraining", "mask_embed", key_maps.SSAST, SSASTForPreTraining),
        _joint("SSAST", "v.pos_embed", key_maps.AST, SSASTForAudioClassification),
        _torch_only("masker.mask_embedding", SSASTForPreTraining),
        _torch_only("embedding.positional_embedding", SSASTForAudioClassification),
    ),
    PaSSTConfig: (
        Layout("PaSST", "time_new_pos_embed", key_maps.PASST, PaSSTForAudioClassification, adapt_passt, restore_passt),
        Layout("DeiT", "pos_embed", key_maps.DEIT, PaSSTModel, adapt_passt_image_model, None),
        _torch_only("embedding.time_embedding", PaSSTForAudioClassification),
    ),
    FPaSSTConfig: (
        *(
            Layout(
                name,
                f"{prefix}conv_in_1.weight",
                key_map,
                FPaSSTForAudioFrameClassification,
                adapt_passt,
                restore_passt,
                with_fewer_heads=(FPaSSTForAudioClassification,),
            )
            for name, prefix, key_map in (
                ("fPaSST", "model.", key_maps.FPASST_FILE),
                ("fPaSST model", "model.fpasst.", key_maps.FPASST_MODEL),
                ("fPaSST backbone", "", key_maps.FPASST_BACKBONE),
            )
        ),
        Layout(
            "DeiT",
            "pos_embed",
            key_maps.DEIT,
            FPaSSTModel,
            adapt_fpasst_image_model,
            None,
            random=(f"{EMBEDDINGS}.patch_embedding.stem.",),
        ),
    ),
}
