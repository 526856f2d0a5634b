"""How well a model labels recordings: scores of whole recordings, metrics, and a figure. Needs the extra `train`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from hf_ast.data import audio
from hf_ast.data.labelled import Clip, LabelledData
from hf_ast.inference.devices import Device, default_batch_size, place, running
from hf_ast.inference.features import FeatureExtractor, check_front_end, clip_features, model_window
from hf_ast.inference.tagging import label_names, score_inputs, tag
from hf_ast.plotting import confusion_counts, plot_average_precision, plot_confusion

from .baselines import Baselines, baselines, standard_errors, verdict
from .metrics import Metrics, classification_metrics, main_metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Recordings per forward pass that a CPU computes fastest
BATCH_SIZE_ON_CPU = 8


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """Predictions of a model for labelled recordings, and their metrics.

    Attributes:
        labels: Names of the classes, C.
        names: Names of the recordings or segments, N.
        targets: 1 for the classes of each recording and 0 for the others, shape (N, C).
        scores: Probabilities, shape (N, C).
        multi_label: Whether the recordings may have any number of classes.
        metrics: See `classification_metrics`.
        failed: Title of each recording that could not be scored, and is in none of the others -> the reason.
        standard_errors: Of `accuracy`, `balanced_accuracy`, `mAP` and `AUC`; see `baselines.standard_errors`.
        baselines: What a result should beat; None if they were not asked for.
        remarks: What makes the result uncertain, such as a baseline that it does not beat, in sentences.
    """

    labels: list[str]
    names: list[str]
    targets: np.ndarray
    scores: np.ndarray
    multi_label: bool
    metrics: Metrics
    failed: dict[str, str] = field(default_factory=dict)
    standard_errors: dict[str, float] = field(default_factory=dict)
    baselines: Baselines | None = None
    remarks: list[str] = field(default_factory=list)

    @classmethod
    def of_scores(
        cls,
        data: LabelledData,
        clips: Sequence[Clip],
        scores: np.ndarray,
        *,
        with_baselines: bool = False,
        device: torch.device | None = None,
        failed: dict[str, str] | None = None,
    ) -> "Evaluation":
        """Compare scores (N, C) of recordings with their labels."""
        targets, multi_label = data.targets(clips), data.multi_label
        metrics = classification_metrics(targets, scores, multi_label=multi_label)
        errors = standard_errors(targets, scores, multi_label=multi_label)
        found = baselines(data, clips, device=device) if with_baselines else None
        return cls(
            labels=data.labels,
            names=[clip.title for clip in clips],
            targets=targets,
            scores=scores,
            multi_label=multi_label,
            metrics=metrics,
            failed=failed or {},
            standard_errors=errors,
            baselines=found,
            remarks=[] if found is None else verdict(metrics.values, errors, found, multi_label=multi_label),
        )

    @property
    def main(self) -> tuple[str, float]:
        """Name and value of the metric that matters most for this kind of data."""
        name = main_metric(self.multi_label)
        return name, self.metrics.values[name]

    def figure(self) -> "Figure":
        """Plot the confusion matrix, or for multi-label data the average precision of each class."""
        if self.multi_label:
            return plot_average_precision(self.metrics.average_precision, self.metrics.num_positives, self.labels)
        labels, counts = self.confusion()
        return plot_confusion(counts, labels)

    def confusion(self) -> tuple[list[str], np.ndarray]:
        """Return the classes that occur or are predicted, and recordings by true and predicted class, shape (C, C).

        C is the number of these classes. The rows and columns of all others would be empty.
        """
        true, predicted = self.targets.argmax(axis=1), self.scores.argmax(axis=1)
        shown = np.union1d(true, predicted)
        counts = confusion_counts(true, predicted, len(self.labels))[np.ix_(shown, shown)]
        return [self.labels[index] for index in shown], counts

    def as_data(self) -> dict[str, Any]:
        """Return the result as data for JSON, which has neither NaN nor infinity: they become None.

        `confusion` has the number of recordings for each pair of true and predicted class that occurs; it is None for
        multi-label data. `failed` has `file` and `error` of each recording, as in all commands.
        """
        classes = [
            {
                "label": label,
                "num_recordings": int(self.metrics.num_positives[index]),
                "average_precision": finite_or_none(self.metrics.average_precision[index]),
                "auc": finite_or_none(self.metrics.auc[index]),
            }
            for index, label in enumerate(self.labels)
        ]
        values = {name: finite_or_none(value) for name, value in self.metrics.values.items()}
        confusion = None
        if not self.multi_label:
            labels, counts = self.confusion()
            confusion = [
                {"true": labels[row], "predicted": labels[column], "num_recordings": int(counts[row, column])}
                for row, column in zip(*counts.nonzero(), strict=True)
            ]
        return {
            "num_recordings": len(self.names),
            "metrics": values,
            "standard_errors": {name: finite_or_none(value) for name, value in self.standard_errors.items()},
            "baselines": None if self.baselines is None else self._baselines(),
            "remarks": self.remarks,
            "classes": classes,
            "confusion": confusion,
            "failed": [{"file": name, "error": reason} for name, reason in self.failed.items()],
        }

    def _baselines(self) -> dict[str, Any]:
        assert self.baselines is not None
        linear = self.baselines.linear or {}
        return {
            "largest_class": {name: finite_or_none(value) for name, value in self.baselines.largest_class.items()},
            "linear": {name: finite_or_none(value) for name, value in linear.items()} or None,
            "linear_is_cross_validated": self.baselines.is_cross_validated,
        }


def evaluate(
    model: PreTrainedModel,
    feature_extractor: FeatureExtractor,
    data: LabelledData,
    *,
    split: str = "all",
    device: Device | None = None,
    dtype: str | torch.dtype | None = None,
    batch_size: int | None = None,
    with_baselines: bool = False,
    progress: bool = False,
) -> Evaluation:
    """Label recordings as `hf-ast classify` and the pipeline do, and compare with their true labels.

    A recording that is longer than the model's input is cut into windows, and its scores are the means over them. One
    that cannot be read or scored is left out of the metrics, and named in `failed`.

    Args:
        model: A classification model of ours, or any other one for waveforms, on any device; it runs in eval mode.
        feature_extractor: Its feature extractor.
        data: The recordings. Their classes are found among those of the model by their names; if the model has others
            as well, they count as wrong answers and have no average precision of their own.
        split: "all", "train", "validation" or "test".
        device, dtype: As in `hf_ast.tag`.
        batch_size: Recordings per forward pass; if None, 8 on a CPU, and 32 on an accelerator.
        with_baselines: Whether to compute what a result should beat; see `hf_ast.training.baselines`.
        progress: Whether to show a progress bar on stderr.

    Raises:
        ValueError: The split is empty, the model does not know a class, or no recording can be scored.
    """
    data = data.with_labels(label_names(model))
    clips = data.of(split)
    if not clips:
        raise ValueError(
            f"split={split!r} holds no recording; there are {sorted({clip.split for clip in data.clips})}."
        )
    place(model, device)
    with running(model, dtype):
        scores, failures = score_recordings(
            model, feature_extractor, data, clips, batch_size=batch_size, progress=progress
        )
    failed = {clips[row].title: reason for row, reason in failures.items()}
    scored = [row for row in range(len(clips)) if row not in failures]
    if not scored:
        name, reason = next(iter(failed.items()))
        raise ValueError(f"split={split!r}: none of its {len(clips)} recordings can be scored; {name!r}: {reason}")
    return Evaluation.of_scores(
        data,
        [clips[row] for row in scored],
        scores[scored],
        with_baselines=with_baselines,
        device=model.device,
        failed=failed,
    )


@torch.inference_mode()
def score_recordings(
    model: PreTrainedModel,
    feature_extractor: FeatureExtractor,
    data: LabelledData,
    clips: Sequence[Clip],
    *,
    batch_size: int | None = None,
    progress: bool = False,
) -> tuple[np.ndarray, dict[int, str]]:
    """Score recordings, several in a forward pass where each fits into the model's input.

    Returns:
        Probabilities in the order of the clips, float32, shape (N, C), as `hf_ast.tag` gives them; and why a recording
        could not be read or scored, by its row, which is NaN. An error of a batch costs only the recordings that also
        fail alone.

    Raises:
        ValueError: The model was trained with another kind of feature extractor.
    """
    check_front_end(model, feature_extractor)
    batch_size = default_batch_size(model.device, BATCH_SIZE_ON_CPU) if batch_size is None else batch_size
    rate, window, reader = feature_extractor.sampling_rate, model_window(feature_extractor), data.source.reader()
    scores = np.full((len(clips), len(label_names(model))), np.nan, dtype=np.float32)
    failures: dict[int, str] = {}
    waiting: dict[int, np.ndarray] = {}

    def score_waiting() -> None:
        batches: list[dict[int, np.ndarray]] = [dict(waiting)]
        waiting.clear()
        while batches:
            batch = batches.pop()
            try:
                inputs = clip_features(feature_extractor, list(batch.values()), device=model.device)
                scores[list(batch)] = score_inputs(model, inputs.to(model.dtype)).cpu().numpy()
            except ImportError:
                raise
            except Exception as error:  # a model, a front end or a device may raise anything
                if len(batch) > 1:
                    batches += [{row: waveform} for row, waveform in batch.items()]
                else:
                    failures.update(dict.fromkeys(batch, reason_of(error)))

    with running(model):
        for row, clip in enumerate(tqdm(clips, desc="Evaluating", unit="file", disable=not progress)):
            try:
                with reader.open(clip.name, clip.index) as recording:
                    if clip.duration_s * rate > window + 1:  # one more, because resampling rounds
                        part = recording if clip.end_s is None else _segment(recording, clip, rate)
                        scores[row] = tag(model, feature_extractor, part, batch_size=batch_size).scores.numpy()
                    else:
                        waiting[row] = _segment(recording, clip, rate)["array"][:window]
            except ImportError:  # a missing decoder concerns all recordings
                raise
            except Exception as error:
                failures[row] = reason_of(error)
            if len(waiting) == batch_size:
                score_waiting()
        if waiting:
            score_waiting()
    return scores, failures


def reason_of(error: Exception) -> str:
    """Return what to tell of an error: its message, behind its type if that is not about the input."""
    return str(error) if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {error}"


def _segment(recording: Any, clip: Clip, rate: int) -> dict[str, Any]:
    """Read a recording, or the part of it that a segment is."""
    duration_s = None if clip.end_s is None else clip.duration_s
    waveform, _ = audio.read(recording, rate, start_s=clip.start_s, duration_s=duration_s, warn=lambda message: None)
    return {"array": waveform, "sampling_rate": rate}


def finite_or_none(value: float) -> float | None:
    """Return a number for JSON, which has neither NaN nor infinity."""
    return float(value) if math.isfinite(value) else None
