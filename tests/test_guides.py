"""The guides run as they are written, with fewer recordings and steps, and say what they have measured."""

import csv
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from docs.guides.run import BLOCK, PICTURE, run_guide, with_outputs
from docs.guides.sounds import CLIP_S, WORDS, write_recording, write_words
from hf_ast.data import audio
from hf_ast.recipes.keywords.clips import KEYWORDS, UNKNOWN
from tests.support.interpreter import ROOT

PAGES = sorted((ROOT / "docs" / "guides").glob("*.md"))
LARGEST_PICTURE = 80_000  # bytes


def text_of(name: str) -> str:
    return (ROOT / "docs" / "guides" / f"{name}.md").read_text(encoding="utf-8")


def test_the_keyword_recordings_are_what_the_guide_says(tmp_path: Path) -> None:
    write_words(tmp_path, WORDS[:2], "train", 2)
    write_words(tmp_path, WORDS[:2], "test", 1)
    files = sorted(tmp_path.glob("*/*.wav"))
    assert [f"{file.parent.name} {file.stem}" for file in files] == [
        f"{word} {name}" for word in sorted(WORDS[:2]) for name in ("test-0000", "train-0000", "train-0001")
    ]
    for file in files:
        waveform, rate = audio.read(file)
        assert rate == 16000
        assert len(waveform) >= round(CLIP_S * rate)
        assert 0.09 < abs(waveform).max() < 0.72  # -20 to -3 dB


def test_the_table_beside_a_recording_tells_where_its_words_are(tmp_path: Path) -> None:
    """A word has more energy than what is before it, in the median over the words: some are hardly above the noise."""
    write_recording(tmp_path / "room.flac", KEYWORDS, 2)
    waveform, rate = audio.read(tmp_path / "room.flac")
    assert len(waveform) == 2 * 60 * rate
    rows = list(csv.DictReader((tmp_path / "room.csv").open(newline="")))
    assert {row["label"] for row in rows} <= {*KEYWORDS, UNKNOWN}
    ratios = []
    for row in rows:
        start, end = (round(float(row[key]) * rate) for key in ("start_s", "end_s"))
        before = waveform[start - rate // 2 : start]
        ratios.append((waveform[start:end] ** 2).mean() / (before**2).mean())
    assert sorted(ratios)[len(ratios) // 2] > 10


def test_outputs_go_below_the_blocks_that_print_them() -> None:
    page = (
        "```python\nprint(1)\n```\n\n```text\nold\n```\n\n```bash\nls\n```\n\n```python\nprint(2)\n```\n```text\n```\n"
    )
    expected = page.replace("old\n", "1\n").replace("```text\n```", "```text\n2\n```")
    assert with_outputs(page, ["1\n", "files\n", "2\n"]) == expected


def test_a_change_must_be_in_the_page_and_a_failing_command_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'--steps 7', which the page does not hold"):
        run_guide("```bash\nls\n```\n", tmp_path, {"--steps 7": ""})
    with pytest.raises(RuntimeError, match=r"hf-ast classify no\.wav .* ended with status 1"):
        run_guide("```bash\nls\nhf-ast classify no.wav  # which is not there\n```\n", tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_numbers_in_the_text_are_those_that_were_measured(page: Path) -> None:
    """Every number with a decimal point stands in an output of the page, or in its code."""
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(block[2] for block in BLOCK.finditer(text))
    prose = re.sub(r"\]\([^)]*\)", "]", BLOCK.sub("", text))
    numbers = set(re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)", prose))
    known = set(re.findall(r"\d+\.\d+", blocks)) | KNOWN_NUMBERS.get(page.stem, set())
    assert numbers <= known, sorted(numbers - known)
    assert not re.search(r"^```text\n```$", text, flags=re.MULTILINE), "an output is missing"


# Settings, a name, and figures from BENCHMARKS.md, whose place the text names
KNOWN_NUMBERS = {
    "keyword-spotter": {"0.6", "1.4"},
    "hour-of-audio": {"0.4593"},  # of a checkpoint's name
    "own-sounds": {"0.5", "40.7", "48.2"},
    "sound-events": {"1.6"},
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pictures_are_small(page: Path) -> None:
    links = PICTURE.findall(page.read_text(encoding="utf-8"))
    assert links
    for link in links:
        file = page.parent / link
        assert file.stat().st_size < LARGEST_PICTURE, link
        with Image.open(file) as picture:
            assert picture.width <= 1400


@pytest.mark.slow
def test_an_hour_of_audio(tmp_path: Path) -> None:
    """Of one minute, most words are found at their times; the model finds 95 % of them in `make spot`."""
    run_guide(text_of("hour-of-audio"), tmp_path, {"--minutes 60": "--minutes 1"})
    said = [row for row in csv.DictReader((tmp_path / "hour.csv").open(newline="")) if row["label"] in KEYWORDS]
    events = list(csv.DictReader((tmp_path / "events" / "hour.csv").open(newline="")))
    found = [
        word
        for word in said
        if any(
            event["label"] == word["label"]
            and float(event["start_s"]) < float(word["end_s"])
            and float(word["start_s"]) < float(event["end_s"])
            for event in events
        )
    ]
    assert len(said) >= 2
    assert len(found) >= 0.6 * len(said)
    assert {file.name for file in tmp_path.glob("*.png")} == {"timeline.png", "minute.png", "similarity.png"}


@pytest.mark.slow
def test_a_keyword_spotter(tmp_path: Path) -> None:
    changes = {
        "--number 10 ": "--number 5 ",
        "new-voices --number 30": "new-voices --number 4",
        "--number 30 ": "--number 7 ",
        "--number 60 ": "--number 12 ",
        "--epochs 60": "--epochs 30 --learning-rate 3e-4",
        "--epochs 40": "--epochs 2",
        "--minutes 8": "--minutes 1",
    }
    outputs = run_guide(text_of("keyword-spotter"), tmp_path, changes)
    scores = [float(score) for output in outputs for score in re.findall(r"^accuracy +([\d.]+)", output, flags=re.M)]
    # Of six words; with 24 recordings, three standard deviations above a guess of 1/6 are 0.4
    longer = scores[3]  # after two results of the first training, and the recordings held out of the second one
    assert longer > 0.4
    assert json.loads((tmp_path / "spotter" / "config.json").read_text())["id2label"]["0"] == "_background_"
    assert (tmp_path / "spotter-onnx" / "model.onnx").exists()
    assert any("words found" in output for output in outputs)


@pytest.mark.slow
def test_pretraining_on_own_sounds(tmp_path: Path) -> None:
    changes = {
        "--number 4000": "--number 100",
        "--number 20 ": "--number 2 ",
        "--number 10 ": "--number 4 ",
        "num_steps=3000": "num_steps=40",
        "eval_every=500": "eval_every=20",
        "num_epochs=30": "num_epochs=1",
        "range(3)": "range(2)",
    }
    run_guide(text_of("own-sounds"), tmp_path, changes)
    states = list(tmp_path.glob("ssast/checkpoints/checkpoint-*/trainer_state.json"))
    log = json.loads(max(states, key=lambda file: file.stat().st_mtime_ns).read_text())["log_history"]
    losses = [row["reconstruction_loss"] for row in log if "reconstruction_loss" in row]
    assert losses[-1] < 0.8 * losses[0]  # the mean spectrum is learnt within a few steps
    assert {file.name for file in tmp_path.glob("*.png")} == {"curves.png", "reconstruction.png"}


@pytest.mark.slow
def test_when_the_birds_call(tmp_path: Path) -> None:
    changes = {"--recordings 40": "--recordings 16", "--recordings 12": "--recordings 4"}
    outputs = run_guide(text_of("sound-events"), tmp_path, changes)
    scores = [float(score) for output in outputs for score in re.findall(r"^event_F1 +([\d.]+)", output, flags=re.M)]
    assert len(scores) == 2
    assert scores[1] > 0.5
    assert (tmp_path / "found-calls.png").exists()
