"""Front ends in torch.export, ONNX and torch.compile, at batch sizes and lengths other than those of the example."""

from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from hf_ast import KaldiFbank, PaSSTMel
from tests.support.tiny import tiny_model, tiny_passt, waveforms

RATE = 16000
FRONT_ENDS = {
    "kaldi": lambda: KaldiFbank(RATE, 64),
    "passt": lambda: PaSSTMel(sampling_rate=RATE, high_frequency_hz=8000.0, num_mel_bins=64).eval(),
}
# Two frames: torch.export takes 1 for a constant
MIN_SAMPLES = {"kaldi": 560, "passt": 514}
# The shortest clip, one chunk of frames, several
SIZES = ((1, 0), (3, 8077), (1, 5 * RATE), (4, RATE + 3))
front_ends = pytest.mark.parametrize("name", FRONT_ENDS)


def inputs(name: str) -> list[Tensor]:
    return [waveforms(batch_size, max(samples, MIN_SAMPLES[name]), samples) for batch_size, samples in SIZES]


def dynamic(name: str) -> tuple[dict[int, Dim]]:
    return ({0: Dim("batch"), 1: Dim("samples", min=MIN_SAMPLES[name])},)


@front_ends
@pytest.mark.parametrize(
    "example_s", [0.25, pytest.param(5.0, marks=pytest.mark.slow)], ids=["one chunk", "several chunks"]
)
def test_torch_export(name: str, example_s: float) -> None:
    front_end = FRONT_ENDS[name]()
    example = waveforms(2, int(example_s * RATE))
    exported = torch.export.export(front_end, (example,), dynamic_shapes=dynamic(name)).module()
    for waveform in inputs(name):
        torch.testing.assert_close(exported(waveform), front_end(waveform), atol=1e-6, rtol=0)


@front_ends
def test_torch_compile(name: str) -> None:
    """The graph is the same for the second length and all others."""
    torch._dynamo.reset()
    front_end = FRONT_ENDS[name]()
    graphs = []

    def count(graph: torch.fx.GraphModule, example: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(front_end, fullgraph=True, backend=count)
    for waveform in (waveforms(2, RATE), *inputs(name)[1:], waveforms(5, 2 * RATE + 7)):
        torch.testing.assert_close(compiled(waveform), front_end(waveform), atol=1e-6, rtol=0)
    assert len(graphs) <= 4  # the first; any length; any batch size; one clip


@front_ends
def test_torch_jit_trace(name: str) -> None:
    front_end = FRONT_ENDS[name]()
    traced = torch.jit.trace(front_end, (waveforms(1, 5 * RATE),))
    for waveform in inputs(name):
        torch.testing.assert_close(traced(waveform), front_end(waveform), atol=1e-6, rtol=0)


def onnx_session(model: nn.Module, example: Tensor, sizes: tuple[dict[int, Dim]], path: Path) -> Callable[..., Tensor]:
    torch.onnx.export(model, (example,), str(path), dynamo=True, dynamic_shapes=sizes, verbose=False)
    session = onnxruntime.InferenceSession(str(path))
    (inputs,) = session.get_inputs()
    return lambda waveform: torch.as_tensor(session.run(None, {inputs.name: waveform.numpy()})[0])


@pytest.mark.slow
@front_ends
def test_onnx(name: str, tmp_path: Path) -> None:
    """Energies to float32 rounding of an FFT and a logarithm, which is relative to the energy of the whole frame."""
    front_end = FRONT_ENDS[name]()
    session = onnx_session(front_end, waveforms(2, RATE), dynamic(name), tmp_path / "front_end.onnx")
    for waveform in inputs(name):
        features, expected = session(waveform).double(), front_end(waveform).double()
        assert features.shape == expected.shape
        logs = [x if name == "kaldi" else x * 5 - 4.5 for x in (features, expected)]
        energies, expected_energies = (x.exp() for x in logs)
        assert ((energies - expected_energies).abs().amax(-1) / expected_energies.amax(-1)).max() < 3e-6
        assert (features - expected).abs().mean() < 1e-5


class FromWaveform(nn.Module):
    """Waveforms to logits, as users export it."""

    def __init__(self, front_end: nn.Module, model: nn.Module):
        super().__init__()
        self.front_end = front_end
        self.model = model

    def forward(self, waveform: Tensor) -> Tensor:
        return self.model(self.front_end(waveform) / 4).logits


@pytest.mark.slow  # in the fast tests, tests/export has files from waveforms
@pytest.mark.parametrize("family", ["ast", "passt"])
def test_onnx_from_waveform_to_logits(family: str, tmp_path: Path) -> None:
    if family == "ast":
        model, shortest, longest = FromWaveform(KaldiFbank(RATE, 32), tiny_model(num_hidden_layers=1)), 1500, 8200
    else:
        front_end = PaSSTMel(sampling_rate=RATE, high_frequency_hz=8000.0, num_mel_bins=32)
        model, shortest, longest = FromWaveform(front_end, tiny_passt(num_hidden_layers=1)).eval(), 3000, 16000
    sizes = ({0: Dim("batch"), 1: Dim("samples", min=shortest, max=longest)},)
    session = onnx_session(model, waveforms(2, 6000), sizes, tmp_path / "model.onnx")
    for waveform in (waveforms(1, shortest), waveforms(3, 6099), waveforms(4, longest)):
        with torch.no_grad():
            torch.testing.assert_close(session(waveform), model(waveform), atol=5e-6, rtol=0)
