"""How an SSAST reconstructs masked patches. Needs the extra `plot` (matplotlib)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hf_ast.inference.evaluating import evaluating
from hf_ast.models.modules_fbank import FRAME_SHIFT_S
from hf_ast.models.modules_masking import masked_grid
from hf_ast.models.modules_positions import grid_shape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hf_ast.models.modeling_ssast import SSASTForPreTraining


@torch.no_grad()
def plot_reconstruction(
    model: "SSASTForPreTraining",
    input_values: Tensor,
    *,
    mask_indices: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> "Figure":
    """Plot a spectrogram, the part of it that the model sees, and the model's reconstruction of the rest.

    Args:
        model: A pretraining model with the reconstruction objective.
        input_values: Normalised log-mel spectrogram of one clip, shape (T, M) or (1, T, M).
        mask_indices: Patches to mask, numbered row by row, shape (K,); drawn by the model's own sampler if None.
        generator: Source of randomness for the sampler.

    Returns:
        A matplotlib figure with three panels; `figure.savefig("reconstruction.png")` writes it.

    Raises:
        ValueError: The model has no reconstruction objective.
    """
    if model.objectives.reconstruction_head is None:
        raise ValueError(
            "model has no reconstruction objective (reconstruction_loss_weight is 0), so there is nothing to plot."
        )
    clip = input_values.reshape(-1, input_values.shape[-1])
    given = None if mask_indices is None else mask_indices[None]
    with evaluating(model):
        output = model(clip[None].to(model.device), mask_indices=given, generator=generator)

    height, width = model.objectives.patch_size
    rows, columns = grid_shape(clip.shape[1], len(clip), (height, width), (height, width))
    is_masked_patch = masked_grid(output.mask_indices, rows, columns)[0].cpu()
    is_masked = is_masked_patch.repeat_interleave(height, 0).repeat_interleave(width, 1)  # (mel bins, frames)
    original = clip.T[: is_masked.shape[0], : is_masked.shape[1]].float().cpu()
    rebuilt = fill_patches(original, output.mask_indices[0], output.reconstructions[0], (height, width))
    panels = {"Spectrogram": original, "What the model sees": original.masked_fill(is_masked, torch.nan)}
    error = output.reconstruction_loss.item()
    return _stacked({**panels, f"Masked patches reconstructed, mean squared error {error:.3f}": rebuilt})


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


def _stacked(panels: dict[str, Tensor]) -> "Figure":
    """Plot spectrograms (M, T) one above the other, with common axes and colours; NaN is grey."""
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Figures need matplotlib: pip install "hf-ast[plot]"') from error
    first = next(iter(panels.values()))
    num_mel_bins, num_frames = first.shape
    figure = Figure(figsize=(8, 2 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), sharex=True, sharey=True)
    colours = colormaps["magma"].with_extremes(bad="0.6")
    for axis, (title, spectrogram) in zip(axes, panels.items(), strict=True):
        image = axis.imshow(
            spectrogram.numpy(),
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            extent=(0, num_frames * FRAME_SHIFT_S, 0, num_mel_bins),
            cmap=colours,
            vmin=first.min().item(),
            vmax=first.max().item(),
        )
        axis.set_title(title, loc="left", fontsize="medium")
        axis.set_ylabel("mel bin")
    axes[-1].set_xlabel("time in s")
    figure.colorbar(image, ax=axes, label="normalised log energy", shrink=0.6)
    return figure
