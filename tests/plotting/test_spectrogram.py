"""Levels, seconds and frequencies of spectrograms."""

import math

import numpy as np
import pytest
import torch

from hf_ast import HfASTFeatureExtractor, PaSSTFeatureExtractor
from hf_ast.models.modules_mel_filters import kaldi_mel_filters
from hf_ast.plotting import plot_spectrogram
from hf_ast.plotting.spectrogram import join_frames
from hf_ast.plotting.style import clock, short_name
from tests.support.recordings import sine


@pytest.mark.parametrize(
    "extractor", [HfASTFeatureExtractor(), PaSSTFeatureExtractor(), PaSSTFeatureExtractor(n_fft=2048)]
)
def test_centres_are_where_the_filters_are_largest(extractor: HfASTFeatureExtractor | PaSSTFeatureExtractor) -> None:
    rate, n_fft = extractor.sampling_rate, 32768  # fine enough to see the peaks
    edges = {}
    if isinstance(extractor, PaSSTFeatureExtractor):
        edges = {"low_frequency_hz": 0.0, "high_frequency_hz": 15000.0}
    peaks_hz = kaldi_mel_filters(128, n_fft, rate, **edges).argmax(dim=1) * (rate / n_fft)
    torch.testing.assert_close(extractor.mel_centres_hz, peaks_hz.double(), atol=rate / n_fft, rtol=0)


@pytest.mark.parametrize("extractor", [HfASTFeatureExtractor(), PaSSTFeatureExtractor()])
@pytest.mark.parametrize(("time_s", "frequency_hz"), [(0.5, 500.0), (1.2, 3000.0)])
def test_a_tone_is_drawn_at_its_time_and_frequency(
    extractor: HfASTFeatureExtractor | PaSSTFeatureExtractor, time_s: float, frequency_hz: float
) -> None:
    rate = extractor.sampling_rate
    waveform = 1e-4 * np.random.default_rng(0).standard_normal(2 * rate).astype(np.float32)
    start = round((time_s - 0.02) * rate)
    waveform[start : start + round(0.04 * rate)] += sine(rate, 0.04, frequency_hz) * np.hanning(round(0.04 * rate))
    values = extractor(waveform.astype(np.float32), rate, return_tensors="pt", padding=False)["input_values"]
    axes = plot_spectrogram(extractor, values, start_s=7.0).axes[0]
    image = axes.images[0]
    level_db = np.asarray(image.get_array())
    row, column = np.unravel_index(level_db.argmax(), level_db.shape)
    left, right, _, _ = image.get_extent()
    width = (right - left) / level_db.shape[1]
    assert width == pytest.approx(0.01)
    assert left + (column + 0.5) * width == pytest.approx(7 + time_s, abs=0.01)  # a frame
    labels = {
        float(label.get_text()): tick for label, tick in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
    }
    ticks_khz, places = list(labels), list(labels.values())
    mel = np.log1p(np.array(ticks_khz) / 0.7)
    assert np.interp(np.log1p(frequency_hz / 700), mel, places) == pytest.approx(row, abs=1)  # a mel bin
    assert level_db.max() == 0


def test_levels_do_not_depend_on_the_normalisation() -> None:
    waveform = sine(16000, 0.5, 440.0)
    drawn = []
    for settings in ({}, {"do_normalize": False}, {"mean": 3.0, "std": 0.7}):
        extractor = HfASTFeatureExtractor(**settings)
        values = extractor(waveform, 16000, return_tensors="pt", padding=False)["input_values"]
        drawn.append(np.asarray(plot_spectrogram(extractor, values).axes[0].images[0].get_array()))
    np.testing.assert_allclose(drawn[1], drawn[0], atol=1e-3)  # float32 of values up to 70
    np.testing.assert_allclose(drawn[2], drawn[0], atol=1e-3)


def test_frames_of_long_recordings_are_joined_by_their_energy() -> None:
    log_energy = torch.tensor([[1.0], [3.0], [5.0]]).log()
    torch.testing.assert_close(join_frames(log_energy, 2).exp(), torch.tensor([[2.0], [5.0]]))
    extractor = HfASTFeatureExtractor(num_mel_bins=32)
    axes = plot_spectrogram(extractor, torch.zeros(400_001, 32)).axes[0]
    assert axes.images[0].get_array().shape == (32, math.ceil(400_001 / 201))
    assert axes.get_xlabel() == "time in h:min:s"
    assert "1:06:40" in axes.get_title(loc="left")


def test_names_and_times() -> None:
    assert (clock(75), clock(3675, with_hours=True)) == ("1:15", "1:01:15")
    assert short_name("a" * 40) == "a" * 40
    assert len(short_name("a" * 41)) <= 40
