"""How an SSAST reconstructs masked patches. Needs the extra `plot` (matplotlib)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hf_ast.inference.evaluating import evaluating
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.models.modules_masking import masked_grid
from hf_ast.models.modules_positions import grid_shape

from .style import clip_of, draw_spectrogram, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hf_ast.models.modeling_ssast import SSASTForPreTraining


@torch.no_grad()
def plot_reconstruction(
    model: "SSASTForPreTraining",
    feature_extractor: SpectrogramFeatureExtractor,
    input_values: Tensor,
    *,
    mask_indices: Tensor | None = None,
    generator: torch.Generator | None = None,
    start_s: float = 0.0,
    title: str | None = None,
) -> "Figure":
    """Plot a spectrogram, the part of it that the model sees, and the model's reconstruction of the rest.

    Args:
        model: A pretraining model with the reconstruction objective; it runs in eval mode.
        feature_extractor: Its feature extractor.
        input_values: Normalised log-mel spectrogram of one clip, shape (T, M) or (1, T, M).
        mask_indices: Patches to mask, numbered row by row, shape (K,); drawn by the model's own sampler if None.
        generator: Source of randomness for the sampler.
        start_s: Time of the start of the clip in the recording.
        title: Above the figure; what it shows if None.

    Returns:
        A matplotlib figure with three panels; `figure.savefig("reconstruction.png")` writes it.

    Raises:
        ValueError: The model has no reconstruction objective.
    """
    if model.objectives.reconstruction_head is None:
        raise ValueError(
            "model has no reconstruction objective (reconstruction_loss_weight is 0), so there is nothing to plot."
        )
    clip = clip_of(feature_extractor, input_values)
    given = None if mask_indices is None else mask_indices[None]
    with evaluating(model):
        output = model(input_values.reshape(1, *clip.shape).to(model.device), mask_indices=given, generator=generator)

    height, width = model.objectives.patch_size
    rows, columns = grid_shape(clip.shape[1], len(clip), (height, width), (height, width))
    is_masked_patch = masked_grid(output.mask_indices, rows, columns)[0].cpu()
    is_masked = is_masked_patch.repeat_interleave(height, 0).repeat_interleave(width, 1)  # (mel bins, frames)
    original = clip.T[: is_masked.shape[0], : is_masked.shape[1]]
    rebuilt = fill_patches(original, output.mask_indices[0].cpu(), output.reconstructions[0].cpu(), (height, width))
    error = output.reconstruction_loss.item()
    panels = {
        title or "Spectrogram": original,
        f"What the model sees: {int((~is_masked_patch).sum())} of {is_masked_patch.numel()} patches; "
        "the others are masked (grey)": original.masked_fill(is_masked, torch.nan),
        f"Masked patches reconstructed, mean squared error {error:.3f}": rebuilt,
    }

    figure = new_figure(9, 7)
    axes = figure.subplots(len(panels), sharex=True, sharey=True)
    limits = (original.min().item(), original.max().item())  # the same colours in all panels
    for axis, (text, spectrogram) in zip(axes, panels.items(), strict=True):
        image = draw_spectrogram(axis, feature_extractor, spectrogram.T, start_s=start_s, limits=limits)
        axis.label_outer()
        set_title(axis, text)
    figure.colorbar(image, ax=axes, label="normalised log energy", shrink=0.6, pad=0.01)
    return figure


def fill_patches(spectrogram: Tensor, patch_indices: Tensor, values: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """Replace patches of a spectrogram.

    Args:
        spectrogram: Whole patches of M mel bins and T frames, shape (M, T).
        patch_indices: Patches to replace, numbered row by row, shape (K,); -1 for none.
        values: Values of these patches, mel bins by frames, flattened, shape (K, P).
        patch_size: Number of mel bins and frames of a patch.

    Returns:
        A copy with these patches replaced, shape (M, T).
    """
    height, width = patch_size
    grid = spectrogram.unflatten(1, (-1, width)).unflatten(0, (-1, height)).transpose(1, 2).clone()
    is_patch = patch_indices >= 0
    row, column = patch_indices[is_patch] // grid.shape[1], patch_indices[is_patch] % grid.shape[1]
    grid[row, column] = values[is_patch].unflatten(1, (height, width)).to(grid)
    return grid.transpose(1, 2).reshape(spectrogram.shape)
