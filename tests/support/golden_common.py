"""What the golden tests of all families share: the cases, and running a model so that all they record is seen."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

CASES = Path(os.environ.get("HF_AST_GOLDEN_CASES", Path(__file__).parents[1] / "golden" / "cases")).resolve()


def _read_index() -> dict[str, dict[str, Any]]:
    """Name -> entry of each case: those of `index.json`, and MAEST's front end, whose index is a plain list."""
    entries = []
    if (CASES / "index.json").is_file():
        entries += json.loads((CASES / "index.json").read_text())["cases"]
    if (CASES / "maest_index.json").is_file():
        front_ends = json.loads((CASES / "maest_index.json").read_text())
        entries += [{"family": "frontend_maest", **entry} for entry in front_ends]
    assert entries, f"{CASES} holds no case"
    return {entry["case"]: entry for entry in entries}


INDEX = _read_index()
Result = dict[str, np.ndarray]


def _import_check() -> ModuleType:
    """`check.py` beside the case folder: builds weights and inputs, and compares."""
    sys.path.insert(0, str(CASES.parent))
    spec = importlib.util.spec_from_file_location("golden_check", CASES.parent / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check = _import_check()


def layout_config(entry: dict[str, Any]) -> dict[str, Any]:
    """Facts of the checkpoint file that the case starts from."""
    return json.loads((CASES.parent / "layouts" / f"{entry['layout']}.json").read_text())["config"]


def size_fields(facts: dict[str, Any]) -> dict[str, Any]:
    """Config fields of the encoder, from the facts of a checkpoint."""
    return {
        "hidden_size": facts["hidden_size"],
        "num_hidden_layers": facts["depth"],
        "num_attention_heads": facts["num_heads"],
        "intermediate_size": 4 * facts["hidden_size"],
        "patch_size": facts["patch_size"],
    }


def classifier_fields(facts: dict[str, Any]) -> dict[str, Any]:
    """Config fields of a classification checkpoint, from its facts."""
    return size_fields(facts) | {
        "frequency_stride": facts["fstride"],
        "time_stride": facts["tstride"],
        "max_length": facts["input_tdim"],
        "num_mel_bins": facts["input_fdim"],
        "num_labels": facts["num_labels"],
    }


def state_dict(entry: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {key: torch.as_tensor(value) for key, value in check.build_state_dict(entry).items()}


def load_new_head(model: PreTrainedModel, entry: dict[str, Any]) -> None:
    """The head that the official code would leave random, and the case sets by rule."""
    names = {"mlp_head.0": "norm", "mlp_head.1": "linear"}
    head = {}
    for key, value in check.build_new_head(entry).items():
        module, kind = key.removeprefix("module.").rsplit(".", 1)
        head[f"{names[module]}.{kind}"] = torch.as_tensor(value)
    model.classifier.load_state_dict(head, strict=True)


@torch.no_grad()
def encode(
    model: PreTrainedModel, input_values: np.ndarray, **kwargs: Any
) -> tuple[ModelOutput, dict[str, torch.Tensor]]:
    """The outputs of a model, and what the cases record of its backbone and the input of its classifier."""
    features, last_hidden_states = [], []
    if getattr(model, "classifier", None) is not None:
        model.classifier.register_forward_pre_hook(lambda module, args: features.append(args[0]))
    backbone = model.base_model
    backbone.norm.register_forward_hook(lambda module, args, output: last_hidden_states.append(output))
    outputs = model(torch.as_tensor(input_values), output_hidden_states=True, **kwargs)
    embeddings = backbone.embeddings
    tensors = {
        "last_hidden_state": last_hidden_states[0],
        "embeddings": outputs.hidden_states[0],
        "patch_weight": embeddings.patch_embedding.projection.weight,
        "patch_bias": embeddings.patch_embedding.projection.bias,
    }
    tensors |= {f"hidden_after_block{i}": state for i, state in enumerate(outputs.hidden_states[1:])}
    tensors |= {f"attention_block{i}": weights for i, weights in enumerate(outputs.attentions or ())}
    if hasattr(embeddings.positions, "table"):
        patch_positions = embeddings.positions.table.flatten(1, 2)
        tensors["pos_embed"] = torch.cat((embeddings.prefix_positions, patch_positions), dim=1)
    if features:
        tensors |= {"features": features[0], "logits": outputs.logits}
    return outputs, tensors


def to_numpy(tensors: dict[str, torch.Tensor]) -> Result:
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}
