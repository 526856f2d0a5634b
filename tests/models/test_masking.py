from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hf_ast.models.modules_masking import (
    MaskSampler,
    draw_clusters,
    masked_grid,
    official_order,
    sample_mask,
    set_table_size,
    without_padding,
)

# How often the official sampler masks each patch of an 8 x 64 grid in 20,000 draws of 400, 250 and 100 patches
OFFICIAL = Path(__file__).parents[1] / "golden" / "mask_frequency.npz"
NUM_DRAWS = 20_000
ROWS, COLUMNS = 8, 64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frequencies(num_masks: int, num_draws: int, **settings: object) -> np.ndarray:
    """Share of draws that mask each patch."""
    counts = torch.zeros(ROWS * COLUMNS, dtype=torch.long)
    source = generator()
    for _ in range(num_draws // 100):
        columns = torch.ones(100, COLUMNS, dtype=torch.bool)
        drawn = sample_mask(columns, ROWS, num_masks, generator=source, **settings)
        counts += torch.bincount(drawn.flatten(), minlength=ROWS * COLUMNS)
    return (counts / num_draws).numpy()


def deviations(measured: np.ndarray, expected: np.ndarray, num_samples: float) -> np.ndarray:
    """Differences in standard errors, where the expected frequency is not 0 or 1."""
    inside = (expected > 0) & (expected < 1)
    np.testing.assert_array_equal(measured[~inside], expected[~inside])
    variance = expected[inside] * (1 - expected[inside]) / num_samples
    return (measured[inside] - expected[inside]) / np.sqrt(variance)


@pytest.mark.parametrize("num_masks", [400, pytest.param(250, marks=pytest.mark.slow), 100])
def test_the_official_sampler_masks_what_the_official_code_masks(num_masks: int) -> None:
    with np.load(OFFICIAL) as recorded:
        expected = recorded[f"patch_n{num_masks}"]
    assert expected[0] == expected[-1] == 0.0  # never masked, so that this is a case that "uniform" fails
    # Both are estimates from as many draws: twice the variance
    z = deviations(frequencies(num_masks, NUM_DRAWS, clusters=True), expected, NUM_DRAWS / 2)
    assert np.sqrt(np.mean(z**2)) < 1.25
    assert np.abs(z).max() < 5


@pytest.mark.parametrize("num_masks", [400, 30])
@pytest.mark.parametrize(("clusters", "sampler"), [(True, "uniform"), (False, "official"), (False, "uniform")])
def test_the_other_samplers_mask_all_patches_equally_often(clusters: bool, sampler: str, num_masks: int) -> None:
    expected = np.full(ROWS * COLUMNS, num_masks / (ROWS * COLUMNS))
    z = deviations(frequencies(num_masks, 5000, clusters=clusters, sampler=sampler), expected, 5000)
    assert np.sqrt(np.mean(z**2)) < 1.25
    assert np.abs(z).max() < 5


@pytest.mark.parametrize("sampler", ["official", "uniform"])
def test_clusters_are_squares(sampler: str) -> None:
    drawn = sample_mask(torch.ones(200, 64, dtype=torch.bool), 8, 60, clusters=True, sampler=sampler)
    masked = masked_grid(drawn, 8, 64).float().unsqueeze(1)
    whole = torch.nn.functional.max_pool2d(1 - masked, 3, stride=1) == 0  # corners of masked 3 x 3 squares
    assert whole.flatten(1).any(1).float().mean() > 0.95
    scattered = sample_mask(torch.ones(200, 64, dtype=torch.bool), 8, 60, clusters=False)
    alone = 1 - masked_grid(scattered, 8, 64).float().unsqueeze(1)
    assert (torch.nn.functional.max_pool2d(alone, 3, stride=1) == 0).flatten(1).any(1).float().mean() < 0.5


def members(start: int, side: int, width: int, *, wrap: bool) -> set[int]:
    """Patches of one cluster, by the rules: on a torus, or as the official code."""
    patches = set()
    for down in range(side):
        for right in range(side):
            if wrap:
                patches.add((start // width + down) % 4 * width + (start % width + right) % width)
            elif 0 < start + width * down + right < 4 * width:
                patches.add(start + width * down + right)
    return patches


@pytest.mark.parametrize("wrap", [False, True])
def test_a_cluster_starts_anywhere_and_has_one_of_three_sizes(wrap: bool) -> None:
    """The first clusters of 12,000 clips of 6 columns in a grid of 10, against all 3 x 24 that there are."""
    rows, width, num_clips = 4, 6, 12_000
    drawn = draw_clusters(torch.full((num_clips, 1), width), rows, 10, 5, wrap=wrap, generator=generator())
    assert drawn.shape == (num_clips, 40)
    expected = np.zeros(40)
    for side in (3, 4, 5):
        for start in range(rows * width):
            expected[list(members(start, side, width, wrap=wrap))] += 1 / (3 * rows * width)
    # 5 standard errors of a share
    np.testing.assert_allclose((drawn == 0).double().mean(0), expected, atol=5 * 0.5 / num_clips**0.5)
    # 16, and three times log(1 / (1 - 5 / 40)) * 40 / 9
    assert drawn.max() == 16 + 2


@pytest.mark.parametrize("num_masks", [1, 4, 20])
def test_the_official_order_is_that_of_slots_in_a_set(num_masks: int) -> None:
    first_draw = torch.randint(0, 40, (6, 300), generator=generator())
    first_draw[0] = torch.arange(300)  # one after the other
    first_draw[1] = torch.arange(300).flip(0)
    order = official_order(first_draw, torch.full((6, 1), num_masks))
    for draws, keys in zip(first_draw.tolist(), order, strict=True):
        # Whole draws until there are more than asked for
        last = sorted(draws)[num_masks]
        drawn = [patch for patch in range(300) if draws[patch] <= last]
        slots = int(set_table_size(torch.tensor([len(drawn)])))
        expected = sorted(drawn, key=lambda patch: (patch % slots, patch))
        assert keys.argsort().tolist()[: len(drawn)] == expected
    everything = official_order(first_draw, torch.full((6, 1), 300))
    assert everything.argsort(dim=1)[0].tolist() == list(range(300))  # in a table of 512 slots or more


@pytest.mark.parametrize("sampler", ["official", "uniform"])
@pytest.mark.parametrize("clusters", [True, False])
@pytest.mark.parametrize("num_masks", [1, 20, 95, 96, 300])
def test_exactly_as_many_as_asked_for_and_never_padding(sampler: str, clusters: bool, num_masks: int) -> None:
    rows, columns = 4, 24
    widths = torch.tensor([24, 1, 2, 7, 23])
    real = torch.arange(columns) < widths[:, None]
    real[3] = real[3].roll(5)  # padding on both sides
    drawn = sample_mask(real, rows, num_masks, clusters=clusters, sampler=sampler, generator=generator())
    assert drawn.shape == (5, min(num_masks, rows * columns))
    masked = masked_grid(drawn, rows, columns)
    assert not (masked & ~real.unsqueeze(1)).any()
    expected = (rows * widths).clamp(max=num_masks)
    assert masked.flatten(1).sum(1).tolist() == expected.tolist()  # distinct ones
    assert (drawn >= 0).sum(1).tolist() == expected.tolist()
    for numbers, length in zip(drawn, expected, strict=True):
        assert (numbers[:length] >= 0).all()


def test_a_number_per_clip() -> None:
    drawn = sample_mask(torch.ones(3, 8, dtype=torch.bool), 2, torch.tensor([3, 7, 99]), clusters=True)
    assert drawn.shape == (3, 16)
    assert (drawn >= 0).sum(1).tolist() == [3, 7, 16]


def test_a_padded_clip_is_masked_as_if_it_were_alone() -> None:
    alone = sample_mask(torch.ones(4000, 10, dtype=torch.bool), 4, 25, clusters=True, generator=generator(1))
    real = (torch.arange(30) < 10).expand(4000, -1)
    padded = sample_mask(real, 4, 25, clusters=True, generator=generator(2))
    often = [
        masked_grid(alone, 4, 10).double().mean(0),
        masked_grid(padded, 4, 30)[..., :10].double().mean(0),
    ]
    # 4 standard errors of a difference of two shares of 4,000 draws, at most
    assert (often[0] - often[1]).abs().max() < 4 * (2 * 0.25 / 4000) ** 0.5
    assert often[0].min() == often[1].min() == 0.0


def test_a_generator_gives_the_same_mask_again() -> None:
    columns = torch.ones(3, 16, dtype=torch.bool)
    first, again, other = (sample_mask(columns, 8, 50, clusters=True, generator=generator(s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_table_sizes_are_those_of_python_sets() -> None:
    """A set of small integers lists them by slot, so that the slots show in its order."""
    counts = torch.arange(1, 700)
    for count, size in zip(counts.tolist(), set_table_size(counts).tolist(), strict=True):
        # Only the last one shares no slot with the others; it comes first if its slot wraps around to 0
        numbers: set[int] = set()
        for number in [*range(1, count), size]:
            numbers.add(number)
        assert next(iter(numbers)) == size
        if count > 1:
            numbers = set()
            for number in [*range(1, count), size - 1]:
                numbers.add(number)
            assert list(numbers)[-1] == max(size - 1, count - 1)


def test_a_number_of_patches_that_masks_a_whole_clip_is_an_error() -> None:
    """The official 400 on clips of 512 frames: everything was masked, in silence."""
    sampler = MaskSampler(400)
    with pytest.raises(ValueError, match="num_mask_patches=400 masks every patch of a clip that has 256"):
        sampler(torch.ones(2, 32, dtype=torch.bool), 8)
    half = torch.arange(64) < torch.tensor([[64], [50]])
    with pytest.raises(ValueError, match="a clip that has 400; lower it, or set mask_ratio"):
        sampler(half, 8)
    half[1, 50] = True
    assert (sampler(half, 8) >= 0).sum(dim=1).tolist() == [400, 400]


def test_a_ratio_leaves_a_patch_visible() -> None:
    real = torch.arange(4) < torch.tensor([[4], [2], [1]])
    drawn = MaskSampler(mask_ratio=0.9)(real, 1)  # 0.9 of 4 and of 2 patches would be all of them
    assert drawn.shape == (3, 3)
    assert (drawn >= 0).sum(dim=1).tolist() == [3, 1, 1]
    assert MaskSampler(mask_ratio=0.45)(torch.ones(1, 5, dtype=torch.bool), 4).shape == (1, 9)
    assert MaskSampler(mask_ratio=0.01)(torch.ones(1, 5, dtype=torch.bool), 4).shape == (1, 1)


@pytest.mark.parametrize("clusters", [True, False])
@pytest.mark.parametrize("sampler", ["official", "uniform"])
def test_a_sampler_masks_as_it_is_set(clusters: bool, sampler: str) -> None:
    columns = torch.ones(3, 16, dtype=torch.bool)
    expected = sample_mask(columns, 8, 30, clusters=clusters, sampler=sampler, generator=generator())
    by_number = MaskSampler(30, mask_clusters=clusters, mask_sampler=sampler)
    assert torch.equal(by_number(columns, 8, generator()), expected)


def test_an_upper_bound_gives_the_shape() -> None:
    columns, numbers = torch.ones(2, 8, dtype=torch.bool), torch.tensor([3, 5])
    drawn = sample_mask(columns, 2, numbers, clusters=True, max_masks=7)
    assert drawn.shape == (2, 7)
    assert (drawn >= 0).sum(1).tolist() == [3, 5]
    assert sample_mask(columns, 2, numbers, clusters=True, max_masks=99).shape == (2, 16)


def test_compiled_samplers() -> None:
    """Shapes cannot depend on values there, and errors have no values in their message."""
    half = torch.arange(8) < torch.tensor([[8], [4]])
    for clusters in (True, False):
        by_ratio = torch.compile(MaskSampler(mask_ratio=0.4, mask_clusters=clusters), backend="eager", fullgraph=True)
        drawn = by_ratio(half, 3)
        assert drawn.shape == (2, 10)  # 0.4 of 24, rounded up
        assert (drawn >= 0).sum(1).tolist() == [10, 5]
    by_number = torch.compile(MaskSampler(11), backend="eager", fullgraph=True)
    assert (by_number(half, 3) >= 0).sum(1).tolist() == [11, 11]
    with pytest.raises(RuntimeError, match="num_mask_patches masks every patch of a clip"):
        by_number(torch.arange(8) < torch.tensor([[8], [3]]), 3)
    given = torch.compile(without_padding, backend="eager", fullgraph=True)
    assert given(torch.tensor([[0, 5], [23, 4]]), half, 3).tolist() == [[0, 5], [-1, -1]]
    with pytest.raises(RuntimeError, match="mask_indices must be numbers of patches of the grid"):
        given(torch.tensor([[0, 24], [1, 2]]), half, 3)


@pytest.mark.parametrize("clusters", [True, False])
@pytest.mark.parametrize("sampler", ["official", "uniform"])
def test_no_double_precision(clusters: bool, sampler: str) -> None:
    """Apple's devices have none."""

    class SinglePrecision(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            output = function(*args, **kwargs or {})
            assert getattr(output, "dtype", None) != torch.float64, function
            return output

    for ratio in (None, 0.5):
        with SinglePrecision():
            MaskSampler(20, ratio, clusters, sampler)(torch.ones(2, 8, dtype=torch.bool), 8)


def test_errors() -> None:
    columns = torch.ones(2, 8, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"sampler='random' is unknown"):
        sample_mask(columns, 4, 5, clusters=True, sampler="random")
    with pytest.raises(ValueError, match=r"num_masks=.* must be positive"):
        sample_mask(columns, 4, 0, clusters=True)
    for given, message in (
        (torch.tensor([[0, 32], [1, 2]]), r"values from 0 to 32.*4 x 8 grid, 0 to 31"),
        (torch.tensor([[0, -2], [1, 2]]), r"values from -2 to 2"),
        (torch.tensor([0, 1]), r"shape \(2, patches to mask\)"),
        (torch.zeros(2, 32), "must be integers"),
        (torch.zeros(3, 32, dtype=torch.long), r"shape \(2, patches to mask\)"),
        (torch.zeros(2, 0, dtype=torch.long), r"shape \(2, 0\)"),
        ([[0, 1], [1, 2]], "mask_indices is a list"),
    ):
        with pytest.raises(ValueError, match=message):
            without_padding(given, columns, 4)
    bounds = torch.tensor([[0, 31, -1], [31, 0, 0]])
    assert torch.equal(without_padding(bounds, columns, 4), bounds)
    assert MaskSampler() == MaskSampler(400, None, True, "official")


def test_a_grid_of_masked_patches() -> None:
    grid = masked_grid(torch.tensor([[0, 5, -1], [-1, -1, 4]]), 2, 3)
    assert grid.int().tolist() == [[[1, 0, 0], [0, 0, 1]], [[0, 0, 0], [0, 1, 0]]]
