"""Log-mel spectrogram of PaSST and its training augmentation, for whole batches, on any device, in torch only.

It computes the same numbers as `AugmentMelSTFT` of the official code (PaSST models/preprocess.py).
"""

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from .modules_mel_filters import PREEMPHASIS, MelFilterBank, check_waveform, map_segments
from .modules_spec_augment import spec_augment

LOG_OFFSET = 1e-5
# The official normalisation (x + 4.5) / 5, written as (x - mean) / (2 std)
MEAN, STD = -4.5, 2.5
# 2 MB per intermediate result; see `modules_fbank.FRAMES_PER_SEGMENT`
FRAMES_PER_SEGMENT = 512


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


def min_samples(n_fft: int) -> int:
    """Samples of the shortest waveform: one is lost, and half an FFT is reflected around the edge sample."""
    return n_fft // 2 + 2


class PaSSTLogMel(nn.Module):
    """`passt_log_mel` as a module, which keeps its window and filters; the arguments are the same.

    Move it to the device of the waveforms; where device or dtype differ, each call recomputes window and filters.
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
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        if hop_length < 1:
            raise ValueError(f"hop_length={hop_length} samples must be at least 1; the default is 320.")
        self.hop_length = hop_length
        self.filter_bank = MelFilterBank(
            sampling_rate=sampling_rate,
            num_mel_bins=num_mel_bins,
            n_fft=n_fft,
            window_length=window_length,
            low_frequency_hz=low_frequency_hz,
            high_frequency_hz=high_frequency_hz,
            device=device,
            dtype=dtype,
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveforms (B, S) in [-1, 1] -> log-mel spectrograms (B, T, M), not normalised."""
        check_waveform(waveform)
        filter_bank = self.filter_bank.matching(waveform)
        n_fft, window_length = filter_bank.n_fft, filter_bank.window_length
        if waveform.shape[1] < min_samples(n_fft):
            raise ValueError(
                f"waveform has {waveform.shape[1]} samples, fewer than the {min_samples(n_fft)} that an FFT of "
                f"{n_fft} needs; pad it to that length."
            )
        emphasised = torch.sub(waveform[:, 1:], waveform[:, :-1], alpha=PREEMPHASIS)
        # Only the samples under the window, which is centred in the FFT's frame; the phase does not matter
        left = n_fft // 2 - (n_fft - window_length) // 2
        right = window_length - left
        # Not `pad(mode="reflect")`, which takes three times as long
        before, behind = emphasised[:, 1 : left + 1].flip(1), emphasised[:, -right - 1 : -1].flip(1)

        def log_mel(segment: Tensor) -> Tensor:
            # The samples of a frame after the window do not matter: the window is 0 there
            frames = nn.functional.pad(segment, (0, n_fft - window_length)).unfold(1, n_fft, self.hop_length)
            return filter_bank(frames * filter_bank.window).add_(LOG_OFFSET).log_()

        return map_segments(
            log_mel,
            torch.cat((before, emphasised, behind), dim=1),
            frame_length=window_length,
            frame_shift=self.hop_length,
            frames_per_segment=FRAMES_PER_SEGMENT,
        )


class MelDraws(NamedTuple):
    """Random draws of one training step.

    Both edges of the mel scale, in Hz, for the whole batch; and numbers in [0, 1) for `spec_augment`, shape (B, 4).
    """

    low_frequency_hz: float
    high_frequency_hz: float
    masks: Tensor


class PaSSTMel(nn.Module):
    """Normalised log-mel spectrograms, in training mode with the official augmentation; for use in front of a model.

    Checkpoints differ in their settings, for example in the hop length, and a model cannot detect wrong ones:
    `PaSSTMel.from_extractor` takes those of a checkpoint.

    Args:
        sampling_rate, num_mel_bins, n_fft, window_length, hop_length: See `passt_log_mel`.
        low_frequency_hz, high_frequency_hz: Edges of the mel scale without augmentation.
        mean, std: Spectrograms become (x - mean) / (2 std), by default (x + 4.5) / 5.
        low_frequency_jitter_hz, high_frequency_jitter_hz: In training mode the edges of the mel scale are drawn in
            steps of 1 Hz: the lower one from [low, low + jitter), the upper one from (high - jitter / 2,
            high + jitter / 2]. 0 leaves an edge where it is.
        max_mel_mask, max_time_mask: Upper bounds of the widths of the masked bands, in mel bins and frames; 0 masks
            nothing.
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
        mean: float = MEAN,
        std: float = STD,
        low_frequency_jitter_hz: int = 10,
        high_frequency_jitter_hz: int = 2000,
        max_mel_mask: int = 48,
        max_time_mask: int = 192,
    ):
        super().__init__()
        self.jitter_hz = (low_frequency_jitter_hz, high_frequency_jitter_hz)
        for name, value in zip(("low", "high"), self.jitter_hz, strict=True):
            if value < 0:
                raise ValueError(f"{name}_frequency_jitter_hz={value} must be at least 0, which means none.")
        self.edges_hz = (low_frequency_hz, high_frequency_hz)
        self.mean = mean
        self.std = std
        self.max_mel_mask = max_mel_mask
        self.max_time_mask = max_time_mask
        self.settings: dict[str, Any] = {
            "sampling_rate": sampling_rate,
            "num_mel_bins": num_mel_bins,
            "n_fft": n_fft,
            "window_length": window_length,
            "hop_length": hop_length,
        }
        self.log_mel = PaSSTLogMel(
            low_frequency_hz=low_frequency_hz, high_frequency_hz=high_frequency_hz, **self.settings
        )

    @classmethod
    def from_extractor(cls, feature_extractor: Any, **augmentation: Any) -> Self:
        """Build the front end of a checkpoint, which in eval mode gives the spectrograms of its feature extractor.

        Args:
            feature_extractor: A `PaSSTFeatureExtractor`.
            augmentation: The constructor's arguments for jitter and masks.
        """
        names = "sampling_rate num_mel_bins n_fft window_length hop_length low_frequency_hz high_frequency_hz mean std"
        missing = [name for name in names.split() if not hasattr(feature_extractor, name)]
        if missing:
            raise ValueError(
                f"feature_extractor is a {type(feature_extractor).__name__} without {', '.join(missing)}; pass a "
                "PaSSTFeatureExtractor."
            )
        settings = {name: getattr(feature_extractor, name) for name in names.split()}
        if not feature_extractor.do_normalize:
            settings |= {"mean": 0.0, "std": 0.5}
        return cls(**settings, **augmentation)

    def draw(self, batch_size: int, generator: torch.Generator | None = None) -> MelDraws:
        """Draw the augmentation of one step; the edges are the same for the batch, the masks are not."""
        device = "cpu" if generator is None else generator.device
        low, high = (
            int(torch.randint(max(1, jitter_hz), (1,), generator=generator, device=device))
            for jitter_hz in self.jitter_hz
        )
        masks = torch.rand(batch_size, 4, generator=generator, device=device)
        return MelDraws(self.edges_hz[0] + low, self.edges_hz[1] + self.jitter_hz[1] // 2 - high, masks)

    def forward(
        self, waveform: Tensor, *, draws: MelDraws | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Waveforms -> normalised log-mel spectrograms.

        Args:
            waveform: Samples in [-1, 1], shape (B, S).
            draws: The augmentation to apply; if None, it is drawn in training mode, and there is none in eval mode.
            generator: Source of the draws; the global one if None.

        Returns:
            Spectrograms, shape (B, T, M).
        """
        if draws is None and self.training:
            draws = self.draw(len(waveform), generator)
        if draws is None:
            features = self.log_mel(waveform)
        else:
            low, high, masks = draws
            features = spec_augment(
                passt_log_mel(waveform, low_frequency_hz=low, high_frequency_hz=high, **self.settings),
                max_mel_bins=self.max_mel_mask,
                max_frames=self.max_time_mask,
                mask_value=0.0,  # before the normalisation: loud, not silent
                draws=masks,
            )
        return (features - self.mean) / (2 * self.std)
