"""Labelled recordings: folders of classes, manifests and data sets, checked and split. Needs the extra `train`."""

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from hf_ast.data import audio
from hf_ast.data.sources import Source, as_source

from .entries import Entry, find_entries, normalized
from .splitting import SPLITS, TRAIN, VALIDATION, held_out

# Rate at which recordings are decoded to be checked; its value does not matter
CHECK_RATE_HZ = 16000
# Number of skipped files that are shown by name
MAX_NAMES = 10


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A recording.

    Attributes:
        name: Its name in the source.
        index: Its place among the recordings of the source.
        labels: Numbers of its classes; none if they are not known.
        split: "train", "validation" or "test".
        group: For example its speaker, place or device; recordings of a group stay in one split.
        duration_s: Its length in seconds.
    """

    name: str
    index: int
    labels: tuple[int, ...] = ()
    split: str = TRAIN
    group: str | None = None
    duration_s: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """Recordings of a source that can be read.

    Attributes:
        source: Where they are.
        clips: The recordings.
        skipped: Name of each recording that was left out -> the reason.
    """

    source: Source
    clips: list[Clip]
    skipped: dict[str, str] = field(default_factory=dict)

    def of(self, split: str) -> list[Clip]:
        """The recordings of a split, or all of them for "all"."""
        return [clip for clip in self.clips if split in ("all", clip.split)]

    def describe_skipped(self) -> Iterator[str]:
        """Say which recordings were skipped and why, as lines of text."""
        if self.skipped:
            yield f"skipped: {len(self.skipped)} files"
            for name, reason in list(self.skipped.items())[:MAX_NAMES]:
                yield f"  {name}: {reason}"
            if len(self.skipped) > MAX_NAMES:
                yield f"  and {len(self.skipped) - MAX_NAMES} others"


@dataclass(frozen=True, kw_only=True)
class LabelledData(Recordings):
    """Labelled recordings that can be read.

    Attributes:
        source, clips, skipped: See `Recordings`.
        labels: Names of the classes, C.
        multi_label: Whether a recording may have any number of classes; otherwise it has exactly one.
    """

    labels: list[str]
    multi_label: bool

    @property
    def problem_type(self) -> str:
        """The name that `transformers` has for this kind of labels."""
        return "multi_label_classification" if self.multi_label else "single_label_classification"

    def counts(self) -> dict[str, dict[str, int]]:
        """Name of each class -> split -> number of its recordings."""
        found = Counter((label, clip.split) for clip in self.clips for label in clip.labels)
        return {
            name: {split: found[label, split] for split in SPLITS if self.of(split)}
            for label, name in enumerate(self.labels)
        }

    def targets(self, clips: Sequence[Clip]) -> np.ndarray:
        """Classes of recordings, multi-hot, float32 of shape (N, C)."""
        targets = np.zeros((len(clips), len(self.labels)), dtype=np.float32)
        for row, clip in enumerate(clips):
            targets[row, list(clip.labels)] = 1.0
        return targets

    def with_labels(self, labels: Sequence[str]) -> "LabelledData":
        """The same recordings with the classes of a model, in its order.

        Raises:
            ValueError: A recording has a class that is not among them.
        """
        numbers = {normalized(label): number for number, label in enumerate(labels)}
        unknown = [label for label in self.labels if label not in numbers]
        if unknown:
            raise ValueError(
                f"labels: the data have {len(unknown)} classes that the model does not know, such as {unknown[:3]}; "
                f"it knows {list(labels)[:5]}{' and others' if len(labels) > 5 else ''}. Rename the classes, or leave "
                "their recordings out."
            )
        moved = [numbers[label] for label in self.labels]
        clips = [replace(clip, labels=tuple(sorted(moved[label] for label in clip.labels))) for clip in self.clips]
        return replace(self, clips=clips, labels=list(labels))

    def with_splits(self, splits: Mapping[str | None, str]) -> "LabelledData":
        """The same recordings with a split for each group."""
        return replace(self, clips=[replace(clip, split=splits[clip.group]) for clip in self.clips])


def read_data(
    source: Any,
    *,
    label_column: str | None = None,
    split_column: str = "split",
    group_column: str = "group",
    label_separator: str = ";",
    multi_label: bool = False,
    audio_folder: str | os.PathLike[str] | None = None,
    subset: str | None = None,
    validation_fraction: float = 0.2,
    min_duration_s: float = 0.0,
    decode: bool = True,
    seed: int = 0,
    progress: bool = False,
) -> LabelledData:
    """Find the labelled recordings of a source, check them, and split them.

    Every recording is used, or skipped and named in `skipped`. The splits are those that the data name: in a column,
    as the splits of a data set, as folders "train", "validation" and "test" above those of the classes, or in the
    lists of Speech Commands. Where they name no validation split, a part of the training recordings is held out: whole
    groups if there are groups, else the same share of every class. The same names and seed give the same part.

    Args:
        source: A folder with one subfolder per class; a CSV, TSV, JSON, JSON lines or Parquet manifest with a column
            of paths and one of labels; or a data set of `datasets`, as a folder or its id on the Hub, with a column of
            audio, or a `datasets.Dataset` or `DatasetDict` itself. See `hf_ast.data.sources.as_source`.
        label_column: Column of labels; if None, the first that exists of `label`, `labels`, `category`, `class` and
            `target`. A value is one label, a list of labels, or text with several labels.
        split_column, group_column: Columns of splits and groups; they need not exist.
        label_separator: Separator of several labels in one text; "" if every text is one label.
        multi_label: Whether a recording may have any number of classes. If False, this is still assumed if any
            recording has several. In multi-label data, a recording without a label has none of the classes.
        audio_folder: Folder to which paths in a manifest are relative; that of the manifest if None.
        subset: Subset of a data set.
        validation_fraction: Fraction of the training recordings that are held out for validation.
        min_duration_s: Recordings that are shorter are skipped; a model takes any that holds a sample.
        decode: Whether every recording is decoded now, so that damage is found before training. If False, only its
            header is read, as is sensible for thousands of hours, and damage ends training with an error.
        seed: Seed of the choice of held-out recordings.
        progress: Whether to show a progress bar on stderr.

    Raises:
        ValueError: There is no labelled recording, or a column or split is missing or invalid.
    """
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction={validation_fraction} must be at least 0 and less than 1.")
    place = as_source(source, subset=subset)
    entries = find_entries(place, label_column, split_column, group_column, label_separator, audio_folder)
    return labelled_data(
        place,
        entries,
        multi_label=multi_label,
        validation_fraction=validation_fraction,
        min_duration_s=min_duration_s,
        decode=decode,
        seed=seed,
        progress=progress,
    )


def labelled_data(
    place: Source,
    entries: Sequence[Entry],
    *,
    multi_label: bool = False,
    validation_fraction: float = 0.2,
    min_duration_s: float = 0.0,
    decode: bool = True,
    seed: int = 0,
    progress: bool = False,
) -> LabelledData:
    """Check recordings of a source whose labels are known, and split them; see `read_data`."""
    multi_label = multi_label or any(len(entry.labels) > 1 for entry in entries)
    skipped = {
        entry.name: "it has no label"
        for entry in entries
        if not entry.labels and not (multi_label and entry.may_be_empty)
    }
    entries = [entry for entry in entries if entry.name not in skipped]
    durations_s, damaged = check_recordings(place, entries, min_duration_s, decode=decode, progress=progress)
    skipped |= damaged
    entries = [entry for entry in entries if entry.name not in skipped]
    labels = sorted({label for entry in entries for label in entry.labels})
    if not labels:
        raise ValueError(_nothing_left(place, skipped))
    numbers = {label: number for number, label in enumerate(labels)}
    clips = [
        Clip(
            name=entry.name,
            index=entry.index,
            labels=tuple(sorted(numbers[label] for label in entry.labels)),
            split=entry.split or TRAIN,
            group=entry.group,
            duration_s=durations_s[entry.name],
        )
        for entry in entries
    ]
    if any(clip.split == TRAIN for clip in clips) and all(clip.split != VALIDATION for clip in clips):
        chosen = held_out(
            [(clip.name, clip.labels, clip.group) for clip in clips if clip.split == TRAIN], validation_fraction, seed
        )
        clips = [replace(clip, split=VALIDATION) if clip.name in chosen else clip for clip in clips]
    return LabelledData(source=place, clips=clips, labels=labels, multi_label=multi_label, skipped=skipped)


def check_recordings(
    source: Source, entries: Sequence[Entry], min_duration_s: float, *, decode: bool, progress: bool
) -> tuple[dict[str, float], dict[str, str]]:
    """Read recordings of a source.

    Returns:
        By name, the length in seconds of each recording that can be used, and what is wrong with each other one.
    """
    reader = source.reader()

    def check(entry: Entry) -> tuple[float, str]:
        try:
            with reader.open(entry.name, entry.index) as recording:
                return _duration_s(recording, decode), ""
        except (OSError, ValueError) as error:
            return 0.0, str(error)

    # libsndfile and soxr release the GIL; data sets are not made for several threads
    num_threads = 1 if source.kind == "dataset" else min(8, os.cpu_count() or 1)
    durations_s, damaged = {}, {}
    with ThreadPoolExecutor(num_threads) as pool:
        found = tqdm(pool.map(check, entries), total=len(entries), desc="Checking", unit="file", disable=not progress)
        for entry, (duration_s, problem) in zip(entries, found, strict=True):
            if problem:
                damaged[entry.name] = problem
            elif duration_s == 0:
                damaged[entry.name] = "it holds no samples"
            elif duration_s < min_duration_s:
                damaged[entry.name] = f"it lasts {duration_s:.3g} s, less than {min_duration_s:.3g} s"
            else:
                durations_s[entry.name] = duration_s
    return durations_s, damaged


def _duration_s(recording: Any, decode: bool) -> float:
    if not decode:
        return audio.duration(recording)
    return sum(map(len, audio.stream(recording, CHECK_RATE_HZ))) / CHECK_RATE_HZ


def _nothing_left(source: Source, skipped: Mapping[str, str]) -> str:
    reasons = ", ".join(f"{name!r}: {reason}" for name, reason in list(skipped.items())[:3])
    return (
        f"source={source.location!r} holds no labelled recording that can be read ({len(skipped)} skipped, {reasons}"
        "). Give a folder with one subfolder per class, a manifest with columns `path` and `label`, or a data set."
    )
