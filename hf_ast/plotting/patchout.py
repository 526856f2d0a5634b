"""What patchout leaves of a spectrogram. Needs the extra `plot` (matplotlib)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hf_ast.models.configuration_common import SpectrogramConfig
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.models.modules_patchout import patchout_indices, random_permutations
from hf_ast.models.modules_positions import grid_shape

from .style import clip_of, draw_spectrogram, frame_edges, label_times, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_patchout(
    config: SpectrogramConfig,
    feature_extractor: SpectrogramFeatureExtractor,
    input_values: Tensor,
    *,
    generator: torch.Generator | None = None,
    start_s: float = 0.0,
    title: str | None = None,
) -> "Figure":
    """Plot what one draw of patchout leaves of a spectrogram, and the grid of its patches.

    In the upper panel, grey is what no remaining patch covers. In the lower one, each cell is a patch, white where it
    is dropped; the patches are drawn side by side, even where they overlap in the spectrogram.

    Args:
        config: Config of a model: patch size, strides, and the numbers of columns, rows and single patches to drop.
        feature_extractor: Its feature extractor.
        input_values: Model input of one clip, shape (T, M) or (1, T, M).
        generator: Source of the draw; the global one if None.
        start_s: Time of the start of the clip in the recording.
        title: Above the figure; the number of patches if None.

    Returns:
        A matplotlib figure; `figure.savefig("patchout.png")` writes it.

    Raises:
        ValueError: The config drops no patch, or a step would leave none.
    """
    clip = clip_of(feature_extractor, input_values)
    grid = grid_shape(clip.shape[1], len(clip), config.patch_sides, config.strides)
    numbers = {
        "time_patchout": config.time_patchout,
        "frequency_patchout": config.frequency_patchout,
        "unstructured_patchout": config.unstructured_patchout,
    }
    if not any(numbers.values()):
        raise ValueError(
            "config drops no patch: time_patchout, frequency_patchout and unstructured_patchout are 0; set at least "
            "one, such as the official time_patchout=40 and frequency_patchout=4 of PaSST with a stride of 10."
        )
    kept = kept_grid(patchout_indices(grid, random_permutations(1, generator), **numbers)[0], grid)
    is_seen = covered(kept, config.patch_sides, config.strides, (clip.shape[1], len(clip)))
    figure = new_figure(9, 6)
    upper, lower = figure.subplots(2)
    image = draw_spectrogram(upper, feature_extractor, clip.masked_fill(~is_seen.T, torch.nan), start_s=start_s)
    left, right = frame_edges(feature_extractor, (grid[1] - 1) * config.time_stride + config.patch_sides[1], start_s)
    num_rows = grid[0]
    lower.imshow(
        kept.numpy(), cmap="Greys", vmin=0, vmax=1.6, origin="lower", aspect="auto", interpolation="nearest",
        extent=(left, right, -0.5, num_rows - 0.5),
    )  # fmt: skip
    lower.set_yticks(range(0, num_rows, 1 + num_rows // 12))
    lower.set_ylabel("row of patches,\nlow to high frequency")
    label_times(lower, left, right)
    lower.set_xlabel(f"{lower.get_xlabel()}; {grid[1]} columns of patches")
    whole = (grid[1] - config.time_patchout) * (grid[0] - config.frequency_patchout)
    dropped = [
        f"{config.time_patchout} of {grid[1]} columns",
        f"{config.frequency_patchout} of {grid[0]} rows",
        f"{config.unstructured_patchout} of the other {whole}",
    ]
    shown = ", ".join(text for text, number in zip(dropped, numbers.values(), strict=True) if number)
    set_title(upper, title or f"What patchout leaves: {int(kept.sum())} of {kept.numel()} patches")
    set_title(lower, f"The patches; dropped (white): {shown}")
    figure.colorbar(image, ax=upper, label="normalised\nlog energy", pad=0.01)
    return figure


def kept_grid(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Row-major numbers of the patches that stay (K,) -> True where a patch stays, shape (F', T')."""
    kept = torch.zeros(grid[0] * grid[1], dtype=torch.bool)
    kept[patches] = True
    return kept.view(grid)


def covered(kept: Tensor, patch_size: tuple[int, int], strides: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """Points of a spectrogram that lie in at least one patch that stays.

    Args:
        kept: True where a patch stays, shape (F', T').
        patch_size, strides: Size of the patches, and distance between them (mel bins, frames).
        shape: Shape of the spectrogram (mel bins, frames).

    Returns:
        Boolean, shape (M, T).
    """
    kernel = torch.ones(1, 1, *patch_size)
    counts = torch.nn.functional.conv_transpose2d(kept.float()[None, None], kernel, stride=strides)[0, 0]
    seen = torch.zeros(shape, dtype=torch.bool)
    seen[: counts.shape[0], : counts.shape[1]] = counts > 0.5
    return seen
