"""Trees of folders: one reading, or an error that shows the tree and the ways out."""

import re
import unicodedata
from pathlib import Path

import pytest

from hf_ast.data.labelled import read_data
from tests.support.labelled import write_wavs

TREES = {
    "sites between": (["site1/owl/a.wav", "site2/owl/c.wav"], "in several folders, any of which may be"),
    "a stray file beside splits": (["train/owl/a.wav", "test/owl/b.wav", "stray.wav"], "lie beside the folders of"),
    "splits without classes": (["train/a.wav", "test/b.wav"], "in folders of splits, without folders of classes"),
    "one split without classes": (["training_set/a.wav", "training_set/b.wav"], "without folders of classes"),
    "splits beside classes": (["train/owl/a.wav", "test/owl/b.wav", "owl/c.wav"], "lie in folders of splits and in"),
    "a folder around": (["data/train/owl/a.wav", "data/test/owl/b.wav"], "If 'data' only holds the others, give"),
    "a folder around classes": (["data/owl/a.wav", "data/wren/b.wav"], "If 'data' only holds the others, give"),
    "different depths": (["owl/a.wav", "wren/site1/b.wav"], "in several folders, any of which may be"),
    "sites below splits": (["train/site1/owl/a.wav", "test/site1/owl/b.wav"], "at different depths or in several"),
}  # fmt: skip


@pytest.mark.parametrize("case", TREES)
def test_a_tree_with_several_readings_is_an_error_that_shows_it(case: str, tmp_path: Path) -> None:
    names, said = TREES[case]
    write_wavs(tmp_path, *names)
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        read_data(tmp_path)
    assert "--label-level" in str(error.value)
    for name in names:
        assert f"{Path(name).parent.as_posix()}/: " in str(error.value) or "/" not in name


@pytest.mark.parametrize(
    ("names", "level", "labels", "splits"),
    [
        (["owl/a.wav", "wren/b.wav"], None, ["owl", "wren"], ["train", "train"]),
        (["train/owl/a.wav", "test/owl/b.wav"], None, ["owl"], ["test", "train"]),
        (["training_set/owl/a.wav", "test_set/owl/b.wav"], None, ["owl"], ["test", "train"]),
        (["training_set/owl/a.wav", "training_set/wren/b.wav"], None, ["owl", "wren"], ["train", "train"]),
        (["train/a.wav", "bus/b.wav"], None, ["bus", "train"], ["train", "train"]),  # a vehicle
        (["site1/owl/a.wav", "site2/wren/b.wav"], 2, ["owl", "wren"], ["train", "train"]),
        (["owl/site1/a.wav", "wren/b.wav"], 1, ["owl", "wren"], ["train", "train"]),
        (["train/s/owl/a.wav", "test/s/wren/b.wav"], 3, ["owl", "wren"], ["test", "train"]),
    ],
)
def test_a_tree_with_one_reading(
    names: list[str], level: int | None, labels: list[str], splits: list[str], tmp_path: Path
) -> None:
    write_wavs(tmp_path, *names)
    (tmp_path / ".hidden" / "x").mkdir(parents=True)
    data = read_data(tmp_path, label_level=level, validation_fraction=0.0)
    assert data.labels == labels
    assert sorted(clip.split for clip in data.clips) == splits


def test_a_level_that_is_too_deep_is_an_error(tmp_path: Path) -> None:
    write_wavs(tmp_path, "owl/a.wav")
    with pytest.raises(ValueError, match="label_level=2 must be at least 1, and not deeper"):
        read_data(tmp_path, label_level=2)


def test_a_folder_of_a_class_without_recordings_is_an_error(tmp_path: Path) -> None:
    write_wavs(tmp_path, "owl/a.wav", "wren/b.wav")
    (tmp_path / "lark").mkdir()
    with pytest.raises(ValueError, match="has 1 empty folder beside the classes, such as 'lark'"):
        read_data(tmp_path)
    (tmp_path / "lark" / "notes.txt").write_text("no recording")
    data = read_data(tmp_path)
    assert data.labels == ["owl", "wren"]
    assert data.warned == {str(tmp_path): "The folder 'lark' holds no recording, so it is no class."}
    (tmp_path / "lark" / "damaged.wav").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"1 class without a recording that can be used \('lark': 'lark/damaged.wav'"):
        read_data(tmp_path)


def test_umlauts_on_disk_are_no_empty_class(tmp_path: Path) -> None:
    write_wavs(tmp_path, f"{unicodedata.normalize('NFD', 'Tür')}/a.wav", "owl/b.wav")
    assert read_data(tmp_path).labels == ["Tür", "owl"]


def test_recordings_in_no_folder_are_named(tmp_path: Path) -> None:
    write_wavs(tmp_path, "owl/a.wav", "wren/b.wav", "stray.wav")
    assert read_data(tmp_path).skipped == {"stray.wav": "it has no label"}


def test_names_in_the_lists_of_speech_commands_that_are_not_there_are_counted(tmp_path: Path) -> None:
    write_wavs(tmp_path, "yes/a.wav", "no/b.wav")
    (tmp_path / "testing_list.txt").write_text("no/b.wav\nno/gone.wav\n")
    data = read_data(tmp_path)
    assert "1 recordings in the lists of splits of" in data.warned[str(tmp_path)]
    assert "'no/gone.wav'" in data.warned[str(tmp_path)]


def test_a_flat_folder_with_a_table_below_asks_for_it(tmp_path: Path) -> None:
    write_wavs(tmp_path, "audio/a.wav", "audio/b.wav")
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "list.csv").write_text("filename,label\na.wav,x\nb.wav,y\n")
    with pytest.raises(ValueError, match=r"the table 'meta/list.csv'; give this table instead"):
        read_data(tmp_path)
