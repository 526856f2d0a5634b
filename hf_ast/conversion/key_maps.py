"""Official parameter names -> ours, one table per layout, in the order of the official files.

`{}` stands for a layer number. A tensor that our models do not keep is mapped to `Dropped` or `ConfigField` instead of
a name. A name that no table lists is an error.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Dropped:
    """A tensor that is left out on purpose.

    Args:
        reason: Why it is left out.
        shape: Its sizes, as numbers or names of config fields. Exports need them, because the official loader demands
            the tensor.
    """

    reason: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class ConfigField:
    """A number that the file holds as a tensor, and our model as a field of its config."""

    name: str


@dataclass(frozen=True)
class Ignored:
    """A tensor that a file may have, that is left out on purpose, and that the official loader makes itself.

    Args:
        reason: Why it is left out.
    """

    reason: str


Target = str | Dropped | ConfigField | Ignored
KeyMap = Mapping[str, Target]


def look_up(name: str, key_map: KeyMap) -> tuple[Target | None, int | None]:
    """Return what a key map has for the name of a tensor, and the number of its layer.

    The first is None if the map does not list the name, the second if the tensor belongs to no layer.
    """
    if name in key_map:
        return key_map[name], None
    for number in re.finditer(r"(?<=\.)\d+(?=\.)", name):
        target = key_map.get(f"{name[: number.start()]}{{}}{name[number.end() :]}")
        if target is not None:
            return target.format(number[0]) if isinstance(target, str) else target, int(number[0])
    return None, None


def _with_prefix(key_map: KeyMap, source: str, target: str) -> KeyMap:
    return {source + key: target + name if isinstance(name, str) else name for key, name in key_map.items()}


def _weight_and_bias(names: Mapping[str, str]) -> KeyMap:
    return {f"{source}.{kind}": f"{target}.{kind}" for source, target in names.items() for kind in ("weight", "bias")}


def _dropped_head(name: str, num_classes: int | str, reason: str) -> KeyMap:
    return {
        f"{name}.weight": Dropped(reason, (num_classes, "hidden_size")),
        f"{name}.bias": Dropped(reason, (num_classes,)),
    }


# A distilled ViT of timm 0.4.5 without its tokens and positions
VIT: KeyMap = _weight_and_bias(
    {
        "patch_embed.proj": "embeddings.patch_embedding.projection",
        "blocks.{}.norm1": "layers.{}.norm1",
        "blocks.{}.attn.qkv": "layers.{}.attention.qkv",
        "blocks.{}.attn.proj": "layers.{}.attention.proj",
        "blocks.{}.norm2": "layers.{}.norm2",
        "blocks.{}.mlp.fc1": "layers.{}.feed_forward.fc1",
        "blocks.{}.mlp.fc2": "layers.{}.feed_forward.fc2",
        "norm": "norm",
    }
)

# One table for all positions: "positions" is split into prefix and patch positions after the renaming
IMAGE_VIT: KeyMap = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.positions",
    "dist_token": "embeddings.distillation_token",
    **VIT,
    **_dropped_head("head", 1000, "classes of ImageNet, never used on sounds"),
    **_dropped_head("head_dist", 1000, "classes of ImageNet, never used on sounds"),
}

# facebookresearch/deit, deit_*_distilled_patch16_*.pth
DEIT: KeyMap = _with_prefix(IMAGE_VIT, "", "backbone.")

# YuanGongND/ast, src/models/ast_models.py; what fine-tuning of YuanGongND/ssast saves has the same names
AST: KeyMap = {
    **_with_prefix(IMAGE_VIT, "v.", "backbone."),
    **_weight_and_bias({"mlp_head.0": "classifier.norm", "mlp_head.1": "classifier.linear"}),
}

# YuanGongND/ssast, src/models/ast_models.py: pretraining
SSAST: KeyMap = {
    "p_input_fdim": ConfigField("num_mel_bins"),
    "p_input_tdim": ConfigField("max_length"),
    "mask_embed": "objectives.mask_embedding",
    **_with_prefix(IMAGE_VIT, "v.", "backbone."),
    **_weight_and_bias(
        {
            "cpredlayer.0": "objectives.classification_head.fc1",
            "cpredlayer.2": "objectives.classification_head.fc2",
            "gpredlayer.0": "objectives.reconstruction_head.fc1",
            "gpredlayer.2": "objectives.reconstruction_head.fc2",
        }
    ),
}

# kkoutini/PaSST, models/passt.py, and kkoutini/passt_hear21
PASST: KeyMap = {
    **_with_prefix(
        {
            "cls_token": "embeddings.cls_token",
            "dist_token": "embeddings.distillation_token",
            "new_pos_embed": "embeddings.prefix_positions",
            "freq_new_pos_embed": "embeddings.positions.frequency_table",
            "time_new_pos_embed": "embeddings.positions.time_table",
            **VIT,
        },
        "",
        "backbone.",
    ),
    **_weight_and_bias({"head.0": "classifier.norm", "head.1": "classifier.linear"}),
    **_dropped_head("head_dist", "num_labels", "a second head that no forward pass of the official code uses"),
}


def _fpasst(prefix: str) -> KeyMap:
    """fschmid56/PretrainedSED, models/frame_passt/fpasst.py and models/prediction_wrapper.py."""
    stem = {f"conv_in_{number}": f"embeddings.patch_embedding.stem.{number - 1}" for number in (1, 2, 3)}
    return {
        **_with_prefix(
            {
                "cls_token": "embeddings.cls_token",
                "dist_token": "embeddings.distillation_token",
                "new_pos_embed": "embeddings.prefix_positions",
                "freq_new_pos_embed": "embeddings.positions.frequency_table",
                "time_new_pos_embed": "embeddings.positions.time_table",
                **_weight_and_bias(stem),
                **VIT,
            },
            prefix,
            "backbone.",
        ),
        **_weight_and_bias({"strong_head": "frame_classifier.linear", "weak_head": "classifier.linear"}),
    }


# The released files, the public model, and the backbone alone
FPASST_FILE, FPASST_MODEL, FPASST_BACKBONE = _fpasst("model."), _fpasst("model.fpasst."), _fpasst("")
# palonso/MAEST, models/maest.py: the names of PaSST. What it saves today holds its front end for raw audio as well
_MAEST_FRONT_END = Ignored("a constant of the official front end")
MAEST: KeyMap = {
    **PASST,
    "melspectrogram.spec.window": _MAEST_FRONT_END,
    "melspectrogram.mel_scale.fb": _MAEST_FRONT_END,
}

# tky823/TorchOnlyAST, around `nn.TransformerEncoder`: all families, with or without a head
TORCH_ONLY: KeyMap = {
    "embedding.cls_token": "backbone.embeddings.cls_token",
    "embedding.dist_token": "backbone.embeddings.distillation_token",
    "embedding.positional_embedding": "backbone.embeddings.positions.table",
    "embedding.frequency_embedding": "backbone.embeddings.positions.frequency_table",
    "embedding.time_embedding": "backbone.embeddings.positions.time_table",
    "backbone.layers.{}.self_attn.in_proj_weight": "backbone.layers.{}.attention.qkv.weight",
    "backbone.layers.{}.self_attn.in_proj_bias": "backbone.layers.{}.attention.qkv.bias",
    "masker.mask_embedding": "objectives.mask_embedding",
    **_weight_and_bias(
        {
            "embedding.conv2d": "backbone.embeddings.patch_embedding.projection",
            "backbone.layers.{}.norm1": "backbone.layers.{}.norm1",
            "backbone.layers.{}.self_attn.out_proj": "backbone.layers.{}.attention.proj",
            "backbone.layers.{}.norm2": "backbone.layers.{}.norm2",
            "backbone.layers.{}.linear1": "backbone.layers.{}.feed_forward.fc1",
            "backbone.layers.{}.linear2": "backbone.layers.{}.feed_forward.fc2",
            "backbone.norm": "backbone.norm",
            "head.norm": "classifier.norm",
            "head.linear": "classifier.linear",
            "classifier.linear1": "objectives.classification_head.fc1",
            "classifier.linear2": "objectives.classification_head.fc2",
            "reconstructor.linear1": "objectives.reconstruction_head.fc1",
            "reconstructor.linear2": "objectives.reconstruction_head.fc2",
        }
    ),
}
