"""Labelled recordings: folders of classes, tables and data sets, checked and split. Needs the extra `train`."""

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hf_ast.data.sources import Source, as_source

from .checking import Checked, add_reason, check_recordings, noting
from .copies import families
from .entries import Entry, find_entries, title
from .labels import label_of
from .splitting import SPLITS, TRAIN, VALIDATION, held_out

# Number of skipped files that are shown by name
MAX_NAMES = 100


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A recording.

    Attributes:
        name: Name of its file in the source.
        index: Its place among the recordings of the source.
        labels: Numbers of its classes; none if they are not known.
        split: "train", "validation" or "test".
        group: For example its speaker, place or device; recordings of a group stay in one split.
        duration_s: Its length in seconds.
        start_s, end_s: The part of the file that it is, in seconds; to its end if `end_s` is None.
    """

    name: str
    index: int
    labels: tuple[int, ...] = ()
    split: str = TRAIN
    group: str | None = None
    duration_s: float = math.nan
    start_s: float = 0.0
    end_s: float | None = None

    @property
    def title(self) -> str:
        """What it is called in results, such as "rec.wav [1.2, 3.4]" for a segment."""
        return title(self.name, self.start_s, self.end_s)


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """Recordings of a source that can be read.

    Attributes:
        source: Where they are.
        clips: The recordings.
        skipped: Title of each recording that was left out -> the reason.
        warned: Title of each recording that is used, but may not be what it seems -> the reason: it is damaged, or the
            same as another one in another split or class. Also names of tables -> what had to be guessed.
        failed: Titles of those of `skipped` that cannot be read or used; the others have no label.
    """

    source: Source
    clips: list[Clip]
    skipped: dict[str, str] = field(default_factory=dict)
    warned: dict[str, str] = field(default_factory=dict)
    failed: frozenset[str] = frozenset()

    def of(self, split: str) -> list[Clip]:
        """The recordings of a split, or all of them for "all"."""
        return [clip for clip in self.clips if split in ("all", clip.split)]

    def describe_skipped(self) -> Iterator[str]:
        """Say which recordings were skipped, or used with a warning, and why, as lines of text."""
        for what, reasons in (("skipped", self.skipped), ("warned", self.warned)):
            if reasons:
                yield f"{what}: {len(reasons)} files"
                for name, reason in list(reasons.items())[:MAX_NAMES]:
                    yield f"  {name}: {reason}"
                if len(reasons) > MAX_NAMES:
                    yield f"  and {len(reasons) - MAX_NAMES} others"


@dataclass(frozen=True, kw_only=True)
class LabelledData(Recordings):
    """Labelled recordings that can be read.

    Attributes:
        source, clips, skipped, warned, failed: See `Recordings`.
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
        there = {clip.split for clip in self.clips}
        splits = [split for split in SPLITS if split in there]
        return {name: {split: found[label, split] for split in splits} for label, name in enumerate(self.labels)}

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
        numbers = {label_of(label): number for number, label in enumerate(labels)}
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
    label_separator: str | None = None,
    missing_label: str | None = None,
    label_names: str | os.PathLike[str] | None = None,
    label_level: int | None = None,
    multi_label: bool = False,
    audio_folder: str | os.PathLike[str] | None = None,
    whole_files: bool = False,
    subset: str | None = None,
    validation_fraction: float = 0.2,
    min_duration_s: float = 0.0,
    decode: bool = True,
    seed: int = 0,
    progress: bool = False,
) -> LabelledData:
    """Find the labelled recordings of a source, check them, and split them.

    Every recording is used, or skipped and named in `skipped`. What may not be as it seems is named in `warned`:
    damage that leaves a part to be read, the same recording in two splits or classes, and whatever had to be guessed.
    What is not certain, and matters, is an error that shows the case and the arguments that decide it.

    The splits are those that the data name: in a column, as the splits of a data set, as folders "train", "validation"
    and "test" above those of the classes, or in the lists of Speech Commands. Where they name no validation split, a
    part of the training recordings is held out: whole groups if there are groups, all segments of a recording
    together, else the same share of every class. The same names and seed give the same part.

    Args:
        source: A folder with one subfolder per class, or with annotations beside its recordings; a table (CSV, TSV,
            JSON, JSON lines, Parquet, a selection table of Raven, a label track of Audacity, or one of the official
            tables of data sets); or a data set of `datasets`, as a folder or its id on the Hub, with a column of
            audio, or a `datasets.Dataset` or `DatasetDict` itself. See docs/tables.md.
        label_column: Column of labels; if None, the first that exists of `hf_ast.data.columns.LABEL_COLUMNS`. A value
            is one label, a list of labels, or text with several labels.
        split_column, group_column: Columns of splits and groups; they need not exist.
        label_separator: Separator of several labels in one text; "" if every text is one label. If None, that of the
            format, or else ";", and it is an error if another one seems to be meant.
        missing_label: Text that stands for no label, such as "nan"; "" if there is none. If None, such texts are an
            error.
        label_names: Table with the names of ids, such as `class_labels_indices.csv`; if None, the one of this name
            beside the table, if there is one.
        label_level: Which folder in the path of a recording is its class, counted from 1; if None, the folders must
            leave no doubt.
        multi_label: Whether a recording may have any number of classes. If False, this is still assumed if any
            recording has several. In multi-label data, a recording without a label has none of the classes.
        audio_folder: Folder to which paths in a table are relative; that of the table if None.
        whole_files: Whether the rows are whole recordings, although there are columns of times.
        subset: Subset of a data set.
        validation_fraction: Fraction of the training recordings that are held out for validation.
        min_duration_s: Recordings and segments that are shorter are skipped; a model takes any that holds a sample.
        decode: Whether every recording is decoded now, so that damage is found before training. If False, only its
            header is read, as is sensible for thousands of hours; a recording that turns out to be damaged is then
            left out of training, and named.
        seed: Seed of the choice of held-out recordings.
        progress: Whether to show a progress bar on stderr.

    Raises:
        ValueError: There is no labelled recording, a class has none that can be read, or it is not certain what the
            source says.
    """
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction={validation_fraction} must be at least 0 and less than 1.")
    place = as_source(source, subset=subset)
    notes: dict[str, str] = {}
    entries = find_entries(
        place,
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
        separator=label_separator,
        missing_label=missing_label,
        label_names=label_names,
        label_level=label_level,
        audio_folder=audio_folder,
        whole_files=whole_files,
        multi_label=multi_label,
        warn=noting(notes, place.location),
    )
    return labelled_data(
        place,
        entries,
        notes=notes,
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
    notes: Mapping[str, str] | None = None,
    multi_label: bool = False,
    validation_fraction: float = 0.2,
    min_duration_s: float = 0.0,
    decode: bool = True,
    seed: int = 0,
    progress: bool = False,
) -> LabelledData:
    """Check recordings of a source whose labels are known, and split them; see `read_data`."""
    multi_label = multi_label or any(len(entry.labels) > 1 or entry.multi_label for entry in entries)
    skipped: dict[str, str] = {}
    labelled = []
    for entry in entries:
        if entry.labels or entry.problem or (multi_label and entry.may_be_empty):
            labelled.append(entry)
        else:
            add_reason(skipped, entry.title, "it has no label")
    checked = check_recordings(place, labelled, min_duration_s, decode=decode, progress=progress)
    for name, reason in checked.skipped.items():
        add_reason(skipped, name, reason)
    labels = sorted({label for entry, _ in checked.usable for label in entry.labels})
    if not labels:
        raise ValueError(_nothing_left(place, skipped))
    _expect_all_classes(place, labelled, labels, checked)
    numbers = {label: number for number, label in enumerate(labels)}
    clips = [
        Clip(
            name=entry.name,
            index=entry.index,
            labels=tuple(sorted(numbers[label] for label in entry.labels)),
            split=entry.split or TRAIN,
            group=entry.group,
            duration_s=duration_s,
            start_s=entry.start_s,
            end_s=None if entry.end_s is None else entry.start_s + duration_s,
        )
        for entry, duration_s in checked.usable
    ]
    first = families(place, (clip.name for clip in clips), checked.digests)
    if any(clip.split == TRAIN for clip in clips) and all(clip.split != VALIDATION for clip in clips):
        clips = _with_validation(clips, first, validation_fraction, seed)
    warned = dict(notes or {}) | checked.warned
    for name, reason in _repeated(clips, first, labels):
        add_reason(warned, name, reason)
    return LabelledData(
        source=place,
        clips=clips,
        labels=labels,
        multi_label=multi_label,
        skipped=skipped,
        warned=warned,
        failed=frozenset(checked.skipped),
    )


def _with_validation(clips: Sequence[Clip], first: Mapping[str, str], fraction: float, seed: int) -> list[Clip]:
    """Hold out a part of the training recordings.

    Segments of one recording stay together, as if they were a group, and copies follow the recording that they are the
    same as.
    """
    has_segments = any(clip.end_s is not None for clip in clips)
    training = [clip for clip in clips if clip.split == TRAIN]
    items = [
        (
            clip.title,
            clip.labels,
            first.get(clip.name, clip.name) if clip.group is None and has_segments else clip.group,
        )
        for clip in training
        if clip.group is not None or has_segments or clip.name not in first
    ]
    chosen = held_out(items, fraction, seed)

    def is_held_out(clip: Clip) -> bool:
        if clip.split != TRAIN:
            return False
        return clip.title in chosen or (clip.group is None and first.get(clip.name) in chosen)

    return [replace(clip, split=VALIDATION) if is_held_out(clip) else clip for clip in clips]


def _repeated(clips: Sequence[Clip], first: Mapping[str, str], labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the title of each clip whose recording is also in another split or has other classes, and say so."""
    families_of: dict[str, list[Clip]] = {}
    for clip in clips:
        families_of.setdefault(first.get(clip.name, clip.name), []).append(clip)
    for members in families_of.values():
        by_time: dict[tuple[float, float | None], Clip] = {}
        by_split: dict[str, Clip] = {}
        for clip in members:
            other = by_time.setdefault((clip.start_s, clip.end_s), clip)
            if other.labels != clip.labels:
                named = [", ".join(labels[label] for label in one.labels) or "none" for one in (clip, other)]
                yield (
                    clip.title,
                    f"it is the same recording as {other.title!r}, but its class is {named[0]}, not {named[1]}",
                )
            by_split.setdefault(clip.split, clip)
        if len(by_split) > 1:
            for clip in members:
                other = next(one for split, one in by_split.items() if split != clip.split)
                yield (
                    clip.title,
                    f"it is in the split {clip.split!r}, and the same recording {other.title!r} in {other.split!r}",
                )


def _expect_all_classes(place: Source, entries: Sequence[Entry], labels: Sequence[str], checked: Checked) -> None:
    """Raise a ValueError if a class has no recording that can be used, and would vanish from the model."""
    left = set(labels)
    gone: dict[str, Entry] = {}
    for entry in entries:
        for label in entry.labels:
            if label not in left:
                gone.setdefault(label, entry)
    if gone:
        shown = "; ".join(
            f"{label!r}: {entry.title!r}, {checked.skipped.get(entry.title, 'skipped')}"
            for label, entry in list(gone.items())[:3]
        )
        raise ValueError(
            f"source={place.location!r} has {len(gone)} class{'es' * (len(gone) > 1)} without a recording that can be "
            f"used ({shown}). Repair these recordings, or remove the class from the data."
        )


def _nothing_left(source: Source, skipped: Mapping[str, str]) -> str:
    reasons = ", ".join(f"{name!r}: {reason}" for name, reason in list(skipped.items())[:3])
    return (
        f"source={source.location!r} holds no labelled recording that can be read ({len(skipped)} skipped, {reasons}"
        "). Give a folder with one subfolder per class, a table with columns `path` and `label`, or a data set."
    )
