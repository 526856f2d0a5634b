"""Log-mel spectrogram of PaSST and its training augmentation, for whole batches, on any device, in torch only.

Same numbers as `AugmentMelSTFT` of the official code (PaSST models/preprocess.py).
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .modules_fbank import (
    PREEMPHASIS,
    FilterGroups,
    check_waveform,
    group_filters,
    kaldi_mel_filters,
    map_frames,
    mel_energies,
)
from .modules_spec_augment import spec_augment

LOG_OFFSET = 1e-5
# The official normalisation (x + 4.5) / 5, written as (x - mean) / (2 std)
MEAN, STD = -4.5, 2.5
# 512 kB per intermediate result; see `modules_fbank`
FRAMES_PER_CHUNK = 128


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
    with the waveform reflected at its ends, symmetric Hann window, power spectrum, Kaldi's mel filters, log(x + 1e-5).

    Args:
        waveform: Samples in [-1, 1], shape (B, S), float32 or float64, on any device.
        sampling_rate: In Hz.
        num_mel_bins: M.
        n_fft: Size of the FFT, in samples.
        window_length, hop_length: In samples; the released models have hops of 320, 160 and 100.
        low_frequency_hz, high_frequency_hz: Edges of the mel scale. 15000 Hz is what the official code makes of its
            settings for training and for embeddings (half the sampling rate less half of `fmax_aug_range=2000`).

    Returns:
        Log-mel energies, shape (B, T, M) with T = 1 + (S - 1) // hop_length.

    Raises:
        ValueError: The waveform is not a (B, S) float tensor, or too short to be reflected.
    """
    check_waveform(waveform)
    if waveform.shape[1] < min_samples(n_fft):
        raise ValueError(
            f"waveform has {waveform.shape[1]} samples, less than the {min_samples(n_fft)} that an FFT of {n_fft} "
            "needs; pad it to that length."
        )
    window, filters = _constants(
        num_mel_bins,
        sampling_rate,
        n_fft,
        window_length,
        low_frequency_hz,
        high_frequency_hz,
        waveform.device,
        waveform.dtype,
    )
    emphasised = torch.sub(waveform[:, 1:], waveform[:, :-1], alpha=PREEMPHASIS)
    # Only what lies under the window, which is in the middle of the FFT's frame; the phase does not matter
    left = n_fft // 2 - (n_fft - window_length) // 2
    padded = nn.functional.pad(emphasised, (left, window_length - left), mode="reflect")
    frames = padded.unfold(1, window_length, hop_length)
    return map_frames(
        lambda chunk: mel_energies(chunk * window, filters, n_fft).add_(LOG_OFFSET).log_(), frames, FRAMES_PER_CHUNK
    )


def min_samples(n_fft: int) -> int:
    """The shortest waveform, in samples: one is lost, and half an FFT is reflected around the edge sample."""
    return n_fft // 2 + 2


@lru_cache(maxsize=16)
def _constants(
    num_mel_bins: int,
    sampling_rate: int,
    n_fft: int,
    window_length: int,
    low_frequency_hz: float,
    high_frequency_hz: float,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Tensor, FilterGroups]:
    """Window (window_length,) and filters, built once per setting."""
    window = torch.hann_window(window_length, periodic=False, dtype=dtype, device=device)
    filters = kaldi_mel_filters(
        num_mel_bins,
        n_fft,
        sampling_rate,
        low_frequency_hz=low_frequency_hz,
        high_frequency_hz=high_frequency_hz,
    )
    return window, group_filters(filters.to(device=device, dtype=dtype))


class MelDraws(NamedTuple):
    """Random draws of one training step.

    Both edges of the mel scale, in Hz, for the whole batch; and numbers in [0, 1) for `spec_augment`, shape (B, 4).
    """

    low_frequency_hz: float
    high_frequency_hz: float
    masks: Tensor


class PaSSTMel(nn.Module):
    """Normalised log-mel spectrograms, in training mode with the official augmentation; for use in front of a model.

    Args:
        sampling_rate, num_mel_bins, n_fft, window_length, hop_length: See `passt_log_mel`.
        low_frequency_hz, high_frequency_hz: Edges of the mel scale without augmentation.
        low_frequency_jitter, high_frequency_jitter: Ranges in Hz of the edges of the mel scale: the lower one is drawn
            from [low, low + jitter), the upper one from (high - jitter / 2, high + jitter / 2]. 1 means none.
        max_mel_mask, max_time_mask: Bounds of the widths of the masked bands, in mel bins and frames. 0 means none.
    """

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
        low_frequency_jitter: int = 10,
        high_frequency_jitter: int = 2000,
        max_mel_mask: int = 48,
        max_time_mask: int = 192,
    ):
        super().__init__()
        for name, value in (
            ("low_frequency_jitter", low_frequency_jitter),
            ("high_frequency_jitter", high_frequency_jitter),
        ):
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1, which means none.")
        self.edges_hz = (low_frequency_hz, high_frequency_hz)
        self.jitter = (low_frequency_jitter, high_frequency_jitter)
        self.max_mel_mask = max_mel_mask
        self.max_time_mask = max_time_mask
        self.settings = {
            "sampling_rate": sampling_rate,
            "num_mel_bins": num_mel_bins,
            "n_fft": n_fft,
            "window_length": window_length,
            "hop_length": hop_length,
        }

    def draw(self, batch_size: int, generator: torch.Generator | None = None) -> MelDraws:
        """Draw the augmentation of one step; the edges are the same for the batch, the masks are not."""
        device = "cpu" if generator is None else generator.device
        low, high = (int(torch.randint(jitter, (1,), generator=generator, device=device)) for jitter in self.jitter)
        masks = torch.rand(batch_size, 4, generator=generator, device=device)
        return MelDraws(self.edges_hz[0] + low, self.edges_hz[1] + self.jitter[1] // 2 - high, masks)

    def forward(
        self, waveform: Tensor, *, draws: MelDraws | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Waveforms -> normalised log-mel spectrograms.

        Args:
            waveform: Samples in [-1, 1], shape (B, S).
            draws: The augmentation to apply; drawn in training mode, none in eval mode.
            generator: Source of the draws; the global one if None.

        Returns:
            Spectrograms, shape (B, T, M).
        """
        if draws is None and self.training:
            draws = self.draw(len(waveform), generator)
        low, high = self.edges_hz if draws is None else draws[:2]
        features = passt_log_mel(waveform, low_frequency_hz=low, high_frequency_hz=high, **self.settings)
        if draws is not None:
            features = spec_augment(
                features,
                max_mel_bins=self.max_mel_mask,
                max_frames=self.max_time_mask,
                mask_value=0.0,  # before the normalisation: loud, not silent
                draws=draws.masks,
            )
        return (features - MEAN) / (2 * STD)
