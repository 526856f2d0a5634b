"""AST: the eight official checkpoints, TorchOnlyAST's copy of one, and the DeiT weights used for initialisation."""

from typing import Any

from hf_ast.models.configuration_common import SIZES

from .checkpoint import Checkpoint, Metric

REPOSITORY = "https://github.com/YuanGongND/ast"
README = f"{REPOSITORY}#pretrained-models"
# Official places that offer the files in a browser only
PAGES = (
    "https://mitprod-my.sharepoint.com/:f:/g/personal/yuangong_mit_edu/"
    "ErLKkiP-GwVMgdsCeGEjsmoBMtGvXMkX3tCj5_I0E7ikNA?e=JE9Om8",
    "https://share.weiyun.com/xRGK6zmg",
)
SPEECH_COMMANDS = {"max_length": 128, "mean": -6.845978, "std": 5.5654526}
COMMON: dict[str, Any] = {
    "family": "ast",
    "license": "BSD-3-Clause",
    "license_note": (
        "The licence of the official repository, which states no separate one for the weights; the copies on the Hub "
        "(MIT/ast-finetuned-*) have the same."
    ),
    "repository": REPOSITORY,
    "paper": "2104.01778",
}


def _dropbox(key: str, file_name: str) -> str:
    return f"https://www.dropbox.com/s/{key}/{file_name}?dl=1"


def _audioset(
    file: str, *, stride: int, result: float, hub: str, note: str = "", mirrors: tuple[str, ...] = ()
) -> Checkpoint:
    _, file_name = file.split("/")
    score = file_name.removesuffix(".pth").rpartition("_")[2]
    return Checkpoint(
        f"ast-base-s{stride}-audioset-{score}",
        title=f"AST base, stride {stride}, AudioSet{note}",
        urls=(f"https://www.dropbox.com/s/{file}?dl=1", *mirrors),
        pages=PAGES,
        config={"frequency_stride": stride, "time_stride": stride},
        label_set="audioset_527",
        metrics=(Metric("mAP", result, "AudioSet evaluation set", README),),
        datasets=("ImageNet-1k", "AudioSet-2M"),
        aliases=(f"MIT/ast-finetuned-{hub}",),
        **COMMON,
    )


AST_CHECKPOINTS = (
    _audioset(
        "ca0b1v2nlxzyeb4/audioset_10_10_0.4593.pth",
        stride=10,
        result=0.4590,
        hub="audioset-10-10-0.4593",
        note=", weights averaged",
        # The official code downloads this one, under another name
        mirrors=(_dropbox("cv4knew8mvbrnvq", "audioset_0.4593.pth"),),
    ),
    _audioset("1tv0hovue1bxupk/audioset_10_10_0.4495.pth", stride=10, result=0.4495, hub="audioset-10-10-0.450"),
    _audioset("6u5sikl4b9wo4u5/audioset_10_10_0.4483.pth", stride=10, result=0.4483, hub="audioset-10-10-0.448"),
    _audioset("kt6i0v9fvfm1mbq/audioset_10_10_0.4475.pth", stride=10, result=0.4475, hub="audioset-10-10-0.448-v2"),
    _audioset("snfhx3tizr4nuc8/audioset_12_12_0.4467.pth", stride=12, result=0.4467, hub="audioset-12-12-0.447"),
    _audioset("z18s6pemtnxm4k7/audioset_14_14_0.4431.pth", stride=14, result=0.4431, hub="audioset-14-14-0.443"),
    _audioset("mdsa4t1xmcimia6/audioset_16_16_0.4422.pth", stride=16, result=0.4422, hub="audioset-16-16-0.442"),
    Checkpoint(
        "ast-base-s10-speech-commands-0.9812",
        title="AST base, stride 10, Speech Commands V2, 35 words",
        urls=(_dropbox("q0tbqpwv44pquwy", "speechcommands_10_10_0.9812.pth"),),
        pages=PAGES,
        config={"max_length": 128},
        front_end=SPEECH_COMMANDS,
        label_set="speech_commands_v2_35",
        metrics=(Metric("accuracy", 0.9812, "Speech Commands V2 test set (35 words)", README),),
        datasets=("ImageNet-1k", "Speech Commands V2"),
        aliases=("MIT/ast-finetuned-speech-commands-v2",),
        **COMMON,
    ),
    Checkpoint(
        "ast-base-s10-audioset-torchonly",
        title="AST base, stride 10, AudioSet, as mirrored by TorchOnlyAST",
        urls=("https://github.com/tky823/TorchOnlyAST/releases/download/v0.0.1/ast-base-stride10.pth",),
        # For shorter clips, TorchOnlyAST takes the middle of the position table, also in eval mode
        config={"position_crop": "center"},
        label_set="audioset_527",
        datasets=("ImageNet-1k", "AudioSet-2M"),
        **COMMON | {"repository": "https://github.com/tky823/TorchOnlyAST"},
    ),
)


def _deit(size: str, pixels: int, digest: str) -> Checkpoint:
    file_name = f"deit_{size}_distilled_patch16_{pixels}-{digest}.pth"
    return Checkpoint(
        f"ast-{size}-s10-imagenet-{pixels}",
        family="ast",
        title=f"AST {size} before training on sounds: DeiT distilled, {pixels} x {pixels} pixels, ImageNet",
        urls=(f"https://dl.fbaipublicfiles.com/deit/{file_name}",),
        sha256=digest,  # torch.hub's convention: the first digits are in the file name
        config=SIZES[size],
        datasets=("ImageNet-1k",),
        license="Apache-2.0",
        license_note="The licence of facebookresearch/deit.",
        repository="https://github.com/facebookresearch/deit",
        paper="2012.12877",
        aliases=(f"deit_{size}_distilled_patch16_{pixels}",),
    )


DEIT_CHECKPOINTS = (
    _deit("tiny", 224, "b40b3cf7"),
    _deit("small", 224, "649709d9"),
    _deit("base", 224, "df68dfff"),
    _deit("base", 384, "d0272ac0"),
)
