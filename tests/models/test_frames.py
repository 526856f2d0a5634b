"""Frame models of every family: cells of time, their loss, padding, both heads, and every way to open them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForAudioClassification, AutoModelForAudioFrameClassification, PreTrainedModel

from hf_ast import (
    FPaSSTConfig,
    FPaSSTFeatureExtractor,
    HfASTConfig,
    HfASTForAudioClassification,
    HfASTForAudioFrameClassification,
    PaSSTForAudioFrameClassification,
    SpectrogramFrameClassifier,
    SSASTForAudioFrameClassification,
)
from hf_ast.models.modules_cells import cell_edges_s, resample_cells
from tests.support.tiny import (
    randomize,
    spectrograms,
    tiny_config,
    tiny_fpasst,
    tiny_fpasst_config,
    tiny_fpasst_frames,
    tiny_frames,
    tiny_model,
    tiny_passt,
    tiny_ssast_config,
)

FAMILIES = {
    "ast": tiny_frames,
    "passt": lambda **changes: randomize(PaSSTForAudioFrameClassification(tiny_passt(**changes).config)),
    "ssast": lambda **changes: randomize(SSASTForAudioFrameClassification(tiny_ssast_config(num_labels=5, **changes))),
    "fpasst": tiny_fpasst_frames,
    "fpasst-columns": lambda **changes: tiny_fpasst_frames(num_cells=None, **changes),
    "fpasst-attention": lambda **changes: tiny_fpasst_frames(clip_head="attention", **changes),
}
every_family = pytest.mark.parametrize("make_model", FAMILIES.values(), ids=FAMILIES)
# Frames of the clips in a padded batch; 6 are one patch of the tiny AST
LENGTHS = (50, 31, 12, 6)
TOLERANCE = {"atol": 2e-5, "rtol": 1e-4}


def padded(side: str = "right") -> tuple[list[Tensor], Tensor, Tensor]:
    """Clips, and the batch of them with its mask; the padding holds large values that must not count."""
    clips = [spectrograms(1, length, seed=length)[0] for length in LENGTHS]
    batch, mask = torch.full((len(clips), 50, 32), 7.0), torch.zeros(len(clips), 50, dtype=torch.long)
    for row, clip in enumerate(clips):
        part = slice(len(clip)) if side == "right" else slice(50 - len(clip), 50)
        batch[row, part], mask[row, part] = clip, 1
    return clips, batch, mask


def labels_of(model: PreTrainedModel, num_frames: int, batch_size: int = 2, seed: int = 0) -> Tensor:
    shape = (batch_size, model.config.num_cells_of(num_frames), 5)
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)).float()


def bce(logits: Tensor, labels: Tensor) -> Tensor:
    return -(labels * logits.sigmoid().log() + (1 - labels) * (1 - logits.sigmoid()).log())


# --- Cells


@every_family
@pytest.mark.parametrize("side", ["right", "left"])
@torch.no_grad()
def test_a_padded_clip_has_the_cells_that_it_has_alone(make_model: Any, side: str) -> None:
    model = make_model()
    clips, batch, mask = padded(side)
    together = model(batch, attention_mask=mask)
    for row, clip in enumerate(clips):
        alone = model(clip[None])
        num_cells = model.config.num_cells_of(len(clip))
        assert alone.logits.shape == (1, num_cells, 5)
        torch.testing.assert_close(together.logits[row, :num_cells], alone.logits[0], **TOLERANCE)
        torch.testing.assert_close(together.clip_logits[row], alone.clip_logits[0], **TOLERANCE)


@torch.no_grad()
def test_a_cell_is_the_mean_of_its_column() -> None:
    model = tiny_frames()
    clips = spectrograms(2, 50)
    tokens = model.backbone(clips).last_hidden_state[:, 2:].unflatten(1, (5, 12))  # rows, columns
    expected = model.frame_classifier(tokens.mean(dim=1))
    torch.testing.assert_close(model(clips).logits, expected, **TOLERANCE)


def test_cells_tile_the_clip_around_the_centres_of_patches() -> None:
    config = HfASTConfig()
    edges = cell_edges_s(101, cell_s=config.cell_s, first_centre_s=0.0875, duration_s=10.24)
    assert edges.shape == (102,)
    assert (edges[0], edges[-1]) == (0.0, 10.24)
    np.testing.assert_allclose(edges[1:-1], 0.0875 + 0.1 * (np.arange(100) + 0.5), atol=1e-12)
    assert config.num_cells_of(1024) == 101
    assert FPaSSTConfig().cell_s == pytest.approx(0.04)


@pytest.mark.parametrize(("num_tokens", "num_cells"), [(1, 10), (3, 10), (9, 10), (10, 10), (13, 10), (7, 3)])
def test_resampling_is_that_of_torch(num_tokens: int, num_cells: int) -> None:
    tokens = torch.randn(2, num_tokens, 4, generator=torch.Generator().manual_seed(0))
    if num_tokens > num_cells:
        expected = torch.nn.functional.adaptive_avg_pool1d(tokens.mT, num_cells).mT
    else:
        expected = torch.nn.functional.interpolate(tokens.mT, num_cells, mode="linear").mT
    torch.testing.assert_close(resample_cells(tokens, num_cells), expected, atol=1e-6, rtol=1e-6)


def test_columns_that_patchout_drops_have_no_share_in_the_loss() -> None:
    model = tiny_frames(time_patchout=5).train()
    clips, labels = spectrograms(2, 50), labels_of(tiny_frames(), 50)
    outputs = model(clips, labels=labels, generator=torch.Generator().manual_seed(3))
    kept = model.backbone(clips, generator=torch.Generator().manual_seed(3)).kept_patches
    columns = (kept[0] % 12).unique()
    assert len(columns) == 12 - 5
    expected = bce(outputs.logits[:, columns], labels[:, columns]).mean()
    torch.testing.assert_close(outputs.loss, expected, **TOLERANCE)


def test_cells_of_fixed_number_refuse_patchout() -> None:
    model = tiny_fpasst_frames(time_patchout=3).train()
    with pytest.raises(ValueError, match="num_cells=10 stretches the tokens"):
        model(spectrograms(2, 52))
    without = tiny_fpasst_frames(time_patchout=3, num_cells=None).train()
    assert without(spectrograms(2, 52)).logits.shape == (2, 13, 5)


def test_token_merging_is_refused() -> None:
    with pytest.raises(ValueError, match=r"token_merging=0\.2 merges tokens of different times"):
        tiny_frames(token_merging=0.2)(spectrograms(1, 50))


@pytest.mark.parametrize("num_samples", [1, 2, 159, 160, 161, 257, 258, 640, 641])
@torch.no_grad()
def test_fpasst_takes_clips_from_one_sample_on(num_samples: int) -> None:
    extractor = FPaSSTFeatureExtractor(num_mel_bins=32, max_length=52)
    model = tiny_fpasst_frames()
    waveform = 0.1 * np.random.default_rng(0).standard_normal(num_samples).astype(np.float32)
    features = extractor(waveform, 16000, padding="longest", return_tensors="pt")
    outputs = model(**features)
    assert outputs.logits.shape == (1, 10, 5)
    assert outputs.logits.isfinite().all()
    assert outputs.clip_logits.isfinite().all()
    longer = 0.1 * np.ones(6000, dtype=np.float32)
    batch = extractor([waveform, longer], 16000, padding="longest", return_tensors="pt")
    torch.testing.assert_close(model(**batch).logits[0], outputs.logits[0], **TOLERANCE)


# --- Losses


@every_family
def test_the_loss_is_the_mean_over_known_labels_of_real_cells(make_model: Any) -> None:
    model = make_model()
    _, batch, mask = padded()
    labels = labels_of(model, 50, len(LENGTHS))
    labels[0, 0] = -100
    labels[1, :, 2] = -100
    outputs = model(batch, attention_mask=mask, labels=labels)
    real = torch.zeros(labels.shape[:2], dtype=torch.bool)
    for row, length in enumerate(LENGTHS):
        real[row, : model.config.num_cells_of(length)] = True
    counts = real[:, :, None] & (labels != -100)
    torch.testing.assert_close(outputs.loss, bce(outputs.logits, labels)[counts].mean(), **TOLERANCE)


@every_family
def test_a_batch_without_anything_known_gives_zero(make_model: Any) -> None:
    model = make_model()
    unknown = torch.full_like(labels_of(model, 48), -100)
    loss = model(spectrograms(2, 48), labels=unknown, clip_labels=unknown[:, 0]).loss
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_weak_and_strong_labels_train_together() -> None:
    model = tiny_frames(clip_loss_weight=0.25)
    clips, labels = spectrograms(2, 50), labels_of(tiny_frames(), 50)
    weak = labels.amax(dim=1)
    both = model(clips, labels=labels, clip_labels=weak)
    torch.testing.assert_close(both.loss, bce(both.logits, labels).mean() + 0.25 * bce(both.clip_logits, weak).mean())
    with pytest.raises(ValueError, match="clip_labels need a clip head"):
        tiny_frames(clip_head="none")(clips, clip_labels=weak)


def test_the_gradient_does_not_depend_on_how_a_step_is_divided() -> None:
    clips, labels = spectrograms(4, 50), labels_of(tiny_frames(), 50, 4)
    labels[0, 2:], labels[3, :, 1:] = -100, -100
    gradients = []
    for parts in ([slice(0, 4)], [slice(0, 1), slice(1, 4)], [slice(i, i + 1) for i in range(4)]):
        model = tiny_frames()
        for part in parts:
            model(clips[part], labels=labels[part], num_items_in_batch=(labels != -100).sum()).loss.backward()
        gradients.append(model.frame_classifier.linear.weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gradients[2], gradients[0], atol=1e-6, rtol=1e-5)


@every_family
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_a_loss_in_float32_and_finite_gradients(make_model: Any, dtype: torch.dtype) -> None:
    model = make_model()
    _, batch, mask = padded()
    labels = labels_of(model, 50, len(LENGTHS))
    arguments = {"attention_mask": mask, "labels": labels, "clip_labels": labels[:, 0]}
    with torch.no_grad():
        expected = model(batch, **arguments).loss
    loss = model.to(dtype)(batch.to(dtype), **arguments).loss
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, atol=0, rtol=0.01)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@torch.no_grad()
def test_spectrograms_far_out_of_range_stay_finite_in_float16() -> None:
    values = (1e4 * spectrograms(1, 48)).half()
    assert tiny_fpasst_frames().half()(values).logits.isfinite().all()


@pytest.mark.parametrize("shape", [(2, 5), (2, 11, 5), (2, 12, 4), (1, 12, 5), (2, 5, 12)])
def test_labels_of_another_shape_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"labels has shape .* the model gives 12 cells of 5 classes"):
        tiny_frames()(spectrograms(2, 50), labels=torch.zeros(shape))


def test_values_that_are_no_labels_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"labels holds 2\.0"):
        tiny_frames()(spectrograms(2, 50), labels=torch.full((2, 12, 5), 2.0))


# --- Ways to open and run them


@every_family
@torch.no_grad()
def test_a_folder_opens_by_the_auto_class_and_in_plain_torch(make_model: Any, tmp_path: Path) -> None:
    model = make_model()
    model.save_pretrained(tmp_path)
    opened, info = AutoModelForAudioFrameClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert type(opened) is type(model)
    assert not any(info.values())
    plain = SpectrogramFrameClassifier.from_config(json.loads((tmp_path / "config.json").read_text()))
    plain.load_state_dict(load_file(tmp_path / "model.safetensors"))
    _, batch, mask = padded()
    expected = model(batch, attention_mask=mask)
    outputs = opened(batch, attention_mask=mask)
    assert torch.equal(outputs.logits, expected.logits)
    logits, clip_logits = plain.eval()(batch, mask)
    torch.testing.assert_close(logits, expected.logits, **TOLERANCE)
    torch.testing.assert_close(clip_logits, expected.clip_logits, **TOLERANCE)
    as_tuple = opened(batch, attention_mask=mask, return_dict=False)
    assert torch.equal(as_tuple[0], expected.logits)
    assert torch.equal(as_tuple[-1], expected.clip_logits)


@pytest.mark.parametrize(
    ("frames", "clips"), [(tiny_frames, tiny_model), (tiny_fpasst_frames, tiny_fpasst)], ids=["ast", "fpasst"]
)
@torch.no_grad()
def test_both_kinds_of_model_share_the_clip_head(frames: Any, clips: Any, tmp_path: Path) -> None:
    model = frames(clip_labels=["a", "b", "c"])
    model.save_pretrained(tmp_path / "frames")
    values = spectrograms(2, 48)
    as_clips, info = AutoModelForAudioClassification.from_pretrained(tmp_path / "frames", output_loading_info=True)
    assert not any(info.values())
    assert as_clips.config.id2label == {0: "a", 1: "b", 2: "c"}
    torch.testing.assert_close(as_clips(values).logits, model(values).clip_logits, **TOLERANCE)
    as_clips.save_pretrained(tmp_path / "clips")
    back = AutoModelForAudioFrameClassification.from_pretrained(tmp_path / "clips")
    torch.testing.assert_close(back(values).clip_logits, model(values).clip_logits, **TOLERANCE)
    assert back.frame_classifier.linear.out_features == 3
    assert type(as_clips) is type(clips())


def test_a_head_that_weights_cells_is_none_of_a_model_without_cells(tmp_path: Path) -> None:
    tiny_fpasst_frames(clip_head="attention").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="clip_head='attention' labels clips by their cells"):
        AutoModelForAudioClassification.from_pretrained(tmp_path)


def test_configs_of_before_open_with_the_defaults_and_wrong_values_are_errors() -> None:
    fields = ("patch_embedding", "frame_shift_s", "num_cells", "clip_head", "clip_labels", "use_head_norm")
    old = {name: value for name, value in tiny_config().to_dict().items() if name not in fields}
    config = HfASTConfig.from_dict(old)
    assert [getattr(config, name) for name in fields] == ["linear", 0.01, None, "linear", None, True]
    for name, value in {
        "patch_embedding": "conv",
        "frame_shift_s": 0.0,
        "num_cells": 0,
        "clip_head": "mean",
        "clip_loss_weight": -1.0,
    }.items():
        with pytest.raises(Exception, match=name):
            tiny_config(**{name: value})
    with pytest.raises(ValueError, match="pools the 5 classes of the cells, so clips cannot have 3"):
        tiny_fpasst_frames(clip_head="attention", clip_labels=["a", "b", "c"])
    with pytest.raises(Exception, match="time_stride=2 must be 4"):
        tiny_fpasst_config(time_stride=2)


def test_one_compiled_step_equals_an_eager_one() -> None:
    clips, labels = spectrograms(2, 50), labels_of(tiny_frames(), 50)
    gradients = []
    for compiled in (False, True):
        model = tiny_frames()
        step = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
        step(clips, labels=labels).loss.backward()
        gradients.append(model.backbone.embeddings.patch_embedding.projection.weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0], **TOLERANCE)


def test_classes_are_those_of_their_families() -> None:
    assert isinstance(tiny_frames(), HfASTForAudioFrameClassification)
    assert isinstance(tiny_model(), HfASTForAudioClassification)
