"""Official tables of data sets, which are known by their columns: how each is to be read.

What a table of one of these kinds says is never guessed from its columns one by one. The starts and ends in
UrbanSound8K and AudioSet, for example, speak of the recordings from which the files were cut, not of the files.
"""

import os
import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from .columns import folded, number_in, times_in
from .labels import is_positive
from .readings import Options, Reading, Row, label_column
from .tables import Table


def official_reading(table: Table, options: Options) -> Reading | None:
    """Return how a table of a known data set is read; None if it is none.

    Args:
        table: The table.
        options: What the user says: another column of labels, or that all rows are whole recordings, holds.
    """
    names = {folded(name): name for name in table.columns}
    for columns, reading in FORMATS:
        if columns <= names.keys():
            found = reading(table, names, options)
            if options.labelled and options.label_column is not None:
                label_column(table, options)  # it must exist
            return found
    return None


def _label(options: Options, column: str) -> str | None:
    return (options.label_column or column) if options.labelled else None


def _esc50(table: Table, names: Mapping[str, str], options: Options) -> Reading:
    """`meta/esc50.csv`, whose folds are groups: clips of one source are in one fold."""
    file = names["filename"]
    return Reading(
        paths=lambda row: [f"{folder}{row[file]}" for folder in ("../audio/", "audio/", "")],
        label=_label(options, names["category"]),
        separator="",
        group=names["fold"],
    )


def _urbansound8k(table: Table, names: Mapping[str, str], options: Options) -> Reading:
    """`metadata/UrbanSound8K.csv`: `start` and `end` speak of the recording on Freesound, so files are whole."""
    file, fold = names["slice_file_name"], names["fold"]
    return Reading(
        paths=lambda row: [
            f"{folder}{row[file]}"
            for folder in (f"../audio/fold{row[fold]}/", f"audio/fold{row[fold]}/", f"fold{row[fold]}/", "")
        ],
        label=_label(options, names["class"]),
        separator="",
        group=fold,
    )


def _fsd50k(table: Table, names: Mapping[str, str], options: Options) -> Reading:
    """`FSD50K.ground_truth/dev.csv` with the splits train and val, and `eval.csv`, which is the test."""
    file = names["fname"]
    folders = ("../FSD50K.dev_audio/", "../FSD50K.eval_audio/", "FSD50K.dev_audio/", "FSD50K.eval_audio/", "")
    is_eval = "split" not in names and PurePosixPath(table.location).stem == "eval"
    return Reading(
        paths=lambda row: [f"{folder}{row[file]}.wav" for folder in folders],
        label=_label(options, names["labels"]),
        separator=",",
        split=names.get("split"),
        split_name="test" if is_eval else None,
        multi_label=True,
    )


def _audioset(table: Table, names: Mapping[str, str], options: Options) -> Reading:
    """Segment CSVs of AudioSet, whose times speak of the video, so files are whole."""
    key, start, end = names["ytid"], names["start_seconds"], names["end_seconds"]
    return Reading(
        stems=lambda row: _video_stems(str(row[key]).strip(), row[start], row[end]),
        label=_label(options, names["positive_labels"]),
        separator=",",
        multi_label=True,
    )


def _audioset_strong(table: Table, names: Mapping[str, str], options: Options) -> Reading:
    """Strong labels of AudioSet, whose times speak of the segment; the name of the segment ends in its start in ms."""
    key = names["segment_id"]

    def stems(row: Row) -> list[str]:
        video, _, start_ms = str(row[key]).rpartition("_")
        start_s = (number_in(start_ms) or 0.0) / 1000
        return list(dict.fromkeys([str(row[key]), *_video_stems(video, start_s, start_s + 10)]))

    return Reading(
        stems=stems,
        label=_label(options, names["label"]),
        separator="",
        times=None if options.whole_files else times_in(table.columns, table.location),
    )


def _video_stems(video: str, start: Any, end: Any) -> list[str]:
    """Names that are in use for the segments of AudioSet, without suffix."""
    start_s, end_s = number_in(start) or 0.0, number_in(end) or 0.0
    times = [
        *((f"_{start_s:.0f}", f"_{start_s:.0f}_{end_s:.0f}") if start_s == int(start_s) else ()),
        *(f"_{start_s:.3f}", f"_{start_s:.3f}_{end_s:.3f}", f"_{start_s:.1f}", f"_{start_s:.1f}_{end_s:.1f}"),
        *(f"_{start_s * 1000:.0f}", f"_{start_s * 1000:.0f}_{end_s * 1000:.0f}"),
    ]
    return list(dict.fromkeys(f"{prefix}{video}{time}" for time in ("", *times) for prefix in ("", "Y")))


def _openmic(table: Table, names: Mapping[str, str], options: Options) -> Reading:
    """`openmic-2018-aggregated-labels.csv`: an instrument is there if its relevance is at least a half."""
    key, relevance = names["sample_key"], names["relevance"]
    splits = _openmic_splits(posixpath.dirname(table.location))
    for row in table.rows:
        if splits:
            row["split"] = splits.get(str(row[key]), "")
    return Reading(
        paths=lambda row: [f"{folder}{row[key]}.ogg" for folder in (f"audio/{str(row[key])[:3]}/", "audio/", "")],
        label=_label(options, names["instrument"]),
        separator="",
        multi_label=True,
        split="split" if splits else None,
        used=lambda row: is_positive(row[relevance]),
        note="OpenMIC: instruments for which a recording was not rated count as absent.",
    )


def _openmic_splits(folder: str) -> dict[str, str]:
    """Split of each recording, from the folder `partitions`, if it is there."""
    found: dict[str, str] = {}
    for split in ("train", "test"):
        path = Path(folder) / "partitions" / f"split01_{split}.csv"
        if "://" not in folder and path.is_file():
            found |= dict.fromkeys(path.read_text(encoding="utf-8-sig").split(), split)
    return found


def label_names_beside(location: str) -> str | None:
    """Return the `class_labels_indices.csv` beside a table, or None."""
    path = os.path.join(posixpath.dirname(location), "class_labels_indices.csv")
    return path if "://" not in location and os.path.isfile(path) else None


# The columns by which a table is known, the most particular ones first, and how it is read
FORMATS: list[tuple[frozenset[str], Callable[[Table, Mapping[str, str], Options], Reading]]] = [
    (frozenset(("slice_file_name", "fsid", "start", "end", "fold", "class")), _urbansound8k),
    (frozenset(("filename", "fold", "target", "category", "esc10")), _esc50),
    (frozenset(("fname", "labels", "mids")), _fsd50k),
    (frozenset(("ytid", "start_seconds", "end_seconds", "positive_labels")), _audioset),
    (frozenset(("segment_id", "start_time_seconds", "end_time_seconds", "label")), _audioset_strong),
    (frozenset(("sample_key", "instrument", "relevance", "num_responses")), _openmic),
]
