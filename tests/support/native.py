"""Folders in transformers' own layout of AST, as people have them, with generated weights."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import ASTConfig, ASTForAudioClassification

from tests.support.tiny import SIZE, randomize

GEOMETRY = {"patch_size": 16, "frequency_stride": 10, "time_stride": 10, "max_length": 128, "num_mel_bins": 32}
AST_FRONT_END = {
    "feature_extractor_type": "ASTFeatureExtractor",
    "do_normalize": True,
    "feature_size": 1,
    "max_length": 128,
    "mean": -6.8,
    "num_mel_bins": 32,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": False,
    "sampling_rate": 16000,
    "std": 5.5,
}
# As `packaging/push_to_hub.py` of palonso/MAEST writes it
MAEST_FRONT_END = {
    "auto_map": {"AutoFeatureExtractor": "feature_extraction_maest.MAESTFeatureExtractor"},
    "do_normalize": True,
    "feature_extractor_type": "MAESTFeatureExtractor",
    "feature_size": 1,
    "hop_length": 256,
    "log_compression": "logC",
    "max_length": 316,
    "mean": 2.06755686098554,
    "n_fft": 512,
    "num_mel_bins": 96,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": False,
    "sampling_rate": 16000,
    "std": 1.268292820667291,
}


def native_folder(
    folder: Path, front_end: dict[str, Any] | None = None, *, stored: dict[str, Any] | None = None, **config: Any
) -> ASTForAudioClassification:
    """Save a small model of transformers' own; `stored` is written over its config.json."""
    model = ASTForAudioClassification(ASTConfig(**SIZE | GEOMETRY | {"num_labels": 5} | config))
    randomize(model)
    model.save_pretrained(folder)
    write_front_end(folder, front_end or AST_FRONT_END)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | (stored or {})))
    return model


def native_maest(folder: Path, **config: Any) -> ASTForAudioClassification:
    """A small model of 5 s, saved as those on the Hub are."""
    settings = {"max_length": 316, "num_mel_bins": 96, "layer_norm_eps": 1e-6}
    return native_folder(folder, MAEST_FRONT_END, **settings | config)


def write_front_end(folder: Path, settings: dict[str, Any]) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def logits(model: Any, input_values: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_values, **inputs).logits
