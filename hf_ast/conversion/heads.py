"""Classes of the heads for frames and for whole clips, from their sizes in a file."""

from typing import Any

from .checkpoint import label_names
from .containers import Unwrapped
from .key_maps import look_up

# Our names of the tensors that have a value for each class of frames, and of whole clips
FRAMES, CLIPS = "frame_classifier.linear.bias", "classifier.linear.bias"
# Number of classes -> label set, in a layout that has heads for both
LABELS_BY_SIZE = {447: "audioset_strong_447", 527: "audioset_527"}


def head_labels(found: Unwrapped) -> dict[str, Any]:
    """Return the fields of the config with the classes of the heads, in a layout that may have two; else nothing.

    The authors do not state which heads of which sizes the released files have. A head gets its names by its size:
    those of AudioSet Strong (447) or AudioSet (527), else numbered ones.
    """
    if FRAMES not in found.layout.key_map.values():
        return {}
    sizes = {
        look_up(name, found.layout.key_map)[0]: tensor.shape[0]
        for name, tensor in found.tensors.items()
        if tensor.ndim
    }
    frames, clips = (_names(sizes[head]) if head in sizes else [] for head in (FRAMES, CLIPS))
    names = frames or clips
    if not names:
        return {}
    fields: dict[str, Any] = {"id2label": dict(enumerate(names))}
    fields["label2id"] = {name: number for number, name in fields["id2label"].items()}
    if frames and clips and clips != frames:
        fields["clip_labels"] = clips
    return fields


def _names(size: int) -> list[str]:
    """Names of the classes of a head of that size."""
    if size in LABELS_BY_SIZE:
        return list(label_names(LABELS_BY_SIZE[size]))
    return [f"LABEL_{number}" for number in range(size)]
