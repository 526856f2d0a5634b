"""Training starts only from whole checkpoints: of all parameters, those of a classifier alone may be new."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file, save_file

from hf_ast import HfASTFeatureExtractor
from hf_ast.data.labelled import read_data
from hf_ast.training.preparation import load_for_training
from hf_ast.training.presets import find_preset
from hf_ast.training.pretraining import pretrain
from tests.support.tiny import tiny_model, tiny_ssast


def without_layer_1(folder: Path) -> None:
    file = folder / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if "layers.1." not in name}
    save_file(kept, file, metadata={"format": "pt"})


def with_setting(**changes: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


FAULTS = {
    "a missing layer": (without_layer_1, r"has no \S*layers\.1\.attention\.proj\.bias, .* and \d+ others"),
    "another length": (with_setting(max_length=77), r"has no \S*positions\.table of shape \(1, \d, 1\d, 32\)"),
    "fewer layers": (with_setting(num_hidden_layers=1), r"layers\.1\..* for which its config\.json has no place"),
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for label in ("low", "high"):
        (folder / label).mkdir()
        for number in range(4):
            noise = 0.1 * np.random.default_rng(number).standard_normal(9000)
            soundfile.write(folder / label / f"{number}.wav", noise, 16000)
    return folder


def saved(model: object, folder: Path) -> Path:
    model.save_pretrained(folder)
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS)
def test_fine_tuning_refuses_an_incomplete_checkpoint(
    change: Callable[[Path], None], message: str, recordings: Path, tmp_path: Path
) -> None:
    data, preset = read_data(str(recordings)), find_preset("speech-commands")
    folder = saved(tiny_model(), tmp_path / "model")
    network, _, _ = load_for_training(folder, data, preset, duration_s=0.3)  # with a new head of another size
    assert network.config.num_labels == 2
    change(folder)
    with pytest.raises(ValueError, match=message):
        load_for_training(folder, data, preset, duration_s=0.3)


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS)
def test_pretraining_refuses_an_incomplete_checkpoint(
    change: Callable[[Path], None], message: str, recordings: Path, tmp_path: Path
) -> None:
    folder = saved(tiny_ssast(), tmp_path / "model")
    change(folder)
    with pytest.raises(ValueError, match=message):
        pretrain(recordings, tmp_path / "out", model=folder, num_steps=1, num_eval=0, num_workers=0)
