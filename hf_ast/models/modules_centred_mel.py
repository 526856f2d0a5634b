"""Log-mel spectrograms of centred frames: the front ends of PaSST and fPaSST, for whole batches, on any device.

A family fixes the window, the logarithm and the defaults (`modules_passt_mel.py`, `modules_fpasst_mel.py`).
"""

from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from .modules_mel_filters import PREEMPHASIS, MelFilterBank, check_waveform, map_segments
from .modules_spec_augment import spec_augment

# 2 MB per intermediate result; see `modules_fbank.FRAMES_PER_SEGMENT`
FRAMES_PER_SEGMENT = 512
# Settings that the front end of a checkpoint shares with its feature extractor
SETTINGS = ("sampling_rate", "num_mel_bins", "n_fft", "window_length", "hop_length")


def min_samples(n_fft: int) -> int:
    """Samples of the shortest waveform: one is lost, and half an FFT is reflected around the edge sample."""
    return n_fft // 2 + 2


class CentredLogMel(nn.Module):
    """Log-mel spectrogram of a batch of equally long waveforms, without normalisation.

    Pre-emphasis 0.97 over the whole waveform (which loses its first sample), frames centred on multiples of the hop
    length with the waveform reflected at its ends, Hann window, power spectrum, Kaldi's mel filters, logarithm.
    Move it to the device of the waveforms; where device or dtype differ, each call recomputes window and filters.

    Args:
        sampling_rate: In Hz.
        num_mel_bins: M.
        n_fft: Size of the FFT, in samples.
        window_length, hop_length: In samples.
        low_frequency_hz, high_frequency_hz: Edges of the mel scale.
        device, dtype: Those of the window and the filters.
    """

    filter_bank_class: ClassVar[type[MelFilterBank]] = MelFilterBank

    def __init__(
        self,
        *,
        sampling_rate: int,
        num_mel_bins: int,
        n_fft: int,
        window_length: int,
        hop_length: int,
        low_frequency_hz: float,
        high_frequency_hz: float,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        if hop_length < 1:
            raise ValueError(f"hop_length={hop_length} samples must be at least 1.")
        self.hop_length = hop_length
        self.filter_bank = self.filter_bank_class(
            sampling_rate=sampling_rate,
            num_mel_bins=num_mel_bins,
            n_fft=n_fft,
            window_length=window_length,
            low_frequency_hz=low_frequency_hz,
            high_frequency_hz=high_frequency_hz,
            device=device,
            dtype=dtype,
        )

    @staticmethod
    def logarithm(energies: Tensor) -> Tensor:
        """Mel energies -> their logarithm, in place; the family says how zero is avoided."""
        raise NotImplementedError

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveforms (B, S) in [-1, 1] -> log-mel spectrograms (B, T, M), T = 1 + (S - 1) // hop_length.

        Raises:
            ValueError: The waveform is not a (B, S) float tensor, or too short to be reflected.
        """
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
            return self.logarithm(filter_bank(frames * filter_bank.window))

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


class CentredMel(nn.Module):
    """Normalised log-mel spectrograms, in training mode with the official augmentation; for use in front of a model.

    Checkpoints differ in their settings, for example in the hop length, and a model cannot detect wrong ones:
    `from_extractor` takes those of a checkpoint.

    Args:
        log_mel: Arguments of the family's `CentredLogMel`.
        mean, std: Spectrograms become (x - mean) / (2 std).
        low_frequency_jitter_hz, high_frequency_jitter_hz: In training mode the edges of the mel scale are drawn in
            steps of 1 Hz: the lower one from [low, low + jitter), the upper one from (high - jitter / 2,
            high + jitter / 2]. 0 leaves an edge where it is.
        max_mel_mask, max_time_mask: Upper bounds of the widths of the masked bands, in mel bins and frames; 0 masks
            nothing.
    """

    log_mel_class: ClassVar[type[CentredLogMel]] = CentredLogMel

    def __init__(
        self,
        *,
        mean: float,
        std: float,
        low_frequency_jitter_hz: int,
        high_frequency_jitter_hz: int,
        max_mel_mask: int,
        max_time_mask: int,
        **log_mel: Any,
    ):
        super().__init__()
        self.jitter_hz = (low_frequency_jitter_hz, high_frequency_jitter_hz)
        for name, value in zip(("low", "high"), self.jitter_hz, strict=True):
            if value < 0:
                raise ValueError(f"{name}_frequency_jitter_hz={value} must be at least 0, which means none.")
        self.edges_hz = (log_mel["low_frequency_hz"], log_mel["high_frequency_hz"])
        self.mean = mean
        self.std = std
        self.max_mel_mask = max_mel_mask
        self.max_time_mask = max_time_mask
        self.settings: dict[str, Any] = {name: log_mel[name] for name in SETTINGS}
        self.log_mel = self.log_mel_class(**log_mel)

    @classmethod
    def from_extractor(cls, feature_extractor: Any, **augmentation: Any) -> Self:
        """Build the front end of a checkpoint, which in eval mode gives the spectrograms of its feature extractor.

        Args:
            feature_extractor: The feature extractor of the family.
            augmentation: The constructor's arguments for jitter and masks.
        """
        names = (*SETTINGS, "low_frequency_hz", "high_frequency_hz", "mean", "std")
        missing = [name for name in names if not hasattr(feature_extractor, name)]
        if missing:
            raise ValueError(
                f"feature_extractor is a {type(feature_extractor).__name__} without {', '.join(missing)}; pass the "
                f"feature extractor that belongs to {cls.__name__}."
            )
        settings = {name: getattr(feature_extractor, name) for name in names}
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
                self._jittered(waveform, low, high),
                max_mel_bins=self.max_mel_mask,
                max_frames=self.max_time_mask,
                mask_value=0.0,  # before the normalisation: loud, not silent
                draws=masks,
            )
        return (features - self.mean) / (2 * self.std)

    def _jittered(self, waveform: Tensor, low_frequency_hz: float, high_frequency_hz: float) -> Tensor:
        """Log-mel spectrograms with other edges of the mel scale, for one call."""
        log_mel = self.log_mel_class(
            low_frequency_hz=low_frequency_hz,
            high_frequency_hz=high_frequency_hz,
            device=waveform.device,
            dtype=waveform.dtype,
            **self.settings,
        )
        return log_mel(waveform)
