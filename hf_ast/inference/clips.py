"""Many clips of different lengths, without computing on padding."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from hf_ast.data import audio
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor

from .devices import Device, default_batch_size, place, running
from .tagging import label_names, score_inputs

# Clips per forward pass that a CPU computes fastest
BATCH_SIZE_ON_CPU = 8


def length_batches(lengths: Sequence[int], *, batch_size: int, max_padding: float = 0.1) -> list[list[int]]:
    """Put clips of similar lengths into batches, so that little of a batch is padding.

    Args:
        lengths: Length of each clip, in any unit.
        batch_size: Clips per batch, at most.
        max_padding: Largest share of padding in the shortest clip of a batch, in [0, 1].

    Returns:
        Indices of the clips of each batch, the longest clips first, so that a batch that does not fit into memory
        fails at once. Each index is in one batch.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1.")
    if not 0 <= max_padding <= 1:
        raise ValueError(f"max_padding={max_padding} must be in [0, 1].")
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[batches[-1][0]] if batches else 0
        if not batches or len(batches[-1]) == batch_size or lengths[index] < (1 - max_padding) * longest:
            batches.append([])
        batches[-1].append(index)
    return batches


@torch.inference_mode()
def score_clips(
    model: PreTrainedModel,
    feature_extractor: SpectrogramFeatureExtractor,
    clips: Sequence[Any],
    *,
    sampling_rate: int | None = None,
    device: Device | None = None,
    dtype: str | torch.dtype | None = None,
    batch_size: int | None = None,
    max_padding: float = 0.1,
    progress: bool = False,
) -> Tensor:
    """Score clips of different lengths, each as the model scores it alone and without padding.

    Clips of similar lengths share a batch, with a mask for the frames that are padding. The feature extractor alone
    would pad the clips of AST and SSAST to the model's length, and the official models attend to that padding, so the
    scores of short clips differ from theirs. For recordings that may be longer than the model's input, use
    `hf_ast.tag`.

    Args:
        model: A classification model of ours, on any device; it runs in eval mode.
        feature_extractor: Its feature extractor.
        clips: Recordings in any form that `hf_ast.audio` knows, none longer than the model's input.
        sampling_rate: Rate of waveforms that do not carry their own, in Hz; the extractor's if None.
        device, dtype: As in `hf_ast.tag`.
        batch_size: Clips per forward pass; if None, 8 on a CPU, and 32 on an accelerator.
        max_padding: See `length_batches`.
        progress: Whether to show a progress bar on stderr.

    Returns:
        Scores in the order of the clips, float32 on the CPU, shape (B, C); see `hf_ast.tag` for what they are.

    Raises:
        ValueError: There is no clip, or one is too long, too short, or not a recording.
    """
    place(model, device)
    batch_size = default_batch_size(model.device, BATCH_SIZE_ON_CPU) if batch_size is None else batch_size
    rate = feature_extractor.sampling_rate
    waveforms = [audio.read(clip, rate, source_rate=sampling_rate)[0] for clip in clips]
    if not waveforms:
        raise ValueError("clips is empty; pass at least one clip.")
    for index, waveform in enumerate(waveforms):
        if len(waveform) > feature_extractor.max_samples:
            raise ValueError(
                f"clips[{index}] lasts {len(waveform) / rate:.5g} s, longer than what the model hears at once "
                f"({feature_extractor.max_samples / rate:.5g} s); `hf_ast.tag` cuts recordings into windows."
            )
    num_frames = [feature_extractor.num_frames(len(waveform)) for waveform in waveforms]
    scores = torch.empty(len(waveforms), len(label_names(model)))
    with running(model, dtype), tqdm(total=len(waveforms), disable=not progress, unit="clip", leave=False) as bar:
        for batch in length_batches(num_frames, batch_size=batch_size, max_padding=max_padding):
            inputs = feature_extractor(
                [waveforms[index] for index in batch],
                rate,
                return_tensors="pt",
                padding="longest",
                device=model.device,
            )
            if inputs["attention_mask"].all():  # attention without a mask takes the faster kernels
                del inputs["attention_mask"]
            scores[batch] = score_inputs(model, inputs.to(model.dtype)).cpu()
            bar.update(len(batch))
    return scores
