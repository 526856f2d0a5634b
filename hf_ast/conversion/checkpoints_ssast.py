"""SSAST: the thirteen official pretraining checkpoints, and TorchOnlyAST's copies of two."""

from typing import Any

from hf_ast.models.configuration_common import SIZES

from .checkpoint import Checkpoint, Metric

REPOSITORY = "https://github.com/YuanGongND/ssast"
README = f"{REPOSITORY}#pretrained-models"
PAGES = (
    "https://mitprod-my.sharepoint.com/:f:/g/personal/yuangong_mit_edu/"
    "EuAuTEZNYPhOmlLFFjRFvGUBcgnIXBqFgFE33GDK69h-Zw?e=d3MEgT",
    "https://share.weiyun.com/C4GoAcv0",
)
BOTH = ("AudioSet-2M", "LibriSpeech-960h")
COMMON: dict[str, Any] = {
    "family": "ssast",
    "license": "BSD-3-Clause",
    "license_note": "The licence of the official repository, which states no separate one for the weights.",
    "repository": REPOSITORY,
    "paper": "2110.09784",
}


def _config(size: str, kind: str, num_mask_patches: int) -> dict[str, Any]:
    patch_size = (16, 16) if kind == "patch" else (128, 2)
    return {**SIZES[size], "patch_size": patch_size, "num_mask_patches": num_mask_patches}


def _average(audio: float | None, speech: float | None) -> tuple[Metric, ...]:
    """Return the averages that the official README states for its tasks."""
    values = {"audio": audio, "speech": speech}
    return tuple(
        Metric("average score", round(value / 100, 3), f"the official {kind} tasks, after fine-tuning", README)
        for kind, value in values.items()
        if value is not None
    )


def _joint(
    key: str, size: str, kind: str, num_mask_patches: int, audio: float | None, speech: float | None
) -> Checkpoint:
    file_name = f"SSAST-{size.title()}-{kind.title()}-{num_mask_patches}.pth"
    return Checkpoint(
        f"ssast-{size}-{kind}-{num_mask_patches}",
        title=f"SSAST {size}, {kind}-based, pretrained with {num_mask_patches} masked patches",
        urls=(f"https://www.dropbox.com/s/{key}/{file_name}?dl=1",),
        pages=PAGES,
        config=_config(size, kind, num_mask_patches),
        metrics=_average(audio, speech),
        datasets=BOTH,
        **COMMON,
    )


def _ablation(
    file: str,
    suffix: str,
    what: str,
    *,
    num_mask_patches: int = 400,
    datasets: tuple[str, ...] = BOTH,
    **config: float,
) -> Checkpoint:
    """A base patch model that differs from ssast-base-patch-400 in one factor (Table 2 of the paper)."""
    return Checkpoint(
        f"ssast-base-patch-{num_mask_patches}{suffix}",
        title=f"SSAST base, patch-based, ablation: {what}",
        urls=(f"https://www.dropbox.com/s/{file}?dl=1",),
        pages=PAGES,
        config=_config("base", "patch", num_mask_patches) | config,
        datasets=datasets,
        **COMMON,
    )


def _mirror(kind: str) -> Checkpoint:
    return Checkpoint(
        f"ssast-base-{kind}-400-torchonly",
        title=f"SSAST base, {kind}-based, 400 masked patches, as mirrored by TorchOnlyAST",
        urls=(f"https://github.com/tky823/TorchOnlyAST/releases/download/v0.0.2/multitask-ssast-{kind}-base-400.pth",),
        config=_config("base", kind, 400) | {"position_crop": "center"},
        datasets=BOTH,
        **COMMON | {"repository": "https://github.com/tky823/TorchOnlyAST"},
    )


SSAST_CHECKPOINTS = (
    _joint("ewrzpco95n9jdz6", "base", "patch", 400, 59.9, 79.5),
    _joint("nx6nl4d4bl71sm8", "base", "frame", 400, 57.6, 84.0),
    _joint("mxrm9qog6aj8hif", "base", "patch", 250, 58.6, 79.5),
    _joint("4e6l7ulhwrfoana", "base", "frame", 250, 55.6, 81.6),
    _joint("i24w446rl9pkf05", "small", "patch", 400, 58.1, 78.2),
    _joint("fkbtf78y94113wz", "tiny", "patch", 400, 53.3, 75.7),
    _joint("rx7g60ruzawffzv", "tiny", "frame", 400, 47.8, None),
    _ablation("0oyrtfbjzkwho2p/audio_model_100m.pth", "", "100 masked patches", num_mask_patches=100),
    _ablation(
        "znuzgwf2zvrpjkr/audio_model_dis.pth",
        "-discriminative",
        "only the discriminative objective",
        reconstruction_loss_weight=0.0,
    ),
    _ablation(
        "u6ws5fjrid10x4p/audio_model_gen.pth",
        "-generative",
        "only the generative objective",
        classification_loss_weight=0.0,
    ),
    _ablation(
        "y6x2ck2ca3tb7d9/audio_model_as20k.pth",
        "-audioset20k",
        "pretrained on AudioSet-20K",
        datasets=("AudioSet-20K",),
    ),
    _ablation("m9p782df3faql1q/audio_model_as.pth", "-audioset", "pretrained on AudioSet", datasets=("AudioSet-2M",)),
    _ablation(
        "f4bn2qelu3m8ksu/audio_model_librispeech.pth",
        "-librispeech",
        "pretrained on LibriSpeech",
        datasets=("LibriSpeech-960h",),
    ),
    _mirror("patch"),
    _mirror("frame"),
)
