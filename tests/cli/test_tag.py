"""`hf-ast tag`."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer

from hf_ast import Event, audio
from hf_ast.assets import RECORDINGS
from hf_ast.cli import main
from hf_ast.cli.event_formats import LAYOUTS, Format, document
from hf_ast.cli.tag import output_files
from hf_ast.data.labelled import read_data
from hf_ast.inference.event_formats import Heard, srt_time

NAMES = ("yes", "_silence_", "stop")
AWKWARD = [
    Event('Bark, "woof"', 0.0, 1.25, 0.5),
    Event("Rain\ton\n\nleaves", 59.9996, 3661.5, 0.98765),
    Event("<i>Wind</i> {\\an8}", 7200.0, 7200.0004, 1.0),
]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three seconds: "yes", silence, "stop"."""
    clips = [audio.read(RECORDINGS / f"{name}.flac") for name in NAMES]
    path = tmp_path_factory.mktemp("recording") / "three seconds.wav"
    soundfile.write(path, np.concatenate([clip for clip, _ in clips]), clips[0][1])
    return str(path)


def test_events_of_a_recording(recording: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tag", recording, "--window", "1", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert (result["file"], result["duration_s"]) == (recording, 3)
    assert [event["label"] for event in result["events"]] == list(NAMES)
    assert [(event["start_s"], event["end_s"]) for event in result["events"]] == [(0, 1), (1, 2), (2, 3)]
    assert main(["tag", recording, "--window", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.removeprefix(recording).split()[:4] for line in lines] == [
        [f"{second}.00", "-", f"{second + 1}.00", "s"] for second in range(3)
    ]
    assert [line.split()[-1] for line in lines] == list(NAMES)


def test_settings(recording: str, capsys: pytest.CaptureFixture[str]) -> None:
    def labels(*arguments: str) -> list[str]:
        assert main(["tag", recording, "--json", *arguments]) == 0
        (result,) = json.loads(capsys.readouterr().out)
        return [event["label"] for event in result["events"]]

    assert len(labels("--hop", "0.25", "--window", "0.5", "--threshold", "0.9")) >= 3
    assert len(labels("--top-k", "2")) == 2
    assert labels("--threshold", "1") == []
    assert labels("--window", "1", "--threshold", "yes=1", "--threshold", "stop=0.4") == ["_silence_", "stop"]
    assert labels("--window", "1", "--shortest", "1.5") == []
    assert labels("--window", "1", "--median", "3") == ["yes", "stop"]  # the ends are mirrored
    assert main(["tag", recording, "--threshold", "1"]) == 0
    assert capsys.readouterr().out == f"{recording}  no events\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("--hop 2", 1, "hop"),
        ("--window 20", 1, "window_s=20.0 is longer than what the model hears at once"),
        ("--window 0", 2, "0.0 is not a positive number"),
        ("--threshold 2", 2, "'--threshold'"),
        ("--threshold no=x", 2, "'x' is not a number"),
        ("--threshold no=0.5 --threshold 0.4", 2, "give one score, or LABEL=SCORE"),
        ("--threshold maybe=0.5", 1, "threshold names 'maybe', which is not among the 12 labels"),
        ("--release 0.6", 1, "release=0.6"),
        ("--threshold 0", 1, "threshold=0.0 must be greater than 0"),
        ("--format midi", 2, "'midi' is not one of"),
        ("--format srt second.wav", 2, "srt holds the events of one recording"),
    ],
)
def test_wrong_settings(
    recording: str,
    arguments: str,
    status: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "second.wav").hardlink_to(recording)
    assert main(["tag", recording, *arguments.split()]) == status
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err


def test_one_file_per_recording(recording: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [recording, str(RECORDINGS / "no.flac"), "missing.wav"]
    arguments = ["tag", *files, "--format", "audacity", "--out", str(tmp_path / "labels")]
    assert main(arguments) == 1
    written = [tmp_path / "labels" / "three seconds.txt", tmp_path / "labels" / "no.txt"]
    assert capsys.readouterr().out.splitlines() == list(map(str, written))
    assert sorted((tmp_path / "labels").iterdir()) == sorted(written)
    assert written[1].read_text() == "0.000000\t1.000000\tno\n"
    assert main(arguments) == 2
    assert "it already holds" in capsys.readouterr().err


def test_recordings_of_equal_names_keep_their_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("site 1/night/no.flac", "site 2/no.flac", "site 2/no.wav"):
        (tmp_path / "recordings" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "recordings" / name).hardlink_to(RECORDINGS / "no.flac")
    assert main(["tag", str(tmp_path / "recordings"), "--out", str(tmp_path / "all"), "--format", "raven"]) == 0
    names = ["site 1/night/no", "site 2/no.flac", "site 2/no.wav"]
    written = [tmp_path / "all" / f"{name}.Table.1.selections.txt" for name in names]
    assert capsys.readouterr().out.splitlines() == list(map(str, written))
    assert all(path.read_text().startswith("Selection\tView\tChannel\tBegin Time (s)\t") for path in written)
    assert "\t0\t8000\tno.wav\tno\t" in written[2].read_text()
    # Two folders, and a pattern: the same name is in both
    files = [str(tmp_path / "recordings" / name) for name in ("site 1/night/no.flac", "site 2/no.flac")]
    for arguments in (files, [str(tmp_path / "recordings" / "*" / "**" / "*.flac")]):
        targets = output_files(files, arguments, tmp_path / "new", ".csv")
        assert [path.relative_to(tmp_path / "new").as_posix() for path in targets.values()] == [
            "site 1/night/no.csv", "site 2/no.csv",
        ]  # fmt: skip


def test_no_recording_is_written_outside_the_folder(tmp_path: Path) -> None:
    files = ["https://host/a/../x.wav", "https://other/x.wav?y=1", str(tmp_path / "x.wav")]
    targets = output_files(files, [], tmp_path / "out", ".csv")
    assert [target.relative_to(tmp_path / "out").as_posix() for target in targets.values()][:2] == [
        "host/a/x.csv", "other/x.csv",
    ]  # fmt: skip
    assert all(tmp_path / "out" in target.parents for target in targets.values())
    with pytest.raises(typer.BadParameter, match="several recordings would be written to"):
        output_files(["https://host/x.wav?y=1", "https://host/x.wav?y=2"], [], tmp_path / "twice", ".csv")


def written(file_format: Format, capsys: pytest.CaptureFixture[str]) -> str:
    with document(file_format) as add:
        add(Heard('a "b", c.wav', 7201.0, AWKWARD))
    return capsys.readouterr().out


def test_csv_is_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    header, *rows = csv.reader(written(Format.CSV, capsys).splitlines(keepends=True))
    assert header == ["file", "start_s", "end_s", "label", "peak"]
    assert [row[3] for row in rows] == [event.label for event in AWKWARD]
    assert rows[1] == ['a "b", c.wav', "59.999600", "3661.500000", AWKWARD[1].label, "0.987650"]


def test_a_label_track_has_one_line_per_event(capsys: pytest.CaptureFixture[str]) -> None:
    assert written(Format.AUDACITY, capsys).splitlines() == [
        '0.000000\t1.250000\tBark, "woof"',
        "59.999600\t3661.500000\tRain on leaves",
        "7200.000000\t7200.000400\t<i>Wind</i> {\\an8}",
    ]


def test_subtitles_have_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    assert written(Format.SRT, capsys).split("\n\n") == [
        '1\n00:00:00,000 --> 00:00:01,250\nBark, "woof"',
        "2\n00:01:00,000 --> 01:01:01,500\nRain on leaves",
        "3\n02:00:00,000 --> 02:00:00,000\n‹i›Wind‹/i› (\\an8)",
        "",
    ]
    assert srt_time(3599.9996) == "01:00:00,000"
    assert srt_time(360000) == "100:00:00,000"


@pytest.mark.parametrize("file_format", [Format.RAVEN, Format.AUDACITY, Format.DCASE, Format.CSV])
def test_what_is_written_is_read_back(file_format: Format, tmp_path: Path) -> None:
    spans = {'Bark, "woof"': (0.0, 1.25), "Rain": (0.000001, 2.5), "'x' \\ #1": (3.04, 3.999999)}
    events = [Event(label, start_s, end_s, 0.9) for label, (start_s, end_s) in spans.items()]
    soundfile.write(tmp_path / "rec.wav", np.zeros(64000), 16000)
    table = tmp_path / f"rec{LAYOUTS[file_format].suffix}"
    with table.open("x", encoding="utf-8", newline="") as stream, document(file_format, stream) as add:
        add(Heard("rec.wav", 4.0, events, 8000.0))
    data = read_data(table, label_separator="", validation_fraction=0)
    assert {data.labels[clip.labels[0]]: (clip.start_s, clip.end_s) for clip in data.clips} == spans
    assert len(data.clips) == 3
