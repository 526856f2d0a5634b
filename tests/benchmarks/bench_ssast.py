"""One SSAST pretraining step of the base model, both objectives, against the official code.

git clone https://github.com/YuanGongND/ssast OFFICIAL
pip install --no-deps --target TIMM timm==0.4.5
python -m tests.benchmarks.bench_ssast --official OFFICIAL --timm TIMM
"""

import argparse
import collections.abc
import importlib
import platform
import sys
import types
from collections.abc import Callable
from pathlib import Path

import torch
import transformers  # noqa: F401  Looks for torchvision, so before the stand-in for it

from hf_ast import SSASTConfig, SSASTForPreTraining
from tests.benchmarks.interleave import interleaved_medians, report

PATCH_SIZES = {"patch": (16, 16), "frame": (128, 2)}
NUM_MASKS = 400


def official_models(repository: Path, timm: Path) -> types.ModuleType:
    """The official module, with stand-ins for what timm 0.4.5 imports and never uses here."""
    for name in (
        "torch._six",
        "torchvision",
        "torchvision.transforms",
        "torchvision.transforms.functional",
        "torchvision.datasets",
        "torchvision.ops",
        "torchvision.ops.misc",
        "wget",
    ):
        stand_in = types.ModuleType(name)
        stand_in.__path__ = []
        stand_in.__getattr__ = lambda attribute: type(attribute, (), {})
        sys.modules[name] = stand_in
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, stand_in)
    sys.modules["torch._six"].container_abcs = collections.abc
    sys.path[:0] = [str(timm), str(repository / "src")]
    return importlib.import_module("models.ast_models")


def trained_step(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """A whole optimiser step, with the official optimiser."""
    optimizer = torch.optim.Adam(model.train().parameters(), 1e-4, weight_decay=5e-7, betas=(0.95, 0.999))

    def run() -> None:
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return run


def bench(models: types.ModuleType, kind: str, batch_size: int, repetitions: int) -> None:
    height, width = PATCH_SIZES[kind]
    clips = torch.randn(batch_size, 1024, 128)
    ours = SSASTForPreTraining(SSASTConfig(patch_size=(height, width), num_mask_patches=NUM_MASKS))
    official = models.ASTModel(fshape=height, tshape=width, fstride=height, tstride=width, model_size="base")

    def official_loss() -> torch.Tensor:
        """`pretrain_joint` of src/traintest_mask.py."""
        settings = {"mask_patch": NUM_MASKS, "cluster": kind == "patch"}
        _, matching = official(clips, "pretrain_mpc", **settings)
        return matching + 10 * official(clips, "pretrain_mpg", **settings)

    sides = {
        "ours": trained_step(ours, lambda: ours(clips).loss),
        "official": trained_step(official, official_loss),
    }
    medians = interleaved_medians(sides, repetitions)
    report(f"SSAST base {kind} pretraining step, batch {batch_size}", medians, 1.8)


def main() -> None:
    """Both kinds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, required=True, help="checkout of YuanGongND/ssast")
    parser.add_argument("--timm", type=Path, required=True, help="folder that holds timm 0.4.5")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=5)
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}")
    models = official_models(args.official, args.timm)
    for kind in PATCH_SIZES:
        bench(models, kind, args.batch_size, args.repetitions)


if __name__ == "__main__":
    main()
