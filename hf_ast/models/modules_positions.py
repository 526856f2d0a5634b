"""Position tables over the patch grid: the positions of a clip of any length, and the resizing of a table."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

POSITION_CROPS = ("start", "center", "random")
POSITION_OVERFLOWS = ("error", "interpolate", "crop")
POSITION_KINDS = ("joint", "ssast", "factorised")


def grid_shape(
    num_mel_bins: int, num_frames: int, patch_size: tuple[int, int], stride: tuple[int, int]
) -> tuple[int, int]:
    """Rows and columns (F', T') of the patches that fit into a spectrogram; pairs are (mel bins, frames)."""
    rows, columns = (
        (size - patch) // step + 1
        for size, patch, step in zip((num_mel_bins, num_frames), patch_size, stride, strict=True)
    )
    return rows, columns


def position_grid(
    position_table: str, num_mel_bins: int, max_length: int, patch_size: tuple[int, int], stride: tuple[int, int]
) -> tuple[int, int]:
    """Rows and columns of the position table for clips of up to `max_length` frames.

    The table has the shape of the patch grid, except that PaSST's time table has `max_length // time_stride` columns,
    as in the official code (models/passt.py:311). With overlapping patches that may be one more than the clip has.
    """
    if position_table not in POSITION_KINDS:
        raise ValueError(f"position_table={position_table!r} is unknown; choose one of {POSITION_KINDS}.")
    rows, columns = grid_shape(num_mel_bins, max_length, patch_size, stride)
    return rows, max(columns, max_length // stride[1]) if position_table == "factorised" else columns


def select_columns(
    table: Tensor, num_columns: int, *, crop: str = "start", column_mask: Tensor | None = None
) -> Tensor:
    """Positions for clips up to the length of the table, or for longer ones by interpolation.

    A clip that is not longer than the table uses a run of its columns: the first ones, or the middle ones
    (`crop="center"`, the official fine-tuning cut, start = W // 2 - n // 2). A longer clip uses the table
    stretched to its length, linearly in time with torch's `align_corners=False` sampling.

    Args:
        table: Positions, shape (1, R, W, D): W columns in time.
        num_columns: Columns of the batch's patch grid, T'.
        crop: "start" or "center".
        column_mask: True for columns that are not padding, at least one per clip, shape (B, T'). Each clip then gets
            the positions that it would get alone, counted from its first real column. None if all are real.

    Returns:
        Positions, shape (1, R, T', D), or (B, R, T', D) with a mask.
    """
    width = table.shape[2]
    if column_mask is None:
        if num_columns > width:
            return stretch_axis(table, 2, num_columns)
        start = 0 if crop == "start" else width // 2 - num_columns // 2
        if torch.compiler.is_exporting():  # a slice that happens to be the whole table would fix its length
            return table.index_select(2, start + torch.arange(num_columns, device=table.device))
        return table[:, :, start : start + num_columns]
    columns = torch.arange(num_columns, device=table.device) - column_mask.int().argmax(dim=1, keepdim=True)
    length = column_mask.sum(dim=1, keepdim=True)
    starts = torch.zeros_like(length) if crop == "start" else width // 2 - length // 2
    by_column = table[0].transpose(0, 1)  # (W, R, D)
    if num_columns <= width:
        return by_column[(starts + columns).clamp(0, width - 1)].transpose(1, 2)
    stretched = (columns + 0.5) * (width / length) - 0.5
    source = torch.where(length > width, stretched, starts + columns).clamp(0, width - 1)  # (B, T')
    left = source.long()
    right = (left + 1).clamp(max=width - 1)
    weight = (source - left).to(table.dtype)[..., None, None]
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
    # float32, because CPU kernels lack some half-precision dtypes, and positions are worth the precision
    channels_first = table.permute(0, 3, 1, 2).float()
    resized = nn.functional.interpolate(channels_first, size=(rows, columns), mode="bilinear", align_corners=False)
    return resized.permute(0, 2, 3, 1).to(table.dtype)


class PositionTable(nn.Module):
    """Base class of the position tables that the embeddings use.

    Args:
        hidden_size: D.
        grid: Rows and columns. Kept as plain numbers: sharded parameters have no shape outside their own forward pass.
    """

    def __init__(self, hidden_size: int, grid: tuple[int, int]):
        super().__init__()
        self.hidden_size = hidden_size
        self.grid = grid

    @property
    def num_columns(self) -> int:
        """Columns in time that the table holds."""
        return self.grid[1]

    def initialize(self, std: float) -> None:
        """Initialise the positions."""
        for parameter in self.parameters(recurse=False):
            nn.init.trunc_normal_(parameter, std=std)

    def forward(self, num_columns: int, *, crop: str = "start", column_mask: Tensor | None = None) -> Tensor:
        """Positions (1 or B, F', T', D) for a grid of `num_columns`; the arguments are those of `select_columns`."""
        raise NotImplementedError

    @torch.no_grad()
    def resize(self, grid: tuple[int, int]) -> None:
        """Change the table to another grid (rows, columns), by the official rule of its kind."""
        for name, parameter in list(self.named_parameters(recurse=False)):
            # A copy, because the old parameter may lose its memory (DeepSpeed ZeRO-3)
            resized = self._resized(name, parameter, grid).clone(memory_format=torch.contiguous_format)
            setattr(self, name, nn.Parameter(resized, requires_grad=parameter.requires_grad))
        self.grid = grid

    def _resized(self, name: str, table: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the parameter of that name, resized to another grid."""
        raise NotImplementedError


class JointPositionTable(PositionTable):
    """One learned vector per cell of the patch grid, resized by the rule of AST's official fine-tuning code."""

    def __init__(self, hidden_size: int, grid: tuple[int, int]):
        super().__init__(hidden_size, grid)
        self.table = nn.Parameter(torch.zeros(1, *grid, hidden_size))

    def forward(self, num_columns: int, *, crop: str = "start", column_mask: Tensor | None = None) -> Tensor:
        """Positions (1 or B, F', T', D); see `PositionTable`."""
        return select_columns(self.table, num_columns, crop=crop, column_mask=column_mask)

    def _resized(self, name: str, table: Tensor, grid: tuple[int, int]) -> Tensor:
        # Time first, then frequency, as in the official code (ast_models.py:130-145)
        return resize_axis(resize_axis(table, 2, grid[1]), 1, grid[0])


class SSASTPositionTable(JointPositionTable):
    """A joint table that is resized by the rule of SSAST's official fine-tuning code (ast_models.py:192-202)."""

    def _resized(self, name: str, table: Tensor, grid: tuple[int, int]) -> Tensor:
        rows, columns = grid
        old_rows, old_columns = self.grid
        if columns < old_columns or rows < old_rows:
            table = resize_axis(table, 2, columns)
        else:
            # The official code assumes 8 rows; a table of another height is first resized to them
            table = stretch(table, 8, columns)
        # Where there are fewer rows than before, the official code cuts a wrong range, and fails unless that happens
        # to fit. This cuts the middle, as on the time axis, and equals the official result where that exists.
        return resize_axis(table, 1, rows) if rows < old_rows else stretch(table, rows, columns)


class FactorisedPositionTable(PositionTable):
    """One vector per row of the patch grid plus one per column (PaSST).

    There is no official rule for `resize`: the official code opens a checkpoint only with its own geometry. Fewer
    columns are the first ones, which a shorter clip uses anyway; more columns, and any other number of rows, are
    interpolated linearly.
    """

    def __init__(self, hidden_size: int, grid: tuple[int, int]):
        super().__init__(hidden_size, grid)
        num_rows, num_columns = grid
        self.frequency_table = nn.Parameter(torch.zeros(1, num_rows, 1, hidden_size))
        self.time_table = nn.Parameter(torch.zeros(1, 1, num_columns, hidden_size))

    def forward(self, num_columns: int, *, crop: str = "start", column_mask: Tensor | None = None) -> Tensor:
        """Positions (1 or B, F', T', D); see `PositionTable`."""
        columns = select_columns(self.time_table, num_columns, crop=crop, column_mask=column_mask)
        return self.frequency_table + columns

    def _resized(self, name: str, table: Tensor, grid: tuple[int, int]) -> Tensor:
        num_rows, num_columns = grid
        if name == "frequency_table":
            return stretch_axis(table, 1, num_rows)
        return stretch_axis(table, 2, max(num_columns, self.num_columns))[:, :, :num_columns]


POSITION_TABLES: dict[str, Callable[[int, tuple[int, int]], PositionTable]] = dict(
    zip(POSITION_KINDS, (JointPositionTable, SSASTPositionTable, FactorisedPositionTable), strict=True)
)
