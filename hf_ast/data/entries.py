"""What a folder, a table or a data set says about its recordings: classes, segments, splits, groups."""

import os
import posixpath
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from hf_ast.data.formats import SUFFIXES
from hf_ast.data.sources import Source, read_bytes

from .annotations import annotation_reading, annotation_tables, beside
from .columns import is_missing
from .folders import read_tree
from .labels import Value, expect_clear, expect_many, is_id, labels_in, named, names_in
from .official import label_names_beside, official_reading
from .readings import Options, Places, Reading, by_columns, has_paths, path_column_of
from .splitting import split_name
from .tables import Table, read_table, suffix_of

Warn = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a source says about a recording: the attributes of `Clip`, with names of classes, before it was opened.

    Attributes:
        split: None where the source names no splits.
        may_be_empty: Whether, in multi-label data, having no label means that the recording has none of the classes.
        start_s, end_s: The part of the recording that is meant, in seconds; to its end if `end_s` is None.
        problem: Why it cannot be used, such as times that are reversed; "" if it can.
        multi_label: Whether the format is for recordings with any number of labels.
    """

    name: str
    index: int
    labels: tuple[str, ...]
    split: str | None = None
    group: str | None = None
    may_be_empty: bool = True
    start_s: float = 0.0
    end_s: float | None = None
    problem: str = ""
    multi_label: bool = False

    @property
    def title(self) -> str:
        """What it is called in results: see `title`."""
        return title(self.name, self.start_s, self.end_s)


def title(name: str, start_s: float, end_s: float | None) -> str:
    """Return the name of a recording, with the times of a segment: "rec.wav [1.2, 3.4]"."""
    if start_s == 0 and end_s is None:
        return name
    start, end = (f"{time_s:.6f}".rstrip("0").rstrip(".") for time_s in (start_s, end_s or 0.0))
    return f"{name} [{start}, {'end' if end_s is None else end}]"


def find_entries(
    source: Source,
    *,
    label_column: str | None = None,
    split_column: str = "split",
    group_column: str = "group",
    separator: str | None = None,
    missing_label: str | None = None,
    label_names: str | os.PathLike[str] | None = None,
    label_level: int | None = None,
    audio_folder: str | os.PathLike[str] | None = None,
    whole_files: bool = False,
    multi_label: bool = False,
    labelled: bool = True,
    events: bool = False,
    warn: Warn | None = None,
) -> list[Entry]:
    """Return what a source says about its recordings and segments, each once.

    Args:
        source: The source.
        label_column, split_column, group_column, separator, missing_label, label_names, label_level, audio_folder,
            whole_files, multi_label: As in `read_data`.
        labelled: Whether there must be labels; if False, none are read.
        events: Whether segments are events in recordings, beside which whole recordings may have labels; otherwise a
            row without times in a table of segments is a mistake if it has a label.
        warn: Gets what had to be guessed, as sentences; without it, each is a Python warning.

    Raises:
        ValueError: What the source says is not clear, or contradicts itself.
    """
    options = Options(
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
        separator=separator,
        missing_label=missing_label,
        label_names=label_names,
        label_level=label_level,
        audio_folder=audio_folder,
        whole_files=whole_files,
        multi_label=multi_label,
        labelled=labelled,
        events=events,
    )
    say = warn or (lambda message: warnings.warn(message, stacklevel=3))
    if source.kind == "folder":
        return _in_folder(source, options, say)
    if source.kind == "manifest":
        return _in_manifest(source, options, say)
    rows = source.rows()
    names = [name for name, _ in rows]
    columns = list(dict.fromkeys(column for _, row in rows for column in row))
    table = Table(
        location=source.location,
        columns=columns,
        rows=[row for _, row in rows],
        lines=list(range(1, len(rows) + 1)),
        unit="entry",
    )
    return _entries(source, table, by_columns(table, options), options, say, names=names)


def _in_manifest(source: Source, options: Options, say: Warn) -> list[Entry]:
    table = read_table(read_bytes(source.location), source.location)
    if not table.rows:
        raise ValueError(f"source={source.location!r} has a header, but no row.")
    reading = official_reading(table, options)
    if reading is None:
        reading = annotation_reading(table, options, _recording_beside(source, options))
    if reading is None:
        reading = by_columns(table, options, path_column_of(table))
    places = Places(source.location, options.audio_folder, _names_below)
    return _entries(source, table, reading, options, say, places=places)


def _names_below(folder: str) -> list[str]:
    location = folder if "://" in folder else os.path.abspath(folder)
    return Source(kind="folder", location=location).names()


def _recording_beside(source: Source, options: Options) -> str | None:
    """Return the recording that a selection table or label track is named like."""
    if suffix_of(source.location) != ".txt" or "://" in source.location:
        return None
    folder = os.path.abspath(os.fspath(options.audio_folder or posixpath.dirname(source.location)))
    try:
        names = [name for name in os.listdir(folder) if not name.lower().endswith(".txt")]
    except OSError as error:
        raise ValueError(f"audio_folder={folder!r} cannot be read: {error.strerror}.") from error
    fits = beside(posixpath.basename(source.location), names)
    media = [name for name in fits if PurePosixPath(name).suffix.lower() in SUFFIXES] or fits
    if len(media) > 1:
        raise ValueError(f"source={source.location!r} may speak of {media[0]!r} or {media[1]!r}; rename one of them.")
    return media[0] if media else None


def _in_folder(source: Source, options: Options, say: Warn) -> list[Entry]:
    names = source.names()
    if not options.labelled:
        splits = _splits_of_tree(source, names, options)
        return [Entry(name=name, index=index, labels=(), split=splits.get(name)) for index, name in enumerate(names)]
    if "://" not in source.location and options.label_level is None:
        tables = annotation_tables(source.location, names)
        if tables:
            return _annotated(source, names, tables, options, say)
        if manifest := _manifest_in(source.location, names):
            say(f"{source.location!r} is read as its table {posixpath.basename(manifest)!r} says.")
            return _indexed(_in_manifest(Source(kind="manifest", location=manifest), options, say), names)
    return [
        Entry(
            name=leaf.name,
            index=leaf.index,
            labels=leaf.labels,
            split=leaf.split,
            may_be_empty=False,
            multi_label=len(leaf.labels) > 1,
        )
        for leaf in read_tree(source.location, names, level=options.label_level, separator=options.separator, say=say)
    ]


def _splits_of_tree(source: Source, names: Sequence[str], options: Options) -> dict[str, str | None]:
    """Return the splits of recordings whose classes do not matter: those of the folders or of the lists."""
    leaves = read_tree(source.location, names, level=options.label_level, separator="", say=None)
    return {leaf.name: leaf.split for leaf in leaves}


def _manifest_in(folder: str, names: Sequence[str]) -> str | None:
    """Return the only table in a folder of recordings without subfolders."""
    if any("/" in name for name in names):
        return None
    files = [name for name in sorted(os.listdir(folder)) if not name.startswith(".") and name not in names]
    found = [os.path.join(folder, name) for name in files if suffix_of(name) in (".csv", ".tsv", ".json", ".jsonl")]
    tables = [path for path in found if _is_manifest(path)]
    if len(tables) > 1:
        shown = ", ".join(repr(posixpath.basename(path)) for path in tables[:4])
        raise ValueError(f"source={folder!r} holds several tables, {shown}; give the one that is meant instead.")
    return tables[0] if tables else None


def _is_manifest(path: str) -> bool:
    """Whether a file is a table of recordings; JSON may be anything."""
    try:
        return has_paths(read_table(read_bytes(path), path))
    except ValueError:
        if suffix_of(path) == ".json":
            return False
        raise


def _indexed(entries: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    """Return entries with the places of their recordings in the folder."""
    places = {name: index for index, name in enumerate(names)}
    found = [replace(entry, name=posixpath.normpath(entry.name)) for entry in entries]
    return [replace(entry, index=places.get(entry.name, -1)) for entry in found]


def _annotated(
    source: Source, names: Sequence[str], tables: dict[str, list[Table]], options: Options, say: Warn
) -> list[Entry]:
    """Return the segments in recordings with annotations; others have no label."""
    without = [name for name in names if name not in tables]
    if len(without) > len(tables):
        raise ValueError(
            f"source={source.location!r} has annotations, such as {next(iter(tables.values()))[0].location!r}, but "
            f"{len(without)} of {len(names)} recordings have none, such as {without[0]!r}. Are the folders the "
            "classes? Then label_level=1 (--label-level 1). Are the annotations meant? Then give a folder with these "
            "recordings."
        )
    if any("/" in name for name in names):
        say("The labels are those of the annotations beside the recordings, not the names of the folders.")
    if options.events and without:
        say(
            f"{len(without)} recordings have no annotations beside them, such as {without[0]!r}; they count as "
            "recordings without events."
        )
    found = []
    for index, name in enumerate(names):
        segments: list[Entry] = []
        for table in tables.get(name, ()):
            reading = annotation_reading(table, options, name)
            assert reading is not None
            entries = _entries(source, table, reading, options, say, names=[name] * len(table.rows))
            segments += [replace(entry, index=index) for entry in entries]
        # A recording whose tables have no row is a recording, too
        found += segments or [Entry(name=name, index=index, labels=(), may_be_empty=False)]
    return _merged(source, found)


def _entries(
    source: Source,
    table: Table,
    reading: Reading,
    options: Options,
    say: Warn,
    *,
    names: Sequence[str] | None = None,
    places: Places | None = None,
) -> list[Entry]:
    """Return what the rows of a table say, each recording or segment once.

    Args:
        source, table, reading, options, say: See there.
        names: Names of the recordings of the rows, where they are known.
        places: Finds them, where they are not.
    """
    about_times = "" if reading.times is None else reading.times.note(table.rows)
    for note in filter(None, (*table.notes, reading.note, about_times)):
        say(note)
    separator = reading.separator if options.separator is None else options.separator
    if reading.label is not None:
        values = [Value(row.get(reading.label), table.where(number)) for number, row in enumerate(table.rows)]
        expect_clear(values, separator, options.missing_label, multi_label=options.multi_label or reading.multi_label)
    # Semicolons are the separator where nobody says otherwise
    separator = ";" if separator is None else separator
    rename = _renamer(table, reading, options, say)
    split_column, group_column = reading.split or options.split_column, reading.group or options.group_column
    entries = []
    for number, row in enumerate(table.rows):
        name, problem = (names[number], "") if names else places.of(reading, row)  # type: ignore[union-attr]
        if not name:
            raise ValueError(f"{table.where(number)} has no path.")
        start_s, end_s, wrong = _segment(reading, row, options)
        split, group = row.get(split_column), row.get(group_column)
        labels: tuple[str, ...] = ()
        if reading.label is not None and reading.used(row):
            labels = labels_in(row.get(reading.label), separator, options.missing_label)
            labels = rename(labels, table.where(number))
        entries.append(
            Entry(
                name=name,
                index=number,
                labels=labels,
                split=reading.split_name if is_missing(split) else split_name(str(split), source.location),
                group=None if is_missing(group) else str(group),
                # A segment was marked because something is in it
                may_be_empty=reading.times is None or start_s is None,
                start_s=start_s or 0.0,
                end_s=end_s,
                problem=_first((problem, wrong, reading.problem(row)), table.where(number)),
                multi_label=reading.multi_label,
            )
        )
    used = [entry for entry, row in zip(entries, table.rows, strict=True) if reading.used(row) or reading.multi_label]
    found = _merged(source, used)
    _expect_for_all(source, "split", split_column, [entry.split for entry in found])
    _expect_for_all(source, "group", group_column, [entry.group for entry in found])
    if not (options.multi_label or reading.multi_label or reading.times or separator == reading.separator):
        _expect_no_mistake(entries, found)
    return found


def _segment(reading: Reading, row: dict[str, object], options: Options) -> tuple[float | None, float | None, str]:
    """Return the times of a row, and what is wrong with them."""
    if reading.times is None:
        return None, None, ""
    try:
        times = reading.times.of(row)
    except ValueError as error:
        return None, None, str(error)
    if times is not None:
        return *times, ""
    if reading.label is not None and not options.events and not is_missing(row.get(reading.label)):
        return None, None, "has a label, but no times"
    return None, None, ""  # DESED: a recording without events


def _first(problems: Sequence[str], where: str) -> str:
    problem = next(filter(None, problems), "")
    return f"it {problem} ({where})" if problem else ""


def _renamer(
    table: Table, reading: Reading, options: Options, say: Warn
) -> Callable[[tuple[str, ...], str], tuple[str, ...]]:
    """Return what turns ids into names, with a table beside the data or the one that the user gives."""
    if reading.label is None:
        return lambda labels, where: labels
    place = options.label_names
    samples = [labels_in(row.get(reading.label), ",") for row in table.rows[:1000]]
    has_ids = any(is_id(label) for labels in samples for label in labels)
    if place is None and has_ids:
        place = label_names_beside(table.location)
    if place is not None:
        location = os.fspath(place)
        names = names_in(read_table(read_bytes(location), location))
        return lambda labels, where: named(labels, names, where)
    if has_ids:
        say(
            f"{table.location!r} names its classes by ids; put class_labels_indices.csv beside it, or give it as "
            "label_names= (--label-csv), for their names."
        )
    return lambda labels, where: labels


def _merged(source: Source, entries: Sequence[Entry]) -> list[Entry]:
    """Return entries in which a recording or segment with one row per label stands once."""
    found: dict[tuple[str, float, float | None, str], Entry] = {}
    for entry in entries:
        # "./a.wav" is "a.wav"
        path = entry.name if "://" in entry.name else str(PurePosixPath(entry.name))
        key = (path, entry.start_s, entry.end_s, entry.problem)
        other = found.get(key)
        if other is None:
            found[key] = entry
            continue
        if (other.split, other.group) != (entry.split, entry.group):
            raise ValueError(f"source={source.location!r} has {entry.title!r} in several splits or groups.")
        found[key] = replace(
            other,
            labels=tuple(dict.fromkeys(other.labels + entry.labels)),
            may_be_empty=other.may_be_empty and entry.may_be_empty,
        )
    return list(found.values())


def _expect_no_mistake(entries: Sequence[Entry], found: Sequence[Entry]) -> None:
    """Ask if a few recordings have several rows with different labels."""
    alone = {entry.title: len(entry.labels) for entry in entries}
    several = [entry.title for entry in found if len(entry.labels) > max(1, alone.get(entry.title, 0))]
    expect_many(several, sum(bool(entry.labels) for entry in found))


def _expect_for_all(source: Source, what: str, column: str, values: Sequence[str | None]) -> None:
    num_missing = sum(value is None for value in values)
    if 0 < num_missing < len(values):
        raise ValueError(
            f"source={source.location!r} has no {what} for {num_missing} of {len(values)} recordings; fill the column "
            f"{column!r}, or name another one with {what}_column=."
        )
