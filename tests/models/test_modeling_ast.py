import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import interpolate
from transformers import ASTConfig, ASTForAudioClassification, AutoConfig, AutoModel, AutoModelForAudioClassification

from hf_ast import (
    HfASTConfig,
    HfASTForAudioClassification,
    HfASTModel,
    SpectrogramClassifier,
    SpectrogramTransformer,
)
from hf_ast.models.modules_embeddings import real_column_mask
from hf_ast.models.modules_encoder import drop_path, eager_attention
from tests.support.tiny import GEOMETRY, SIZE, spectrograms, tiny_config, tiny_model

POOLINGS = ("prefix", "cls", "mean")


def mask(lengths: list[int], num_frames: int) -> torch.Tensor:
    return (torch.arange(num_frames) < torch.tensor(lengths)[:, None]).long()


# --- Masks


def test_a_column_is_real_when_all_its_frames_are() -> None:
    # 6 frames per patch every 4 frames: columns end at frames 6, 10, 14
    columns = real_column_mask(mask([14, 13, 10, 6, 5, 0], 14), 6, 4)
    expected = [[1, 1, 1], [1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]]
    assert columns.int().tolist() == expected


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"position_crop": "center"},
        {"position_overflow": "interpolate"},
        {"position_crop": "center", "position_overflow": "interpolate"},
        {"position_overflow": "crop"},
    ],
    ids=lambda policy: "-".join(policy.values()) or "default",
)
def test_a_padded_batch_equals_its_clips(pooling: str, attention: str, policy: dict[str, str]) -> None:
    model = tiny_model(pooling=pooling, **policy)
    model.set_attn_implementation(attention)
    lengths = [50, 37, 22, 6] if "position_overflow" not in policy else [70, 50, 37, 61]
    batch = spectrograms(4, max(lengths))
    with torch.no_grad():
        together = model(batch, attention_mask=mask(lengths, max(lengths))).logits
        for clip, length, logits in zip(batch, lengths, together, strict=True):
            torch.testing.assert_close(logits, model(clip[None, :length]).logits[0], atol=1e-5, rtol=0)


def test_padding_without_a_mask_is_attended_to() -> None:
    model = tiny_model()
    clip = spectrograms(1, 50)
    changed = clip.clone()
    changed[:, 40:] += 1.0
    with torch.no_grad():
        assert (model(clip).logits - model(changed).logits).abs().max() > 1e-2
        masked = mask([40], 50)
        torch.testing.assert_close(
            model(clip, attention_mask=masked).logits, model(changed, attention_mask=masked).logits, atol=0, rtol=0
        )


@pytest.mark.parametrize("pooling", POOLINGS)
def test_an_empty_mask_gives_numbers_and_gradients(pooling: str) -> None:
    model = tiny_model(pooling=pooling).train()
    logits = model(spectrograms(2, 50), attention_mask=mask([0, 50], 50)).logits
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


# --- Length at forward


def test_shorter_clips_use_the_start_or_the_middle_of_the_table() -> None:
    clip = spectrograms(1, 22)  # 5 of 12 columns
    for crop, start in (("start", 0), ("center", 12 // 2 - 5 // 2)):
        model = tiny_model(position_crop=crop)
        reference = tiny_model(max_length=22)
        state = model.state_dict()
        name = "backbone.embeddings.positions.table"
        state[name] = state[name][:, :, start : start + 5]
        reference.load_state_dict(state)
        with torch.no_grad():
            torch.testing.assert_close(model(clip).logits, reference(clip).logits, atol=1e-6, rtol=0)


def test_longer_clips() -> None:
    clip = spectrograms(1, 70)
    with pytest.raises(ValueError, match=r"70 frames.*at most 53.*max_length=70.*interpolate"):
        tiny_model()(clip)
    assert tiny_model()(clip[:, :53]).logits.shape == (1, 5)
    with torch.no_grad():
        cropped = tiny_model(position_overflow="crop")(clip).logits
        torch.testing.assert_close(cropped, tiny_model()(clip[:, :50]).logits, atol=1e-6, rtol=0)
        model = tiny_model(position_overflow="interpolate")
        stretched = model(clip).logits
        model.resize_input(max_length=70)
        torch.testing.assert_close(stretched, model(clip).logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 50), "must have shape"),
        ((2, 50, 31), "32 mel bins"),
        ((2, 5, 32), "5 frames, less than one patch of 6"),
    ],
)
def test_bad_spectrograms(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_model()(torch.zeros(shape))


def test_a_token_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="one value per frame"):
        tiny_model()(spectrograms(2, 50), attention_mask=torch.ones(2, 62))


# --- Length at load


@pytest.mark.parametrize("through", ["keyword", "config", "auto"])
def test_other_geometries_keep_the_weights(tmp_path: Path, through: str) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path)
    changes = {"max_length": 90, "time_stride": 3, "num_mel_bins": 26}
    if through == "keyword":
        loaded, info = HfASTForAudioClassification.from_pretrained(tmp_path, output_loading_info=True, **changes)
        assert not any(info.values())
    elif through == "config":
        config = HfASTConfig.from_pretrained(tmp_path, **changes)
        loaded = HfASTForAudioClassification.from_pretrained(tmp_path, config=config)
    else:
        loaded = AutoModelForAudioClassification.from_pretrained(tmp_path, **changes)
    assert loaded.config.grid == (4, 29)
    old = model.backbone.embeddings.positions.table
    rows = interpolate(old.permute(0, 3, 1, 2), size=(5, 29), mode="bilinear", align_corners=False)
    expected = rows.permute(0, 2, 3, 1)[:, 5 // 2 - 4 // 2 :][:, :4]
    torch.testing.assert_close(loaded.backbone.embeddings.positions.table.data, expected.data, atol=1e-6, rtol=0)
    same = {name: value for name, value in loaded.state_dict().items() if "positions.table" not in name}
    for name, value in same.items():
        torch.testing.assert_close(value, model.state_dict()[name], atol=0, rtol=0)
    assert loaded(spectrograms(2, 90, 26)).logits.shape == (2, 5)

    loaded.save_pretrained(tmp_path / "moved")
    again = HfASTForAudioClassification.from_pretrained(tmp_path / "moved")
    assert again.config.max_length == 90
    torch.testing.assert_close(again.state_dict(), loaded.state_dict(), atol=0, rtol=0)


def test_geometry_that_no_patch_fits_is_an_error(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"num_mel_bins=7 holds no patch"):
        HfASTForAudioClassification.from_pretrained(tmp_path, num_mel_bins=7)


def test_other_labels_need_a_new_head(tmp_path: Path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        HfASTForAudioClassification.from_pretrained(tmp_path, num_labels=3)
    swapped = HfASTForAudioClassification.from_pretrained(
        tmp_path, num_labels=3, max_length=90, ignore_mismatched_sizes=True
    )
    assert swapped.classifier.linear.weight.shape == (3, 32)
    torch.testing.assert_close(swapped.classifier.norm.weight, model.classifier.norm.weight, atol=0, rtol=0)
    table = swapped.backbone.embeddings.positions.table[:, :, 0]
    torch.testing.assert_close(table, model.backbone.embeddings.positions.table[:, :, 0], atol=1e-6, rtol=0)


def test_auto_classes(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is HfASTConfig
    assert type(AutoModel.from_pretrained(tmp_path)) is HfASTModel
    assert type(AutoModelForAudioClassification.from_pretrained(tmp_path)) is HfASTForAudioClassification


# --- transformers' own AST


@pytest.mark.parametrize("layout", ["old", "v5"])
def test_checkpoints_of_transformers_own_ast(tmp_path: Path, layout: str) -> None:
    native_config = ASTConfig(
        **SIZE, **GEOMETRY | {"patch_size": 6}, num_labels=5, layer_norm_eps=1e-6, problem_type=None
    )
    native = ASTForAudioClassification(native_config).eval()
    for parameter in native.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    native.save_pretrained(tmp_path, save_original_format=layout == "old")
    names = load_file(tmp_path / "model.safetensors")
    old_name = "audio_spectrogram_transformer.encoder.layer.0.attention.attention.query.weight"
    assert (old_name in names) == (layout == "old")

    model, info = HfASTForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    clip = spectrograms(2, 50)
    with torch.no_grad():
        torch.testing.assert_close(model(clip).logits, native(clip).logits, atol=1e-5, rtol=0)
        tokens = HfASTModel.from_pretrained(tmp_path)(clip).last_hidden_state
        torch.testing.assert_close(
            tokens, native.audio_spectrogram_transformer(clip).last_hidden_state, atol=1e-5, rtol=0
        )
    longer = HfASTForAudioClassification.from_pretrained(tmp_path, max_length=90)
    assert longer.backbone.embeddings.positions.table.shape == (1, 5, 22, 32)

    model.save_pretrained(tmp_path / "ours")
    assert set(load_file(tmp_path / "ours" / "model.safetensors")) == set(model.state_dict())
    assert AutoConfig.from_pretrained(tmp_path / "ours").model_type == "hf-ast"


def test_audioset_checkpoints_are_multi_label(tmp_path: Path) -> None:
    ASTConfig(num_labels=527).save_pretrained(tmp_path)
    assert HfASTConfig.from_pretrained(tmp_path).problem_type == "multi_label_classification"
    ASTConfig(num_labels=35).save_pretrained(tmp_path)
    assert HfASTConfig.from_pretrained(tmp_path).problem_type is None


# --- Torch only


def test_the_torch_only_module_is_the_same_model(tmp_path: Path) -> None:
    model = tiny_model(pooling="mean")
    model.save_pretrained(tmp_path)
    plain = SpectrogramClassifier(SpectrogramTransformer(**SIZE, **GEOMETRY, pooling="mean"), num_labels=5)
    plain.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    clip, frame_mask = spectrograms(2, 50), mask([50, 30], 50)
    with torch.no_grad():
        expected = model(clip, attention_mask=frame_mask).logits
        torch.testing.assert_close(plain.eval()(clip, frame_mask), expected, atol=1e-6, rtol=0)
        eager = plain.backbone(clip, frame_mask, attention_function=eager_attention).pooled
        torch.testing.assert_close(plain.classifier(eager), expected, atol=1e-5, rtol=0)


# --- Training


def test_gradients_do_not_depend_on_how_a_step_is_cut() -> None:
    clips = spectrograms(6, 50)
    labels = {
        "multi_label_classification": (torch.rand(6, 5, generator=torch.Generator().manual_seed(0)) > 0.5).float(),
        "single_label_classification": torch.tensor([0, 1, 2, 3, 4, 0]),
        "regression": torch.randn(6, 5, generator=torch.Generator().manual_seed(0)),
    }
    for problem_type, target in labels.items():
        model = tiny_model(problem_type=problem_type)
        model(clips, labels=target).loss.backward()
        whole = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        model.zero_grad()
        for part in (slice(0, 1), slice(1, 4), slice(4, 6)):  # uneven micro-batches
            model(clips[part], labels=target[part], num_items_in_batch=target.numel()).loss.backward()
        parts = [p.grad for p in model.parameters() if p.grad is not None]
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-4)


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    clips = spectrograms(2, 50)
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(clips, labels=torch.tensor([0, 1])).loss.backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_compiles_without_graph_breaks() -> None:
    model = tiny_model()
    clips, frame_mask = spectrograms(2, 50), mask([50, 30], 50)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for inputs in ({"input_values": clips}, {"input_values": clips, "attention_mask": frame_mask}):
            torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits, atol=1e-5, rtol=0)


def test_drop_path_keeps_the_expectation() -> None:
    torch.manual_seed(0)
    dropped = drop_path(torch.ones(20000, 2), 0.25)
    assert dropped.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert torch.equal(dropped[:, 0], dropped[:, 1])
    # 4 standard errors of the mean of 20,000 draws
    assert abs(dropped[:, 0].mean().item() - 1.0) < 4 * (0.25 / 0.75 / 20000) ** 0.5


def test_outputs_like_a_native_model() -> None:
    model = tiny_model()
    model.set_attn_implementation("eager")
    clips = spectrograms(2, 50)
    outputs = model(clips, output_hidden_states=True, output_attentions=True)
    assert len(outputs.hidden_states) == 3
    assert outputs.attentions[0].shape == (2, 4, 62, 62)
    torch.testing.assert_close(outputs.attentions[0].sum(-1), torch.ones(2, 4, 62), atol=1e-5, rtol=0)
    torch.testing.assert_close(model(clips, return_dict=False)[0], outputs.logits, atol=0, rtol=0)
    half = copy.deepcopy(model).to(torch.bfloat16)
    assert half(clips).logits.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("field", "value"),
    [("pooling", "max"), ("position_crop", "end"), ("position_overflow", "wrap"), ("hidden_act", "mish")],
)
def test_bad_config(field: str, value: str) -> None:
    with pytest.raises(Exception, match=f"{field}='{value}' is unknown"):
        tiny_config(**{field: value})
