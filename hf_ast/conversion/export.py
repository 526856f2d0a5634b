"""Export our models to files of the official code, and to folders of transformers' own AST."""

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ASTModel,
    AutoConfig,
    AutoFeatureExtractor,
    PreTrainedConfig,
    PreTrainedModel,
    SequenceFeatureExtractor,
)

import hf_ast
from hf_ast.choices import OtherLayout, expect_one_of
from hf_ast.models.modeling_native_common import to_native_name
from hf_ast.opening import open_safely
from hf_ast.whole import whole_file, whole_folder, written_with_os_errors

from .convert import expected_shapes
from .key_maps import ConfigField, Dropped, KeyMap, Target
from .layouts import EMBEDDINGS, FREQUENCY_TABLE, JOINT_TABLE, LAYOUTS, POSITIONS, Layout, restore_native

# Settings that the official code fixes (the number of heads by hidden size): its files do not hold them
OFFICIAL_SETTINGS = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "head_layer_norm_eps": 1e-5,
    "qkv_bias": True,
    "use_distillation_token": True,
}
OFFICIAL_HEADS = {192: 3, 384: 6, 768: 12}
# Fields that mean the same in transformers' own ASTConfig
NATIVE_FIELDS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "layer_norm_eps", "qkv_bias",
    "frequency_stride", "time_stride", "max_length", "num_mel_bins", "id2label", "label2id", "problem_type",
)  # fmt: skip
NATIVE_FRONT_END_FIELDS = (
    "sampling_rate", "num_mel_bins", "max_length", "mean", "std", "do_normalize", "return_attention_mask",
)  # fmt: skip


def export_folder(folder: Path, out: Path, layout: OtherLayout) -> list[str]:
    """Export a saved model: one of ours from the Hub or a conversion, or one that was fine-tuned from it.

    Args:
        folder: Folder that `save_pretrained` wrote.
        out: What to create: for "official" a file (.pth), for "native" a folder. It must not exist yet.
        layout: "official" (`to_official`), or "native" (`to_native_ast`, with its feature extractor).

    Returns:
        Names of the tensors that are zeros: the official loader demands them, but the model does not have them.

    Raises:
        ValueError: `out` exists, `folder` holds no complete model of ours, or the layout cannot express the model.
    """
    expect_one_of(OtherLayout, layout=layout)
    if out.exists():
        raise ValueError(f"out={str(out)!r} exists; give another name, or remove it.")
    model = open_model(folder)
    if layout == "official":
        tensors, zeros = to_official(model)
        _save(tensors, out)
        return zeros
    native = to_native_ast(model)
    front_end = to_native_front_end(open_safely(AutoFeatureExtractor, folder))
    with whole_folder(out) as partial:
        native.save_pretrained(partial)
        front_end.save_pretrained(partial)
    return []


def open_model(folder: Path) -> PreTrainedModel:
    """Open the model of a folder, by the Auto class of the architecture that its config names.

    Raises:
        ValueError: It is not one of ours, or a tensor is missing or left over.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"folder={str(folder)!r} has no config.json: `save_pretrained` and conversions make one.")
    config = open_safely(AutoConfig, folder)
    architecture = (config.architectures or [""])[0]
    model_class = getattr(hf_ast, architecture, None)
    auto_classes = {name: auto for auto, name in getattr(model_class, "_auto_classes", {}).items()}
    if architecture not in auto_classes:
        raise ValueError(f"folder={str(folder)!r} holds a {architecture or type(config).__name__}, not one of ours.")
    auto_class = getattr(transformers, auto_classes[architecture])
    model, found = open_safely(auto_class, folder, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys"):
        if found[kind]:
            raise ValueError(f"folder={str(folder)!r} has {kind.replace('_', ' ')}: {sorted(found[kind])}.")
    return model


def to_official(model: PreTrainedModel, layout: Layout | None = None) -> tuple[dict[str, Tensor], list[str]]:
    """Return a model of ours as the state dict that the official code opens, strictly.

    Training settings (dropout, patchout, ...) and labels are not part of such a file.

    Args:
        model: A model with its head, or a backbone. Tensors that need no reshaping are not copied.
        layout: One of the family's in `LAYOUTS`; by default the official one that the model's class fills, and for a
            backbone the first.

    Returns:
        The state dict, with names and order as in the official files; and the names of its tensors that are zeros,
        because the official loader demands them, but the model does not have them.

    Raises:
        ValueError: The model has a setting that the official code does not know, or tensors for which the layout has
            no place.
    """
    layout = _official_layout(model) if layout is None else layout
    if layout.restore is None or layout.derived:
        raise ValueError(f"layout={layout.name!r} can be converted to our models, but not back: values are lost.")
    config, settings = model.config, dict(OFFICIAL_SETTINGS)
    if config.hidden_size in OFFICIAL_HEADS:
        settings["num_attention_heads"] = OFFICIAL_HEADS[config.hidden_size]
    is_fpasst = isinstance(config, hf_ast.FPaSSTConfig)
    settings["use_head_norm"] = not is_fpasst
    if not isinstance(config, hf_ast.SSASTConfig):  # whose official class takes it as an argument
        settings["pooling"] = "cells" if is_fpasst else "prefix"
    if layout.model_class is hf_ast.SSASTForPreTraining:
        settings["frequency_stride"], settings["time_stride"] = config.patch_size
    _require(config, settings, f"the official {layout.name} code")
    tensors, zeros = official_tensors(model, layout)
    named = {layout.prefix + name: tensor for name, tensor in tensors.items()}
    return named, [layout.prefix + name for name in zeros]


def official_tensors(model: PreTrainedModel, layout: Layout) -> tuple[dict[str, Tensor], list[str]]:
    """Do the same as `to_official`, without the prefix and without checks of the config."""
    config = _with_all_objectives(model.config)
    tensors = {_prefix(type(model)) + name: tensor for name, tensor in model.state_dict().items()}
    expected = {
        _prefix(layout.model_class) + name: shape
        for name, shape in expected_shapes(layout.model_class, config).items()
    }
    absent = expected.keys() - tensors.keys()
    tensors |= {name: torch.zeros(expected[name], dtype=model.dtype) for name in absent}
    if layout.restore is not None:
        layout.restore(tensors, config)
    official, zeros = {}, []
    for name, target in file_names(layout.key_map, config.num_hidden_layers):
        if isinstance(target, ConfigField):
            official[name] = torch.tensor(getattr(config, target.name))
        elif isinstance(target, Dropped):
            sizes = [size if isinstance(size, int) else getattr(config, size) for size in target.shape]
            official[name] = torch.zeros(sizes, dtype=model.dtype)
            zeros.append(name)
        elif target in tensors:  # TorchOnlyAST's table is for all families at once
            official[name] = tensors.pop(target)
            zeros += [name] if target in absent else []
    if tensors:
        raise ValueError(f"The {layout.name} layout has no place for {sorted(tensors)} of {type(model).__name__}.")
    return official, zeros


def file_names(key_map: KeyMap, num_layers: int) -> Iterator[tuple[str, Target]]:
    """Yield all names of a file with that many layers, in its order, and what the key map has for each."""
    for is_layer, group in groupby(key_map, lambda pattern: "{}" in pattern):
        patterns = list(group)
        for number in range(num_layers if is_layer else 1):
            for pattern in patterns:
                target = key_map[pattern]
                yield pattern.format(number), target.format(number) if isinstance(target, str) else target


def to_native_ast(model: PreTrainedModel) -> ASTForAudioClassification | ASTModel:
    """Convert a model of ours to transformers' own `ASTForAudioClassification`, or to `ASTModel` for a backbone.

    Theirs has a single epsilon for all norms. It gets the encoder's, 1e-6, while the head's norm has 1e-5 here and in
    the official code: the normalised vector in its head is larger, before weight and bias, by the factor
    1 + 4.5e-6 / variance of the pooled vector. It has no patchout, no drop path, and no lengths but `max_length`.
    Tensors that need no reshaping are shared with `model`.

    Raises:
        ValueError: The model has a setting or tensors that `ASTConfig` cannot express.
    """
    config = model.config
    _require(config, {"pooling": "prefix", "use_distillation_token": True}, "transformers' own AST")
    height, width = config.patch_size
    if height != width:
        raise ValueError(f"config.patch_size={config.patch_size}, but transformers' own AST has square patches only.")
    tensors = {_prefix(type(model)) + name: tensor for name, tensor in model.state_dict().items()}
    if JOINT_TABLE not in tensors:
        raise ValueError(
            f"model is a {type(model).__name__} with positions per row and per column; transformers' own AST has one "
            "per patch."
        )
    restore_native(tensors, config)
    tensors[f"{EMBEDDINGS}.position_embeddings"] = tensors.pop(POSITIONS)
    named = {to_native_name(name): tensor for name, tensor in tensors.items()}
    native_class: type[ASTForAudioClassification] | type[ASTModel] = ASTForAudioClassification
    if hasattr(model, "embeddings"):
        native_class = ASTModel
        named = {name.partition(".")[2]: tensor for name, tensor in named.items()}
    native_config = ASTConfig(patch_size=height, **{name: getattr(config, name) for name in NATIVE_FIELDS})
    with torch.device("meta"):
        left_over = named.keys() - native_class(native_config).state_dict().keys()
    if left_over:
        raise ValueError(f"transformers' own AST has no place for {sorted(left_over)} of {type(model).__name__}.")
    return native_class.from_pretrained(None, config=native_config, state_dict=named)


def to_native_front_end(front_end: SequenceFeatureExtractor) -> ASTFeatureExtractor:
    """Convert our feature extractor of AST and SSAST to transformers' own, with the same statistics.

    Raises:
        ValueError: It pads differently from transformers' own, which pads with zeros before normalisation.
    """
    values = front_end.to_dict()
    if values["padding_value"] is not None:
        raise ValueError(f"padding_value={values['padding_value']}, but transformers' own AST pads with zeros only.")
    return ASTFeatureExtractor(**{name: values[name] for name in NATIVE_FRONT_END_FIELDS})


def _official_layout(model: PreTrainedModel) -> Layout:
    layouts = LAYOUTS.get(type(model.config))
    if layouts is None:
        raise ValueError(f"model is a {type(model).__name__}, but must be one of ours.")
    table = FREQUENCY_TABLE if model.config.position_table == "factorised" else POSITIONS
    fitting = [layout for layout in layouts if not layout.derived and table in layout.key_map.values()]
    for layout in fitting:
        if layout.with_fewer_heads:  # the official loader needs none of the heads
            return dataclasses.replace(layout, model_class=type(model))
    return next((layout for layout in fitting if layout.model_class is type(model)), (*fitting, *layouts)[0])


def _require(config: PreTrainedConfig, settings: Mapping[str, Any], what: str) -> None:
    for name, value in settings.items():
        if getattr(config, name) != value:
            raise ValueError(f"config.{name}={getattr(config, name)!r}, but {what} has only {value!r}.")


def _with_all_objectives(config: PreTrainedConfig) -> PreTrainedConfig:
    """Return a config whose pretraining model has both heads, as official files always do."""
    config = copy.deepcopy(config)
    for name in ("classification_loss_weight", "reconstruction_loss_weight"):
        if getattr(config, name, None) == 0:
            setattr(config, name, 1.0)
    return config


def _prefix(model_class: type[PreTrainedModel]) -> str:
    """Return the prefix that the names of a backbone lack when it is saved alone."""
    return "" if hasattr(model_class, "backbone_class") else f"{model_class.base_model_prefix}."


def _save(tensors: dict[str, Tensor], out: Path) -> None:
    """Write a file that gets its name once it is complete."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as partial, written_with_os_errors(out):
        torch.save(tensors, partial)
