"""Metrics against their definitions and against scikit-learn."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.metrics
import torch

from hf_ast.training.metrics import classification_metrics, compute_metrics, d_prime


def example(num_clips: int = 60, num_classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    targets = (rng.random((num_clips, num_classes)) < 0.3).astype(float)
    scores = np.round(targets + rng.standard_normal(targets.shape), 1)  # with ties
    return targets, scores


def average_precision(is_positive: np.ndarray, scores: np.ndarray) -> float:
    """Mean over the positives of the precision among all clips with at least their score."""
    return float(np.mean([is_positive[scores >= score].mean() for score in scores[is_positive]]))


def auc(is_positive: np.ndarray, scores: np.ndarray) -> float:
    """Probability that a positive has a larger score than a negative; a tie counts half."""
    difference = scores[is_positive][:, None] - scores[~is_positive][None]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def test_multi_label_metrics_are_those_of_their_definitions_and_of_scikit_learn() -> None:
    targets, scores = example()
    metrics = classification_metrics(targets, scores, multi_label=True)
    for index in range(targets.shape[1]):
        is_positive = targets[:, index] == 1
        expected = average_precision(is_positive, scores[:, index])
        assert metrics.average_precision[index] == pytest.approx(expected, abs=1e-12)
        assert metrics.auc[index] == pytest.approx(auc(is_positive, scores[:, index]), abs=1e-12)
    of_scikit_learn = sklearn.metrics.average_precision_score(targets, scores, average="macro")
    assert metrics.values["mAP"] == pytest.approx(of_scikit_learn, abs=1e-6)
    mean_auc = sklearn.metrics.roc_auc_score(targets, scores, average="macro")
    assert metrics.values["AUC"] == pytest.approx(mean_auc, abs=1e-6)
    # The separation of two normal distributions with this area
    area = 0.5 * (1 + math.erf(metrics.values["d_prime"] / 2))
    assert area == pytest.approx(mean_auc, abs=1e-9)


def test_classes_without_a_positive_or_a_negative_are_left_out_of_the_means() -> None:
    targets, scores = example()
    targets[:, 2], targets[:, 4] = 0, 1
    metrics = classification_metrics(targets, scores, multi_label=True)
    assert np.isnan(metrics.average_precision).tolist() == [index == 2 for index in range(7)]
    assert np.isnan(metrics.auc).tolist() == [index in (2, 4) for index in range(7)]
    with_positive, with_both = [0, 1, 3, 4, 5, 6], [0, 1, 3, 5, 6]
    expected = sklearn.metrics.average_precision_score(targets[:, with_positive], scores[:, with_positive])
    assert metrics.values["mAP"] == pytest.approx(expected, abs=1e-6)
    expected = sklearn.metrics.roc_auc_score(targets[:, with_both], scores[:, with_both])
    assert metrics.values["AUC"] == pytest.approx(expected, abs=1e-6)
    assert metrics.num_positives[[2, 4]].tolist() == [0, 60]


def test_single_label_metrics() -> None:
    rng = np.random.default_rng(1)
    true = rng.integers(0, 5, 50)
    scores = np.eye(5)[true] + rng.standard_normal((50, 5))
    values = classification_metrics(np.eye(5)[true], scores, multi_label=False).values
    predicted = scores.argmax(axis=1)
    assert values["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(true, predicted), abs=1e-12)
    balanced = sklearn.metrics.balanced_accuracy_score(true, predicted)
    assert values["balanced_accuracy"] == pytest.approx(balanced, abs=1e-12)


def test_metrics_of_a_trainer_are_those_of_the_scores_that_models_give() -> None:
    rng = np.random.default_rng(2)
    true, logits = rng.integers(0, 4, 30), rng.standard_normal((30, 4)).astype(np.float32)
    scores = torch.from_numpy(logits).double().softmax(-1).numpy()
    found = compute_metrics("single_label_classification")(SimpleNamespace(predictions=logits, label_ids=true))
    expected = classification_metrics(np.eye(4)[true], scores, multi_label=False).values
    assert found == pytest.approx(expected, abs=1e-6)
    # The order of clips within a class is another one for logits than for the softmax of them
    assert found["mAP"] != pytest.approx(
        classification_metrics(np.eye(4)[true], logits, multi_label=False).values["mAP"]
    )

    targets, logits = example()
    found = compute_metrics("multi_label_classification")(SimpleNamespace(predictions=(logits,), label_ids=targets))
    expected = classification_metrics(targets, 1 / (1 + np.exp(-logits)), multi_label=True).values
    assert found == pytest.approx(expected, abs=1e-12)


def test_d_prime_at_its_ends() -> None:
    assert [d_prime(value) for value in (0.0, 0.5, 1.0)] == [-math.inf, 0.0, math.inf]
    assert math.isnan(d_prime(math.nan))


def test_what_has_no_metrics() -> None:
    targets, scores = example()
    with pytest.raises(ValueError, match="must have the same shape"):
        classification_metrics(targets[:-1], scores, multi_label=True)
    scores[3, 3] = np.nan
    with pytest.raises(ValueError, match="the model has diverged"):
        classification_metrics(targets, scores, multi_label=True)
    with pytest.raises(ValueError, match="problem_type='regression' has no such metrics"):
        compute_metrics("regression")
