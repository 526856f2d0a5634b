"""Keyword spotting in minutes of sound: how well `hf_ast.tag` finds the words, and when.

    python -m hf_ast.recipes.keywords spot [--model DIR] [--frames DIR] [--seed S]

With `--frames`, the events of a model that labels cells of time are measured beside those of windows, on the same
recordings. Each holds keywords and other words of held-out voices at random times, a second or more apart, in noise.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedModel

from hf_ast import load_classifier, tag
from hf_ast.assets import EMBEDDED_MODEL
from hf_ast.inference.events import Event
from hf_ast.inference.features import FeatureExtractor
from hf_ast.recipes.keywords.clips import KEYWORDS, UNKNOWN, Pool, speech_pool
from hf_ast.recipes.keywords.speech import SAMPLING_RATE_HZ, make_noise, mix_at_snr, set_peak

DURATION_S = 60.0
# Shorter windows than the model's 1.6 s locate a word better, and still hold it as a whole
WINDOW_S, HOP_S = 0.8, 0.1
# Windows of frames overlap by as much as a word lasts, so that each word lies in one of them as a whole
FRAME_HOP_S = 1.0
FRAME_EVENTS = {"threshold": 0.4, "release": 0.2, "longest_gap_s": 0.12, "shortest_s": 0.12}
# Pauses between words, in seconds, and the signal-to-noise ratio over the recording, in dB
PAUSE_S = (1.0, 3.0)
SNR_DB = (10.0, 30.0)
SHARE_OF_OTHER_WORDS = 0.3


class Word(NamedTuple):
    """A word in a recording, and when it is spoken, in seconds."""

    label: str
    start_s: float
    end_s: float


def make_recording(
    pool: Pool, rng: np.random.Generator, duration_s: float = DURATION_S
) -> tuple[np.ndarray, list[Word]]:
    """Make a recording of words with pauses between them, in pink noise.

    Args:
        pool: Clean speech by label.
        rng: Source of randomness.
        duration_s: Length of the recording, in seconds.

    Returns:
        Waveform in [-1, 1], shape (S,), and its words in their order.
    """
    waveform = np.zeros(round(duration_s * SAMPLING_RATE_HZ), dtype=np.float32)
    words: list[Word] = []
    position = round(rng.uniform(*PAUSE_S) * SAMPLING_RATE_HZ)
    while True:
        label = UNKNOWN if rng.random() < SHARE_OF_OTHER_WORDS else str(rng.choice(KEYWORDS))
        spoken = pool[label][rng.integers(len(pool[label]))]
        if position + len(spoken) > len(waveform):
            break
        waveform[position : position + len(spoken)] += spoken
        words.append(Word(label, position / SAMPLING_RATE_HZ, (position + len(spoken)) / SAMPLING_RATE_HZ))
        position += len(spoken) + round(rng.uniform(*PAUSE_S) * SAMPLING_RATE_HZ)
    noisy = mix_at_snr(waveform, make_noise("pink", len(waveform), rng), rng.uniform(*SNR_DB))
    return set_peak(noisy, -3.0), words


def match(events: list[Event], words: list[Word]) -> list[tuple[Event, Word]]:
    """Pair events with the words of the same label that they overlap, each at most once, in the order of time."""
    pairs = []
    left = list(words)
    for event in sorted(events, key=lambda event: event.start_s):
        for word in left:
            if word.label == event.label and event.start_s < word.end_s and word.start_s < event.end_s:
                pairs.append((event, word))
                left.remove(word)
                break
    return pairs


class Way(NamedTuple):
    """A way to find events: a model, its feature extractor, and settings of `hf_ast.tag`."""

    model: PreTrainedModel
    feature_extractor: FeatureExtractor
    settings: dict[str, Any]


def windows_of(model_path: str | Path = EMBEDDED_MODEL, window_s: float = WINDOW_S, hop_s: float = HOP_S) -> Way:
    """Return the way of a model that labels windows; their length, and the time between their starts, in seconds."""
    return Way(*load_classifier(model_path), {"window_s": window_s, "hop_s": hop_s})


def frames_of(model_path: str | Path, hop_s: float = FRAME_HOP_S) -> Way:
    """Return the way of a model that labels cells of time; its windows are as long as its input."""
    return Way(*load_classifier(model_path, frames=True), {"hop_s": hop_s} | FRAME_EVENTS)


def spot(ways: Mapping[str, Way], *, num_recordings: int = 10, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Measure how well the events of `hf_ast.tag` find the keywords in recordings of a minute.

    Args:
        ways: Name -> model and settings; all hear the same recordings.
        num_recordings: Number of recordings of held-out voices.
        seed: Another seed gives other recordings.

    Returns:
        For each way `num_words`, the keywords that are spoken; `num_events`, the events of keywords; `recall`,
        `precision`; the median and the 95th percentile of the absolute onset error in seconds, `onset_error_s` and
        `onset_error_95_s`, over the events that are right; and `cpu_s`, the seconds of processor time for all
        recordings.
    """
    pool = speech_pool("test", num_per_keyword=20, num_unknown=60, seed=seed)
    found: dict[str, list[tuple[list[Event], list[Word]]]] = {name: [] for name in ways}
    cpu_s = dict.fromkeys(ways, 0.0)
    for number in range(num_recordings):
        waveform, words = make_recording(pool, np.random.default_rng([seed, 4, number]))
        for name, way in ways.items():
            begin = process_time()
            events = tag(way.model, way.feature_extractor, waveform, batch_size=64, **way.settings).events
            cpu_s[name] += process_time() - begin
            of_keywords = [event for event in events if event.label in KEYWORDS]
            found[name].append((of_keywords, [word for word in words if word.label in KEYWORDS]))
    return {name: _measured(found[name]) | {"cpu_s": round(cpu_s[name], 2)} for name in ways}


def _measured(found: Sequence[tuple[list[Event], list[Word]]]) -> dict[str, Any]:
    pairs = [pair for events, words in found for pair in match(events, words)]
    num_words, num_events = (sum(len(one[part]) for one in found) for part in (1, 0))
    errors = [abs(event.start_s - word.start_s) for event, word in pairs]
    return {
        "num_recordings": len(found),
        "num_words": num_words,
        "num_events": num_events,
        "recall": len(pairs) / max(1, num_words),
        "precision": len(pairs) / max(1, num_events),
        "onset_error_s": float(np.median(errors)) if errors else None,
        "onset_error_95_s": float(np.percentile(errors, 95)) if errors else None,
    }
