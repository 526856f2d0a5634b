"""MAEST: the eight files of the official release, which are on the Hub as well, in transformers' layout of AST.

Here they keep positions per row and per column of the patch grid, as in the official code; the copies on the Hub hold
the sums. The official pages state no results for a checkpoint (those in the paper are of tasks learnt on top of it).
"""

from typing import Any

from .checkpoint import Checkpoint

REPOSITORY = "https://github.com/palonso/MAEST"
RELEASE = f"{REPOSITORY}/releases/download/v0.0.0-beta"
# Seconds of the input -> frames: those of the front end, up to a multiple of the stride of the patches
FRAMES = {5: 316, 10: 626, 20: 1256, 30: 1876}
DISCOGS = "Discogs20"
STARTS = {
    "fs": ("from scratch", (DISCOGS,)),
    "dw": ("from DeiT's weights", ("ImageNet-1k", DISCOGS)),
    "pw": ("from PaSST's weights", ("ImageNet-1k", "AudioSet-2M", DISCOGS)),
}
COMMON: dict[str, Any] = {
    "family": "maest",
    "license": "CC-BY-NC-SA-4.0",
    "license_note": (
        "Stated on the pages of the models on the Hub (mtg-upf/discogs-maest-*), for non-commercial applications; "
        "another licence on request. The code has the licence AGPL-3.0."
    ),
    "repository": REPOSITORY,
    "paper": "2309.16418",
}


def _checkpoint(seconds: int, kind: str, num_labels: int = 400) -> Checkpoint:
    """Describe a file; its kind is the initial weights, the epochs, and "ts" for training with a teacher."""
    name = f"discogs-maest-{seconds}s-{kind}"
    start, datasets = STARTS[kind.partition("-")[0]]
    teacher = ", taught by another MAEST" if kind.endswith("-ts") else ""
    frames = FRAMES[seconds]
    return Checkpoint(
        f"maest-{seconds}s-{kind}",
        title=f"MAEST for {seconds} s, {start}{teacher}, {num_labels} styles of Discogs, weights averaged",
        urls=(f"{RELEASE}/{name}-swa.ckpt",),
        config={"num_mel_bins": 96, "max_length": frames, "position_table": "factorised"},
        front_end={"max_length": frames},
        label_set=f"discogs_{num_labels}",
        datasets=datasets,
        aliases=(f"mtg-upf/{name}", name, name.replace("-", "_")),
        **COMMON,
    )


MAEST_CHECKPOINTS = (
    _checkpoint(5, "pw-129e"),
    _checkpoint(10, "fs-129e"),
    _checkpoint(10, "dw-75e"),
    _checkpoint(10, "pw-129e"),
    _checkpoint(20, "pw-129e"),
    _checkpoint(30, "pw-129e"),
    _checkpoint(30, "pw-73e-ts"),
    _checkpoint(30, "pw-129e-519l", 519),
)
