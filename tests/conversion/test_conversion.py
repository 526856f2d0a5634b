"""What `convert_checkpoint` refuses; that it is right is what the golden cases show."""

import re

import pytest
import torch
from torch import Tensor

from hf_ast import HfASTConfig, HfASTForAudioClassification, HfASTModel
from hf_ast.conversion import convert_checkpoint
from hf_ast.conversion.key_maps import Dropped, look_up
from tests.support.official_files import tiny_ast_content, tiny_ast_outputs, unwrapped
from tests.support.tiny import spectrograms, tiny_config


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    return unwrapped(tiny_ast_content())


@pytest.mark.parametrize("prefix", ["", "module."])
@torch.inference_mode()
def test_with_and_without_the_prefix_of_data_parallel(prefix: str, official: dict[str, Tensor]) -> None:
    checkpoint = {prefix + key: value for key, value in official.items()}
    input_values = spectrograms(2, 50)
    expected = tiny_ast_outputs(input_values)
    model = convert_checkpoint(checkpoint, tiny_config())
    assert not model.training
    torch.testing.assert_close(model(input_values).logits, expected["logits"], atol=1e-5, rtol=1e-5)
    backbone = convert_checkpoint(checkpoint, tiny_config(), model_class=HfASTModel)
    tokens = backbone(input_values).last_hidden_state
    torch.testing.assert_close(tokens, expected["last_hidden_state"], atol=1e-5, rtol=1e-5)


def changed(**changes: object) -> dict[str, object]:
    """A checkpoint with tensors replaced, or removed where the new value is None."""
    checkpoint = unwrapped(tiny_ast_content()) | {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in checkpoint.items() if value is not None}


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        (changed(v__extra=torch.zeros(1)), "'v.extra', which is unknown"),
        (changed(v__norm__weight=None), "'backbone.norm.weight'"),
        (changed(**{"v.blocks.1.attn.qkv.bias": None}), "'backbone.layers.1.attention.qkv.bias'"),
        (changed(**{"v.blocks.2.norm1.bias": torch.zeros(32)}), "'backbone.layers.2.norm1.bias'"),
        (changed(mlp_head__1__weight=torch.zeros(7, 32)), r"shape \(7, 32\), the config describes \(5, 32\)"),
        (changed(v__pos_embed=torch.zeros(1, 63, 32)), r"63 positions, config describes 2 \+ 5 x 12"),
        (changed(v__cls_token=[1.0]), "is a list"),
        ({"encoder.weight": torch.zeros(1)}, "no layout known"),
    ],
)
def test_what_does_not_fit_is_an_error_that_names_it(checkpoint: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(checkpoint, tiny_config())


def test_a_layout_may_number_its_layers_under_any_name() -> None:
    old = Dropped("not used", (1,))
    key_map = {
        "stem.0.weight": "projection.weight",
        "stage.1.block.{}.mlp.0.weight": "layers.{}.fc1.weight",
        "stage.1.block.{}.old": old,
    }
    assert look_up("stem.0.weight", key_map) == ("projection.weight", None)
    assert look_up("stage.1.block.11.mlp.0.weight", key_map) == ("layers.11.fc1.weight", 11)
    assert look_up("stage.1.block.0.old", key_map) == (old, 0)
    assert look_up("stage.2.block.0.old", key_map) == (None, None)


def test_an_image_model_gets_a_new_head_only_when_asked_for(official: dict[str, Tensor]) -> None:
    config = HfASTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, max_length=64, num_labels=5
    )
    checkpoint = {re.sub(r"^v\.", "", key): value for key, value in official.items() if not key.startswith("mlp_head")}
    checkpoint["patch_embed.proj.weight"] = torch.randn(32, 3, 16, 16)
    checkpoint["pos_embed"] = torch.randn(1, 2 + 14 * 14, 32)
    assert type(convert_checkpoint({"model": checkpoint}, config)) is HfASTModel
    classifier = convert_checkpoint({"model": checkpoint}, config, model_class=HfASTForAudioClassification)
    assert classifier.classifier.linear.weight.std() > 0
    weight = classifier.backbone.embeddings.patch_embedding.projection.weight
    torch.testing.assert_close(weight.data, checkpoint["patch_embed.proj.weight"].sum(1, keepdim=True), atol=0, rtol=0)
    with pytest.raises(ValueError, match="do not form a square grid"):
        convert_checkpoint({"model": checkpoint | {"pos_embed": torch.randn(1, 2 + 15, 32)}}, config)
