"""Official parameter names -> ours, one table per layout.

`{}` stands for a layer number. None marks a tensor that is dropped on purpose, with the reason beside it. A name that
no table knows is an error.
"""

from collections.abc import Mapping

KeyMap = Mapping[str, str | None]


def _with_prefix(key_map: KeyMap, source: str, target: str = "") -> KeyMap:
    return {source + key: None if name is None else target + name for key, name in key_map.items()}


def _weight_and_bias(names: Mapping[str, str | None]) -> KeyMap:
    return {
        f"{source}.{kind}": None if target is None else f"{target}.{kind}"
        for source, target in names.items()
        for kind in ("weight", "bias")
    }


# A distilled ViT of timm 0.4.5 without its positions, which each layout keeps in another way
VIT: KeyMap = {
    "cls_token": "embeddings.cls_token",
    "dist_token": "embeddings.distillation_token",
    **_weight_and_bias(
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
    ),
}

# 1000 ImageNet classes: left over from the initialisation, never used
IMAGENET_HEADS = _weight_and_bias({"head": None, "head_dist": None})

# "positions" is split into prefix and patch positions after the renaming
JOINT_POSITIONS: KeyMap = {"pos_embed": "embeddings.positions"}

# facebookresearch/deit, deit_*_distilled_patch16_*.pth
DEIT: KeyMap = _with_prefix({**VIT, **JOINT_POSITIONS, **IMAGENET_HEADS}, "", "backbone.")

# YuanGongND/ast, src/models/ast_models.py
AST: KeyMap = {
    **_with_prefix({**VIT, **JOINT_POSITIONS, **IMAGENET_HEADS}, "v.", "backbone."),
    **_weight_and_bias({"mlp_head.0": "classifier.norm", "mlp_head.1": "classifier.linear"}),
}

# kkoutini/PaSST, models/passt.py, and kkoutini/passt_hear21. The second head is in every file, and used by no forward
PASST: KeyMap = {
    **_with_prefix(
        {
            **VIT,
            "new_pos_embed": "embeddings.prefix_positions",
            "freq_new_pos_embed": "embeddings.positions.frequency_table",
            "time_new_pos_embed": "embeddings.positions.time_table",
        },
        "",
        "backbone.",
    ),
    **_weight_and_bias({"head.0": "classifier.norm", "head.1": "classifier.linear", "head_dist": None}),
}

# tky823/TorchOnlyAST, torch_only_ast/models/passt.py
TORCH_ONLY_PASST: KeyMap = {
    "embedding.cls_token": "backbone.embeddings.cls_token",
    "embedding.dist_token": "backbone.embeddings.distillation_token",
    "embedding.frequency_embedding": "backbone.embeddings.positions.frequency_table",
    "embedding.time_embedding": "backbone.embeddings.positions.time_table",
    "backbone.layers.{}.self_attn.in_proj_weight": "backbone.layers.{}.attention.qkv.weight",
    "backbone.layers.{}.self_attn.in_proj_bias": "backbone.layers.{}.attention.qkv.bias",
    **_weight_and_bias(
        {
            "embedding.conv2d": "backbone.embeddings.patch_embedding.projection",
            "backbone.layers.{}.self_attn.out_proj": "backbone.layers.{}.attention.proj",
            "backbone.layers.{}.linear1": "backbone.layers.{}.feed_forward.fc1",
            "backbone.layers.{}.linear2": "backbone.layers.{}.feed_forward.fc2",
            "backbone.layers.{}.norm1": "backbone.layers.{}.norm1",
            "backbone.layers.{}.norm2": "backbone.layers.{}.norm2",
            "backbone.norm": "backbone.norm",
            "head.norm": "classifier.norm",
            "head.linear": "classifier.linear",
        }
    ),
}
