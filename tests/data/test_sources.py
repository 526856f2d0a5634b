"""Where the recordings of a corpus come from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from datasets import Audio, Dataset, DatasetDict

from hf_ast.data import audio
from hf_ast.data.sources import Source, find_source
from tests.support.recordings import sine

FREQUENCIES_HZ = {"a.wav": 300.0, "deep/b.flac": 500.0, "deep/er/c.ogg": 700.0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    for name, frequency_hz in FREQUENCIES_HZ.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, sine(16000, 0.5, frequency_hz), 16000)
    (folder / "labels.txt").write_text("no recording")
    return folder


def frequencies_hz(source: Source) -> dict[str, float]:
    """The loudest frequency of every recording, by its name."""
    reader = source.reader()
    found = {}
    for index, name in enumerate(source.names()):
        with reader.open(name, index) as recording:
            waveform, rate = audio.read(recording)
        found[name] = float(np.abs(np.fft.rfft(waveform)).argmax() * rate / len(waveform))
    return found


def close(expected: dict[str, float]) -> Any:
    return pytest.approx(expected, abs=2.0)  # a bin of 0.5 s is 2 Hz wide


def test_folders_are_searched_to_the_bottom(folder: Path) -> None:
    assert frequencies_hz(find_source(folder)) == close(FREQUENCIES_HZ)
    assert find_source(f"{folder}/").location == str(folder)


def write_csv(path: Path, paths: list[str]) -> None:
    lines = [f'"{name}",x' for name in paths]
    path.write_text("\n".join(["\ufefffile,label", *lines]) + "\n", encoding="utf-8")


def write_tsv(path: Path, paths: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in ["label\tpath", *(f"x\t{name}" for name in paths)]))


def write_json(path: Path, paths: list[str]) -> None:
    path.write_text(json.dumps([{"audio": name} for name in paths]))


def write_list(path: Path, paths: list[str]) -> None:
    path.write_text(json.dumps(paths))


def write_lines(path: Path, paths: list[str]) -> None:
    path.write_text("".join(json.dumps({"path": name, "text": "x"}) + "\n" for name in paths))


def write_parquet(path: Path, paths: list[str]) -> None:
    pq.write_table(pa.table({"number": range(len(paths)), "file": paths}), path)


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".csv", write_csv),
        (".tsv", write_tsv),
        (".json", write_json),
        (".json", write_list),
        (".json", write_lines),
        (".jsonl", write_lines),
        (".parquet", write_parquet),
    ],
)
def test_manifests(folder: Path, suffix: str, write: Callable[[Path, list[str]], None]) -> None:
    absolute = str(folder / "deep/b.flac")
    manifest = folder / "deep" / f"list{suffix}"
    write(manifest, ["er/c.ogg", absolute, "../a.wav", "er/c.ogg"])  # a recording may be named in several rows
    source = find_source(manifest)
    assert source.names() == ["er/c.ogg", absolute, "../a.wav"]
    assert frequencies_hz(source) == close({"er/c.ogg": 700.0, absolute: 500.0, "../a.wav": 300.0})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "list.csv",
            "name,label\na.wav,x\n",
            "columns \\['name', 'label'\\], but none of \\('path', 'file', 'audio',",
        ),
        ("list.csv", "path,label\na.wav,x\n,y\n", "line 3 of .* has '' instead of a path"),
        ("list.csv", "path\n", "holds no recording"),
        ("list.jsonl", '{"path": "a.wav"}\n{"path"', "is not valid JSON"),
        ("list.json", '{"x":\n{"path": "a.wav"}}', "holds a dict instead of a list of recordings"),
        ("list.json", "[1]", "has 1 instead of a path"),
    ],
)
def test_manifests_that_cannot_be_understood(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=said):
        find_source(tmp_path / name).names()


def data_set(paths: list[str | None]) -> Dataset:
    """Recordings whose bytes lie in the data set."""
    rows = []
    for path, (name, frequency_hz) in zip(paths, FREQUENCIES_HZ.items(), strict=True):
        file = fsspec.filesystem("memory").open(f"/{name}", "wb")
        with file:
            soundfile.write(file, sine(16000, 0.5, frequency_hz), 16000, format="WAV")
        rows.append({"bytes": fsspec.filesystem("memory").cat_file(f"/{name}"), "path": path})
    return Dataset.from_dict({"label": [0, 1, 2], "sound": rows}).cast_column("sound", Audio(decode=False))


def test_data_sets_on_the_disk(tmp_path: Path) -> None:
    named, nameless = data_set(["a.wav", "b.wav", "c.wav"]), data_set([None, None, None])
    named.save_to_disk(tmp_path / "one")
    assert frequencies_hz(find_source(tmp_path / "one")) == close({"a.wav": 300.0, "b.wav": 500.0, "c.wav": 700.0})

    DatasetDict(train=nameless, test=named.select([1])).save_to_disk(tmp_path / "splits")
    both = {"train/0": 300.0, "train/1": 500.0, "train/2": 700.0, "test/0": 500.0}
    assert frequencies_hz(find_source(tmp_path / "splits")) == close(both)
    assert frequencies_hz(find_source(tmp_path / "splits", split="test")) == close({"b.wav": 500.0})
    with pytest.raises(ValueError, match="split='dev' is not one of \\['train', 'test'\\]"):
        find_source(tmp_path / "splits", split="dev").names()


def test_data_sets_in_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "folder"
    folder.mkdir()
    data_set(["a.wav", "b.wav", "c.wav"]).to_parquet(folder / "train-00000-of-00001.parquet")
    expected = close({"a.wav": 300.0, "b.wav": 500.0, "c.wav": 700.0})
    assert frequencies_hz(find_source(folder)) == expected
    assert frequencies_hz(find_source(folder / "train-00000-of-00001.parquet")) == expected


def test_urls(folder: Path) -> None:
    assert frequencies_hz(find_source(f"file://{folder}")) == close(FREQUENCIES_HZ)
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/bucket/recordings", recursive=True)
    memory.pipe_file("/bucket/list.csv", b"path\nrecordings/a.wav\nmemory://bucket/recordings/deep/b.flac\n")
    assert frequencies_hz(find_source("memory://bucket/recordings/")) == close(FREQUENCIES_HZ)
    assert frequencies_hz(find_source("memory://bucket/list.csv")) == close(
        {"recordings/a.wav": 300.0, "memory://bucket/recordings/deep/b.flac": 500.0}
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere", "is not a folder, a manifest, tar shards or a URL"),
        ("nothing://bucket", "cannot be opened by fsspec"),
        ("recordings/a.wav", "is a file, but no manifest"),
    ],
)
def test_sources_that_are_none(source: str, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    with pytest.raises(ValueError, match=said):
        find_source(source).names()


def test_a_folder_without_recordings_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no recording")
    with pytest.raises(ValueError, match="holds no recording"):
        find_source(tmp_path).names()
