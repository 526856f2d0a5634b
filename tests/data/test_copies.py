"""The same recording in two splits or classes, by whatever name."""

import os
import shutil
from pathlib import Path

import pytest

from hf_ast.data.copies import same_files
from hf_ast.data.labelled import read_data
from tests.support.labelled import write_wavs


def write_csv(folder: Path, rows: list[str]) -> Path:
    (folder / "x.csv").write_text("\n".join(["path,label,split", *rows]))
    return folder / "x.csv"


@pytest.mark.parametrize("how", ["absolute", "symlink", "hard link", "copy", "up and down"])
def test_the_same_recording_in_two_splits_is_named(how: str, tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav", "b.wav", "c.wav")
    other = tmp_path / "other.wav"
    name = {"absolute": str(tmp_path / "a.wav"), "up and down": f"../{tmp_path.name}/a.wav"}.get(how, "other.wav")
    if how == "symlink":
        other.symlink_to(tmp_path / "a.wav")
    elif how == "hard link":
        os.link(tmp_path / "a.wav", other)
    elif how == "copy":
        shutil.copy(tmp_path / "a.wav", other)
    data = read_data(write_csv(tmp_path, ["a.wav,x,train", f"{name},x,test", "b.wav,y,train", "c.wav,y,test"]))
    assert data.warned.keys() == {"a.wav", name}
    assert data.warned["a.wav"] == f"it is in the split 'train', and the same recording {name!r} in 'test'"
    assert any(line == "warned: 2 files" for line in data.describe_skipped())


def test_the_same_recording_in_two_classes_is_named(tmp_path: Path) -> None:
    write_wavs(tmp_path, "owl/a.wav", "owl/b.wav", "wren/c.wav")
    shutil.copy(tmp_path / "owl/a.wav", tmp_path / "wren/d.wav")
    data = read_data(tmp_path, validation_fraction=0.0)
    assert data.warned == {
        "wren/d.wav": "it is the same recording as 'owl/a.wav', but its class is wren, not owl",
    }


def test_copies_are_held_out_together(tmp_path: Path) -> None:
    write_wavs(tmp_path, *(f"{label}/{number}.wav" for label in ("owl", "wren") for number in range(6)))
    for label in ("owl", "wren"):
        for number in range(6):
            shutil.copy(tmp_path / label / f"{number}.wav", tmp_path / label / f"copy{number}.wav")
    for seed in range(3):
        data = read_data(tmp_path, seed=seed)
        assert not data.warned
        split = {clip.name: clip.split for clip in data.clips}
        assert sum(value == "validation" for value in split.values()) == 4
        assert all(split[f"owl/{number}.wav"] == split[f"owl/copy{number}.wav"] for number in range(6))


def test_segments_of_a_recording_in_two_splits_are_named(tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav", "b.wav")
    (tmp_path / "x.csv").write_text(
        "path,start,end,label,split\na.wav,0,1,x,train\na.wav,1,2,x,test\nb.wav,0,1,y,train\n"
    )
    assert read_data(tmp_path / "x.csv").warned.keys() == {"a.wav [0, 1]", "a.wav [1, 2]"}


def test_only_files_of_equal_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(tmp_path / f"{number}.wav") for number in range(4)]
    for path, content in zip(paths, (b"a", b"bb", b"cc", b"bb"), strict=True):
        Path(path).write_bytes(content)
    read = []
    monkeypatch.setattr("hf_ast.data.copies._digest", lambda path: read.append(path) or Path(path).read_bytes())
    assert same_files([*paths, str(tmp_path / "gone.wav")]) == {paths[3]: paths[1]}
    assert read == paths[1:]
