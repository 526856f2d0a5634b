"""Our models in the official layouts and in transformers' own AST, and back."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ASTModel,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    PreTrainedModel,
)

from hf_ast import (
    FPaSSTConfig,
    FPaSSTForAudioFrameClassification,
    FPaSSTModel,
    HfASTFeatureExtractor,
    HfASTForAudioClassification,
    HfASTModel,
    PaSSTForAudioClassification,
    SSASTConfig,
    SSASTForAudioClassification,
    SSASTForPreTraining,
    SSASTModel,
)
from hf_ast.conversion import convert_checkpoint, export
from hf_ast.conversion.export import export_folder, to_native_ast, to_native_front_end, to_official
from hf_ast.conversion.layouts import LAYOUTS, PREFIX_POSITIONS, Layout
from tests.support.golden_ast import ast_config
from tests.support.golden_common import CASES, classifier_fields
from tests.support.golden_fpasst import fpasst_config
from tests.support.golden_passt import passt_config
from tests.support.golden_ssast import ssast_config
from tests.support.tiny import (
    randomize,
    spectrograms,
    tiny_config,
    tiny_model,
    tiny_passt,
    tiny_ssast,
    tiny_ssast_config,
    waveforms,
)

GOLDEN_LAYOUTS = {path.stem: path for path in sorted((CASES.parent / "layouts").glob("*.json"))}


def meta_model(name: str, facts: dict[str, Any]) -> PreTrainedModel:
    """A model of the size of a recorded file, without its numbers."""
    with torch.device("meta"):
        if name.startswith("passt"):
            return PaSSTForAudioClassification(passt_config(facts))
        if name.startswith("maest"):
            return HfASTForAudioClassification(ast_config(facts, position_table="factorised"))
        if name.startswith("ast"):
            return HfASTForAudioClassification(ast_config(facts))
        if name.startswith("fpasst"):
            if facts["head_type"] is None:
                return FPaSSTModel(FPaSSTConfig())
            return FPaSSTForAudioFrameClassification(fpasst_config(facts))
        assert name.startswith("ssast")
        if "finetuned" in name:
            fields = classifier_fields(facts | {"input_fdim": 128})
            return SSASTForAudioClassification(SSASTConfig(**fields))
        return SSASTForPreTraining(ssast_config(facts))


def tiny_classifier(**changes: Any) -> SSASTForAudioClassification:
    config = tiny_ssast_config(frequency_stride=6, time_stride=4, num_labels=3, **changes)
    return randomize(SSASTForAudioClassification(config))


def without_prefix_positions(model: PreTrainedModel) -> PreTrainedModel:
    """As TorchOnlyAST, where they are part of the tokens."""
    torch.nn.init.zeros_(model.get_parameter(PREFIX_POSITIONS))
    return model


def layout(model: PreTrainedModel, name: str) -> Layout:
    layouts = LAYOUTS[type(model.config)]
    return next(layout for layout in layouts if layout.name == name and layout.model_class is type(model))


@pytest.mark.parametrize("name", [name for name in GOLDEN_LAYOUTS if not name.startswith("deit")])  # of images
def test_names_shapes_types_and_order_are_those_of_the_official_files(name: str) -> None:
    recorded = json.loads(GOLDEN_LAYOUTS[name].read_text())
    tensors, zeros = to_official(meta_model(name, recorded["config"]))
    # A file of fPaSST lacks a part of the names that the public model has, and its loader adds it
    expected = [[key.replace("model.fpasst.", "model."), *rest] for key, *rest in recorded["tensors"]]
    assert [[key, list(t.shape), str(t.dtype).removeprefix("torch.")] for key, t in tensors.items()] == expected
    unused = {"fpasst": [], "passt": ["head_dist"], "maest": ["head_dist"]}.get(
        name.partition("_")[0], ["head", "head_dist"]
    )
    assert [key.removeprefix("module.").removeprefix("v.") for key in zeros] == [
        f"{head}.{kind}" for head in unused for kind in ("weight", "bias")
    ]
    assert not any(tensors[key].any() for key in zeros)


@pytest.mark.parametrize(
    ("model", "layout_name"),
    [
        (tiny_model(), "AST"),
        (tiny_ssast(), "SSAST pretraining"),
        (tiny_ssast(classification_loss_weight=0), "SSAST pretraining"),
        (tiny_classifier(), "SSAST"),
        (tiny_passt(), "PaSST"),
        (without_prefix_positions(tiny_model()), "TorchOnlyAST"),
        (without_prefix_positions(tiny_ssast()), "TorchOnlyAST"),
        (without_prefix_positions(tiny_classifier()), "TorchOnlyAST"),
        (without_prefix_positions(tiny_passt()), "TorchOnlyAST"),
    ],
)
def test_there_and_back_again_no_bit_changes(model: PreTrainedModel, layout_name: str) -> None:
    official, _ = to_official(model, layout(model, layout_name))
    converted = convert_checkpoint(official, model.config)
    assert type(converted) is type(model)
    torch.testing.assert_close(converted.state_dict(), model.state_dict(), atol=0, rtol=0)
    again, _ = to_official(converted, layout(model, layout_name))
    assert list(again) == list(official)
    torch.testing.assert_close(again, official, atol=0, rtol=0)


def test_heads_that_the_model_has_not_are_zeros_and_reported() -> None:
    tensors, zeros = to_official(tiny_ssast(reconstruction_loss_weight=0))
    gone = [f"module.gpredlayer.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")]
    assert zeros[4:] == gone
    assert [tuple(tensors[name].shape) for name in gone] == [(32, 32), (32,), (48, 32), (48,)]
    assert tensors["module.p_input_fdim"] == 32
    assert tensors["module.p_input_tdim"] == 50
    model = tiny_model()
    backbone, zeros = to_official(model.backbone)
    gone = [f"module.mlp_head.{layer}.{kind}" for layer in (0, 1) for kind in ("weight", "bias")]
    assert zeros[4:] == gone
    whole, _ = to_official(model)
    torch.testing.assert_close(backbone, whole | {name: backbone[name] for name in gone}, atol=0, rtol=0)


def test_prefix_positions_become_part_of_the_tokens_of_torch_only_ast() -> None:
    model = tiny_model()
    tensors, _ = to_official(model, layout(model, "TorchOnlyAST"))
    embeddings = model.backbone.embeddings
    expected = (embeddings.distillation_token[0, 0] + embeddings.prefix_positions[0, 1]).detach()
    torch.testing.assert_close(tensors["embedding.dist_token"], expected, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (tiny_model(hidden_act="relu"), "config.hidden_act='relu', but the official AST code has only 'gelu'"),
        (tiny_model(layer_norm_eps=1e-12), "config.layer_norm_eps=1e-12"),
        (tiny_model(pooling="mean"), "config.pooling='mean'"),
        (tiny_passt(use_distillation_token=False), "config.use_distillation_token=False"),
        (tiny_model(hidden_size=192), "config.num_attention_heads=4, but the official AST code has only 3"),
        (tiny_classifier().backbone, "config.frequency_stride=6, but the official SSAST pretraining code has only 8"),
    ],
)
def test_what_the_official_code_cannot_compute_is_an_error(model: PreTrainedModel, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_official(model)


def test_a_layout_that_is_a_one_way_street_or_has_no_place_is_an_error() -> None:
    with pytest.raises(ValueError, match="layout='DeiT' can be converted to our models, but not back"):
        to_official(tiny_model().backbone, layout(tiny_model().backbone, "DeiT"))
    with pytest.raises(ValueError, match=r"no place for \['objectives.classification_head.fc1.bias'"):
        to_official(tiny_ssast(), layout(tiny_classifier(), "SSAST"))


# --- transformers' own AST


def square_model(**changes: Any) -> HfASTForAudioClassification:
    return tiny_model(patch_size=8, problem_type="multi_label_classification", **changes)


def test_native_model_and_back_again_no_bit_changes(tmp_path: Path) -> None:
    model = square_model(id2label={0: "a", 1: "b"}, label2id={"a": 0, "b": 1}, num_labels=2)
    model.save_pretrained(tmp_path / "ours")
    front_end = HfASTFeatureExtractor(mean=-6.845978, std=5.5654526, max_length=50, num_mel_bins=32)
    front_end.save_pretrained(tmp_path / "ours")
    assert export_folder(tmp_path / "ours", tmp_path / "native", "native") == []

    native = AutoModelForAudioClassification.from_pretrained(tmp_path / "native")
    assert type(native) is ASTForAudioClassification
    assert (native.config.id2label, native.config.problem_type) == ({0: "a", 1: "b"}, "multi_label_classification")
    assert (native.config.patch_size, native.config.frequency_stride, native.config.time_stride) == (8, 6, 4)
    assert native.config.layer_norm_eps == 1e-6
    native.classifier.layernorm.eps = 1e-5
    clips = spectrograms(2, 50)
    torch.testing.assert_close(native(clips).logits, model(clips).logits, atol=1e-6, rtol=1e-6)

    native_front_end = AutoFeatureExtractor.from_pretrained(tmp_path / "native")
    assert type(native_front_end) is ASTFeatureExtractor
    clip = waveforms(1, 8000)[0]
    features = [f(clip.numpy(), sampling_rate=16000, return_tensors="pt") for f in (native_front_end, front_end)]
    # Both at float32 of log energies: 1e-3 of a nat in the quietest bins
    torch.testing.assert_close(features[0]["input_values"], features[1]["input_values"], atol=1e-3, rtol=0)

    again = HfASTForAudioClassification.from_pretrained(tmp_path / "native")
    torch.testing.assert_close(again.state_dict(), model.state_dict(), atol=0, rtol=0)


def test_native_backbone_and_back_again_no_bit_changes(tmp_path: Path) -> None:
    backbone = square_model().backbone
    native = to_native_ast(backbone)
    assert type(native) is ASTModel
    native.save_pretrained(tmp_path)
    again = HfASTModel.from_pretrained(tmp_path)
    torch.testing.assert_close(again.state_dict(), backbone.state_dict(), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (tiny_model(), r"config.patch_size=\[8, 6\], but transformers' own AST has square patches"),
        (square_model(pooling="cls"), "config.pooling='cls', but transformers' own AST has only 'prefix'"),
        (square_model(use_distillation_token=False), "config.use_distillation_token=False"),
        (tiny_passt(patch_size=8), "PaSSTForAudioClassification with positions per row and per column"),
        (tiny_ssast(patch_size=8, pooling="prefix"), r"no place for \['objectives.classification_head.fc1.bias'"),
    ],
)
def test_what_the_native_config_cannot_express_is_an_error(model: PreTrainedModel, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_native_ast(model)


def test_padding_that_the_native_front_end_does_not_have_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"padding_value=0\.5, but .* pads with zeros only"):
        to_native_front_end(HfASTFeatureExtractor(padding_value=0.5))


# --- Folders


def test_an_official_file_holds_nothing_but_its_tensors(tmp_path: Path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path / "ours")
    zeros = export_folder(tmp_path / "ours", tmp_path / "exported" / "model.pth", "official")
    content = torch.load(tmp_path / "exported" / "model.pth", weights_only=True)
    expected, expected_zeros = to_official(model)
    assert zeros == expected_zeros
    torch.testing.assert_close(content, expected, atol=0, rtol=0)
    assert [path.name for path in (tmp_path / "exported").iterdir()] == ["model.pth"]


@pytest.mark.parametrize(
    "model", [tiny_model(), tiny_ssast(), tiny_classifier(), tiny_passt()], ids=lambda model: type(model).__name__
)
def test_through_files_twice_and_no_bit_changes(model: PreTrainedModel, tmp_path: Path) -> None:
    """Saved, opened, exported, converted, and all of it once more."""
    files, content = [tmp_path / "first.pth", tmp_path / "second.pth"], []
    current = model
    for file in files:
        folder = tmp_path / f"{file.stem}-folder"
        current.save_pretrained(folder)
        loaded = type(model).from_pretrained(folder)
        torch.testing.assert_close(loaded.state_dict(), model.state_dict(), atol=0, rtol=0)
        export_folder(folder, file, "official")
        content.append(torch.load(file, weights_only=True))
        current = convert_checkpoint(content[-1], loaded.config)
        assert type(current) is type(model)
        torch.testing.assert_close(current.state_dict(), model.state_dict(), atol=0, rtol=0)
    assert list(content[0]) == list(content[1])
    torch.testing.assert_close(content[1], content[0], atol=0, rtol=0)


def test_a_bare_ssast_backbone_is_exported_as_its_folder_says(tmp_path: Path) -> None:
    backbone = randomize(SSASTModel(tiny_ssast_config()))
    backbone.save_pretrained(tmp_path / "ours")
    zeros = export_folder(tmp_path / "ours", tmp_path / "model.pth", "official")
    assert "module.mask_embed" in zeros
    converted = convert_checkpoint(
        torch.load(tmp_path / "model.pth", weights_only=True), tiny_ssast_config(), model_class=SSASTModel
    )
    torch.testing.assert_close(converted.state_dict(), backbone.state_dict(), atol=0, rtol=0)


def test_no_file_is_replaced_and_none_is_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model().save_pretrained(tmp_path / "ours")
    out = tmp_path / "out" / "model.pth"

    def full_disk(content: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(export.torch, "save", full_disk)
        with pytest.raises(OSError, match="No space"):
            export_folder(tmp_path / "ours", out, "official")
    assert list(out.parent.iterdir()) == []
    out.write_text("mine")
    with pytest.raises(ValueError, match="exists; give another name"):
        export_folder(tmp_path / "ours", out, "official")
    assert out.read_text() == "mine"


def test_bad_folders_and_layouts_are_errors(tmp_path: Path) -> None:
    to_native_ast(square_model()).save_pretrained(tmp_path / "native")
    with pytest.raises(ValueError, match="holds a ASTForAudioClassification, not one of ours"):
        export_folder(tmp_path / "native", tmp_path / "out", "official")
    with pytest.raises(ValueError, match=r"has no config\.json"):
        export_folder(tmp_path / "missing", tmp_path / "out", "official")
    with pytest.raises(ValueError, match="layout='onnx' is unknown"):
        export_folder(tmp_path / "native", tmp_path / "out", "onnx")
    HfASTModel(tiny_config()).save_pretrained(tmp_path / "headless")
    config = tmp_path / "headless" / "config.json"
    config.write_text(config.read_text().replace('"HfASTModel"', '"HfASTForAudioClassification"'))
    with pytest.raises(ValueError, match=r"missing keys: \['classifier.linear.bias'"):
        export_folder(tmp_path / "headless", tmp_path / "out", "official")
