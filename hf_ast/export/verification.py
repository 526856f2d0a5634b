"""Verification of an exported file: its logits against those of the model in PyTorch, on random clips."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_ast.choices import ExportInput
from hf_ast.inference.evaluating import evaluating
from hf_ast.inference.features import FeatureExtractor

from .program import InputLimits

# Largest difference of logits that rounding explains
TOLERANCE = 1e-4


class Verification(NamedTuple):
    """Result of `verify`.

    Args:
        num_clips: Clips that were compared.
        largest_difference: Largest difference of the logits.
        largest_logit: Magnitude of the largest logit in PyTorch.
        num_same_labels: Clips with the same best label; in every cell, if the model labels cells.
    """

    num_clips: int
    largest_difference: float
    largest_logit: float
    num_same_labels: int


@torch.no_grad()
def verify(
    run: Callable[[Tensor], Tensor],
    model: PreTrainedModel,
    feature_extractor: FeatureExtractor,
    limits: InputLimits,
    *,
    source: ExportInput,
    seed: int = 0,
) -> Verification:
    """Compare an exported file with the model, which gets waveforms through its feature extractor, on random noise.

    Args:
        run: The exported file: an input of `source` -> logits.
        model: The model, in float32.
        feature_extractor: Its feature extractor.
        limits: Limits of the length, from `input_limits`.
        source: "waveform" or "features".
        seed: Seed of the noise.

    Raises:
        ValueError: A result of the file has another shape, or is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    differences, largest, num_clips, num_same = [], [], 0, 0
    with evaluating(model):
        for batch_size, length in sizes(limits):
            if source == "waveform":
                # From loud to quiet, because the logarithm magnifies small differences
                levels = torch.logspace(-0.5, -3.5, batch_size)[:, None]
                inputs = levels * torch.randn(batch_size, length, generator=generator).clamp(-3, 3)
                rate = feature_extractor.sampling_rate
                arguments = dict(feature_extractor(list(inputs), sampling_rate=rate, return_tensors="pt"))
            else:
                inputs = torch.randn(batch_size, length, model.config.num_mel_bins, generator=generator)
                arguments = {"input_values": inputs}
            expected = model(**arguments).logits
            logits = run(inputs)
            if logits.shape != expected.shape or not logits.isfinite().all():
                raise ValueError(
                    f"The exported file gives logits of shape {tuple(logits.shape)} for an input of shape "
                    f"{tuple(inputs.shape)}, but must give finite ones of shape {tuple(expected.shape)}."
                )
            differences.append((logits - expected).abs().max().item())
            largest.append(expected.abs().max().item())
            same = (logits.argmax(-1) == expected.argmax(-1)).view(batch_size, -1).all(dim=1)
            num_clips, num_same = num_clips + batch_size, num_same + int(same.sum())
    return Verification(num_clips, max(differences), max(largest), num_same)


def sizes(limits: InputLimits) -> Iterator[tuple[int, int]]:
    """Batch sizes and lengths to compare: both limits, lengths between them, and batches other than the traced one."""
    shortest, longest = limits
    yield 1, longest
    yield 3, shortest
    yield 1, min(shortest + 1, longest)
    yield 2, (shortest + longest) // 2
    yield 4, shortest + (longest - shortest) // 3
