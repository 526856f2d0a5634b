"""`hf-ast extract`."""

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile

from hf_ast.cli import main
from tests.support.recordings import sine


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(3):
        soundfile.write(folder / f"{number}.wav", sine(16000, 1.0, 200.0 * (number + 1)), 16000)
    return folder


def test_a_corpus_and_what_is_left_of_it(
    corpus: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["extract", str(corpus), "--out", str(out), "--model", str(model_folder), "--num-workers", "0"]
    arguments += ["--what", "both", "--rows", "windows", "--window", "0.5", "--hop", "0.25", "--files-per-shard", "2"]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result.pop("elapsed_s") > 0
    counts = {"num_files": 3, "num_done_before": 0, "num_errors": 0, "num_warnings": 0}
    assert result == counts | {"out": str(out), "audio_s": 3.0, "failed": []}
    rows = pandas.read_parquet(out / "data")
    assert rows.path.tolist() == ["0.wav"] * 3 + ["1.wav"] * 3 + ["2.wav"] * 3
    assert rows.start_s.tolist() == [0, 0.25, 0.5] * 3
    assert np.stack(rows.embedding).shape == (9, 32)

    (out / "data" / "shard-00001-of-00002.parquet").unlink()
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 3 recordings, 1 of them in this run (0.00 h in ")


def test_problems_are_sentences(
    corpus: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus / "1.wav").write_bytes(b"no recording")
    out = tmp_path / "out"
    arguments = ["extract", str(corpus), "--out", str(out), "--model", str(model_folder), "--num-workers", "0"]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert "1 could not be read" in captured.out
    assert captured.err.startswith("error: 1.wav: ")
    assert main([*arguments, "--threshold", "0.7"]) == 1
    captured = capsys.readouterr()
    assert "threshold was 0.5 and is 0.7 now" in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert main([*arguments, "--what", "text"]) == 2
    assert main([*arguments, "--num-actors", "2"]) == 1
    assert 'are for engine="ray"' in capsys.readouterr().err
