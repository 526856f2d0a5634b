"""Whose front end is it: the extractor that a folder names is one of ours, reads as one of ours, or is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ClapFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from hf_ast import (
    HfASTFeatureExtractor,
    MAESTFeatureExtractor,
    PaSSTFeatureExtractor,
    load_classifier,
    load_encoder,
    tag,
)
from hf_ast.cli import main
from hf_ast.data.labelled import read_data
from hf_ast.inference.features import longest_input
from hf_ast.training.finetune import finetune
from tests.support.labelled import write_folder
from tests.support.native import AST_FRONT_END, MAEST_FRONT_END, native_folder, write_front_end
from tests.support.tiny import tiny_model, waveforms

RATE = 16000
FOREIGN: dict[str, dict[str, Any]] = {
    "FooFeatureExtractor": {"feature_extractor_type": "FooFeatureExtractor"},
    "BarFeatureExtractor": {"auto_map": {"AutoFeatureExtractor": "someone/repo--bar.BarFeatureExtractor"}},
    "WhisperFeatureExtractor": WhisperFeatureExtractor().to_dict(),
    "Wav2Vec2FeatureExtractor": Wav2Vec2FeatureExtractor().to_dict(),
}


@pytest.mark.parametrize("layout", ["native", "ours"])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_front_end_is_refused_by_name(name: str, layout: str, tmp_path: Path) -> None:
    if layout == "native":
        native_folder(tmp_path, FOREIGN[name])
    else:
        tiny_model().save_pretrained(tmp_path)
        write_front_end(tmp_path, FOREIGN[name])
    loaders: tuple[Callable[[Path], object], ...] = (load_classifier, load_encoder)
    for open_it in (*loaders, HfASTFeatureExtractor.from_pretrained, PaSSTFeatureExtractor.from_pretrained):
        with pytest.raises(ValueError, match=f"names the feature extractor {name}, .*`input_values`"):
            open_it(tmp_path)


def test_no_command_uses_a_foreign_front_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled_folder, folder = write_folder(tmp_path / "data", 3), tmp_path / "model"
    native_folder(folder, FOREIGN["WhisperFeatureExtractor"])
    recording = str(next(labelled_folder.rglob("*.wav")))
    with pytest.raises(ValueError, match="names the feature extractor WhisperFeatureExtractor"):
        finetune(read_data(labelled_folder), tmp_path / "tuned", model=str(folder), num_epochs=1)
    for command in (
        ["classify", recording],
        ["tag", recording],
        ["embed", recording, "--out", str(tmp_path / "e.npz")],
        ["evaluate", str(folder), str(labelled_folder)],
        ["export", str(folder), "--out", str(tmp_path / "out"), "--to", "onnx"],
        ["info", str(folder)],
    ):
        model = [] if str(folder) in command else ["--model", str(folder)]
        assert main([*command, *model]) == 1, command
        assert "names the feature extractor WhisperFeatureExtractor" in capsys.readouterr().err, command


def test_an_extractor_of_another_family_is_refused_by_the_classes() -> None:
    model = tiny_model()
    for extractor in (WhisperFeatureExtractor(), Wav2Vec2FeatureExtractor()):
        with pytest.raises(ValueError, match=f"{type(extractor).__name__}, but a HfASTForAudioClassification was"):
            tag(model, extractor, np.zeros(RATE, np.float32))


def test_each_class_reads_its_own_files_only(tmp_path: Path) -> None:
    write_front_end(tmp_path, MAEST_FRONT_END)
    with pytest.raises(ValueError, match="names the feature extractor MAESTFeatureExtractor"):
        HfASTFeatureExtractor.from_pretrained(tmp_path)
    write_front_end(tmp_path, AST_FRONT_END)
    with pytest.raises(ValueError, match="names the feature extractor ASTFeatureExtractor"):
        MAESTFeatureExtractor.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"return_attention_mask": True},
        {"padding_value": 3.0, "padding_side": "left", "feature_size": 80},
        {"do_normalize": False},
        {"mean": -4.0, "std": 2.0, "max_length": 200},
        {"num_mel_bins": 20},
        {"feature_extractor_type": None, "return_attention_mask": True},
    ],
    ids=lambda changes: " ".join(changes) or "as saved",
)
def test_fields_have_the_effect_that_they_have_in_transformers(changes: dict[str, Any], tmp_path: Path) -> None:
    """A clip shorter than the window: the features are those of `ASTFeatureExtractor`, and there is no mask."""
    native_folder(tmp_path, AST_FRONT_END | changes)
    _, extractor = load_classifier(tmp_path)
    assert type(extractor) is HfASTFeatureExtractor
    clip = waveforms(1, 14000)[0].numpy()
    inputs = extractor(clip, RATE, return_tensors="pt")
    assert inputs.keys() == {"input_values"}
    native = ASTFeatureExtractor.from_pretrained(tmp_path)
    expected = native(clip, RATE, return_tensors="pt")["input_values"]
    # Float noise where energies are near the floor of the logarithm, as the front end's own tests
    torch.testing.assert_close(inputs["input_values"], expected, atol=2e-3, rtol=0)


def test_all_of_a_recording_is_heard_with_the_extractor_of_transformers(tmp_path: Path) -> None:
    """A model of 1.28 s and a recording of 10 s: a sound at its end counts."""
    native_folder(tmp_path)
    native = ASTForAudioClassification.from_pretrained(tmp_path).eval()
    extractor = ASTFeatureExtractor.from_pretrained(tmp_path)
    recording = np.zeros(10 * RATE, np.float32)
    recording[-RATE:] = waveforms(1, RATE)[0].numpy()
    tagging = tag(native, extractor, recording)
    assert len(tagging.window_scores) == 8
    assert tagging.window_times_s[-1, 1] == 10
    assert tagging.window_times_s[0].tolist() == [0, pytest.approx(1.295)]
    ours, own = load_classifier(tmp_path)
    torch.testing.assert_close(tag(ours, own, recording).window_scores, tagging.window_scores, atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="window_s=2 is longer than what the model hears at once"):
        tag(native, extractor, recording, window_s=2)


class Framed:
    """An extractor of somebody else, with a number of frames."""

    sampling_rate = RATE
    max_length = 626
    hop_length = 256


def test_the_longest_input_of_other_peoples_extractors(caplog: pytest.LogCaptureFixture) -> None:
    assert longest_input(WhisperFeatureExtractor()) == 30 * RATE
    assert longest_input(ClapFeatureExtractor()) == 480000
    assert longest_input(Wav2Vec2FeatureExtractor()) is None
    assert longest_input(ASTFeatureExtractor()) == 400 + 1023 * 160
    assert longest_input(MAESTFeatureExtractor()) == 30 * RATE
    assert longest_input(Framed()) == 10 * RATE
    assert caplog.text == ""
    unknown = type("Unknown", (), {"sampling_rate": RATE, "max_length": 500})()
    assert longest_input(unknown) is None
    assert "Unknown has max_length=500, in a unit that is not known" in caplog.text
