"""`hf-ast plot`."""

import json
from pathlib import Path

import pytest
import soundfile

from hf_ast import HfASTFeatureExtractor
from hf_ast.assets import RECORDINGS
from hf_ast.cli import main
from hf_ast.cli.plot import METRICS
from hf_ast.training import cards
from tests.support.recordings import sine
from tests.support.tiny import tiny_ssast

# The first bytes of the formats
SIGNATURES = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}
RESULT = {
    "classes": [
        {"label": "a", "num_recordings": 3, "average_precision": 0.75},
        {"label": "b", "num_recordings": 0, "average_precision": None},
    ],
    "confusion": [
        {"true": "a", "predicted": "a", "num_recordings": 2},
        {"true": "a", "predicted": "b", "num_recordings": 1},
    ],
}


def drawn(arguments: list[str], out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Draw a picture, check that it is one of its format, and return what was printed to stderr."""
    assert main(["plot", *arguments, "--out", str(out), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"out": str(out)}
    assert out.read_bytes().startswith(SIGNATURES[out.suffix])
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    return printed.err


@pytest.mark.parametrize("suffix", SIGNATURES)
def test_pictures_of_a_recording(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(RECORDINGS / "yes.flac")
    commands = {
        ".png": ["spectrogram", file, "--start", "0.2", "--duration", "0.5"],
        ".pdf": ["timeline", file, "--window", "0.4", "--hop", "0.1"],
        ".svg": ["patchout", file, "--time-patchout", "5", "--seed", "3"],
    }
    drawn(commands[suffix], tmp_path / "new" / f"picture{suffix}", capsys)


def test_attention_says_what_it_leaves_out(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "a.wav", sine(16000, 2.0, 440.0), 16000)
    file, out = str(tmp_path / "a.wav"), tmp_path / "out" / "a.png"
    messages = drawn(["attention", file, "--model", str(model_folder), "--start", "1"], out, capsys)
    assert "showing 0.515 s, what the model hears at once" in messages


def test_reconstruction_needs_a_pretrained_model(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ssast"
    model = tiny_ssast()
    model.save_pretrained(folder)
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(folder)
    file = str(RECORDINGS / "yes.flac")
    drawn(["reconstruction", file, "--model", str(folder)], tmp_path / "out" / "a.png", capsys)
    assert main(["plot", "reconstruction", file, "--model", str(model_folder), "--out", str(tmp_path / "b.png")]) == 1
    assert "is of the family 'hf-ast', but must be a pretrained SSAST" in capsys.readouterr().err
    model.backbone.save_pretrained(folder)
    assert main(["plot", "reconstruction", file, "--model", str(folder), "--out", str(tmp_path / "b.png")]) == 1
    assert "has no pretraining heads: the checkpoint lacks objectives" in capsys.readouterr().err


def test_similarity_of_what_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    files = [str(RECORDINGS / "yes.flac"), str(tmp_path / "broken.wav"), str(RECORDINGS / "no.flac")]
    assert main(["plot", "similarity", *files, "--out", str(tmp_path / "a.png")]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path}/a.png\n"
    assert "broken.wav" in printed.err


def test_results_of_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert METRICS == cards.METRICS
    (tmp_path / METRICS).write_text(json.dumps(RESULT))
    drawn(["confusion", str(tmp_path)], tmp_path / "1" / "a.png", capsys)
    drawn(["average-precision", str(tmp_path / METRICS)], tmp_path / "2" / "a.png", capsys)
    (tmp_path / "other.json").write_text(json.dumps(RESULT | {"confusion": None}))
    assert main(["plot", "confusion", str(tmp_path / "other.json"), "--out", str(tmp_path / "b.png")]) == 1
    assert "`hf-ast plot average-precision`" in capsys.readouterr().err
    (tmp_path / "other.json").write_text("[]")
    assert main(["plot", "confusion", str(tmp_path / "other.json"), "--out", str(tmp_path / "b.png")]) == 1
    assert "has no 'classes'" in capsys.readouterr().err


def test_learning_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {"log_history": [{"step": 1, "epoch": 1.0, "loss": 2.0}], "global_step": 1, "epoch": 1.0}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    drawn(["learning-curves", str(tmp_path)], tmp_path / "out" / "a.png", capsys)


def test_where_it_cannot_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken.png").touch()
    for name, message in (("taken.png", "exists"), ("a.jpeg", "must end in .png, .pdf or .svg")):
        assert main(["plot", "spectrogram", "a.wav", "--out", str(tmp_path / name)]) == 2
        assert message in " ".join(capsys.readouterr().err.replace("│", "").split())


def test_measures_of_events_have_no_average_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tmp_path / METRICS
    result.write_text(json.dumps({"classes": [{"label": "chirp", "event_F1": 1.0}]}))
    assert main(["plot", "average-precision", str(result), "--out", str(tmp_path / "a.png")]) == 1
    assert "holds measures of events" in capsys.readouterr().err
