"""`hf-ast finetune`, and its result in `hf-ast classify`."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForAudioClassification

from docs.guides.calls import write_calls
from hf_ast.cli import main
from tests.support.labelled import NOISE, SKIPPED, TONES, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "recordings", num_clips=5)


def test_from_a_folder_to_a_model_and_its_labels(
    folder: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["finetune", str(folder), "--model", str(model_folder), "--out", str(out), "--epochs", "1"]
    settings = ["--batch-size", "6", "--num-workers", "0", "--duration", "0.4", "--learning-rate", "0.001"]
    assert main([*command, *settings, "--json"]) == 1  # of the recordings that are skipped
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert result["skipped"].keys() == SKIPPED
    assert result["split"] == "validation"
    assert result["num_recordings"] == 3
    assert [row["label"] for row in result["classes"]] == sorted([TONES, NOISE, "pulses"])
    assert f"{TONES}           4           1\n" in output.err
    assert "skipped: 4 files\n" in output.err
    # Two steps: 12 recordings in batches of 6
    assert (out / "checkpoints" / "checkpoint-2").is_dir()
    assert AutoModelForAudioClassification.from_pretrained(out).config.max_length == 39

    assert main([*command, *settings, "--resume"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"{out}, validation:", "3 recordings"]
    assert float(lines[2].split()[1]) == pytest.approx(result["metrics"]["accuracy"], abs=1e-4)

    assert main(["classify", str(folder / TONES / "00.wav"), "--model", str(out), "--json", "--top-k", "3"]) == 0
    (classified,) = json.loads(capsys.readouterr().out)
    assert {tag["label"] for tag in classified["labels"]} == {TONES, NOISE, "pulses"}


def test_the_embedded_model_is_the_default(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["finetune", str(folder), "--out", str(out), "--epochs", "1", "--num-workers", "0"]) == 1
    assert "starting from the embedded keyword model" in capsys.readouterr().err
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in card


def test_errors_are_sentences(
    folder: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["finetune", str(folder), "--model", str(model_folder), "--out", str(tmp_path / "out")]
    assert main([*command, "--resume"]) == 1
    assert "holds no saved state; start without it" in capsys.readouterr().err
    assert main([*command, "--preset", "large"]) == 2
    assert main(["finetune", str(tmp_path), "--model", str(model_folder), "--out", str(tmp_path / "out")]) == 1
    assert "holds no recording" in capsys.readouterr().err


def test_marked_events_train_a_model_that_is_measured_by_its_events(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    write_calls(data, 5, duration_s=2.0)
    command = ["finetune", str(data), "--model", str(model_folder), "--out", str(out), "--epochs", "1"]
    settings = ["--num-workers", "0", "--duration", "0.4", "--json"]
    assert main([*command, "--task", "events", *settings]) == 0
    output = capsys.readouterr()
    trained = json.loads(output.out)
    assert "1 recordings without events, 0 without times" in output.err
    assert [row["label"] for row in trained["classes"]] == ["chirp", "trill"]

    figure = tmp_path / "found.png"
    assert main(["evaluate", str(out), str(data), "--split", "validation", "--json", "--figure", str(figure)]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == pytest.approx(trained["metrics"], nan_ok=True)
    assert figure.exists()


def test_without_the_task_segments_are_clips_and_the_command_says_so(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    write_calls(data, 3, duration_s=2.0)
    command = ["finetune", str(data), "--model", str(model_folder), "--out", str(tmp_path / "out"), "--epochs", "1"]
    main([*command, "--num-workers", "0", "--validation", "0"])
    assert "to learn when something is heard, add --task events" in capsys.readouterr().err
