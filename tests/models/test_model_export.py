"""Whole models in torch.export with a dynamic number of clips and frames: eager numbers at other sizes."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
import torch.fx.experimental._config as shape_config
from torch import Tensor, nn
from torch.export import Dim

from hf_ast import SSASTForAudioClassification
from tests.support.tiny import randomize, spectrograms, tiny_model, tiny_passt, tiny_ssast, tiny_ssast_config

FULL_LENGTH, LONGEST = 50, 53  # of the position table, and of a clip that has no more columns
ONE_COLUMN, TWO_COLUMNS = 6, 12  # frames; two columns with a time stride of 4 or of 6
MODELS: dict[str, Callable[[], nn.Module]] = {
    "ast": tiny_model,
    "passt": tiny_passt,
    "ssast": lambda: randomize(SSASTForAudioClassification(tiny_ssast_config(num_labels=5))),
}


def one_column_allowed() -> AbstractContextManager[None]:
    """torch takes a size of 1 for a constant, and refuses a dynamic size that may be 1, unless told not to."""
    return shape_config.patch(backed_size_oblivious=True)


def inputs(batch_size: int, num_frames: int, masked: bool) -> dict[str, Tensor]:
    values = {"input_values": spectrograms(batch_size, num_frames)}
    if masked:
        values["attention_mask"] = torch.ones(batch_size, num_frames, dtype=torch.long)
        values["attention_mask"][-1, max(num_frames // 2, 1) :] = 0
    return values


def export(model: nn.Module, example: dict[str, Tensor], min_frames: int) -> nn.Module:
    sizes = {0: Dim("batch"), 1: Dim("frames", min=min_frames, max=LONGEST)}
    shapes = {name: sizes if name in ("input_values", "attention_mask") else {0: sizes[0]} for name in example}
    return torch.export.export(model, (), example, dynamic_shapes=shapes).module()


@pytest.mark.parametrize("name", ["ast", "passt", pytest.param("ssast", marks=pytest.mark.slow)])
@pytest.mark.parametrize("masked", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize(
    ("example_frames", "min_frames", "context"),
    [
        (FULL_LENGTH, TWO_COLUMNS, nullcontext),
        pytest.param(34, TWO_COLUMNS, nullcontext, marks=pytest.mark.slow),
        pytest.param(ONE_COLUMN, 6, one_column_allowed, marks=pytest.mark.slow),
    ],
    ids=["full length", "shorter", "one column"],
)
@torch.no_grad()
def test_classification(
    name: str, masked: bool, example_frames: int, min_frames: int, context: Callable[..., AbstractContextManager[None]]
) -> None:
    model = MODELS[name]()
    with context():
        exported = export(model, inputs(2, example_frames, masked), min_frames)
    for batch_size, num_frames in ((1, FULL_LENGTH), (3, min_frames), (2, LONGEST), (4, 17)):
        batch = inputs(batch_size, num_frames, masked)
        output, expected = exported(**batch), model(**batch)
        torch.testing.assert_close(output.logits, expected.logits, atol=1e-6, rtol=0)


@torch.no_grad()
def test_pretraining_with_given_masks() -> None:
    """Drawn masks depend on the random state of the graph; given ones make the losses comparable."""
    model = tiny_ssast()

    def batch(batch_size: int, num_frames: int) -> dict[str, Tensor]:
        return inputs(batch_size, num_frames, True) | {"mask_indices": torch.tensor([[3, 0, -1]] * batch_size)}

    exported = export(model, batch(2, FULL_LENGTH), TWO_COLUMNS)
    for batch_size, num_frames in ((1, FULL_LENGTH), (3, TWO_COLUMNS), (4, 29)):
        output, expected = exported(**batch(batch_size, num_frames)), model(**batch(batch_size, num_frames))
        for field in ("loss", "accuracy", "reconstructions"):
            torch.testing.assert_close(output[field], expected[field], atol=1e-6, rtol=0)
