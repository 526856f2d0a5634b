"""Log-mel spectrogram of PaSST and its training augmentation, in torch only.

It computes the same numbers as `AugmentMelSTFT` of the official code (PaSST models/preprocess.py).
"""

import torch
from torch import Tensor

from .modules_centred_mel import CentredLogMel, CentredMel, MelDraws, min_samples
from .modules_mel_filters import check_waveform

LOG_OFFSET = 1e-5
# The official normalisation (x + 4.5) / 5, written as (x - mean) / (2 std)
MEAN, STD = -4.5, 2.5

__all__ = ["LOG_OFFSET", "MEAN", "STD", "MelDraws", "PaSSTLogMel", "PaSSTMel", "min_samples", "passt_log_mel"]


def passt_log_mel(
    waveform: Tensor,
    *,
    sampling_rate: int = 32000,
    num_mel_bins: int = 128,
    n_fft: int = 1024,
    window_length: int = 800,
    hop_length: int = 320,
    low_frequency_hz: float = 0.0,
    high_frequency_hz: float = 15000.0,
) -> Tensor:
    """Log-mel spectrogram of a batch of equally long waveforms, without normalisation.

    Pre-emphasis 0.97 over the whole waveform (which loses its first sample), frames centred on multiples of the hop
    length with the waveform reflected at its ends, symmetric Hann window, power spectrum, Kaldi's mel filters,
    log(x + 1e-5).

    Args:
        waveform: Samples in [-1, 1], shape (B, S), float32 or float64, on any device.
        sampling_rate: In Hz.
        num_mel_bins: M.
        n_fft: Size of the FFT, in samples.
        window_length, hop_length: In samples; the released models have hop lengths of 320, 160 and 100.
        low_frequency_hz, high_frequency_hz: Edges of the mel scale. 15000 Hz follows from the official settings for
            training and for embeddings (half the sampling rate less half of `fmax_aug_range=2000`).

    Returns:
        Log-mel energies, shape (B, T, M) with T = 1 + (S - 1) // hop_length.

    Raises:
        ValueError: The waveform is not a (B, S) float tensor, or too short to be reflected.
    """
    check_waveform(waveform)
    log_mel = PaSSTLogMel(
        sampling_rate=sampling_rate,
        num_mel_bins=num_mel_bins,
        n_fft=n_fft,
        window_length=window_length,
        hop_length=hop_length,
        low_frequency_hz=low_frequency_hz,
        high_frequency_hz=high_frequency_hz,
        device=waveform.device,
        dtype=waveform.dtype,
    )
    return log_mel(waveform)


class PaSSTLogMel(CentredLogMel):
    """`passt_log_mel` as a module, which keeps its window and filters; see `CentredLogMel`."""

    def __init__(
        self,
        *,
        sampling_rate: int = 32000,
        num_mel_bins: int = 128,
        n_fft: int = 1024,
        window_length: int = 800,
        hop_length: int = 320,
        low_frequency_hz: float = 0.0,
        high_frequency_hz: float = 15000.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__(
            sampling_rate=sampling_rate,
            num_mel_bins=num_mel_bins,
            n_fft=n_fft,
            window_length=window_length,
            hop_length=hop_length,
            low_frequency_hz=low_frequency_hz,
            high_frequency_hz=high_frequency_hz,
            device=device,
            dtype=dtype,
        )

    @staticmethod
    def logarithm(energies: Tensor) -> Tensor:
        """log(x + 1e-5)."""
        return energies.add_(LOG_OFFSET).log_()


class PaSSTMel(CentredMel):
    """Normalised log-mel spectrograms of PaSST, in training mode with the official augmentation; see `CentredMel`.

    Args:
        sampling_rate, num_mel_bins, n_fft, window_length, hop_length: See `CentredLogMel`.
        low_frequency_hz, high_frequency_hz: Edges of the mel scale without augmentation.
        mean, std: Spectrograms become (x - mean) / (2 std), by default (x + 4.5) / 5.
        low_frequency_jitter_hz, high_frequency_jitter_hz, max_mel_mask, max_time_mask: See `CentredMel`.
    """

    log_mel_class = PaSSTLogMel

    def __init__(
        self,
        *,
        sampling_rate: int = 32000,
        num_mel_bins: int = 128,
        n_fft: int = 1024,
        window_length: int = 800,
        hop_length: int = 320,
        low_frequency_hz: float = 0.0,
        high_frequency_hz: float = 15000.0,
        mean: float = MEAN,
        std: float = STD,
        low_frequency_jitter_hz: int = 10,
        high_frequency_jitter_hz: int = 2000,
        max_mel_mask: int = 48,
        max_time_mask: int = 192,
    ):
        super().__init__(
            sampling_rate=sampling_rate,
            num_mel_bins=num_mel_bins,
            n_fft=n_fft,
            window_length=window_length,
            hop_length=hop_length,
            low_frequency_hz=low_frequency_hz,
            high_frequency_hz=high_frequency_hz,
            mean=mean,
            std=std,
            low_frequency_jitter_hz=low_frequency_jitter_hz,
            high_frequency_jitter_hz=high_frequency_jitter_hz,
            max_mel_mask=max_mel_mask,
            max_time_mask=max_time_mask,
        )
