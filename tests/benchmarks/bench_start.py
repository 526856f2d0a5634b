"""Loading and starting up against transformers' own AST, in fresh processes; see `bench`."""

import argparse
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from hf_ast.assets import EMBEDDED_MODEL
from tests.benchmarks.bench_models import native_model, our_model
from tests.benchmarks.interleave import compared
from tests.support.interpreter import ROOT, run

# Prints the seconds of a load and the megabytes by which the peak of the process grew; opened twice, so that the
# caches of the system and of Python are warm
LOADING = """
import time, torch
from {module} import {name}

def kilobytes(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

before = kilobytes("VmRSS")
start = time.perf_counter()
model = {name}.from_pretrained({folder!r})
print(time.perf_counter() - start, (kilobytes("VmHWM") - before) / 1024)
"""
CLASSIFY = """
import sys
sys.argv = ["hf-ast", "classify", {file!r}]
from hf_ast.cli import main
sys.exit(main())
"""
# What is the least for the same result: the model class and one forward pass, without reading a recording
LEAST = """
import torch
from transformers import ASTConfig, ASTForAudioClassification
config = ASTConfig(
    hidden_size=96, num_hidden_layers=5, num_attention_heads=4, intermediate_size=384, num_mel_bins=64, max_length=160
)
with torch.inference_mode():
    ASTForAudioClassification(config).eval()(torch.zeros(1, 160, 64))
"""


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """`from_pretrained`, and `hf-ast classify` of one file."""
    with tempfile.TemporaryDirectory() as folder:
        native = native_model(options.size)
        native.save_pretrained(f"{folder}/native")
        our_model(native).save_pretrained(f"{folder}/ours")
        sides = {
            "ours": ("hf_ast", "HfASTForAudioClassification"),
            "native": ("transformers", "ASTForAudioClassification"),
        }
        found: dict[str, list[tuple[float, ...]]] = {side: [] for side in sides}
        for _ in range(max(3, options.repetitions // 2)):
            for side, (module, name) in sides.items():
                code = LOADING.format(module=module, name=name, folder=f"{folder}/{side}")
                found[side].append(tuple(map(float, run(code, cwd=ROOT).split())))
    best = {side: [min(values) for values in zip(*runs, strict=True)] for side, runs in found.items()}
    for index, (what, unit) in enumerate((("time", "s"), ("peak memory", "MB"))):
        ours, theirs = best["ours"][index], best["native"][index]
        yield {
            "what": f"from_pretrained, {options.size}, {what}",
            f"ours {unit}": ours,
            f"native {unit}": theirs,
            "ratio": theirs / ours,
            "target": 1.0,
        }
    file = str(EMBEDDED_MODEL / "recordings" / "yes.flac")
    sides = {
        "classify": lambda: run(CLASSIFY.format(file=file), cwd=ROOT),
        "import and forward": lambda: run(LEAST, cwd=ROOT),
    }
    time.sleep(1)
    yield compared("hf-ast classify, one file", sides, max(3, options.repetitions // 2), 1 / 1.15)
