"""Labelled recordings: folders of classes, manifests and data sets, checked and split. Needs the extra `train`."""

import math
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from hf_ast import audio
from hf_ast.inference.corpus.sources import Reader, Source, find_source

from .splitting import SPLITS, TEST, TRAIN, VALIDATION, held_out, split_name

LABEL_COLUMNS = ("label", "labels", "category", "class", "target")
SPLIT_COLUMN, GROUP_COLUMN = "split", "group"
# Lists that Speech Commands comes with, and what the files named in them are for
SPLIT_LISTS = {"validation_list.txt": VALIDATION, "testing_list.txt": TEST}
# Rate at which recordings are decoded to be checked; which one it is does not matter
CHECK_RATE_HZ = 16000


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A labelled recording.

    Attributes:
        name: Its name in the source.
        index: Its place among the recordings of the source.
        labels: Numbers of its classes.
        split: "train", "validation" or "test".
        group: What it was recorded with or by; recordings of a group stay in one split.
        duration_s: Its length in seconds.
    """

    name: str
    index: int
    labels: tuple[int, ...]
    split: str = TRAIN
    group: str | None = None
    duration_s: float = math.nan


@dataclass(frozen=True, kw_only=True)
class LabelledData:
    """Labelled recordings that can be read.

    Attributes:
        source: Where they are.
        clips: The recordings.
        labels: Names of the classes, C.
        multi_label: Whether a recording may have any number of classes, or exactly one.
        skipped: Name of each recording that was left out -> why.
    """

    source: Source
    clips: list[Clip]
    labels: list[str]
    multi_label: bool
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def problem_type(self) -> str:
        """What `transformers` calls this kind of labels."""
        return "multi_label_classification" if self.multi_label else "single_label_classification"

    def of(self, split: str) -> list[Clip]:
        """The recordings of a split, or all of them for "all"."""
        return [clip for clip in self.clips if split in ("all", clip.split)]

    def counts(self) -> dict[str, dict[str, int]]:
        """Name of each class -> split -> number of its recordings."""
        found = Counter((label, clip.split) for clip in self.clips for label in clip.labels)
        return {
            name: {split: found[label, split] for split in SPLITS if self.of(split)}
            for label, name in enumerate(self.labels)
        }

    def targets(self, clips: Sequence[Clip]) -> np.ndarray:
        """Which classes recordings have, as ones and zeros, float32 of shape (N, C)."""
        targets = np.zeros((len(clips), len(self.labels)), dtype=np.float32)
        for row, clip in enumerate(clips):
            targets[row, list(clip.labels)] = 1.0
        return targets

    def with_labels(self, labels: Sequence[str]) -> "LabelledData":
        """The same recordings with the classes of a model, in its order.

        Raises:
            ValueError: A recording has a class that is none of these.
        """
        numbers = {_normalized(label): number for number, label in enumerate(labels)}
        unknown = [label for label in self.labels if label not in numbers]
        if unknown:
            raise ValueError(
                f"labels: the data have {len(unknown)} classes that the model does not know, such as {unknown[:3]}; it "
                f"knows {list(labels)[:5]}{' and others' if len(labels) > 5 else ''}. Rename the classes, or leave "
                "their recordings out."
            )
        moved = [numbers[label] for label in self.labels]
        clips = [replace(clip, labels=tuple(sorted(moved[label] for label in clip.labels))) for clip in self.clips]
        return replace(self, clips=clips, labels=list(labels))

    def with_splits(self, splits: Mapping[str | None, str]) -> "LabelledData":
        """The same recordings with a split for each group."""
        return replace(self, clips=[replace(clip, split=splits[clip.group]) for clip in self.clips])


def read_data(
    source: str | os.PathLike[str],
    *,
    label_column: str | None = None,
    split_column: str = SPLIT_COLUMN,
    group_column: str = GROUP_COLUMN,
    label_separator: str = ";",
    multi_label: bool = False,
    audio_folder: str | os.PathLike[str] | None = None,
    subset: str | None = None,
    validation_fraction: float = 0.2,
    min_duration_s: float = 0.025,
    decode: bool = True,
    seed: int = 0,
    progress: bool = False,
) -> LabelledData:
    """Find the labelled recordings of a source, check them, and split them.

    Every recording is used, or skipped and named in `skipped`. The splits are those that the data name: in a column, as
    the splits of a data set, as folders "train", "validation" and "test" above those of the classes, or in the lists of
    Speech Commands. Where they name no validation split, a part of the training recordings is held out: whole groups
    if there are groups, else the same share of every class. It is the same part for the same names and seed.

    Args:
        source: A folder with one subfolder per class; a CSV, TSV, JSON, JSON lines or Parquet manifest with a column of
            paths and one of labels; or a data set of `datasets`, as a folder or its id on the Hub, with a column of
            audio. See `hf_ast.inference.corpus.sources.find_source`.
        label_column: Column of labels; the first of `LABEL_COLUMNS` that there is if None. A value is one label, a list
            of labels, or text with several labels.
        split_column, group_column: Columns of splits and groups; they need not be there.
        label_separator: What stands between several labels in one text; "" if every text is one label.
        multi_label: Whether a recording may have any number of classes. If False, that is so if one of them has
            several. In data of this kind, a recording without a label has none of the classes.
        audio_folder: What relative paths in a manifest count from; its own folder if None.
        subset: Subset of a data set.
        validation_fraction: Share of the training recordings that are held out for validation.
        min_duration_s: Recordings that are shorter are skipped.
        decode: Whether every recording is decoded now, so that damage is found before the training. If False, only its
            header is read, as is right for thousands of hours, and damage ends the training with an error.
        seed: Seed of the choice of held-out recordings.
        progress: Whether to show a progress bar on stderr.

    Raises:
        ValueError: There is no labelled recording, or a column or split is not what it should be.
    """
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction={validation_fraction} must be at least 0 and less than 1.")
    place = find_source(source, subset=subset)
    entries = _entries(place, label_column, split_column, group_column, label_separator, audio_folder)
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


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a source says about a recording: the attributes of `Clip`, with names of classes, before it was opened.

    Attributes:
        split: None where the source names no splits.
        may_be_empty: Whether no label means that the recording has none of the classes, in multi-label data.
    """

    name: str
    index: int
    labels: tuple[str, ...]
    split: str | None = None
    group: str | None = None
    may_be_empty: bool = True


def labelled_data(
    place: Source,
    entries: Sequence[Entry],
    *,
    multi_label: bool = False,
    validation_fraction: float = 0.2,
    min_duration_s: float = 0.025,
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


class Clips(Dataset[dict[str, Any]]):
    """Waveforms and labels, as `TrainingCollator` takes them: `{"waveform": (S,), "labels": ...}`.

    A recording that is longer than the model's input gives random parts of it, as many in an epoch as would cover it,
    or for evaluation the part in its middle. The parts are drawn from the seed, the epoch and the number of the row
    only, so that a training that continues draws those that it would have drawn without the interruption.

    Args:
        data: Where the recordings are, and how they are labelled.
        clips: Those to use.
        sampling_rate: In Hz.
        duration_s: Length of the model's input.
        random: Whether to take random parts.
        seed: Seed of the parts.
    """

    def __init__(
        self,
        data: LabelledData,
        clips: Sequence[Clip],
        *,
        sampling_rate: int,
        duration_s: float,
        random: bool = False,
        seed: int = 0,
    ):
        self.data = data
        self.sampling_rate = sampling_rate
        self.duration_s = duration_s
        self.random = random
        self.seed = seed
        self.epoch = 0
        self.rows = [
            clip for clip in clips for _ in range(max(1, round(clip.duration_s / duration_s)) if random else 1)
        ]
        self._reader: Reader | None = None

    def set_epoch(self, epoch: int) -> None:
        """Draw the parts of this epoch from now on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.rows[index]
        place = np.random.default_rng((self.seed, self.epoch, index)).random() if self.random else 0.5
        if self._reader is None:  # one per process
            self._reader = self.data.source.reader()
        with self._reader.open(clip.name, clip.index) as recording:
            waveform, _ = audio.read(
                recording,
                self.sampling_rate,
                start_s=place * max(0.0, clip.duration_s - self.duration_s),
                duration_s=self.duration_s,
            )
        if not np.isfinite(waveform).all():
            raise ValueError(f"{clip.name!r} holds values that are NaN or infinite; read the data with decode=True.")
        labels = self.data.targets([clip])[0] if self.data.multi_label else clip.labels[0]
        return {"waveform": waveform, "labels": labels}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reader": None}


def check_recordings(
    source: Source, entries: Sequence[Entry], min_duration_s: float, *, decode: bool, progress: bool
) -> tuple[dict[str, float], dict[str, str]]:
    """Read recordings of a source.

    Returns:
        The length in seconds of each that can be used, and what is wrong with each other one, by their names.
    """
    reader = source.reader()

    def check(entry: Entry) -> tuple[float, str]:
        try:
            with reader.open(entry.name, entry.index) as recording:
                return _duration_s(recording, decode), ""
        except (OSError, ValueError) as error:
            return 0.0, str(error)

    # libsndfile and soxr leave the interpreter free; data sets are not made for several threads
    num_threads = 1 if source.kind == "dataset" else min(8, os.cpu_count() or 1)
    durations_s, damaged = {}, {}
    with ThreadPoolExecutor(num_threads) as pool:
        found = tqdm(pool.map(check, entries), total=len(entries), desc="Checking", unit="file", disable=not progress)
        for entry, (duration_s, problem) in zip(entries, found, strict=True):
            if problem:
                damaged[entry.name] = problem
            elif duration_s < min_duration_s:
                damaged[entry.name] = f"it lasts {duration_s:.3g} s, less than {min_duration_s:.3g} s"
            else:
                durations_s[entry.name] = duration_s
    return durations_s, damaged


def _duration_s(recording: Any, decode: bool) -> float:
    if not decode:
        return audio.duration(recording)
    num_samples = 0
    for block in audio.stream(recording, CHECK_RATE_HZ):
        num_samples += len(block)
        if not np.isfinite(block).all():
            raise ValueError("it holds values that are NaN or infinite")
    return num_samples / CHECK_RATE_HZ


def _entries(
    source: Source,
    label_column: str | None,
    split_column: str,
    group_column: str,
    separator: str,
    audio_folder: str | os.PathLike[str] | None,
) -> list[Entry]:
    """What a source says about its recordings, each once."""
    rows = source.rows()
    if source.kind == "folder":
        return _by_folders(source, [name for name, _ in rows])
    columns = list(dict.fromkeys(column for _, row in rows for column in row))
    if label_column is None:
        label_column = next((name for name in LABEL_COLUMNS if name in columns), None)
    if label_column not in columns:
        wanted = f"none of {LABEL_COLUMNS}" if label_column is None else f"not label_column={label_column!r}"
        raise ValueError(f"source={source.location!r} has the columns {columns}, but {wanted}.")
    entries: dict[str, Entry] = {}
    for number, (name, row) in enumerate(rows):
        if audio_folder is not None and source.kind == "manifest":
            name = os.path.join(os.path.abspath(audio_folder), name)
        split, group = row.get(split_column), row.get(group_column)
        entry = Entry(
            name=name,
            index=number,
            labels=_as_labels(row.get(label_column), separator),
            split=None if split in (None, "") else split_name(str(split), source.location),
            group=None if group in (None, "") else str(group),
        )
        if (other := entries.get(name)) is not None:  # a recording with one row per label
            if (other.split, other.group) != (entry.split, entry.group):
                raise ValueError(f"source={source.location!r} has {name!r} in several splits or groups.")
            entry = replace(other, labels=tuple(dict.fromkeys(other.labels + entry.labels)))
        entries[name] = entry
    _expect_for_all(source, "split", split_column, [entry.split for entry in entries.values()])
    _expect_for_all(source, "group", group_column, [entry.group for entry in entries.values()])
    return list(entries.values())


def _expect_for_all(source: Source, what: str, column: str, values: Sequence[str | None]) -> None:
    num_missing = sum(value is None for value in values)
    if 0 < num_missing < len(values):
        raise ValueError(
            f"source={source.location!r} has no {what} for {num_missing} of {len(values)} recordings; fill the column "
            f"{column!r}, or name another one with {what}_column=."
        )


def _by_folders(source: Source, names: Sequence[str]) -> list[Entry]:
    """Take the first folder on the way to a recording for its class, or the second one below folders of splits."""
    parts = {name: [_normalized(part) for part in PurePath(name).parts] for name in names}
    below_splits = all(len(path) > 2 and path[0].lower() in SPLIT_FOLDERS for path in parts.values())
    listed = _split_lists(source.location)
    entries = []
    for index, (name, path) in enumerate(parts.items()):
        split = split_name(path[0], source.location) if below_splits else None
        if listed:
            split = listed.get(name, TRAIN)
        folders = path[1:-1] if below_splits else path[:-1]
        # Speech Commands: noise to be mixed with, of no class
        labels = tuple(folders[:1]) if folders[:1] != ["_background_noise_"] else ()
        entries.append(Entry(name=name, index=index, labels=labels, split=split, may_be_empty=False))
    return entries


SPLIT_FOLDERS = frozenset(alias for aliases in SPLITS.values() for alias in aliases)


def _split_lists(folder: str) -> dict[str, str]:
    """Name of each recording in the lists of Speech Commands -> its split."""
    found = {}
    for name, split in SPLIT_LISTS.items():
        path = Path(folder) / name
        if path.is_file():
            found |= dict.fromkeys(path.read_text(encoding="utf-8").split(), split)
    return found


def _as_labels(value: Any, separator: str) -> tuple[str, ...]:
    """Return the labels in a value of a manifest, each once."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ()
    if isinstance(value, str):
        values: Iterable[Any] = value.split(separator) if separator else [value]
    elif isinstance(value, list | tuple):
        values = value
    else:
        values = [value]
    return tuple(dict.fromkeys(label for one in values if (label := _normalized(str(one)))))


def _normalized(label: str) -> str:
    """Return a label with one code for each character: file systems store an umlaut as one or as two."""
    return unicodedata.normalize("NFC", label).strip()


def _nothing_left(source: Source, skipped: Mapping[str, str]) -> str:
    reasons = ", ".join(f"{name!r}: {reason}" for name, reason in list(skipped.items())[:3])
    return (
        f"source={source.location!r} holds no labelled recording that can be read ({len(skipped)} skipped, {reasons}). "
        "Give a folder with one subfolder per class, a manifest with columns `path` and `label`, or a data set."
    )
