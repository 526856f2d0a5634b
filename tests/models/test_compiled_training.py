"""torch.compile in training, with batches of several lengths and sizes: no failure, few compilations, same numbers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hf_ast import HfASTConfig, HfASTForAudioClassification, SSASTForPreTraining
from tests.models.test_patchout import PATCHOUT, TINY
from tests.support.compiling import Counter
from tests.support.tiny import spectrograms, tiny_ssast_config

LENGTHS, BATCH_SIZES = (48, 50, 42, 46, 41), (4, 3, 2)
# One for the first shape, one when the batch size changes, one when the length does: from then on both are symbols.
MAX_GRAPHS = 3


def frame_mask(batch_size: int, num_frames: int) -> torch.Tensor:
    """The first clip is whole, the others have 20 frames."""
    mask = torch.ones(batch_size, num_frames, dtype=torch.long)
    mask[1:, 20:] = 0
    return mask


def train(model: torch.nn.Module, masked: bool, **inputs: Callable[[int], torch.Tensor]) -> tuple[int, list[Any]]:
    """Forward and backward passes on all shapes; returns the number of graphs, and the outputs."""
    torch._dynamo.reset()
    counter = Counter()
    compiled = torch.compile(model.train(), backend=counter, fullgraph=True)
    outputs = []
    for num_frames in LENGTHS:
        for batch_size in BATCH_SIZES:
            mask = frame_mask(batch_size, num_frames) if masked else None
            others = {name: make(batch_size) for name, make in inputs.items()}
            torch.manual_seed(0)
            output = compiled(spectrograms(batch_size, num_frames), attention_mask=mask, **others)
            output.loss.backward()
            assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
            outputs.append((output, mask, others))
    return counter.num_graphs, outputs


@pytest.mark.slow
@pytest.mark.parametrize("per_clip", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_patchout_and_random_crop(per_clip: bool, masked: bool) -> None:
    config = HfASTConfig(
        **TINY | {"num_hidden_layers": 1},
        **PATCHOUT | {"patchout_per_clip": per_clip, "position_crop": "random", "num_labels": 3},
    )
    model = HfASTForAudioClassification(config)
    num_graphs, outputs = train(model, masked, labels=lambda size: torch.arange(size) % 3)
    assert num_graphs <= MAX_GRAPHS
    if per_clip:  # compiled code draws other permutations
        return
    output, mask, others = outputs[-1]
    torch.manual_seed(0)
    expected = model(spectrograms(BATCH_SIZES[-1], LENGTHS[-1]), attention_mask=mask, **others)
    torch.testing.assert_close(output.loss, expected.loss)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [{"num_mask_patches": 7}, {"mask_ratio": 0.6, "mask_sampler": "uniform"}],
    ids=["number", "ratio"],
)
def test_pretraining(settings: dict[str, Any]) -> None:
    model = SSASTForPreTraining(tiny_ssast_config(num_hidden_layers=1, **settings))
    num_graphs, outputs = train(model, masked=True)
    assert num_graphs <= MAX_GRAPHS
    for output, mask, _ in outputs:
        columns = [(int(length) - 6) // 6 + 1 for length in mask.sum(dim=1)]
        ratio = settings.get("mask_ratio")
        numbers = [7 if ratio is None else round(4 * count * ratio) for count in columns]
        assert output.mask_lengths.tolist() == numbers
    output, mask, _ = outputs[-1]
    again = model(spectrograms(BATCH_SIZES[-1], LENGTHS[-1]), attention_mask=mask, mask_indices=output.mask_indices)
    torch.testing.assert_close(output.loss, again.loss)


@pytest.mark.slow
def test_pretraining_with_given_masks() -> None:
    model = SSASTForPreTraining(tiny_ssast_config(num_hidden_layers=1))
    num_graphs, outputs = train(model, masked=True, mask_indices=lambda size: torch.tensor([[3, 0, -1]] * size))
    assert num_graphs <= MAX_GRAPHS
    output, mask, others = outputs[-1]
    expected = model(spectrograms(BATCH_SIZES[-1], LENGTHS[-1]), attention_mask=mask, **others)
    torch.testing.assert_close(output.loss, expected.loss)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with pytest.raises(RuntimeError, match="must be numbers of patches of the grid"):
        compiled(spectrograms(2, 48), mask_indices=torch.tensor([[3, 0, 32]] * 2))


def test_compiled_code_draws_the_masks_of_the_seed() -> None:
    model = SSASTForPreTraining(tiny_ssast_config(num_hidden_layers=1, num_mask_patches=7)).train()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for num_frames in (48, 36):
        torch.manual_seed(0)
        expected = model(spectrograms(2, num_frames))
        torch.manual_seed(0)
        output = compiled(spectrograms(2, num_frames))
        assert torch.equal(output.mask_indices, expected.mask_indices)
        torch.testing.assert_close(output.loss, expected.loss)
