"""The walk-throughs of TorchOnlyAST's README with our converted models, against what TorchOnlyAST computed."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from hf_ast import HfASTForAudioClassification, SSASTForPreTraining, SSASTModel
from hf_ast.conversion import convert_checkpoint
from hf_ast.conversion.registry import find
from tests.conversion.torch_only.record import EVERY_ROW, EVERY_TOKEN, FILES, LENGTHS, NUM_LAYERS, OUTPUTS, clips
from tests.support.official_files import small_content

RECORDED = dict(np.load(OUTPUTS))
# Of the largest value, which is 1 to 5: the kernels of two implementations sum in different orders
TOLERANCE = 3e-6


@cache
def model(name: str, model_class: type[PreTrainedModel] | None = None, **changes: object) -> PreTrainedModel:
    config = find(FILES[name]).build_config(num_hidden_layers=NUM_LAYERS, **changes)
    return convert_checkpoint(small_content(FILES[name], num_layers=NUM_LAYERS), config, model_class=model_class)


def assert_recorded(name: str, found: torch.Tensor) -> None:
    expected = torch.from_numpy(RECORDED[name])
    torch.testing.assert_close(found, expected, atol=TOLERANCE * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("name", ["ast", "passt"])
@torch.inference_mode()
def test_classifiers_on_shorter_clips(name: str) -> None:
    classifier = model(name)
    assert_recorded(f"{name}.logits", classifier(clips(512)).logits)
    backbone = classifier.backbone(clips(512))
    assert_recorded(f"{name}.pooled", backbone.pooler_output)
    assert_recorded(f"{name}.tokens", backbone.last_hidden_state[0, ::EVERY_TOKEN])


@pytest.mark.parametrize("name", ["ssast_patch", "ssast_frame"])
@torch.inference_mode()
def test_ssast_for_fine_tuning_on_shorter_clips(name: str) -> None:
    outputs = model(name, SSASTModel, pooling="prefix")(clips(512))
    assert_recorded(f"{name}.tokens", outputs.last_hidden_state[0, ::EVERY_TOKEN])
    assert_recorded(f"{name}.pooled", outputs.pooler_output)


@pytest.mark.parametrize("name", ["ssast_patch", "ssast_frame"])
@torch.inference_mode()
def test_ssast_in_pretraining(name: str) -> None:
    pretraining = model(name, SSASTForPreTraining)
    for task, output in (("reconstructions", "reconstructions"), ("predictions", "classification_predictions")):
        mask = torch.from_numpy(RECORDED[f"{name}.{task}_mask"])
        indices = mask.nonzero()[:, 1].view(2, 400)
        found = pretraining(clips(1024), mask_indices=indices)[output]
        assert_recorded(f"{name}.{task}", found[:, ::EVERY_ROW])


@torch.inference_mode()
def test_lengths_of_a_padded_batch_need_a_table_of_its_length(tmp_path: Path) -> None:
    """TorchOnlyAST takes the middle of the table for the batch as a whole, `position_crop="center"` for each clip."""
    model("ast").save_pretrained(tmp_path)
    mask = torch.arange(512) < torch.tensor(LENGTHS).unsqueeze(1)
    inputs = {"input_values": clips(512).masked_fill(~mask.unsqueeze(2), 0.0), "attention_mask": mask.long()}
    moved = HfASTForAudioClassification.from_pretrained(tmp_path, max_length=512, position_crop="start")
    assert_recorded("ast.padded_logits", moved(**inputs).logits)
    apart = model("ast")(**inputs).logits - torch.from_numpy(RECORDED["ast.padded_logits"])
    assert apart.abs().amax(dim=1)[0] < 1e-5 < 0.5 < apart.abs().amax(dim=1)[1]
