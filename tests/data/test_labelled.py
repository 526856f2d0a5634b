"""Labelled recordings: what is read, what is skipped, and what is held out."""

import json
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from datasets import Audio, ClassLabel, Dataset, DatasetDict, List

from hf_ast.data.labelled import LabelledData, read_data
from hf_ast.data.splitting import held_out
from hf_ast.training.clips import Clips
from tests.support.labelled import NOISE, PULSES, SKIPPED, TONES, write_folder
from tests.support.recordings import sine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "recordings", num_clips=10)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six recordings, a.wav to f.wav, of 0.1 to 0.6 s."""
    folder = tmp_path_factory.mktemp("files")
    for number, name in enumerate("abcdef", start=1):
        soundfile.write(folder / f"{name}.wav", sine(8000, 0.1 * number), 8000)
    return folder


def labels_by_name(data: LabelledData) -> dict[str, list[str]]:
    return {clip.name: [data.labels[label] for label in clip.labels] for clip in data.clips}


def test_a_folder_per_class(folder: Path) -> None:
    data = read_data(folder)
    assert data.labels == [TONES, NOISE, PULSES]
    assert not data.multi_label
    assert data.counts() == {label: {"train": 8, "validation": 2} for label in data.labels}
    assert all([clip.name.split("/")[0]] == labels_by_name(data)[clip.name] for clip in data.clips)
    assert data.skipped.keys() == SKIPPED
    assert "cannot be read" in data.skipped[f"{PULSES}/damaged.flac"]
    assert "holds no samples" in data.skipped[f"{NOISE}/no samples.wav"]
    assert data.skipped["of no class.wav"] == "it has no label"
    assert [clip.duration_s for clip in data.clips[:3]] == pytest.approx([0.3, 0.5, 0.45], abs=1e-3)


@pytest.mark.parametrize("name", ["folder", "table.csv", "table.jsonl"])
def test_only_parquet_takes_pyarrow_and_only_data_sets_take_datasets(
    name: str, folder: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"path": str(files / f"{stem}.wav"), "label": stem < "d"} for stem in "abcdef"]
    content = "".join(f"{json.dumps(row)}\n" for row in rows)
    if name == "table.csv":
        content = "".join(["path,label\n", *(f"{row['path']},{row['label']}\n" for row in rows)])
    source = folder if name == "folder" else tmp_path / name
    if source != folder:
        source.write_text(content, encoding="utf-8")
    for module in list(sys.modules):
        if module.partition(".")[0] in ("pyarrow", "datasets", "pandas"):
            monkeypatch.setitem(sys.modules, module, None)
    data = read_data(source)
    assert len(data.clips) == (30 if name == "folder" else 6)
    assert len(Clips(data, data.clips, sampling_rate=8000, duration_s=0.1)[0]["waveform"]) == 800
    pq_file = tmp_path / "table.parquet"
    pq_file.write_bytes(b"PAR1")
    with pytest.raises(ImportError, match=r"needs pyarrow: pip install"):
        read_data(pq_file)


def test_headers_alone_tell_the_same_of_these_files(folder: Path) -> None:
    data = read_data(folder, decode=False)
    assert data.skipped.keys() == SKIPPED
    assert "holds no samples" in data.skipped[f"{NOISE}/no samples.wav"]
    assert labels_by_name(data) == labels_by_name(read_data(folder))


def test_recordings_that_are_empty_or_not_finite_are_skipped(tmp_path: Path) -> None:
    samples = sine(16000, 0.2)
    for name, content in {"good": samples, "empty": samples[:0], "nan": samples.copy()}.items():
        (tmp_path / name).mkdir()
        if name == "nan":
            content[100] = np.nan
        soundfile.write(tmp_path / name / "a.wav", content, 16000, subtype="FLOAT")
    with pytest.raises(
        ValueError, match=r"has 2 classes without a recording that can be used \('empty': 'empty/a.wav', .*"
    ):
        read_data(tmp_path)
    for name in ("empty", "nan"):
        soundfile.write(tmp_path / name / "b.wav", samples, 16000)
    data = read_data(tmp_path)
    assert "holds samples that are NaN or infinite" in data.skipped.pop("nan/a.wav")
    assert data.skipped.keys() == {"empty/a.wav"}
    assert "no samples" in data.skipped["empty/a.wav"]


ROWS = [
    {"path": "a.wav", "label": "Tür", "split": "training", "group": 1},
    {"path": "b.wav", "label": "Tür", "split": "val", "group": 2},
    {"path": "c.wav", "label": "Hund", "split": "train", "group": 1},
    {"path": "d.wav", "label": "Hund", "split": "Test", "group": 3},
]


def write_csv(path: Path) -> None:
    lines = ["path,label,split,group", *(",".join(map(str, row.values())) for row in ROWS)]
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("list.csv", write_csv),
        ("list.json", lambda path: path.write_text(json.dumps(ROWS))),
        ("list.jsonl", lambda path: path.write_text("\n".join(map(json.dumps, ROWS)))),
        ("list.parquet", lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path)),
    ],
)
def test_manifests(files: Path, name: str, write: Callable[[Path], Any]) -> None:
    write(files / name)
    data = read_data(files / name)
    assert data.labels == ["Hund", "Tür"]
    assert {clip.name: (clip.labels, clip.split, clip.group) for clip in data.clips} == {
        "a.wav": ((1,), "train", "1"),
        "b.wav": ((1,), "validation", "2"),
        "c.wav": ((0,), "train", "1"),
        "d.wav": ((0,), "test", "3"),
    }


def test_several_labels_in_a_text_in_a_list_and_in_several_rows(files: Path, tmp_path: Path) -> None:
    expected = {"a.wav": ["x", "y"], "b.wav": ["y"], "c.wav": []}
    (tmp_path / "text.csv").write_text("filename,labels\na.wav,x; y\nb.wav,y\nc.wav,\n")
    (tmp_path / "list.jsonl").write_text(
        '{"audio": "a.wav", "labels": ["y", "x"]}\n{"audio": "b.wav", "labels": ["y"]}\n'
        '{"audio": "c.wav", "labels": null}\n'
    )
    (tmp_path / "rows.csv").write_text("path,label\na.wav,x\na.wav,y\nb.wav,y\nc.wav,\n")
    # As the official code of AST writes them
    (tmp_path / "official.json").write_text(
        '{"data": [{"wav": "a.wav", "labels": "x,y"}, {"wav": "b.wav", "labels": "y"}, '
        '{"wav": "c.wav", "labels": ""}]}'
    )
    for name in ("text.csv", "list.jsonl", "rows.csv", "official.json"):
        separator = "," if name == "official.json" else ";"
        data = read_data(tmp_path / name, audio_folder=files, label_separator=separator)
        assert data.multi_label, name
        assert {Path(path).name: labels for path, labels in labels_by_name(data).items()} == expected
        assert data.targets(data.clips).tolist() == [[1, 1], [0, 1], [0, 0]]


def test_one_label_each_is_single_label_unless_said_otherwise(files: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\na.wav,x;y\nb.wav,z\nc.wav,\n")
    data = read_data(tmp_path / "list.csv", audio_folder=files, label_separator="")
    assert data.labels == ["x;y", "z"]
    assert not data.multi_label
    assert list(data.skipped.values()) == ["it has no label"]
    multi = read_data(tmp_path / "list.csv", audio_folder=files, label_separator="", multi_label=True)
    assert multi.multi_label
    assert not multi.skipped


def data_set(files: Path, names: str, labels: list[Any]) -> Dataset:
    """Recordings whose bytes lie in the data set, with labels and tags."""
    content = {
        "audio": [{"bytes": (files / f"{name}.wav").read_bytes(), "path": None} for name in names],
        "label": labels,
        "tags": [[0, 1], [1]] * (len(names) // 2),
    }
    return Dataset.from_dict(content).cast_column("audio", Audio(decode=False))


def test_data_sets_with_names_of_classes(files: Path, tmp_path: Path) -> None:
    splits = {"train": data_set(files, "abcd", [0, 1, 0, 1]), "test": data_set(files, "ef", [0, 1])}
    named = DatasetDict(splits).cast_column("label", ClassLabel(names=["Hund", "Tür"]))
    named = named.cast_column("tags", List(ClassLabel(names=["x", "y"])))
    named.save_to_disk(tmp_path / "set")
    data = read_data(tmp_path / "set", validation_fraction=0.0)
    assert labels_by_name(data) == {
        "train/0": ["Hund"], "train/1": ["Tür"], "train/2": ["Hund"], "train/3": ["Tür"],
        "test/0": ["Hund"], "test/1": ["Tür"],
    }  # fmt: skip
    assert [clip.split for clip in data.clips] == ["train"] * 4 + ["test"] * 2
    clips = Clips(data, data.of("test"), sampling_rate=8000, duration_s=1.0)
    np.testing.assert_allclose(clips[1]["waveform"], sine(8000, 0.6), atol=1e-4)  # 16 bits
    tags = read_data(tmp_path / "set", label_column="tags")
    assert tags.multi_label
    assert labels_by_name(tags)["test/0"] == ["x", "y"]


def test_data_sets_with_one_split_and_labels_as_text(files: Path, tmp_path: Path) -> None:
    data_set(files, "ab", ["x", "y"]).save_to_disk(tmp_path / "set")
    assert labels_by_name(read_data(tmp_path / "set")) == {"train/0": ["x"], "train/1": ["y"]}


def test_folders_of_splits_and_lists_of_speech_commands(files: Path, tmp_path: Path) -> None:
    for place in ("train/x", "train/y", "valid/x", "test/y"):
        (tmp_path / "splits" / place).mkdir(parents=True)
        (tmp_path / "splits" / place / "a.wav").write_bytes((files / "a.wav").read_bytes())
    data = read_data(tmp_path / "splits")
    assert data.counts() == {
        "x": {"train": 1, "validation": 1, "test": 0},
        "y": {"train": 1, "validation": 0, "test": 1},
    }

    for name in ("yes/a.wav", "yes/b.wav", "no/a.wav", "no/b.wav", "_background_noise_/a.wav"):
        (tmp_path / "commands" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "commands" / name).write_bytes((files / "a.wav").read_bytes())
    (tmp_path / "commands" / "validation_list.txt").write_text("yes/a.wav\n")
    (tmp_path / "commands" / "testing_list.txt").write_text("no/b.wav\n")
    data = read_data(tmp_path / "commands")
    assert data.labels == ["no", "yes"]
    assert {clip.name: clip.split for clip in data.clips} == {
        "no/a.wav": "train", "no/b.wav": "test", "yes/a.wav": "validation", "yes/b.wav": "train",
    }  # fmt: skip
    assert data.skipped == {"_background_noise_/a.wav": "it has no label"}


def test_a_class_has_one_name_however_its_umlaut_is_stored(files: Path, tmp_path: Path) -> None:
    for form, name in (("NFC", "a.wav"), ("NFD", "b.wav")):
        place = tmp_path / form / unicodedata.normalize(form, "Türen auf")
        place.mkdir(parents=True)
        (place / name).write_bytes((files / name).read_bytes())
    assert read_data(tmp_path / "NFC").labels == read_data(tmp_path / "NFD").labels == ["Türen auf"]


def test_the_same_share_of_every_class_is_held_out_whatever_the_order() -> None:
    items = [
        (f"{label}/{number}", (label,), None) for label, size in enumerate((1, 2, 10, 55)) for number in range(size)
    ]
    chosen = held_out(items, 0.2, seed=0)
    assert [sum(name.startswith(f"{label}/") for name in chosen) for label in range(4)] == [0, 1, 2, 11]
    assert held_out(items[::-1], 0.2, seed=0) == chosen
    assert held_out(items, 0.2, seed=1) != chosen
    assert held_out(items, 0.0, seed=0) == set()
    assert len(held_out([(str(number), (0,), None) for number in range(8)], 0.2, seed=0)) == 2  # nearest to 1.6


def test_a_recording_of_several_classes_counts_for_the_rarest_one() -> None:
    items = [(str(number), (0, 1) if number < 5 else (0,), None) for number in range(50)]
    chosen = held_out(items, 0.2, seed=0)
    assert sum(int(name) < 5 for name in chosen) == 1
    assert len(chosen) == 10


def test_whole_groups_are_held_out() -> None:
    rng = np.random.default_rng(0)
    items = [(str(number), (int(rng.integers(3)),), f"speaker {number % 20}") for number in range(300)]
    items += [("rare 1", (7,), "speaker 3"), ("rare 2", (7,), "speaker 4")]
    chosen = held_out(items, 0.2, seed=0)
    groups = {name: group for name, _, group in items}
    held = {groups[name] for name in chosen}
    assert {name for name, group in groups.items() if group in held} == chosen
    assert len(held) == 4
    for label in range(3):
        of_class = [name for name, labels, _ in items if labels == (label,)]
        assert sum(name in chosen for name in of_class) / len(of_class) == pytest.approx(0.2, abs=0.06)
    assert {"rare 1", "rare 2"} - chosen  # one is left for the training
    with pytest.raises(ValueError, match="All recordings are in the group 'x'"):
        held_out([("a", (0,), "x"), ("b", (1,), "x")], 0.2, seed=0)


def test_long_recordings_give_random_parts_that_depend_on_nothing_but_the_draw(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    ramp = np.linspace(0, 0.9, 16000 * 4).astype(np.float32)
    soundfile.write(tmp_path / "x" / "a.wav", ramp, 16000, subtype="FLOAT")
    data = read_data(tmp_path, validation_fraction=0.0)
    rows = Clips(data, data.clips, sampling_rate=16000, duration_s=1.0, random=True)
    assert len(rows) == 4
    starts = []
    for epoch in (0, 1):
        rows.set_epoch(epoch)
        again = Clips(data, data.clips, sampling_rate=16000, duration_s=1.0, random=True)
        again.set_epoch(epoch)
        for index in (3, 0, 2, 1):
            waveform = rows[index]["waveform"]
            assert len(waveform) == 16000
            np.testing.assert_array_equal(again[index]["waveform"], waveform)
            starts.append(waveform[0])
    assert len(set(starts)) == 8
    (middle,) = Clips(data, data.clips, sampling_rate=16000, duration_s=1.0)
    np.testing.assert_array_equal(middle["waveform"], ramp[24000:40000])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("path,sound\na.wav,x\n", r"has the columns \['path', 'sound'\], but none of \('label', 'labels'"),
        ("path,label,split\na.wav,x,train\nb.wav,x,\n", "has no split for 1 of 2 recordings; fill the column 'split'"),
        ("path,label,split\na.wav,x,fold1\n", "has the split 'fold1', which is none of: train, training"),
        ("path,label,split\na.wav,x,train\na.wav,y,test\n", "has 'a.wav' in several splits or groups"),
        ("path,label\nz.wav,x\n", r"no labelled recording that can be read \(1 skipped, 'z.wav'"),
    ],
)
def test_manifests_that_cannot_be_understood(files: Path, content: str, said: str) -> None:
    (files / "wrong.csv").write_text(content)
    with pytest.raises(ValueError, match=said):
        read_data(files / "wrong.csv")
    with pytest.raises(ValueError, match="not label_column='kind'"):
        read_data(files / "wrong.csv", label_column="kind")


def test_classes_of_a_model() -> None:
    data = LabelledData(source=None, clips=[], labels=["b", "a"], multi_label=False)  # type: ignore[arg-type]
    assert data.with_labels(["a", "b", "c"]).labels == ["a", "b", "c"]
    with pytest.raises(ValueError, match=r"2 classes that the model does not know, such as \['b', 'a'\]"):
        data.with_labels(["c"])
