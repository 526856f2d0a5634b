"""How well a model says when sounds are heard: scores of cells, events, measures. Needs the extra `train`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from hf_ast.data.labelled import Clip
from hf_ast.data.strong_labels import UNNAMED, StronglyLabelledData
from hf_ast.inference.cells import CellScores
from hf_ast.inference.devices import Device, place, running
from hf_ast.inference.events import Event, find_events
from hf_ast.inference.tagging import label_names, tag
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor

from .evaluate import finite_or_none, reason_of
from .psds import PSDS1, PSDS2, Timeline, psds
from .sound_events import F1, SoundEvents, event_f1, segment_f1

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Thresholds among which the best one is chosen, denser towards 0 and 1
THRESHOLDS = tuple(round(float(1 / (1 + np.exp(-logit))), 4) for logit in np.linspace(-4, 4, 33))
DEFAULT_THRESHOLD = 0.5


class Values(NamedTuple):
    """Metrics by name."""

    values: dict[str, float]


@dataclass(frozen=True, eq=False, kw_only=True)
class EventEvaluation:
    """Events that a model finds in recordings, and how they agree with those that are marked.

    Attributes:
        labels: Names of the classes, C.
        names: Names of the recordings, N.
        durations_s: Length of each in seconds, shape (N,).
        thresholds: Score above which an event of each class lasts, shape (C,).
        reference, found: The events that are marked, and those that the model finds; files are places in `names`.
        segments, events: F1 over segments of 1 s, and over events; see `segment_f1` and `event_f1`.
        psds1, psds2: Score of each class, shape (C,).
        metrics: `PSDS1` and `PSDS2`, over all thresholds; `event_F1` and `segment_F1`, the means over the classes, and
            the same with `_micro`, of all events together.
        failed: Title of each recording that could not be scored, and is in none of the others -> the reason.
        standard_errors, baselines: There are none for events.
        remarks: What makes the result uncertain, in sentences.
    """

    labels: list[str]
    names: list[str]
    durations_s: np.ndarray
    thresholds: np.ndarray
    reference: SoundEvents
    found: SoundEvents
    segments: F1
    events: F1
    psds1: np.ndarray
    psds2: np.ndarray
    metrics: Values
    failed: dict[str, str] = field(default_factory=dict)
    standard_errors: dict[str, float] = field(default_factory=dict)
    baselines: None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def main(self) -> tuple[str, float]:
        """Name and value of the metric that matters most."""
        return "event_F1", self.metrics.values["event_F1"]

    def figure(self) -> "Figure":
        """Plot the events of the recording in which most are marked, beside those that the model finds."""
        from hf_ast.plotting import plot_found_events

        file = int(np.bincount(self.reference.files, minlength=len(self.names)).argmax())
        marked, found = (
            [
                (int(label), float(onset), float(offset))
                for number, label, onset, offset in zip(*events, strict=True)
                if number == file
            ]
            for events in (self.reference, self.found)
        )
        return plot_found_events(marked, found, self.labels, self.durations_s[file], title=self.names[file])

    def as_data(self) -> dict[str, Any]:
        """Return the result as data for JSON, in which NaN is None."""
        counts = np.bincount(self.reference.labels, minlength=len(self.labels))
        classes = [
            {
                "label": label,
                "num_events": int(counts[index]),
                "threshold": float(self.thresholds[index]),
                "event_F1": finite_or_none(self.events.per_class[index]),
                "segment_F1": finite_or_none(self.segments.per_class[index]),
                "PSDS1": finite_or_none(self.psds1[index]),
                "PSDS2": finite_or_none(self.psds2[index]),
            }
            for index, label in enumerate(self.labels)
        ]
        return {
            "num_recordings": len(self.names),
            "metrics": {name: finite_or_none(value) for name, value in self.metrics.values.items()},
            "classes": classes,
            "failed": [{"file": name, "error": reason} for name, reason in self.failed.items()],
            "remarks": self.remarks,
        }


def evaluate_events(
    model: PreTrainedModel,
    feature_extractor: SpectrogramFeatureExtractor,
    data: StronglyLabelledData,
    *,
    split: str = "all",
    device: Device | None = None,
    dtype: str | torch.dtype | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> EventEvaluation:
    """Find the events in recordings as `hf_ast.tag` does, with the thresholds of the model, and measure them.

    Args:
        model: A model of frames, in which `config.event_thresholds` are the thresholds; 0.5 without them.
        feature_extractor: Its feature extractor.
        data: The recordings. Those whose labels have no times are left out.
        split: "all", "train", "validation" or "test".
        device, dtype: As in `hf_ast.tag`.
        batch_size: As in `hf_ast.tag`.
        progress: Whether to show a progress bar on stderr.

    Raises:
        ValueError: The split has no recording whose events are marked, the model does not know a class, or no
            recording can be scored.
    """
    data = data.with_labels(label_names(model))
    clips = [clip for clip in data.of(split) if clip.name not in data.weak]
    if not clips:
        raise ValueError(f"split={split!r} holds no recording whose events are marked with their times.")
    place(model, device)
    with running(model, dtype):
        scored, failed = score_cells(model, feature_extractor, data, clips, batch_size=batch_size, progress=progress)
    if not scored:
        name, reason = next(iter(failed.items()))
        raise ValueError(f"split={split!r}: none of its {len(clips)} recordings can be scored; {name!r}: {reason}")
    clips = [clip for clip in clips if clip.title in scored]
    thresholds = model.config.event_thresholds or [DEFAULT_THRESHOLD] * len(data.labels)
    return _measured(data, clips, [scored[clip.title] for clip in clips], np.array(thresholds), failed)


def _measured(
    data: StronglyLabelledData,
    clips: Sequence[Clip],
    cells: Sequence[CellScores],
    thresholds: np.ndarray,
    failed: dict[str, str],
) -> EventEvaluation:
    durations = np.array([clip.duration_s for clip in clips])
    reference, found = marked_events(data, clips), found_events(cells, data.labels, thresholds)
    num_labels = len(data.labels)
    segments = segment_f1(reference, found, num_labels, durations)
    events = event_f1(reference, found, num_labels)
    timeline = Timeline([one.scores for one in cells], [one.edges_s for one in cells], reference, durations)
    scores = [psds(timeline, scenario) for scenario in (PSDS1, PSDS2)]
    return EventEvaluation(
        labels=data.labels,
        names=[clip.title for clip in clips],
        durations_s=durations,
        thresholds=thresholds,
        reference=reference,
        found=found,
        segments=segments,
        events=events,
        psds1=scores[0].per_class,
        psds2=scores[1].per_class,
        metrics=Values(
            {
                "PSDS1": scores[0].value,
                "PSDS2": scores[1].value,
                "event_F1": events.macro,
                "event_F1_micro": events.micro,
                "segment_F1": segments.macro,
                "segment_F1_micro": segments.micro,
            }
        ),
        failed=failed,
    )


def marked_events(data: StronglyLabelledData, clips: Sequence[Clip]) -> SoundEvents:
    """Return the events that are marked in recordings; those without a name do not count."""
    return SoundEvents.of(
        [
            (number, event.label, event.start_s, event.end_s)
            for number, clip in enumerate(clips)
            for event in data.of_clip(clip) or ()
            if event.label != UNNAMED
        ]
    )


def found_events(cells: Sequence[CellScores], labels: Sequence[str], thresholds: np.ndarray) -> SoundEvents:
    """Find the events in scores; thresholds have the shape (C,)."""
    limits = dict(zip(labels, thresholds.tolist(), strict=True))
    numbers = {label: number for number, label in enumerate(labels)}
    rows: list[tuple[int, int, float, float]] = []
    for file, one in enumerate(cells):
        events: list[Event] = find_events(one.scores, one.edges_s, labels, threshold=limits)
        rows += [(file, numbers[event.label], event.start_s, event.end_s) for event in events]
    return SoundEvents.of(rows)


def choose_thresholds(
    model: PreTrainedModel,
    feature_extractor: SpectrogramFeatureExtractor,
    data: StronglyLabelledData,
    *,
    split: str,
    batch_size: int | None = None,
) -> list[float] | None:
    """Choose the threshold of each class with the best F1 over events of a split, and among equal ones over segments.

    Among equal ones of both, it is the middle one. A class without an event in the split keeps 0.5.

    Returns:
        Thresholds in the order of the model's classes; None if the split has no recording whose events are marked.
    """
    data = data.with_labels(label_names(model))
    clips = [clip for clip in data.of(split) if clip.name not in data.weak]
    with running(model):
        scored, _ = score_cells(model, feature_extractor, data, clips, batch_size=batch_size)
    clips = [clip for clip in clips if clip.title in scored]
    if not clips:
        return None
    cells, reference = [scored[clip.title] for clip in clips], marked_events(data, clips)
    durations, num_labels = np.array([clip.duration_s for clip in clips]), len(data.labels)
    quality = []
    for threshold in THRESHOLDS:
        found = found_events(cells, data.labels, np.full(num_labels, threshold))
        over_events = event_f1(reference, found, num_labels).per_class
        over_segments = segment_f1(reference, found, num_labels, durations).per_class
        quality.append(over_events + 1e-3 * over_segments)
    best = []
    for of_class in np.stack(quality, axis=1):
        equal = (of_class == of_class.max()).nonzero()[0]  # none for NaN
        best.append(THRESHOLDS[equal[len(equal) // 2]] if len(equal) else DEFAULT_THRESHOLD)
    return best


def score_cells(
    model: PreTrainedModel,
    feature_extractor: SpectrogramFeatureExtractor,
    data: StronglyLabelledData,
    clips: Sequence[Clip],
    *,
    batch_size: int | None = None,
    progress: bool = False,
) -> tuple[dict[str, CellScores], dict[str, str]]:
    """Score the cells of recordings, as `hf_ast.tag` does.

    Returns:
        Title of each recording -> its scores, which are probabilities; and title of each that could not be read or
        scored -> why.
    """
    reader = data.source.reader()
    scored: dict[str, CellScores] = {}
    failed: dict[str, str] = {}
    for clip in tqdm(clips, desc="Evaluating", unit="file", disable=not progress):
        try:
            with reader.open(clip.name, clip.index) as recording:
                tagging = tag(model, feature_extractor, recording, batch_size=batch_size)
        except ImportError:  # a missing decoder concerns all recordings
            raise
        except Exception as error:  # a decoder, a model or a device may raise anything
            failed[clip.title] = reason_of(error)
            continue
        scored[clip.title] = CellScores(tagging.cell_scores.numpy(), tagging.cell_edges_s.numpy())
    return scored, failed
