"""Metrics of classifiers as in the official AST code, computed by scikit-learn. Needs the extra `train`."""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np


class Metrics(NamedTuple):
    """Metrics of a classifier.

    Attributes:
        values: Name -> value. Always `mAP`, `AUC` and `d_prime`; for single-label data also `accuracy` and
            `balanced_accuracy`, the mean recall of the classes.
        average_precision: Average precision of each class, shape (C,); NaN for a class without a positive.
        auc: Area under the ROC curve of each class, shape (C,); NaN for a class without a positive or a negative.
        num_positives: Clips of each class, shape (C,).
    """

    values: dict[str, float]
    average_precision: np.ndarray
    auc: np.ndarray
    num_positives: np.ndarray


def classification_metrics(targets: np.ndarray, scores: np.ndarray, *, multi_label: bool) -> Metrics:
    """Compute all metrics.

    `mAP` and `AUC` are means over classes. A class without positive clips has no average precision and is left out of
    `mAP`; likewise, a class without positives or without negatives is left out of `AUC`. (scikit-learn's own mean
    counts such a class as an average precision of 0, and the official code never meets one.) `d_prime` is that of the
    mean AUC, sqrt(2) times the quantile of the normal distribution, as in the official code; it is infinite for an AUC
    of 1.

    Args:
        targets: 1 for the classes of each clip and 0 for the others, shape (N, C).
        scores: Scores or logits of each clip, shape (N, C).
        multi_label: Whether a clip may have any number of classes.

    Raises:
        ValueError: The shapes differ, there is no clip, or a score is NaN or infinite.
    """
    from sklearn.metrics import accuracy_score, average_precision_score, roc_auc_score

    targets, scores = np.asarray(targets), np.asarray(scores)
    if targets.shape != scores.shape or targets.ndim != 2 or not len(targets):
        raise ValueError(f"targets {targets.shape} and scores {scores.shape} must have the same shape (N, C), N > 0.")
    if not np.isfinite(scores).all():
        raise ValueError("scores holds values that are NaN or infinite; the model has diverged.")
    is_positive = targets > 0.5
    num_positives = is_positive.sum(axis=0)
    average_precision, auc = np.full((2, targets.shape[1]), np.nan)
    for index in num_positives.nonzero()[0]:
        average_precision[index] = average_precision_score(is_positive[:, index], scores[:, index])
        if num_positives[index] < len(targets):
            auc[index] = roc_auc_score(is_positive[:, index], scores[:, index])
    values = {"mAP": _mean(average_precision), "AUC": _mean(auc)}
    values["d_prime"] = d_prime(values["AUC"])
    if not multi_label:
        true, predicted = is_positive.argmax(axis=1), scores.argmax(axis=1)
        recalls = [(predicted[true == index] == index).mean() for index in np.unique(true)]
        values = {
            "accuracy": float(accuracy_score(true, predicted)),
            "balanced_accuracy": float(np.mean(recalls)),
        } | values
    return Metrics(values, average_precision, auc, num_positives)


def d_prime(auc: float) -> float:
    """Return how far the scores of positives lie from those of negatives, given the area under the ROC curve."""
    if not 0 < auc < 1:
        return math.nan if math.isnan(auc) else math.copysign(math.inf, auc - 0.5)
    return math.sqrt(2) * NormalDist().inv_cdf(auc)


def compute_metrics(problem_type: str) -> Callable[[Any], dict[str, float]]:
    """Return the `compute_metrics` of a `Trainer`, for models of this problem type.

    Raises:
        ValueError: The problem type is not a classification.
    """
    if problem_type not in ("single_label_classification", "multi_label_classification"):
        raise ValueError(
            f"problem_type={problem_type!r} has no such metrics; it must be 'single_label_classification' or "
            "'multi_label_classification'."
        )
    multi_label = problem_type == "multi_label_classification"

    def compute(prediction: Any) -> dict[str, float]:
        logits = prediction.predictions
        logits = logits[0] if isinstance(logits, tuple) else logits
        targets = prediction.label_ids
        if targets.ndim == 1:
            targets = np.eye(logits.shape[1])[targets.astype(int)]
        if multi_label:
            # Average precision and AUC depend only on the order of clips within a class, which a sigmoid keeps
            return classification_metrics(targets, logits, multi_label=True).values
        # A softmax does change it
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = exponentials / exponentials.sum(axis=1, keepdims=True)
        return classification_metrics(targets, scores, multi_label=False).values

    return compute


def main_metric(multi_label: bool) -> str:
    """Return the metric by which the best state is chosen; the official code takes accuracy, and has even classes."""
    return "mAP" if multi_label else "balanced_accuracy"


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
