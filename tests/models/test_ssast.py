import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification, AutoModelForPreTraining

from hf_ast import (
    HfASTConfig,
    HfASTForAudioClassification,
    MaskedPatchPretraining,
    SSASTConfig,
    SSASTForAudioClassification,
    SSASTForPreTraining,
    SSASTModel,
)
from hf_ast.conversion import convert_checkpoint
from hf_ast.conversion.key_maps import AST, SSAST, TORCH_ONLY, KeyMap
from hf_ast.models.modules_masking import masked_grid
from hf_ast.models.modules_objectives import info_nce, patch_values, reconstruction_loss
from hf_ast.models.modules_positions import SSASTPositionTable, stretch
from tests.support.tiny import GEOMETRY, SIZE, randomize, spectrograms, tiny_ssast, tiny_ssast_config

LENGTHS = [50, 31, 6]  # 8, 5 and 1 columns


def frame_mask(lengths: list[int], num_frames: int = 50) -> torch.Tensor:
    return (torch.arange(num_frames) < torch.tensor(lengths)[:, None]).long()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- Objectives


def test_losses_are_those_of_the_paper() -> None:
    """Written out with loops, as equations 1 (with the official roles of rows and columns) and 2 of the paper."""
    predictions, targets = torch.randn(2, 2, 5, 3, generator=generator())
    is_masked = torch.tensor([[True] * 5, [True, False, True, True, False]])
    matching, correct, squared, count = 0.0, 0, 0.0, 0
    for clip in range(2):
        slots = is_masked[clip].nonzero().flatten().tolist()
        # Row: a target; column: a prediction
        probability = (targets[clip, slots] @ predictions[clip, slots].T).softmax(dim=1)
        for i, slot in enumerate(slots):
            matching -= probability[i, i].log()
            correct += int(probability[:, i].argmax() == i)
            squared += (predictions[clip, slot] - targets[clip, slot]).square().mean()
            count += 1
    loss, accuracy = info_nce(predictions, targets, is_masked)
    torch.testing.assert_close(loss, matching / count)
    assert accuracy.item() == pytest.approx(correct / count)
    assert 0 < correct < count
    torch.testing.assert_close(reconstruction_loss(predictions, targets, is_masked), squared / count)


def test_targets_list_frames_within_mel_bins() -> None:
    model = tiny_ssast()
    clips = spectrograms(1, 50)
    targets = model(clips, mask_indices=torch.tensor([[0, 10]])).targets
    # Patch 10 of 8 columns: row 1 and column 2, so mel bins 8 to 15 and frames 12 to 17
    torch.testing.assert_close(targets[0, 1].view(8, 6), clips[0, 12:18, 8:16].T, atol=0, rtol=0)
    torch.testing.assert_close(targets[0, 0].view(8, 6), clips[0, :6, :8].T, atol=0, rtol=0)
    unfolded = torch.nn.functional.unfold(clips.transpose(1, 2)[:, None], (8, 6), stride=(8, 6)).transpose(1, 2)
    every = patch_values(clips, torch.arange(32)[None], 32, (8, 6))
    torch.testing.assert_close(every, unfolded, atol=0, rtol=0)


def test_predictions_do_not_see_the_masked_patches() -> None:
    model = tiny_ssast()
    clips, masked = spectrograms(2, 50), torch.tensor([[0, 10], [31, 5]])
    changed = clips.clone()
    changed[0, 12:18, 8:16] += 1.0
    with torch.no_grad():
        first, second = model(clips, mask_indices=masked), model(changed, mask_indices=masked)
    torch.testing.assert_close(first.reconstructions, second.reconstructions, atol=0, rtol=0)
    assert (first.targets - second.targets).abs().max() == pytest.approx(1.0, abs=1e-5)


def test_no_gradient_flows_into_the_targets() -> None:
    model = tiny_ssast()
    clips = spectrograms(1, 50).requires_grad_()
    model(clips, mask_indices=torch.tensor([[0, 10]])).loss.backward()
    gradient = clips.grad[0]
    assert (gradient[12:18, 8:16] == 0).all()
    assert (gradient[:6, :8] == 0).all()
    assert (gradient[6:12, :8] != 0).any()
    assert (gradient[48:] == 0).all()  # frames behind the last whole patch


def test_scores_are_not_rounded_under_autocast() -> None:
    """The product of predictions and targets runs in single precision; in bfloat16 it is off by 0.5 and more."""
    predictions, targets = (20 * torch.randn(1, 6, 48, generator=generator(seed)) for seed in (0, 1))
    is_masked = torch.ones(1, 6, dtype=torch.bool)
    expected = info_nce(predictions, targets, is_masked)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, accuracy = info_nce(predictions, targets, is_masked)
    assert loss == expected[0]
    assert accuracy == expected[1]


def test_a_clip_that_would_be_masked_whole_is_an_error() -> None:
    model = tiny_ssast()  # 20 patches
    with pytest.raises(ValueError, match="num_mask_patches=20 masks every patch of a clip that has 20"):
        model(spectrograms(2, 50), attention_mask=frame_mask([50, 30]))
    with pytest.raises(ValueError, match="masks every patch of a clip that has 16"):
        model(spectrograms(2, 24))
    assert model(spectrograms(2, 24), mask_indices=torch.tensor([[0], [5]])).loss.isfinite()


@pytest.mark.parametrize(
    ("inputs", "mask", "message"),
    [
        ([[0.0]], None, "input_values is a list, but must be a tensor"),
        (torch.zeros(2, 50), None, r"input_values must have shape \(B, frames, 32 mel bins\), got \(2, 50\)"),
        (torch.zeros(2, 50, 32, dtype=torch.long), None, "input_values holds torch.int64"),
        (torch.zeros(2, 50, 32), torch.ones(2, 49), r"attention_mask must have one value per frame, shape \(2, 50\)"),
    ],
)
def test_wrong_input_of_pretraining(inputs: Any, mask: torch.Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_ssast()(inputs, attention_mask=mask)


def test_both_objectives_train_everything() -> None:
    model = tiny_ssast().train()
    output = model(spectrograms(2, 50))
    torch.testing.assert_close(output.loss, output.classification_loss + 10 * output.reconstruction_loss)
    output.loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize(
    ("weights", "absent"), [((0, 3), "classification_head"), ((2, 0), "reconstruction_head")], ids=["rebuild", "match"]
)
def test_an_objective_of_weight_0_has_no_head(weights: tuple[int, int], absent: str) -> None:
    model = tiny_ssast(classification_loss_weight=weights[0], reconstruction_loss_weight=weights[1])
    assert not any(absent in name for name in model.state_dict())
    output = model(spectrograms(2, 50))
    if absent == "classification_head":
        assert output.classification_loss is output.accuracy is output.classification_predictions is None
        torch.testing.assert_close(output.loss, 3 * output.reconstruction_loss)
    else:
        assert output.reconstruction_loss is output.reconstructions is None
        torch.testing.assert_close(output.loss, 2 * output.classification_loss)


# --- Masks and padding


def test_a_padded_batch_equals_its_clips() -> None:
    model = tiny_ssast(mask_ratio=0.45)
    clips = spectrograms(3, 50)
    with torch.no_grad():
        batch = model(clips, attention_mask=frame_mask(LENGTHS), generator=generator())
        assert batch.mask_lengths.tolist() == [14, 9, 2]
        masked = masked_grid(batch.mask_indices, 4, 8)
        losses = torch.zeros(2)
        correct = 0.0
        for i, length in enumerate(LENGTHS):
            own = masked[i, :, : (length - 6) // 6 + 1].flatten().nonzero().T
            alone = model(clips[i : i + 1, :length], mask_indices=own)
            numbers = batch.mask_indices[i, : batch.mask_lengths[i]].sort()
            expected = alone.reconstructions[0]
            torch.testing.assert_close(batch.reconstructions[i, numbers.indices], expected, atol=1e-5, rtol=0)
            count = batch.mask_lengths[i]
            losses += count * torch.stack((alone.classification_loss, alone.reconstruction_loss))
            correct += count * alone.accuracy
    count = batch.mask_lengths.sum()
    batch_losses = torch.stack((batch.classification_loss, batch.reconstruction_loss))
    torch.testing.assert_close(batch_losses, losses / count, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(batch.accuracy, correct / count)


def test_pooling_of_a_padded_batch() -> None:
    model = randomize(SSASTModel(tiny_ssast_config()))
    clips = spectrograms(3, 50)
    with torch.no_grad():
        pooled = model(clips, attention_mask=frame_mask(LENGTHS)).pooler_output
        for clip, length, vector in zip(clips, LENGTHS, pooled, strict=True):
            torch.testing.assert_close(vector, model(clip[None, :length]).pooler_output[0], atol=1e-5, rtol=0)


def test_numbers_of_padding_do_not_count() -> None:
    model = tiny_ssast()
    clips = spectrograms(2, 50)
    given = torch.tensor([[0, 7, 9], [3, 7, -1]])  # column 7 is padding in both
    with torch.no_grad():
        output = model(clips, attention_mask=frame_mask([42, 42]), mask_indices=given)
        without = model(clips, attention_mask=frame_mask([42, 42]), mask_indices=torch.tensor([[0, 9], [3, -1]]))
    assert output.mask_indices.tolist() == [[0, -1, 9], [3, -1, -1]]
    torch.testing.assert_close(output.loss, without.loss)
    with torch.no_grad():
        nothing = model(clips, mask_indices=torch.full((2, 3), -1))
    assert nothing.loss == nothing.accuracy == 0


def test_drawn_masks() -> None:
    model = tiny_ssast()
    clips = spectrograms(2, 50)
    with torch.no_grad():
        first, again = (model(clips, generator=generator()) for _ in range(2))
        other = model(clips, generator=generator(1))
    assert torch.equal(first.mask_indices, again.mask_indices)
    assert torch.equal(first.loss, again.loss)
    assert not torch.equal(first.mask_indices, other.mask_indices)
    assert first.mask_lengths.tolist() == [20, 20]
    half = tiny_ssast(mask_ratio=0.5)(clips, attention_mask=frame_mask([50, 20]))
    assert half.mask_lengths.tolist() == [16, 6]


def test_which_masks_come_in_clusters() -> None:
    assert SSASTConfig().mask_clusters
    assert not SSASTConfig(patch_size=(128, 2)).mask_clusters
    assert SSASTConfig(patch_size=(128, 2), mask_clusters=True).mask_clusters


@pytest.mark.parametrize("patch_size", [(32, 2), (4, 10), 16])
def test_other_patch_shapes(patch_size: tuple[int, int] | int) -> None:
    model = tiny_ssast(patch_size=patch_size, max_length=80, num_mask_patches=5)
    height, width = model.config.patch_size
    output = model(spectrograms(2, 80))
    assert output.reconstructions.shape == output.targets.shape == (2, 5, height * width)
    assert model.config.grid == (32 // height, 80 // width)


def test_a_clip_longer_than_the_table_is_cropped_if_asked_for() -> None:
    model = tiny_ssast(position_overflow="crop")
    clips, masked = spectrograms(2, 90), torch.tensor([[9, 31], [0, 15]])
    with torch.no_grad():
        output, expected = model(clips, mask_indices=masked), model(clips[:, :50], mask_indices=masked)
    torch.testing.assert_close(output.targets, expected.targets, atol=0, rtol=0)
    torch.testing.assert_close(output.loss, expected.loss)


# --- Loading


def test_the_torch_only_module_is_the_same_model(tmp_path: Path) -> None:
    settings = {"classification_loss_weight": 0.5, "num_mask_patches": 11, "mask_sampler": "uniform"}
    model = tiny_ssast(**settings)
    model.save_pretrained(tmp_path)
    plain = MaskedPatchPretraining.from_config(json.loads((tmp_path / "config.json").read_text())).eval()
    plain.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    clips = spectrograms(2, 50)
    with torch.no_grad():
        ours, torch_only = model(clips, generator=generator()), plain(clips, generator=generator())
    torch.testing.assert_close(torch_only.loss, ours.loss)
    torch.testing.assert_close(torch_only.reconstructions, ours.reconstructions)


def test_auto_classes(tmp_path: Path) -> None:
    tiny_ssast().save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is SSASTConfig
    assert type(AutoModel.from_pretrained(tmp_path)) is SSASTModel
    assert type(AutoModelForPreTraining.from_pretrained(tmp_path)) is SSASTForPreTraining
    assert type(AutoModelForAudioClassification.from_pretrained(tmp_path)) is SSASTForAudioClassification


def test_from_pretraining_to_fine_tuning_and_back(tmp_path: Path) -> None:
    model = tiny_ssast()
    model.save_pretrained(tmp_path / "pretrained")
    tuned, info = SSASTForAudioClassification.from_pretrained(
        tmp_path / "pretrained", time_stride=3, max_length=90, num_labels=5, output_loading_info=True
    )
    assert not info["unexpected_keys"]
    assert all(key.startswith("classifier.") for key in info["missing_keys"])
    assert tuned.config.grid == (4, 29)
    assert tuned(spectrograms(2, 90)).logits.shape == (2, 5)
    with pytest.raises(ValueError, match="needs patches that do not overlap"):
        SSASTForPreTraining(tuned.config)(spectrograms(2, 90))

    tuned.save_pretrained(tmp_path / "tuned")
    again = SSASTForAudioClassification.from_pretrained(tmp_path / "tuned")
    torch.testing.assert_close(again.state_dict(), tuned.state_dict(), atol=0, rtol=0)
    continued = SSASTForPreTraining.from_pretrained(tmp_path / "tuned", time_stride=6)
    assert continued(spectrograms(2, 90)).loss.isfinite()
    torch.testing.assert_close(
        continued.backbone.layers.state_dict(), model.backbone.layers.state_dict(), atol=0, rtol=0
    )


@pytest.mark.parametrize(
    ("old", "new"), [((4, 9), (4, 12)), ((4, 9), (6, 9)), ((4, 9), (4, 5)), ((4, 9), (6, 5)), ((16, 9), (20, 9))]
)
def test_resizing_detours_over_8_rows(old: tuple[int, int], new: tuple[int, int]) -> None:
    """ast_models.py:192-202: the golden cases hold one height only."""
    table = SSASTPositionTable(3, old)
    torch.nn.init.normal_(table.table)
    before = table.table.data
    table.resize(new)
    if new[1] < old[1]:
        start = old[1] // 2 - new[1] // 2
        between = before[:, :, start : start + new[1]]
    else:
        between = stretch(before, 8, new[1])
    torch.testing.assert_close(table.table.data, stretch(between, *new))


@pytest.mark.parametrize("rows", [1, 2, 5, 7])
def test_fewer_rows_are_the_middle_ones(rows: int) -> None:
    table = SSASTPositionTable(3, (8, 9))
    torch.nn.init.normal_(table.table)
    expected = table.table.data[:, 4 - rows // 2 :][:, :rows]
    table.resize((rows, 9))
    torch.testing.assert_close(table.table.data, expected, atol=0, rtol=0)


# --- Conversion


def official(ours: dict[str, torch.Tensor], key_map: KeyMap, **other: torch.Tensor) -> dict[str, torch.Tensor]:
    """Tensors of a tiny model under the names of a layout."""
    checkpoint = {}
    for source, target in key_map.items():
        for layer in range(SIZE["num_hidden_layers"]) if "{}" in source else [0]:
            if not isinstance(target, str):
                checkpoint[source] = torch.zeros(1000)
            elif target.format(layer) in ours:
                checkpoint[source.format(layer)] = ours[target.format(layer)]
    return checkpoint | {key.replace("__", "."): value for key, value in other.items()}


def joint_table(ours: dict[str, torch.Tensor]) -> torch.Tensor:
    patches = ours["backbone.embeddings.positions.table"].flatten(1, 2)
    return torch.cat((ours["backbone.embeddings.prefix_positions"], patches), dim=1)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("head", ["both", "classification", "reconstruction"])
def test_pretraining_checkpoints(prefix: str, head: str) -> None:
    weights = {} if head == "both" else {f"{name}_loss_weight": 0 for name in ("classification", "reconstruction")}
    weights.pop(f"{head}_loss_weight", None)
    model = tiny_ssast(**weights)
    ours = model.state_dict()
    checkpoint = official(ours, SSAST, v__pos_embed=joint_table(ours))
    checkpoint = {prefix + key: value for key, value in checkpoint.items()}
    converted = convert_checkpoint(checkpoint, tiny_ssast_config())
    assert type(converted) is SSASTForPreTraining
    torch.testing.assert_close(converted.state_dict(), ours, atol=0, rtol=0)
    for name in ("classification", "reconstruction"):
        assert bool(getattr(converted.config, f"{name}_loss_weight")) == (head in ("both", name))

    backbone = convert_checkpoint(checkpoint, tiny_ssast_config(), model_class=SSASTModel)
    torch.testing.assert_close(backbone.state_dict(), model.backbone.state_dict(), atol=0, rtol=0)
    tuned = convert_checkpoint(checkpoint, tiny_ssast_config(num_labels=3), model_class=SSASTForAudioClassification)
    torch.testing.assert_close(tuned.backbone.state_dict(), model.backbone.state_dict(), atol=0, rtol=0)


def test_an_untrained_head_is_left_out() -> None:
    """The official files of one objective hold the head of the other one too."""
    ours = tiny_ssast().state_dict()
    checkpoint = official(ours, SSAST, v__pos_embed=joint_table(ours))
    converted = convert_checkpoint(checkpoint, tiny_ssast_config(reconstruction_loss_weight=0))
    assert converted.objectives.reconstruction_head is None
    assert converted.objectives.classification_head is not None
    del checkpoint["gpredlayer.0.bias"]
    with pytest.raises(ValueError, match=r"objectives.reconstruction_head.fc1.bias"):
        convert_checkpoint(checkpoint, tiny_ssast_config())


def test_fine_tuned_checkpoints() -> None:
    config = tiny_ssast_config(frequency_stride=6, time_stride=4, num_labels=3)
    model = randomize(SSASTForAudioClassification(config))
    ours = model.state_dict()
    checkpoint = {f"module.{k}": v for k, v in official(ours, AST, v__pos_embed=joint_table(ours)).items()}
    converted = convert_checkpoint(checkpoint, config)
    assert type(converted) is SSASTForAudioClassification
    torch.testing.assert_close(converted.state_dict(), ours, atol=0, rtol=0)
    with pytest.raises(ValueError, match=r"objectives\.mask_embedding"):
        convert_checkpoint(checkpoint, config, model_class=SSASTForPreTraining)


def torch_only_shapes(checkpoint: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    table = checkpoint["embedding.positional_embedding"]
    flat = ("embedding.cls_token", "embedding.dist_token", "masker.mask_embedding")
    checkpoint = {key: value.flatten() if key in flat else value for key, value in checkpoint.items()}
    return checkpoint | {"embedding.positional_embedding": table[0].permute(2, 0, 1)}


def test_torch_only_ast_checkpoints() -> None:
    model = tiny_ssast()
    torch.nn.init.zeros_(model.backbone.embeddings.prefix_positions)  # part of the tokens there
    checkpoint = torch_only_shapes(official(model.state_dict(), TORCH_ONLY))
    converted = convert_checkpoint({"model": checkpoint, "resolved_config": {}}, tiny_ssast_config())
    assert type(converted) is SSASTForPreTraining
    torch.testing.assert_close(converted.state_dict(), model.state_dict(), atol=0, rtol=0)

    classifier = randomize(HfASTForAudioClassification(HfASTConfig(**SIZE, **GEOMETRY, num_labels=5)))
    torch.nn.init.zeros_(classifier.backbone.embeddings.prefix_positions)
    checkpoint = torch_only_shapes(official(classifier.state_dict(), TORCH_ONLY))
    converted = convert_checkpoint(checkpoint, classifier.config)
    torch.testing.assert_close(converted.state_dict(), classifier.state_dict(), atol=0, rtol=0)


# --- Config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_sampler": "random"}, "mask_sampler='random' is unknown"),
        ({"num_mask_patches": 0}, "num_mask_patches=0 must be positive"),
        ({"mask_ratio": 1}, "mask_ratio=1 must be between 0 and 1"),
        ({"classification_loss_weight": 0, "reconstruction_loss_weight": 0}, "one must be positive"),
    ],
)
def test_bad_config(changes: dict[str, object], message: str) -> None:
    with pytest.raises(Exception, match=message):
        SSASTConfig(**changes)


def test_patchout_and_pretraining_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="must be 0 in SSASTForPreTraining"):
        tiny_ssast(time_patchout=2)
