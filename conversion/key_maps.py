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

# YuanGongND/ssast, src/models/ast_models.py. Pretraining files, and those of fine-tuning, which have another head.
# The geometry of the pretraining is in the config; its patch shape and table size are checked by the shapes.
SSAST: KeyMap = {
    **AST,
    "p_input_fdim": None,
    "p_input_tdim": None,
    "mask_embed": "objectives.mask_embedding",
    **_weight_and_bias(
        {
            "cpredlayer.0": "objectives.classification_head.fc1",
            "cpredlayer.2": "objectives.classification_head.fc2",
            "gpredlayer.0": "objectives.reconstruction_head.fc1",
            "gpredlayer.2": "objectives.reconstruction_head.fc2",
        }
    ),
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
