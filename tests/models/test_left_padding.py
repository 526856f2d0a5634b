"""Clips with padding in front: the result is that of the clip alone, at any number of padded frames."""

from typing import Any

import pytest
import torch

from tests.support.tiny import spectrograms, tiny_model, tiny_passt, tiny_ssast

FAMILIES = {"ast": tiny_model, "passt": tiny_passt}


def left_padded(lengths: list[int], num_frames: int) -> torch.Tensor:
    mask = torch.zeros(len(lengths), num_frames, dtype=torch.long)
    for row, length in zip(mask, lengths, strict=True):
        row[num_frames - length :] = 1
    return mask


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("settings", [{"position_crop": "center"}, {"pooling": "mean"}])
@pytest.mark.parametrize("overflow", ["crop", "interpolate"])
@torch.no_grad()
def test_a_left_padded_batch_equals_its_clips(name: str, settings: dict[str, Any], overflow: str) -> None:
    """Padding that is no multiple of the stride; and real frames that begin where the table of 50 frames has ended."""
    model = FAMILIES[name](position_overflow=overflow, **settings)
    clips, lengths = spectrograms(4, 70), [16, 45, 69, 70]
    logits = model(clips, attention_mask=left_padded(lengths, 70)).logits
    for clip, length, padded in zip(clips, lengths, logits, strict=True):
        alone = model(clip[None, 70 - length :]).logits[0]
        torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-5)  # sums of other lengths, in float32


def test_cropping_leaves_real_frames_to_pool() -> None:
    """All that the position table covers is padding: without moving the clip, the mean of no tokens."""
    model = tiny_model(pooling="mean", position_overflow="crop").train()
    mask = torch.tensor([[0] * 54 + [1] * 16])
    logits = model(spectrograms(1, 70), attention_mask=mask).logits
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


@torch.no_grad()
def test_left_padding_in_pretraining() -> None:
    """Numbers of patches count in the clip's own grid, wherever its padding is."""
    model, clips = tiny_ssast(), spectrograms(2, 48)
    mask, indices = left_padded([29, 48], 48), torch.tensor([[3, 9, 0], [5, 31, 18]])
    moved = clips.clone()
    moved[0] = moved[0].roll(29, dims=0)
    left = model(clips, attention_mask=mask, mask_indices=indices)
    right = model(moved, attention_mask=mask.flip(1), mask_indices=indices)
    assert left.mask_lengths.tolist() == [3, 3]
    for name in ("loss", "targets", "reconstructions"):
        torch.testing.assert_close(left[name], right[name], atol=0, rtol=0)
