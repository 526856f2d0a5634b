import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from hf_ast.models.modules_fbank import FRAMES_PER_SEGMENT, KaldiFbank, frame_geometry, kaldi_fbank, num_frames
from hf_ast.models.modules_mel_filters import MelFilterBank, kaldi_mel_filters
from hf_ast.models.modules_passt_mel import PaSSTMel, passt_log_mel

FRONT_ENDS = {"kaldi": KaldiFbank, "passt": lambda: PaSSTMel().eval()}


def waveforms(batch_size: int, num_samples: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return 0.1 * torch.randn(batch_size, num_samples, generator=torch.Generator().manual_seed(0)).to(dtype)


def reference_frame(samples: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    """One frame by the definition: a plain DFT in float64, sample by sample."""
    samples = samples.double() - samples.double().mean()
    emphasised = samples.clone()
    for i in range(len(samples)):
        emphasised[i] = samples[i] - 0.97 * samples[max(i - 1, 0)]
    n = torch.arange(400, dtype=torch.float64)
    windowed = emphasised * (0.5 - 0.5 * torch.cos(2 * math.pi * n / 399))
    k = torch.arange(257, dtype=torch.float64)[:, None]
    angle = 2 * math.pi * k * n / 512
    power = (windowed * torch.cos(angle)).sum(1) ** 2 + (windowed * torch.sin(angle)).sum(1) ** 2
    return (filters.double() @ power).clamp_min(1.1920928955078125e-07).log()


def test_frames_match_the_definition() -> None:
    wave = waveforms(1, 16000)
    features = kaldi_fbank(wave)[0]
    filters = kaldi_mel_filters(128, 512, 16000)
    for frame in (0, 1, 50, 97):
        expected = reference_frame(wave[0, frame * 160 : frame * 160 + 400], filters)
        # float32 noise of the FFT, seen through a logarithm of small energies
        torch.testing.assert_close(features[frame].double(), expected, atol=2e-4, rtol=0)


def test_float64_matches_the_definition_to_its_precision() -> None:
    wave = waveforms(1, 720, torch.float64)
    filters = kaldi_mel_filters(40, 512, 16000)
    expected = torch.stack([reference_frame(wave[0, start : start + 400], filters) for start in (0, 160, 320)])
    torch.testing.assert_close(kaldi_fbank(wave, num_mel_bins=40)[0], expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("frames", [1, FRAMES_PER_SEGMENT - 1, FRAMES_PER_SEGMENT, FRAMES_PER_SEGMENT + 1])
def test_a_batch_equals_its_clips(frames: int) -> None:
    wave = waveforms(3, 400 + 160 * (frames - 1))
    batch = KaldiFbank()(wave)
    assert batch.shape == (3, frames, 128)
    for clip, features in zip(wave, batch, strict=True):
        torch.testing.assert_close(features, kaldi_fbank(clip[None])[0], atol=0, rtol=0)


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (160000, 998)])
def test_num_frames(samples: int, frames: int) -> None:
    assert num_frames(samples) == frames
    if frames:
        assert kaldi_fbank(torch.zeros(1, samples)).shape[1] == frames


def test_gradients_reach_the_waveform() -> None:
    wave = waveforms(2, 560, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(KaldiFbank(num_mel_bins=20, dtype=torch.float64), wave, fast_mode=True)


def test_filters_are_flat_between_the_edges() -> None:
    filters = kaldi_mel_filters(20, 512, 16000)
    frequencies = torch.arange(257) * 16000 / 512
    inside = (frequencies > 200) & (frequencies < 7000)
    torch.testing.assert_close(filters.sum(0)[inside], torch.ones(int(inside.sum())), atol=1e-6, rtol=0)
    assert filters[:, -1].abs().max() == 0


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (torch.zeros(400), "shape"),
        (torch.zeros(1, 400, dtype=torch.int16), "32768"),
        (torch.zeros(1, 400, dtype=torch.float16), "float"),
        (torch.zeros(1, 399), "399 samples"),
    ],
)
def test_bad_waveforms(wave: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kaldi_fbank(wave)


def test_bad_filter_edges() -> None:
    with pytest.raises(ValueError, match="high_frequency_hz=9000"):
        kaldi_mel_filters(128, 512, 16000, high_frequency_hz=9000)


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="num_mel_bins=0 must be at least 1"):
        KaldiFbank(num_mel_bins=0)
    with pytest.raises(ValueError, match="sampling_rate=16 Hz"):
        KaldiFbank(sampling_rate=16)


def test_frames_at_other_rates() -> None:
    assert frame_geometry(16000) == (400, 160, 512)
    assert frame_geometry(44100) == (1102, 441, 2048)
    assert frame_geometry(10240) == (256, 102, 256)  # a power of two stays
    assert frame_geometry(100) == (2, 1, 2)
    with pytest.raises(ValueError, match="sampling_rate=99 Hz leaves no sample between two frames"):
        frame_geometry(99)
    assert num_frames(8000, 8000) == 98
    assert kaldi_fbank(waveforms(1, 8000), sampling_rate=8000, num_mel_bins=23).shape == (1, 98, 23)


def test_silence_is_the_floor() -> None:
    """Kaldi's floor is the float32 epsilon, in double precision too."""
    for dtype in (torch.float32, torch.float64):
        assert kaldi_fbank(torch.zeros(1, 400, dtype=dtype)).unique().tolist() == [
            pytest.approx(math.log(2.0**-23), rel=1e-6)
        ]


@pytest.mark.parametrize(("low", "high"), [(20.0, None), (0.0, 8000.0), (300.0, 3400.0)])
def test_filters_are_triangles_on_the_mel_scale(low: float, high: float | None) -> None:
    """By the formula in float64; their peaks are the centres."""
    mel = 1127 * np.log1p(np.arange(256) * 16000 / 512 / 700)
    edges = np.linspace(1127 * np.log1p(low / 700), 1127 * np.log1p((high or 8000) / 700), 42)
    expected = np.stack([np.interp(mel, edges[i : i + 3], [0, 1, 0]) for i in range(40)])
    filters = kaldi_mel_filters(40, 512, 16000, low_frequency_hz=low, high_frequency_hz=high)
    assert filters.shape == (40, 257)
    assert filters.dtype == torch.float32
    np.testing.assert_allclose(filters[:, :256], expected, atol=1e-6)
    arguments = {"sampling_rate": 16000, "num_mel_bins": 40, "n_fft": 512, "window_length": 400}
    bank = MelFilterBank(low_frequency_hz=low, high_frequency_hz=high, **arguments)
    np.testing.assert_allclose(bank.centres_hz, 700 * np.expm1(edges[1:-1] / 1127), rtol=1e-12)


def test_a_filter_bank_sums_power_under_its_filters() -> None:
    bank = MelFilterBank(sampling_rate=16000, num_mel_bins=70, n_fft=512, window_length=400)
    frames = waveforms(3, 512)
    expected = torch.fft.rfft(frames.double()).abs().square() @ kaldi_mel_filters(70, 512, 16000).double().T
    torch.testing.assert_close(bank(frames).double(), expected, rtol=1e-4, atol=1e-6)
    assert bank(frames[None]).shape == (1, 3, 70)
    n = torch.arange(400)
    torch.testing.assert_close(bank.window[:400], 0.5 - 0.5 * torch.cos(2 * math.pi * n / 399), atol=1e-6, rtol=0)
    assert bank.window.shape == (512,)
    assert (bank.window[400:] == 0).all()
    assert bank.matching(frames) is bank
    double = bank.matching(frames.double())
    assert (double.window.dtype, double.edges_hz, double.num_mel_bins) == (torch.float64, bank.edges_hz, 70)


def test_a_moved_filter_bank_has_the_constants_of_its_waveforms() -> None:
    """It would give the same numbers without, but compute them in every call."""
    arguments = {"sampling_rate": 16000, "num_mel_bins": 40, "n_fft": 512, "window_length": 400}
    bank = MelFilterBank(**arguments)
    assert bank.half().window.dtype == torch.float32
    double = bank.double()
    assert double.window.dtype == double.get_buffer("filters_0").dtype == torch.float64
    assert double.matching(torch.zeros(1, 512, dtype=torch.float64)) is double
    with torch.device("meta"):
        empty = MelFilterBank(**arguments)
    assert empty.window.device.type == "meta"
    moved = empty.to_empty(device="cpu")
    assert moved.window.device.type == "cpu"
    assert torch.equal(moved.window, MelFilterBank(**arguments).window)


def test_filters_begin_at_20_hz() -> None:
    explicit = kaldi_mel_filters(40, 512, 16000, low_frequency_hz=20.0)
    assert torch.equal(kaldi_mel_filters(40, 512, 16000), explicit)
    bank = MelFilterBank(sampling_rate=16000, num_mel_bins=40, n_fft=512, window_length=400)
    assert bank.edges_hz == (20.0, None)


def test_filters_narrower_than_a_bin_give_nothing() -> None:
    """128 filters on 64 frequencies: some hold none, and their energy is 0, not NaN."""
    bank = MelFilterBank(sampling_rate=16000, num_mel_bins=128, n_fft=128, window_length=128)
    energies = bank(waveforms(2, 128))
    empty = ~kaldi_mel_filters(128, 128, 16000).any(1)
    assert empty.any()
    assert (energies[:, empty] == 0).all()
    assert (energies[:, ~empty] > 0).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window_length": 0}, "window_length=0 must be between 1 and n_fft=512"),
        ({"window_length": 513}, "window_length=513 must be between 1 and n_fft=512"),
        ({"low_frequency_hz": -1.0}, "low_frequency_hz=-1.0"),
        ({"low_frequency_hz": 7999.5}, "low_frequency_hz=7999.5 and high_frequency_hz=8000.0"),
        ({"low_frequency_hz": 300.0, "high_frequency_hz": 300.5}, "1 Hz or more apart"),
        ({"high_frequency_hz": 8000.5}, "high_frequency_hz=8000.5"),
    ],
)
def test_bad_filter_banks(changes: dict[str, float], message: str) -> None:
    arguments = {"sampling_rate": 16000, "num_mel_bins": 8, "n_fft": 512, "window_length": 400}
    with pytest.raises(ValueError, match=message):
        MelFilterBank(**arguments | changes)


def test_filter_banks_at_the_bounds() -> None:
    arguments = {"sampling_rate": 16000, "num_mel_bins": 1, "n_fft": 512}
    for changes in ({"window_length": 512}, {"window_length": 1}, {"window_length": 2, "low_frequency_hz": 7999.0}):
        assert MelFilterBank(**arguments | changes)(torch.ones(1, 512)).isfinite().all()


# Constants


@pytest.mark.parametrize("make", FRONT_ENDS.values(), ids=FRONT_ENDS)
def test_gradients_after_a_call_in_inference_mode(make: Callable[[], nn.Module]) -> None:
    wave = waveforms(1, 2000)
    with torch.inference_mode():
        front_end = make()
        front_end(wave)
        front_end.to(torch.float64).to(torch.float32)
        kaldi_fbank(wave)
        passt_log_mel(wave)
    for function in (front_end, kaldi_fbank, passt_log_mel):
        leaf = wave.clone().requires_grad_()
        function(leaf).sum().backward()
        assert leaf.grad.abs().min() > 0


@pytest.mark.parametrize("make", FRONT_ENDS.values(), ids=FRONT_ENDS)
def test_constants_are_exact_after_every_kind_of_move(make: Callable[[], nn.Module]) -> None:
    wave = waveforms(2, 5000)
    expected, expected_double = make()(wave), make().double()(wave.double())
    assert make().state_dict() == {}
    with torch.device("meta"):
        empty = make()
    moved = {
        "half": make().half(),
        "half and back": make().bfloat16().float(),
        "double and back": make().double().float(),
        "from empty": empty.to_empty(device="cpu"),
        "deepcopy": copy.deepcopy(make()),
        "pickle": pickle.loads(pickle.dumps(make())),
    }
    for how, front_end in moved.items():
        assert torch.equal(front_end(wave), expected), how
        assert torch.equal(front_end(wave.double()), expected_double), how
    # the float32 ones differ from it by more than rounding of the result
    assert (make()(wave.double()) - expected).abs().max() > 0


class FromWaveform(PreTrainedModel):
    """A model of a user, with a front end inside."""

    config_class = PreTrainedConfig

    def __init__(self, config: PreTrainedConfig):
        super().__init__(config)
        self.front_end = KaldiFbank()
        self.passt_front_end = PaSSTMel().eval()
        self.head = nn.Linear(128, 2)
        self.post_init()


def test_front_ends_inside_a_loaded_model(tmp_path: Path) -> None:
    """`from_pretrained` builds on the meta device and leaves buffers that are not saved uninitialised."""
    model = FromWaveform(PreTrainedConfig())
    model.save_pretrained(tmp_path)
    wave = waveforms(1, 5000)
    for dtype in (torch.float32, torch.bfloat16):
        loaded = FromWaveform.from_pretrained(tmp_path, dtype=dtype)
        assert loaded.head.weight.dtype == dtype
        assert torch.equal(loaded.front_end(wave), model.front_end(wave))
        assert torch.equal(loaded.passt_front_end(wave), model.passt_front_end(wave))
