"""Configs in transformers' own layout of AST, as people have them: epsilon, labels, activations, ports of SSAST."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.activations import ACT2FN

from hf_ast import HfASTConfig, HfASTForAudioClassification, SSASTForAudioClassification, SSASTModel
from hf_ast.conversion.registry import CHECKPOINTS
from hf_ast.models.configuration_native_common import OFFICIAL_IDS, native_settings, official_id
from hf_ast.models.modules_encoder import ACTIVATIONS
from tests.support.native import logits, native_folder
from tests.support.tiny import spectrograms

CLIP = spectrograms(2, 128)


# --- Epsilon


def test_a_folder_keeps_the_epsilon_that_it_was_trained_with(tmp_path: Path) -> None:
    """In transformers it is that of all norms, the head's included: the logits are those of transformers."""
    for eps in (1e-12, 1e-5):
        native = native_folder(tmp_path, layer_norm_eps=eps)
        model = HfASTForAudioClassification.from_pretrained(tmp_path)
        assert (model.config.layer_norm_eps, model.config.head_layer_norm_eps) == (eps, eps)
        torch.testing.assert_close(logits(model, CLIP), logits(native, CLIP), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"layer_norm_eps": 1e-6}, (1e-6, 1e-6)),
        ({"layer_norm_eps": 1e-6, "head_layer_norm_eps": 1e-5}, (1e-6, 1e-5)),
        ({"head_layer_norm_eps": 1e-5}, (1e-12, 1e-5)),
    ],
)
def test_an_epsilon_that_is_given_overrides_the_stored_one(
    given: dict[str, float], expected: tuple[float, float], tmp_path: Path
) -> None:
    native_folder(tmp_path)
    model = HfASTForAudioClassification.from_pretrained(tmp_path, **given)
    assert (model.config.layer_norm_eps, model.config.head_layer_norm_eps) == expected
    assert (model.backbone.norm.eps, model.classifier.norm.eps) == expected


def test_the_official_models_get_the_official_epsilon(tmp_path: Path) -> None:
    """By their id, or in the cache of the Hub; a copy elsewhere keeps its own, since nothing tells it from others."""
    stored = {"layer_norm_eps": 1e-12}
    for name in ("MIT/ast-finetuned-audioset-10-10-0.4593", "mtg-upf/discogs-maest-30s-pw-129e"):
        cached = tmp_path / f"models--{name.replace('/', '--')}" / "snapshots" / "0123abc"
        native_folder(cached)
        for official in (name, name.upper(), cached, f"{cached}/"):
            values = native_settings(stored, official)
            assert (values["layer_norm_eps"], values["head_layer_norm_eps"]) == (1e-6, 1e-5)
        config = HfASTConfig.from_pretrained(cached)
        assert (config.layer_norm_eps, config.head_layer_norm_eps) == (1e-6, 1e-5)
    native_folder(tmp_path / "ast-finetuned-audioset-10-10-0.4593")
    for other in (tmp_path / "ast-finetuned-audioset-10-10-0.4593", "someone/ast-finetuned-audioset-10-10-0.4593"):
        values = native_settings(stored | {"_name_or_path": "MIT/ast-finetuned-audioset-10-10-0.4593"}, other)
        assert (values["layer_norm_eps"], values["head_layer_norm_eps"]) == (1e-12, 1e-12)
    assert native_settings({}, "someone/model")["layer_norm_eps"] == 1e-12  # the default of transformers


def test_a_possible_copy_of_an_official_model_is_pointed_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    native_folder(tmp_path, num_labels=527)
    HfASTConfig.from_pretrained(tmp_path)
    assert "keeps the layer_norm_eps=1e-12 of its config.json" in caplog.text
    assert "layer_norm_eps=1e-6, head_layer_norm_eps=1e-5" in caplog.text
    caplog.clear()
    HfASTConfig.from_pretrained(tmp_path, layer_norm_eps=1e-6)
    assert caplog.text == ""


def test_the_official_ids_are_those_of_the_registry() -> None:
    known = [
        alias
        for checkpoint in CHECKPOINTS.values()
        for alias in checkpoint.aliases
        if alias.startswith(("MIT/", "mtg-upf/"))
    ]
    assert sorted(known) == sorted(OFFICIAL_IDS)
    assert [official_id(name) for name in OFFICIAL_IDS] == list(OFFICIAL_IDS)


# --- Labels


@pytest.mark.parametrize(
    ("stored", "expected", "warning"),
    [
        ({"0": 7, "1": 8, "2": 9, "3": 10, "4": 1.5}, ["7", "8", "9", "10", "1.5"], ""),
        ({"0": "a", "1": None, "2": "c", "3": "d", "4": "e"}, ["a", "LABEL_1", "c", "d", "e"], ""),
        (None, ["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3", "LABEL_4"], ""),
        ({"1": "a", "2": "b", "3": "c", "4": "d", "5": "e"}, ["a", "b", "c", "d", "e"], "5 labels from 1 to 5"),
        ({"0": "a", "4": "e"}, ["a", "LABEL_1", "LABEL_2", "LABEL_3", "e"], "2 labels from 0 to 4"),
        ({"10": "c", "2": "b", "0": "a", "30": "e", "20": "d"}, ["a", "b", "c", "d", "e"], "5 labels from 0 to 30"),
    ],
    ids=["numbers", "a name is null", "null", "one-based", "gaps that the head has", "gaps"],
)
def test_labels_as_they_are_found(
    stored: Any, expected: list[str], warning: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The head decides; what was assumed about the numbers is said."""
    native = native_folder(tmp_path)
    clip = logits(native, CLIP)
    native_folder(tmp_path, stored={"id2label": stored, "label2id": None})
    model = HfASTForAudioClassification.from_pretrained(tmp_path)
    assert [model.config.id2label[index] for index in range(5)] == expected
    assert model.config.label2id == {label: index for index, label in enumerate(expected)}
    torch.testing.assert_close(logits(model, CLIP), clip, atol=1e-5, rtol=0)
    assert (warning in caplog.text) if warning else (caplog.text == "")


@pytest.mark.parametrize("stored", [{"a": "b"}, {"0": ["a"]}, {"0": True}, {str(10**9): "a"}, {"0": "a", "00": "b"}])
def test_what_are_no_labels_is_refused(stored: dict[str, Any], tmp_path: Path) -> None:
    native_folder(tmp_path, stored={"id2label": stored})
    with pytest.raises(Exception, match="id2label"):
        HfASTConfig.from_pretrained(tmp_path)


def test_styles_of_discogs_are_multi_label() -> None:
    styles = {str(index): f"Genre---Style {index}" for index in range(400)}
    assert native_settings({"id2label": styles}, "x")["problem_type"] == "multi_label_classification"
    words = {str(index): f"word {index}" for index in range(400)}
    assert native_settings({"id2label": words}, "x").get("problem_type") is None


# --- Activations


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_an_activation_is_the_function_that_transformers_has_by_its_name(name: str) -> None:
    values = torch.linspace(-6, 6, 1001)
    torch.testing.assert_close(ACTIVATIONS[name](values), ACT2FN[name](values), atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", ["gelu_new", "gelu_fast", "quick_gelu", "gelu_pytorch_tanh"])
def test_a_model_with_another_activation_opens(name: str, tmp_path: Path) -> None:
    native = native_folder(tmp_path, hidden_act=name)
    model = HfASTForAudioClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(model, CLIP), logits(native, CLIP), atol=1e-5, rtol=0)


# --- Ports of SSAST


@pytest.mark.parametrize("part", ["classifier", "backbone"])
def test_a_port_of_ssast_opens_in_its_classes(part: str, tmp_path: Path) -> None:
    native = native_folder(tmp_path, frequency_stride=16, time_stride=16)
    backbone = native.audio_spectrogram_transformer
    if part == "backbone":
        backbone.save_pretrained(tmp_path)
    model, found = SSASTModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(found.values())
    assert (model.config.pooling, model.config.position_table, model.config.model_type) == ("mean", "ssast", "ssast")
    with torch.no_grad():
        tokens, expected = model(CLIP), backbone(CLIP).last_hidden_state
    torch.testing.assert_close(tokens.last_hidden_state, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.pooler_output, expected[:, 2:].mean(1), atol=1e-5, rtol=0)
    longer = SSASTForAudioClassification.from_pretrained(
        tmp_path, max_length=256, num_labels=3, ignore_mismatched_sizes=True
    )
    assert longer.backbone.embeddings.positions.table.shape == (1, 2, 16, 32)
    assert logits(longer, spectrograms(1, 256)).shape == (1, 3)
    if part == "classifier":
        as_ast = SSASTForAudioClassification.from_pretrained(tmp_path, pooling="prefix")
        torch.testing.assert_close(logits(as_ast, CLIP), logits(native, CLIP), atol=1e-5, rtol=0)
