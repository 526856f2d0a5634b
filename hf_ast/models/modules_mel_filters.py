"""Kaldi's mel filters, and other parts that the front ends of all families share, in torch only."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

PREEMPHASIS = 0.97
# Least distance between the edges of the mel scale: filters of no width would be NaN
SMALLEST_BAND_HZ = 1.0
LOW_FREQUENCY_HZ = 20.0
# Neighbouring filters that are multiplied together
FILTERS_PER_GROUP = 32


class MelFilterBank(nn.Module):
    """Mel filters and a Hann window: power spectra of windowed frames, summed under the filters.

    The constants are non-persistent buffers. They are recomputed wherever they would be converted or replaced, so that
    `.half()` does not round them, and a loader that starts from empty tensors (transformers' `from_pretrained`) does
    not leave them empty. The filters are multiplied in groups, without most of their zeros, which takes half the time
    of one dense product. The window is zero-padded at its end, up to the size of the FFT.

    Args:
        sampling_rate: In Hz.
        num_mel_bins: Number of filters, M.
        n_fft: Size of the FFT, in samples.
        window_length: In samples; at most `n_fft`.
        low_frequency_hz, high_frequency_hz: See `kaldi_mel_filters`.
        device: Device of the constants; torch's default if None.
        dtype: float32 or float64.
    """

    window: Tensor
    periodic_window: ClassVar[bool] = False

    def __init__(
        self,
        *,
        sampling_rate: int,
        num_mel_bins: int,
        n_fft: int,
        window_length: int,
        low_frequency_hz: float = LOW_FREQUENCY_HZ,
        high_frequency_hz: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        if not 1 <= window_length <= n_fft:
            raise ValueError(f"window_length={window_length} must be between 1 and n_fft={n_fft} samples.")
        self.sampling_rate = sampling_rate
        self.num_mel_bins = num_mel_bins
        self.n_fft = n_fft
        self.window_length = window_length
        self.edges_hz = (low_frequency_hz, high_frequency_hz)
        self._build(device, dtype)

    # The backward pass of a later call needs the constants, and autograd cannot save inference tensors for it
    @torch.inference_mode(False)
    def _build(self, device: torch.device | str | None, dtype: torch.dtype) -> None:
        window = torch.hann_window(self.window_length, periodic=self.periodic_window, dtype=dtype, device=device)
        window = nn.functional.pad(window, (0, self.n_fft - self.window_length))
        self.register_buffer("window", window, persistent=False)
        with torch.device("cpu"):  # even where a model is built on the meta device: the values are needed here
            filters = self._filters()
        self.reaches = []
        for index, group in enumerate(torch.split(filters, FILTERS_PER_GROUP)):
            used = group.any(dim=0).nonzero().flatten().tolist() or [0]
            reach = slice(used[0], used[-1] + 1)
            self.reaches.append(reach)
            group = group[:, reach].to(device=window.device, dtype=dtype)
            self.register_buffer(f"filters_{index}", group.T.contiguous(), persistent=False)

    def _filters(self) -> Tensor:
        """Return the filters, shape (M, n_fft // 2 + 1), float32."""
        low, high = self.edges_hz
        return kaldi_mel_filters(
            self.num_mel_bins, self.n_fft, self.sampling_rate, low_frequency_hz=low, high_frequency_hz=high
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._build(self.window.device, _precise(self.window.dtype))
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in self._buffers:
            self._build(value.device, _precise(value.dtype))

    def matching(self, waveform: Tensor) -> Self:
        """Return this filter bank, or a new one where the waveform has another device or dtype."""
        if (waveform.device, waveform.dtype) == (self.window.device, self.window.dtype):
            return self
        low, high = self.edges_hz
        return type(self)(
            sampling_rate=self.sampling_rate,
            num_mel_bins=self.num_mel_bins,
            n_fft=self.n_fft,
            window_length=self.window_length,
            low_frequency_hz=low,
            high_frequency_hz=high,
            device=waveform.device,
            dtype=waveform.dtype,
        )

    @property
    def centres_hz(self) -> Tensor:
        """Centre frequency of each filter in Hz, float64 on the CPU, shape (M,)."""
        low_hz, high_hz = self.edges_hz
        low, high = hz_to_mel(low_hz), hz_to_mel(self.sampling_rate / 2 if high_hz is None else high_hz)
        step = (high - low) / (self.num_mel_bins + 1)
        mel = low + step * torch.arange(1, self.num_mel_bins + 1, dtype=torch.float64, device="cpu")
        return 700.0 * torch.expm1(mel / 1127.0)

    def forward(self, frames: Tensor) -> Tensor:
        """Windowed frames (..., n_fft) -> energies of their spectra under the filters (..., M)."""
        # On a CPU, `abs()` would take five times as long, and squaring the two parts separately twice as long
        squares = torch.view_as_real(torch.fft.rfft(frames)).square_()
        power = squares[..., 0] + squares[..., 1]
        # Autocast would round the energies to half precision
        with torch.autocast(frames.device.type, enabled=False):
            groups = [self.get_buffer(f"filters_{index}") for index in range(len(self.reaches))]
            # As one matrix, because torch.export refuses products of slices for a single clip or frame
            rows = power.flatten(end_dim=-2)
            energies = [rows[:, reach] @ group for reach, group in zip(self.reaches, groups, strict=True)]
            return torch.cat(energies, dim=-1).view(*frames.shape[:-1], self.num_mel_bins)


def _precise(dtype: torch.dtype) -> torch.dtype:
    """The dtype for constants in a module of that dtype."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def kaldi_mel_filters(
    num_mel_bins: int,
    n_fft: int,
    sampling_rate: int,
    *,
    low_frequency_hz: float = LOW_FREQUENCY_HZ,
    high_frequency_hz: float | None = None,
) -> Tensor:
    """Triangular filters, linear on the mel scale 1127 ln(1 + f / 700), without area normalisation.

    Args:
        num_mel_bins: Number of filters, M.
        n_fft: Size of the FFT, in samples.
        sampling_rate: In Hz.
        low_frequency_hz: Lower edge of the first filter.
        high_frequency_hz: Upper edge of the last filter; half the sampling rate if None.

    Returns:
        Filters, shape (M, n_fft // 2 + 1), float32. The last column (Nyquist) is zero, as in Kaldi.

    Raises:
        ValueError: There is no filter, or the edges are not in ascending order between 0 and half the sampling rate,
            at least `SMALLEST_BAND_HZ` apart.
    """
    if num_mel_bins < 1:
        raise ValueError(f"num_mel_bins={num_mel_bins} must be at least 1; the released models have 128.")
    high_frequency_hz = sampling_rate / 2 if high_frequency_hz is None else high_frequency_hz
    if not 0 <= low_frequency_hz <= high_frequency_hz - SMALLEST_BAND_HZ <= sampling_rate / 2 - SMALLEST_BAND_HZ:
        raise ValueError(
            f"low_frequency_hz={low_frequency_hz} and high_frequency_hz={high_frequency_hz} must be in ascending "
            f"order, {SMALLEST_BAND_HZ:g} Hz or more apart, between 0 and {sampling_rate / 2} (half of "
            f"sampling_rate={sampling_rate})."
        )
    low, high = hz_to_mel(low_frequency_hz), hz_to_mel(high_frequency_hz)
    step = (high - low) / (num_mel_bins + 1)
    left = low + step * torch.arange(num_mel_bins, dtype=torch.float64).unsqueeze(1)
    frequencies = sampling_rate / n_fft * torch.arange(n_fft // 2, dtype=torch.float64)
    mel = 1127.0 * torch.log(1.0 + frequencies / 700.0)
    rising, falling = (mel - left) / step, (left + 2 * step - mel) / step
    filters = torch.minimum(rising, falling).clamp_min(0.0)
    return nn.functional.pad(filters, (0, 1)).float()


def hz_to_mel(frequency_hz: float) -> float:
    """Frequency in Hz -> position on Kaldi's mel scale."""
    return 1127.0 * math.log(1.0 + frequency_hz / 700.0)


def check_waveform(waveform: Tensor) -> None:
    """Raise an error if it is not a float tensor of shape (B, S)."""
    if waveform.ndim != 2 or waveform.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"waveform must be a float32 or float64 tensor of shape (B, S), got {waveform.dtype} of shape "
            f"{tuple(waveform.shape)}; convert integers with `waveform / 32768`, half precision with `.float()`."
        )


def map_segments(
    function: Callable[[Tensor], Tensor],
    waveform: Tensor,
    *,
    frame_length: int,
    frame_shift: int,
    frames_per_segment: int,
) -> Tensor:
    """Apply a function from waveforms (B, S) to spectrograms (B, T, M); on a CPU, to segments that fit its cache.

    A compiled, exported or traced graph has one segment, because it would fix the number of segments of its example.
    """
    tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if waveform.device.type != "cpu" or tracing:
        return function(waveform)
    num_frames = (waveform.shape[1] - frame_length) // frame_shift + 1
    step, overlap = frames_per_segment * frame_shift, frame_length - frame_shift
    starts = range(0, num_frames * frame_shift, step)
    segments = (clips[:, start : start + step + overlap] for clips in waveform[:, None] for start in starts)
    results = [function(segment) for segment in segments]
    whole = results[0] if len(results) == 1 else torch.cat(results, dim=1)
    return whole.view(len(waveform), num_frames, -1)
