"""Position tables over the patch grid: what a clip of any length uses of one, and how one is resized for good."""

import torch
from torch import Tensor, nn

POSITION_CROPS = ("start", "center", "random")
POSITION_OVERFLOWS = ("error", "interpolate", "crop")


def select_columns(
    table: Tensor, num_columns: int, *, crop: str = "start", real_columns: Tensor | None = None
) -> Tensor:
    """Positions for clips of at most, or by interpolation more than, the table's own length.

    A clip that is not longer than the table uses a run of its columns: the first ones, or the middle ones
    (`crop="center"`, the official fine-tuning cut, start = W // 2 - n // 2). A longer clip uses the table
    stretched to its length, linearly in time with torch's `align_corners=False` sampling.

    Args:
        table: Positions, shape (1, R, W, D): W columns in time.
        num_columns: Columns of the batch's patch grid, T'.
        crop: "start" or "center".
        real_columns: Columns that are not padding, per clip, shape (B,): each clip then gets the positions that it
            would get alone. None if all have `num_columns`.

    Returns:
        Positions, shape (1, R, T', D), or (B, R, T', D) where the clips differ.
    """
    width = table.shape[2]
    if num_columns <= width:
        if crop == "start":
            return table[:, :, :num_columns]
        if real_columns is None:
            start = width // 2 - num_columns // 2
            return table[:, :, start : start + num_columns]
    elif real_columns is None:
        return stretch_axis(table, 2, num_columns)
    columns = torch.arange(num_columns, device=table.device)
    length = real_columns.unsqueeze(1)
    starts = torch.zeros_like(length) if crop == "start" else width // 2 - length // 2
    stretched = (columns + 0.5) * (width / length) - 0.5
    source = torch.where(length > width, stretched, starts + columns).clamp(0, width - 1)  # (B, T')
    left = source.long()
    right = (left + 1).clamp(max=width - 1)
    weight = (source - left).to(table.dtype)[..., None, None]
    by_column = table[0].transpose(0, 1)  # (W, R, D)
    return torch.lerp(by_column[left], by_column[right], weight).transpose(1, 2)


def resize_axis(table: Tensor, axis: int, size: int) -> Tensor:
    """Cut the middle out of one axis of a (1, R, W, D) table, or stretch it bilinearly if `size` is larger.

    The rule of the official fine-tuning code: AST src/models/ast_models.py:130-145, SSAST likewise.
    """
    old = table.shape[axis]
    if size < old:
        return table.narrow(axis, old // 2 - size // 2, size)
    return stretch_axis(table, axis, size)


def stretch_axis(table: Tensor, axis: int, size: int) -> Tensor:
    """Interpolate one axis of a (1, R, W, D) table linearly to another size."""
    rows, columns = (size if a == axis else table.shape[a] for a in (1, 2))
    return stretch(table, rows, columns)


def stretch(table: Tensor, rows: int, columns: int) -> Tensor:
    """Resample a (1, R, W, D) table bilinearly to (1, rows, columns, D)."""
    if table.shape[1:3] == (rows, columns):
        return table
    # float32 because CPU kernels lack some half types, and positions are worth the precision
    channels_first = table.permute(0, 3, 1, 2).float()
    resized = nn.functional.interpolate(channels_first, size=(rows, columns), mode="bilinear", align_corners=False)
    return resized.permute(0, 2, 3, 1).to(table.dtype)


class PositionTable(nn.Module):
    """What the embeddings need of a position table; each family has its own kind."""

    def initialize(self, std: float) -> None:
        """Draw new positions."""
        for parameter in self.parameters(recurse=False):
            nn.init.trunc_normal_(parameter, std=std)

    @property
    def num_columns(self) -> int:
        """Columns in time that the table holds."""
        raise NotImplementedError

    def forward(self, num_columns: int, *, crop: str = "start", real_columns: Tensor | None = None) -> Tensor:
        """Positions (1 or B, F', T', D) for a grid of `num_columns`; the arguments are `select_columns`'s."""
        raise NotImplementedError

    def resize(self, grid: tuple[int, int]) -> None:
        """Change the table itself to another grid (rows, columns), by the official rule of the family."""
        raise NotImplementedError


class JointPositionTable(PositionTable):
    """One learned vector per cell of the patch grid (AST, SSAST)."""

    def __init__(self, hidden_size: int, grid: tuple[int, int]):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, *grid, hidden_size))

    @property
    def num_columns(self) -> int:
        """Columns in time."""
        return self.table.shape[2]

    def forward(self, num_columns: int, *, crop: str = "start", real_columns: Tensor | None = None) -> Tensor:
        """Positions (1 or B, F', T', D); see `PositionTable`."""
        return select_columns(self.table, num_columns, crop=crop, real_columns=real_columns)

    @torch.no_grad()
    def resize(self, grid: tuple[int, int]) -> None:
        """See `PositionTable`. Time first, then frequency, as the official code."""
        table = resize_axis(resize_axis(self.table, 2, grid[1]), 1, grid[0])
        self.table = nn.Parameter(table.contiguous(), requires_grad=self.table.requires_grad)


class SSASTPositionTable(JointPositionTable):
    """A table that is resized by the rule of SSAST's official fine-tuning code (ast_models.py:192-202)."""

    @torch.no_grad()
    def resize(self, grid: tuple[int, int]) -> None:
        """See the class."""
        rows, columns = grid
        fewer_rows = rows < self.table.shape[1]
        table: Tensor = self.table
        if columns < self.num_columns or fewer_rows:
            table = resize_axis(table, 2, columns)
        else:
            # The official code takes 8 rows for granted; a table of another height makes a detour over them
            table = stretch(table, 8, columns)
        # Where rows get fewer, the official code cuts a wrong range, and fails unless it happens to fit. This is the
        # middle, as on the time axis, and what it gives where it works.
        table = resize_axis(table, 1, rows) if fewer_rows else stretch(table, rows, columns)
        self.table = nn.Parameter(table.contiguous(), requires_grad=self.table.requires_grad)


class FactorisedPositionTable(PositionTable):
    """One vector per row of the patch grid plus one per column (PaSST).

    `resize` has no official rule to follow: the official code opens a checkpoint only with its own geometry. Fewer
    columns are the first ones, which a shorter clip uses anyway; more columns, and any other number of rows, are
    interpolated linearly.
    """

    def __init__(self, hidden_size: int, grid: tuple[int, int]):
        super().__init__()
        num_rows, num_columns = grid
        self.frequency_table = nn.Parameter(torch.zeros(1, num_rows, 1, hidden_size))
        self.time_table = nn.Parameter(torch.zeros(1, 1, num_columns, hidden_size))

    @property
    def num_columns(self) -> int:
        """Columns in time."""
        return self.time_table.shape[2]

    def forward(self, num_columns: int, *, crop: str = "start", real_columns: Tensor | None = None) -> Tensor:
        """Positions (1 or B, F', T', D); see `PositionTable`."""
        columns = select_columns(self.time_table, num_columns, crop=crop, real_columns=real_columns)
        return self.frequency_table + columns

    @torch.no_grad()
    def resize(self, grid: tuple[int, int]) -> None:
        """See the class."""
        num_rows, num_columns = grid
        rows = stretch_axis(self.frequency_table, 1, num_rows)
        columns = stretch_axis(self.time_table, 2, max(num_columns, self.num_columns))[:, :, :num_columns]
        self.frequency_table = nn.Parameter(rows.contiguous(), requires_grad=self.frequency_table.requires_grad)
        self.time_table = nn.Parameter(columns.contiguous(), requires_grad=self.time_table.requires_grad)


def factorised_grid(grid: tuple[int, int], max_length: int, time_stride: int) -> tuple[int, int]:
    """Rows and columns of a factorised table for the patch grid of a clip of `max_length` frames.

    As in the official code the time table has `max_length // time_stride` columns (PaSST models/passt.py:311). With
    overlapping patches that may be one more than such a clip has.
    """
    num_rows, num_columns = grid
    return num_rows, max(num_columns, max_length // time_stride)
