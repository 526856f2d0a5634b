"""SpecAugment: masked bands of mel bins and frames, batched."""

import torch
from torch import Tensor


def spec_augment(
    input_values: Tensor,
    *,
    max_mel_bins: int,
    max_frames: int,
    mask_value: float,
    draws: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mask one random band of mel bins and one of frames per clip (SpecAugment, https://arxiv.org/abs/1904.08779).

    A band's width is uniform in [0, max), its start uniform over what is left; both are truncated to whole bins.

    Args:
        input_values: Spectrograms, shape (B, T, M).
        max_mel_bins: Bound of the width in mel bins; 0 masks none.
        max_frames: Bound of the width in frames; 0 masks none.
        mask_value: Value of masked cells. The official code masks with 0 before the normalisation, which is the
            feature extractor's `padding_value` after it.
        draws: Numbers in [0, 1), shape (B, 4): mel width, mel start, frame width, frame start. Drawn if None.
        generator: Source of the draws; the global one if None.

    Returns:
        Masked spectrograms, shape (B, T, M).
    """
    batch_size, num_frames, num_mel_bins = input_values.shape
    device = input_values.device
    if draws is None:
        draws = torch.rand(batch_size, 4, generator=generator, device=generator.device if generator else device)
    draws = draws.to(device)
    mel_band = _band(num_mel_bins, max_mel_bins, draws[:, 0:1], draws[:, 1:2])
    frame_band = _band(num_frames, max_frames, draws[:, 2:3], draws[:, 3:4])
    return input_values.masked_fill(mel_band[:, None, :] | frame_band[:, :, None], mask_value)


def _band(size: int, max_width: int, width_draw: Tensor, start_draw: Tensor) -> Tensor:
    """Boolean (B, size): True inside the band that each clip's draws (B, 1) give."""
    width = width_draw * max_width
    start = (start_draw * (size - width)).long()
    index = torch.arange(size, device=width_draw.device)
    return (index >= start) & (index < start + width.long())
