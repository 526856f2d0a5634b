"""Mean and standard deviation of spectrograms, which normalise the input of a model."""

import copy
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor


def mean_and_std(parts: Iterable[Tensor]) -> tuple[float, float]:
    """Return the mean and the standard deviation of all values in tensors of any shapes, added up in float64."""
    number, total, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for part in parts:
        values = part.cpu().double()  # not every accelerator has float64
        number += values.numel()
        total += values.sum()
        squares += values.square().sum()
    if number < 2:
        raise ValueError(f"A standard deviation needs at least two values, but there are {number}.")
    mean = total / number
    return mean.item(), ((squares - number * mean**2) / (number - 1)).clamp(min=0).sqrt().item()


def feature_statistics(
    feature_extractor: SpectrogramFeatureExtractor,
    waveforms: Iterable[np.ndarray],
    *,
    device: torch.device | str | None = None,
) -> tuple[float, float]:
    """Compute the mean and standard deviation of log-mel values, without padding, for a feature extractor.

    Args:
        feature_extractor: Computes the spectrograms; its own normalisation is left out.
        waveforms: Clips at its sampling rate, each of shape (S,), cut off at the length of its input.
        device: Where the spectrograms are computed; the CPU if None.

    Returns:
        `mean` and `std` for such an extractor. (The official code of AST divides by twice this deviation; so does the
        extractor.)
    """
    raw = copy.deepcopy(feature_extractor)
    raw.do_normalize = False
    rate, longest = raw.sampling_rate, raw.max_samples
    return mean_and_std(
        raw(clip[:longest], rate, return_tensors="pt", padding=False, return_attention_mask=False, device=device)[
            "input_values"
        ]
        for clip in waveforms
    )
