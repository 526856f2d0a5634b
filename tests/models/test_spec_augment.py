"""Bands by hand; that they are the official ones is in the golden cases."""

import torch

from hf_ast.models.modules_spec_augment import spec_augment

# Mel width and start, frame width and start, as shares
DRAWS = torch.tensor([[0.5, 0.5, 0.75, 0.25], [0.99, 0.0, 0.0, 0.5]])
ONES = torch.ones(2, 12, 8)


def masked(**arguments: object) -> torch.Tensor:
    settings = {"max_mel_bins": 4, "max_frames": 8, "mask_value": -1.0, "draws": DRAWS}
    return spec_augment(ONES, **settings | arguments) == -1.0


def test_bands() -> None:
    """Widths of 2 of 8 mel bins from (8 - 2) / 2 on, and of 6 of 12 frames from (12 - 6) / 4 on."""
    expected = torch.zeros(2, 12, 8, dtype=torch.bool)
    expected[0, :, 3:5] = True
    expected[0, 1:7] = True
    expected[1, :, :3] = True  # 0.99 of 4, whole bins only
    assert torch.equal(masked(), expected)
    assert torch.equal(ONES, torch.ones(2, 12, 8))


def test_a_bound_of_0_masks_nothing() -> None:
    assert masked(max_mel_bins=0, max_frames=0).sum() == 0
    assert masked(max_mel_bins=0).all(2).sum(1).tolist() == [6, 0]
    assert masked(max_frames=0).all(1).sum(1).tolist() == [2, 3]


def test_bands_lie_in_the_clip() -> None:
    """8 real frames behind 2 of padding, and 4 before 8: the width is at most 0.75 of the length."""
    real = torch.zeros(2, 12)
    real[0, 2:10] = 1
    real[1, :4] = 1
    draws = torch.tensor([[0.0, 0.0, 0.75, 0.5], [0.5, 0.0, 0.75, 0.9]])
    expected = torch.zeros(2, 12, 8, dtype=torch.bool)
    expected[0, 3:9] = True  # 6 frames, from (8 - 6) / 2 in the clip on
    expected[1, 0:3] = True  # 3 frames, from 0.9 * (4 - 3) on
    expected[1, :4, :2] = True
    assert torch.equal(masked(attention_mask=real, draws=draws), expected)
    # A bound below the length of the clip
    narrow = masked(attention_mask=real, draws=draws, max_frames=4, max_mel_bins=0)
    assert narrow.all(2).sum(1).tolist() == [3, 3]


def test_a_generator_gives_the_same_bands_again() -> None:
    first, again, other = (masked(draws=None, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(0)
    drawn = masked(draws=None)
    torch.manual_seed(0)
    assert torch.equal(masked(draws=None), drawn)
