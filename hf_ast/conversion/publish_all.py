"""The whole zoo on the Hub: what would be uploaded, what is refused and why, and the upload of one of them.

`conversion/publish_all.py` in a checkout shows the plan and carries it out. A checkpoint is downloaded, converted and
verified unless its folder is ready in the cache, and uploaded in one commit; what is on the Hub already, unchanged, is
not sent again. The cache then holds an official file and a folder for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForAudioClassification, AutoModelForPreTraining

from hf_ast.families import BY_NAME

from .checkpoint import HUB_NAMESPACE, Checkpoint
from .downloads import cached, default_cache
from .prepare import converted_folder, is_ready, prepare
from .publish import license_refusal, publish_folder

# SPDX identifiers of licences under which converted weights may be redistributed
REDISTRIBUTABLE = frozenset({"Apache-2.0", "BSD-3-Clause", "CC-BY-4.0", "MIT"})
# Training data that may not be used commercially, with where that is stated. If the licence of weights trained on it
# permits commercial use, the case is unclear unless the authors say that they considered this
NON_COMMERCIAL = {
    "ESC-50": "CC BY-NC 3.0, https://github.com/karolpiczak/ESC-50#license",
    "FSD50K": "in part CC BY-NC 3.0, https://zenodo.org/records/4060432",
}
MB = 10**6
HEADER = ("name", "repository", "MB", "licence", "what is done")


@dataclass(frozen=True)
class Upload:
    """What happens to a checkpoint.

    Args:
        checkpoint: Entry of the registry.
        repo_id: Repository on the Hub.
        num_bytes: Size of the weights: in the folder in the cache, or of the parameters in single precision.
        refusal: Why it is not uploaded; "" if it is.
        steps: What is done, in order; empty if it is refused.
    """

    checkpoint: Checkpoint
    repo_id: str
    num_bytes: int
    refusal: str
    steps: tuple[str, ...]

    def row(self) -> tuple[str, ...]:
        """Return the row of a table with `HEADER`."""
        done = f"REFUSED: {self.refusal}" if self.refusal else ", ".join(self.steps)
        size = f"{self.num_bytes / MB:.1f}"
        return self.checkpoint.name, self.repo_id, size, self.checkpoint.license or "none", done


def plan(checkpoint: Checkpoint, *, namespace: str = HUB_NAMESPACE, cache: Path | None = None) -> Upload:
    """Say what uploading a checkpoint takes, without downloading anything.

    Args:
        checkpoint: Entry of the registry.
        namespace: User or organisation on the Hub.
        cache: Folder of official files and converted folders; `default_cache()` if None.
    """
    cache = cache or default_cache()
    folder = converted_folder(checkpoint, cache)
    ready = is_ready(folder, checkpoint, cache=cache)
    steps: tuple[str, ...] = ("upload",) if ready else ("convert", "verify", "upload")
    if not ready and cached(checkpoint, cache=cache) is None:
        steps = ("download", *steps)
    refusal = find_refusal(checkpoint)
    num_bytes = (
        sum(path.stat().st_size for path in folder.glob("*.safetensors")) if ready else weight_bytes(checkpoint)
    )
    return Upload(checkpoint, f"{namespace}/{checkpoint.name}", num_bytes, refusal, () if refusal else steps)


def find_refusal(checkpoint: Checkpoint) -> str:
    """Say why the licence of a checkpoint does not permit redistributing its weights, or is unclear; "" if it does."""
    if refusal := license_refusal(checkpoint):
        return refusal
    if checkpoint.license not in REDISTRIBUTABLE:
        return f"{checkpoint.license} is not among the licences that permit it ({', '.join(sorted(REDISTRIBUTABLE))})"
    for dataset in checkpoint.datasets:
        if dataset in NON_COMMERCIAL:
            return f"unclear, trained on {dataset} ({NON_COMMERCIAL[dataset]}). {checkpoint.license_note}"
    return ""


def weight_bytes(checkpoint: Checkpoint) -> int:
    """Return the size of the converted weights in single precision, from the config alone."""
    config = checkpoint.build_config()
    auto_class: Any = AutoModelForAudioClassification
    if checkpoint.label_set is None:
        classes = BY_NAME[checkpoint.family].models
        auto_class = AutoModelForPreTraining if "MODEL_FOR_PRETRAINING_MAPPING" in classes else AutoModel
    with torch.device("meta"):
        model = auto_class.from_config(config)
    return 4 * sum(parameter.numel() for parameter in model.parameters())


def publish(upload: Upload, *, cache: Path | None = None, private: bool = False) -> str:
    """Prepare the folder of a checkpoint and upload it; returns the URL, errors as in `prepare` and `publish_folder`.

    Raises:
        ValueError: The plan refuses the checkpoint.
    """
    if upload.refusal:
        raise ValueError(f"{upload.checkpoint.name} is not uploaded: {upload.refusal}")
    return publish_folder(prepare(upload.checkpoint, cache=cache), upload.repo_id, private=private)


def table(uploads: Sequence[Upload]) -> list[str]:
    """Return the plan as lines: a table, and a summary."""
    rows = [HEADER, *(upload.row() for upload in uploads)]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    lines = [
        "  ".join([*(value.ljust(width) for value, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]
    accepted = [upload for upload in uploads if not upload.refusal]
    size_mb = sum(upload.num_bytes for upload in accepted) / MB
    return [*lines, f"{len(accepted)} of {len(uploads)} are uploaded, {size_mb:.0f} MB; the others are refused"]
