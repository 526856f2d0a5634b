"""Long recordings: memory, speed against the bare forward pass, and what is saved on overlap and padding.

    python -m tests.benchmarks.long_recordings [--json FILE]

Memory is measured in one process per recording: how far the peak grows over what is in use with the model loaded.
Times are medians of interleaved repetitions.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from hf_ast import (
    HfASTConfig,
    HfASTFeatureExtractor,
    HfASTForAudioClassification,
    PaSSTFeatureExtractor,
    load_classifier,
    score_clips,
    tag,
)
from hf_ast.assets import EMBEDDED_MODEL
from hf_ast.inference.features import window_features
from hf_ast.inference.windows import Span, covering_starts
from hf_ast.models.configuration_common import SIZES
from tests.benchmarks.interleave import interleaved_medians
from tests.support.interpreter import ROOT, run

HOUR_S = 3600

MEMORY = """
import sys, torch
from hf_ast import HfASTConfig, HfASTFeatureExtractor, HfASTForAudioClassification, load_classifier, tag
from hf_ast.assets import EMBEDDED_MODEL
from tests.benchmarks.long_recordings import new_model

def kilobytes(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

model, extractor = load_classifier(EMBEDDED_MODEL) if {size!r} == "embedded" else new_model({size!r})
tag(model, extractor, torch.zeros(16000))  # what the first call sets up
before = kilobytes("VmRSS")
tagging = tag(model, extractor, {file!r})
print(tagging.duration_s, (kilobytes("VmHWM") - before) / 1024)
"""


def new_model(size: str) -> tuple[HfASTForAudioClassification, HfASTFeatureExtractor]:
    """An AST of an official size with random weights, for 10.24 s and AudioSet's labels."""
    config = HfASTConfig(**SIZES[size], num_labels=527, problem_type="multi_label_classification")
    return HfASTForAudioClassification(config).eval(), HfASTFeatureExtractor()


def write_noise(path: Path, duration_s: int, rate: int, num_channels: int) -> None:
    """Write a recording minute by minute."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", rate, num_channels, subtype="PCM_16") as file:
        for _ in range(0, duration_s, 60):
            file.write((0.1 * rng.standard_normal((60 * rate, num_channels))).astype(np.float32))


def memory() -> Iterator[dict[str, Any]]:
    """Peak memory over the loaded model, for recordings of different length, rate and channels."""
    recordings = [("embedded", 1, 16000, 1), ("embedded", 3, 16000, 1), ("embedded", 1, 48000, 2)]
    recordings += [("embedded", 3, 48000, 2), ("base", 0.025, 16000, 1), ("base", 0.1, 16000, 1)]
    with tempfile.TemporaryDirectory() as folder:
        for size, hours, rate, num_channels in recordings:
            path = Path(folder) / "noise.wav"
            write_noise(path, round(hours * HOUR_S), rate, num_channels)
            duration_s, peak_mb = map(float, run(MEMORY.format(size=size, file=str(path)), cwd=ROOT).split())
            kind = f"{size}, {duration_s / HOUR_S:.3g} h, {rate} Hz, {num_channels} channels"
            yield {"what": f"peak memory over the model: {kind}", "MB": peak_mb}


def throughput(repetitions: int) -> Iterator[dict[str, Any]]:
    """Speed of `tag` on a file, against the forward pass alone on features that are ready."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.wav"
        write_noise(path, 60, 44100, 2)
        models = {"embedded": load_classifier(EMBEDDED_MODEL), "tiny": new_model("tiny"), "base": new_model("base")}
        for name, (model, extractor) in models.items():
            waveform = 0.1 * np.random.default_rng(0).standard_normal(60 * 16000).astype(np.float32)
            starts = covering_starts(len(waveform), extractor.max_samples, extractor.max_samples)
            span = Span(waveform, 0, starts)
            features = window_features(extractor, span, extractor.max_samples)["input_values"].split(4)

            for kind, source in (("a file of 44.1 kHz stereo", path), ("samples of 16 kHz", waveform)):
                x = times_as_fast(
                    partial(forward, model, features),
                    partial(tag, model, extractor, source),
                    2 if name == "base" else repetitions,
                )
                yield {"what": f"speed of tag on {kind}, bare forward = 1: {name}", "x": x}


def overlap(repetitions: int) -> Iterator[dict[str, Any]]:
    """Time of the features of overlapping windows: separate ones against slices of one spectrogram."""
    for name, extractor in (("AST", HfASTFeatureExtractor()), ("PaSST", PaSSTFeatureExtractor())):
        rate = extractor.sampling_rate
        waveform = 0.1 * np.random.default_rng(0).standard_normal(60 * rate).astype(np.float32)
        window = 10 * rate
        for share in (2, 4):
            span = Span(waveform, 0, list(range(0, len(waveform) - window + 1, window // share)))

            apart, shared = (partial(window_features, extractor, span, window, shared=s) for s in (False, True))
            yield {
                "what": f"front end, shared against separate: {name}, hop 1/{share} window",
                "x": times_as_fast(apart, shared, repetitions),
                "difference": (shared()["input_values"] - apart()["input_values"]).abs().max().item(),
            }


def mixed_lengths(repetitions: int) -> Iterator[dict[str, Any]]:
    """Clips of 1 to 10 s: similar lengths together, against padding to the model's length."""
    model, extractor = new_model("tiny")
    rng = np.random.default_rng(0)
    clips = [0.1 * rng.standard_normal(round(16000 * rng.uniform(1, 10))).astype(np.float32) for _ in range(32)]

    def padded() -> None:
        for first in range(0, len(clips), 8):
            forward(model, [extractor(clips[first : first + 8], 16000, return_tensors="pt")["input_values"]])

    features = [extractor(clip, 16000, return_tensors="pt", padding=False)["input_values"] for clip in clips]
    alone = torch.cat(forward(model, features)).sigmoid()
    yield {
        "what": "32 clips of 1 to 10 s, score_clips against padding to 10.24 s: tiny",
        "x": times_as_fast(padded, partial(score_clips, model, extractor, clips), repetitions),
        "difference": (score_clips(model, extractor, clips) - alone).abs().max().item(),
    }


@torch.inference_mode()
def forward(model: HfASTForAudioClassification, batches: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Logits of batches of features."""
    return [model(batch).logits for batch in batches]


def times_as_fast(reference: Callable[[], Any], other: Callable[[], Any], repetitions: int) -> float:
    """How many times as fast `other` is as `reference`."""
    medians = interleaved_medians({"reference": reference, "other": other}, repetitions)
    return medians["reference"] / medians["other"]


def main() -> None:
    """Print a line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repetitions", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as in the other processes that measure memory; steadier on few cores
    rows = []
    parts: list[Callable[[int], Iterator[dict[str, Any]]]] = [mixed_lengths, overlap, throughput, lambda _: memory()]
    for part in parts:
        for row in part(arguments.repetitions):
            rows.append(row)
            values = "  ".join(f"{name} {value:.3g}" for name, value in row.items() if name != "what")
            print(f"{row['what']:<90}  {values}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
