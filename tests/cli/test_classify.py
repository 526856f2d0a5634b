"""`hf-ast classify`."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hf_ast.assets import EMBEDDED_MODEL, RECORDINGS
from hf_ast.cli import main
from tests.support.recordings import sine


def test_embedded_model_labels_its_recordings(capsys: pytest.CaptureFixture) -> None:
    recordings = sorted(RECORDINGS.glob("*.flac"))
    assert len(recordings) >= 12
    assert main(["classify", *map(str, recordings), "--json", "--top-k", "1"]) == 0
    for result in json.loads(capsys.readouterr().out):
        for segment in result["segments"]:
            assert segment["labels"][0]["label"] == Path(result["file"]).stem
    assert (EMBEDDED_MODEL / "model.safetensors").stat().st_size < 3_000_000


def test_table_names_files_times_and_labels(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    soundfile.write(tmp_path / "long.wav", np.stack([sine(44100, 1.3)] * 2, axis=1), 44100)
    assert main(["classify", str(tmp_path / "long.wav"), "--model", str(model_folder), "--top-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["file", "time", "labels"]
    assert [line.split()[1] for line in lines[1:]] == ["0.0-0.5", "0.5-1.0", "0.8-1.3"]
    assert all(line.count("LABEL_") == 2 and line.startswith("long.wav") for line in lines[1:])


def test_a_bad_file_does_not_stop_the_others(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    soundfile.write(tmp_path / "good.wav", sine(16000, 0.5), 16000)
    status = main(["classify", "missing.wav", str(tmp_path / "good.wav"), "--model", str(model_folder), "--json"])
    captured = capsys.readouterr()
    assert status == 1
    assert "missing.wav" in captured.err
    assert [result["file"] for result in json.loads(captured.out)] == [str(tmp_path / "good.wav")]
    assert main(["classify", "x.wav", "--model", str(tmp_path / "no-model")]) == 1
    assert "no-model" in capsys.readouterr().err
