"""What no tensor of a file tells, so that a conversion has to assume it and no verification can prove it."""

import inspect
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from transformers import PreTrainedConfig, SequenceFeatureExtractor

from hf_ast.models.modules_positions import position_grid

from .checkpoint import Checkpoint
from .containers import HEADS_OF
from .key_maps import ConfigField
from .layouts import Layout

HEAD_SIZE = 64  # of all official models: 3 heads for a width of 192, 6 for 384, 12 for 768
CONFIG_FIELDS = ("num_attention_heads", "hidden_act", "layer_norm_eps", "head_layer_norm_eps", "pooling")
CLASSIFIER_FIELDS = ("problem_type", "id2label")
GEOMETRY_FIELDS = ("num_mel_bins", "max_length")
STRIDES = ("frequency_stride", "time_stride")
# Arguments of a feature extractor that change no value, or that the config has as well
NOT_LISTED = ("kwargs", "max_length", "min_length", "num_mel_bins", "padding_value", "return_attention_mask")


def with_heads(checkpoint: Checkpoint, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Add the number of attention heads to changes of the config, if they change the width but do not give it.

    Raises:
        ValueError: The official rule, 64 values per head, does not apply to the width.
    """
    width = changes.get("hidden_size")
    if type(width) is not int or "num_attention_heads" in changes or width == checkpoint.config.get("hidden_size"):
        return dict(changes)
    if width <= 0 or width % HEAD_SIZE:
        raise ValueError(
            f"hidden_size={width} is no multiple of {HEAD_SIZE}, the size of a head in all official models, and no "
            "tensor tells the number of heads; give num_attention_heads as well."
        )
    return {**changes, "num_attention_heads": width // HEAD_SIZE}


def find_assumptions(
    checkpoint: Checkpoint,
    layout: Layout,
    config: PreTrainedConfig,
    front_end: SequenceFeatureExtractor,
    given: Collection[str],
) -> dict[str, dict[str, Any]]:
    """List what no tensor tells of a file that is not the released one.

    Args:
        checkpoint: The released checkpoint that the file resembles.
        layout: Layout of the file.
        config, front_end: Those of the conversion.
        given: Fields that the caller of the conversion gave.

    Returns:
        Name -> its `value`, and `source`: what it was taken from.
    """
    values = {name: getattr(config, name) for name in _config_fields(layout, config)}
    values |= {"front_end": type(front_end).__name__}
    arguments = inspect.signature(type(front_end)).parameters
    values |= {name: getattr(front_end, name) for name in arguments if name not in NOT_LISTED}
    found = {}
    for name, value in values.items():
        source = f"as in {checkpoint.name}"
        if name in given or (name == "id2label" and not {"label2id", "num_labels"}.isdisjoint(given)):
            source = "as given"
        elif name == "num_attention_heads" and "hidden_size" in given:
            source = f"by the official rule, {HEAD_SIZE} values per head"
        found[name] = {"value": f"{len(value)} names" if name == "id2label" else value, "source": source}
    return found


def _config_fields(layout: Layout, config: PreTrainedConfig) -> Iterator[str]:
    """Yield the fields that none of the layout's tensors has, or determines by its shape."""
    class_name = layout.model_class.__name__
    is_classifier = class_name.endswith(tuple(HEADS_OF))
    yield from (name for name in CONFIG_FIELDS if is_classifier or name != "head_layer_norm_eps")
    if is_classifier:
        yield from CLASSIFIER_FIELDS
    if class_name.endswith("ForAudioFrameClassification"):
        yield "clip_head"
    held = {target.name for target in layout.key_map.values() if isinstance(target, ConfigField)}
    yield from (name for name in GEOMETRY_FIELDS if name not in held)
    # The number of positions is that of one size of the input at one stride, and of others at others
    if not held.issuperset(GEOMETRY_FIELDS) or not _strides_are_told(config):
        yield from STRIDES


def _strides_are_told(config: PreTrainedConfig) -> bool:
    """Whether no other strides up to the size of a patch have as many positions for an input of this size."""
    height, width = config.patch_sides
    strides = [(one, two) for one in range(1, height + 1) for two in range(1, width + 1)]

    def shape(stride: tuple[int, int]) -> Any:
        grid = position_grid(config.position_table, config.num_mel_bins, config.max_length, config.patch_sides, stride)
        return grid if config.position_table == "factorised" else math.prod(grid)

    return [stride for stride in strides if shape(stride) == shape(config.strides)] == [config.strides]


def format_assumptions(assumptions: Mapping[str, Mapping[str, Any]]) -> str:
    """Describe assumptions in one line of text."""
    return "; ".join(f"{source}: {fields}" for source, fields in grouped_assumptions(assumptions).items())


def grouped_assumptions(assumptions: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return what assumptions were taken from -> the names and values, in one line of text."""
    by_source: dict[str, list[str]] = {}
    for name, assumption in assumptions.items():
        by_source.setdefault(assumption["source"], []).append(f"{name}={assumption['value']}")
    return {source: ", ".join(fields) for source, fields in by_source.items()}
