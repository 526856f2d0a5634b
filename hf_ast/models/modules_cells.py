"""From the patch tokens of a clip to cells of time."""

from typing import NamedTuple

import torch
from torch import Tensor


class Cells(NamedTuple):
    """Consecutive cells of equal length that tile a clip.

    Attributes:
        tokens: Shape (B, K, D).
        mask: True for cells that lie in the clip and have a token, shape (B, K); None if all do.
    """

    tokens: Tensor
    mask: Tensor | None


def cells_of_columns(
    patches: Tensor, num_rows: int, column_mask: Tensor | None, kept: Tensor | None, num_columns: int
) -> Cells:
    """One cell per column of the patch grid: the mean of the column's tokens.

    Args:
        patches: Normalised patch tokens, row by row, shape (B, N - P, D).
        num_rows: Rows of the patch grid, F'.
        column_mask: True for real columns, shape (B, T'); None if all are.
        kept: Row-major numbers of the patches that patchout left, shape (1 or B, N - P); None if all are there. A
            column of which none is left has no token.
        num_columns: Columns of the patch grid, T'.
    """
    if kept is None:
        # Not `reshape`, which would fix the batch size of exported graphs
        rows = [patches[:, row * num_columns : (row + 1) * num_columns] for row in range(num_rows)]
        return Cells(torch.stack(rows, dim=1).mean(dim=1), column_mask)
    columns = (kept % num_columns).expand(len(patches), -1)
    counts = torch.zeros(len(patches), num_columns, dtype=patches.dtype, device=patches.device)
    counts = counts.scatter_add(1, columns, torch.ones_like(columns, dtype=patches.dtype))
    sums = patches.new_zeros(len(patches), num_columns, patches.shape[2])
    sums = sums.scatter_add(1, columns.unsqueeze(2).expand_as(patches), patches)
    has_token = counts > 0
    return Cells(
        sums / counts.clamp(min=1).unsqueeze(2), has_token if column_mask is None else has_token & column_mask
    )


def resample_cells(tokens: Tensor, num_cells: int, mask: Tensor | None = None) -> Tensor:
    """Bring the tokens of each clip to a fixed number of cells, as fPaSST does (prediction_wrapper.py:184-188).

    Fewer tokens are interpolated linearly (half-pixel centres), more are averaged over adaptive windows.

    Args:
        tokens: Shape (B, K, D).
        num_cells: Cells that every clip gets.
        mask: True for real tokens, which come first in each clip, shape (B, K); None if all are real.

    Returns:
        Shape (B, num_cells, D): each clip as it would be alone.
    """
    places = torch.arange(tokens.shape[1], device=tokens.device)  # (K,)
    if mask is None:
        lengths = torch.full((1, 1, 1), tokens.shape[1], device=tokens.device)
    else:
        lengths = mask.sum(dim=1)[:, None, None]  # (B, 1, 1)
        tokens = tokens.where(mask.unsqueeze(2), 0.0)
    cells = torch.arange(num_cells, device=tokens.device)[:, None]  # (num_cells, 1)
    # From whole numbers, because the official places are rounded to float32 only once
    source = (((2 * cells + 1) * lengths - num_cells) / (2 * num_cells)).clamp(min=0)
    interpolated = (1 - (torch.minimum(source, lengths - 1.0) - places).abs()).clamp(min=0)
    first, end = cells * lengths // num_cells, -(-(cells + 1) * lengths // num_cells)
    averaged = ((places >= first) & (places < end)) / (end - first)
    weights = torch.where(lengths > num_cells, averaged, interpolated)  # (1 or B, num_cells, K)
    # Not `@`, which would fix the batch size of exported graphs
    return torch.bmm(weights.to(tokens.dtype).expand(tokens.shape[0], -1, -1), tokens)


def cell_edges_s(num_cells: int, *, cell_s: float, first_centre_s: float, duration_s: float) -> Tensor:
    """Edges of the cells of a clip in seconds, float64, shape (num_cells + 1,).

    A cell lies around the centre of its patch; the first and the last cell reach to the ends of the clip.

    Args:
        num_cells: K.
        cell_s: Distance between the centres of two cells.
        first_centre_s: Centre of the first patch in the clip.
        duration_s: Length of the clip.
    """
    inner = first_centre_s + cell_s * (torch.arange(1, num_cells, dtype=torch.float64) - 0.5)
    ends = torch.tensor([0.0, duration_s], dtype=torch.float64)
    return torch.cat((ends[:1], inner.clamp(0.0, duration_s), ends[1:]))
