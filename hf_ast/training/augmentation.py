"""Augmentations of the official AST and SSAST training code (src/dataloader.py), batched and in plain torch."""

import torch
from torch import Tensor

from hf_ast.models.modules_spec_augment import spec_augment

__all__ = ["mixup_waveforms", "spec_augment"]


def mixup_waveforms(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Mix two clips: weight * first + (1 - weight) * second; labels mix with the same weights.

    The mean of each clip is removed first. The second clip is zero-padded or cut at its end to the first one's length.

    Args:
        first: Shape (S,) or (B, S).
        second: Shape (S2,) or (B, S2).
        weight: Weight of the first clip, in [0, 1]; the official code draws it from Beta(10, 10).

    Returns:
        The mixture, in the shape of `first`.
    """
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"weight={weight} must be in [0, 1].")
    first = first - first.mean(-1, keepdim=True)
    second = second - second.mean(-1, keepdim=True)
    second = torch.nn.functional.pad(second, (0, first.shape[-1] - second.shape[-1]))  # negative padding cuts
    return weight * first + (1.0 - weight) * second
