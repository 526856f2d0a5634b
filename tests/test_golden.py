"""Recorded outputs of the official code against ours, through the production converter, models and front ends.

`HF_AST_GOLDEN_CASES` may name another folder of cases; layouts and generators are read from the folder above it.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from conversion import convert_checkpoint
from hf_ast import HfASTConfig, HfASTFeatureExtractor, HfASTForAudioClassification
from hf_ast.models.modules_fbank import kaldi_mel_filters
from hf_ast.training.augmentation import mixup_waveforms, spec_augment

CASES = Path(os.environ.get("HF_AST_GOLDEN_CASES", Path(__file__).parent / "golden" / "cases")).resolve()
INDEX = {entry["case"]: entry for entry in json.loads((CASES / "index.json").read_text())["cases"]}
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


def state_dict(entry: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {key: torch.as_tensor(value) for key, value in check.build_state_dict(entry).items()}


def ast_config(facts: dict[str, Any], **changes: Any) -> HfASTConfig:
    """Our config of an official AST checkpoint."""
    values = {
        "hidden_size": facts["hidden_size"],
        "num_hidden_layers": facts["depth"],
        "num_attention_heads": facts["num_heads"],
        "intermediate_size": 4 * facts["hidden_size"],
        "patch_size": facts["patch_size"],
        "frequency_stride": facts["fstride"],
        "time_stride": facts["tstride"],
        "max_length": facts["input_tdim"],
        "num_mel_bins": facts["input_fdim"],
        "num_labels": facts["num_labels"],
    }
    return HfASTConfig(**values | changes)


def load_new_head(model: HfASTForAudioClassification, entry: dict[str, Any]) -> None:
    """The head that the official code would leave random, and the case sets by rule."""
    names = {"mlp_head.0": "norm", "mlp_head.1": "linear"}
    head = {}
    for key, value in check.build_new_head(entry).items():
        module, kind = key.removeprefix("module.").rsplit(".", 1)
        head[f"{names[module]}.{kind}"] = torch.as_tensor(value)
    model.classifier.load_state_dict(head, strict=True)


def position_table(model: HfASTForAudioClassification) -> torch.Tensor:
    embeddings = model.backbone.embeddings
    return torch.cat((embeddings.prefix_positions, embeddings.positions.table.flatten(1, 2)), dim=1)


@torch.no_grad()
def classify(model: HfASTForAudioClassification, entry: dict[str, Any], inputs: dict[str, Any]) -> Result:
    """Everything that the AST cases record of a forward pass."""
    patch_embedding = model.backbone.embeddings.patch_embedding.projection
    wants_attention = any("attention" in name for name in entry["arrays"])
    model.set_attn_implementation("eager" if wants_attention else "sdpa")
    features = []
    model.classifier.register_forward_pre_hook(lambda module, args: features.append(args[0]))
    last_hidden_states = []
    model.backbone.norm.register_forward_hook(lambda module, args, output: last_hidden_states.append(output))
    outputs = model(
        torch.as_tensor(inputs["input_values"]), output_hidden_states=True, output_attentions=wants_attention
    )
    hidden = outputs.hidden_states
    result = {
        "logits": outputs.logits,
        "features": features[0],
        "last_hidden_state": last_hidden_states[0],
        "embeddings": hidden[0],
        "pos_embed": position_table(model),
        "patch_weight": patch_embedding.weight,
        "patch_bias": patch_embedding.bias,
    }
    result |= {f"hidden_after_block{i}": state for i, state in enumerate(hidden[1:])}
    result |= {f"attention_block{i}": weights for i, weights in enumerate(outputs.attentions or ())}
    return {name: tensor.numpy() for name, tensor in result.items()}


def run_ast(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    model = convert_checkpoint(state_dict(entry), ast_config(layout_config(entry)))
    return classify(model, entry, inputs)


def run_ast_finetune(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    """The user's way: convert, save, then load for other labels, lengths, strides or mel bins."""
    convert_checkpoint(state_dict(entry), ast_config(layout_config(entry))).save_pretrained(tmp_path)
    facts = entry["config"]
    model = HfASTForAudioClassification.from_pretrained(
        tmp_path,
        max_length=facts["input_tdim"],
        num_mel_bins=facts["input_fdim"],
        frequency_stride=facts["fstride"],
        time_stride=facts["tstride"],
        num_labels=facts["num_labels"],
        ignore_mismatched_sizes=True,
    )
    load_new_head(model, entry)
    return classify(model, entry, inputs)


def run_ast_deit_init(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    config = ast_config(entry["config"])
    model = convert_checkpoint({"model": state_dict(entry)}, config, model_class=HfASTForAudioClassification)
    load_new_head(model, entry)
    return classify(model, entry, inputs)


def extractor(facts: dict[str, Any], **changes: Any) -> HfASTFeatureExtractor:
    values = {
        "sampling_rate": facts["sampling_rate"],
        "num_mel_bins": facts.get("num_mel_bins", 128),
        "max_length": facts["target_length"],
        "mean": facts["mean"],
        "std": facts["std"],
    }
    return HfASTFeatureExtractor(**values | changes)


def run_frontend_ast(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    facts = entry["config"]
    if entry["case"].startswith("mel_banks"):
        filters = kaldi_mel_filters(
            facts["num_bins"],
            facts["n_fft"],
            int(facts["sr"]),
            low_frequency_hz=facts["fmin"],
            high_frequency_hz=facts["fmax"],
        )
        return {"mel_filters": filters[:, :-1].numpy()}
    waveform = torch.as_tensor(inputs["waveform"])
    if waveform.ndim == 2:  # the official data loader centres over all channels and hears the first one
        waveform = (waveform - waveform.mean())[0]
    if "mix_lambda" in facts:
        waveform = mixup_waveforms(waveform, torch.as_tensor(inputs["waveform2"]), facts["mix_lambda"])
    front_end = extractor(facts)
    features = front_end(waveform, sampling_rate=facts["sampling_rate"], return_tensors="pt")["input_values"]
    if facts["freqm"] or facts["timem"]:
        draws = torch.as_tensor(check.load_expected(entry)["specaug_uniform"])
        features = spec_augment(
            features,
            max_mel_bins=facts["freqm"],
            max_frames=facts["timem"],
            mask_value=front_end.padding_value,
            draws=draws[None],
        )
    return {"input_values": features[0].numpy()}


def run_frontend_superb(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    facts = entry["config"]
    front_end = extractor(facts, subtract_mean=facts["waveform_mean_subtracted"], padding_value=0.0)
    features = front_end(inputs["waveform"], sampling_rate=facts["sampling_rate"], return_tensors="np")
    return {"input_values": features["input_values"][0]}


def run_ast_end_to_end(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    facts = entry["config"]
    model = convert_checkpoint(state_dict(entry), ast_config(layout_config(entry)))
    features = extractor(facts)(inputs["waveform"], sampling_rate=facts["sampling_rate"], return_tensors="pt")
    result = classify(model, entry, features)
    return result | {"input_values": features["input_values"].numpy()}


RUNNERS: dict[str, Callable[..., Result]] = {
    "ast": run_ast,
    "ast_finetune": run_ast_finetune,
    "ast_deit_init": run_ast_deit_init,
    "ast_end_to_end": run_ast_end_to_end,
    "frontend_ast": run_frontend_ast,
    "frontend_superb": run_frontend_superb,
}


@pytest.mark.parametrize("case", INDEX)
def test_golden(case: str, tmp_path: Path) -> None:
    entry = INDEX[case] | {"_folder": CASES.name}
    run = RUNNERS[entry["family"]]
    inputs = check.build_inputs(entry)
    if "official_raises" in entry["config"]:
        with pytest.raises(ValueError, match="sample"):
            run(entry, inputs, tmp_path)
        return
    rows = check.compare(entry, run(entry, inputs, tmp_path))
    assert rows, "the case compares nothing"
    bad = [
        f"{row['array']}: {row['status']}, error {row['max_abs_err']}, atol {row['atol']}"
        for row in rows
        if row["status"] != "ok"
    ]
    assert not bad, "\n".join(bad)
