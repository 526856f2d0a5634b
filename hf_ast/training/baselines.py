"""What any result must beat: the largest class, and a linear classifier on the mean spectrogram. Needs `train`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hf_ast import HfASTFeatureExtractor
from hf_ast.data.labelled import Clip, LabelledData
from hf_ast.data.splitting import TRAIN

from .clips import read_part
from .metrics import classification_metrics, main_metric

# Spectrograms of the linear baseline, at most the middle ten seconds of a recording
MEL_BINS, DURATION_S = 64, 10.0
# Largest number of recordings that it is fitted to, and parts of a cross-validation
NUM_FITTED, NUM_PARTS = 5000, 5
# A result is better than another one if it is above it by so many standard errors
NUM_ERRORS = 2.0
LINEAR = "a linear classifier on the mean log-mel spectrum"


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """Metrics that need no transformer, on the same recordings.

    Attributes:
        largest_class: Of always giving the share of each class in training, and so of always choosing the largest one.
        linear: Of a logistic regression on the mean log-mel spectrum; None if there is nothing to fit it to.
        is_cross_validated: Whether it was fitted to the other parts of the same recordings, for want of a training
            split.
    """

    largest_class: dict[str, float]
    linear: dict[str, float] | None
    is_cross_validated: bool


def baselines(
    data: LabelledData, clips: Sequence[Clip], *, seed: int = 0, device: torch.device | None = None
) -> Baselines:
    """Compute the baselines for recordings.

    Args:
        data: All recordings; those of its training split, if it has one, are what is fitted to.
        clips: The recordings of a result.
        seed: Of the choice of recordings if there are very many, and of the parts of a cross-validation.
        device: Where spectra are computed; if None, on the CPU.
    """
    targets = data.targets(clips)
    chosen = {id(clip) for clip in clips}
    training = [clip for clip in data.of(TRAIN) if id(clip) not in chosen]
    is_cross_validated = not training
    shares = data.targets(clips if is_cross_validated else training).mean(axis=0)
    largest = classification_metrics(targets, np.tile(shares, (len(clips), 1)), multi_label=data.multi_label).values
    scores = _linear_scores(data, clips, training, seed, device)
    linear = None
    if scores is not None:
        readable = np.isfinite(scores).all(axis=1)
        linear = classification_metrics(targets[readable], scores[readable], multi_label=data.multi_label).values
    return Baselines(largest_class=largest, linear=linear, is_cross_validated=is_cross_validated)


def _linear_scores(
    data: LabelledData, clips: Sequence[Clip], training: Sequence[Clip], seed: int, device: torch.device | None
) -> np.ndarray | None:
    """Return the scores (N, C) of the linear baseline, NaN where a recording cannot be read; or None."""
    features = mean_spectra(data, clips, device)
    readable = np.isfinite(features).all(axis=1)
    scores = np.full((len(clips), len(data.labels)), np.nan)
    targets = data.targets(clips)
    if training:
        order = np.random.default_rng(seed).permutation(len(training))[:NUM_FITTED]
        fitted = [training[number] for number in order]
        inputs, known = mean_spectra(data, fitted, device), data.targets(fitted)
        usable = np.isfinite(inputs).all(axis=1)
        if usable.sum() < 2 or not readable.any():
            return None
        model = LinearClassifier.fit(inputs[usable], known[usable], multi_label=data.multi_label)
        scores[readable] = model.scores(features[readable])
        return scores
    groups = [clips[row].group for row in readable.nonzero()[0]]
    if readable.sum() < 2 * NUM_PARTS or 1 < len(set(groups)) < NUM_PARTS:
        return None
    scores[readable] = cross_validated(
        features[readable], targets[readable], multi_label=data.multi_label, groups=groups, seed=seed
    )
    return scores


def mean_spectra(data: LabelledData, clips: Sequence[Clip], device: torch.device | None = None) -> np.ndarray:
    """Return the mean log-mel spectrum (N, 64) of each recording, or of its middle; NaN where it cannot be read."""
    extractor = HfASTFeatureExtractor(num_mel_bins=MEL_BINS, max_length=int(100 * DURATION_S), do_normalize=False)
    rate, reader = extractor.sampling_rate, data.source.reader()
    spectra = np.full((len(clips), MEL_BINS), np.nan)
    for row, clip in enumerate(clips):
        try:
            waveform = read_part(reader, clip, 0.5, sampling_rate=rate, duration_s=DURATION_S)
            values = extractor(waveform, rate, padding=False, return_tensors="pt", device=device)["input_values"][0]
        except (OSError, ValueError):  # the result names it
            continue
        spectra[row] = values.mean(dim=0).cpu().numpy()
    return spectra


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """Logistic regression on standardised inputs, as one affine map of the inputs themselves.

    Attributes:
        weight, bias: Of the logits, shapes (C, D) and (C,).
        multi_label: Whether the logits are independent (sigmoid), or one distribution (softmax).
    """

    weight: np.ndarray
    bias: np.ndarray
    multi_label: bool

    @classmethod
    def fit(cls, inputs: np.ndarray, targets: np.ndarray, *, multi_label: bool) -> "LinearClassifier":
        """Fit scikit-learn's `StandardScaler` and `LogisticRegression` to inputs (N, D) and targets (N, C)."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(inputs)
        scaled = scaler.transform(inputs)
        num_labels = targets.shape[1]
        # A class that never occurs gets a probability of almost 0
        weight, bias = np.zeros((num_labels, inputs.shape[1])), np.full(num_labels, -30.0)

        def fitted(classes: np.ndarray) -> Any:
            return LogisticRegression(max_iter=2000).fit(scaled, classes)

        if multi_label:
            for label in range(num_labels):
                classes = targets[:, label] > 0.5
                if classes.any() and not classes.all():
                    one = fitted(classes)
                    weight[label], bias[label] = one.coef_[0], one.intercept_[0]
                elif classes.any():
                    bias[label] = 30.0
        else:
            classes = targets.argmax(axis=1)
            present = np.unique(classes)
            if len(present) == 1:
                bias[present] = 30.0
            else:
                model = fitted(classes)
                # With two classes scikit-learn has one logit, of the second
                first = np.zeros((len(present) - len(model.coef_), inputs.shape[1] + 1))
                both = np.vstack((first, np.column_stack((model.coef_, model.intercept_))))
                weight[present], bias[present] = both[:, :-1], both[:, -1]
        weight = weight / scaler.scale_
        return cls(weight, bias - weight @ scaler.mean_, multi_label)

    def scores(self, inputs: np.ndarray) -> np.ndarray:
        """Return probabilities (N, C)."""
        from scipy.special import expit, softmax

        logits = inputs @ self.weight.T + self.bias
        return np.asarray(expit(logits) if self.multi_label else softmax(logits, axis=1))


def cross_validated(
    inputs: np.ndarray,
    targets: np.ndarray,
    *,
    multi_label: bool,
    groups: Sequence[str | None] | None = None,
    num_parts: int = NUM_PARTS,
    seed: int = 0,
) -> np.ndarray:
    """Return scores (N, C) in which each recording is scored by a classifier that was fitted without it.

    Args:
        inputs, targets: Shapes (N, D) and (N, C).
        multi_label: See `LinearClassifier`.
        groups: For example speakers, which stay in one part; None for none.
        num_parts: Parts of the recordings, each of which is left out once.
        seed: Seed of the parts.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    classes = targets.argmax(axis=1)
    # scikit-learn refuses parts of which no class has enough, and warns of those of which one class has not
    is_rare = np.bincount(classes, minlength=targets.shape[1])[classes] < num_parts
    kinds: Any = (KFold, GroupKFold)
    if not multi_label and not is_rare.all():
        kinds = (StratifiedKFold, StratifiedGroupKFold)
        classes = np.where(is_rare, np.bincount(classes).argmax(), classes)
    has_groups = groups is not None and all(group is not None for group in groups)
    parts = kinds[has_groups](num_parts, shuffle=True, random_state=seed)
    scores = np.zeros(targets.shape)
    for others, part in parts.split(inputs, classes, groups if has_groups else None):
        model = LinearClassifier.fit(inputs[others], targets[others], multi_label=multi_label)
        scores[part] = model.scores(inputs[part])
    return scores


def standard_errors(targets: np.ndarray, scores: np.ndarray, *, multi_label: bool) -> dict[str, float]:
    """Return the standard error of each metric: how much it varies from one set of so many recordings to another.

    Shares are taken as if there were one more right and one more wrong answer, so that a perfect result on a few
    recordings is not certain; the others vary over resampled sets of recordings (50, or fewer if there are many
    classes), and at least as much.

    Args:
        targets, scores: Shape (N, C), as in `classification_metrics`.
        multi_label: Whether a clip may have any number of classes.
    """
    number = len(targets)
    rng = np.random.default_rng(0)
    resampled = [
        classification_metrics(targets[rows], scores[rows], multi_label=multi_label).values
        for rows in (rng.integers(0, number, number) for _ in range(max(10, min(50, 500 // targets.shape[1]))))
    ]
    least = error_of_share(number, number)
    errors = {}
    for name in ("mAP", "AUC"):
        values = np.array([one[name] for one in resampled])
        values = values[np.isfinite(values)]
        errors[name] = max(least, float(values.std())) if len(values) else math.nan
    if not multi_label:
        true, is_right = targets.argmax(axis=1), targets.argmax(axis=1) == scores.argmax(axis=1)
        errors["accuracy"] = error_of_share(int(is_right.sum()), number)
        of_classes = [error_of_share(int(is_right[true == one].sum()), int((true == one).sum())) for one in set(true)]
        errors["balanced_accuracy"] = math.sqrt(sum(error**2 for error in of_classes)) / len(of_classes)
    return errors


def error_of_share(number: float, total: int) -> float:
    """Return the standard error of a share, as if there were one more right and one more wrong answer."""
    share = (number + 1) / (total + 2)
    return math.sqrt(share * (1 - share) / total)


def verdict(values: dict[str, float], errors: dict[str, float], found: Baselines, *, multi_label: bool) -> list[str]:
    """Say, in sentences, which baselines a result does not clearly beat."""
    name = main_metric(multi_label)
    said = []
    for title, other in (("always giving the largest class", found.largest_class), (LINEAR, found.linear)):
        if other is None or not math.isfinite(values[name]):
            continue
        if values[name] < other[name] + NUM_ERRORS * errors[name]:
            how = "is not better than" if values[name] <= other[name] else "is not clearly better than"
            said.append(
                f"The {name.replace('_', ' ')} of {values[name]:.3f} (standard error {errors[name]:.3f}) {how} "
                f"{title}, which reaches {other[name]:.3f}."
            )
    return said
