"""Golden cases of MAEST: its front end, and the model behind it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_ast import MAESTFeatureExtractor
from hf_ast.conversion import convert_checkpoint
from tests.support.golden_ast import ast_config
from tests.support.golden_common import CASES, Result, check, encode, layout_config, state_dict, to_numpy


def run_maest(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    """A native file: waveforms through the front end and the model."""
    facts = entry["config"]
    model = convert_checkpoint(state_dict(entry), ast_config(layout_config(entry), position_table="factorised"))
    extractor = MAESTFeatureExtractor(max_length=facts["max_length"])
    waveforms = list(torch.as_tensor(inputs["waveform"]))
    input_values = extractor(waveforms, facts["sampling_rate"], return_tensors="np")["input_values"]
    _, tensors = encode(model, input_values)
    return to_numpy(tensors) | {"input_values": input_values}


def compare_front_end(entry: dict[str, Any]) -> list[str]:
    """What is wrong with the features of a waveform; the cases of `maest_index.json` have a format of their own."""
    waveform = check.W.make_waveform(**entry["waveform"])
    extractor = MAESTFeatureExtractor(max_length=entry["max_length"])
    features = extractor(waveform, entry["waveform"]["sr"], return_tensors="np")["input_values"][0]
    if list(features.shape) != entry["full_shape"]:
        return [f"shape {features.shape}, not {entry['full_shape']}"]
    with np.load(CASES / f"{entry['case']}.npz") as recorded:
        found = {
            "values": features[recorded["rows"]],
            "mean_f": features.astype(np.float64).mean(axis=1),
            "mean_t": features.astype(np.float64).mean(axis=0),
        }
        errors = {name: float(np.abs(value - recorded[name]).max()) for name, value in found.items()}
    return [f"{name}: error {error}" for name, error in errors.items() if not error <= entry["atol"]]


RUNNERS = {"maest": run_maest}
