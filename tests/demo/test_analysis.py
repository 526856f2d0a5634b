"""What the page shows, without a browser."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from huggingface_hub import metadata_load

from hf_ast.assets import EMBEDDED_MODEL, RECORDINGS
from hf_ast.cli import main
from hf_ast.conversion.registry import CHECKPOINTS
from hf_ast.data import audio
from hf_ast.demo import Analysis, analyse
from hf_ast.demo.analysis import MAX_DURATION_S
from hf_ast.demo.app import event_rows, model_choices, sound_html
from hf_ast.demo.pictures import time_axis
from tests.support.interpreter import PACKAGE, run

WORDS = ("yes", "stop", "up")
RATE = 16000


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three words of a second each, in a file whose name is markup."""
    path = tmp_path_factory.mktemp("recording") / "<b>three & words.wav"
    soundfile.write(path, np.concatenate([audio.read(RECORDINGS / f"{word}.flac", RATE)[0] for word in WORDS]), RATE)
    return path


@pytest.fixture(scope="module")
def analysis(recording: Path) -> Analysis:
    return analyse(recording, window_s=1.0, overlap=0.0)


def test_words_are_heard_where_they_are(analysis: Analysis) -> None:
    assert [row[:3] for row in event_rows(analysis)] == [[word, i, i + 1] for i, word in enumerate(WORDS)]
    start_s, end_s = analysis.attended_s
    assert WORDS[round(start_s)] == analysis.tagging.top(1)[0].label
    assert end_s - start_s == 1


def test_files_are_those_of_the_command(
    analysis: Analysis, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(recording.parent)
    json_file, csv_file = analysis.save(tmp_path)
    assert main(["tag", recording.name, "--window", "1", "--json"]) == 0
    (expected,) = json.loads(capsys.readouterr().out)
    (found,) = json.loads(json_file.read_text())
    # Features of a waveform and of a streamed file differ by rounding
    peaks = [[event.pop("peak") for event in part["events"]] for part in (found, expected)]
    assert found == expected
    np.testing.assert_allclose(*peaks, atol=1e-5)
    rows = list(csv.DictReader(csv_file.open()))
    assert [(row["file"], row["label"], float(row["start_s"])) for row in rows] == [
        (recording.name, word, start) for start, word in enumerate(WORDS)
    ]


def test_the_playback_line_fits_the_axes(analysis: Analysis) -> None:
    for figure in (analysis.timeline, analysis.spectrogram):
        axis = time_axis(figure)
        box = figure.axes[0].get_window_extent()
        assert (axis.left, axis.right) == pytest.approx((box.x0 / figure.bbox.width, box.x1 / figure.bbox.width))
        # The spectrogram begins and ends where its frames do, within a frame shift of 10 ms and half a window of 25 ms
        assert (axis.start_s, axis.end_s) == pytest.approx((0, 3), abs=0.0225)


def test_names_of_files_are_no_markup(analysis: Analysis, recording: Path) -> None:
    html = sound_html(analysis, str(recording))
    assert "<b>" not in html
    assert "Spectrogram of &lt;b&gt;three &amp; words.wav" in html
    assert "%3Cb%3Ethree%20%26%20words.wav" in html


def damaged(path: Path) -> None:
    path.write_bytes(b"RIFF and nothing else that belongs to a recording")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (damaged, "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: soundfile.write(path, np.zeros(0), RATE), "holds no samples"),
        (lambda path: soundfile.write(path, np.zeros(int((MAX_DURATION_S + 1) * 1000)), 1000), "longer than 30 min"),
    ],
    ids=["damaged", "no bytes", "no samples", "too long"],
)
def test_a_wrong_file_is_named(write: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.wav"
    write(path)
    with pytest.raises(ValueError, match=message):
        analyse(path)


def test_a_wrong_setting_is_named(recording: Path) -> None:
    with pytest.raises(ValueError, match="overlap=1 must be"):
        analyse(recording, overlap=1)
    with pytest.raises(ValueError, match="window_s=9 is longer"):
        analyse(recording, window_s=9)


def test_models_to_choose_from_have_a_head(tmp_path: Path) -> None:
    values = [value for _, value in model_choices(str(EMBEDDED_MODEL))]
    assert values[0] == str(EMBEDDED_MODEL)
    assert {name for name, item in CHECKPOINTS.items() if item.metrics and item.label_set} <= set(values)
    assert not [name for name in values if "ssast" in name]  # they are released without a head
    assert model_choices(str(tmp_path))[0] == (tmp_path.name, str(tmp_path))
    with pytest.raises(ValueError, match="model='nonsense' is neither"):
        model_choices("nonsense")


def test_without_gradio_it_says_how_to_install_it() -> None:
    output = run(
        "sys.stderr = sys.stdout; from hf_ast.cli import main\n"
        "print(main(['demo', '--no-open']), 'torch' in sys.modules)",
        without=("gradio",),
    )
    assert output.splitlines()[-2:] == ['error: The page needs gradio: pip install "hf-ast[demo]"', "1 False"]


def test_the_card_of_the_space_says_how_to_run_it() -> None:
    folder = PACKAGE / "demo" / "space"
    card = metadata_load(folder / "README.md")
    assert card is not None
    assert (card["sdk"], card["license"]) == ("gradio", "apache-2.0")
    assert len(card["short_description"]) <= 60  # the Hub refuses longer ones
    assert (folder / card["app_file"]).is_file()
    assert (folder / "requirements.txt").read_text().split() == ["hf-ast[demo]"]
