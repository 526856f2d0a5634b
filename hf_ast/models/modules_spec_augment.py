"""SpecAugment: masked bands of mel bins and frames, batched."""

import torch
from torch import Tensor


def spec_augment(
    input_values: Tensor,
    *,
    max_mel_bins: int,
    max_frames: int,
    mask_value: float,
    attention_mask: Tensor | None = None,
    draws: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mask one random band of mel bins and one of frames per clip (SpecAugment, https://arxiv.org/abs/1904.08779).

    A band's width is uniform in [0, max), its start uniform over the rest; both are truncated to whole bins.

    Args:
        input_values: Spectrograms, shape (B, T, M).
        max_mel_bins: Upper bound of the width in mel bins; 0 masks none.
        max_frames: Upper bound of the width in frames; 0 masks none.
        mask_value: Value of masked cells. The official code masks with 0 before the normalisation, which is the
            feature extractor's `padding_value` after it.
        attention_mask: 1 for real frames, in one run per clip, 0 for padding, shape (B, T). Padding then stays as it
            is, the band of frames lies in the clip, and its width is bounded by the clip's length, too. Without a
            mask, all frames count as real, as in the official code.
        draws: Numbers in [0, 1), shape (B, 4): mel width, mel start, frame width, frame start. Drawn if None.
        generator: Source of the draws; the global one if None.

    Returns:
        Masked spectrograms, shape (B, T, M).
    """
    batch_size, num_frames, num_mel_bins = input_values.shape
    device = input_values.device
    if draws is None:
        draws = torch.rand(batch_size, 4, generator=generator, device=generator.device if generator else device)
    mel_width, mel_start, frame_width, frame_start = draws.to(device).unsqueeze(2).unbind(1)
    mel_bins = torch.arange(num_mel_bins, device=device)
    frames = torch.arange(num_frames, device=device)
    mel_band = _band(mel_bins, num_mel_bins, mel_width * max_mel_bins, mel_start)[:, None, :]
    if attention_mask is None:
        frame_band = _band(frames, num_frames, frame_width * max_frames, frame_start)
    else:
        is_real = attention_mask.to(device).bool()
        first, length = is_real.int().argmax(dim=1, keepdim=True), is_real.sum(dim=1, keepdim=True)
        frame_band = _band(frames - first, length, frame_width * length.clamp(max=max_frames), frame_start)
        mel_band = mel_band & is_real[:, :, None]
    return input_values.masked_fill(mel_band | frame_band[:, :, None], mask_value)


def _band(index: Tensor, size: int | Tensor, width: Tensor, start_draw: Tensor) -> Tensor:
    """Which positions of `index` are inside the bands of widths (B, 1) that `start_draw` (B, 1) places in `size`."""
    start = (start_draw * (size - width)).long()
    return (index >= start) & (index < start + width.long())
