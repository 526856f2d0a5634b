"""PaSST's front end: feature extractor and training augmentation. The official numbers are in the golden cases."""

import math

import numpy as np
import pytest
import torch

from hf_ast import HfASTFeatureExtractor, PaSSTFeatureExtractor, PaSSTMel
from hf_ast.models.modules_centred_mel import FRAMES_PER_SEGMENT
from hf_ast.models.modules_mel_filters import kaldi_mel_filters
from hf_ast.models.modules_passt_mel import MelDraws, PaSSTLogMel, passt_log_mel
from tests.support.tiny import waveforms

RATE = 32000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("hop_length", [320, 160, 100])
def test_log_mel_is_that_of_torch_stft(hop_length):
    waveform = waveforms(2, (FRAMES_PER_SEGMENT + 20) * hop_length).double()
    emphasised = waveform[:, 1:] - 0.97 * waveform[:, :-1]
    window = torch.hann_window(800, periodic=False, dtype=torch.float64)
    spectrum = torch.stft(emphasised, 1024, hop_length, 800, window, center=True, return_complex=True)
    filters = torch.as_tensor(triangles())
    expected = (filters @ spectrum.abs().square() + 1e-5).log().mT
    torch.testing.assert_close(passt_log_mel(waveform, hop_length=hop_length), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("n_fft", "window_length"), [(1024, 1024), (1024, 799), (512, 401), (401, 401), (401, 200)])
def test_other_windows_and_edges(n_fft, window_length):
    """Half of them is cut off where the size is odd, as in `torch.stft`."""
    waveform = waveforms(2, 3000).double()
    emphasised = waveform[:, 1:] - 0.97 * waveform[:, :-1]
    window = torch.hann_window(window_length, periodic=False, dtype=torch.float64)
    spectrum = torch.stft(emphasised, n_fft, 160, window_length, window, center=True, return_complex=True)
    edges = {"low_frequency_hz": 90.0, "high_frequency_hz": 14000.0}
    filters = kaldi_mel_filters(20, n_fft, RATE, **edges).double()
    expected = (filters @ spectrum.abs().square()[:, : filters.shape[1]] + 1e-5).log().mT
    sizes = {"n_fft": n_fft, "window_length": window_length, "hop_length": 160, "num_mel_bins": 20}
    ours = passt_log_mel(waveform, **sizes, **edges)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_the_shortest_waveform():
    assert passt_log_mel(waveforms(1, 514)).shape == (1, 2, 128)
    with pytest.raises(ValueError, match="513 samples, fewer than the 514 that an FFT of 1024 needs"):
        passt_log_mel(waveforms(1, 513))
    with pytest.raises(ValueError, match="hop_length=0 samples must be at least 1"):
        passt_log_mel(waveforms(1, 5000), hop_length=0)
    assert passt_log_mel(waveforms(1, 600), hop_length=1).shape == (1, 600, 128)


def test_defaults_are_the_official_ones():
    waveform = waveforms(1, 5000)
    given = {"sampling_rate": 32000, "num_mel_bins": 128, "n_fft": 1024, "window_length": 800, "hop_length": 320}
    expected = passt_log_mel(waveform, low_frequency_hz=0.0, high_frequency_hz=15000.0, **given)
    for ours in (passt_log_mel(waveform), PaSSTLogMel()(waveform), 5 * PaSSTMel().eval()(waveform) - 4.5):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)
    front_end = PaSSTMel()
    assert front_end.jitter_hz == (10, 2000)
    assert (front_end.max_mel_mask, front_end.max_time_mask) == (48, 192)


def test_without_a_generator_the_global_one_draws():
    waveform, drawn = waveforms(1, 5000), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(PaSSTMel()(waveform))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_given_draws_are_applied():
    """Edges of the mel scale, and masks with 0 before the normalisation (x + 4.5) / 5."""
    waveform = waveforms(2, 32000)
    draws = MelDraws(7.0, 15500.0, torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0]]))
    expected = passt_log_mel(waveform, low_frequency_hz=7.0, high_frequency_hz=15500.0)
    expected[0, :, 52:76] = 0.0  # 24 of 128 mel bins: half of 48, from (128 - 24) / 2 on
    expected[0, 2:98] = 0.0  # 96 of 100 frames: half of 192
    features = PaSSTMel().eval()(waveform, draws=draws)
    torch.testing.assert_close(features, (expected + 4.5) / 5)


def triangles() -> np.ndarray:
    """Kaldi's filters from 0 to 15000 Hz, by the formula, bin by bin."""
    mels = 1127 * np.log1p(np.arange(513) * RATE / 1024 / 700)
    edges = np.linspace(0, 1127 * np.log1p(15000 / 700), 130)
    filters = [np.interp(mels, edges[bin_ : bin_ + 3], [0, 1, 0]) for bin_ in range(128)]
    return np.stack(filters)


def test_batch_equals_single_waveforms_in_single_and_double_precision():
    batch = waveforms(3, 40000)
    features = passt_log_mel(batch)
    for clip, expected in zip(batch, features, strict=True):
        torch.testing.assert_close(passt_log_mel(clip[None])[0], expected, atol=0, rtol=0)
    torch.testing.assert_close(passt_log_mel(batch.double()).float(), features, atol=1e-4, rtol=1e-4)


def test_features_under_autocast_stay_exact():
    batch = waveforms(1, 20000)
    expected = passt_log_mel(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(passt_log_mel(batch), expected)


def test_extractor_pads_with_silence_and_masks():
    extractor = PaSSTFeatureExtractor()
    silence = extractor(torch.zeros(3200), RATE, return_tensors="pt")["input_values"]
    assert extractor.padding_value == pytest.approx((math.log(1e-5) + 4.5) / 5)
    torch.testing.assert_close(silence, torch.full((1, 16, 128), extractor.padding_value))
    clips = [waveforms(1, 6400)[0], waveforms(1, 3200)[0]]
    batch = extractor(clips, RATE, return_tensors="pt")
    assert batch["input_values"].shape == (2, 20, 128)
    assert batch["attention_mask"].sum(dim=1).tolist() == [20, 10]
    torch.testing.assert_close(batch["input_values"][1, 10:], silence[0, :10])
    padded = extractor(clips, RATE, return_tensors="pt", padding="max_length")
    assert set(padded) == {"input_values"}
    assert padded["input_values"].shape == (2, 1000, 128)


def test_extractor_cuts_the_waveform():
    clip = waveforms(1, 64000)[0]
    features = PaSSTFeatureExtractor(max_length=100)(clip, RATE, return_tensors="pt")["input_values"]
    torch.testing.assert_close(
        features, PaSSTFeatureExtractor()(clip[:32000], RATE, return_tensors="pt")["input_values"]
    )
    assert PaSSTFeatureExtractor().max_samples == 10 * RATE


@pytest.mark.parametrize(
    ("waveform", "rate", "message"),
    [
        (torch.zeros(0), RATE, "0 samples, but a clip needs at least one"),
        (torch.zeros(5000), 16000, "16000 Hz, but this extractor works at 32000 Hz"),
        (torch.zeros(5000, dtype=torch.int16), RATE, "divide 16-bit samples"),
        (torch.full((5000,), torch.nan), RATE, "peak of nan"),
        (torch.zeros(1, 2, 5000), RATE, "must be .samples,. or .batch, samples."),
    ],
)
def test_extractor_refuses(waveform, rate, message):
    with pytest.raises(ValueError, match=message):
        PaSSTFeatureExtractor()(waveform, rate)


def test_filters_above_half_the_rate_are_an_error():
    with pytest.raises(ValueError, match="high_frequency_hz=15000"):
        passt_log_mel(torch.zeros(1, 5000), sampling_rate=16000)


def test_augmentation_in_training_only():
    waveform = waveforms(4, 64000)
    front_end = PaSSTMel()
    plain = PaSSTFeatureExtractor()(waveform, RATE, return_tensors="pt")["input_values"]
    torch.testing.assert_close(front_end.eval()(waveform), plain)
    front_end.train()
    first, again, other = (front_end(waveform, generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    masked = first == 0.9  # (0 + 4.5) / 5
    assert masked.all(dim=1).any(dim=1).any()  # a mel bin of some clip
    assert masked.all(dim=2).any(dim=1).any()  # a frame of some clip


def test_jitter_stays_in_its_range():
    front_end = PaSSTMel(max_mel_mask=0, max_time_mask=0)
    draws = [front_end.draw(1, seeded(seed)) for seed in range(300)]
    low, high = ([draw[edge] for draw in draws] for edge in (0, 1))
    assert (min(low), max(low)) == (0, 9)
    assert 14001 <= min(high) < 14050
    assert 15950 < max(high) <= 16000
    none = PaSSTMel(low_frequency_jitter_hz=0, high_frequency_jitter_hz=0)
    assert {none.draw(1, seeded(seed))[:2] for seed in range(20)} == {(0.0, 15000.0)}
    with pytest.raises(ValueError, match="high_frequency_jitter_hz=-1"):
        PaSSTMel(high_frequency_jitter_hz=-1)
    with pytest.raises(ValueError, match=r"^low_frequency_jitter_hz=-1"):
        PaSSTMel(low_frequency_jitter_hz=-1)


def test_front_end_of_a_checkpoint():
    """The settings that a model cannot tell: hop, statistics, edges."""
    extractor = PaSSTFeatureExtractor(hop_length=160, num_mel_bins=64, high_frequency_hz=14000.0, mean=-5.0, std=3.0)
    front_end = PaSSTMel.from_extractor(extractor, max_time_mask=7).eval()
    waveform = waveforms(2, 32000)
    expected = extractor(waveform, RATE, return_tensors="pt")["input_values"]
    assert expected.shape == (2, 200, 64)
    torch.testing.assert_close(front_end(waveform), expected, atol=1e-6, rtol=0)  # only the order of the division
    assert front_end.max_time_mask == 7
    extractor.do_normalize = False
    plain = extractor(waveform, RATE, return_tensors="pt")["input_values"]
    assert torch.equal(PaSSTMel.from_extractor(extractor).eval()(waveform), plain)
    with pytest.raises(ValueError, match=r"Extractor without n_fft, .*the feature extractor that belongs to PaSSTMel"):
        PaSSTMel.from_extractor(HfASTFeatureExtractor())
