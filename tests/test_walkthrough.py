"""The walk-through of TorchOnlyAST's README in our API: its six models, with the sizes that it prints.

Each model is made from the config of its checkpoint, with one layer instead of twelve, saved, and opened as
docs/moving.md says. Spectrograms are (batch, frames, mel bins) = (4, 512, 128); in pretraining they have 1024 frames.
"""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForAudioClassification, PreTrainedModel

from hf_ast import (
    HfASTForAudioClassification,
    PaSSTForAudioClassification,
    SSASTForAudioClassification,
    SSASTForPreTraining,
    SSASTModel,
)
from hf_ast.conversion.registry import find

NEW_HEAD = {"num_labels": 50, "ignore_mismatched_sizes": True}
SSASTS = ["multitask-ssast-patch-base-400", "multitask-ssast-frame-base-400"]


@pytest.fixture
def spectrograms() -> torch.Tensor:
    return torch.randn(4, 512, 128, generator=torch.Generator().manual_seed(0))


def save(model_class: type[PreTrainedModel], name: str, folder: Path) -> Path:
    model_class(find(name).build_config(num_hidden_layers=1)).save_pretrained(folder)
    return folder


@torch.no_grad()
def test_ast(spectrograms: torch.Tensor, tmp_path: Path) -> None:
    folder = save(HfASTForAudioClassification, "ast-base-stride10", tmp_path)
    model = AutoModelForAudioClassification.from_pretrained(folder, max_length=512)
    assert model(spectrograms).logits.shape == (4, 527)
    # Without the head, and without head and aggregator
    output = AutoModel.from_pretrained(folder, max_length=512)(spectrograms)
    assert output.pooler_output.shape == (4, 768)
    assert output.last_hidden_state.shape == (4, 602, 768)  # cls, distillation, and 600 patches
    # With a head of one's own
    model = AutoModelForAudioClassification.from_pretrained(folder, max_length=512, **NEW_HEAD)
    assert model(spectrograms).logits.shape == (4, 50)


@pytest.mark.parametrize("name", SSASTS)
@torch.no_grad()
def test_ssast(name: str, spectrograms: torch.Tensor, tmp_path: Path) -> None:
    folder = save(SSASTForPreTraining, name, tmp_path)
    tokens = SSASTModel.from_pretrained(folder, max_length=512)(spectrograms).last_hidden_state
    assert tokens.shape == (4, 258, 768)  # cls, distillation, and 256 patches
    model = SSASTForAudioClassification.from_pretrained(folder, max_length=512, num_labels=50, pooling="prefix")
    assert model(spectrograms).logits.shape == (4, 50)


@pytest.mark.parametrize("name", SSASTS)
@torch.no_grad()
def test_ssast_pretraining(name: str, tmp_path: Path) -> None:
    model = SSASTForPreTraining.from_pretrained(save(SSASTForPreTraining, name, tmp_path)).train()
    output = model(torch.randn(4, 1024, 128))
    assert output.reconstructions.shape == output.targets.shape == (4, 400, 256)  # masked patches, their pixels
    assert output.classification_predictions.shape == (4, 400, 256)


@torch.no_grad()
def test_passt(spectrograms: torch.Tensor, tmp_path: Path) -> None:
    folder = save(PaSSTForAudioClassification, "passt-base-stride10-struct-ap0.476-swa", tmp_path)
    settings = {"time_patchout": 40, "frequency_patchout": 4, "position_crop": "random"}
    model = PaSSTForAudioClassification.from_pretrained(folder, **settings)
    assert model(spectrograms).logits.shape == (4, 527)
    backbone = AutoModel.from_pretrained(folder, **settings)
    assert backbone(spectrograms).pooler_output.shape == (4, 768)
    assert backbone(spectrograms).last_hidden_state.shape == (4, 602, 768)
    backbone.train()
    assert backbone(spectrograms).last_hidden_state.shape == (4, 82, 768)  # patchout in training only
    model = PaSSTForAudioClassification.from_pretrained(folder, **settings, **NEW_HEAD)
    assert model(spectrograms).logits.shape == (4, 50)
