"""Labels of cells of time, and of whole clips beside them."""

import torch
from torch import Tensor, nn

from .modules_cells import Cells
from .modules_classification import ClassificationHead, classification_loss

# How a clip is labelled beside its cells: not at all, by the head of `...ForAudioClassification`, or by the attention
# pooling of the official fPaSST code
CLIP_HEADS = ("none", "linear", "attention")
# Smallest attention weight of a cell (PretrainedSED models/prediction_wrapper.py:194-210)
LEAST_WEIGHT = 1e-7


def attention_pooling(cell_logits: Tensor, weight_logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Logits of a clip by the attention pooling of the official code.

    The softmax of the weights runs over the classes, as there (prediction_wrapper.py:194-210), which gives the
    probability of each class as a weighted mean over time.

    Args:
        cell_logits, weight_logits: Shape (B, K, C).
        mask: Cells that count, shape (B, K); all if None.

    Returns:
        Logits of the pooled probabilities, shape (B, C).
    """
    probabilities = cell_logits.float().sigmoid()
    weights = weight_logits.float().softmax(dim=-1).clamp(LEAST_WEIGHT, 1.0)
    if mask is not None:
        weights = weights * mask.unsqueeze(2)
    pooled = (probabilities * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=LEAST_WEIGHT)
    return pooled.logit(eps=torch.finfo(torch.float32).eps).to(cell_logits.dtype)


def build_heads(
    hidden_size: int,
    num_labels: int,
    clip_head: str,
    num_clip_labels: int | None,
    layer_norm_eps: float,
    has_norm: bool,
) -> tuple[ClassificationHead, ClassificationHead | None]:
    """Build the head of the cells, and that of the clips.

    Args:
        hidden_size: D.
        num_labels: Classes of the cells, C.
        clip_head: One of `CLIP_HEADS`.
        num_clip_labels: Classes of the clips; those of the cells if None.
        layer_norm_eps, has_norm: See `ClassificationHead`.

    Raises:
        ValueError: The clip head is unknown, or cannot have its own classes.
    """
    if clip_head not in CLIP_HEADS:
        raise ValueError(f"clip_head={clip_head!r} is unknown; choose one of {CLIP_HEADS}.")
    num_clip_labels = num_labels if num_clip_labels is None else num_clip_labels
    if clip_head == "attention" and num_clip_labels != num_labels:
        raise ValueError(
            f"clip_head='attention' pools the {num_labels} classes of the cells, so clips cannot have "
            f"{num_clip_labels}; use clip_head='linear'."
        )
    heads = [
        ClassificationHead(hidden_size, size, layer_norm_eps=layer_norm_eps, has_norm=has_norm)
        for size in (num_labels, num_clip_labels)
    ]
    return heads[0], None if clip_head == "none" else heads[1]


def frame_logits(
    cells: Cells, pooled: Tensor, frame_classifier: nn.Module, classifier: nn.Module | None, clip_head: str
) -> tuple[Tensor, Tensor | None]:
    """Label cells, and clips beside them.

    Args:
        cells: The cells of each clip.
        pooled: One vector per clip (B, D), as `...ForAudioClassification` takes it.
        frame_classifier: Head of the cells.
        classifier: Head of the clips, or of the attention weights; None without one.
        clip_head: One of `CLIP_HEADS`.

    Returns:
        Logits of the cells (B, K, C), and of the clips (B, C) or None without a clip head.
    """
    logits = frame_classifier(cells.tokens)
    if classifier is None:
        return logits, None
    if clip_head == "attention":
        return logits, attention_pooling(logits, classifier(cells.tokens), cells.mask)
    return logits, classifier(pooled)


def frame_loss(
    logits: Tensor, labels: Tensor, mask: Tensor | None, num_items_in_batch: Tensor | int | None = None
) -> Tensor:
    """Binary cross entropy over the cells whose labels are known.

    Args:
        logits: Shape (B, K, C).
        labels: Multi-hot or soft, shape (B, K, C), -100 where unknown.
        mask: Cells that count, shape (B, K); all if None.
        num_items_in_batch: Known label values in the whole optimizer step, as `transformers.Trainer` counts them; the
            mean over the given batch if None.

    Raises:
        ValueError: The labels have another shape, or values that are neither in [0, 1] nor -100.
    """
    if labels.shape != logits.shape:
        raise ValueError(
            f"labels has shape {tuple(labels.shape)}, but the model gives {logits.shape[1]} cells of "
            f"{logits.shape[2]} classes for these clips: {tuple(logits.shape)}. `config.num_cells_of(frames)` tells "
            "the cells of a clip; use -100 where a label is unknown."
        )
    if mask is not None:
        labels = labels.where(mask.unsqueeze(2).to(labels.device), -100)
    return classification_loss(
        logits.flatten(0, 1), labels.flatten(0, 1), "multi_label_classification", num_items_in_batch
    )
