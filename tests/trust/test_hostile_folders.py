"""Model folders that somebody else made: damage is found, their code is not run, their settings fill no memory."""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from transformers import pipeline

from hf_ast import HfASTFeatureExtractor, load_classifier
from hf_ast.cli import main
from hf_ast.conversion.folders import changed_files, file_digests
from tests.support.cases import cases
from tests.support.tiny import tiny_model
from tests.trust.test_hostile_checkpoints import bounded

FILES = ("model.safetensors", "config.json", "preprocessor_config.json")
CLIP = 0.1 * torch.randn(4000, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    model = tiny_model(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    model.save_pretrained(folder)
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(folder)
    return folder


def scores(folder: Path) -> torch.Tensor:
    model, extractor = load_classifier(folder)
    with torch.no_grad():
        return model(**extractor(CLIP, extractor.sampling_rate, return_tensors="pt")).logits


@cases(1.5, name=st.sampled_from(FILES), position=st.integers(0, 10**7), bit=st.integers(0, 7))
def test_a_flipped_bit_is_an_error_or_in_the_digests(whole: Path, name: str, position: int, bit: int) -> None:
    """600 in each of the files with the profile `fuzz`. Their formats have no checksum, so folders record digests."""
    damaged = whole.parent / "damaged"
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(whole, damaged)
    content = bytearray((whole / name).read_bytes())
    content[position % len(content)] ^= 1 << bit
    (damaged / name).write_bytes(content)
    assert changed_files(damaged, {"files": file_digests(whole)}) == [name]
    with suppress(OSError, ValueError):  # some are transformers' own
        assert len(scores(damaged)) == 1


HOSTILE: dict[str, dict[str, Any]] = {
    "layers": {"num_hidden_layers": 10**9},
    "width": {"hidden_size": 2**30, "num_attention_heads": 2},
    "length": {"max_length": 10**9},
    "mel bins": {"num_mel_bins": 10**9},
    "patches": {"patch_size": [10**5, 10**5], "num_mel_bins": 10**5, "max_length": 10**5},
    "feed-forward": {"intermediate_size": 2**40},
    "labels": {"id2label": {str(10**9): "a"}},
}
HOSTILE_FRONT_ENDS: dict[str, dict[str, Any]] = {
    "front end, rate": {"sampling_rate": 10**12},
    "front end, mel bins": {"num_mel_bins": 10**9},
    "front end, length": {"max_length": 10**12},
    "front end, FFT": {"feature_extractor_type": "PaSSTFeatureExtractor", "n_fft": 2**40},
}


@pytest.mark.parametrize("name", [*HOSTILE, *HOSTILE_FRONT_ENDS])
def test_absurd_settings_are_refused_in_bounded_memory(whole: Path, name: str, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "model")
    file = folder / ("config.json" if name in HOSTILE else "preprocessor_config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | (HOSTILE | HOSTILE_FRONT_ENDS)[name]))

    def refuse() -> None:
        with pytest.raises(ValueError, match="|".join((HOSTILE | HOSTILE_FRONT_ENDS)[name])):
            load_classifier(folder)

    bounded(refuse)


CODE = """
import os
os.mkdir({marker!r})
from transformers import PreTrainedConfig as Config, PreTrainedModel as Model
"""


@pytest.mark.parametrize("model_type", ["hf-ast", "unknown", None])
def test_the_code_of_a_folder_is_not_run(
    whole: Path, model_type: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hostile `auto_map`: nobody is asked for consent, and none is given."""
    folder, marker = shutil.copytree(whole, tmp_path / "model"), tmp_path / "code was run"
    (folder / "evil.py").write_text(CODE.format(marker=str(marker)))
    auto_map = {
        "AutoConfig": "evil.Config",
        "AutoModel": "evil.Model",
        "AutoModelForAudioClassification": "evil.Model",
        "AutoFeatureExtractor": "evil.Config",
    }
    for name in ("config.json", "preprocessor_config.json"):
        content = json.loads((folder / name).read_text()) | {"auto_map": auto_map}
        if name == "config.json":
            content.pop("model_type")
            content |= {"model_type": model_type} if model_type else {}
        (folder / name).write_text(json.dumps(content))
    recording = "hf_ast/assets/ast-keywords/recordings/yes.flac"
    status = main(["classify", recording, "--model", str(folder)])
    assert (status == 0) == (model_type == "hf-ast")
    if model_type == "hf-ast":
        pipeline("audio-classification", model=str(folder))(recording)
    else:
        assert "error" in capsys.readouterr().err
    assert not marker.exists()


@pytest.mark.parametrize("target", ["../outside.safetensors", "/etc/passwd", "..", ""])
def test_an_index_does_not_lead_out_of_the_folder(whole: Path, target: str, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "model")
    os.remove(folder / "model.safetensors")
    names = [name for name, _ in tiny_model().named_parameters()]
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, target)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises((OSError, ValueError)):
        load_classifier(folder)
