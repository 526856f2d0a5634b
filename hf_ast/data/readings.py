"""How the rows of a table are understood, and where the recordings are that they speak of."""

import os
import posixpath
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from .columns import LABEL_COLUMNS, PATH_COLUMNS, Times, folded, is_missing, times_in
from .tables import Table, path_column

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user says about a table or folder; see `read_data`."""

    label_column: str | None = None
    split_column: str = "split"
    group_column: str = "group"
    separator: str | None = None
    missing_label: str | None = None
    label_names: str | os.PathLike[str] | None = None
    label_level: int | None = None
    audio_folder: str | os.PathLike[str] | None = None
    whole_files: bool = False
    multi_label: bool = False
    labelled: bool = True
    events: bool = False


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the rows of a table are understood.

    Attributes:
        paths: The names that the recording of a row may have, relative to the folder of the recordings.
        stems: The names, without folders and suffixes, that the recording of a row may have anywhere in this folder.
        label: Column of labels; None if there is none.
        separator: Separator of several labels in a text, if the format says so; else None.
        times: Columns of times; None if the rows are whole recordings.
        split, group: Columns of splits and groups; None for those that the user names.
        split_name: The split of all rows, if the name of the file says so.
        multi_label: Whether the format is for recordings with any number of labels.
        used: Whether a row counts.
        problem: What is wrong with a row, behind "it", or "".
        note: What the user should know about how this format is read, or "".
    """

    paths: Callable[[Row], Sequence[str]] | None = None
    stems: Callable[[Row], Sequence[str]] | None = None
    label: str | None = None
    separator: str | None = None
    times: Times | None = None
    split: str | None = None
    group: str | None = None
    split_name: str | None = None
    multi_label: bool = False
    used: Callable[[Row], bool] = lambda row: True
    problem: Callable[[Row], str] = lambda row: ""
    note: str = ""


def by_columns(table: Table, options: Options, path: str | None = None) -> Reading:
    """Return the reading of a table of no particular format, by the names of its columns.

    Args:
        table: The table.
        options: What the user says.
        path: Column of paths; None if there is none, because the rows have a recording already.

    Raises:
        ValueError: There is no column of labels, though there must be, or the times are not clear.
    """
    times = None if options.whole_files else times_in(table.columns, table.location)
    label = label_column(table, options) if options.labelled else None
    names = {folded(name): name for name in table.columns}
    separator = None
    if path is not None and folded(path) in ("wav", "filename") and options.label_column is None:
        # The official AST code, and the weak labels of DCASE
        of_ast = set(names) == {"wav", "labels"} and table.location.endswith(".json")
        separator = "," if of_ast or set(names) == {"filename", "event_labels"} else None
    if "audio_filepath" in names and "duration" in names and not options.whole_files and times is None:
        note = f"{table.location!r} has durations, but no offsets: its rows are read as whole recordings."
    else:
        note = _other_labels(table, label) if options.label_column is None else ""
    return Reading(
        paths=None if path is None else lambda row: [path_in(row, path)],
        label=label,
        separator=separator,
        times=times,
        note=note,
    )


def label_column(table: Table, options: Options) -> str:
    """Return the column of labels: the one that the user names, or the first that exists of those that are known.

    Raises:
        ValueError: There is none.
    """
    columns = table.columns
    if options.label_column is not None:
        if options.label_column not in columns:
            wanted = f"not label_column={options.label_column!r}"
            raise ValueError(f"source={table.location!r} has the columns {columns}, but {wanted}.")
        return options.label_column
    names = {folded(name): name for name in reversed(columns)}
    known = (*LABEL_COLUMNS, *(("text",) if "audio_filepath" in names else ()))
    for name in known:
        if name in names:
            return names[name]
    raise ValueError(
        f"source={table.location!r} has the columns {columns}, but none of {LABEL_COLUMNS}; name it with "
        "label_column= (--label-column)."
    )


def _other_labels(table: Table, label: str | None) -> str:
    """Say which columns might have been the labels as well."""
    others = [name for name in table.columns if folded(name) in LABEL_COLUMNS and name != label]
    if label is None or not others:
        return ""
    return (
        f"The labels are those in the column {label!r}, not {' or '.join(map(repr, others))}; label_column= "
        "(--label-column) names another one."
    )


def path_in(row: Row, column: str) -> str:
    """Return the path in a row, or "" if there is none."""
    value = row.get(column)
    return value if isinstance(value, str) and value.strip() else "" if is_missing(value) else str(value)


def path_column_of(table: Table) -> str:
    """Return the column of paths; see `path_column`."""
    return path_column(table.columns, table.location)


def has_paths(table: Table) -> bool:
    """Whether a table has a column of paths."""
    return any(folded(name) in PATH_COLUMNS for name in table.columns)


class Places:
    """Finds the recordings that a table speaks of.

    Args:
        location: Path or URL of the table.
        audio_folder: Folder of the recordings, as the user names it; that of the table if None.
        list_names: Lists the recordings in a folder and its subfolders, relative to it.
    """

    def __init__(
        self,
        location: str,
        audio_folder: str | os.PathLike[str] | None,
        list_names: Callable[[str], Sequence[str]],
    ):
        self.table_folder = posixpath.dirname(location)
        self.folder = self.table_folder
        self.is_given = audio_folder is not None
        self.list_names = list_names
        if audio_folder is not None:
            folder = os.fspath(audio_folder)
            self.folder = folder if "://" in folder else os.path.abspath(folder)

    def of(self, reading: Reading, row: Row) -> tuple[str, str]:
        """Return the name of the recording of a row, and what is wrong with it, behind "it", or ""."""
        if reading.stems is not None:
            return self._by_stem(reading.stems(row))
        assert reading.paths is not None
        candidates = [path for path in reading.paths(row) if path]
        if not candidates:
            return "", "names no recording"
        if len(candidates) > 1 and "://" not in self.folder:
            if self.is_given:  # what is above the folder that the user names is not meant
                candidates = [path for path in candidates if not path.startswith("..")] or candidates
            for path in candidates:
                if os.path.exists(os.path.join(self.folder, path)):
                    return self._named(path), ""
        return self._named(candidates[0]), ""

    def _named(self, path: str) -> str:
        if self.is_given:
            return path if os.path.isabs(path) or "://" in path else posixpath.join(self.folder, path)
        return path

    def _by_stem(self, stems: Sequence[str]) -> tuple[str, str]:
        found = [name for stem in stems for name in self.by_stem.get(stem, ())]
        if not found:
            return stems[0], f"was not found in {self.folder!r}; its name may be {' or '.join(map(repr, stems[:3]))}"
        if len(found) > 1:
            return stems[0], f"may be {found[0]!r} or {found[1]!r} in {self.folder!r}"
        return self._named(found[0]), ""

    @cached_property
    def by_stem(self) -> Mapping[str, list[str]]:
        """Recordings below the folder by their names without folders and suffixes."""
        found: dict[str, list[str]] = defaultdict(list)
        for name in self.list_names(self.folder or "."):
            found[PurePosixPath(name).stem].append(name)
        return found
