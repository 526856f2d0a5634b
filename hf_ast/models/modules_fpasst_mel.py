"""Log-mel spectrogram of fPaSST and its training augmentation, in torch only.

It computes the same numbers as `AugmentMelSTFT` of the official code (PretrainedSED
models/frame_passt/preprocess.py), which differs from PaSST's in the window, the logarithm and the band.
"""

import torch
from torch import Tensor

from .modules_centred_mel import CentredLogMel, CentredMel, MelDraws, min_samples
from .modules_mel_filters import MelFilterBank

LOG_FLOOR = 1e-7
# The official normalisation (x + 4.5) / 5, written as (x - mean) / (2 std)
MEAN, STD = -4.5, 2.5

__all__ = ["LOG_FLOOR", "MEAN", "STD", "FPaSSTLogMel", "FPaSSTMel", "MelDraws", "min_samples"]


class PeriodicFilterBank(MelFilterBank):
    """Kaldi's mel filters with a periodic Hann window."""

    periodic_window = True


class FPaSSTLogMel(CentredLogMel):
    """Log-mel spectrogram with a periodic Hann window and log(max(x, 1e-7)); see `CentredLogMel`."""

    filter_bank_class = PeriodicFilterBank

    def __init__(
        self,
        *,
        sampling_rate: int = 16000,
        num_mel_bins: int = 128,
        n_fft: int = 512,
        window_length: int = 400,
        hop_length: int = 160,
        low_frequency_hz: float = 0.0,
        high_frequency_hz: float = 7000.0,
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
        """log(max(x, 1e-7))."""
        return energies.clamp_(min=LOG_FLOOR).log_()


class FPaSSTMel(CentredMel):
    """Normalised log-mel spectrograms of FPaSST, in training mode with the official augmentation; see `CentredMel`.

    Args:
        sampling_rate, num_mel_bins, n_fft, window_length, hop_length: See `CentredLogMel`.
        low_frequency_hz, high_frequency_hz: Edges of the mel scale without augmentation. 7000 Hz
            is half the sampling rate less half of the official `fmax_aug_range=2000`.
        mean, std: Spectrograms become (x - mean) / (2 std), by default (x + 4.5) / 5.
        low_frequency_jitter_hz, high_frequency_jitter_hz, max_mel_mask, max_time_mask: See `CentredMel`.
    """

    log_mel_class = FPaSSTLogMel

    def __init__(
        self,
        *,
        sampling_rate: int = 16000,
        num_mel_bins: int = 128,
        n_fft: int = 512,
        window_length: int = 400,
        hop_length: int = 160,
        low_frequency_hz: float = 0.0,
        high_frequency_hz: float = 7000.0,
        mean: float = MEAN,
        std: float = STD,
        low_frequency_jitter_hz: int = 10,
        high_frequency_jitter_hz: int = 2000,
        max_mel_mask: int = 0,
        max_time_mask: int = 0,
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
