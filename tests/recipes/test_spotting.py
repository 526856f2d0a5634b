"""Keyword spotting in recordings of a minute: how recordings are made, how events are matched, and the measurement."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from hf_ast import HfASTFeatureExtractor, HfASTForAudioFrameClassification
from hf_ast.assets import EMBEDDED_MODEL
from hf_ast.inference.events import Event
from hf_ast.recipes.keywords import __main__ as command
from hf_ast.recipes.keywords.clips import KEYWORDS, LABELS, SILENCE, UNKNOWN
from hf_ast.recipes.keywords.sequences import RandomSequences, train_frames
from hf_ast.recipes.keywords.spotting import PAUSE_S, Word, frames_of, make_recording, match, spot, windows_of


def test_words_lie_where_the_recording_says() -> None:
    rate = 16_000
    pool = {label: [np.full(rate // 2, 0.5, dtype=np.float32)] for label in (*KEYWORDS, UNKNOWN)}
    waveform, words = make_recording(pool, np.random.default_rng(0), duration_s=20.0)
    assert len(waveform) == 20 * rate
    assert len(words) >= 20 / (0.5 + PAUSE_S[1]) - 1
    assert all(word.end_s - word.start_s == pytest.approx(0.5) for word in words)
    pauses = [after.start_s - before.end_s for before, after in itertools.pairwise(words)]
    assert PAUSE_S[0] - 1e-3 <= min(pauses) <= max(pauses) <= PAUSE_S[1] + 1e-3
    # A constant under noise at 10 dB or more below it: the mean tells where words are
    spoken = np.zeros(len(waveform), dtype=bool)
    for word in words:
        spoken[round(word.start_s * rate) : round(word.end_s * rate)] = True
    assert waveform[spoken].mean() > 5 * abs(waveform[~spoken].mean())


def test_an_event_is_matched_with_one_word_of_its_label_that_it_overlaps() -> None:
    words = [Word("yes", 1.0, 1.5), Word("yes", 3.0, 3.5), Word("no", 5.0, 5.5)]

    def event(label: str, start_s: float, end_s: float) -> Event:
        return Event(label=label, start_s=start_s, end_s=end_s, peak=0.9)

    right, second = event("yes", 0.8, 1.2), event("yes", 3.4, 4.0)
    again, other_label, beside = event("yes", 1.3, 1.6), event("no", 3.0, 3.5), event("no", 5.5, 6.0)
    pairs = match([beside, other_label, second, again, right], words)
    assert pairs == [(right, words[0]), (second, words[1])]


def test_the_embedded_model_finds_the_words_of_a_minute() -> None:
    result = spot({"windows": windows_of()}, num_recordings=1)["windows"]
    assert result["num_recordings"] == 1
    assert 10 <= result["num_words"] <= 25
    # Ten recordings have 97 and 95 %, and 0.17 s (BENCHMARKS.md); one has about 15 words
    assert result["recall"] >= 0.8
    assert result["precision"] >= 0.8
    assert 0 < result["onset_error_s"] <= result["onset_error_95_s"] < 0.5


def test_the_command_prints_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "spot", lambda ways, seed: {"ways": ways, "seed": seed})
    monkeypatch.setattr(command, "windows_of", lambda model: f"windows of {model}")
    monkeypatch.setattr(command, "frames_of", lambda model: f"frames of {model}")
    monkeypatch.setattr("sys.argv", ["keywords", "spot", "--model", "DIR", "--frames", "OTHER", "--seed", "3"])
    command.main()
    ways = {"windows": "windows of DIR", "frames": "frames of OTHER"}
    assert json.loads(capsys.readouterr().out) == {"ways": ways, "seed": 3}


@pytest.mark.slow
def test_a_model_of_frames_is_trained_from_the_embedded_one_and_measured_beside_windows(tmp_path: Path) -> None:
    train_frames(tmp_path, num_clips=10 * 64, num_words=2)
    result = spot({"windows": windows_of(), "frames": frames_of(tmp_path)}, num_recordings=1)
    assert result["windows"]["num_words"] == result["frames"]["num_words"]
    assert result["frames"]["cpu_s"] < result["windows"]["cpu_s"] / 2


@pytest.mark.slow
def test_a_word_is_labelled_where_it_is_spoken_and_unknown_where_it_is_cut() -> None:
    rate = 16_000
    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate // 2) / rate)).astype(np.float32)
    pool = {label: [tone] for label in (*KEYWORDS, UNKNOWN)}
    model = HfASTForAudioFrameClassification.from_pretrained(EMBEDDED_MODEL)
    extractor = HfASTFeatureExtractor.from_pretrained(EMBEDDED_MODEL)
    clips = RandomSequences(pool, extractor, model, 20, 0)
    silence = LABELS.index(SILENCE)
    seen = 0
    for number in range(20):
        clip = clips[number]
        labels = clip["labels"]
        is_known = (labels != -100).all(dim=1)
        assert ((labels[is_known] == 1).sum(dim=1) == 1).all()
        level = clip["input_values"].amax(dim=1)
        middles = 100 * (clips.edges_s[1:] + clips.edges_s[:-1]) / 2
        loud = level[np.clip(middles.round().astype(int), 0, len(level) - 1)]
        spoken, silent = loud[is_known & (labels[:, silence] == 0)], loud[is_known & (labels[:, silence] == 1)]
        if len(spoken) and len(silent):
            seen += 1
            assert spoken.median() > silent.median()
    assert seen >= 10
