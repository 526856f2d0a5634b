"""Every format of docs/tables.md, by the example on the page: what its rows mean."""

import re
from pathlib import Path
from typing import Any

import pytest

from hf_ast.data.labelled import LabelledData, read_data
from tests.support.labelled import write_wavs

PAGE = Path("docs/tables.md").read_text(encoding="utf-8")
# File name and content of each example, by heading
EXAMPLES = {
    section.split("\n", 1)[0].strip("# "): re.findall(
        r"^`(\S+)`:\n\n```text\n(.*?)```", section, re.DOTALL | re.MULTILINE
    )
    for section in re.split(r"^(?=##+ )", PAGE, flags=re.MULTILINE)[1:]
}
EXAMPLES = {heading: examples for heading, examples in EXAMPLES.items() if examples}


def by_title(data: LabelledData) -> dict[str, list[str]]:
    return {clip.title: [data.labels[label] for label in clip.labels] for clip in data.clips}


# Heading -> recordings, what to read, what it means
CASES: dict[str, tuple[list[str], str, dict[str, list[str]]]] = {
    "Table": (["a.wav", "b.wav"], "list.csv", {"a.wav": ["dog"], "b.wav": ["rain"]}),
    "Table of segments": (["a.wav"], "list.csv", {"a.wav [0.5, 1.25]": ["dog"], "a.wav [1, 2]": ["rain"]}),
    "JSON lines": (
        ["a.wav", "b.wav", "c.wav"],
        "list.jsonl",
        {"a.wav": ["dog", "rain"], "b.wav": ["rain"], "c.wav": []},
    ),
    "DCASE and DESED": (
        ["a.wav", "b.wav"],
        "list.tsv",
        {"a.wav [0.5, 1.25]": ["Dog"], "b.wav [0, 2]": ["Speech"]},
    ),
    "DCASE, weak labels": (["a.wav", "b.wav"], "list.tsv", {"a.wav": ["Dog", "Speech"], "b.wav": ["Speech"]}),
    "NeMo": (
        ["a.wav", "b.wav"],
        "list.json",
        {"a.wav [0.5, 1.5]": ["yes"], "a.wav [1.5, 2.5]": ["no"], "b.wav [0, 1]": ["no"]},
    ),
    "Raven": (
        ["a.wav", "b.wav"],
        "a.Table.1.selections.txt",
        {"a.wav [0.5, 1.25]": ["owl"], "a.wav [1, 2]": ["wren"]},
    ),
    "Audacity": (["a.wav", "b.wav"], "a.txt", {"a.wav [0.5, 1.25]": ["owl"], "a.wav [1, 2]": ["wren"]}),
    "AST and SSAST": (["a.wav", "b.wav"], "list.json", {"a.wav": ["Dog", "Rain"], "b.wav": ["Rain"]}),
    "AudioSet": (
        ["deep/Y--4gqARaEJE.wav", "deep/-0xzrMun0Rs_30000_40000.wav"],
        "eval_segments.csv",
        {
            "deep/Y--4gqARaEJE.wav": ["/m/06mb1", "/m/0bt9lr"],
            "deep/-0xzrMun0Rs_30000_40000.wav": ["/m/06mb1"],
        },
    ),
    "AudioSet, strong labels": (
        ["Y-0xzrMun0Rs_30.wav"],
        "strong.tsv",
        {"Y-0xzrMun0Rs_30.wav [0.5, 1.25]": ["/m/0bt9lr"], "Y-0xzrMun0Rs_30.wav [1, 2]": ["/m/06mb1"]},
    ),
    "FSD50K": (
        ["FSD50K.dev_audio/64760.wav", "FSD50K.dev_audio/16399.wav"],
        "FSD50K.ground_truth/dev.csv",
        {
            "../FSD50K.dev_audio/64760.wav": ["Dog", "Domestic_animals_and_pets"],
            "../FSD50K.dev_audio/16399.wav": ["Rain"],
        },
    ),
    "ESC-50": (
        ["audio/1-100032-A-0.wav", "audio/1-17367-A-10.wav", "audio/2-82274-B-5.wav"],
        "meta/esc50.csv",
        {
            "../audio/1-100032-A-0.wav": ["dog"],
            "../audio/1-17367-A-10.wav": ["rain"],
            "../audio/2-82274-B-5.wav": ["cat"],
        },
    ),
    "UrbanSound8K": (
        ["audio/fold5/100032-3-0-0.wav", "audio/fold5/100263-2-0-117.wav", "audio/fold10/100648-1-0-0.wav"],
        "metadata/UrbanSound8K.csv",
        {
            "../audio/fold5/100032-3-0-0.wav": ["dog_bark"],
            "../audio/fold5/100263-2-0-117.wav": ["children_playing"],
            "../audio/fold10/100648-1-0-0.wav": ["car_horn"],
        },
    ),
    "OpenMIC": (
        ["audio/000/000046_3840.ogg", "audio/000/000135_483840.ogg"],
        "openmic-2018-aggregated-labels.csv",
        {"audio/000/000046_3840.ogg": ["flute"], "audio/000/000135_483840.ogg": ["drums"]},
    ),
    "Speech Commands": (
        ["yes/a.wav", "yes/c.wav", "no/a.wav", "no/b.wav", "_background_noise_/hum.wav"],
        "",
        {"yes/a.wav": ["yes"], "yes/c.wav": ["yes"], "no/a.wav": ["no"], "no/b.wav": ["no"]},
    ),
}
MULTI_LABEL = {"JSON lines", "DCASE, weak labels", "AST and SSAST", "AudioSet", "FSD50K", "OpenMIC"}


def write_example(folder: Path, heading: str) -> Path:
    recordings, source, _ = CASES[heading]
    write_wavs(folder, *recordings)
    for name, content in EXAMPLES[heading]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return folder / source


def test_every_example_of_the_page_is_a_case() -> None:
    assert EXAMPLES.keys() == CASES.keys()
    rows = re.findall(r"^\| \[([^\]]+)\]", PAGE, re.MULTILINE)
    assert {heading.split(",")[0].split(" ")[0] for heading in CASES} <= {
        row.split(",")[0].split(" ")[0] for row in rows
    }


@pytest.mark.parametrize("heading", CASES)
def test_the_example_means_what_the_page_says(heading: str, tmp_path: Path) -> None:
    data = read_data(write_example(tmp_path, heading), validation_fraction=0.0)
    assert by_title(data) == CASES[heading][2]
    assert data.multi_label == (heading in MULTI_LABEL)
    assert data.skipped.keys() <= {"_background_noise_/hum.wav"}


def clips(tmp_path: Path, heading: str, **settings: Any) -> dict[str, tuple[str, str | None, float]]:
    data = read_data(write_example(tmp_path, heading), validation_fraction=0.0, **settings)
    return {clip.title: (clip.split, clip.group, round(clip.duration_s, 3)) for clip in data.clips}


def test_splits_and_groups_of_official_tables(tmp_path: Path) -> None:
    assert clips(tmp_path / "us8k", "UrbanSound8K") == {
        "../audio/fold5/100032-3-0-0.wav": ("train", "5", 3.0),
        "../audio/fold5/100263-2-0-117.wav": ("train", "5", 3.0),
        "../audio/fold10/100648-1-0-0.wav": ("train", "10", 3.0),
    }
    assert [group for _, group, _ in clips(tmp_path / "esc50", "ESC-50").values()] == ["1", "1", "2"]
    assert [split for split, _, _ in clips(tmp_path / "fsd50k", "FSD50K").values()] == ["train", "validation"]
    assert {title: split for title, (split, _, _) in clips(tmp_path / "commands", "Speech Commands").items()} == {
        "yes/a.wav": "train", "yes/c.wav": "test", "no/a.wav": "train", "no/b.wav": "test",
    }  # fmt: skip


def test_eval_of_fsd50k_is_the_test_split(tmp_path: Path) -> None:
    write_wavs(tmp_path, "FSD50K.eval_audio/37199.wav")
    (tmp_path / "FSD50K.ground_truth").mkdir()
    table = tmp_path / "FSD50K.ground_truth" / "eval.csv"
    table.write_text('fname,labels,mids\n37199,"Electric_guitar,Guitar","/m/02sgy,/m/0342h"\n')
    (clip,) = read_data(table).clips
    assert (clip.name, clip.split, len(clip.labels)) == ("../FSD50K.eval_audio/37199.wav", "test", 2)


def test_openmic_names_its_partitions_and_what_was_not_rated(tmp_path: Path) -> None:
    source = write_example(tmp_path, "OpenMIC")
    (tmp_path / "partitions").mkdir()
    (tmp_path / "partitions" / "split01_train.csv").write_text("000046_3840\n")
    (tmp_path / "partitions" / "split01_test.csv").write_text("000135_483840\n")
    data = read_data(source, validation_fraction=0.0)
    assert [clip.split for clip in data.clips] == ["train", "test"]
    assert "was not rated count as absent" in data.warned[str(source)]


def test_a_recording_of_audioset_that_is_missing_or_not_certain_is_named(tmp_path: Path) -> None:
    source = write_example(tmp_path, "AudioSet")
    write_wavs(tmp_path, "other/-0xzrMun0Rs.flac", "extra.wav")
    data = read_data(source, audio_folder=tmp_path)
    assert "may be" in data.skipped["-0xzrMun0Rs"]
    (tmp_path / "deep" / "Y--4gqARaEJE.wav").unlink()
    with pytest.raises(ValueError, match=r"was not found in .*its name may be '--4gqARaEJE' or 'Y--4gqARaEJE'"):
        read_data(source, audio_folder=tmp_path)


def test_names_of_ids_come_from_the_table_that_is_given(tmp_path: Path) -> None:
    source = write_example(tmp_path, "AudioSet")
    assert "names its classes by ids" in read_data(source).warned[str(source)]
    names = tmp_path / "names" / "labels.csv"
    names.parent.mkdir()
    names.write_text('index,mid,display_name\n0,/m/0bt9lr,Dog\n1,/m/06mb1,"Rain, heavy"\n')
    data = read_data(source, label_names=names)
    assert data.labels == ["Dog", "Rain, heavy"]
    assert not data.warned
    names.write_text("index,mid,display_name\n0,/m/0bt9lr,Dog\n")
    with pytest.raises(ValueError, match=r"line 3 of .* has the label '/m/06mb1', which has no name"):
        read_data(source, label_names=names)


def test_the_folder_of_a_data_set_asks_for_its_table(tmp_path: Path) -> None:
    for heading in ("ESC-50", "UrbanSound8K", "FSD50K"):
        source = write_example(tmp_path / heading, heading)
        with pytest.raises(ValueError, match=re.escape(f"{Path(CASES[heading][1])}")):
            read_data(tmp_path / heading)
        assert source.is_file()


def test_official_lists_of_event_labels_without_a_header(tmp_path: Path) -> None:
    write_wavs(tmp_path, "a.wav")
    (tmp_path / "list.txt").write_text("a.wav\t0.5\t1.5\tdog\na.wav\t2.0\t2.5\tcat\n")
    data = read_data(tmp_path / "list.txt", validation_fraction=0.0)
    assert by_title(data) == {"a.wav [0.5, 1.5]": ["dog"], "a.wav [2, 2.5]": ["cat"]}
