"""Log-mel spectrogram of MAEST, for whole batches, on any device, in torch only.

It computes the same numbers as the official feature extractor (palonso/MAEST, `MAESTFeatureExtractor`), which works in
double precision, clip by clip. (The official model has another front end for raw audio in its own code: it reflects
the waveform at its ends, where this one, with which the models on the Hub are used, sees zeros.)
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from .modules_mel_filters import MelFilterBank, check_waveform, map_segments

# Statistics of the training data, Discogs20
MEAN, STD = 2.06755686098554, 1.268292820667291
# log10(1 + 10000 x), log(x + epsilon), or no logarithm
LOG_COMPRESSIONS = ("logC", "log", None)
LOGC_FACTOR = 10000.0
LOG_OFFSET = 2.220446049250313e-16
# 2 MB per intermediate result; see `modules_fbank.FRAMES_PER_SEGMENT`
FRAMES_PER_SEGMENT = 1024
# Slaney's mel scale: linear below 1000 Hz, 15 mel, and then 27 steps for each factor of 6.4
HZ_PER_MEL = 200.0 / 3
LINEAR_HZ, LINEAR_MEL = 1000.0, 15.0
STEPS_PER_OCTAVE = 27.0 / math.log(6.4)


def maest_log_mel(
    waveform: Tensor,
    *,
    sampling_rate: int = 16000,
    num_mel_bins: int = 96,
    n_fft: int = 512,
    hop_length: int = 256,
    log_compression: str | None = "logC",
) -> Tensor:
    """Log-mel spectrogram of a batch of equally long waveforms, without normalisation.

    Frames centred on multiples of the hop length, with zeros before and behind the waveform; periodic Hann window,
    power spectrum, filters of equal area on Slaney's mel scale from 0 Hz to half the sampling rate, logarithm. Each
    call computes the window and the filters; `MAESTLogMel` keeps them.

    Args:
        waveform: Samples in [-1, 1], shape (B, S), float32 or float64, on any device; at least one sample.
        sampling_rate: In Hz.
        num_mel_bins: M.
        n_fft: Size of the FFT and of the window, in samples.
        hop_length: In samples.
        log_compression: "logC" for log10(1 + 10000 x), as in the released models; "log" for log(x + 2.2e-16); None.

    Returns:
        Log-mel energies, shape (B, T, M) with T = 1 + S // hop_length.

    Raises:
        ValueError: The waveform is not a (B, S) float tensor or is empty, or a setting is wrong.
    """
    check_waveform(waveform)
    log_mel = MAESTLogMel(
        sampling_rate=sampling_rate,
        num_mel_bins=num_mel_bins,
        n_fft=n_fft,
        hop_length=hop_length,
        log_compression=log_compression,
        device=waveform.device,
        dtype=waveform.dtype,
    )
    return log_mel(waveform)


class MAESTLogMel(nn.Module):
    """`maest_log_mel` as a module, which keeps its window and filters; for use in front of a model, and for export.

    Move it to the device of the waveforms; where device or dtype differ, each call recomputes window and filters.

    Args:
        sampling_rate, num_mel_bins, n_fft, hop_length, log_compression: See `maest_log_mel`.
        device, dtype: Those of the window and the filters, and of the waveforms; the dtype is float32 or float64.
    """

    def __init__(
        self,
        *,
        sampling_rate: int = 16000,
        num_mel_bins: int = 96,
        n_fft: int = 512,
        hop_length: int = 256,
        log_compression: str | None = "logC",
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        if hop_length < 1:
            raise ValueError(f"hop_length={hop_length} samples must be at least 1; the default is 256.")
        if log_compression not in LOG_COMPRESSIONS:
            raise ValueError(f"log_compression={log_compression!r} is unknown; choose one of {LOG_COMPRESSIONS}.")
        self.hop_length = hop_length
        self.log_compression = log_compression
        self.filter_bank = SlaneyFilterBank(
            sampling_rate=sampling_rate,
            num_mel_bins=num_mel_bins,
            n_fft=n_fft,
            window_length=n_fft,
            low_frequency_hz=0.0,
            device=device,
            dtype=dtype,
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveforms (B, S) in [-1, 1] -> log-mel spectrograms (B, T, M), not normalised."""
        check_waveform(waveform)
        if waveform.shape[1] < 1:
            raise ValueError("waveform has no sample; pass at least one.")
        filter_bank = self.filter_bank.matching(waveform)
        n_fft = filter_bank.n_fft

        def log_mel(segment: Tensor) -> Tensor:
            energies = filter_bank(segment.unfold(1, n_fft, self.hop_length) * filter_bank.window)
            if self.log_compression == "logC":
                return energies.mul_(LOGC_FACTOR).add_(1.0).log10_()
            return energies.add_(LOG_OFFSET).log_() if self.log_compression == "log" else energies

        return map_segments(
            log_mel,
            nn.functional.pad(waveform, (n_fft // 2, n_fft // 2)),
            frame_length=n_fft,
            frame_shift=self.hop_length,
            frames_per_segment=FRAMES_PER_SEGMENT,
        )


class SlaneyFilterBank(MelFilterBank):
    """Slaney's mel filters and a periodic Hann window; see `MelFilterBank`."""

    periodic_window: ClassVar[bool] = True

    def _filters(self) -> Tensor:
        return slaney_mel_filters(self.num_mel_bins, self.n_fft, self.sampling_rate)

    @property
    def centres_hz(self) -> Tensor:
        """Centre frequency of each filter in Hz, float64 on the CPU, shape (M,)."""
        return _edges_hz(self.num_mel_bins, self.sampling_rate)[1:-1]


def slaney_mel_filters(num_mel_bins: int, n_fft: int, sampling_rate: int) -> Tensor:
    """Triangular filters of equal area, linear in Hz between edges that are equidistant on Slaney's mel scale.

    Args:
        num_mel_bins: Number of filters, M.
        n_fft: Size of the FFT, in samples.
        sampling_rate: In Hz.

    Returns:
        Filters from 0 Hz to half the sampling rate, shape (M, n_fft // 2 + 1), float32.
    """
    edges = _edges_hz(num_mel_bins, sampling_rate).unsqueeze(1)
    frequencies = torch.linspace(0, sampling_rate // 2, n_fft // 2 + 1, dtype=torch.float64, device="cpu")
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    area = 2.0 / (edges[2:] - edges[:-2])
    return (torch.minimum(rising, falling).clamp_min(0.0) * area).float()


def _edges_hz(num_mel_bins: int, sampling_rate: int) -> Tensor:
    """Edges of the filters in Hz, float64, shape (M + 2,)."""
    highest = sampling_rate / 2
    top = highest / HZ_PER_MEL
    if highest >= LINEAR_HZ:
        top = LINEAR_MEL + STEPS_PER_OCTAVE * math.log(highest / LINEAR_HZ)
    mel = torch.linspace(0, top, num_mel_bins + 2, dtype=torch.float64, device="cpu")
    logarithmic = LINEAR_HZ * torch.exp((mel - LINEAR_MEL) / STEPS_PER_OCTAVE)
    return torch.where(mel >= LINEAR_MEL, logarithmic, HZ_PER_MEL * mel)
