"""Where in a spectrogram a model looks. Needs the extra `plot` (matplotlib)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_ast.inference.evaluating import evaluating
from hf_ast.inference.tagging import apply_activation, label_names, top_tags
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.models.modeling_common import SpectrogramForAudioFrameClassification
from hf_ast.models.modules_pooling import pool_tokens

from .spectrogram import LEVELS, decibels, energies
from .style import VALUE, clip_of, draw_spectrogram, frame_edges, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Share of the attention that the contour in the spectrogram encloses
ENCLOSED_SHARE = 0.25
PADDING = "0.85"


class PatchAttention(NamedTuple):
    """Attention to each patch (F', T'), which sums to one, and the model's top answer, if it has a classifier."""

    shares: Tensor
    answer: str | None


def plot_attention(
    model: PreTrainedModel,
    feature_extractor: SpectrogramFeatureExtractor,
    input_values: Tensor,
    *,
    duration_s: float | None = None,
    start_s: float = 0.0,
    title: str | None = None,
) -> "Figure":
    """Plot a spectrogram with the places that the model's output draws on, by attention rollout.

    The upper panel has the spectrogram, and a line around the points with the most attention, which together hold
    a quarter of it. The lower one has the attention itself, as a multiple of what each patch would get if the model
    attended to all of them alike; where patches overlap, the mean over them.

    Args:
        model: An AST, SSAST or PaSST, with a classifier or without one; it runs in eval mode.
        feature_extractor: Its feature extractor.
        input_values: Model input of one clip, shape (T, M) or (1, T, M), padded as the model is used.
        duration_s: Length of the recording, in seconds. If padding follows, its start is marked, and it is grey in the
            spectrogram. There is no padding if None.
        start_s: Time of the start of the clip in the recording.
        title: Above the figure; what it shows if None.

    Returns:
        A matplotlib figure; `figure.savefig("attention.png")` writes it.
    """
    clip = clip_of(feature_extractor, input_values)
    attention = patch_attention(model, input_values.reshape(clip.shape))  # as given, on its device
    config: Any = model.config
    relative = over_spectrogram(attention.shares, config.patch_sides, config.strides, (clip.shape[1], len(clip)))
    figure = new_figure(9, 6)
    upper, lower = figure.subplots(2, sharex=True, sharey=True)
    level_db = _levels(feature_extractor, clip, duration_s)
    sound = draw_spectrogram(upper, feature_extractor, level_db, start_s=start_s, limits=LEVELS)
    image = draw_spectrogram(lower, feature_extractor, relative.T, start_s=start_s, colours=VALUE)
    _draw_contour(upper, relative, enclosing_level(relative), sound.get_extent())
    upper.set_xlabel("")
    edge_s = frame_edges(feature_extractor, len(clip), start_s)[1]
    if duration_s is not None and start_s + duration_s < edge_s:
        upper.axvspan(start_s + duration_s, edge_s, color=PADDING)  # it is not sound, whatever its level
        for axes in (upper, lower):
            axes.axvline(start_s + duration_s, color="white", linestyle="--", linewidth=1.5)
            axes.axvline(start_s + duration_s, color="black", linestyle=":", linewidth=1.5)
        lower.set_xlabel(f"{lower.get_xlabel()}; dashed: the end of the recording, before padding (grey above)")
    answer = "" if attention.answer is None else f" when it answers {attention.answer}"
    set_title(
        upper,
        title or f"Where the model looks{answer}",
        f"Outlined: the points with the most attention, which hold {ENCLOSED_SHARE:.0%} of it",
    )
    num_layers, pooling = config.num_hidden_layers, POOLING_NAMES[config.pooling]
    set_title(lower, f"Attention rollout over {num_layers} layers, from {pooling}")
    figure.colorbar(sound, ax=upper, label="energy in dB, relative\nto the loudest", extend="min", pad=0.01)
    figure.colorbar(image, ax=lower, label="attention\n(1: even attention)", pad=0.01)
    return figure


POOLING_NAMES = {
    "prefix": "the mean of the prefix tokens",
    "cls": "the class token",
    "mean": "the mean of the patch tokens",
    "cells": "the mean of the cells",
}


@torch.no_grad()
def patch_attention(model: PreTrainedModel, clip: Tensor) -> PatchAttention:
    """Follow the attention from a model's pooled output back to the patches of its input.

    Args:
        model: See `plot_attention`. Its output is pooled from the prefix tokens, the first one or the patch tokens, as
            `config.pooling` says, and there the rollout begins.
        clip: Model input, shape (T, M).

    Returns:
        The rollout over the patches, without what ends in prefix tokens; and the top answer with its score.
    """
    backbone: Any = model.base_model
    with evaluating(model), _returning_attentions(model):
        output = backbone(clip[None].to(model.device, model.dtype), output_attentions=True)
    num_tokens, num_prefix_tokens = output.last_hidden_state.shape[1], backbone.embeddings.num_prefix_tokens
    # Pooling is linear in the tokens, so pooling the unit vectors gives their weights
    tokens = torch.eye(num_tokens, device=model.device)[None]
    weights = pool_tokens(tokens, model.config.pooling, num_prefix_tokens, num_cells=model.config.num_cells)
    rollout = attention_rollout(output.attentions, weights[:, None])[0, 0, num_prefix_tokens:].cpu()
    shares = rollout.view(backbone.embeddings.num_rows, -1) / rollout.sum()
    classifier: Any = getattr(model, "classifier", None)
    if classifier is None or isinstance(model, SpectrogramForAudioFrameClassification):
        return PatchAttention(shares, None)
    scores = apply_activation(classifier(output.pooler_output).float(), model.config.problem_type)[0].cpu()
    label, score = top_tags(scores, label_names(model), 1)[0]
    return PatchAttention(shares, f'"{label}" ({score:.2f})')


def attention_rollout(attentions: Sequence[Tensor], start: Tensor | None = None) -> Tensor:
    """Follow attention through all layers, as Abnar and Zuidema 2020 do (https://arxiv.org/abs/2005.00928).

    The heads of a layer are averaged. Half of what a token becomes is taken to be the token itself, because of the
    residual connection: (A + 1) / 2, with rows that sum to one. The layers are multiplied, the last one first.

    Args:
        attentions: Attention weights of each layer, the first layer first, each of shape (B, heads, N, N).
        start: Where to begin: shares of the tokens of the last layer, shape (B, Q, N). Each token by itself if None.

    Returns:
        Shares of the tokens of the input, shape (B, Q, N), or (B, N, N). Rows keep the sums that they began with.
    """
    for attention in reversed(attentions):
        mean = attention.float().mean(dim=1)
        step = 0.5 * mean + 0.5 * torch.eye(mean.shape[-1], device=mean.device)
        step = step / step.sum(dim=-1, keepdim=True)
        start = step if start is None else start @ step
    if start is None:
        raise ValueError("attentions is empty; pass the attention weights of at least one layer.")
    return start


def over_spectrogram(
    shares: Tensor, patch_size: tuple[int, int], strides: tuple[int, int], shape: tuple[int, int]
) -> Tensor:
    """Attention at each point of a spectrogram, relative to even attention.

    Args:
        shares: Attention to each patch, which sums to one, shape (F', T').
        patch_size: Height and width of a patch (mel bins, frames).
        strides: Distance between patches (mel bins, frames).
        shape: Shape of the spectrogram (mel bins, frames).

    Returns:
        The mean over the patches that cover the point, times the number of patches in the grid, shape (M, T); 1 is
        even attention, and points without a patch are NaN.
    """
    kernel = torch.ones(1, 1, *patch_size)

    def spread(grid: Tensor) -> Tensor:
        return torch.nn.functional.conv_transpose2d(grid[None, None], kernel, stride=strides)[0, 0]

    covered = spread(shares * shares.numel()) / spread(torch.ones_like(shares))  # 0 / 0 between patches is NaN
    result = torch.full(shape, torch.nan)
    result[: covered.shape[0], : covered.shape[1]] = covered
    return result


def enclosing_level(attention: Tensor, share: float = ENCLOSED_SHARE) -> float:
    """Return the smallest value among the largest ones of a map, NaN aside, that together hold `share` of its sum."""
    ordered = attention[~attention.isnan()].double().sort(descending=True).values
    needed = int((ordered.cumsum(0) < share * ordered.sum()).sum())
    return ordered[min(needed, len(ordered) - 1)].item()


def _levels(feature_extractor: SpectrogramFeatureExtractor, clip: Tensor, duration_s: float | None) -> Tensor:
    """Decibels (T, M) relative to the loudest point of the recording; NaN in the padding, which has no energy.

    The value that the official code pads with would be louder than most recordings.
    """
    level = energies(feature_extractor, clip).clone()
    if duration_s is not None:
        shift_s = feature_extractor.frame_shift / feature_extractor.sampling_rate
        centres_s = feature_extractor.first_frame_s + shift_s * torch.arange(len(clip))
        level[1:][centres_s[1:] > duration_s] = torch.nan  # the first frame holds sound, however short it is
    return decibels(level)


def _draw_contour(axes: Any, relative: Tensor, level: float, extent: Sequence[float]) -> None:
    """Outline the points of a map (M, T) that reach a level."""
    # One row and column more on each side, so that lines close at the edges of the spectrogram
    inside = torch.nn.functional.pad((relative >= level * (1 - 1e-6)).float(), (1, 1, 1, 1))
    num_bins, num_frames = relative.shape
    width = (extent[1] - extent[0]) / num_frames
    times = extent[0] + width * (torch.arange(-1, num_frames + 1) + 0.5)
    for colour, line_width in (("black", 2.5), ("white", 1.2)):
        axes.contour(
            times.numpy(), torch.arange(-1, num_bins + 1).numpy(), inside.numpy(), [0.5], colors=colour,
            linewidths=line_width,
        )  # fmt: skip
    axes.set(xlim=extent[:2], ylim=extent[2:])  # which the contour has widened


@contextmanager
def _returning_attentions(model: PreTrainedModel) -> Iterator[None]:
    """Let the model temporarily compute attention by the function that returns its weights."""
    previous = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(previous)
