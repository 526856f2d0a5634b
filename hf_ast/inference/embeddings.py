"""Embeddings of whole recordings and of their moments, from every family.

For PaSST they equal those of `hear21passt`, whose windows are made for the HEAR benchmark (https://hearbenchmark.com).
Windows are batched here, and memory beyond the recording and the result does not grow with the recording.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature, PreTrainedModel

from hf_ast.choices import EmbeddingMode, expect_one_of
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor

from .devices import Device, default_batch_size, place, running
from .tagging import expect_finite_outputs
from .windows import as_samples, num_centred_windows

# Inputs per forward pass that a CPU computes fastest: of the model's length, and of a fraction of a second
WINDOWS_ON_CPU, MOMENTS_ON_CPU = 4, 64

# Arguments of `timestamp_embeddings` for the modules of `hear21passt`; those for hop lengths of 100 and 160 are alike
HEAR_VARIANTS: dict[str, dict[str, Any]] = {
    "base": {"window_s": 0.16},
    "base2level": {"window_s": (0.16, 0.8)},
    "base2levelmel": {"window_s": (0.16, 0.64), "num_mel_frames": 6},
    "hop160base2lvlmel": {"window_s": (0.16, 0.8), "num_mel_frames": 6},
}


@torch.no_grad()
def scene_embeddings(
    model: PreTrainedModel,
    feature_extractor: SpectrogramFeatureExtractor,
    waveform: Tensor | np.ndarray,
    *,
    mode: EmbeddingMode = "features",
    window_s: float | None = None,
    hop_s: float | None = None,
    device: Device | None = None,
    dtype: str | torch.dtype | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """One embedding per recording.

    A recording that fits into one window is embedded as a whole, padded as the feature extractor does by default. A
    longer one gets the mean over windows around every multiple of `hop_s`; it is reflected at its ends.

    Args:
        model: One of our models, on any device; it runs in eval mode.
        feature_extractor: The feature extractor of the model.
        waveform: Recordings of equal length at the extractor's rate, samples in [-1, 1], shape (B, S) or (S,).
        mode: "features" (the pooled output; "embed_only" in `hear21passt`), "logits", or "all" (logits, then features;
            the default of `hear21passt`). The last two need a model with a classifier.
        window_s: Length of a window, in seconds; what fills the extractor's `max_length` if None.
        hop_s: Seconds between windows; a quarter of the window if None. (`hear21passt`: 2.5 s with its models of 10 s,
            5 s with 20 s, 10 s with 30 s.)
        device: Where the model runs from now on; where it is if None.
        dtype: "bfloat16" or "float16" to compute in it with weights in float32; that of the weights if None.
        batch_size: Windows per forward pass; if None, 4 on a CPU, and 16 on an accelerator.

    Returns:
        Embeddings, float32 on the waveform's device, shape (B, D); with logits (B, C) or (B, C + D).

    Raises:
        ValueError: Wrong shape, mode, window or hop, a feature extractor that is not one of ours, or a result that is
            NaN or infinite.
    """
    waveform = _as_batch(waveform)
    embed = _embedder(model, mode)
    _expect_own_front_end(model, feature_extractor)
    place(model, device)
    batch_size = default_batch_size(model.device, WINDOWS_ON_CPU) if batch_size is None else batch_size
    rate = feature_extractor.sampling_rate
    window = feature_extractor.max_samples if window_s is None else as_samples("window_s", window_s, rate)
    hop = max(1, window // 4) if hop_s is None else as_samples("hop_s", hop_s, rate)
    if window > feature_extractor.max_samples:
        raise ValueError(
            f"window_s={window_s} is longer than the extractor's max_length of {feature_extractor.max_length} frames "
            f"({feature_extractor.max_samples / rate:.4g} s), to which it cuts; take a shorter one, or load both the "
            "model and the extractor with a larger max_length."
        )
    result_device, waveform = waveform.device, _on(model, waveform)
    with running(model, dtype):
        if waveform.shape[1] <= window:
            pieces = [embed(_features(feature_extractor, clips, model)) for clips in waveform.split(batch_size)]
            return torch.cat(pieces).to(result_device)
        of_windows = _of_all_windows(
            lambda clips, centres: embed(
                _features(feature_extractor, _reflected_windows(waveform, clips, centres, window), model)
            ),
            waveform,
            hop,
            batch_size,
            num_centred_windows(waveform.shape[1], hop),
        )
        return of_windows.mean(dim=1).to(result_device)


@torch.no_grad()
def timestamp_embeddings(
    model: PreTrainedModel,
    feature_extractor: SpectrogramFeatureExtractor,
    waveform: Tensor | np.ndarray,
    *,
    mode: EmbeddingMode = "features",
    window_s: float | Sequence[float] = 0.16,
    hop_s: float = 0.05,
    num_mel_frames: int = 0,
    device: Device | None = None,
    dtype: str | torch.dtype | None = None,
    batch_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Embeddings of the moments of a recording: one for the window around every multiple of `hop_s`.

    The recording is reflected at its ends; zeros behind it continue one that is not longer than half of the longest
    window. Windows are not padded to the extractor's `max_length`, only to one patch.

    Args:
        model, feature_extractor, waveform, mode: As in `scene_embeddings`.
        window_s: Length of a window, in seconds; the embeddings of several lengths are concatenated.
        hop_s: Seconds between windows.
        num_mel_frames: Append the spectrogram of a window of this many frames, mel bin by mel bin; 0 appends nothing.
            `HEAR_VARIANTS` has the combinations of `hear21passt`.
        device, dtype: As in `scene_embeddings`.
        batch_size: Windows per forward pass; if None, 64 on a CPU, and 256 on an accelerator.

    Returns:
        Embeddings, float32 on the waveform's device, shape (B, K, D) with K = 1 + S // hop; and the timestamps in ms,
        shape (B, K).

    Raises:
        ValueError: Wrong shape, mode, window or hop, a feature extractor that is not one of ours, or a result that is
            NaN or infinite.
    """
    waveform = _as_batch(waveform)
    embed = _embedder(model, mode)
    _expect_own_front_end(model, feature_extractor)
    place(model, device)
    batch_size = default_batch_size(model.device, MOMENTS_ON_CPU) if batch_size is None else batch_size
    place(model, device)
    batch_size = default_batch_size(model.device, MOMENTS_ON_CPU) if batch_size is None else batch_size
    rate = feature_extractor.sampling_rate
    hop = as_samples("hop_s", hop_s, rate)
    lengths_s = (window_s,) if isinstance(window_s, int | float) else tuple(window_s)
    if not lengths_s:
        raise ValueError("window_s is empty; give at least one length.")
    windows = [as_samples("window_s", length_s, rate) for length_s in lengths_s]
    mel_window = feature_extractor.num_samples(num_mel_frames) if num_mel_frames else 0
    longest = max(*windows, mel_window)
    num_windows = num_centred_windows(waveform.shape[1], hop)
    missing = longest // 2 + 1 - waveform.shape[1]  # for the reflection
    waveform = torch.nn.functional.pad(waveform, (0, max(0, missing)))

    result_device, waveform = waveform.device, _on(model, waveform)

    def describe(clips: Tensor, centres: Tensor) -> Tensor:
        parts = [
            embed(
                _features(feature_extractor, _reflected_windows(waveform, clips, centres, window), model, padded=False)
            )
            for window in windows
        ]
        if mel_window:
            mel = _features(
                feature_extractor, _reflected_windows(waveform, clips, centres, mel_window), model, padded=False
            )
            parts.append(mel["input_values"][:, :num_mel_frames].mT.flatten(1))
        return torch.cat(parts, dim=1)

    with running(model, dtype):
        embeddings = _of_all_windows(describe, waveform, hop, batch_size, num_windows).to(result_device)
    timestamps = torch.arange(embeddings.shape[1], device=result_device) * (1000.0 * hop / rate)
    return embeddings, timestamps.expand(len(waveform), -1)


def _of_all_windows(
    describe: Callable[[Tensor, Tensor], Tensor], waveform: Tensor, hop: int, batch_size: int, num_windows: int
) -> Tensor:
    """Apply a function from recordings (n,) and central samples (n,) to vectors (n, D) to all windows: (B, K, D)."""
    result = torch.empty(0)
    start = 0
    for clips, centres in _batches(waveform, hop, batch_size, num_windows):
        vectors = describe(clips, centres)
        if start == 0:  # filled in place, because pieces and their concatenation would take twice the memory
            result = torch.empty(len(waveform) * num_windows, vectors.shape[1], device=waveform.device)
        result[start : start + len(vectors)] = vectors
        start += len(vectors)
    return result.unflatten(0, (len(waveform), num_windows))


def _embedder(model: PreTrainedModel, mode: EmbeddingMode) -> Callable[[BatchFeature], Tensor]:
    """A function from model inputs to embeddings (B, D), float32."""
    expect_one_of(EmbeddingMode, mode=mode)
    classifier: Any = getattr(model, "classifier", None)
    if mode != "features" and classifier is None:
        raise ValueError(f"mode={mode!r} needs logits, but {type(model).__name__} has none; use mode='features'.")

    def embed(inputs: BatchFeature) -> Tensor:
        pooled = model.base_model(**inputs).pooler_output
        expect_finite_outputs(model, pooled)
        if mode == "features":
            return pooled.float()
        logits = classifier(pooled)
        return (logits if mode == "logits" else torch.cat((logits, pooled), dim=1)).float()

    return embed


def _expect_own_front_end(model: PreTrainedModel, feature_extractor: object) -> None:
    if not isinstance(feature_extractor, SpectrogramFeatureExtractor):
        raise ValueError(
            f"feature_extractor is a {type(feature_extractor).__name__}, but embeddings of a {type(model).__name__} "
            "need the one of ours that `hf_ast.load_encoder` gives with the model."
        )


def _features(
    feature_extractor: SpectrogramFeatureExtractor, waveform: Tensor, model: PreTrainedModel, *, padded: bool = True
) -> BatchFeature:
    """Model inputs for waveforms (B, S); if not `padded`, only up to one patch, the shortest input of a model."""
    settings: dict[str, Any] = {} if padded else {"padding": "longest", "truncation": False}
    clips = list(waveform)  # a list, because a batch of tiny clips looks like one clip of channels
    inputs = feature_extractor(clips, feature_extractor.sampling_rate, return_tensors="pt", **settings)
    if not padded and inputs["attention_mask"].all():  # attention without a mask takes the faster kernels
        del inputs["attention_mask"]
    return inputs


def _batches(waveform: Tensor, hop: int, batch_size: int, num_windows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The recording (n,) and the central sample (n,) of every window, recording by recording, in batches."""
    for windows in torch.arange(len(waveform) * num_windows, device=waveform.device).split(batch_size):
        yield windows // num_windows, windows % num_windows * hop


def _reflected_windows(waveform: Tensor, clips: Tensor, centres: Tensor, window: int) -> Tensor:
    """Windows (n, window) of the recordings, which are reflected at their ends."""
    last = waveform.shape[1] - 1
    samples = centres.unsqueeze(1) - window // 2 + torch.arange(window, device=waveform.device)
    return waveform[clips.unsqueeze(1), last - (last - samples.abs()).abs()]


def _on(model: PreTrainedModel, waveform: Tensor) -> Tensor:
    """The waveform where the model is: once, and not window by window; whole numbers stay, and are refused later."""
    return waveform.to(model.device, torch.float32) if waveform.is_floating_point() else waveform.to(model.device)


def _as_batch(waveform: Tensor | np.ndarray) -> Tensor:
    waveform = torch.as_tensor(waveform)
    if waveform.ndim not in (1, 2) or waveform.numel() == 0:
        raise ValueError(
            f"waveform has shape {tuple(waveform.shape)}, but must be (samples,) or (recordings, samples); mix stereo "
            "down with `waveform.mean(axis)` over the channel axis."
        )
    return waveform.unsqueeze(0) if waveform.ndim == 1 else waveform
