"""Whatever is given as a recording: the mean of its channels as float32, or one clear error."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import strategies as st

from hf_ast import HfASTFeatureExtractor, tag
from hf_ast.data import audio
from hf_ast.inference.streaming import StreamTagger
from tests.support.arrays import FLOATS, Wave, waves
from tests.support.cases import cases, outcome
from tests.support.tiny import tiny_model

LENGTHS = st.sampled_from([0, 1, 2, 31, 32, 33, 100, 999, 5000])
CHANNELS = st.integers(0, 3)
SHAPES = st.one_of(
    st.tuples(LENGTHS),
    st.tuples(CHANNELS, LENGTHS),
    st.tuples(LENGTHS, CHANNELS),
    st.tuples(CHANNELS, CHANNELS, LENGTHS),
    st.just(()),
)
RATES = st.one_of(
    st.sampled_from([16000, 16000.0, np.int64(16000), np.float32(44100), 8000, 44100, 48000, 22051]),
    st.sampled_from(
        [None, 0, -1, 1, 0.5, 16000.5, "16000", "", True, math.nan, math.inf, 2**31, 10**400, [16000], {}]
    ),
)
TIMES = st.one_of(
    st.sampled_from([0.0, 0, 0.01, 0.05, 1e-9, np.float32(0.01)]),
    st.sampled_from([-0.01, -1, 1e6, 1e300, math.nan, math.inf, "0", True, [], 10**400]),
)


def mean_of_channels(wave: Wave, value: Any) -> np.ndarray | None:
    """What the module says: (S,), (S, channels) or (channels, S), where just one axis is short."""
    shape = tuple(getattr(value, "shape", ())) or np.shape(value)
    if wave.clips is None or not wave.is_finite or 0 in shape:
        return None
    values = np.stack(wave.clips) if len(shape) == 2 else wave.clips[0]
    if values.ndim == 1:
        return values
    few = [axis for axis, size in enumerate(shape) if size <= audio.MAX_CHANNELS]
    return values.mean(axis=few[0]) if len(few) == 1 else None


@cases(5, wave=waves(SHAPES), form=st.sampled_from(["array", "mapping", "raw", "row"]))
def test_waveforms(wave: Wave, form: str) -> None:
    mapping = {"array": wave.value, "sampling_rate": 16000}
    source = {
        "array": wave.value,
        "mapping": mapping,
        "raw": {"raw": wave.value, "sampling_rate": 16000},
        "row": {"audio": mapping, "label": 3},
    }[form]
    result = outcome(lambda: audio.read(source, 16000), "source", "file=")
    expected = mean_of_channels(wave, wave.value)
    assert (result is None) == (expected is None)
    if result is not None:
        waveform, rate = result
        assert (rate, waveform.dtype, waveform.ndim) == (16000, np.float32, 1)
        np.testing.assert_allclose(waveform, expected, rtol=1e-6, atol=1e-9)
        pieces = list(audio.stream(source, 16000, block_s=0.013))
        np.testing.assert_array_equal(np.concatenate(pieces), waveform)


@cases(3, wave=waves(st.tuples(st.sampled_from([400, 1000])), FLOATS), given=RATES, own=RATES, wanted=RATES)
def test_rates(wave: Wave, given: Any, own: Any, wanted: Any) -> None:
    source = {"array": wave.value, "sampling_rate": own}
    result = outcome(
        lambda: audio.read(source, wanted, source_rate=given), "sampling_rate", "source_rate", "NaN or infinite"
    )
    if result is not None:
        waveform, rate = result
        from_rate = int(next(value for value in (own, given, wanted) if value is not None))
        assert rate == (from_rate if wanted is None else int(wanted))
        assert len(waveform) == pytest.approx(len(wave.clips[0]) * rate / from_rate, abs=1)
        assert np.isfinite(waveform).all()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "noise.wav"
    noise = 0.1 * np.random.default_rng(0).standard_normal((1600, 2)).astype(np.float32)
    soundfile.write(path, noise, 16000, subtype="FLOAT")
    return path


@cases(2, start_s=TIMES, duration_s=st.one_of(st.none(), TIMES), as_file=st.booleans())
def test_parts(file: Path, start_s: Any, duration_s: Any, as_file: bool) -> None:
    whole = soundfile.read(file, dtype="float32")[0].mean(axis=1)
    source = file if as_file else {"array": whole, "sampling_rate": 16000}
    result = outcome(
        lambda: audio.read(source, 16000, start_s=start_s, duration_s=duration_s),
        "start_s",
        "duration_s",
        "no samples",
    )
    if result is not None:
        first = round(float(start_s) * 16000)
        end = None if duration_s is None else first + round(float(duration_s) * 16000)
        np.testing.assert_allclose(result[0], whole[first:end], atol=1e-7)


SOURCES = st.one_of(
    st.sampled_from(
        [None, 3, 0.5, True, "", "no/such/file.wav", b"", b"RIFF", {}, {"audio": None}, {"path": 3}, object()]
    ),
    st.binary(max_size=60),
    st.text(max_size=20),
    st.lists(st.one_of(st.floats(), st.none(), st.text(max_size=2), st.lists(st.floats(), max_size=2)), max_size=4),
    st.dictionaries(
        st.sampled_from(["array", "sampling_rate", "audio", "bytes", "path", "x"]), st.none() | st.floats()
    ),
)


@cases(3, source=SOURCES)
def test_what_is_no_recording(source: Any) -> None:
    result = outcome(lambda: audio.read(source, 16000), "source", "file", "sampling_rate")
    assert result is None or np.isfinite(result[0]).all()


MODEL, FRONT_END = tiny_model(), HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
TAG_ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "sampling_rate": RATES,
    "window_s": st.one_of(st.none(), TIMES),
    "hop_s": st.one_of(st.none(), TIMES),
    "pooling": st.sampled_from(["mean", "max", "energy", "median", None, 3, []]),
    "threshold": st.sampled_from([0.5, 1, 0, -1, 1.5, math.nan, math.inf, "0.5", None, True]),
    "release": st.sampled_from([None, 0.1, 0, -1, 0.9, math.nan, "0.1"]),
    "batch_size": st.sampled_from([1, 4, 0, -1, 1.5, "4", None, 10**12, math.nan]),
}


@cases(2, data=st.data(), wave=waves(st.tuples(st.sampled_from([0, 399, 400, 3000, 20000])), FLOATS))
def test_tagging(data: st.DataObject, wave: Wave) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(TAG_ARGUMENTS)), max_size=2, unique=True))
    arguments = {name: data.draw(TAG_ARGUMENTS[name], label=name) for name in names}
    mentioned = (*names, "window", "hop", "source", "raw_speech") if names else ("source", "raw_speech")
    result = outcome(lambda: tag(MODEL, FRONT_END, wave.value, **arguments), *mentioned)
    if result is not None:
        assert result.window_scores.isfinite().all()
        assert result.scores.isfinite().all()
        rate = int(arguments.get("sampling_rate") or 16000)
        assert result.duration_s == pytest.approx(len(wave.clips[0]) / rate, abs=2e-4)
        assert result.window_times_s[0, 0] == 0


@cases(1, pieces=st.lists(waves(SHAPES), max_size=4))
def test_streams(pieces: list[Wave]) -> None:
    """What a stream refuses is not taken: the windows are those of the other pieces."""
    tagger = StreamTagger(MODEL, FRONT_END, window_s=0.05, hop_s=0.04)
    taken, windows = [], []
    for wave in pieces:
        found = outcome(lambda wave=wave: tagger.push(wave.value), "samples", "raw_speech")
        if found is not None:
            windows += found
            taken.append(wave.clips[0] if wave.clips else np.zeros(0, np.float32))
    whole = np.concatenate(taken) if taken else np.zeros(0, np.float32)
    last = outcome(tagger.flush, "raw_speech")
    if last is not None and len(whole) >= 400:
        expected = tag(MODEL, FRONT_END, whole, window_s=0.05, hop_s=0.04, shared_features=False)
        scores = np.stack([window.scores for window in windows + last])
        np.testing.assert_allclose(scores, expected.window_scores, atol=1e-5)


def test_nothing_of_a_long_recording_is_cut() -> None:
    """Ten minutes; `tests/benchmarks/long_recordings.py` measures the memory of a day."""
    seconds = 600
    tagging = tag(MODEL, FRONT_END, np.zeros(seconds * 8000, np.float32), sampling_rate=8000, batch_size=64)
    assert tagging.duration_s == seconds
    assert len(tagging.window_scores) == math.ceil(seconds * 16000 / FRONT_END.max_samples)
