"""`hf-ast evaluate`."""

import json
import shutil
from pathlib import Path

import pytest

from hf_ast import HfASTFeatureExtractor, load_classifier
from hf_ast.cli import main
from hf_ast.data.labelled import read_data
from hf_ast.training.esc50 import FOLDS, read_esc50
from hf_ast.training.evaluate import evaluate
from tests.support.labelled import NOISE, PULSES, SKIPPED, TONES, write_folder
from tests.support.tiny import tiny_model
from tests.training.test_evaluate import write_esc50


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "recordings", num_clips=5)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tiny_model(id2label={0: PULSES, 1: NOISE, 2: TONES}, num_labels=3).save_pretrained(tmp_path / "model")
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_metrics_of_a_folder(folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = evaluate(*load_classifier(model), read_data(folder)).metrics.values
    figure = tmp_path / "confusion.png"
    assert (
        main(["evaluate", str(model), str(folder), "--figure", str(figure), "--json"]) == 1
    )  # of the recordings that are skipped
    result = json.loads(capsys.readouterr().out)
    assert result["metrics"] == pytest.approx(expected)
    assert result["split"] == "all"
    assert result["num_recordings"] == 15
    assert result["skipped"].keys() == SKIPPED
    assert figure.stat().st_size > 5_000
    assert main(["evaluate", str(model), str(folder), "--split", "validation"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 recordings"
    assert [line.split()[0] for line in lines[1:6]] == list(expected)
    assert "largest class" in lines[1]
    assert main(["evaluate", str(model), str(folder), "--split", "test"]) == 1
    assert "split='test' holds no recording" in capsys.readouterr().err


def test_the_folds_of_esc50_have_a_mean(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_esc50(tmp_path / "esc")
    assert main(["evaluate", str(model), str(folder), "--protocol", "esc50"]) == 1
    assert "would be evaluated on recordings that it was trained on" in capsys.readouterr().err
    for fold in FOLDS:
        shutil.copytree(model, tmp_path / f"fold{fold}")
    assert main(["evaluate", str(tmp_path / "fold{fold}"), str(folder), "--protocol", "esc50", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    of_folds = [fold["accuracy"] for fold in result["folds"]]
    whole = evaluate(*load_classifier(model), read_esc50(folder)).metrics.values["accuracy"]
    assert result["mean"]["accuracy"] == pytest.approx(sum(of_folds) / 5) == pytest.approx(whole)


@pytest.mark.slow
def test_the_folds_of_esc50_are_trained_and_then_evaluated(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_esc50(tmp_path / "esc"), tmp_path / "out"
    command = ["evaluate", str(model_folder), str(folder), "--protocol", "esc50"]
    assert main([*command, "--out", str(out), "--epochs", "1", "--num-workers", "0", "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert len(trained["folds"]) == 5
    accuracies = [fold["accuracy"] for fold in trained["folds"]]
    assert trained["mean"]["accuracy"] == pytest.approx(sum(accuracies) / 5)
    record = json.loads((out / "fold2" / "training.json").read_text(encoding="utf-8"))
    assert {Path(name).name[0] for name in record["splits"]["test"]} == {"2"}

    assert main(["evaluate", str(out / "fold{fold}"), str(folder), "--protocol", "esc50", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == trained
