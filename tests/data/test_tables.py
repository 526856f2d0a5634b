"""Tables as bytes: encodings, separators, damage, and the times of segments."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from datasets import Audio, Dataset

from hf_ast.data.columns import seconds_in, with_decimal_points
from hf_ast.data.entries import find_entries
from hf_ast.data.labelled import read_data
from hf_ast.data.sources import find_source
from hf_ast.data.tables import read_table
from hf_ast.training.clips import Clips
from tests.support.labelled import write_wavs
from tests.support.recordings import sine

ROWS = [{"path": "a.wav", "label": "Tür"}, {"path": "b.wav", "label": "Hund"}]
CSV = "path,label\na.wav,Tür\nb.wav,Hund\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", CSV.encode()),
        ("x.csv", CSV.encode("utf-8-sig")),
        ("x.csv", CSV.encode("utf-16")),
        ("x.csv", CSV.encode("utf-16-le")),
        ("x.csv", CSV.encode("utf-16-be")),
        ("x.csv", CSV.encode("utf-32")),
        ("x.csv", CSV.replace("\n", "\r\n").encode()),
        ("x.csv", CSV.replace("\n", "\r").encode()),
        ("x.csv", CSV.replace(",", ";").encode()),
        ("x.csv", CSV.replace(",", "\t").encode()),
        ("x.csv", CSV.replace(",", "|").encode()),
        ("x.csv", CSV.replace(",", ", ").encode()),
        ("x.csv", b"path,label\n\n" + CSV.split("\n", 1)[1].encode() + b"\n\n"),
        ("x.csv", b"path,label,,\n" + CSV.split("\n", 1)[1].replace("\n", ",,\n").encode()),
        ("x.csv", b"# made by hand\n" + CSV.encode()),
        ("x.csv", b"sep=;\r\n" + CSV.replace(",", ";").encode()),
        ("x.tsv", CSV.replace(",", "\t").encode()),
        ("x.tsv", CSV.encode()),
        ("x.txt", CSV.replace(",", "\t").encode()),
        ("x.json", json.dumps(ROWS).encode("utf-16")),
        ("x.jsonl", "\n".join(map(json.dumps, ROWS)).encode("utf-8-sig")),
    ],
)
def test_encodings_and_separators_are_found(name: str, content: bytes) -> None:
    table = read_table(content, name)
    assert [{key: row[key] for key in ("path", "label")} for row in table.rows] == ROWS
    assert not table.notes


def test_windows_1252_is_read_with_a_note_that_shows_it(tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav", "b.wav")
    (tmp_path / "x.csv").write_bytes(CSV.encode("cp1252"))
    data = read_data(tmp_path / "x.csv")
    assert data.labels == ["Hund", "Tür"]
    assert (
        "is not UTF-8 (line 2), so it was read as Windows-1252, which is a guess: 'a.wav,Tür'"
        in (data.warned[str(tmp_path / "x.csv")])
    )


def test_long_fields_and_lines_in_texts_are_kept() -> None:
    long = "x" * 300_000
    (row,) = read_table(f'path,label,note\na.wav,x,"{long}\n2"\n'.encode(), "x.csv").rows
    assert row["note"] == f"{long}\n2"
    line = json.dumps({"path": "a.wav", "label": "x\u2028y\x85z"}, ensure_ascii=False)
    table = read_table(f"{line}\n{line}\n".encode(), "x.jsonl")
    assert [row["label"] for row in table.rows] == ["x\u2028y\x85z"] * 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.csv", b"", "'x.csv' is empty"),
        ("x.csv", b"\xef\xbb\xbf\n", "'x.csv' is empty"),
        ("x.csv", b"path,label\na.wav,x\nb.wav,dog, big\n", "line 3 of 'x.csv' has 3 fields, but there are 2 columns"),
        ("x.csv", b"path,label\na.wav\n", "line 2 of 'x.csv' has 1 fields"),
        ("x.csv", b"path,label,label\na.wav,x,y\n", "'x.csv' has several columns 'label'"),
        ("x.csv", b'path,label\na.wav,"x\nb.wav,y\n', "line 2 of 'x.csv' cannot be read: unexpected end of data"),
        ("x.csv", b"path,label\na.wav,x\0y\n", "line 2 of 'x.csv' holds a NUL character"),
        ("x.csv", CSV.encode("utf-16")[:-1], "looks like UTF-16, but is damaged"),
        ("x.jsonl", b'{"path": "a.wav"}\n{"path": \n', "line 2 of 'x.jsonl' is not valid JSON"),
        ("x.json", b'[{"path": "a.wav"},\n {"path"]', "line 2 of 'x.json' is not valid JSON"),
        ("x.jsonl", b'{"path": "a.wav", "path": "b.wav"}\n', "several values of 'path'"),
        ("x.json", b'{"path": {"0": "a.wav"},\n "label": {"0": "x"}}', "holds a dict instead of a list"),
        ("x.parquet", b"PAR1 no", "'x.parquet' cannot be read as Parquet"),
    ],
)
def test_damage_is_one_sentence_with_file_and_line(name: str, content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_table(content, name)


def test_a_table_without_rows_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("path,label\n")
    with pytest.raises(ValueError, match="has a header, but no row"):
        read_data(tmp_path / "x.csv")


SEGMENTS = {"a.wav [0.5, 1.25]": ["dog"], "a.wav [1, 2]": ["rain"]}


@pytest.mark.parametrize(
    ("columns", "times"),
    [
        ("start,end", ((0.5, 1.25), (1, 2))),
        ("onset,offset", ((0.5, 1.25), (1, 2))),
        ("offset,duration", ((0.5, 0.75), (1, 1))),
        ("Begin Time (s),End Time (s)", ((0.5, 1.25), (1, 2))),
        ("start_s,end_s", ((0.5, 1.25), (1, 2))),
        ("start_time,end_time", ((0.5, 1.25), (1, 2))),
        ("StartTime,EndTime", ((0.5, 1.25), (1, 2))),
        ("start_seconds,stop_seconds", ((0.5, 1.25), (1, 2))),
        ("t_start,t_end", ((0.5, 1.25), (1, 2))),
        ("segment_start,segment_end", ((0.5, 1.25), (1, 2))),
        ("begin,dur", ((0.5, 0.75), (1, 1))),
        ("start_ms,end_ms", ((500, 1250), (1000, 2000))),
        ("start_ms,duration_s", ((500, 0.75), (1000, 1))),
    ],
)
def test_columns_of_times_make_segments(columns: str, times: Any, tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav")
    first, second = columns.split(",")
    rows = [
        {"path": "a.wav", first: start, second: end, "label": label}
        for (start, end), label in zip(times, ("dog", "rain"), strict=True)
    ]
    lines = [f"path,{columns},label", *(",".join(map(str, row.values())) for row in rows)]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    for name in ("x.csv", "x.jsonl", "x.parquet"):
        data = read_data(tmp_path / name, validation_fraction=0.0)
        assert {clip.title: [data.labels[label] for label in clip.labels] for clip in data.clips} == SEGMENTS
        assert [clip.duration_s for clip in data.clips] == pytest.approx([0.75, 1.0])
        found = find_entries(find_source(tmp_path / name), labelled=False)
        assert [(entry.name, entry.start_s, entry.end_s) for entry in found] == [("a.wav", 0.5, 1.25), ("a.wav", 1, 2)]


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("x.csv", "file;start;end;label\na.wav;0,5;1,25;dog\na.wav;1,0;2,000;rain\n"),
        ("x.csv", "file;start;end;label\na.wav;0,5;1,25;dog\na.wav;1;2;rain\n"),
        ("x.tsv", "file\tonset\toffset\tevent_label\na.wav\t0,500\t1,250\tdog\na.wav\t1,0\t2,0\train\n"),
        ("x.tsv", "a.wav\t0,50\t1,25\tdog\na.wav\t1,00\t2,00\train\n"),
        ("a.txt", "0,500000\t1,250000\tdog\n1,000000\t2,000000\train\n"),
        ("x.csv", "file,start,end,label\na.wav,00:00:00.5,00:00:01.25,dog\na.wav,0:01,0:02.0,rain\n"),
        ("x.csv", "file;start;end;label\na.wav;00:00:00,5;00:00:01,25;dog\na.wav;0:01;0:02;rain\n"),
        ("x.csv", "file,start,duration,label\na.wav,0:00.5,0:00.75,dog\na.wav,0:01,1,rain\n"),
    ],
)
def test_decimal_commas_and_clock_times_are_read(name: str, table: str, tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav")
    (tmp_path / name).write_text(table)
    data = read_data(tmp_path / name, validation_fraction=0.0)
    assert data.skipped == {}
    assert {clip.title: [data.labels[label] for label in clip.labels] for clip in data.clips} == SEGMENTS
    said = [reason for reason in data.warned.values() if "minutes and seconds" in reason]
    assert len(said) == ("0:01" in table)


def test_raven_in_a_country_of_decimal_commas_is_read(tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav")
    header = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tSpecies"
    rows = ["1\tSpectrogram 1\t1\t0,500\t1,25\tdog", "2\tSpectrogram 1\t1\t1,0\t2,00\train"]
    (tmp_path / "a.Table.1.selections.txt").write_text("\n".join([header, *rows]))
    data = read_data(tmp_path, validation_fraction=0.0)
    assert {clip.title: [data.labels[label] for label in clip.labels] for clip in data.clips} == SEGMENTS


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("62.5", 62.5),
        ("1:02.5", 62.5),
        ("00:01:02.5", 62.5),
        ("75:30", 4530.0),
        ("100:00:01", 360001.0),
        ("1:2", 62.0),
    ],
)
def test_clock_times_are_seconds(text: str, seconds: float) -> None:
    assert seconds_in(text) == seconds


def test_a_thousand_and_a_decimal_comma_are_not_confused() -> None:
    assert with_decimal_points(["1,234", "12,500"], "\t") == ["1,234", "12,500"]
    assert with_decimal_points(["1,234", "12,5"], "\t") == ["1.234", "12.5"]
    assert with_decimal_points(["1,234"], ";") == ["1.234"]
    assert with_decimal_points(["0,5", "1:00,5", "a,5"], ",") == ["0,5", "1:00,5", "a,5"]


def test_rows_of_a_data_set_may_be_segments(tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav")
    rows = {"audio": [str(tmp_path / "a.wav")] * 2, "start": [0.5, 1.0], "end": [1.25, 2.0], "label": ["dog", "rain"]}
    source = Dataset.from_dict(rows).cast_column("audio", Audio(decode=False))
    data = read_data(source, validation_fraction=0.0)
    assert [clip.title for clip in data.clips] == ["train/0 [0.5, 1.25]", "train/1 [1, 2]"]
    rows = Clips(data, data.clips, sampling_rate=8000, duration_s=10.0)
    assert [len(rows[index]["waveform"]) for index in range(2)] == [6000, 8000]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("start_sample,end_sample", "is neither in seconds nor in milliseconds"),
        ("start_frame,end_frame", "is neither in seconds nor in milliseconds"),
        ("start_min,end_min", "is neither in seconds nor in milliseconds"),
        ("start,path2", "says where something begins, but no column says where it ends"),
        ("path2,end", "says where something ends, but no column says where it begins"),
    ],
)
def test_times_that_are_not_certain_are_a_question(columns: str, said: str, tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav")
    (tmp_path / "x.csv").write_text(f"path,{columns},label\na.wav,1,2,x\n")
    with pytest.raises(ValueError, match=rf"{said}.*--whole-files"):
        read_data(tmp_path / "x.csv")
    (clip,) = read_data(tmp_path / "x.csv", whole_files=True).clips
    assert (clip.title, clip.duration_s) == ("a.wav", pytest.approx(3.0))


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("2", "1", "ends at 1 s, before it begins at 2 s"),
        ("-1", "1", "begins at -1 s, before the recording"),
        ("1", "1", "has no length"),
        ("one", "2", "has 'one' instead of a number of seconds in the column 'start'"),
        ("0:61", "2", "has '0:61' instead of a number"),
        ("1:60:00", "2", "has '1:60:00' instead of a number"),
        ('"0,5"', "2", "has '0,5' instead of a number"),
        ("1", "", "has '' instead of a number of seconds in the column 'end'"),
        ("inf", "2", "has 'inf' instead of a number"),
        ("", "", "has a label, but no times"),
        ("4", "5", "it begins at 4 s, but the recording lasts 3 s"),
        ("2", "3.2", "it ends at 3.2 s, but the recording lasts 3 s"),
    ],
)
def test_a_segment_that_cannot_be_is_named(start: str, end: str, said: str, tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav")
    (tmp_path / "x.csv").write_text(f"path,start,end,label\na.wav,1,2,x\na.wav,{start},{end},x\n")
    data = read_data(tmp_path / "x.csv", validation_fraction=0.0)
    assert [clip.title for clip in data.clips] == ["a.wav [1, 2]"]
    (reason,) = data.skipped.values()
    assert said in reason
    assert "line 3" in reason or "lasts" in reason


def test_a_segment_that_ends_with_its_recording_is_used_to_the_end(tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav")
    (tmp_path / "x.csv").write_text("path,start,end,label\na.wav,1,3.05,x\n")
    (clip,) = read_data(tmp_path / "x.csv", validation_fraction=0.0).clips
    assert (clip.start_s, clip.end_s, clip.duration_s) == pytest.approx((1.0, 3.0, 2.0))


def test_only_the_segment_is_read_in_training(tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav")
    (tmp_path / "x.csv").write_text("path,start,end,label\na.wav,0.5,1.5,x\na.wav,0.5,1.5,y\na.wav,1.0,2.5,z\n")
    data = read_data(tmp_path / "x.csv", validation_fraction=0.0)
    assert data.multi_label
    assert [clip.labels for clip in data.clips] == [(0, 1), (2,)]
    samples, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    whole = Clips(data, data.clips, sampling_rate=8000, duration_s=5.0)
    np.testing.assert_array_equal(whole[0]["waveform"], samples[4000:12000])
    np.testing.assert_array_equal(whole[1]["waveform"], samples[8000:20000])
    parts = Clips(data, data.clips, sampling_rate=8000, duration_s=0.5, random=True)
    assert len(parts) == 2 + 3
    for index in range(2, 5):
        part = parts[index]["waveform"]
        assert len(part) == 4000
        starts = [at for at in range(8000, 16001) if np.array_equal(samples[at : at + 4000], part)]
        assert starts


def test_segments_of_one_recording_are_held_out_together(tmp_path: Path) -> None:
    names = [f"{number}.wav" for number in range(6)]
    write_wavs(tmp_path, *names)
    rows = [f"{name},{start},{start + 0.5},{label}" for name in names for start, label in ((0, "x"), (1, "y"))]
    (tmp_path / "x.csv").write_text("\n".join(["path,start,end,label", *rows]))
    data = read_data(tmp_path / "x.csv")
    held_out = {clip.name for clip in data.of("validation")}
    assert len(held_out) >= 1
    assert held_out.isdisjoint(clip.name for clip in data.of("train"))


def test_a_recording_without_events_has_none_of_the_classes(tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav", "b.wav")
    (tmp_path / "x.tsv").write_text("filename\tonset\toffset\tevent_label\na.wav\t0\t1\tDog\nb.wav\t\t\t\n")
    data = read_data(tmp_path / "x.tsv", multi_label=True, validation_fraction=0.0)
    assert {clip.title: clip.labels for clip in data.clips} == {"a.wav [0, 1]": (0,), "b.wav": ()}


def test_a_table_in_a_folder_of_recordings_is_read(tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav", "b.wav")
    (tmp_path / "x.tsv").write_text("filename\tonset\toffset\tevent_label\na.wav\t0\t1\tDog\nb.wav\t1\t2\tCat\n")
    data = read_data(tmp_path, validation_fraction=0.0)
    assert [clip.title for clip in data.clips] == ["a.wav [0, 1]", "b.wav [1, 2]"]
    assert "is read as its table 'x.tsv' says" in data.warned[str(tmp_path)]


@pytest.mark.parametrize("written", ["sub\\{}.wav", " sub/{}.wav "])
def test_paths_of_windows_and_with_spaces_are_found(written: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in "abcd":
        soundfile.write(tmp_path / "sub" / f"{name}.wav", sine(8000, 0.1, frequency_hz=100.0 * ord(name)), 8000)
    rows = "".join(f"{written.format(name)},{name < 'c'}\n" for name in "abcd")
    (tmp_path / "t.csv").write_text(f"path,label\n{rows}", encoding="utf-8")
    data = read_data(tmp_path / "t.csv")
    assert [clip.duration_s for clip in data.clips] == [0.1] * 4
    assert data.skipped == {}
