"""Classification head and its losses."""

from torch import Tensor, nn

PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")


class ClassificationHead(nn.Module):
    """Layer norm and a linear layer: `mlp_head` of AST and SSAST, `head` of PaSST."""

    def __init__(self, hidden_size: int, num_labels: int, *, layer_norm_eps: float = 1e-5):
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.linear = nn.Linear(hidden_size, num_labels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled vectors (B, D) -> logits (B, C)."""
        return self.linear(self.norm(pooled))


def infer_problem_type(labels: Tensor, num_labels: int) -> str:
    """Regression for one output, single label for integer labels, multi-label for float ones (as transformers)."""
    if num_labels == 1:
        return "regression"
    return "multi_label_classification" if labels.is_floating_point() else "single_label_classification"


def classification_loss(
    logits: Tensor, labels: Tensor, problem_type: str, num_items_in_batch: Tensor | int | None = None
) -> Tensor:
    """Cross entropy, binary cross entropy or squared error.

    Summed and divided by `num_items_in_batch`, the number of label values of the whole optimizer step as
    `transformers.Trainer` counts it: then the gradient does not depend on how a step is cut into micro-batches or
    spread over devices. Without it, the mean over the given batch.

    Args:
        logits: Shape (B, C).
        labels: Class indices (B,) for a single label, multi-hot or soft labels (B, C) for multi-label, targets
            (B,) or (B, C) for regression.
        problem_type: One of `PROBLEM_TYPES`.
        num_items_in_batch: Label values in the whole optimizer step.
    """
    labels = labels.to(logits.device)
    reduction = "mean" if num_items_in_batch is None else "sum"
    if problem_type == "single_label_classification":
        loss = nn.functional.cross_entropy(logits, labels.view(-1), reduction=reduction)
    elif problem_type == "multi_label_classification":
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction=reduction)
    elif problem_type == "regression":
        loss = nn.functional.mse_loss(logits, labels.to(logits.dtype).view_as(logits), reduction=reduction)
    else:
        raise ValueError(f"problem_type={problem_type!r} is unknown; choose one of {PROBLEM_TYPES}.")
    if num_items_in_batch is None:
        return loss
    return loss / (
        num_items_in_batch.to(loss.device) if isinstance(num_items_in_batch, Tensor) else num_items_in_batch
    )
