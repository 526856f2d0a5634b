"""Convert a state dict in an official layout to one of our models."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from .containers import Unwrapped, unwrap
from .key_maps import look_up
from .layouts import LAYOUTS, Layout

# Top-level names of the heads, of which a class may have one or none
HEADS = ("classifier", "frame_classifier", "objectives")


def convert_checkpoint(
    state_dict: Mapping[str, Any],
    config: PreTrainedConfig,
    *,
    model_class: type[PreTrainedModel] | None = None,
    weights: str | None = None,
) -> PreTrainedModel:
    """Convert an official checkpoint.

    Args:
        state_dict: Content of the official file, as `torch.load(file, weights_only=True)` gives it, or what a trainer
            saved around it; see `containers.unwrap`.
        config: Geometry and labels of the model; its class determines the family.
        model_class: Class to build; by default the one whose parameters the checkpoint fills completely. Heads that
            the class does not have are left out. A classification model gets a new, random head if the checkpoint has
            none (DeiT, SSAST pretraining). A pretraining model is built without an objective whose head is not in the
            checkpoint, or whose weight is 0 in the config.
        weights: Which weights to take, where there are several; see `containers.unwrap`.

    Returns:
        The model, in eval mode.

    Raises:
        ValueError: The layout is unknown for the config, or a tensor is unknown, missing, or has another shape than
            the config describes; the message names it.
    """
    return build_model(unwrap(state_dict, layouts_of(config), weights), config, model_class=model_class)


def build_model(
    found: Unwrapped, config: PreTrainedConfig, *, model_class: type[PreTrainedModel] | None = None
) -> PreTrainedModel:
    """Build a model of ours from the tensors of a layout; arguments and errors as in `convert_checkpoint`."""
    layout = found.layout
    model_class = model_class or layout.model_class
    renamed = rename(in_float32(found.tensors, layout), layout)
    layout.adapt(renamed, config)
    config = settle_heads(renamed, config)
    expected = expected_shapes(model_class, config)
    new_heads = tuple(
        f"{head}."
        for head in ("classifier", "frame_classifier")
        if model_class is not layout.model_class and not any(name.startswith(f"{head}.") for name in renamed)
    )
    random = layout.random
    if not hasattr(model_class, "backbone_class"):  # a bare backbone: no prefix, no head
        prefix = f"{model_class.base_model_prefix}."
        renamed = {key.removeprefix(prefix): value for key, value in renamed.items() if key.startswith(prefix)}
        random = tuple(name.removeprefix(prefix) for name in random)
    elif model_class is not layout.model_class:
        absent = tuple(f"{head}." for head in HEADS if not any(name.startswith(f"{head}.") for name in expected))
        renamed = {key: value for key, value in renamed.items() if not key.startswith(absent)}
    _check(renamed, expected, model_class, allowed_missing=(*new_heads, *random))
    return model_class.from_pretrained(None, config=config, state_dict=renamed)


def layouts_of(config: PreTrainedConfig) -> tuple[Layout, ...]:
    """Return the layouts of the config's family."""
    layouts = LAYOUTS.get(type(config))
    if layouts is None:
        raise ValueError(f"config is a {type(config).__name__}, but must be one of {[c.__name__ for c in LAYOUTS]}.")
    return layouts


def in_float32(tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Return the tensors of a layout in the type of the official models, and those that it drops as they are.

    Raises:
        ValueError: A tensor holds integers, booleans or complex numbers, as in quantized files; the message names it.
    """
    converted = {}
    for name, tensor in tensors.items():
        is_kept = isinstance(look_up(name, layout.key_map)[0], str)
        if is_kept and not tensor.is_floating_point():
            raise ValueError(
                f"The tensor {name!r} holds {tensor.dtype}, but must hold floating-point numbers; of a quantized "
                "model, convert the file from before the quantization."
            )
        converted[name] = tensor.float() if tensor.is_floating_point() else tensor
    return converted


def rename(tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Rename the tensors of a layout to ours, without those that it drops; unknown tensors are an error."""
    renamed = {}
    for key, tensor in tensors.items():
        name, _ = look_up(key, layout.key_map)
        if name is None:
            raise ValueError(f"state_dict has the tensor {key!r}, which is unknown in the {layout.name} layout.")
        if isinstance(name, str):
            renamed[name] = tensor
    return renamed


def settle_heads(renamed: dict[str, Tensor], config: PreTrainedConfig) -> PreTrainedConfig:
    """Leave out what the file has no head for; see `settle_objectives` and `settle_clip_head`."""
    return settle_clip_head(renamed, settle_objectives(renamed, config))


def settle_objectives(renamed: dict[str, Tensor], config: PreTrainedConfig) -> PreTrainedConfig:
    """Leave out, in tensors and config, a pretraining objective that the file has no head for or that has no weight.

    Official files hold the heads of both objectives even if the model was trained with only one of them.
    """
    weights = {name: f"{name}_loss_weight" for name in ("classification", "reconstruction")}
    heads = {name: [key for key in renamed if key.startswith(f"objectives.{name}_head.")] for name in weights}
    if not any(heads.values()):
        return config
    config = copy.deepcopy(config)
    for name, weight in weights.items():
        if not heads[name]:
            setattr(config, weight, 0.0)
        elif not getattr(config, weight):
            for key in heads[name]:
                del renamed[key]
    config.validate_masking()
    return config


def settle_clip_head(renamed: Mapping[str, Tensor], config: PreTrainedConfig) -> PreTrainedConfig:
    """Leave out, in the config, a head for whole clips that a file with a head for frames does not have."""
    has_frames = any(name.startswith("frame_classifier.") for name in renamed)
    if not has_frames or any(name.startswith("classifier.") for name in renamed) or config.clip_head == "none":
        return config
    config = copy.deepcopy(config)
    config.clip_head, config.clip_labels = "none", None
    return config


def expected_shapes(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> dict[str, torch.Size]:
    """Return the names and shapes of the tensors in a model of that class."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in model_class(config).state_dict().items()}


def _check(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, torch.Size],
    model_class: type[PreTrainedModel],
    *,
    allowed_missing: tuple[str, ...],
) -> None:
    """Raise a ValueError if a tensor is missing, left over, or of another shape than expected."""
    missing = [name for name in expected if name not in tensors and not name.startswith(allowed_missing)]
    if missing:
        raise ValueError(f"state_dict lacks the tensors that become {missing} in {model_class.__name__}.")
    for name, tensor in tensors.items():
        if name not in expected:
            raise ValueError(
                f"state_dict has a tensor for {name!r}, which {model_class.__name__} with this config does not have."
            )
        if tensor.shape != expected[name]:
            raise ValueError(
                f"The tensor for {name!r} has shape {tuple(tensor.shape)}, the config describes "
                f"{tuple(expected[name])}."
            )
