"""The scripts in the top-level folder `conversion/`: short, and what they make opens with the right numbers."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, AutoModelForPreTraining

from hf_ast.conversion import registry
from hf_ast.conversion.reference import reference_forward
from tests.support.converted import OPENMIC, SPEECH_COMMANDS, SSAST, tiny_ast, tiny_passt
from tests.support.interpreter import ROOT
from tests.support.official_files import MICRO_PASST, unwrapped, write_official_file
from tests.support.tiny import GEOMETRY, SIZE, spectrograms

SCRIPTS = sorted((ROOT / "conversion").glob("*.py"))


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry has tiny models in the place of base ones."""
    tiny = {SPEECH_COMMANDS: tiny_ast()[0], OPENMIC: tiny_passt()[0]}
    monkeypatch.setattr(registry, "ALIASES", dict(registry.ALIASES) | tiny)


def run_script(name: str, *arguments: Any) -> None:
    runpy.run_path(str(ROOT / "conversion" / name))["main"](*map(str, arguments))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_script_is_short_and_says_how_it_is_run(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    assert f"    python conversion/{path.name} " in text


@pytest.mark.usefixtures("known")
def test_script_of_ast_makes_a_folder_with_the_numbers_of_the_official_code(tmp_path: Path) -> None:
    torch.save(tiny_ast()[1], tmp_path / "file.pth")
    run_script("convert_ast.py", tmp_path / "file.pth", SPEECH_COMMANDS, tmp_path / "out")
    model = AutoModelForAudioClassification.from_pretrained(tmp_path / "out")
    expected = reference_forward(
        unwrapped(tiny_ast()[1]),
        spectrograms(2, 50),
        num_heads=SIZE["num_attention_heads"],
        stride=(GEOMETRY["frequency_stride"], GEOMETRY["time_stride"]),
    )
    torch.testing.assert_close(model(spectrograms(2, 50)).logits, expected["logits"], atol=1e-5, rtol=1e-5)
    assert model.config.id2label[0] == "backward"
    assert AutoFeatureExtractor.from_pretrained(tmp_path / "out").mean == -6.845978


@pytest.mark.usefixtures("known")
def test_script_of_passt_takes_the_averaged_weights_of_its_own_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tiny_passt()[1]
    averaged = {name: 0.5 * tensor for name, tensor in raw.items()}
    state = {f"net.{name}": tensor for name, tensor in raw.items()}
    state |= {f"net_swa.{name}": tensor for name, tensor in averaged.items()}
    torch.save({"state_dict": state | {"mel.window": torch.ones(800)}, "epoch": 129}, tmp_path / "last.ckpt")
    run_script("convert_passt.py", tmp_path / "last.ckpt", OPENMIC, tmp_path / "out")
    assert "left out: state_dict.mel, 1 tensor" in capsys.readouterr().out
    run_script("convert_passt.py", tmp_path / "last.ckpt", OPENMIC, tmp_path / "raw", "raw")
    clip = spectrograms(1, 998, 128)
    for folder, tensors in (("out", averaged), ("raw", raw)):
        model = AutoModelForAudioClassification.from_pretrained(tmp_path / folder)
        expected = reference_forward(tensors, clip, num_heads=MICRO_PASST["num_attention_heads"], stride=(10, 10))
        torch.testing.assert_close(model(clip).logits, expected["logits"], atol=1e-5, rtol=1e-5)


def test_script_of_ssast_keeps_both_objectives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_official_file(registry.find(SSAST), tmp_path)
    run_script("convert_ssast.py", file, SSAST, tmp_path / "out")
    assert "p_input_tdim = 1024, config.max_length" in capsys.readouterr().out
    model, info = AutoModelForPreTraining.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    official = unwrapped(torch.load(file, weights_only=True))
    assert torch.equal(model.objectives.mask_embedding.flatten(), official["mask_embed"].flatten())
