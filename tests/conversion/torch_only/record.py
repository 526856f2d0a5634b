"""Records what TorchOnlyAST computes in the walk-throughs of its README, into outputs.npz beside this file.

    python -m tests.conversion.torch_only.record CHECKOUT

CHECKOUT is a clone of https://github.com/tky823/TorchOnlyAST (recorded with commit e508768 and torch 2.13.0);
omegaconf and hydra-core must be installed. The four released files are made up: names, shapes and nesting are theirs,
the numbers come from the generator of the golden cases, and only the first `NUM_LAYERS` of the 12 layers are there,
which keeps the test fast. `build_from_pretrained` opens them, and each model is called in eval mode with the number of
frames that the README has.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.support.golden_common import check
from tests.support.official_files import small_content

NUM_LAYERS = 2
OUTPUTS = Path(__file__).with_name("outputs.npz")
# Tokens and rows of predictions that are kept, and the lengths of the padded clips
EVERY_TOKEN, EVERY_ROW, LENGTHS = 97, 80, (512, 300)
FILES = {
    "ast": "ast-base-stride10.pth",
    "ssast_patch": "multitask-ssast-patch-base-400.pth",
    "ssast_frame": "multitask-ssast-frame-base-400.pth",
    "passt": "passt-base-stride10-struct-ap0.476-swa.pth",
}


def clips(num_frames: int) -> torch.Tensor:
    """Two spectrograms (2, T, M) of standard normal size."""
    return torch.stack([torch.as_tensor(check.W.make_spectrogram(num_frames, 128, seed)) for seed in (0, 1)])


def resolved_config(name: str) -> dict[str, Any]:
    """The part of the released configuration that builds the modules."""
    patch = {"kernel_size": [128, 2], "stride": [128, 2]} if name == "ssast_frame" else {"kernel_size": [16, 16]}
    if name in ("ast", "passt"):
        patch |= {"stride": [10, 10]}
    embedding = "passt.DisentangledPositionalPatchEmbedding" if name == "passt" else "vit.PositionalPatchEmbedding"
    tokens = {"insert_cls_token": True, "insert_dist_token": True}
    model: dict[str, Any] = {
        "embedding": {
            "_target_": f"torch_only_ast.modules.{embedding}",
            "embedding_dim": 768,
            "n_bins": 128,
            "n_frames": 998 if name == "passt" else 1024,
            **patch,
            **tokens,
        },
        "backbone": {
            "_target_": "torch.nn.TransformerEncoder",
            "encoder_layer": {
                "_target_": "torch.nn.TransformerEncoderLayer",
                "d_model": 768,
                "nhead": 12,
                "dim_feedforward": 3072,
                "activation": "gelu",
                "layer_norm_eps": 1e-6,
                "batch_first": True,
                "norm_first": True,
            },
            "num_layers": NUM_LAYERS,
            "norm": {"_target_": "torch.nn.LayerNorm", "normalized_shape": 768, "eps": 1e-6},
        },
    }
    models = "torch_only_ast.models"
    if name in ("ast", "passt"):
        model["_target_"] = f"{models}.ast.AST" if name == "ast" else f"{models}.passt.PaSST"
        model["aggregator"] = {"_target_": f"{models}.ast.HeadTokensAggregator", **tokens}
        model["head"] = {"_target_": f"{models}.ast.MLPHead", "in_channels": 768, "out_channels": 527}
    else:
        model["_target_"] = f"{models}.ssast.MultiTaskSSASTMPM"
        model["masker"] = {"_target_": f"{models}.ssast.Masker", "embedding_dim": 768, "num_masks": 400}
        head = {"_target_": f"{models}.ssast.MLP", "in_channels": 768, "hidden_channels": 768, "out_channels": 256}
        model |= {"reconstructor": head, "classifier": head}
    if name == "passt":
        drops = {"num_frequency_drops": 4, "num_time_drops": 40}
        model["dropout"] = {"_target_": "torch_only_ast.modules.passt.StructuredPatchout", **drops}
    return {"model": model}


@torch.no_grad()
def record(checkout: Path, folder: Path) -> dict[str, np.ndarray]:
    """Outputs by "model.output"; `tokens` and predictions are thinned."""
    sys.path.insert(0, str(checkout))
    from torch_only_ast.models.ast import AST, HeadTokensAggregator
    from torch_only_ast.models.passt import PaSST
    from torch_only_ast.models.ssast import SSAST, MultiTaskSSASTMPM

    paths = {}
    for name, file in FILES.items():
        paths[name] = str(folder / file)
        torch.save(
            small_content(file, num_layers=NUM_LAYERS) | {"resolved_config": resolved_config(name)}, paths[name]
        )
    outputs: dict[str, torch.Tensor] = {}
    inputs = clips(512).mT
    for name, model_class in (("ast", AST), ("passt", PaSST)):
        model = model_class.build_from_pretrained(paths[name]).eval()
        outputs[f"{name}.logits"] = model(inputs)
        if name == "ast":
            outputs["ast.padded_logits"] = model(inputs, length=torch.tensor(LENGTHS))
        model.head = None
        outputs[f"{name}.pooled"] = model(inputs)
        model.aggregator = None
        outputs[f"{name}.tokens"] = model(inputs)[0, ::EVERY_TOKEN]
    for name in ("ssast_patch", "ssast_frame"):
        model = SSAST.build_from_pretrained(paths[name]).eval()
        outputs[f"{name}.tokens"] = model(inputs)[0, ::EVERY_TOKEN]
        model.aggregator = HeadTokensAggregator(insert_cls_token=True, insert_dist_token=True)
        outputs[f"{name}.pooled"] = model(inputs)
        pretraining = MultiTaskSSASTMPM.build_from_pretrained(paths[name]).eval()
        torch.manual_seed(0)
        masks: list[torch.Tensor] = []  # of both tasks, in the order of the calls
        pretraining.masker.register_forward_hook(lambda *call, masks=masks: masks.append(call[-1][1]))
        (reconstructions, *_), (predictions, *_) = pretraining(clips(1024).mT)
        outputs[f"{name}.reconstructions"] = reconstructions[:, ::EVERY_ROW]
        outputs[f"{name}.predictions"] = predictions[:, ::EVERY_ROW]
        for task, mask in zip(("reconstructions", "predictions"), masks, strict=True):
            outputs[f"{name}.{task}_mask"] = mask.flatten(1)
    return {name: output.numpy() for name, output in outputs.items()}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        np.savez_compressed(OUTPUTS, **record(Path(sys.argv[1]), Path(temporary)))
