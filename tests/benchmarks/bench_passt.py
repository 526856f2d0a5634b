"""PaSST: what patchout saves in training, the front end, and embeddings, against the official code.

    python -m tests.benchmarks.bench_passt --official PaSST --hear passt_hear21 [--smoke]

The arguments are checkouts of github.com/kkoutini/PaSST and github.com/kkoutini/passt_hear21.
"""

import argparse
import platform
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hf_ast import PaSSTConfig, PaSSTFeatureExtractor, PaSSTForAudioClassification, timestamp_embeddings
from hf_ast.conversion import convert_checkpoint
from hf_ast.models.modules_passt_mel import passt_log_mel
from tests.benchmarks.interleave import interleaved_medians, report
from tests.benchmarks.official_passt import build_hear, build_mel, build_passt

RATE = 32000
BASE = {"embed_dim": 768, "depth": 12, "num_heads": 12}
SMOKE = {"embed_dim": 96, "depth": 2, "num_heads": 3}


def ours_like(official: nn.Module, sizes: dict[str, int], **changes: int) -> PaSSTForAudioClassification:
    """Our model with the weights of an official one."""
    config = PaSSTConfig(
        hidden_size=sizes["embed_dim"],
        num_hidden_layers=sizes["depth"],
        num_attention_heads=sizes["num_heads"],
        intermediate_size=4 * sizes["embed_dim"],
        num_labels=527,
        problem_type="multi_label_classification",
        **changes,
    )
    return convert_checkpoint(official.state_dict(), config)


def saved_mb(model: nn.Module, forward: Callable[[], Tensor]) -> float:
    """Memory that a forward pass keeps for the backward pass, parameters not counted."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = forward()
    num_bytes = sum(storages.values())
    loss.backward()  # until here the tensors are alive, so that no address is counted for two of them
    return num_bytes / 2**20


def bench_training(checkout: Path, sizes: dict[str, int], batch_size: int, repetitions: int) -> None:
    """One optimizer step at 998 frames; patchout of 40 columns and 4 rows."""
    patchout = {"time_patchout": 40, "frequency_patchout": 4}
    official = build_passt(checkout, "models", s_patchout_t=40, s_patchout_f=4, **sizes)
    models = {
        "patchout": ours_like(official, sizes, **patchout),
        "without": ours_like(official, sizes),
        "official": official,
    }
    clips = torch.randn(batch_size, 998, 128)
    labels = torch.rand(batch_size, 527).round()
    check_equal("logits", models["without"].eval()(clips).logits, official.eval()(clips.mT.unsqueeze(1))[0])

    def loss_of(name: str) -> Tensor:
        if name == "official":
            logits = official(clips.mT.unsqueeze(1))[0]
            return nn.functional.binary_cross_entropy_with_logits(logits, labels)
        return models[name](clips, labels=labels).loss

    def step(name: str, optimizer: torch.optim.Optimizer) -> None:
        loss_of(name).backward()
        optimizer.step()
        optimizer.zero_grad()

    sides, flops, memory = {}, {}, {}
    for name, model in models.items():
        model.train()
        memory[name] = saved_mb(model, lambda name=name: loss_of(name))
        with FlopCounterMode(display=False) as counter:
            loss_of(name).backward()
        flops[name] = counter.get_total_flops()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        sides[name] = lambda name=name, optimizer=optimizer: step(name, optimizer)
    medians = interleaved_medians(sides, repetitions)
    for other, target in (("without", 2.7), ("official", 1.0)):
        report(f"training step, batch {batch_size}", {name: medians[name] for name in ("patchout", other)}, target)
    print(f"  FLOP ratio without / with patchout {flops['without'] / flops['patchout']:.2f}")
    print(
        f"  saved for backward: {memory['patchout']:.0f} MB with, {memory['without']:.0f} MB without "
        f"({memory['patchout'] / memory['without']:.1%}, target 45 %), official {memory['official']:.0f} MB with"
    )


@torch.no_grad()
def bench_front_end(checkout: Path, num_clips: int, repetitions: int) -> None:
    """Spectrograms of 10 s clips."""
    official = build_mel(checkout)
    waveform = 0.1 * torch.randn(num_clips, 10 * RATE)
    sides = {"ours": lambda: passt_log_mel(waveform), "official": lambda: official(waveform)}
    report(f"front end, {num_clips} clip(s) of 10 s", interleaved_medians(sides, repetitions), 1.0)


@torch.no_grad()
def bench_timestamps(checkout: Path, sizes: dict[str, int], seconds: int, repetitions: int) -> None:
    """Embeddings and logits every 50 ms."""
    official = build_passt(checkout, "hear21passt.models", **sizes).eval()
    wrapper = build_hear(checkout, official)
    model, extractor = ours_like(official, sizes), PaSSTFeatureExtractor()
    waveform = 0.1 * torch.randn(1, seconds * RATE, generator=torch.Generator().manual_seed(0))
    sides = {
        "ours": lambda: timestamp_embeddings(model, extractor, waveform, mode="all")[0],
        "hear21passt": lambda: wrapper.get_timestamp_embeddings(waveform)[0],
    }
    check_equal("embeddings", sides["ours"](), sides["hear21passt"]())
    with FlopCounterMode(display=False) as counter:
        sides["ours"]()
    medians = interleaved_medians(sides, repetitions)
    report(f"timestamp embeddings of {seconds} s", medians, 1.6)
    bound = counter.get_total_flops() / matmul_flops_per_s()
    print(f"  FLOP bound (speed of a large matrix product): {bound:.1f} s, {bound / medians['ours']:.0%} of our time")


def check_equal(what: str, ours: Tensor, theirs: Tensor) -> None:
    """Both sides must compute the same."""
    difference = (ours - theirs).abs().max().item()
    print(f"  largest difference of the {what}: {difference:.1e}")
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def matmul_flops_per_s(size: int = 2048, repetitions: int = 5) -> float:
    """Speed of a float32 matrix product."""
    matrix = torch.randn(size, size)
    return 2 * size**3 / interleaved_medians({"matmul": lambda: matrix @ matrix}, repetitions)["matmul"]


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, required=True, help="checkout of kkoutini/PaSST")
    parser.add_argument("--hear", type=Path, required=True, help="checkout of kkoutini/passt_hear21")
    parser.add_argument("--smoke", action="store_true", help="small models, to see that everything runs")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}")
    for num_clips in (1, 8):
        bench_front_end(arguments.hear, num_clips, repetitions=1 if arguments.smoke else 15)
    if arguments.smoke:
        bench_timestamps(arguments.hear, SMOKE, seconds=2, repetitions=1)
        bench_training(arguments.official, SMOKE, batch_size=2, repetitions=1)
    else:
        bench_timestamps(arguments.hear, BASE, seconds=60, repetitions=3)
        bench_training(arguments.official, BASE, batch_size=4, repetitions=5)


if __name__ == "__main__":
    main()
