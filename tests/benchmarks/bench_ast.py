"""AST and its extractor against transformers' own: `make bench`."""

import platform

import numpy as np
import torch
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

from hf_ast import HfASTConfig, HfASTFeatureExtractor, HfASTForAudioClassification
from tests.benchmarks.interleave import interleaved_medians, report

RATE = 16000


def bench_forward(batch_size: int, repetitions: int) -> None:
    """Base model, 1024 frames, float32, sdpa on both sides."""
    models = {
        "ours": HfASTForAudioClassification(HfASTConfig(num_labels=527)).eval(),
        "native": ASTForAudioClassification(ASTConfig(num_labels=527)).eval(),
    }
    clips = torch.randn(batch_size, 1024, 128)
    with torch.inference_mode():
        sides = {name: (lambda model=model: model(clips)) for name, model in models.items()}
        medians = interleaved_medians(sides, repetitions)
    report(f"AST base forward, batch {batch_size}", medians, 1.0)


def bench_extractor(num_clips: int, repetitions: int) -> None:
    """10 s clips, numpy in, numpy out."""
    generator = np.random.default_rng(0)
    clips = [(0.1 * generator.standard_normal(10 * RATE)).astype(np.float32) for _ in range(num_clips)]
    extractors = {"ours": HfASTFeatureExtractor(), "native": ASTFeatureExtractor()}
    sides = {
        name: (lambda extractor=extractor: extractor(clips, sampling_rate=RATE, return_tensors="np"))
        for name, extractor in extractors.items()
    }
    report(f"extractor, {num_clips} clip(s) of 10 s", interleaved_medians(sides, repetitions), 10.0)


def main() -> None:
    """Run all comparisons."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}")
    bench_extractor(1, 30)
    bench_extractor(32, 5)
    bench_forward(1, 12)
    bench_forward(4, 5)


if __name__ == "__main__":
    main()
