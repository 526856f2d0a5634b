"""What a GPU makes of the models: `make bench-gpu`.

    python -m tests.benchmarks.bench_gpu [--device cuda] [--size base] [--json FILE]

`--device cpu --size tiny` runs the same measurements on a machine without a GPU, to see that they run.
"""

import argparse
import copy
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import ASTFeatureExtractor, AudioClassificationPipeline
from transformers.utils import logging

from hf_ast import (
    HfASTFeatureExtractor,
    PaSSTConfig,
    PaSSTFeatureExtractor,
    PaSSTForAudioClassification,
    SSASTConfig,
    SSASTForPreTraining,
    prepare_fast,
    tag,
)
from hf_ast.inference.devices import DTYPES, find_dtype
from hf_ast.models.configuration_common import SIZES
from tests.benchmarks.bench_front_ends import RATE, noise
from tests.benchmarks.bench_models import HALF, NUM_LABELS, native_model, our_model
from tests.benchmarks.interleave import compared, interleaved_medians

Row = dict[str, Any]
# Batch, clip lengths and side of the matrices; the small ones show that everything runs
LIMITS = {"base": ((1, 8, 32, 128), (128, 256, 512, 1024), 8192), "tiny": ((1, 2), (128, 256), 256)}
# Of the logits' range: bfloat16 attention by another kernel; float32 on a CPU is closer by far
ATTENTION_TOLERANCE = 0.02
# Of normalised log-mel values; another FFT library rounds otherwise, most in bins that are nearly silent
FRONT_END_TOLERANCE = 0.01


class Setting(argparse.Namespace):
    """The options of the command line."""

    device: str
    size: str
    repetitions: int
    json: Path | None


def seconds(setting: Setting, function: Callable[[], Any]) -> float:
    """Median time of a function, until the device is done."""
    return interleaved_medians({"": done(setting, function)}, setting.repetitions)[""]


def done(setting: Setting, function: Callable[[], Any]) -> Callable[[], None]:
    """The function, and waiting for the device."""

    def run() -> None:
        function()
        if setting.device.startswith("cuda"):
            torch.cuda.synchronize()

    return run


@torch.inference_mode()
def forward(setting: Setting) -> Iterator[Row]:
    """bfloat16 forward pass against the rate of a matrix product, and the share of the front end on the device."""
    batches, _, side = LIMITS[setting.size]
    matrix = torch.randn(side, side, device=setting.device, dtype=HALF)
    rate = 2 * side**3 / seconds(setting, lambda: matrix @ matrix)
    yield {"what": f"bfloat16 matrix product, {side} x {side}", "TFLOP/s": rate / 1e12}
    model, extractor = prepare_fast(our_model(native_model(setting.size)).to(setting.device)), HfASTFeatureExtractor()
    models = {"eager": model}
    if setting.device.startswith("cuda"):
        models["compiled"] = copy.deepcopy(model)
        models["compiled"].compile()
    for name, model in models.items():
        for batch_size in batches:
            waveforms = torch.as_tensor(0.1 * torch.randn(batch_size, 10 * RATE), device=setting.device)

            def features(waveforms: Tensor = waveforms, dtype: torch.dtype = model.dtype) -> Tensor:
                inputs = extractor(waveforms, sampling_rate=RATE, return_tensors="pt", device=setting.device)
                return inputs["input_values"].to(dtype)

            clips = features()
            with FlopCounterMode(display=False) as counter:
                models["eager"](clips)
            front_end_s, model_s = seconds(setting, features), seconds(setting, lambda m=model, x=clips: m(x))
            whole_s = seconds(setting, lambda m=model, f=features: m(f()).logits)
            yield {
                "what": f"waveform to logits, {setting.size}, {name}, batch {batch_size}",
                "clips/s": batch_size / whole_s,
                "share of the matrix product's rate": counter.get_total_flops() / model_s / rate,
                "share of the front end": front_end_s / (front_end_s + model_s),
            }


@torch.inference_mode()
def end_to_end(setting: Setting) -> Iterator[Row]:
    """Waveforms to labels, against transformers' pipeline."""
    native = native_model(setting.size)
    num_clips = LIMITS[setting.size][0][-1]
    clips, extractor = noise(num_clips, RATE), HfASTFeatureExtractor()
    ours = prepare_fast(our_model(native).to(setting.device))
    pipeline = AudioClassificationPipeline(
        model=native, feature_extractor=ASTFeatureExtractor(), device=setting.device, batch_size=min(32, num_clips)
    )

    def label() -> None:
        for first in range(0, num_clips, 32):
            inputs = extractor(clips[first : first + 32], RATE, return_tensors="pt", device=setting.device)
            ours(inputs["input_values"].to(ours.dtype)).logits.float().sigmoid().topk(5)

    sides = {"ours": done(setting, label), "pipeline": done(setting, lambda: pipeline(clips))}
    yield compared(f"{num_clips} clips of 10 s to labels", sides, max(2, setting.repetitions // 2), 2.5)


def training(setting: Setting) -> Iterator[Row]:
    """A step of PaSST with and without patchout, and of SSAST pretraining, under bfloat16 autocast."""
    batch_size = LIMITS[setting.size][0][-2]
    sizes = SIZES[setting.size] | {"num_labels": NUM_LABELS, "problem_type": "multi_label_classification"}
    clips = torch.randn(batch_size, 998, 128, device=setting.device)
    targets = torch.rand(batch_size, NUM_LABELS, device=setting.device).round()
    patchout = {"time_patchout": 40, "frequency_patchout": 4}
    models = {
        name: PaSSTForAudioClassification(PaSSTConfig(**sizes, **extra)).to(setting.device)
        for name, extra in (("patchout", patchout), ("without", {}))
    }
    sides = {
        name: done(setting, step(model, lambda model=model: model(clips, labels=targets).loss))
        for name, model in models.items()
    }
    yield compared(f"PaSST training step, batch {batch_size}", sides, setting.repetitions, 2.7)
    ssast = SSASTForPreTraining(SSASTConfig(**SIZES[setting.size], num_mask_patches=400)).to(setting.device)
    longer = torch.randn(batch_size, 1024, 128, device=setting.device)
    run = step(ssast, lambda: ssast(longer).loss)
    yield {"what": f"SSAST pretraining step, batch {batch_size}", "ms": 1000 * seconds(setting, run)}


def step(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """One step of training."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-5, fused=True)

    def run() -> None:
        with torch.autocast(next(model.parameters()).device.type, HALF):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


@torch.inference_mode()
def costs(setting: Setting) -> Iterator[Row]:
    """Time per clip against length and batch."""
    batches, lengths, _ = LIMITS[setting.size]
    model = prepare_fast(our_model(native_model(setting.size)).to(setting.device))
    for batch_size in batches:
        for num_frames in lengths:
            clips = torch.randn(batch_size, num_frames, 128, device=setting.device, dtype=model.dtype)
            time_s = seconds(setting, lambda clips=clips: model(clips))
            yield {
                "what": f"{setting.size}, fast, {num_frames} frames, batch {batch_size}",
                "size": setting.size,
                "precision": "fast",
                "frames": num_frames,
                "batch": batch_size,
                "ms per clip": 1000 * time_s / batch_size,
            }


@torch.inference_mode()
def attention(setting: Setting) -> Iterator[Row]:
    """Logits with torch's fused kernels and flex attention against eager attention."""
    model = our_model(native_model(setting.size)).to(setting.device)
    clips = torch.randn(2, 256, 128, device=setting.device)
    if setting.device.startswith("cuda"):  # flash kernels are for half precision
        model, clips = model.to(HALF), clips.to(HALF)
    model.set_attn_implementation("eager")
    expected = model(clips).logits.float()
    model.set_attn_implementation("sdpa")
    found = {}
    kernels = [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION]
    if setting.device.startswith("cuda"):
        kernels.append(SDPBackend.EFFICIENT_ATTENTION)
    for kernel in kernels:
        with sdpa_kernel(kernel):
            found[f"sdpa, {kernel.name.lower()}"] = model(clips).logits
    model.set_attn_implementation("flex_attention")
    found["flex"] = model(clips).logits
    for name, logits in found.items():
        difference = ((logits.float() - expected).abs().max() / (expected.max() - expected.min())).item()
        if not difference < ATTENTION_TOLERANCE:
            raise SystemExit(f"{name} attention differs from eager attention by {difference:.3g} of the range.")
        yield {"what": f"{name} attention against eager", "largest difference / range": difference}


def options(setting: Setting) -> Iterator[Row]:
    """What `--device`, `--dtype` and `--batch-size` of the commands do, from a waveform to scores."""
    windows = LIMITS[setting.size][0][-1]
    waveform = 0.1 * torch.randn(windows * 10 * RATE).numpy()
    for dtype in DTYPES:
        model = our_model(native_model(setting.size)).to(setting.device, find_dtype(dtype))
        extractor = HfASTFeatureExtractor()
        with CountedCopies() as copies:
            tag(model, extractor, waveform, window_s=10.0)
        if setting.device != "cpu" and copies.num_values > 1.5 * len(waveform) + 10**6:
            raise SystemExit(f"{copies.num_values} values went to the device for {len(waveform)} samples.")
        for batch_size in (None, *LIMITS[setting.size][0]):
            run = partial(tag, model, extractor, waveform, window_s=10.0, batch_size=batch_size)
            time_s = seconds(setting, run)
            scores = run().scores
            if not scores.isfinite().all():
                raise SystemExit(f"{dtype}: scores are not finite.")
            yield {
                "what": f"tag, {setting.size}, {dtype}, batch {batch_size or 'by default'}",
                "x realtime": windows * 10 / time_s,
                "samples to the device / samples": copies.num_values / len(waveform),
            }


class CountedCopies(TorchDispatchMode):
    """Counts the values that are copied to a device."""

    def __init__(self) -> None:
        super().__init__()
        self.num_values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.to) and result.device != args[0].device:
            self.num_values += result.numel() if result.device.type != "cpu" else 0
        return result


@torch.inference_mode()
def front_ends(setting: Setting) -> Iterator[Row]:
    """The front ends on the device and on the CPU: their time, and that they compute the same."""
    num_clips = LIMITS[setting.size][0][-1]
    for extractor in (HfASTFeatureExtractor(), PaSSTFeatureExtractor()):
        rate = extractor.sampling_rate
        clips = 0.1 * torch.randn(num_clips, 10 * rate)
        run = partial(extractor, clips, rate, return_tensors="pt")
        there, here = run(device=setting.device)["input_values"], run()["input_values"]
        difference = (there.cpu() - here).abs().max().item()
        if not difference < FRONT_END_TOLERANCE:
            raise SystemExit(f"{type(extractor).__name__} differs on {setting.device} by {difference:.3g}.")
        yield {
            "what": f"{type(extractor).__name__}, {num_clips} clips of 10 s",
            "x realtime": 10 * num_clips / seconds(setting, lambda run=run: run(device=setting.device)),
            "largest difference from the CPU": difference,
        }


PARTS = {
    "options": options,
    "front-ends": front_ends,
    "forward": forward,
    "end-to-end": end_to_end,
    "training": training,
    "costs": costs,
    "attention": attention,
}


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=tuple(LIMITS), default="base")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run")
    parser.add_argument("--json", type=Path, help="file for the rows")
    setting = parser.parse_args(namespace=Setting())
    if setting.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("There is no GPU; `--device cpu --size tiny` shows that everything runs.")
    logging.disable_progress_bar()
    name = torch.cuda.get_device_name(setting.device) if setting.device.startswith("cuda") else "CPU"
    print(f"{name}, torch {torch.__version__}", flush=True)
    rows: list[Row] = []
    for part in setting.only:
        for row in PARTS[part](setting):
            values = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, float | int))
            print(f"{row['what']:<60}  {values}", flush=True)
            rows.append({"part": part, **row})
    if setting.json:
        machine = {"device": name, "torch": torch.__version__}
        setting.json.write_text(json.dumps({"machine": machine, "size": setting.size, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
