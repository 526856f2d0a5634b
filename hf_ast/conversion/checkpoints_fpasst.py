"""fPaSST: the three files of the release of PretrainedSED.

The official loader (models/prediction_wrapper.py) tells the names of their tensors. It does not tell which heads of
which sizes a file has, except that inference.py needs the head of 447 classes for frames in fpasst_strong_1.pt.
Therefore the converter takes the heads and their sizes from the file.
"""

from typing import Any

from .checkpoint import Checkpoint

REPOSITORY = "https://github.com/fschmid56/PretrainedSED"
RELEASE = f"{REPOSITORY}/releases/download/v0.0.1"
COMMON: dict[str, Any] = {
    "family": "fpasst",
    "license": "",
    "license_note": (
        "The code has the licence MIT, but the authors state none for the weights, which derive from DeiT's; ask them "
        "before you pass the weights on."
    ),
    "repository": REPOSITORY,
    "paper": "2409.09546",
}
HEADS = (
    "The authors do not state which of the two heads, for frames and for whole clips, the training of this file used. "
    "A head is here if it is in the file."
)

FPASST_CHECKPOINTS = (
    Checkpoint(
        "fpasst-base-audioset-strong",
        title="fPaSST base, sound events with times, 447 classes of AudioSet Strong",
        urls=(f"{RELEASE}/fpasst_strong_1.pt",),
        label_set="audioset_strong_447",
        datasets=("ImageNet-1k", "AudioSet-2M", "AudioSet Strong"),
        aliases=("fpasst_strong", "fpasst"),
        remarks=(
            HEADS,
            "The published PSDS1 of 45.4 on AudioSet Strong is the mean of three training runs; the result of this "
            "one is not stated.",
        ),
        **COMMON,
    ),
    Checkpoint(
        "fpasst-base-audioset",
        title="fPaSST base, 527 classes of AudioSet, before the training on AudioSet Strong",
        urls=(f"{RELEASE}/fpasst_weak.pt",),
        label_set="audioset_527",
        datasets=("ImageNet-1k", "AudioSet-2M"),
        remarks=(
            HEADS,
            "The order of the 527 classes is not stated. It is assumed to be that of AudioSet's "
            "class_labels_indices.csv, which the data set of the official code has; check it with sounds that you "
            "know.",
        ),
        **COMMON,
    ),
    Checkpoint(
        "fpasst-base-imagenet",
        title="fPaSST base with the weights of an image model, before any training on audio",
        urls=(f"{RELEASE}/fpasst_ssl.pt",),
        datasets=("ImageNet-1k",),
        aliases=("fpasst_im",),
        remarks=(
            "The official code calls this file both fpasst_ssl and fpasst_im: for fPaSST the first stage is ImageNet, "
            "and there is no self-supervised training.",
        ),
        **COMMON,
    ),
)
