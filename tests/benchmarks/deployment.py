"""All ways to run a model from a waveform to logits on one CPU thread: size, speed, and what becomes of the results.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.deployment [--models embedded base] [--json FILE]

Times are medians of interleaved repetitions with one clip of the longest length. The embedded model is measured on
keywords of held-out voices; the base model has random weights, so that only its logits can be compared, on noise.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_ast import load_classifier
from hf_ast.assets import EMBEDDED_MODEL
from hf_ast.export import export_model
from hf_ast.export.program import as_module, input_limits
from hf_ast.export.runtimes import OPENERS, open_onnx
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.recipes.keywords.clips import LABELS, held_out_clips
from tests.benchmarks.interleave import interleaved_medians
from tests.benchmarks.long_recordings import new_model
from tests.support.tiny import waveforms

EXPORTS: dict[str, dict[str, Any]] = {
    "torch.export": {"to": "torch-export"},
    "AOTInductor": {"to": "aoti"},
    "ONNX": {"to": "onnx"},
    "ONNX int8": {"to": "onnx", "int8": True},
}


class Way(NamedTuple):
    """A way to run a model: waveforms (B, S) -> logits (B, C), and the bytes of its weights or its file."""

    run: Callable[[Tensor], Tensor]
    num_bytes: int


def ways(model: PreTrainedModel, extractor: SpectrogramFeatureExtractor, folder: Path) -> dict[str, Way]:
    """Build them all; the first one is what the others are compared with."""

    def module() -> nn.Module:
        return as_module(model, extractor, source="waveform")

    def in_memory(module: nn.Module, bytes_of: nn.Module | None = None) -> Way:
        return Way(module, sum(p.numel() * p.element_size() for p in (bytes_of or module).parameters()))

    def quantized() -> nn.Module:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        linear = module()
        quantize_(linear.model, Int8DynamicActivationInt8WeightConfig())
        return linear

    half = module()
    half.model.bfloat16()
    found = {"eager": in_memory(module()), "eager bfloat16": in_memory(half)}
    compiled = module()
    found["compiled"] = in_memory(torch.compile(compiled, fullgraph=True), compiled)
    if find_spec("torchao") is None:
        print("torchao is not installed, and is left out", file=sys.stderr)
    else:
        int8_bytes = quantized_bytes(quantized())
        found["torchao int8"] = Way(quantized(), int8_bytes)
        found["torchao int8 compiled"] = Way(torch.compile(quantized(), fullgraph=True), int8_bytes)
    for name, arguments in EXPORTS.items():
        export = export_model(model, extractor, folder / name.replace(" ", "-"), **arguments)
        file = export.folder / export.metadata["file"]
        run = open_onnx(file, num_threads=1) if arguments["to"] == "onnx" else OPENERS[arguments["to"]](file)
        found[name] = Way(run, export.num_bytes)
    return found


def quantized_bytes(module: nn.Module) -> int:
    """Bytes of a state dict on disk: tensors of torchao have no simple element size."""
    with tempfile.TemporaryFile() as file:
        torch.save(module.state_dict(), file)
        return file.tell()


@torch.inference_mode()
def measure(
    model: PreTrainedModel,
    extractor: SpectrogramFeatureExtractor,
    clips: list[Tensor],
    truth: Tensor | None,
    repetitions: int,
) -> dict[str, dict[str, float]]:
    """Size, time, difference and accuracy of all ways, on clips (1, S) with their classes (K,)."""
    with tempfile.TemporaryDirectory() as folder:
        found = ways(model, extractor, Path(folder))
        longest = waveforms(1, input_limits(model, extractor, source="waveform").longest)
        # The longest clip first: what is compiled has a graph of its own for it, as in use with one length
        logits = {
            name: torch.cat([way.run(clip).float() for clip in (longest, *clips)])[1:] for name, way in found.items()
        }
        medians = interleaved_medians(
            {name: lambda run=way.run: run(longest) for name, way in found.items()}, repetitions
        )
    expected = logits["eager"]
    results = {}
    for name, way in found.items():
        results[name] = {
            "megabytes": way.num_bytes / 1e6,
            "milliseconds": 1000 * medians[name],
            "speedup": medians["eager"] / medians[name],
            "largest_difference": (logits[name] - expected).abs().max().item(),
            "same_label": (logits[name].argmax(1) == expected.argmax(1)).float().mean().item(),
        }
        if truth is not None:
            results[name]["accuracy"] = (logits[name].argmax(1) == truth).float().mean().item()
    return results


def show(title: str, results: dict[str, dict[str, float]]) -> None:
    """Print the table of one model."""
    print(
        f"\n{title}\n{'':<22} {'MB':>8} {'ms':>8} {'speed':>6} {'difference':>13} {'same label':>10} {'accuracy':>8}"
    )
    for name, row in results.items():
        accuracy = f"{row['accuracy']:8.2%}" if "accuracy" in row else f"{'-':>8}"
        print(
            f"{name:<22} {row['megabytes']:8.2f} {row['milliseconds']:8.1f} {row['speedup']:5.2f}x "
            f"{row['largest_difference']:13.1e} {row['same_label']:10.2%} {accuracy}",
            flush=True,
        )


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=["embedded", "base"], default=["embedded", "base"])
    parser.add_argument("--clips-per-class", type=int, default=40, help="keywords without noise, and again with noise")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--json", type=Path, help="file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for name in arguments.models:
        if name == "embedded":
            held_out = held_out_clips(arguments.clips_per_class)
            clips = [torch.as_tensor(clip.waveform, dtype=torch.float32)[None] for clip in held_out]
            truth = torch.tensor([LABELS.index(clip.label) for clip in held_out])
            model, extractor = load_classifier(EMBEDDED_MODEL)
            title = f"The embedded model, 1.6 s; {len(clips)} clips of held-out voices"
        else:
            torch.manual_seed(0)
            model, extractor = new_model("base")
            clips, truth = list(waveforms(4, extractor.max_samples).split(1)), None
            title = f"A base model with random weights, 10.24 s; {len(clips)} clips of noise"
        results[name] = measure(model, extractor, clips, truth, arguments.repetitions)
        show(title, results[name])
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
