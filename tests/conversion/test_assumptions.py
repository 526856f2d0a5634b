"""What no tensor tells is listed, in the output, the record and the card, and a verification does not claim it."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from hf_ast.cli import main
from hf_ast.conversion.assumptions import with_heads
from hf_ast.conversion.folders import convert_file, read_provenance
from hf_ast.conversion.registry import find
from hf_ast.conversion.verify import verify_folder
from tests.support.official_files import small_content, tiny_ast_content, write_official_file
from tests.support.tiny import GEOMETRY, SIZE

AST = "ast-base-s10-audioset-0.4593"


@pytest.mark.parametrize(("width", "heads"), [(192, 3), (384, 6), (768, 12), (1024, 16)])
def test_heads_follow_from_the_width_by_the_official_rule(width: int, heads: int) -> None:
    for name in (AST, "ssast-tiny-frame-400", "passt-s-s10-audioset-0.472"):
        config = find(name).build_config(**with_heads(find(name), {"hidden_size": width}))
        assert config.num_attention_heads == heads
    assert with_heads(find(AST), {"hidden_size": width, "num_attention_heads": 2})["num_attention_heads"] == 2


def test_width_to_which_the_rule_does_not_apply_needs_a_number() -> None:
    with pytest.raises(ValueError, match=r"hidden_size=48 is no multiple of 64, .* give num_attention_heads as well"):
        with_heads(find(AST), {"hidden_size": 48})


def test_small_ast_is_converted_with_three_heads_and_what_is_assumed_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = small_content("audioset_10_10_0.4593.pth", num_layers=1, sizes={768: 192, 2304: 576, 3072: 768})
    torch.save(content, tmp_path / "mine.pth")
    settings = ["--set=hidden_size=192", "--set=intermediate_size=768", "--set=num_hidden_layers=1", "--set=std=4.0"]
    out = tmp_path / "out"
    assert main(["convert", str(tmp_path / "mine.pth"), "--as", AST, "--out", str(out), *settings, "--verify"]) == 0
    assert AutoConfig.from_pretrained(out).num_attention_heads == 3
    text = capsys.readouterr().err
    assert "by the official rule, 64 values per head: num_attention_heads=3" in text
    assert "as given: std=4.0" in text
    assert f"as in {AST}: hidden_act=gelu, layer_norm_eps=1e-06" in text
    assert "NOT proved, as no tensor tells it: num_attention_heads, hidden_act, layer_norm_eps" in text
    provenance = read_provenance(out)
    assert provenance["assumed"]["mean"] == {"value": -4.2677393, "source": f"as in {AST}"}
    assert provenance["assumed"]["sampling_rate"]["value"] == 16000
    assert {"mean", "std", "front_end", "time_stride"} <= set(provenance["verification"]["unproved"])
    card = (out / "README.md").read_text()
    assert "No tensor tells the following, and no verification can prove it." in card
    assert "mean=-4.2677393" in card


def test_released_file_has_nothing_that_is_assumed_but_one_with_changes_has(tmp_path: Path) -> None:
    checkpoint = find("ssast-tiny-patch-400")
    file = write_official_file(checkpoint, tmp_path)
    assert read_provenance(convert_file(file, checkpoint, tmp_path / "released"))["assumed"] == {}
    changed = convert_file(file, checkpoint, tmp_path / "changed", changes={"mean": -5.0})
    assumed = read_provenance(changed)["assumed"]
    assert assumed["mean"] == {"value": -5.0, "source": "as given"}
    # The file holds the size of the input. There are as many positions with a stride of 15 mel bins as with one of 16
    assert assumed.keys().isdisjoint({"max_length", "num_mel_bins"})
    assert assumed["frequency_stride"] == {"value": 16, "source": f"as in {checkpoint.name}"}


def test_verification_of_a_fine_tuned_file_does_not_claim_its_statistics(tmp_path: Path) -> None:
    torch.save(tiny_ast_content(), tmp_path / "mine.pth")
    changes = SIZE | GEOMETRY | {"num_labels": 5}
    folder = convert_file(tmp_path / "mine.pth", find(AST), tmp_path / "out", changes=changes)
    verification = verify_folder(folder, tmp_path / "mine.pth")
    assert verification.passed
    assert {"mean", "std", "num_attention_heads", "layer_norm_eps", "hidden_act"} <= set(verification.unproved)
    assert json.loads((folder / "conversion.json").read_text())["assumed"]["id2label"]["source"] == "as given"
