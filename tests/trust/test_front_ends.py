"""Whatever is given to the feature extractors: the features of the same clips as float32, or one clear error."""

import math
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from hf_ast import HfASTFeatureExtractor, PaSSTFeatureExtractor
from tests.support.arrays import Wave, waves
from tests.support.cases import cases, outcome

AST = HfASTFeatureExtractor(num_mel_bins=32, max_length=20)
PASST = PaSSTFeatureExtractor(num_mel_bins=32, max_length=20, n_fft=512, window_length=400, hop_length=160)
EXTRACTORS = st.sampled_from([AST, PASST])
LENGTHS = st.sampled_from([0, 1, 2, 257, 258, 399, 400, 401, 560, 800, 1601, 3700])
COUNTS = st.integers(0, 3)
SHAPES = st.one_of(
    st.tuples(LENGTHS),
    st.tuples(COUNTS, LENGTHS),
    st.tuples(LENGTHS, COUNTS),
    st.tuples(COUNTS, COUNTS, LENGTHS),
    st.just(()),
)
# What no argument that is a number may be, and numbers that none may be
NO_NUMBERS = st.sampled_from([None, "16000", "", True, [], {}, b"1", object(), 1j, math.nan, math.inf, -math.inf])
WRONG = st.one_of(NO_NUMBERS, st.sampled_from([0, -1, 0.5, 10**12, 2**70, 1e300]))


def plain(extractor: Any, clip: np.ndarray) -> torch.Tensor:
    return extractor(clip, extractor.sampling_rate, return_tensors="pt", padding=False)["input_values"][0]


def is_right(extractor: Any, wave: Wave) -> bool:
    clips = wave.clips
    if not clips or not wave.is_finite or wave.peak > 100:
        return False
    is_list_of_arrays = isinstance(wave.value, list) and not any(isinstance(row, list) for row in wave.value)
    looks_like_channels = len(clips) > 32 >= len(clips[0]) and not is_list_of_arrays
    return len(clips[0]) > 0 and not looks_like_channels


@cases(7, extractor=EXTRACTORS, wave=waves(SHAPES))
def test_waveforms(extractor: Any, wave: Wave) -> None:
    result = outcome(
        lambda: extractor(wave.value, extractor.sampling_rate, return_tensors="pt", padding="longest"), "raw_speech"
    )
    assert (result is not None) == is_right(extractor, wave)
    if result is not None:
        assert len(result["input_values"]) == len(wave.clips)
        for features, clip in zip(result["input_values"], wave.clips, strict=True):
            # The mean of a clip that is not contiguous is summed in another order
            alone = plain(extractor, clip)
            torch.testing.assert_close(features[: len(alone)], alone, atol=1e-4, rtol=0)
            assert features.isfinite().all()


@cases(2, extractor=EXTRACTORS, batch=st.lists(waves(SHAPES), max_size=4), as_tuple=st.booleans())
def test_lists_of_clips(extractor: Any, batch: list[Wave], as_tuple: bool) -> None:
    clips: Any = [wave.value for wave in batch]
    result = outcome(
        lambda: extractor(tuple(clips) if as_tuple else clips, extractor.sampling_rate, return_tensors="pt"),
        "raw_speech",
    )
    if result is None:
        return
    # One clip as a list of numbers or 0-dim arrays; else every element is a clip
    if all(np.ndim(wave.value) == 0 for wave in batch):
        return
    assert all(is_right(extractor, wave) and len(wave.clips) == 1 for wave in batch)
    values, mask = result["input_values"], result.get("attention_mask")
    for index, wave in enumerate(batch):
        alone = plain(extractor, wave.clips[0])
        torch.testing.assert_close(values[index, : len(alone)], alone, atol=1e-4, rtol=0)
        padding = torch.full_like(values[index, len(alone) :], extractor.padding_value)
        torch.testing.assert_close(values[index, len(alone) :], padding, atol=1e-6, rtol=0)
        assert mask is None or mask[index].tolist() == [1] * len(alone) + [0] * (len(mask[index]) - len(alone))


ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "sampling_rate": st.one_of(st.none(), st.sampled_from([16000, 16000.0, np.int64(16000), 44100]), WRONG),
    "return_tensors": st.sampled_from([None, "pt", "np", "tf", 1, True, []]),
    "padding": st.sampled_from([None, True, False, "longest", "max_length", "do_not_pad", "left", 1, 0, 2, []]),
    "truncation": st.booleans(),
    "max_length": st.one_of(st.sampled_from([None, 1, 3, 30, 30.0, np.int32(7)]), WRONG),
    "return_attention_mask": st.sampled_from([None, True, False]),
    "device": st.sampled_from([None, "cpu", torch.device("cpu"), "cuda:77", "nonsense", "meta", 3.5]),
}


@cases(4, data=st.data())
def test_arguments_of_a_call(data: st.DataObject) -> None:
    """At most two of them are drawn; the others have their defaults."""
    names = data.draw(st.lists(st.sampled_from(sorted(ARGUMENTS)), max_size=2, unique=True))
    arguments = {name: data.draw(ARGUMENTS[name], label=name) for name in names}
    extractor = data.draw(EXTRACTORS)
    clips = [0.1 * np.random.default_rng(0).standard_normal(length) for length in (800, 2400)]
    rate = arguments.pop("sampling_rate", 16000) if extractor is AST else extractor.sampling_rate
    arguments.pop("sampling_rate", None)
    result = outcome(lambda: extractor(clips, rate, **arguments), *(names or ["-"]))
    if result is not None:
        for features, clip in zip(result["input_values"], clips, strict=True):
            alone = plain(extractor, clip)
            num_frames = min(len(alone), len(features))
            if arguments.get("truncation", True):
                assert num_frames == min(len(alone), int(arguments.get("max_length") or extractor.max_length))
            if num_frames < len(alone):  # PaSST reflects a clip where it ends
                num_frames = max(0, num_frames - extractor.num_edge_frames)
            # Matrix products of other shapes round otherwise
            np.testing.assert_allclose(np.asarray(features)[:num_frames], alone[:num_frames], atol=1e-4)


SETTINGS = ("sampling_rate", "num_mel_bins", "max_length", "mean", "std", "padding_value")
PASST_SETTINGS = ("n_fft", "window_length", "hop_length", "low_frequency_hz", "high_frequency_hz")


@cases(3, data=st.data(), value=st.one_of(WRONG, st.floats(), st.integers(-3, 10**9)))
def test_settings(data: st.DataObject, value: Any) -> None:
    """From a preprocessor_config.json that somebody else wrote, for example; sizes that need no absurd memory."""
    extractor_class = data.draw(st.sampled_from([HfASTFeatureExtractor, PaSSTFeatureExtractor]))
    name = data.draw(st.sampled_from(SETTINGS + (PASST_SETTINGS if extractor_class is PaSSTFeatureExtractor else ())))
    extractor = outcome(lambda: extractor_class(**{name: value}), name)
    if extractor is None:
        return
    clip = 0.1 * np.random.default_rng(0).standard_normal(extractor.min_samples + 7)
    result = outcome(lambda: extractor(clip, extractor.sampling_rate, return_tensors="pt"), name, "raw_speech")
    if result is not None:
        assert result["input_values"].isfinite().all()
