"""Selection tables of Raven and label tracks of Audacity, as tools write them."""

from pathlib import Path

import pytest

from hf_ast.data.labelled import LabelledData, read_data
from tests.support.labelled import write_wavs

COLUMNS = ["Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"]


def write(path: Path, rows: list[list[object]], *others: str) -> Path:
    lines = [[*COLUMNS, *others], *rows]
    path.write_text("\n".join("\t".join(map(str, line)) for line in lines) + "\n")
    return path


def row(number: int, start: float, end: float, *others: object, view: str = "Spectrogram 1") -> list[object]:
    return [number, view, 1, start, end, 100.0, 3000.0, *others]


def by_title(data: LabelledData) -> dict[str, list[str]]:
    return {clip.title: [data.labels[label] for label in clip.labels] for clip in data.clips}


def read(source: Path, **settings: object) -> LabelledData:
    return read_data(source, validation_fraction=0.0, **settings)  # type: ignore[arg-type]


def test_views_of_a_selection_count_once(tmp_path: Path) -> None:
    write_wavs(tmp_path, "rec.wav", "rec.2.wav")
    rows = [
        row(1, 0.5, 1, "owl", view="Waveform 1"),
        row(1, 0.5, 1, "owl"),
        row(2, 0.5, 1, "wren", view="Waveform 1"),
        row(2, 0.5, 1, ""),
    ]
    table = write(tmp_path / "rec.Table.1.selections.txt", rows, "Annotation")
    assert by_title(read(table)) == {"rec.wav [0.5, 1]": ["owl", "wren"]}


def test_times_are_those_in_the_file_where_there_is_an_offset(tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav", "b.wav")
    rows = [
        row(1, 0.5, 1.0, "owl", "C:\\field\\a.wav", "a.wav", 0.5),
        row(2, 3.5, 4.5, "wren", "C:\\field\\b.wav", "b.wav", 0.5),
        row(3, 5.5, 6.5, "wren", "C:\\field\\b.wav", "b.wav", 2.5),
    ]
    table = write(tmp_path / "all.txt", rows, "Species", "Begin Path", "Begin File", "File Offset (s)")
    data = read(table)
    assert by_title(data) == {"a.wav [0.5, 1]": ["owl"], "b.wav [0.5, 1.5]": ["wren"]}
    assert "it ends at 3.5 s, but the recording lasts 3 s" in data.skipped["b.wav [2.5, 3.5]"]


def test_several_files_without_an_offset_are_a_question(tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav", "b.wav")
    rows = [row(1, 0.5, 1.0, "owl", "a.wav"), row(2, 0.5, 1.0, "wren", "b.wav")]
    table = write(tmp_path / "all.txt", rows, "Species", "Begin File")
    with pytest.raises(ValueError, match=r"speaks of 2 recordings, .* has no column 'File Offset \(s\)'"):
        read(table)


def test_a_path_of_this_computer_is_taken_as_it_is(tmp_path: Path) -> None:
    write_wavs(tmp_path, "deep/a.wav")
    table = write(tmp_path / "x.txt", [row(1, 0.5, 1, "owl", tmp_path / "deep/a.wav")], "Species", "Begin Path")
    assert list(by_title(read(table))) == [f"{tmp_path / 'deep/a.wav'} [0.5, 1]"]


def test_the_table_of_birdnet_has_the_common_name_as_label(tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav")
    others = ("Common Name", "Species Code", "Confidence", "Begin Path", "File Offset (s)")
    table = write(tmp_path / "all.txt", [row(1, 0, 3, "Tawny Owl", "tawowl1", 0.9, "/x/a.wav", 0)], *others)
    assert by_title(read(table)) == {"a.wav [0, 3]": ["Tawny Owl"]}


def test_two_columns_that_may_be_the_annotation_are_a_question(tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav")
    table = write(tmp_path / "a.txt", [row(1, 0, 1, "owl", "male")], "What", "Sex")
    with pytest.raises(ValueError, match=r"Which of them says what was heard, \['What', 'Sex'\]\?.*--label-column"):
        read(table)
    assert read(table, label_column="What").labels == ["owl"]


def test_selections_without_a_label_are_named(tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav")
    table = write(tmp_path / "a.txt", [row(1, 0, 1, "owl"), row(2, 1, 2, "")], "Annotation")
    assert read(table).skipped == {"a.wav [1, 2]": "it has no label"}


def test_tables_and_tracks_in_a_folder_belong_to_the_recordings_beside_them(tmp_path: Path) -> None:
    write_wavs(tmp_path, "site1/a.wav", "site1/a.b.wav", "site2/a.wav", "site2/c.wav")
    write(tmp_path / "site1" / "a.Table.1.selections.txt", [row(1, 0, 1, "owl")], "Annotation")
    write(tmp_path / "site1" / "a.b.selections.txt", [row(1, 1, 2, "owl")], "Annotation")
    (tmp_path / "site2" / "a.txt").write_text("0.5\t1.0\twren\n\\\t100\t200\n1.5\t1.5\twren\n")
    (tmp_path / "site2" / "notes.txt").write_text("no annotations")
    data = read(tmp_path)
    assert by_title(data) == {
        "site1/a.b.wav [1, 2]": ["owl"],
        "site1/a.wav [0, 1]": ["owl"],
        "site2/a.wav [0.5, 1]": ["wren"],
    }
    assert data.skipped.pop("site2/c.wav") == "it has no label"
    assert "annotations beside the recordings, not the names of the folders" in data.warned[str(tmp_path)]
    (reason,) = data.skipped.values()
    assert "it has no length: it begins and ends at 1.5 s (line 3 of" in reason


def test_few_annotations_in_a_folder_are_a_question(tmp_path: Path) -> None:
    write_wavs(tmp_path, "owl/a.wav", "owl/b.wav", "wren/c.wav")
    (tmp_path / "owl" / "a.txt").write_text("0\t1\tx\n")
    with pytest.raises(ValueError, match=r"2 of 3 recordings have none, such as 'owl/b.wav'.*--label-level 1"):
        read(tmp_path)
    assert read(tmp_path, label_level=1).labels == ["owl", "wren"]


def test_a_track_without_its_recording_is_an_error(tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav", "b.wav", "b.flac")
    for name, said in (("c.txt", "there is no recording with its name beside it"), ("b.txt", "may speak of 'b.")):
        (tmp_path / name).write_text("0\t1\tx\n")
        with pytest.raises(ValueError, match=said):
            read(tmp_path / name)
