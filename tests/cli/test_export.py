"""`hf-ast export`."""

import json
from pathlib import Path

import pytest
import torch
import torch._inductor.config

from hf_ast.cli import main
from hf_ast.inference.loading import load_classifier
from tests.support.tiny import spectrograms


def test_program_of_a_folder(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = [
        "export",
        str(model_folder),
        "--to",
        "torch-export",
        "--from",
        "features",
        "--out",
        str(out),
        "--json",
    ]
    assert main(arguments) == 0
    result, messages = capsys.readouterr()
    data = json.loads(result)
    assert data["folder"] == str(out)
    assert data["num_bytes"] == (out / "model.pt2").stat().st_size
    assert "largest difference of the logits" in messages
    inputs = spectrograms(3, 31)
    model, _ = load_classifier(model_folder)
    with torch.no_grad():
        torch.testing.assert_close(torch.export.load(out / "model.pt2").module()(inputs), model(inputs).logits)
    assert main(arguments) == 2
    assert "exists" in capsys.readouterr().err


def test_a_failure_is_one_sentence(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    with torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")}):
        assert main(["export", str(model_folder), "--to", "aoti", "--out", str(out)]) == 1
    assert "there is no compiler; install one" in capsys.readouterr().err
    assert not out.exists()


def test_options_that_do_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--int8"], ["--opset", "20"]):
        assert main(["export", "--to", "torch-export", "--out", str(tmp_path / "out"), *options]) == 2
        assert "used with --to onnx" in capsys.readouterr().err
