"""What patchout leaves."""

import numpy as np
import pytest
import torch

from hf_ast import PaSSTConfig
from hf_ast.models.modules_patchout import patchout_indices, random_permutations
from hf_ast.plotting import plot_patchout
from hf_ast.plotting.patchout import covered
from tests.support.tiny import GEOMETRY, SIZE, passt_extractor, spectrograms

NUMBERS = {"time_patchout": 4, "frequency_patchout": 1, "unstructured_patchout": 6}


def test_the_figure_shows_the_patches_of_the_draw() -> None:
    clip = spectrograms(1, 50)
    config = PaSSTConfig(**SIZE | GEOMETRY | NUMBERS)
    figure = plot_patchout(config, passt_extractor(), clip, generator=torch.Generator().manual_seed(3))
    upper, lower = figure.axes[:2]
    kept = np.asarray(lower.images[0].get_array()).astype(bool)
    draw = random_permutations(1, torch.Generator().manual_seed(3))
    assert np.flatnonzero(kept).tolist() == patchout_indices((5, 12), draw, **NUMBERS)[0].tolist()
    assert (~kept.any(axis=0)).sum() >= 4
    assert (~kept.any(axis=1)).sum() >= 1
    shown = np.ma.filled(upper.images[0].get_array(), np.nan)
    seen = np.zeros((32, 50), dtype=bool)
    for row, column in zip(*kept.nonzero(), strict=True):
        seen[6 * row : 6 * row + 8, 4 * column : 4 * column + 6] = True
    np.testing.assert_array_equal(shown, np.where(seen, clip[0].T.numpy(), np.nan))
    assert upper.get_title(loc="left") == f"What patchout leaves: {4 * 8 - 6} of 60 patches"
    assert lower.get_title(loc="left").replace("\n", " ").endswith("4 of 12 columns, 1 of 5 rows, 6 of the other 32")


def test_patches_beside_each_other_cover_all_that_is_theirs() -> None:
    assert covered(torch.ones(2, 3, dtype=torch.bool), (2, 2), (2, 2), (5, 6)).tolist() == [[True] * 6] * 4 + [
        [False] * 6
    ]


def test_nothing_to_drop() -> None:
    with pytest.raises(ValueError, match="config drops no patch"):
        plot_patchout(PaSSTConfig(**SIZE | GEOMETRY), passt_extractor(), spectrograms(1, 50))
