"""Augmentations of the official AST, SSAST and PaSST training code, batched and in plain torch.

Each is a function on batches, with random draws per clip from a generator; `Augmentation` holds the settings of all of
them, and `TrainingCollator` applies them.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from hf_ast.models.modules_spec_augment import spec_augment

__all__ = [
    "Augmentation",
    "gain",
    "mixup_spectrograms",
    "mixup_waveforms",
    "mixup_weights",
    "noise_and_roll",
    "smooth_labels",
    "spec_augment",
    "time_shift",
]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Settings of all augmentations; every one is off by default.

    Args:
        mixup_probability: Fraction of the clips that are mixed with another clip of the data (`mixup_waveforms`).
        mixup_alpha: Weights are drawn from Beta(alpha, alpha): 10 in AST and SSAST, 2 in PaSST.
        mixup_favors_own: Whether a clip's own weight is the larger of the two, as in PaSST.
        spectrogram_mixup_alpha: If positive, every spectrogram is mixed with another augmented one of its epoch
            (`mixup_spectrograms`), and keeps the larger of the two weights from Beta(alpha, alpha): 0.3 in PaSST. Each
            recording is then read and transformed twice per epoch.
        label_smoothing: See `smooth_labels`.
        max_gain_db: See `gain`; 7 in PaSST.
        max_shift: See `time_shift`, in samples; 50 in PaSST.
        low_frequency_jitter_hz, high_frequency_jitter_hz: Random edges of the mel scale, one draw per clip, for the
            feature extractor of PaSST only (see `PaSSTMel`, which draws per batch): 10 and 2000 in PaSST.
        max_mel_mask, max_time_mask: Upper bounds of the mask widths of `spec_augment`, in mel bins and frames. Both
            papers use 48 and 192 for 10 s of AudioSet.
        max_noise, max_roll: See `noise_and_roll`; 0.1 and 10 frames in AST.

    Raises:
        ValueError: A setting is out of range.
    """

    mixup_probability: float = 0.0
    mixup_alpha: float = 10.0
    mixup_favors_own: bool = False
    spectrogram_mixup_alpha: float = 0.0
    label_smoothing: float = 0.0
    max_gain_db: int = 0
    max_shift: int = 0
    low_frequency_jitter_hz: int = 0
    high_frequency_jitter_hz: int = 0
    max_mel_mask: int = 0
    max_time_mask: int = 0
    max_noise: float = 0.0
    max_roll: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 0:
                raise ValueError(f"{field.name}={value} must not be negative; 0 switches it off.")
        if self.mixup_probability > 1:
            raise ValueError(f"mixup_probability={self.mixup_probability} must be in [0, 1].")
        if self.mixup_alpha == 0:
            raise ValueError(
                f"mixup_alpha={self.mixup_alpha} must be positive; mixup_probability=0 switches mixup off."
            )
        _check_smoothing("label_smoothing", self.label_smoothing)

    @property
    def makes_soft_labels(self) -> bool:
        """Whether labels become numbers between 0 and 1 for every class."""
        return bool(self.mixup_probability or self.spectrogram_mixup_alpha or self.label_smoothing)

    def waveform(self, waveform: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Apply gain, then time shift, to one clip (S,), as PaSST does before its mixup."""
        if self.max_gain_db:
            waveform = gain(waveform[None], self.max_gain_db, generator=generator)[0]
        if self.max_shift:
            waveform = time_shift(waveform[None], self.max_shift, generator=generator)[0]
        return waveform

    def features(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        *,
        mask_value: float = 0.0,
    ) -> Tensor:
        """Apply SpecAugment, then noise and roll, to normalised spectrograms.

        Args:
            input_values: Shape (B, T, M), on any device.
            attention_mask: 1 for real frames, 0 for padding, which is left unchanged, shape (B, T). Without a mask,
                padding is treated like the rest, as in the official code.
            generator: Source of randomness; the global one if None.
            mask_value: Value of masked cells; officially `(0 - mean) / (2 * std)`, which is 0 before normalisation.

        Returns:
            Spectrograms, shape (B, T, M).
        """
        if self.max_mel_mask or self.max_time_mask:
            input_values = spec_augment(
                input_values,
                max_mel_bins=self.max_mel_mask,
                max_frames=self.max_time_mask,
                mask_value=mask_value,
                attention_mask=attention_mask,
                generator=generator,
            )
        if self.max_noise or self.max_roll:
            input_values = noise_and_roll(
                input_values,
                max_noise=self.max_noise,
                max_roll=self.max_roll,
                attention_mask=attention_mask,
                generator=generator,
            )
        return input_values


def mixup_waveforms(first: Tensor, second: Tensor, weight: float | Tensor) -> Tensor:
    """Mix two clips: weight * first + (1 - weight) * second; labels mix with the same weights.

    The mean of each clip is removed first, and that of the mixture afterwards (src/dataloader.py of AST). The second
    clip is zero-padded or cut at its end to the first one's length.

    Args:
        first: Shape (S,) or (B, S).
        second: Shape (S2,) or (B, S2).
        weight: Weight of the first clip, in [0, 1], one number or shape (B,); see `mixup_weights`.

    Returns:
        The mixture, in the shape of `first`.
    """
    weight = torch.as_tensor(weight, dtype=first.dtype, device=first.device)
    if not ((weight >= 0) & (weight <= 1)).all():
        raise ValueError(f"weight={weight.tolist()} must be in [0, 1].")
    first = first - first.mean(-1, keepdim=True)
    second = second - second.mean(-1, keepdim=True)
    second = torch.nn.functional.pad(second, (0, first.shape[-1] - second.shape[-1]))  # negative padding cuts
    mixture = weight[..., None] * first + (1.0 - weight[..., None]) * second
    return mixture - mixture.mean(-1, keepdim=True)


def mixup_spectrograms(first: Tensor, second: Tensor, weights: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Mix normalised spectrograms: weight * first + (1 - weight) * second (helpers/mixup.py of PaSST).

    Args:
        first, second: Shape (B, T, M).
        weights: Weights of `first`, shape (B,).
        attention_mask: 1 for real frames of `first`, whose padding is left unchanged, shape (B, T).

    Returns:
        Shape (B, T, M).
    """
    weights = weights.to(first)[:, None, None]
    mixture = weights * first + (1 - weights) * second
    if attention_mask is None:
        return mixture
    return torch.where(attention_mask.to(first.device).bool()[:, :, None], mixture, first)


def mixup_weights(
    num_clips: int, alpha: float = 10.0, *, favors_own: bool = False, generator: torch.Generator | None = None
) -> Tensor:
    """Draw weights for `mixup_waveforms` from Beta(alpha, alpha).

    Args:
        num_clips: B.
        alpha: 10 in AST and SSAST, 2 in PaSST.
        favors_own: Whether to take the larger of the weight and its complement, as PaSST does.
        generator: Source of randomness; the global one if None.

    Returns:
        Numbers in [0, 1], shape (B,), float32, on the CPU.
    """
    # torch's own Beta distribution takes no generator
    seed = _integers(0, 2**63 - 1, 1, generator)
    weights = torch.from_numpy(np.random.default_rng(int(seed)).beta(alpha, alpha, num_clips)).float()
    return torch.maximum(weights, 1 - weights) if favors_own else weights


def smooth_labels(labels: Tensor, epsilon: float, *, multi_label: bool) -> Tensor:
    """Move labels towards complete uncertainty: (1 - epsilon) * labels + epsilon * u.

    u is 1 / C for single-label classification, and 1 / 2 for every class of multi-label classification. For class
    indices, `TrainingArguments(label_smoothing_factor=...)` does the same as the former; it accepts neither soft nor
    multi-label labels.

    Args:
        labels: One-hot, multi-hot or soft labels, shape (B, C).
        epsilon: In [0, 1).
        multi_label: Whether each class is an independent decision.
    """
    _check_smoothing("epsilon", epsilon)
    return (1 - epsilon) * labels + epsilon * (0.5 if multi_label else 1 / labels.shape[1])


def gain(
    waveforms: Tensor,
    max_gain_db: int = 7,
    *,
    gains_db: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Make each clip louder or softer (audioset/dataset.py of PaSST).

    Args:
        waveforms: Shape (B, S).
        max_gain_db: Gains are integers in decibels, uniform in [-max_gain_db, max_gain_db - 1].
        gains_db: Gains to apply, shape (B,). Drawn if None.
        generator: Source of the draws; the global one if None.

    Returns:
        Shape (B, S). Loud clips may exceed [-1, 1]; they are not clipped, as in the official code.
    """
    if gains_db is None:
        gains_db = _integers(-max_gain_db, max_gain_db, len(waveforms), generator)
    return waveforms * (10.0 ** (gains_db.to(waveforms) / 20))[:, None]


def time_shift(
    waveforms: Tensor,
    max_shift: int = 50,
    *,
    shifts: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Roll each clip: samples that leave at one end return at the other (audioset/dataset.py of PaSST).

    Args:
        waveforms: Shape (B, S).
        max_shift: Shifts are uniform in [-max_shift, max_shift] samples.
        shifts: Samples by which to move clips to the right, shape (B,). Drawn if None.
        generator: Source of the draws; the global one if None.

    Returns:
        Shape (B, S).
    """
    if shifts is None:
        shifts = _integers(-max_shift, max_shift + 1, len(waveforms), generator)
    num_samples = waveforms.shape[1]
    index = torch.arange(num_samples, device=waveforms.device) - shifts.to(waveforms.device)[:, None]
    return waveforms.gather(1, index % num_samples)


def noise_and_roll(
    input_values: Tensor,
    *,
    max_noise: float = 0.1,
    max_roll: int = 10,
    attention_mask: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Add noise of a random strength to each normalised spectrogram, and roll its frames (src/dataloader.py of AST).

    Args:
        input_values: Shape (B, T, M).
        max_noise: The noise is uniform in [0, s), with s uniform in [0, max_noise) for each clip.
        max_roll: Frames are rolled by an integer that is uniform in [-max_roll, max_roll - 1].
        attention_mask: 1 for real frames, in one run per clip, 0 for padding, shape (B, T). The noise is then added
            to real frames only, and they roll among themselves. Without a mask, all frames count as real, as in the
            official code.
        generator: Source of randomness; the global one if None.

    Returns:
        Shape (B, T, M).
    """
    batch_size, num_frames, _ = input_values.shape
    device = input_values.device
    noise = _uniform(tuple(input_values.shape), generator, device).to(input_values)
    strength = _uniform((batch_size, 1, 1), generator).to(input_values) * max_noise
    noisy = input_values + noise * strength
    shifts = _integers(-max_roll, max_roll, batch_size, generator) if max_roll else torch.zeros(batch_size).long()
    frames = torch.arange(num_frames, device=device)
    if attention_mask is None:
        source = (frames - shifts.to(device)[:, None]) % num_frames
        return noisy.gather(1, source[:, :, None].expand_as(noisy))
    is_real = attention_mask.to(device).bool()
    first, length = is_real.int().argmax(dim=1, keepdim=True), is_real.sum(dim=1, keepdim=True)
    rolled = first + (frames - first - shifts.to(device)[:, None]) % length.clamp(min=1)
    source = torch.where(is_real, rolled, frames)
    return torch.where(is_real[:, :, None], noisy, input_values).gather(1, source[:, :, None].expand_as(noisy))


def _uniform(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device | str = "cpu") -> Tensor:
    """Draw numbers in [0, 1) on the generator's device, or on `device` if there is no generator."""
    return torch.rand(shape, generator=generator, device=generator.device if generator else device)


def _integers(low: int, high: int, count: int, generator: torch.Generator | None) -> Tensor:
    """Draw integers in [low, high), shape (count,), on the generator's device, and move them to the CPU."""
    device = generator.device if generator else "cpu"
    return torch.randint(low, high, (count,), generator=generator, device=device).cpu()


def _check_smoothing(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name}={value} must be in [0, 1); 0 switches it off.")
