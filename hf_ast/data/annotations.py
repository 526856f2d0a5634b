"""Selection tables of Raven and label tracks of Audacity, which speak of the recording beside them."""

import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any

from .columns import Times, folded, is_missing, number_in
from .readings import Options, Reading, Row
from .tables import AUDACITY_COLUMNS, Table, read_table

# Columns that Raven itself fills; others with a unit in parentheses are its measurements
RAVEN_COLUMNS = frozenset(
    "selection view channel begin_time_s end_time_s low_freq_hz high_freq_hz begin_path begin_file end_path end_file "
    "file_offset_s delta_time_s delta_freq_hz begin_date begin_clock_time end_clock_time begin_date_time "
    "end_date_time begin_hour end_hour begin_sample end_sample begin_sample_samples end_sample_samples occupancy "
    "inband_power confidence score notes note comments comment species_code".split()
)
UNITS = ("_s", "_hz", "_khz", "_db", "_db_fs", "_samples", "_u", "_v", "_pct")
ANNOTATIONS = ("annotation", "annotations", "label", "labels", "species", "common_name", "class", "category", "tag")


def is_raven(table: Table) -> bool:
    """Whether a table is a selection table of Raven."""
    return {"selection", "begin_time_s", "end_time_s"} <= {folded(name) for name in table.columns}


def is_audacity(table: Table) -> bool:
    """Whether a table is a label track of Audacity."""
    return table.columns == AUDACITY_COLUMNS and posixpath.splitext(table.location)[1].lower() == ".txt"


def annotation_reading(table: Table, options: Options, recording: str | None) -> Reading | None:
    """Return how a selection table or a label track is read; None if the table is neither.

    Args:
        table: The table.
        options: What the user says.
        recording: Name of the recording beside the table; None if there is none.

    Raises:
        ValueError: It is not clear which recordings are meant, or which column says what was heard.
    """
    if is_raven(table):
        return _raven(table, options, recording)
    if not is_audacity(table):
        return None
    if recording is None:
        raise _no_recording(table)
    name = recording
    return Reading(
        paths=lambda row: [name],
        label="label" if options.labelled else None,
        times=None if options.whole_files else Times(start="start", end="end", is_duration=False),
    )


def _no_recording(table: Table) -> ValueError:
    stem = PurePosixPath(table.location).name.split(".")[0]
    return ValueError(
        f"source={table.location!r} does not say which recording it speaks of, and there is no recording with its "
        f"name beside it, such as {stem + '.wav'!r}."
    )


def _raven(table: Table, options: Options, recording: str | None) -> Reading:
    names = {folded(name): name for name in table.columns}
    has_offset = "file_offset_s" in names
    files = [names[name] for name in ("begin_path", "begin_file") if name in names]
    ends = [names[name] for name in ("end_path", "end_file") if name in names]
    different = {path_name(row[files[-1]]) for row in table.rows if not is_missing(row[files[-1]])} if files else set()
    if not different and recording is None:
        raise _no_recording(table)
    if len(different) > 1 and not has_offset and not options.whole_files:
        raise ValueError(
            f"source={table.location!r} speaks of {len(different)} recordings, such as {sorted(different)[:2]}, but "
            "has no column 'File Offset (s)', without which its times may be those of one recording after the other. "
            "Add this column in Raven, or save one table for each recording."
        )
    for row in table.rows:  # where the selection lies in its own file
        start, end = number_in(row[names["begin_time_s"]]), number_in(row[names["end_time_s"]])
        offset = number_in(row[names["file_offset_s"]]) if has_offset else start
        if start is not None and end is not None and offset is not None:
            row["start_s"], row["end_s"] = offset, offset + end - start
        else:
            row["start_s"], row["end_s"] = row[names["begin_time_s"]], row[names["end_time_s"]]
    seen = _views(table, names)

    def paths(row: Row) -> list[str]:
        named = [str(row[file]) for file in files if not is_missing(row[file])]
        # The path may be that of another computer; then the file is beside the table
        return list(dict.fromkeys([*named, *map(path_name, named)])) if named else [recording or ""]

    def problem(row: Row) -> str:
        for start, end in zip(files, ends, strict=False):
            if not is_missing(row[end]) and path_name(row[start]) != path_name(row[end]):
                return f"ends in another recording, {path_name(row[end])!r}"
        return ""

    return Reading(
        paths=paths,
        label=_annotation(table, options) if options.labelled else None,
        times=None if options.whole_files else Times(start="start_s", end="end_s", is_duration=False),
        used=lambda row: id(row) in seen,
        problem=problem,
    )


def _views(table: Table, names: Mapping[str, str]) -> set[int]:
    """Rows that count: a selection has one row for each view, of the waveform and of the spectrogram."""
    rows: dict[tuple[Any, ...], Row] = {}
    for number, row in enumerate(table.rows):
        selection = row[names["selection"]]
        files = tuple(row[names[name]] for name in ("begin_path", "begin_file") if name in names)
        key = (selection, row["start_s"], row["end_s"], *files)
        rows.setdefault(key if "view" in names and not is_missing(selection) else (number,), row)
    return {id(row) for row in rows.values()}


def _annotation(table: Table, options: Options) -> str:
    """Return the column that says what was heard: whatever Raven did not fill itself."""
    if options.label_column is not None:
        if options.label_column not in table.columns:
            wanted = f"not label_column={options.label_column!r}"
            raise ValueError(f"source={table.location!r} has the columns {table.columns}, but {wanted}.")
        return options.label_column
    others = {
        folded(name): name
        for name in table.columns
        if folded(name) and folded(name) not in RAVEN_COLUMNS and not folded(name).endswith(UNITS)
    }
    others = {key: name for key, name in others.items() if name not in ("start_s", "end_s")}
    known = [others[name] for name in ANNOTATIONS if name in others]
    if len(others) == 1 or known:
        return known[0] if known else next(iter(others.values()))
    raise ValueError(
        f"source={table.location!r} is a selection table with the columns {table.columns}. Which of them says what "
        f"was heard{f', {list(others.values())}' if others else ''}? Name it with label_column= (--label-column)."
    )


def path_name(path: Any) -> str:
    """Return the last part of a path of any system."""
    text = str(path)
    return PureWindowsPath(text).name if "\\" in text else PurePosixPath(text).name


def beside(table_name: str, recordings: Iterable[str]) -> list[str]:
    """Return the recordings whose name, without suffix, the name of a table begins with.

    Args:
        table_name: Path of the table, such as "deep/rec.Table.1.selections.txt".
        recordings: Paths of recordings, such as "deep/rec.wav".

    Returns:
        Those with the longest name; several if they differ only in their suffixes.
    """
    folder, name = posixpath.split(table_name)
    fits = [
        path
        for path in recordings
        if posixpath.dirname(path) == folder and name.startswith(f"{PurePosixPath(path).stem}.")
    ]
    longest = max((len(PurePosixPath(path).stem) for path in fits), default=0)
    return [path for path in fits if len(PurePosixPath(path).stem) == longest]


def annotation_tables(folder: str, recordings: Sequence[str]) -> dict[str, list[Table]]:
    """Find the selection tables and label tracks in a folder that are named like a recording beside them.

    Args:
        folder: The folder, on this machine.
        recordings: Names of the recordings in it.

    Returns:
        Name of a recording -> its tables.

    Raises:
        ValueError: A table is damaged, or it is not clear which recording it speaks of.
    """
    in_folder: dict[str, dict[str, list[str]]] = {}
    for path in recordings:
        place = in_folder.setdefault(posixpath.dirname(path), {})
        place.setdefault(PurePosixPath(path).stem, []).append(path)
    found: dict[str, list[Table]] = {}
    for directory, stems in in_folder.items():
        for file in sorted(os.listdir(os.path.join(folder, directory))):
            if PurePath(file).suffix.lower() != ".txt" or file.startswith("."):
                continue
            parts = file.split(".")
            prefixes = [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]
            fits: list[str] = next((stems[prefix] for prefix in prefixes if prefix in stems), [])
            if not fits or not (table := _annotations_in(os.path.join(folder, directory, file))):
                continue
            if len(fits) > 1:
                raise ValueError(
                    f"{table.location!r} may speak of {fits[0]!r} or {fits[1]!r}; give them different names, or "
                    "remove one of them."
                )
            found.setdefault(fits[0], []).append(table)
    return found


def _annotations_in(path: str) -> Table | None:
    """Return the annotations in a text file; None if it holds something else."""
    with open(path, "rb") as file:
        head = file.read(4096)
        first = head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe\r\n").split(b"\n")[0].split(b"\t")
        looks_right = b"Selection" in first or (
            len(first) in (2, 3) and all(number_in(part.decode("latin-1").strip()) is not None for part in first[:2])
        )
        if not looks_right:
            return None
        table = read_table(head + file.read(), path)
    return table if is_raven(table) or is_audacity(table) else None
