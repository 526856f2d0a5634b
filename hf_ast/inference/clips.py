"""Many clips of different lengths, without computing on padding."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
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
# 64 MB: enough clips of similar lengths for batches with little padding, whatever the number of clips
SAMPLES_AT_ONCE = 2**24


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
    scores of short clips differ from theirs. A clip that is shorter than a patch is padded to one. For recordings that
    may be longer than the model's input, use `hf_ast.tag`.

    Clips are read as they are needed, about 64 MB of samples at once, within which they are sorted by length.

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
        FileNotFoundError: There is no such file; the message names the clip by its index, as the others do.
        ValueError: There is no clip, or one is too long, empty, or not a recording.
        OSError: A clip cannot be read.
    """
    if not len(clips):
        raise ValueError("clips is empty; pass at least one clip.")
    scores = torch.empty(len(clips), len(label_names(model)))
    place(model, device)
    batch_size = default_batch_size(model.device, BATCH_SIZE_ON_CPU) if batch_size is None else batch_size
    with running(model, dtype), tqdm(total=len(clips), disable=not progress, unit="clip", leave=False) as bar:
        for first, waveforms in _read_in_parts(clips, feature_extractor, sampling_rate):
            num_frames = [feature_extractor.num_frames(len(waveform)) for waveform in waveforms]
            for batch in length_batches(num_frames, batch_size=batch_size, max_padding=max_padding):
                inputs = feature_extractor(
                    [waveforms[index] for index in batch],
                    feature_extractor.sampling_rate,
                    return_tensors="pt",
                    padding="longest",
                    device=model.device,
                )
                if inputs["attention_mask"].all():  # attention without a mask takes the faster kernels
                    del inputs["attention_mask"]
                rows = [first + index for index in batch]
                scores[rows] = score_inputs(model, inputs.to(model.dtype)).cpu()
                bar.update(len(batch))
            del waveforms  # before the next part is read
    return scores


def _read_in_parts(
    clips: Sequence[Any], feature_extractor: SpectrogramFeatureExtractor, source_rate: int | None
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Yield consecutive clips as waveforms, as many as `SAMPLES_AT_ONCE` holds, with the index of the first."""
    waveforms: list[np.ndarray] = []
    first = num_samples = 0
    for index, clip in enumerate(clips):
        waveforms.append(_read(clip, index, feature_extractor, source_rate))
        num_samples += len(waveforms[-1])
        if num_samples >= SAMPLES_AT_ONCE:
            yield first, waveforms
            waveforms, first, num_samples = [], index + 1, 0
    if waveforms:
        yield first, waveforms


def _read(
    clip: Any, index: int, feature_extractor: SpectrogramFeatureExtractor, source_rate: int | None
) -> np.ndarray:
    """Read a clip (S,), or raise an error that names it."""
    rate, longest = feature_extractor.sampling_rate, feature_extractor.max_samples
    enough_s = longest / rate + 1.0  # of a recording of hours
    try:
        waveform, _ = audio.read(clip, rate, source_rate=source_rate, duration_s=enough_s)
    except (OSError, ValueError) as error:
        kind = next(kind for kind in (FileNotFoundError, OSError, ValueError) if isinstance(error, kind))
        raise kind(f"clips[{index}]: {error}") from error
    if len(waveform) > longest:
        duration_s = len(waveform) / rate
        raise ValueError(
            f"clips[{index}] lasts {f'{duration_s:.5g}' if duration_s < enough_s else 'many'} s, longer than what the "
            f"model hears at once ({longest / rate:.5g} s); `hf_ast.tag` cuts recordings into windows."
        )
    return waveform
