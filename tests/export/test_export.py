"""Exported files: their logits at batch sizes and lengths other than the traced ones, their limits, their folders."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch._inductor.config

from hf_ast import HfASTFeatureExtractor
from hf_ast.export import export_model, export_program
from hf_ast.export.onnx_file import quantize_onnx
from hf_ast.export.program import EXAMPLE_BATCH_SIZE, SOURCES, InputLimits, input_limits
from hf_ast.export.runtimes import OPENERS, Runner
from hf_ast.export.verification import verify
from tests.support.classifiers import FAMILIES, logits_of, tiny_classifier
from tests.support.tiny import spectrograms, waveforms

# Of float32 in another order, with logits up to 10
TOLERANCE = 5e-6
SMALL = {"num_hidden_layers": 1}


@pytest.fixture(params=["keywords", pytest.param("passt", marks=pytest.mark.slow)])
def onnx_export(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """A model, and the folder of its ONNX file from waveforms; the slow tests have all families."""
    return request.param, request.getfixturevalue(f"{request.param}_export")


def check(run: Runner, family: str, source: str = "waveform", **changes: object) -> None:
    """Compare with what users get from the feature extractor and the model, at both limits and between them."""
    model, extractor = tiny_classifier(family, **changes)
    low, high = input_limits(model, extractor, source=source)
    for batch_size, length in ((1, low), (5, high), (1, high - 1), (3, low + 1), (4, (low + high) // 2)):
        assert batch_size != EXAMPLE_BATCH_SIZE
        if source == "waveform":
            inputs = waveforms(batch_size, length)
            expected = logits_of(model, extractor, inputs)
        else:
            inputs = spectrograms(batch_size, length)
            with torch.no_grad():
                expected = model(inputs).logits
        torch.testing.assert_close(run(inputs), expected, atol=TOLERANCE, rtol=0)


def test_onnx_from_waveforms(onnx_export: tuple[str, Path]) -> None:
    family, folder = onnx_export
    model, _ = tiny_classifier(family, **SMALL)
    check(OPENERS["onnx"](folder / "model.onnx"), family, **SMALL)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (argument,), (result,) = session.get_inputs(), session.get_outputs()
    assert (argument.name, argument.type, len(argument.shape)) == ("waveform", "tensor(float)", 2)
    assert all(isinstance(size, str) for size in argument.shape), argument.shape
    assert (result.name, result.shape[1]) == ("logits", model.config.num_labels)
    (domain,) = onnx.load(folder / "model.onnx").opset_import
    assert (domain.domain, domain.version) == ("", 18)


def test_a_waveform_that_is_too_long_is_an_error_of_the_file(onnx_export: tuple[str, Path]) -> None:
    _, folder = onnx_export
    limits = json.loads((folder / "metadata.json").read_text())
    run = OPENERS["onnx"](folder / "model.onnx")
    with pytest.raises(Exception, match=r"running (Expand|Gather) node"):
        run(waveforms(1, limits["max_length"] + 4000))


def test_folder(onnx_export: tuple[str, Path]) -> None:
    family, folder = onnx_export
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "classify.py",
        "metadata.json",
        "model.onnx",
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["out"]  # nothing is left of the writing
    metadata = json.loads((folder / "metadata.json").read_text())
    model, extractor = tiny_classifier(family)
    assert metadata["labels"] == [model.config.id2label[index] for index in range(model.config.num_labels)]
    assert metadata["sampling_rate"] == extractor.sampling_rate
    assert (metadata["activation"], metadata["input"], metadata["int8"]) == ("softmax", "waveform", False)
    proof = metadata["verification"]
    assert proof["num_same_labels"] == proof["num_clips"] > 8
    assert 0 < proof["largest_difference"] < TOLERANCE
    readme = (folder / "README.md").read_text()
    assert f"{metadata['min_length']} to {metadata['max_length']} samples" in readme
    assert "$" not in readme


def test_int8(onnx_export: tuple[str, Path], tmp_path: Path) -> None:
    """All linear layers are quantised and nothing else; the logits are those of 8 bits."""
    family, folder = onnx_export
    model, extractor = tiny_classifier(family, **SMALL)
    quantize_onnx(folder / "model.onnx", tmp_path / "int8.onnx")
    whole, quantized = (onnx.load(path).graph.node for path in (folder / "model.onnx", tmp_path / "int8.onnx"))
    assert sum(node.op_type == "MatMulInteger" for node in quantized) == 4 * model.config.num_hidden_layers + 1
    front_ends = [
        sorted(n.SerializeToString() for n in nodes if n.name.startswith("front_end")) for nodes in (whole, quantized)
    ]
    assert front_ends[0] == front_ends[1]
    assert len(front_ends[0]) > 10
    inputs = waveforms(4, 8000)
    difference = (OPENERS["onnx"](tmp_path / "int8.onnx")(inputs) - logits_of(model, extractor, inputs)).abs().max()
    assert 1e-4 < difference < 0.3  # of logits up to 10


@pytest.mark.slow
def test_torch_export(tmp_path: Path) -> None:
    export_model(*tiny_classifier("ssast", **SMALL), tmp_path / "out", to="torch-export")
    check(OPENERS["torch-export"](tmp_path / "out" / "model.pt2"), "ssast", **SMALL)


def test_the_model_stays_as_it_is() -> None:
    model, extractor = tiny_classifier("ast", **SMALL)
    model.bfloat16().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    program = export_program(model, extractor, source="features")
    assert {tensor.dtype for tensor in program.state_dict.values()} == {torch.float32}
    assert model.training
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, before[name])


def test_a_mask_of_the_extractor_makes_the_length_dynamic() -> None:
    """The clip alone, as in the batch with its mask: no padding, and no clip shorter than a patch."""
    model, _ = tiny_classifier("ast", position_crop="center", **SMALL)
    extractor = HfASTFeatureExtractor(num_mel_bins=32, max_length=50, return_attention_mask=True)
    limits = input_limits(model, extractor, source="waveform")
    assert limits == InputLimits(400 + 5 * 160, 400 + 49 * 160)
    run = export_program(model, extractor).module()
    for batch_size, length in ((1, limits.shortest), (3, limits.longest), (1, 5000)):
        inputs = waveforms(batch_size, length)
        torch.testing.assert_close(run(inputs), logits_of(model, extractor, inputs), atol=TOLERANCE, rtol=0)
    with pytest.raises(Exception, match="8240"):
        run(waveforms(1, limits.longest + 1))


def test_a_wrong_file_is_found_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, extractor = tiny_classifier("passt", **SMALL)
    limits = input_limits(model, extractor, source="features")

    def wrong(inputs: torch.Tensor) -> torch.Tensor:
        logits = model(inputs).logits
        return logits + 2e-4 * (inputs.shape[1] == limits.shortest)

    assert verify(wrong, model, extractor, limits, source="features").largest_difference == pytest.approx(
        2e-4, rel=0.1
    )
    with pytest.raises(ValueError, match="finite"):
        verify(lambda inputs: wrong(inputs) * np.nan, model, extractor, limits, source="features")
    monkeypatch.setattr("hf_ast.export.folder.TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="differ from those of the model by"):
        export_model(model, extractor, tmp_path / "out", to="torch-export", source="features")
    assert list(tmp_path.iterdir()) == []


def test_errors(tmp_path: Path) -> None:
    model, extractor = tiny_classifier("ast", **SMALL)
    for arguments, message in (
        ({"to": "tflite"}, "to='tflite' is unknown"),
        ({"source": "mp3"}, "source='mp3' is unknown"),
        ({"to": "aoti", "int8": True}, "int8=True needs to='onnx'"),
        ({"opset": 11}, "opset=11 must be at least 18"),
    ):
        with pytest.raises(ValueError, match=message):
            export_model(model, extractor, tmp_path / "out", **arguments)
    with pytest.raises(ValueError, match="exists; give another folder"):
        export_model(model, extractor, tmp_path)
    with pytest.raises(ValueError, match=r"pads to max_length=60 frames, but the model takes 6 to 53"):
        export_program(model, HfASTFeatureExtractor(num_mel_bins=32, max_length=60))
    with pytest.raises(ValueError, match="num_mel_bins=64, but the model has 32"):
        export_program(model, HfASTFeatureExtractor(num_mel_bins=64, max_length=50))
    with pytest.raises(ValueError, match="only models of AST, SSAST, PaSST and fPaSST"):
        export_program(model.backbone, extractor)
    no_compiler = torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")})
    with no_compiler, pytest.raises(ValueError, match="there is no compiler"):
        export_model(model, extractor, tmp_path / "out", to="aoti", source="features")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("pooling", ["cls", "prefix", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("opset", [18, 20, 21])
def test_every_onnx_file(family: str, pooling: str, source: str, opset: int, tmp_path: Path) -> None:
    model, extractor = tiny_classifier(family, pooling=pooling, **SMALL)
    export_model(model, extractor, tmp_path / "out", source=source, opset=opset)
    (domain,) = onnx.load(tmp_path / "out" / "model.onnx").opset_import
    assert domain.version == opset
    check(OPENERS["onnx"](tmp_path / "out" / "model.onnx"), family, source, pooling=pooling, **SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("to", ["torch-export", "aoti"])
def test_every_package(family: str, source: str, to: str, tmp_path: Path) -> None:
    export_model(*tiny_classifier(family, **SMALL), tmp_path / "out", source=source, to=to)
    check(OPENERS[to](tmp_path / "out" / "model.pt2"), family, source, **SMALL)
