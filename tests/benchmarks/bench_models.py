"""Models against transformers' own AST: labels of clips, forward pass, training step, token merging; see `bench`."""

import argparse
import copy
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, AudioClassificationPipeline

from hf_ast import (
    HfASTConfig,
    HfASTFeatureExtractor,
    HfASTForAudioClassification,
    load_classifier,
    prepare_fast,
    score_clips,
)
from hf_ast.assets import EMBEDDED_MODEL
from hf_ast.inference.fast import fastest_precision
from hf_ast.models.configuration_common import SIZES
from hf_ast.recipes.keywords.clips import LABELS, held_out_clips
from tests.benchmarks.bench_front_ends import RATE, noise
from tests.benchmarks.interleave import compared, interleaved_medians

Row = dict[str, Any]
NUM_LABELS = 527
MERGED_SHARES = (0.0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5)
HALF = torch.bfloat16


def native_model(size: str) -> ASTForAudioClassification:
    """transformers' own AST with random weights."""
    config = ASTConfig(**SIZES[size], num_labels=NUM_LABELS, problem_type="multi_label_classification")
    return ASTForAudioClassification(config).eval()


def our_model(native: ASTForAudioClassification) -> HfASTForAudioClassification:
    """Ours with the same weights."""
    with tempfile.TemporaryDirectory() as folder:
        native.save_pretrained(folder)
        return HfASTForAudioClassification.from_pretrained(folder).eval()


def compiled(model: nn.Module) -> nn.Module:
    """A compiled copy."""
    model = copy.deepcopy(model)
    model.compile()
    return model


@torch.inference_mode()
def labels(options: argparse.Namespace) -> Iterator[Row]:
    """Waveforms to labels of 10 s clips: the fast setting against transformers' pipeline as people use it."""
    yield from agreement()
    native, clips = native_model(options.size), noise(4, RATE)
    pipeline = AudioClassificationPipeline(model=native, feature_extractor=ASTFeatureExtractor())
    ours, extractor = our_model(native), HfASTFeatureExtractor()
    settings: dict[str, Row] = {"fast": {}}
    if options.compiled:
        settings |= {"fast, compiled": {"compiled": True}}
        settings |= {"int8, compiled": {"compiled": True, "precision": "int8"}}
    for name, setting in settings.items():
        fast = prepare_fast(copy.deepcopy(ours), **setting)
        sides = {
            "ours": lambda fast=fast: score_clips(fast, extractor, clips, batch_size=1),
            "pipeline": lambda: pipeline(clips),
        }
        target = 3.0 if "int8" in name else 2.5
        yield compared(f"{len(clips)} clips of 10 s to labels, {name}", sides, options.repetitions, target)


def agreement() -> Iterator[Row]:
    """What the fast setting changes, on keywords of held-out voices."""
    inputs, _ = keywords(num_per_class=50)
    expected = load_classifier(EMBEDDED_MODEL)[0](inputs).logits
    spread = expected.amax(-1) - expected.amin(-1)
    for precision in ("bfloat16", "int8"):
        fast = prepare_fast(load_classifier(EMBEDDED_MODEL)[0], precision=precision)
        found = fast(inputs.to(fast.dtype)).logits.float()
        yield {
            "what": f"keyword model in {precision} against float32",
            "same label": (found.argmax(-1) == expected.argmax(-1)).float().mean().item(),
            "largest difference / range": ((found - expected).abs().amax(-1) / spread).max().item(),
        }


def keywords(num_per_class: int) -> tuple[Tensor, Tensor]:
    """Spectrograms and classes of keywords of held-out voices."""
    clips = held_out_clips(num_per_class)
    extractor = HfASTFeatureExtractor.from_pretrained(EMBEDDED_MODEL)
    features = extractor([clip.waveform for clip in clips], sampling_rate=RATE, return_tensors="pt")
    return features["input_values"], torch.tensor([LABELS.index(clip.label) for clip in clips])


@torch.inference_mode()
def forward(options: argparse.Namespace) -> Iterator[Row]:
    """The forward pass alone, and of short clips, which the native model pads to 1,024 frames."""
    native = native_model(options.size)
    ours = our_model(native)
    models = {"float32": (ours, native)}
    models["bfloat16"] = (prepare_fast(copy.deepcopy(ours), precision="bfloat16"), copy.deepcopy(native).to(HALF))
    for name, (our, their) in models.items():
        clips = torch.randn(1, 1024, 128, dtype=our.dtype)
        short = clips[:, :498]
        sides = {"ours": lambda our=our, x=clips: our(x), "native": lambda their=their, x=clips: their(x)}
        target = 1.0 if name == "float32" else 1.35
        yield compared(f"forward, {name}, eager", sides, options.repetitions, target)
        sides = {"ours": lambda our=our, x=short: our(x), "native": lambda their=their, x=clips: their(x)}
        yield compared(f"forward, {name}, clips of 5 s", sides, options.repetitions, 2.2)
        if options.compiled and name == "bfloat16":
            pair = {"ours": compiled(our), "native": compiled(their)}
            sides = {key: lambda model=model, x=clips: model(x) for key, model in pair.items()}
            yield compared(f"forward, {name}, compiled", sides, options.repetitions, 1.1)


@torch.inference_mode()
def profile(options: argparse.Namespace) -> Iterator[Row]:
    """What limits the forward pass: rates of a matrix product, and where the time of both models goes."""
    for dtype in (torch.float32, HALF):
        inputs, weights = torch.randn(1214, 768, dtype=dtype), torch.randn(3072, 768, dtype=dtype)
        product = {"x": lambda inputs=inputs, weights=weights: nn.functional.linear(inputs, weights)}
        seconds = interleaved_medians(product, options.repetitions)["x"]
        yield {
            "what": f"matrix product of 1214 x 768 x 3072, {dtype}",
            "GFLOP/s": 2e-9 * len(inputs) * weights.numel() / seconds,
        }
    native = native_model(options.size)
    for name, model in {"ours": our_model(native), "native": native}.items():
        for dtype in (torch.float32, HALF):
            clip = torch.randn(1, 1024, 128, dtype=dtype)
            yield {"what": f"shares of the forward pass, {dtype}, {name}", **shares(model.to(dtype), clip)}


def shares(model: nn.Module, clip: Tensor) -> dict[str, float]:
    """Shares of the time in linear layers and in attention, in percent."""
    model(clip)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        model(clip)
    durations = {event.key: event for event in profiler.key_averages()}
    total = sum(event.self_cpu_time_total for event in durations.values())
    groups = {"linear %": "aten::linear", "attention %": "aten::scaled_dot_product_attention"}
    return {name: 100 * durations[key].cpu_time_total / total for name, key in groups.items()}


def training(options: argparse.Namespace) -> Iterator[Row]:
    """A step of AdamW with two clips: in float32, and under bfloat16 autocast."""
    native = native_model(options.size)
    models = {"ours": our_model(native), "native": native}
    clips, targets = torch.randn(2, 1024, 128), torch.rand(2, NUM_LABELS).round()
    for name, target in (("float32", 1.0), ("bfloat16", 1.15)):
        sides = {key: step(model, clips, targets, name == "bfloat16") for key, model in models.items()}
        yield compared(f"training step, batch 2, {name}", sides, max(2, options.repetitions // 2), target)


def step(model: nn.Module, clips: Tensor, targets: Tensor, half: bool) -> Callable[[], None]:
    """One step of training."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-5, fused=True)

    def run() -> None:
        with torch.autocast(clips.device.type, HALF, enabled=half):
            loss = model(clips, labels=targets).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


@torch.inference_mode()
def merging(options: argparse.Namespace) -> Iterator[Row]:
    """Token merging: accuracy on keywords, and speed at the size of the options with the same work per layer.

    The keyword model has fewer layers, and merges over fewer steps; so both are given by their share of token-layers:
    the tokens of all layers, of those without merging.
    """
    inputs, classes = keywords(num_per_class=100)
    keyword_model, _ = load_classifier(EMBEDDED_MODEL)
    model = our_model(native_model(options.size))
    clip = torch.randn(1, 1024, 128)

    def with_share(model: Any, share: float) -> Callable[[Tensor], Tensor]:
        def run(inputs: Tensor) -> Tensor:
            model.config.token_merging = share
            return model(inputs).logits

        return run

    for share in MERGED_SHARES:
        logits = torch.cat([with_share(keyword_model, share)(batch) for batch in inputs.split(200)])
        row = {
            "what": f"keyword model, token_merging={share}",
            "accuracy": (logits.argmax(-1) == classes).float().mean().item(),
        }
        yield row | {"token-layers": token_layers(38, 5, share)}
        sides = {"merging": lambda share=share: with_share(model, share)(clip)}
        sides["all tokens"] = lambda: with_share(model, 0.0)(clip)
        row = compared(f"{options.size}, token_merging={share}", sides, max(2, options.repetitions // 2), 1.8)
        yield row | {"token-layers": token_layers(1212, model.config.num_hidden_layers, share)}


def token_layers(num_patches: int, num_layers: int, share: float) -> float:
    """Patch tokens of all layers, as a share of those without merging."""
    total, left = 0, num_patches
    for _ in range(num_layers):
        total += left
        left -= int(share * left)
    return total / (num_layers * num_patches)


@torch.inference_mode()
def costs(options: argparse.Namespace) -> Iterator[Row]:
    """Time of a forward pass per clip against its length, the batch and the size of the model."""
    sizes = ("tiny", "small", "base") if options.size == "base" else ("tiny",)
    repetitions = max(2, options.repetitions // 2)
    for size in sizes:
        config = HfASTConfig(**SIZES[size], num_labels=NUM_LABELS)
        models = {"float32": HfASTForAudioClassification(config).eval()}
        if fastest_precision(torch.device("cpu")) == "bfloat16":
            models["bfloat16"] = prepare_fast(copy.deepcopy(models["float32"]))
        for name, model in models.items():
            for num_frames, batch_size in ((128, 1), (256, 1), (512, 1), (1024, 1), (1024, 2), (1024, 4)):
                clips = torch.randn(batch_size, num_frames, 128, dtype=model.dtype)
                seconds = interleaved_medians({"x": lambda model=model, clips=clips: model(clips)}, repetitions)["x"]
                yield {
                    "what": f"{size}, {name}, {num_frames} frames, batch {batch_size}",
                    "size": size,
                    "precision": name,
                    "frames": num_frames,
                    "batch": batch_size,
                    "ms per clip": 1000 * seconds / batch_size,
                }
