"""Labels in values of tables and names of folders: one meaning, or a question that shows both."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_ast.data.labelled import LabelledData, read_data
from tests.support.labelled import write_wavs


def read(folder: Path, labels: list[str], **settings: Any) -> LabelledData:
    names = [f"{number}.wav" for number in range(len(labels))]
    write_wavs(folder, *names, duration_s=0.1)
    rows = ['"{}","{}"'.format(name, label.replace('"', '""')) for name, label in zip(names, labels, strict=True)]
    (folder / "x.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    return read_data(folder / "x.csv", validation_fraction=0.0, **settings)


@pytest.mark.parametrize(
    ("labels", "shown", "separator", "several"),
    [
        (["/m/04rlf,/m/09x0r", "/m/04rlf"], "/m/04rlf,/m/09x0r", ",", ["/m/04rlf", "/m/09x0r"]),
        (["Speech,Human_voice", "Speech"], "Speech,Human_voice", ",", ["Human_voice", "Speech"]),
        (["dog, rain", "owl"], "dog, rain", ",", ["dog", "owl", "rain"]),
        (["dog|rain", "owl"], "dog|rain", "|", ["dog", "owl", "rain"]),
        (["['dog', 'rain']", "['owl']"], "['dog', 'rain']", ",", ["dog", "owl", "rain"]),
        (['["dog", "rain"]', "[]"], '["dog", "rain"]', ",", ["dog", "rain"]),
        (["['dog' 'rain']", "owl"], "['dog' 'rain']", ",", None),
        (["dog;rain"] + ["owl"] * 99, "dog;rain", ";", ["dog", "owl", "rain"]),
    ],
)
def test_what_may_be_several_labels_is_asked(
    labels: list[str], shown: str, separator: str, several: list[str] | None, tmp_path: Path
) -> None:
    asked = rf"line 2 of .* has the label .*Then label_separator='{re.escape(separator)}' \(--label-separator"
    with pytest.raises(ValueError, match=asked) as question:
        read(tmp_path, labels)
    assert "Is it one? Then label_separator='' (--label-separator '')" in str(question.value)
    one = read(tmp_path, labels, label_separator="")
    assert shown in one.labels
    assert not one.multi_label
    if several is not None:
        data = read(tmp_path, labels, label_separator=separator)
        assert data.labels == several
        assert data.multi_label


@pytest.mark.parametrize("text", ["nan", "NaN", "NA", "null", "None", "N/A"])
def test_what_may_be_missing_is_asked(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"line 3 of .* has the label '{text}'. Is it missing\? .*--missing-label"):
        read(tmp_path, ["x", text, "y"])
    data = read(tmp_path, ["x", text, "y"], missing_label=text)
    assert data.labels == ["x", "y"]
    assert data.skipped == {"1.wav": "it has no label"}
    assert read(tmp_path, ["x", text, "y"], missing_label="").labels == sorted(["x", text, "y"])


def test_semicolons_separate_labels_and_commas_are_then_part_of_them(tmp_path: Path) -> None:
    data = read(tmp_path, ["Male speech, man speaking; Dog", "Dog", "Male speech, man speaking"])
    assert data.labels == ["Dog", "Male speech, man speaking"]


def test_one_recording_with_two_classes_among_many_is_asked(tmp_path: Path) -> None:
    names = [f"{number}.wav" for number in range(40)]
    write_wavs(tmp_path, *names, duration_s=0.1)
    rows = [f"{name},{'xy'[number % 2]}" for number, name in enumerate(names)]
    (tmp_path / "x.csv").write_text("\n".join(["path,label", *rows, "./7.wav,x"]))
    with pytest.raises(ValueError, match=r"1 of 40 recordings have rows with different labels, such as '7.wav'"):
        read_data(tmp_path / "x.csv")
    data = read_data(tmp_path / "x.csv", multi_label=True)
    assert len(data.clips) == 40
    (clip,) = [clip for clip in data.clips if clip.name == "7.wav"]
    assert clip.labels == (0, 1)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([1, 2, 1], ["1", "2"]),
        ([1.0, 2.0, None], ["1", "2"]),
        ([1.5, 2.0, 2.0], ["1.5", "2"]),
        (["1", "2.0", "2"], ["1", "2"]),
        ([True, False, True], ["false", "true"]),
        (["True", "False", "true"], ["false", "true"]),
        ([[1], [1, 2], []], ["1", "2"]),
    ],
)
def test_numbers_and_truth_values_have_one_name(values: list[Any], labels: list[str], tmp_path: Path) -> None:
    write_wavs(tmp_path, "0.wav", "1.wav", "2.wav")
    table = pa.table({"path": [f"{number}.wav" for number in range(3)], "label": values})
    pq.write_table(table, tmp_path / "x.parquet")
    assert read_data(tmp_path / "x.parquet").labels == labels
    if not isinstance(values[0], list):  # the same rows, as pandas writes them
        lines = [f"{number}.wav,{'' if value is None else value}" for number, value in enumerate(values)]
        (tmp_path / "x.csv").write_text("\n".join(["path,label", *lines]))
        assert read_data(tmp_path / "x.csv").labels == labels


def test_a_folder_that_looks_like_several_classes_is_asked(tmp_path: Path) -> None:
    write_wavs(tmp_path, "owl,wren/a.wav", "owl/b.wav")
    with pytest.raises(ValueError, match=r"the folder of a class has the label 'owl,wren'.*--label-separator ','"):
        read_data(tmp_path)
    assert read_data(tmp_path, label_separator="").labels == ["owl", "owl,wren"]
    data = read_data(tmp_path, label_separator=",", validation_fraction=0.0)
    assert {clip.name: clip.labels for clip in data.clips} == {"owl,wren/a.wav": (0, 1), "owl/b.wav": (0,)}


def test_a_second_column_that_may_be_the_labels_is_named(tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav", "b.wav", duration_s=0.1)
    table = tmp_path / "x.csv"
    table.write_text("path,class,label\na.wav,1,x\nb.wav,2,y\n")
    data = read_data(table)
    assert data.labels == ["x", "y"]
    assert data.warned[str(table)].startswith("The labels are those in the column 'label', not 'class'")
    assert read_data(table, label_column="class").warned == {}
