"""What a model is, from its settings and the headers of its weights; no weight is loaded."""

import json
import math
import os
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, NotASafetensorsRepoError, SafetensorsParsingError
from transformers import AutoConfig, PreTrainedConfig

import hf_ast
from hf_ast.auto import load
from hf_ast.families import FAMILIES, MODEL_TYPES
from hf_ast.models.configuration_ast import HfASTConfig
from hf_ast.models.configuration_native_common import NATIVE_MODEL_TYPE, official_id
from hf_ast.opening import open_safely

from .front_ends import load_feature_extractor, read_model_type

# Fields of a preprocessor_config.json that say nothing about the numbers
NOT_SHOWN = ("auto_map", "feature_extractor_type", "feature_size", "padding_side", "processor_class")
ENCODER_FIELDS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "qkv_bias",
    "pooling", "use_distillation_token", "position_table", "position_crop", "position_overflow",
)  # fmt: skip
NUM_LABELS_SHOWN = 5
SAFETENSORS_SUFFIX = ".safetensors"
BYTES_PER_PARAMETER = 4  # models open in float32


def describe_model(path: str | os.PathLike[str], **hub: Any) -> dict[str, Any]:
    """Describe the model of a folder or Hub id, as data for JSON.

    Args:
        path: Folder or Hub id.
        hub: `revision` and `token`, if given.

    Raises:
        ValueError: It is no AST, SSAST, PaSST or MAEST, or its front end is none of ours.
        OSError: Its settings cannot be read.
    """
    model_type = read_model_type(path, **hub)
    is_native = model_type == NATIVE_MODEL_TYPE
    if not is_native and model_type not in MODEL_TYPES:
        raise ValueError(f"model={os.fspath(path)!r} is a {model_type}, but must be an AST, SSAST, PaSST or MAEST.")
    config: Any = open_safely(HfASTConfig if is_native else AutoConfig, path, **hub)
    stored, _ = PreTrainedConfig.get_config_dict(path, **hub)
    source = "config.json"
    if is_native and (official := official_id(path)) is not None:
        stored_eps = stored.get("layer_norm_eps")
        source = f"the official values, with which {official} was trained; its config.json has {stored_eps}"
    architectures = stored.get("architectures") or [None]
    front_end = load_feature_extractor(path, model_type, **hub)
    described = describe_parts(config, front_end, architecture=architectures[0])
    described["epsilon"]["source"] = source
    described["layout"] = "transformers' own AST" if is_native else "hf_ast"
    described["weights"] = describe_weights(path, **hub)
    return described


def describe_parts(config: Any, feature_extractor: Any, *, architecture: str | None = None) -> dict[str, Any]:
    """Describe a model by its config and its feature extractor.

    Args:
        config: One of ours.
        feature_extractor: One of ours.
        architecture: Name of the model's class, as the config.json has it; a classifier if None.
    """
    rows, columns = config.grid
    rate = feature_extractor.sampling_rate
    settings = feature_extractor.to_dict()
    is_classifier = architecture is None or "Classification" in architecture
    names = [config.id2label[index] for index in sorted(config.id2label)] if is_classifier else []
    labels_cells = architecture is not None and architecture.endswith("ForAudioFrameClassification")
    num_parameters = count_parameters(config, architecture)
    return {
        "family": _family(config, feature_extractor),
        "architecture": architecture,
        "encoder": {name: getattr(config, name) for name in ENCODER_FIELDS},
        "input": {
            "frames": config.max_length,
            "mel_bins": config.num_mel_bins,
            "patch": list(config.patch_sides),
            "strides": list(config.strides),
            "grid": [rows, columns],
            "tokens": rows * columns + (2 if config.use_distillation_token else 1),
        },
        "window_s": feature_extractor.max_samples / rate,
        "front_end": {"class": type(feature_extractor).__name__}
        | {name: value for name, value in sorted(settings.items()) if name not in NOT_SHOWN},
        "labels": {"number": len(names), "problem_type": config.problem_type, "first": names[:NUM_LABELS_SHOWN]},
        "cells": {"number": config.num_cells_of(config.max_length), "length_s": config.cell_s}
        if labels_cells
        else None,
        "epsilon": {"layers": config.layer_norm_eps, "head": config.head_layer_norm_eps},
        "parameters": num_parameters,
        "memory_bytes": BYTES_PER_PARAMETER * num_parameters,
    }


def count_parameters(config: Any, architecture: str | None) -> int:
    """Count the parameters of the model that a config describes; a classifier if the architecture is not ours."""
    model_class = getattr(hf_ast, architecture, None) if architecture in hf_ast.__all__ else None
    if model_class is None:
        mapping = "MODEL_MAPPING" if architecture == "ASTModel" else "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING"
        family = next(family for family in FAMILIES if family.model_type == config.model_type)
        model_class = load(family.models[mapping])
    with torch.device("meta"):
        return int(sum(parameter.numel() for parameter in model_class(config).parameters()))


def describe_weights(path: str | os.PathLike[str], **hub: Any) -> dict[str, Any]:
    """Describe the weight files of a folder or Hub id by their headers: numbers of values by dtype, and bytes.

    Returns:
        `dtypes` (name -> number of values) and `bytes`; nothing where there are no safetensors files, or where the
        Hub does not answer.
    """
    counts: Counter[str] = Counter()
    if Path(path).is_dir():
        files = sorted(Path(path).glob(f"*{SAFETENSORS_SUFFIX}"))
        for file in files:
            counts.update(_values_by_dtype(file))
        return {"dtypes": dict(counts), "bytes": sum(file.stat().st_size for file in files)} if files else {}
    try:
        found = HfApi().get_safetensors_metadata(os.fspath(path), **hub)
    except (HfHubHTTPError, NotASafetensorsRepoError, SafetensorsParsingError, OSError):
        return {}
    counts.update(found.parameter_count)
    ends = [
        max((tensor.data_offsets[1] for tensor in file.tensors.values()), default=0)
        for file in found.files_metadata.values()
    ]
    return {"dtypes": dict(counts), "bytes": sum(ends)}


def _values_by_dtype(file: Path) -> Mapping[str, int]:
    """Read the header of a safetensors file.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, file.stat().st_size)))
        counts: Counter[str] = Counter()
        for name, tensor in header.items():
            if name != "__metadata__":
                counts[tensor["dtype"]] += math.prod(tensor["shape"])
        return counts
    except (AttributeError, KeyError, TypeError, ValueError, struct.error) as error:
        raise ValueError(f"{str(file)!r} is damaged: it has no header of safetensors.") from error


def _family(config: Any, feature_extractor: Any) -> str:
    """Title of the family: the one with this model type and this front end, else the first with this model type."""
    name = type(feature_extractor).__name__
    fitting = [family for family in FAMILIES if family.model_type == config.model_type]
    return next((family for family in fitting if family.feature_extractor.endswith(f":{name}")), fitting[0]).title
