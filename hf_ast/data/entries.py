"""What a folder, a manifest or a data set says about its recordings: classes, splits, groups."""

import math
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from hf_ast.data.sources import Source

from .splitting import SPLITS, TEST, TRAIN, VALIDATION, split_name

LABEL_COLUMNS = ("label", "labels", "category", "class", "target")
SPLIT_FOLDERS = frozenset(alias for aliases in SPLITS.values() for alias in aliases)
# Lists that come with Speech Commands, and the splits of the files named in them
SPLIT_LISTS = {"validation_list.txt": VALIDATION, "testing_list.txt": TEST}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a source says about a recording: the attributes of `Clip`, with names of classes, before it was opened.

    Attributes:
        split: None where the source names no splits.
        may_be_empty: Whether, in multi-label data, having no label means that the recording has none of the classes.
        start_s, end_s: The part of the recording that is meant, in seconds; to its end if `end_s` is None.
    """

    name: str
    index: int
    labels: tuple[str, ...]
    split: str | None = None
    group: str | None = None
    may_be_empty: bool = True
    start_s: float = 0.0
    end_s: float | None = None


def find_entries(
    source: Source,
    *,
    label_column: str | None = None,
    split_column: str = "split",
    group_column: str = "group",
    separator: str = ";",
    audio_folder: str | os.PathLike[str] | None = None,
    labelled: bool = True,
) -> list[Entry]:
    """Return what a source says about its recordings, each once.

    Args:
        source: The source.
        label_column, split_column, group_column, separator, audio_folder: As in `read_data`.
        labelled: Whether there must be labels; if False, none are read.
    """
    rows = source.rows()
    if source.kind == "folder":
        return _by_folders(source, [name for name, _ in rows])
    columns = list(dict.fromkeys(column for _, row in rows for column in row))
    if labelled and label_column is None:
        label_column = next((name for name in LABEL_COLUMNS if name in columns), None)
    if labelled and label_column not in columns:
        wanted = f"none of {LABEL_COLUMNS}" if label_column is None else f"not label_column={label_column!r}"
        raise ValueError(f"source={source.location!r} has the columns {columns}, but {wanted}.")
    entries: dict[str, Entry] = {}
    for number, (name, row) in enumerate(rows):
        if audio_folder is not None and source.kind == "manifest":
            folder = os.fspath(audio_folder)
            name = os.path.join(folder if "://" in folder else os.path.abspath(folder), name)
        split, group = row.get(split_column), row.get(group_column)
        entry = Entry(
            name=name,
            index=number,
            labels=() if label_column is None else _as_labels(row.get(label_column), separator),
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
    """Take the first folder in the path of a recording for its class, or the second one below folders of splits."""
    parts = {name: [normalized(part) for part in PurePath(name).parts] for name in names}
    below_splits = all(len(path) > 2 and path[0].lower() in SPLIT_FOLDERS for path in parts.values())
    listed = _split_lists(source.location)
    entries = []
    for index, (name, path) in enumerate(parts.items()):
        split = split_name(path[0], source.location) if below_splits else None
        if listed:
            split = listed.get(name, TRAIN)
        folders = path[1:-1] if below_splits else path[:-1]
        # Speech Commands: noise for mixing, which belongs to no class
        labels = tuple(folders[:1]) if folders[:1] != ["_background_noise_"] else ()
        entries.append(Entry(name=name, index=index, labels=labels, split=split, may_be_empty=False))
    return entries


def _split_lists(folder: str) -> dict[str, str]:
    """Name of each recording in the lists of Speech Commands -> its split."""
    found: dict[str, str] = {}
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
    return tuple(dict.fromkeys(label for one in values if (label := normalized(str(one)))))


def normalized(label: str) -> str:
    """Return a label in Unicode's NFC form: file systems store an umlaut as one or as two code points."""
    return unicodedata.normalize("NFC", label).strip()
