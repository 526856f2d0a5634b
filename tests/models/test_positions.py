"""Position tables by hand: tables whose vectors tell where they come from."""

import pytest
import torch

from hf_ast.models.modules_positions import (
    FactorisedPositionTable,
    JointPositionTable,
    PositionTable,
    SSASTPositionTable,
    grid_shape,
    position_grid,
    resize_axis,
    select_columns,
    stretch,
)


def numbered(rows: int = 1, columns: int = 8) -> torch.Tensor:
    """A table (1, R, W, 1) that holds 100 * row + column."""
    return (100.0 * torch.arange(rows)[:, None] + torch.arange(columns))[None, ..., None]


def mask(*columns: str) -> torch.Tensor:
    """Clips as "011": a padded column, then two real ones."""
    return torch.tensor([[letter == "1" for letter in clip] for clip in columns])


def values(positions: torch.Tensor) -> list[list[float]]:
    """The first row of each clip."""
    return positions[:, 0, :, 0].tolist()


@pytest.mark.parametrize(
    ("size", "patch", "stride", "grid"),
    [
        ((128, 1024), (16, 16), (10, 10), (12, 101)),
        ((16, 17), (16, 16), (10, 1), (1, 2)),
        ((15, 16), (16, 16), (16, 16), (0, 1)),
        ((26, 25), (16, 16), (10, 10), (2, 1)),
    ],
)
def test_patches_that_fit(
    size: tuple[int, int], patch: tuple[int, int], stride: tuple[int, int], grid: tuple[int, int]
) -> None:
    assert grid_shape(*size, patch, stride) == grid


def test_grids_of_the_tables() -> None:
    arguments = (128, 998, (16, 16), (10, 10))
    assert position_grid("joint", *arguments) == position_grid("ssast", *arguments) == (12, 99)
    assert position_grid("factorised", *arguments) == (12, 99)  # 998 // 10, and 99 fit
    assert position_grid("factorised", 128, 1000, (16, 16), (10, 10)) == (12, 100)  # where 99 fit
    assert position_grid("factorised", 128, 64, (16, 2), (16, 1)) == (8, 64)
    assert position_grid("factorised", 128, 64, (16, 2), (16, 4)) == (8, 16)
    with pytest.raises(ValueError, match="position_table='sine' is unknown"):
        position_grid("sine", *arguments)


def test_a_run_of_the_table() -> None:
    assert values(select_columns(numbered(), 3)) == [[0, 1, 2]]
    assert values(select_columns(numbered(), 3, crop="center")) == [[3, 4, 5]]  # 8 // 2 - 3 // 2
    assert values(select_columns(numbered(columns=9), 4, crop="center")) == [[2, 3, 4, 5]]
    assert values(select_columns(numbered(), 8)) == values(select_columns(numbered(), 8, crop="center"))


def test_each_clip_has_the_positions_that_it_has_alone() -> None:
    clips = mask("1111", "1100", "0111", "0010")
    start = select_columns(numbered(2), 4, column_mask=clips)
    assert start.shape == (4, 2, 4, 1)
    assert values(start) == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 0, 1, 2], [0, 0, 0, 1]]
    torch.testing.assert_close(start[:, 1], start[:, 0] + 100)
    centre = select_columns(numbered(), 4, crop="center", column_mask=clips)
    assert values(centre) == [[2, 3, 4, 5], [3, 4, 5, 6], [2, 3, 4, 5], [2, 3, 4, 5]]


def test_padding_behind_the_table_takes_its_last_column() -> None:
    positions = select_columns(numbered(columns=4), 4, crop="center", column_mask=mask("1000"))
    assert values(positions) == [[2, 3, 3, 3]]


def test_clips_longer_than_the_table_are_interpolated_as_alone() -> None:
    """`align_corners=False`: the column i of n is at (i + 0.5) * width / n - 0.5."""
    clips = mask("11111111", "11111100", "00111111", "11110000", "00001111", "11000000")
    table = numbered(2, 4) ** 2  # squares, so that a weight of the wrong neighbour shows
    for crop, start in (("start", 0), ("center", 1)):
        positions = select_columns(table, 8, crop=crop, column_mask=clips)
        assert positions.shape == (6, 2, 8, 1)
        for i, length in enumerate((8, 6, 6, 4, 4)):
            first = int(clips[i].int().argmax())
            alone = select_columns(table, length, crop=crop)[0]
            torch.testing.assert_close(positions[i, :, first : first + length], alone)
        torch.testing.assert_close(positions[5, :, :2], table[0, :, start : start + 2])
    by_hand = torch.tensor([0, 0.25, 0.75, 1.75, 3.25, 5.25, 7.75, 9])  # of 0, 1, 4, 9 at -0.25, 0.25, ...
    torch.testing.assert_close(select_columns(table, 8)[0, 0, :, 0], by_hand)


def test_the_middle_of_an_axis_or_the_axis_stretched() -> None:
    table = numbered(5, 8)
    torch.testing.assert_close(resize_axis(table, 2, 3), table[:, :, 3:6], atol=0, rtol=0)
    torch.testing.assert_close(resize_axis(table, 1, 2), table[:, 1:3], atol=0, rtol=0)
    assert resize_axis(table, 1, 5) is table
    longer = resize_axis(table, 2, 16)
    assert longer.shape == (1, 5, 16, 1)
    torch.testing.assert_close(longer[0, :, 1:3, 0], 100.0 * torch.arange(5)[:, None] + torch.tensor([0.25, 0.75]))


def test_a_table_in_half_precision_is_interpolated_in_single() -> None:
    table = torch.randn(1, 3, 5, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    stretched = stretch(table, 4, 9)
    assert stretched.dtype == torch.bfloat16
    torch.testing.assert_close(stretched, stretch(table.float(), 4, 9).bfloat16(), atol=0, rtol=0)


def test_resizing_keeps_what_is_trained_and_what_is_not() -> None:
    table = JointPositionTable(1, (5, 8))
    table.table.data = numbered(5, 8)
    table.table.requires_grad_(False)
    table.resize((3, 4))
    assert table.grid == (3, 4)
    assert table.num_columns == 4
    torch.testing.assert_close(table.table.data, numbered(5, 8)[:, 1:4, 2:6], atol=0, rtol=0)
    assert not table.table.requires_grad
    assert table.table.is_contiguous()


def test_a_resized_joint_table_is_cut_in_time_before_it_is_stretched_in_frequency() -> None:
    table = JointPositionTable(1, (2, 8))
    table.table.data = numbered(2, 8)
    table.resize((4, 4))
    rows = torch.tensor([0.0, 25.0, 75.0, 100.0])
    torch.testing.assert_close(table.table.data[0, ..., 0], rows[:, None] + torch.arange(2.0, 6.0))


def test_factorised_tables() -> None:
    table = FactorisedPositionTable(1, (2, 4))
    assert table.frequency_table.shape == (1, 2, 1, 1)
    assert table.time_table.shape == (1, 1, 4, 1)
    table.frequency_table.data = torch.tensor([10.0, 20.0]).view(1, 2, 1, 1)
    table.time_table.data = torch.arange(4.0).view(1, 1, 4, 1)
    assert table(3)[0, ..., 0].tolist() == [[10, 11, 12], [20, 21, 22]]
    assert table(2, crop="center")[0, ..., 0].tolist() == [[11, 12], [21, 22]]
    alone = table(3, column_mask=mask("011"))[0, ..., 0]
    assert alone.tolist() == [[10, 10, 11], [20, 20, 21]]
    table.resize((4, 3))  # fewer columns are the first ones
    assert table.time_table.flatten().tolist() == [0, 1, 2]
    assert table.frequency_table.flatten().tolist() == [10, 12.5, 17.5, 20]
    table.resize((4, 6))
    assert table.time_table.flatten().tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2]
    assert table.grid == (4, 6)


def test_a_table_of_ssast_that_grows_passes_through_8_rows() -> None:
    """Also where only one axis grows: one that has 4 rows is another one afterwards."""
    table = SSASTPositionTable(1, (4, 3))
    table.table.data = numbered(4, 3) ** 2
    before = table.table.data
    table.resize((4, 3))
    torch.testing.assert_close(table.table.data, stretch(stretch(before, 8, 3), 4, 3))
    assert (table.table.data - before).abs().max() > 1


def test_new_positions_have_the_standard_deviation_asked_for() -> None:
    torch.manual_seed(0)
    table = JointPositionTable(64, (8, 32))
    table.initialize(0.02)
    # 16,384 values: 1 % is more than a standard error of 0.6 %
    assert table.table.std().item() == pytest.approx(0.02, rel=0.02)


def test_configs_take_the_names_of_all_rules() -> None:
    from hf_ast import HfASTConfig  # not above, where it would be imported for every mutant

    for crop in ("start", "center", "random"):
        assert HfASTConfig(position_crop=crop).position_crop == crop
    for overflow in ("error", "interpolate", "crop"):
        assert HfASTConfig(position_overflow=overflow).position_overflow == overflow


def test_a_table_of_no_kind_has_no_positions() -> None:
    table = PositionTable(1, (2, 3))
    with pytest.raises(NotImplementedError):
        table(3)
    table.table = torch.nn.Parameter(torch.zeros(1, 2, 3, 1))
    with pytest.raises(NotImplementedError):
        table.resize((2, 2))
