"""`hf-ast embed`."""

import importlib.util
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from pyarrow import parquet

from hf_ast import audio, load_encoder, scene_embeddings, timestamp_embeddings
from hf_ast.cli import main
from hf_ast.inference import embeddings
from tests.support.recordings import sine


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [tmp_path / f"{number}.wav" for number in range(3)]
    for number, path in enumerate(paths):
        soundfile.write(path, sine(16000, 0.3 + 0.4 * number, 200.0 * (number + 1)), 16000)
    return [str(path) for path in paths]


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file in either format."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    table = parquet.read_table(path)
    return {name: np.array(table.column(name).to_pylist()) for name in table.column_names}


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_one_row_per_recording(
    suffix: str, model_folder: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / f"scenes{suffix}"
    arguments = ["embed", *files, "missing.wav", "--model", str(model_folder), "--out", str(out), "--mode", "all"]
    assert main([*arguments, "--json"]) == 1  # of the missing file
    result = json.loads(capsys.readouterr().out)
    failed = [{"file": "missing.wav", "error": "there is no such file."}]
    assert result == {"out": str(out), "num_recordings": 3, "num_rows": 3, "num_dimensions": 5 + 32, "failed": failed}
    columns = read(out)
    assert list(columns) == ["path", "embedding"]
    assert columns["path"].tolist() == files
    model, extractor = load_encoder(model_folder)
    for file, found in zip(files, columns["embedding"], strict=True):
        expected = scene_embeddings(model, extractor, audio.read(file, 16000)[0], mode="all")
        torch.testing.assert_close(torch.tensor(found, dtype=torch.float32), expected[0], atol=0, rtol=0)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_one_row_per_moment(suffix: str, model_folder: Path, files: list[str], tmp_path: Path) -> None:
    out = tmp_path / f"moments{suffix}"
    arguments = ["embed", *files, "--moments", "--hop", "0.1", "--window", "0.2", "--out", str(out)]
    assert main([*arguments, "--model", str(model_folder)]) == 0
    columns = read(out)
    assert list(columns) == ["path", "time_s", "embedding"]
    model, extractor = load_encoder(model_folder)
    for file in files:
        chosen = columns["path"] == file
        waveform = audio.read(file, 16000)[0]
        expected, times_ms = timestamp_embeddings(model, extractor, waveform, window_s=0.2, hop_s=0.1)
        np.testing.assert_allclose(columns["embedding"][chosen], expected[0].numpy(), atol=0, rtol=0)
        np.testing.assert_allclose(columns["time_s"][chosen], times_ms[0].numpy() / 1000, atol=1e-6)


def test_what_is_finished_is_written_when_it_is_interrupted(
    model_folder: Path,
    files: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(embeddings, "scene_embeddings", interrupted_at(3, embeddings.scene_embeddings))
    assert main(["embed", *files, "--model", str(model_folder), "--out", str(tmp_path / "x.npz")]) == 130
    assert capsys.readouterr() == (f"{tmp_path}/x.npz\n", "interrupted after 2 of 3\n")
    assert read(tmp_path / "x.npz")["path"].tolist() == files[:2]


def interrupted_at(number: int, function: Callable[..., Any]) -> Callable[..., Any]:
    calls = []

    def replaced(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == number:
            signal.raise_signal(signal.SIGINT)
        return function(*args, **kwargs)

    return replaced


def test_where_it_cannot_write(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken.npz").touch()
    assert main(["embed", *files, "--out", str(tmp_path / "taken.npz")]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["embed", *files, "--out", str(tmp_path / "x.csv")]) == 2
    assert "must end in .npz or .parquet" in " ".join(capsys.readouterr().err.replace("│", "").split())
    monkeypatch.setattr(
        "hf_ast.cli.embed.find_spec", lambda name: None if name == "pyarrow" else importlib.util.find_spec(name)
    )
    assert main(["embed", *files, "--out", str(tmp_path / "x.parquet")]) == 1
    assert capsys.readouterr().err.startswith("error: Parquet needs pyarrow: pip install")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.wav", "1.wav", "2.wav", "taken.npz"]
