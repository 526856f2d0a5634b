"""Training on labels with times: parts of recordings, with the labels of their cells and of the whole part.

A cell has a class if its centre lies inside an event of that class; an event that holds no centre marks the cell that
its middle lies in. So an event that is read off the cells has its true times, to within half a cell.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import Trainer

from hf_ast.data.labelled import Clip
from hf_ast.data.splitting import TRAIN, VALIDATION
from hf_ast.data.strong_labels import UNNAMED, MarkedEvent, StronglyLabelledData
from hf_ast.models.configuration_common import SpectrogramConfig
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.models.modules_cells import cell_edges_s
from hf_ast.models.modules_classification import IGNORED_LABEL

from .augmentation import Augmentation
from .clips import Clips, start_of
from .collation import Row, TrainingCollator
from .metrics import classification_metrics
from .sampling import TrainingRows, seeded_generator

# Source of randomness of a row, beside those in `sampling`
SHIFT_DRAWS = 4
# Share of an epoch's rows that are parts around an event, each class as often; the others are any parts
SHARE_OF_EVENTS = 0.5


def clip_edges_s(
    config: SpectrogramConfig, feature_extractor: SpectrogramFeatureExtractor, num_samples: int
) -> np.ndarray:
    """Edges of the cells of a clip of that many samples, in seconds, float64, shape (K + 1,)."""
    duration_s = num_samples / feature_extractor.sampling_rate
    num_cells = config.num_cells_of(max(feature_extractor.num_frames(num_samples), 1))
    if config.num_cells is not None:
        return np.linspace(0.0, duration_s, num_cells + 1)
    first_centre_s = config.first_centre_s(feature_extractor.first_frame_s)
    edges = cell_edges_s(num_cells, cell_s=config.cell_s, first_centre_s=first_centre_s, duration_s=duration_s)
    return edges.numpy()


def cell_labels(events: Sequence[MarkedEvent], edges_s: np.ndarray, num_labels: int) -> np.ndarray:
    """Labels of the cells of a part, float32, shape (K, C): 1, 0, or NaN where an event without a name is heard.

    Args:
        events: With times in seconds from the start of the part, beyond which they may reach.
        edges_s: Edges of its cells, shape (K + 1,).
        num_labels: C.
    """
    labels = np.zeros((len(edges_s) - 1, num_labels), dtype=np.float32)
    centres = (edges_s[:-1] + edges_s[1:]) / 2
    for event in sorted(events, key=lambda event: event.label):  # unnamed ones first, beside which others are known
        start_s, end_s = max(event.start_s, 0.0), min(event.end_s, edges_s[-1])
        if start_s >= end_s:
            continue
        first, end = np.searchsorted(centres, (start_s, end_s))
        if first == end:
            first = np.clip(np.searchsorted(edges_s, (start_s + end_s) / 2, side="right") - 1, 0, len(labels) - 1)
            end = first + 1
        if event.label == UNNAMED:
            labels[first:end] = np.nan
        else:
            labels[first:end, event.label] = 1.0
    return labels


class EventClips(Clips):
    """Parts of recordings, with labels of their cells and of themselves as one vector.

    The vector has the labels of K cells, one cell after the other, then those of the part: C * (K + 1) numbers, NaN
    for what is not known. K is the number of cells of the longest input. Mixing and smoothing act on it as on the
    labels of clips; `EventCollator` takes it apart.

    Random parts are, in halves, any parts of the recordings, and parts around an event (see `weights`).

    Args:
        data: The recordings.
        clips: Those to use.
        config: That of the model.
        feature_extractor: Its feature extractor.
        random: Whether to take random parts; else the middle of each recording.
        seed: Seed of the parts.
    """

    data: StronglyLabelledData

    def __init__(
        self,
        data: StronglyLabelledData,
        clips: Sequence[Clip],
        config: SpectrogramConfig,
        feature_extractor: SpectrogramFeatureExtractor,
        *,
        random: bool = False,
        seed: int = 0,
    ):
        rate = feature_extractor.sampling_rate
        max_samples = feature_extractor.max_samples
        super().__init__(data, clips, sampling_rate=rate, duration_s=max_samples / rate, random=random, seed=seed)
        self.config, self.feature_extractor = config, feature_extractor
        self.num_cells = config.num_cells_of(feature_extractor.max_length)
        # Row -> the class for which it is drawn, and the event around which its part lies; None for any part
        self.aims: list[tuple[int, MarkedEvent | None] | None] = [None] * len(self.numbers)
        self.num_parts = len(self.numbers)
        for number, clip in enumerate(self.recordings if random else ()):
            events = data.of_clip(clip)
            aims: list[tuple[int, MarkedEvent | None]] = (
                [(label, None) for label in clip.labels]
                if events is None
                else [(event.label, event) for event in events if event.label != UNNAMED]
            )
            self.aims += aims
            self.numbers += [number] * len(aims)

    @property
    def weights(self) -> Tensor:
        """Weights of the rows, by which half of an epoch is around events, each class as often, shape (rows,)."""
        classes = [aim[0] for aim in self.aims if aim is not None]
        of_class = np.bincount(classes, minlength=len(self.data.labels))
        share = SHARE_OF_EVENTS / max(1, int(np.count_nonzero(of_class)))
        rest = 1.0 - SHARE_OF_EVENTS * bool(of_class.any())
        return torch.tensor(
            [rest / self.num_parts if aim is None else share / of_class[aim[0]] for aim in self.aims],
            dtype=torch.float64,
        )

    def vector(self, events: Sequence[MarkedEvent] | None, num_samples: int, clip_labels: np.ndarray) -> np.ndarray:
        """Return the labels of a part as one vector.

        Args:
            events: Its events, with times from its start; None if only its labels are known.
            num_samples: Its length.
            clip_labels: Labels of its recording, shape (C,), which are used if `events` is None.
        """
        num_labels = len(self.data.labels)
        cells = np.zeros((self.num_cells, num_labels), dtype=np.float32)
        if events is None:
            cells[:] = np.nan
        else:
            known = cell_labels(events, clip_edges_s(self.config, self.feature_extractor, num_samples), num_labels)
            cells[: len(known)] = known
            unknown = np.isnan(known).any(axis=0)
            clip_labels = np.where((known == 1).any(axis=0), 1.0, np.where(unknown, np.nan, 0.0))
        return np.concatenate((cells.ravel(), clip_labels.astype(np.float32)))

    def _place(self, index: int) -> float:
        aim = self.aims[index]
        place = super()._place(index)
        if aim is None or aim[1] is None:
            return place
        clip, event = self.recordings[self.numbers[index]], aim[1]
        room_s = clip.duration_s - self.duration_s
        if room_s <= 0:
            return place
        # The middle of the event lies anywhere in the part
        start_s = (event.start_s + event.end_s) / 2 - place * self.duration_s
        return float(np.clip(start_s / room_s, 0.0, 1.0))

    def _row(self, clip: Clip, place: float, waveform: np.ndarray) -> dict[str, Any]:
        if self.config.num_cells is not None:  # the same cells in every part, so that they can be mixed
            waveform = np.pad(waveform, (0, max(0, self.feature_extractor.max_samples - len(waveform))))
        start_s = start_of(clip, place, self.duration_s)
        marked = self.data.of_clip(clip)
        events = None if marked is None else [_moved(event, -start_s) for event in marked]
        clip_labels = self.data.targets([clip])[0]
        labels = self.vector(events, len(waveform), clip_labels)
        return {"waveform": waveform, "labels": labels, "events": events, "clip_labels": clip_labels}


class EventRows(TrainingRows):
    """Rows of `EventClips`, in which what is rolled in time takes its labels along.

    Args:
        clips: The rows.
        augmentation: Its rolls of the waveform and of the spectrogram are done here, on the waveform.
        seed: See `TrainingRows`.
    """

    def __init__(self, clips: EventClips, augmentation: Augmentation, *, seed: int = 0):
        super().__init__(
            clips,
            replace(augmentation, max_roll=0, max_shift=0),
            weights=clips.weights,
            num_rows=clips.num_parts,
            seed=seed,
        )
        hop = clips.config.frame_shift_s * clips.sampling_rate
        self.clips = clips
        self.max_roll = round(augmentation.max_roll * hop) + augmentation.max_shift

    def in_epoch(self, index: int, epoch: int, *, counts: bool = True) -> dict[str, Any]:
        """A row of any epoch, rolled."""
        row = super().in_epoch(index, epoch, counts=counts)
        if not self.max_roll:
            return row
        generator = seeded_generator(self.seed, epoch, index, SHIFT_DRAWS)
        shift = int(torch.randint(-self.max_roll, self.max_roll + 1, (), generator=generator))
        length = len(row["waveform"])
        events = row["events"]
        if events is not None:
            rate = self.clips.sampling_rate
            events = rolled(events, shift / rate, length / rate)
        return row | {
            "waveform": np.roll(row["waveform"], shift),
            "events": events,
            "labels": self.clips.vector(events, length, row["clip_labels"]),
        }


def rolled(events: Sequence[MarkedEvent], shift_s: float, duration_s: float) -> list[MarkedEvent]:
    """Move the events of a part by `shift_s`; what leaves it at one end returns at the other."""
    inside = [
        event._replace(start_s=max(event.start_s, 0.0), end_s=min(event.end_s, duration_s))
        for event in events
        if event.start_s < duration_s and event.end_s > 0
    ]
    # Those before and behind the part are cut off with its labels
    return [_moved(event, shift_s + turn * duration_s) for event in inside for turn in (-1, 0, 1)]


def _moved(event: MarkedEvent, by_s: float) -> MarkedEvent:
    return event._replace(start_s=event.start_s + by_s, end_s=event.end_s + by_s)


class EventCollator(TrainingCollator):
    """Batches of rows of `EventClips`: `labels` (B, K, C) and `clip_labels` (B, C), -100 where nothing is known.

    Args:
        feature_extractor: See `TrainingCollator`.
        config: That of the model.
        num_labels: C.
    """

    def __init__(self, feature_extractor: SpectrogramFeatureExtractor, config: SpectrogramConfig, num_labels: int):
        self.num_cells = config.num_cells_of(feature_extractor.max_length)
        super().__init__(feature_extractor, num_labels=num_labels * (self.num_cells + 1), multi_label=True)
        self.config = config

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Make a batch; see `TrainingCollator`."""
        batch = super().__call__(rows)
        num_frames = batch["input_values"].shape[1]
        known = batch.pop("labels").nan_to_num(IGNORED_LABEL)
        cells = known.unflatten(1, (self.num_cells + 1, -1))
        batch["clip_labels"] = cells[:, -1].contiguous()
        batch["labels"] = cells[:, : self.config.num_cells_of(num_frames)].contiguous()
        for labels, row in zip(batch["labels"], rows, strict=True):  # cells of the padding do not count
            clip_frames = min(self.feature_extractor.num_frames(len(row["waveform"])), num_frames)
            labels[self.config.num_cells_of(max(1, clip_frames)) :] = IGNORED_LABEL
        return batch


class EventLoss(Trainer):
    """Counts the labels of clips in a step as `Trainer` counts those of cells: both losses are means over the step."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.label_names = ["labels", "clip_labels"]

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """Return the batches of a step and the number of known labels of cells, at least one."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        clip_labels: Any = [{"labels": batch["clip_labels"]} for batch in batches]
        counts: Any = num_items, self._get_num_items_in_batch(clip_labels, device)
        num_items, self._num_clip_items = (None if count is None else count.clamp(min=1) for count in counts)
        return batches, num_items

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Compute the loss of a batch."""
        if model.training:
            inputs = inputs | {"num_clip_items_in_batch": self._num_clip_items}
        return super().compute_loss(model, inputs, *args, **kwargs)


def cell_metrics(prediction: Any) -> dict[str, float]:
    """Metrics of the validation in training: mAP over the cells whose labels are known, or else over the clips."""
    (cells, clips), known = prediction.predictions[:2], prediction.label_ids[0]
    logits = cells.reshape(-1, cells.shape[-1])
    targets = known.reshape(-1, cells.shape[-1])
    is_known = (targets != IGNORED_LABEL).all(axis=1)
    if not is_known.any():
        logits, targets = clips, prediction.label_ids[1]
        is_known = (targets != IGNORED_LABEL).all(axis=1)
    return classification_metrics(targets[is_known], logits[is_known], multi_label=True).values


class TrainingParts(NamedTuple):
    """Rows by split, those of an epoch with their augmentation, what makes batches of them, and the metrics."""

    clips: Mapping[str, Clips]
    rows: TrainingRows
    collator: TrainingCollator
    metrics: Callable[[Any], dict[str, float]]


def event_parts(
    config: SpectrogramConfig,
    feature_extractor: SpectrogramFeatureExtractor,
    data: StronglyLabelledData,
    augmentation: Augmentation,
    seed: int,
) -> TrainingParts:
    """Return what the training of a model of frames needs."""
    clips = {
        split: EventClips(data, data.of(split), config, feature_extractor, random=split == TRAIN, seed=seed)
        for split in (TRAIN, VALIDATION)
    }
    rows = EventRows(clips[TRAIN], augmentation, seed=seed)
    collator = EventCollator(feature_extractor, config, len(data.labels))
    return TrainingParts(clips, rows, collator, cell_metrics)
