"""Classification head and its losses."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from .modules_checks import expect_tensor, precise

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
PROBLEM_TYPES = get_args(ProblemType)


class ClassificationHead(nn.Module):
    """Layer norm and a linear layer: `mlp_head` of AST and SSAST, `head` of PaSST. Those of fPaSST have no norm."""

    def __init__(self, hidden_size: int, num_labels: int, *, layer_norm_eps: float = 1e-5, has_norm: bool = True):
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps) if has_norm else nn.Identity()
        self.linear = nn.Linear(hidden_size, num_labels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Vectors (..., D) -> logits (..., C)."""
        return self.linear(self.norm(pooled))


def infer_problem_type(labels: Tensor, num_labels: int) -> ProblemType:
    """Regression for one output, single label for integer labels, multi-label for float ones (as transformers)."""
    expect_tensor("labels", labels)
    if num_labels == 1:
        return "regression"
    return "multi_label_classification" if labels.is_floating_point() else "single_label_classification"


def classification_loss(
    logits: Tensor, labels: Tensor, problem_type: str, num_items_in_batch: Tensor | int | None = None
) -> Tensor:
    """Cross entropy, binary cross entropy or squared error.

    The loss is the sum divided by `num_items_in_batch`, the number of label values in the whole optimizer step as
    `transformers.Trainer` counts it, so that the gradient does not depend on how a step is split into micro-batches or
    over devices. Without that number, it is the mean over the given batch. It is computed in float32, whatever the
    dtype of the model.

    Args:
        logits: Shape (B, C).
        labels: For a single label, class indices (B,), or soft labels (B, C), floats between 0 and 1; -100 (for all
            classes, if soft) leaves a clip out. For multi-label, multi-hot or soft labels (B, C), with -100 for
            classes that are unknown for a clip. For regression, targets (B, C), or (B,) if C is 1.
        problem_type: One of `PROBLEM_TYPES`.
        num_items_in_batch: Label values in the whole optimizer step.

    Raises:
        ValueError: The problem type is unknown, or `labels` has a shape, a kind or a value that does not suit it. In
            compiled code a wrong value raises a RuntimeError.
    """
    if problem_type not in PROBLEM_TYPES:
        raise ValueError(f"problem_type={problem_type!r} is unknown; choose one of {PROBLEM_TYPES}.")
    batch_size, num_labels = logits.shape
    check_labels(labels, batch_size, num_labels, problem_type)
    labels, logits = labels.to(logits.device), precise(logits)
    reduction = "mean" if num_items_in_batch is None else "sum"
    if problem_type == "multi_label_classification":
        loss = _multi_label_loss(logits, labels.to(logits.dtype), reduction)
    elif problem_type == "regression":
        loss = nn.functional.mse_loss(logits, labels.to(logits.dtype).view_as(logits), reduction=reduction)
    elif labels.is_floating_point():
        loss = _soft_label_loss(logits, labels.to(logits.dtype), reduction)
        if num_items_in_batch is not None:
            loss = loss * num_labels  # a clip has C label values, but the mean is over clips
    else:
        loss = nn.functional.cross_entropy(logits, labels.long().view(-1), reduction=reduction)
    if num_items_in_batch is None:
        return loss
    return loss / (
        num_items_in_batch.to(loss.device) if isinstance(num_items_in_batch, Tensor) else num_items_in_batch
    )


# The default `ignore_index` of `nn.functional.cross_entropy`
IGNORED_LABEL = -100


def _multi_label_loss(logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
    """Binary cross entropy over the values (B, C) that are not `IGNORED_LABEL`."""
    counts = labels != IGNORED_LABEL
    loss = nn.functional.binary_cross_entropy_with_logits(
        logits, labels.where(counts, 0.0), weight=counts.to(logits.dtype), reduction="sum"
    )
    return loss if reduction == "sum" else loss / counts.sum().clamp(min=1)


def _soft_label_loss(logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
    """Cross entropy over the rows of (B, C) that are not `IGNORED_LABEL`."""
    counts = (labels != IGNORED_LABEL).all(1)
    loss = nn.functional.cross_entropy(logits, labels.where(counts[:, None], 0.0), reduction="sum")
    return loss if reduction == "sum" else loss / counts.sum().clamp(min=1)


def check_labels(labels: Tensor, batch_size: int, num_labels: int, problem_type: str) -> None:
    """Raise the errors of `classification_loss` about `labels`; looking at the values waits for their device once."""
    expect_tensor("labels", labels)
    is_soft = problem_type == "multi_label_classification"
    if problem_type == "single_label_classification":
        is_soft = labels.is_floating_point()
    per_class = labels.ndim == 2 and labels.shape[1] == num_labels
    per_clip = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    if problem_type == "regression":
        fits = per_class or (per_clip and num_labels == 1)
    else:
        fits = per_class if is_soft else per_clip
    if not fits or labels.shape[0] != batch_size or labels.is_complex():
        raise ValueError(_wrong_shape(labels, batch_size, num_labels, problem_type))

    if not labels.is_floating_point():  # in uint8, the number to ignore would equal 156
        labels = labels.long()
    if is_soft:
        are_left_out = labels == IGNORED_LABEL
        if problem_type == "single_label_classification":  # a clip as a whole
            are_left_out = are_left_out.all(1, keepdim=True)
        are_valid = (labels >= 0) & (labels <= 1) | are_left_out
    elif problem_type == "regression":
        are_valid = labels.isfinite()
    else:
        are_valid = (labels >= 0) & (labels < num_labels) | (labels == IGNORED_LABEL)
    all_valid = are_valid.all()
    if torch.compiler.is_compiling():  # a compiled graph can fail, but not with values in its message
        torch._assert_async(all_valid, "labels has a value that is out of range, NaN or infinite.")
    elif not all_valid:
        wanted = {
            "multi_label_classification": "numbers between 0 and 1; scale them, and replace NaN by -100 to ignore it",
            "regression": "finite numbers; leave out clips whose target is NaN or infinite",
            "single_label_classification": (
                f"class indices from 0 to {num_labels - 1}, or {IGNORED_LABEL} for clips to leave out; load a model "
                "for more classes with `num_labels=`"
            ),
        }["multi_label_classification" if is_soft else problem_type]
        raise ValueError(f"labels holds {labels[~are_valid][0].item()}, but must hold {wanted}.")


def _wrong_shape(labels: Tensor, batch_size: int, num_labels: int, problem_type: str) -> str:
    """Return the message for labels whose shape or kind of number does not suit the problem type."""
    shape, whole = tuple(labels.shape), (batch_size, num_labels)
    wanted, way_out = {
        "single_label_classification": (
            f"class indices, integers of shape ({batch_size},), or soft labels, floats of shape {whole}",
            "Use `labels.long()` for class indices that are floats, `labels.argmax(1)` for one-hot integers, or, for "
            'several labels per clip, `labels.float()` and problem_type="multi_label_classification".',
        ),
        "multi_label_classification": (
            f"one value per clip and class, shape {whole}",
            f"Use `torch.nn.functional.one_hot(labels.long(), {num_labels}).float()` for class indices, or set "
            'config.problem_type="single_label_classification".',
        ),
        "regression": (
            f"targets of shape {whole}",
            "num_labels is the number of targets per clip: load the model with `num_labels=`.",
        ),
    }[problem_type]
    if shape[:1] != (batch_size,):
        way_out = f"There are {batch_size} clips: pass one label, or one row of labels, for each."
    kind = f"labels holds {labels.dtype} of shape {shape}"
    return f"{kind}, but problem_type={problem_type!r} needs {wanted}. {way_out}"
