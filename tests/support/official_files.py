"""Files of the exact layout of each released checkpoint, filled by the golden cases' deterministic generator."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from hf_ast import (
    FPaSSTForAudioFrameClassification,
    FPaSSTModel,
    HfASTForAudioClassification,
    HfASTModel,
    PaSSTForAudioClassification,
    PaSSTModel,
    SSASTForAudioClassification,
    SSASTForPreTraining,
)
from hf_ast.conversion.checkpoint import Checkpoint
from hf_ast.conversion.containers import unwrap
from hf_ast.conversion.key_maps import look_up
from hf_ast.conversion.layouts import LAYOUTS as KNOWN_LAYOUTS
from hf_ast.conversion.reference import reference_forward
from tests.support.golden_common import check
from tests.support.tiny import GEOMETRY, SIZE

# The generator of the golden cases' weights: names and shapes -> arrays
make_state_dict = check.W.make_state_dict
# Classes of a family's checkpoints: with labels, and without
MODEL_CLASSES = {
    "ast": (HfASTForAudioClassification, HfASTModel),
    "ssast": (SSASTForAudioClassification, SSASTForPreTraining),
    "passt": (PaSSTForAudioClassification, PaSSTModel),
    "fpasst": (FPaSSTForAudioFrameClassification, FPaSSTModel),
    "maest": (HfASTForAudioClassification, HfASTModel),
}
LAYOUTS = Path(__file__).parents[1] / "golden" / "layouts"
MIRRORED = {
    "ast-base-stride10.pth": "audioset_10_10_0.4593.pth",
    "multitask-ssast-patch-base-400.pth": "SSAST-Base-Patch-400.pth",
    "multitask-ssast-frame-base-400.pth": "SSAST-Base-Frame-400.pth",
    "passt-base-stride10-struct-ap0.476-swa.pth": "passt-s-f128-p16-s10-ap.476-swa.pt",
}
MICRO_PASST = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 384}
# Official names of a layer -> TorchOnlyAST's, which are those of `nn.TransformerEncoderLayer`
TORCH_ONLY_LAYER = {
    "norm1": "norm1",
    "attn.proj": "self_attn.out_proj",
    "norm2": "norm2",
    "mlp.fc1": "linear1",
    "mlp.fc2": "linear2",
}
TORCH_ONLY_REST = {
    "patch_embed.proj": "embedding.conv2d",
    "norm": "backbone.norm",
    "mlp_head.0": "head.norm",
    "mlp_head.1": "head.linear",
    "head.0": "head.norm",
    "head.1": "head.linear",
    "cpredlayer.0": "classifier.linear1",
    "cpredlayer.2": "classifier.linear2",
    "gpredlayer.0": "reconstructor.linear1",
    "gpredlayer.2": "reconstructor.linear2",
}


@cache
def layouts() -> dict[str, list[list[Any]]]:
    """Official file name -> its [name, shape, dtype] in order."""
    found = {}
    for path in LAYOUTS.glob("*.json"):
        layout = json.loads(path.read_text())
        # The layouts of fPaSST are those of the public model; the official loader expects files without its name
        tensors = [[name.replace("model.fpasst.", "model."), *rest] for name, *rest in layout["tensors"]]
        found |= dict.fromkeys(layout["released_files"], tensors)
    ablations = found.pop("audio_model_{100m,dis,gen,as20k,as,librispeech}.pth (ablations)")
    for name in ("100m", "dis", "gen", "as20k", "as", "librispeech"):
        found[f"audio_model_{name}.pth"] = ablations
    # Not recorded, but known: another number of classes, another number of image patches
    for fold, accuracy in enumerate((967, 977, 959, 987, 962), start=1):
        found[f"esc50-passt-s-n-f128-p16-s10-fold{fold}-acc.{accuracy}.pt"] = [
            [name, [50 if size == 527 else size for size in shape], dtype]
            for name, shape, dtype in found["passt-s-f128-p16-s10-ap.476-swa.pt"]
        ]
    found["deit_base_distilled_patch16_224-df68dfff.pth"] = [
        [name, [1, 2 + 14 * 14, 768] if name == "pos_embed" else shape, dtype]
        for name, shape, dtype in found["deit_base_distilled_patch16_384-d0272ac0.pth"]
    ]
    return found


def official_content(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the file of a checkpoint holds: nested and named as the official one."""
    name = checkpoint.file_name
    tensors = make_state_dict(layouts()[MIRRORED.get(name, name)])
    content = {key: torch.as_tensor(value) for key, value in tensors.items()}
    if name in MIRRORED:
        return {"model": torch_only(content), "resolved_config": {"model": {"_target_": "torch_only_ast.models"}}}
    return {"model": content} if name.startswith("deit") else content


def small_content(
    name: str,
    *,
    num_layers: int,
    sizes: Mapping[int, int] = MappingProxyType({}),
    shapes: Mapping[str, list[int]] = MappingProxyType({}),
) -> dict[str, Any]:
    """What the file of that name would hold with that many layers, other sizes of its axes, and other shapes."""
    tensors = [
        [key, shapes.get(key, [sizes.get(size, size) for size in shape]), dtype]
        for key, shape, dtype in layouts()[MIRRORED.get(name, name)]
        if (layer := layer_of(key)) is None or layer < num_layers
    ]
    content = {key: torch.as_tensor(value) for key, value in make_state_dict(tensors).items()}
    if name in MIRRORED:
        return {"model": torch_only(content)}
    return {"model": content} if name.startswith("deit") else content


def layer_of(name: str) -> int | None:
    """Number of the layer that a tensor of an official file belongs to; None if to no layer."""
    maps = [layout.key_map for family in KNOWN_LAYOUTS.values() for layout in family]
    numbers = (look_up(name.removeprefix("module."), key_map)[1] for key_map in maps)
    return next((number for number in numbers if number is not None), None)


def tiny_ast_content(num_labels: int = 5) -> dict[str, Any]:
    """What the official code would save of an AST in the size and geometry of `tiny`."""
    return small_content(
        "speechcommands_10_10_0.9812.pth",
        num_layers=SIZE["num_hidden_layers"],
        sizes={768: 32, 2304: 96, 3072: 48, 35: num_labels},
        shapes={"module.v.patch_embed.proj.weight": [32, 1, 8, 6], "module.v.pos_embed": [1, 2 + 5 * 12, 32]},
    )


def unwrapped(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file of any family, under the names of its layout."""
    return unwrap(content, [layout for family in KNOWN_LAYOUTS.values() for layout in family]).tensors


def tiny_ast_outputs(input_values: Tensor) -> dict[str, Tensor]:
    """`last_hidden_state` and `logits` of that AST for spectrograms (B, 50, 32), computed without our models."""
    stride = (GEOMETRY["frequency_stride"], GEOMETRY["time_stride"])
    tensors = unwrapped(tiny_ast_content())
    return reference_forward(tensors, input_values, num_heads=SIZE["num_attention_heads"], stride=stride)


def micro_passt_content() -> dict[str, Any]:
    """What the official code saved of its PaSST in the size `MICRO_PASST`."""
    layout = json.loads((LAYOUTS / "passt_micro.json").read_text())
    return {key: torch.as_tensor(value) for key, value in make_state_dict(layout["tensors"]).items()}


def layout_key(checkpoint: Checkpoint) -> str:
    """The same for checkpoints whose files hold the same."""
    name = checkpoint.file_name
    return json.dumps([name in MIRRORED, name.startswith("deit"), layouts()[MIRRORED.get(name, name)]])


def write_official_file(checkpoint: Checkpoint, folder: Path) -> Path:
    """The file of a checkpoint, under its official name."""
    path = folder / checkpoint.file_name
    torch.save(official_content(checkpoint), path)
    return path


def torch_only(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights as TorchOnlyAST holds them: no leftovers, prefix positions added to the tokens, no axes of 1."""
    tensors = {key.removeprefix("module.").removeprefix("v."): value for key, value in official.items()}
    mirrored = {}
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        if name.startswith("blocks."):
            _, number, inner = module.split(".", 2)
            target = f"backbone.layers.{number}"
            if inner == "attn.qkv":
                mirrored[f"{target}.self_attn.in_proj_{kind}"] = tensor
            else:
                mirrored[f"{target}.{TORCH_ONLY_LAYER[inner]}.{kind}"] = tensor
        elif module in TORCH_ONLY_REST:
            mirrored[f"{TORCH_ONLY_REST[module]}.{kind}"] = tensor
    if "mask_embed" in tensors:
        mirrored["masker.mask_embedding"] = tensors["mask_embed"].flatten()
    if "pos_embed" in tensors:
        prefix, patches = tensors["pos_embed"].split((2, tensors["pos_embed"].shape[1] - 2), dim=1)
        height = tensors["patch_embed.proj.weight"].shape[2]
        stride = height if "mask_embed" in tensors else 10
        rows = (128 - height) // stride + 1
        mirrored["embedding.positional_embedding"] = patches[0].T.unflatten(1, (rows, -1)).contiguous()
    else:
        prefix = tensors["new_pos_embed"]
        mirrored["embedding.frequency_embedding"] = tensors["freq_new_pos_embed"][0, :, :, 0].clone()
        mirrored["embedding.time_embedding"] = tensors["time_new_pos_embed"][0, :, 0, :].clone()
    mirrored["embedding.cls_token"] = (tensors["cls_token"] + prefix[:, :1]).flatten()
    mirrored["embedding.dist_token"] = (tensors["dist_token"] + prefix[:, 1:]).flatten()
    return mirrored
