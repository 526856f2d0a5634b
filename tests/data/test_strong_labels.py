"""Which events, negatives and weak labels are read from annotations and tables."""

from pathlib import Path

import pytest

from docs.guides.calls import write_calls
from hf_ast.data.labelled import read_data
from hf_ast.data.strong_labels import UNNAMED, MarkedEvent, read_events
from tests.support.labelled import write_wavs

DESED = """filename\tonset\toffset\tevent_label
a.wav\t0.5\t1.25\tdog
a.wav\t1.0\t2.0\tcat
b.wav\t\t\t
c.wav\t0.1\t0.9\tdog
d.wav\t\t\tcat
e.wav\t0.2\t0.4\tcat
"""


def write_desed(folder: Path, text: str = DESED) -> Path:
    write_wavs(folder, *(f"{name}.wav" for name in "abcde"))
    table = folder / "strong.tsv"
    table.write_text(text)
    return table


def test_selection_tables_give_the_events_of_recordings(tmp_path: Path) -> None:
    marked = write_calls(tmp_path, 4)
    data = read_events(tmp_path, validation_fraction=0.25)
    assert data.labels == ["chirp", "trill"]
    assert {clip.name for clip in data.clips} == marked.keys()
    for name, marks in marked.items():
        assert [(data.labels[event.label], event.start_s, event.end_s) for event in data.events[name]] == marks
    assert data.events["03.wav"] == ()  # an empty table
    assert data.of_clip(data.clips[3]) == ()
    assert not data.weak
    assert data.multi_label


def test_a_recording_without_a_table_counts_as_one_without_events_and_is_named(tmp_path: Path) -> None:
    write_calls(tmp_path, 3)
    (tmp_path / "02.Table.1.selections.txt").unlink()
    data = read_events(tmp_path)
    assert data.events["02.wav"] == ()
    assert "1 recordings have no annotations beside them, such as '02.wav'" in data.warned[data.source.location]


def test_rows_without_times_are_negatives_or_weak_labels(tmp_path: Path) -> None:
    data = read_events(write_desed(tmp_path), validation_fraction=0.0)
    dog, cat = data.labels.index("dog"), data.labels.index("cat")
    assert data.events["a.wav"] == (MarkedEvent(dog, 0.5, 1.25), MarkedEvent(cat, 1.0, 2.0))
    by_name = {clip.name: clip for clip in data.clips}
    assert data.of_clip(by_name["b.wav"]) == ()
    assert data.of_clip(by_name["d.wav"]) is None
    assert data.weak == {"d.wav"}
    assert by_name["d.wav"].labels == (cat,)
    assert list(data.describe_events()) == [
        "train: 4 events, median length 0.775 s; 1 recordings without events, 1 without times"
    ]
    turned = data.with_labels(["bird", "dog", "cat"])
    assert turned.events["a.wav"] == (MarkedEvent(1, 0.5, 1.25), MarkedEvent(2, 1.0, 2.0))


def test_for_clips_a_label_without_times_is_a_mistake(tmp_path: Path) -> None:
    data = read_data(write_desed(tmp_path))
    assert "has a label, but no times" in data.skipped["d.wav"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("e.wav\t0.5\t0.2\tcat", "ends at 0.2 s, before it begins"),
        ("e.wav\t1.0\t3.5\tcat", "ends behind the recording, which lasts 3 s"),
        ("e.wav\t4.0\t4.5\tcat", "ends behind the recording, which lasts 3 s"),
        ("e.wav\tx\t4.5\tcat", "instead of a number"),
    ],
)
def test_a_recording_with_a_wrong_event_is_left_out_and_named(tmp_path: Path, row: str, reason: str) -> None:
    data = read_events(write_desed(tmp_path, f"{DESED}{row}\n"))
    assert "e.wav" not in {clip.name for clip in data.clips}
    assert reason in data.skipped["e.wav"]
    assert "e.wav" in data.failed


def test_an_event_without_a_label_is_unnamed(tmp_path: Path) -> None:
    data = read_events(write_desed(tmp_path, f"{DESED}b.wav\t1.0\t2.0\t\n"))
    assert data.events["b.wav"] == (MarkedEvent(UNNAMED, 1.0, 2.0),)
    assert "an event has no label" in data.warned["b.wav"]


def test_times_within_the_rounding_of_a_table_are_cut_at_the_end(tmp_path: Path) -> None:
    data = read_events(write_desed(tmp_path, f"{DESED}e.wav\t2.5\t3.05\tcat\n"))
    assert data.events["e.wav"][1].end_s == 3.0


def test_both_kinds_of_labels_for_one_recording_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"says of 'a\.wav' both when something is heard and"):
        read_events(write_desed(tmp_path, f"{DESED}a.wav\t\t\tdog\n"))


def test_data_without_times_are_an_error_that_names_the_way_out(tmp_path: Path) -> None:
    write_wavs(tmp_path, "dog/a.wav", "cat/b.wav")
    with pytest.raises(ValueError, match="does not say when anything is heard"):
        read_events(tmp_path)
