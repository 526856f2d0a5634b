"""Objectives of SSAST in plain torch, with defaults; what a model computes with them is in test_ssast.py."""

import pytest
import torch

from hf_ast.models.modules_objectives import (
    MaskedPatchObjectives,
    best_targets,
    info_nce,
    pair_log_probabilities,
    patch_values,
    reconstruction_loss,
)
from hf_ast.models.modules_pooling import pool_tokens


def test_defaults_are_those_of_the_paper() -> None:
    objectives = MaskedPatchObjectives(8, (2, 3))
    assert objectives.draw_mask.num_mask_patches == 400
    assert objectives.draw_mask.mask_ratio is None
    assert objectives.draw_mask.mask_clusters
    assert objectives.draw_mask.mask_sampler == "official"
    assert (objectives.classification_weight, objectives.reconstruction_weight) == (1.0, 10.0)
    assert objectives.mask_embedding.shape == (1, 1, 8)
    assert objectives.classification_head.fc2.out_features == 6
    with pytest.raises(ValueError, match="both 0; one must be positive"):
        MaskedPatchObjectives(8, (2, 3), classification_weight=0, reconstruction_weight=0)


def test_a_new_mask_embedding_has_the_official_size() -> None:
    torch.manual_seed(0)
    objectives = MaskedPatchObjectives(1024, (2, 3))
    objectives.initialize(0.02)
    # 1,024 values: a standard error of 2.2 %
    assert objectives.mask_embedding.std().item() == pytest.approx(1024**-0.5, rel=0.08)


def test_predictions_come_from_the_tokens_of_the_masked_patches() -> None:
    torch.manual_seed(0)
    objectives = MaskedPatchObjectives(4, (2, 3))
    tokens, clips = torch.randn(2, 4, 4), torch.randn(2, 6, 4)  # 2 x 2 patches
    output = objectives(tokens, clips, torch.tensor([[3, 1], [2, -1]]))
    expected = objectives.reconstruction_head(torch.stack((tokens[0, [3, 1]], tokens[1, [2, 0]])))
    torch.testing.assert_close(output.reconstructions, expected)
    torch.testing.assert_close(output.targets[0, 0].view(2, 3), clips[0, 3:6, 2:4].T, atol=0, rtol=0)
    torch.testing.assert_close(output.targets[1, 0].view(2, 3), clips[1, 0:3, 2:4].T, atol=0, rtol=0)
    assert output.mask_lengths.tolist() == [2, 1]
    assert output.loss.ndim == 0
    first = objectives(tokens, clips, torch.tensor([[0, 1], [0, -1]]))
    assert first.mask_lengths.tolist() == [2, 1]
    double = objectives(tokens, clips.double(), torch.tensor([[3, 1], [2, -1]]))
    assert double.targets.dtype == torch.float32


def test_nothing_masked_is_a_loss_of_0() -> None:
    loss, accuracy = info_nce(torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool))
    assert loss == accuracy == 0


def test_probabilities_run_over_the_predictions_of_masked_patches() -> None:
    predictions = torch.tensor([[[1.0], [2.0], [5.0]]])
    targets = torch.tensor([[[1.0], [-1.0], [3.0]]])
    logs = pair_log_probabilities(predictions, targets, torch.tensor([[True, True, False]]))
    expected = torch.tensor([[1.0, 2.0], [-1.0, -2.0]]).log_softmax(1)
    torch.testing.assert_close(logs[0, :2, :2], expected)
    assert (logs[0, :, 2].exp() == 0).all()


def test_where_all_probabilities_underflow_the_first_target_wins() -> None:
    """As the official argmax over probabilities, not over their logarithms; never a slot that is not masked."""
    logs = torch.full((1, 3, 3), -200.0)
    logs[0, 2] = -150.0
    assert best_targets(logs, torch.ones(1, 3, dtype=torch.bool)).tolist() == [[0, 0, 0]]
    assert best_targets(logs, torch.tensor([[False, True, True]])).tolist() == [[1, 1, 1]]


def test_a_grid_that_ends_before_the_spectrogram() -> None:
    clips = torch.arange(2 * 9 * 4.0).view(2, 9, 4)
    # Patches of 2 bins and 3 frames: 2 rows; a grid of 2 columns where 3 would fit
    values = patch_values(clips, torch.tensor([[2], [3]]), 4, (2, 3))
    torch.testing.assert_close(values[0, 0], clips[0, 0:3, 2:4].T.flatten(), atol=0, rtol=0)
    torch.testing.assert_close(values[1, 0], clips[1, 3:6, 2:4].T.flatten(), atol=0, rtol=0)


def test_pooling() -> None:
    tokens = torch.tensor([[1.0, 3.0, 10.0, 20.0, 60.0], [2.0, 4.0, 1.0, 3.0, 7.0]])[..., None]
    assert pool_tokens(tokens, "cls", 2).tolist() == [[1.0], [2.0]]
    assert pool_tokens(tokens, "prefix", 2).tolist() == [[2.0], [3.0]]
    assert pool_tokens(tokens, "mean", 2).tolist() == [[30.0], [pytest.approx(11 / 3)]]
    real = torch.tensor([[True, True, False], [False, True, True]])
    assert pool_tokens(tokens, "mean", 2, real).tolist() == [[15.0], [5.0]]
    weights = torch.tensor([[1.0, 1.0, 2.0], [3.0, 1.0, 0.0]])
    assert pool_tokens(tokens, "mean", 2, weights).tolist() == [[37.5], [1.5]]
    with pytest.raises(ValueError, match="pooling='max' is unknown"):
        pool_tokens(tokens, "max", 2)


def test_means_in_half_precision_are_not_rounded_on_the_way() -> None:
    """bfloat16 holds no odd number above 256: a sum in it would stop growing."""
    tokens = torch.ones(1, 1 + 1001, 1, dtype=torch.bfloat16)
    pooled = pool_tokens(tokens, "mean", 1, torch.ones(1, 1001, dtype=torch.bool))
    assert pooled.dtype == torch.bfloat16
    assert pooled.item() == 1.0


def test_one_masked_patch() -> None:
    """Its own prediction is the only one; the mean is over one patch."""
    predictions, targets = torch.tensor([[[1.0, 3.0], [7.0, 7.0]]]), torch.tensor([[[2.0, 5.0], [0.0, 0.0]]])
    is_masked = torch.tensor([[True, False]])
    loss, accuracy = info_nce(predictions, targets, is_masked)
    assert (loss.item(), accuracy.item()) == (0.0, 1.0)
    assert reconstruction_loss(predictions, targets, is_masked).item() == 2.5  # (1 + 4) / 2
    assert reconstruction_loss(predictions.bfloat16(), targets, is_masked).dtype == torch.float32


def test_every_field_of_a_config_reaches_the_objectives() -> None:
    from hf_ast.models.modules_pretraining import MaskedPatchPretraining

    config = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "frequency_stride": 16,
        "time_stride": 16,
        "max_length": 32,
        "num_mask_patches": 3,
        "mask_ratio": 0.5,
        "mask_clusters": False,
        "mask_sampler": "uniform",
        "classification_loss_weight": 2.0,
        "reconstruction_loss_weight": 3.0,
    }
    objectives = MaskedPatchPretraining.from_config(config).objectives
    sampler = objectives.draw_mask
    assert (sampler.num_mask_patches, sampler.mask_ratio, sampler.mask_clusters) == (3, 0.5, False)
    assert sampler.mask_sampler == "uniform"
    assert (objectives.classification_weight, objectives.reconstruction_weight) == (2.0, 3.0)


def test_configs_take_the_names_of_all_poolings() -> None:
    from hf_ast import HfASTConfig

    for pooling in ("prefix", "cls", "mean"):
        assert HfASTConfig(pooling=pooling).pooling == pooling
