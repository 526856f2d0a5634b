"""Tables: the bytes of a CSV, TSV, text, JSON, JSON lines or Parquet file -> rows, with the line of each.

What cannot be read as it stands is one ValueError that names the file and the line. What had to be guessed, such as an
encoding, is one of the `notes` of the table.
"""

import csv
import io
import json
import posixpath
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .columns import PATH_COLUMNS, folded, is_number, known_columns

MANIFEST_SUFFIXES = frozenset((".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet"))
TEXT_SUFFIXES = frozenset((".csv", ".tsv", ".txt"))
DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
# The longer ones first: that of UTF-32 begins with that of UTF-16
BOMS = {
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
# Columns of the tables that have no header
AUDACITY_COLUMNS = ["start", "end", "label"]
DCASE_COLUMNS = ["filename", "onset", "offset", "event_label"]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of a table.

    Attributes:
        location: Path or URL of the file, or the name of the data set.
        columns: Names of the columns, in their order.
        rows: One mapping of columns to values for each row.
        lines: Where each row begins.
        unit: What `lines` counts: "line" or "entry".
        notes: What was guessed when the file was read, as sentences.
    """

    location: str
    columns: list[str]
    rows: list[dict[str, Any]]
    lines: list[int]
    unit: str = "line"
    notes: list[str] = field(default_factory=list)

    def where(self, row: int) -> str:
        """Say where a row stands, such as "line 7 of 'list.csv'"."""
        return f"{self.unit} {self.lines[row]} of {self.location!r}"


def read_table(content: bytes, location: str, *, only_paths: bool = False) -> Table:
    """Read a table.

    Args:
        content: The bytes of the file.
        location: Its path or URL, whose suffix says its format.
        only_paths: Whether other columns than that of the paths need not be read from Parquet.

    Raises:
        ValueError: It is empty, damaged, or not a table of that format.
        ImportError: It is a Parquet file, and pyarrow is missing.
    """
    suffix = suffix_of(location)
    if not content.strip():
        raise ValueError(f"source={location!r} is empty.")
    if suffix == ".parquet":
        return _parquet_table(content, location, only_paths)
    text, note = decoded(content, location)
    notes = [note] if note else []
    if not text.strip():
        raise ValueError(f"source={location!r} is empty.")
    if suffix in TEXT_SUFFIXES:
        return _delimited_table(text, location, notes)
    return _json_table(text, location, notes)


def manifest_rows(content: bytes, location: str, *, only_paths: bool = False) -> list[tuple[str, dict[str, Any]]]:
    """Return the path in each row of a manifest, with the other columns of the row.

    Args:
        content, location, only_paths: As in `read_table`.

    Raises:
        ValueError: As in `read_table`; or there is no column of paths, or a row has no path.
    """
    table = read_table(content, location, only_paths=only_paths)
    rows = []
    column = path_column(table.columns, location) if table.rows else ""
    for number, row in enumerate(table.rows):
        others = dict(row)
        value = others.pop(column, None)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{table.where(number)} has {value!r} instead of a path in the column {column!r}.")
        rows.append((value, others))
    return rows


def path_column(columns: Sequence[Any], location: str) -> str:
    """Return the name of the column of paths, or raise a ValueError if there is none."""
    names = {folded(name): name for name in reversed(columns)}
    for name in PATH_COLUMNS:
        if name in names:
            return str(names[name])
    raise ValueError(
        f"source={location!r} has the columns {list(columns)}, but none of {PATH_COLUMNS}. If its first line is not a "
        "header, add one, such as `path,label`."
    )


def suffix_of(location: str) -> str:
    """Return the suffix of a path or URL in lower case, such as ".csv"."""
    return posixpath.splitext(location)[1].lower()


def decoded(content: bytes, location: str) -> tuple[str, str]:
    """Return a text, and what was guessed about its encoding, or "".

    A byte order mark decides; else UTF-16 is known by its zero bytes; else it is UTF-8 if it can be. What is left is
    read as Windows-1252, the encoding of western spreadsheets, which is a guess.

    Raises:
        ValueError: It holds NUL characters, or is damaged UTF-16 or UTF-32.
    """
    note = ""
    encoding = next((name for bom, name in BOMS.items() if content.startswith(bom)), None)
    try:
        if encoding == "utf-8":
            content, encoding = content[3:], None
        if encoding is None and content.count(0) > len(content) // 4:
            encoding = "utf-16-le" if content[1::2].count(0) > content[0::2].count(0) else "utf-16-be"
        text = content.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        if encoding is not None:
            raise ValueError(
                f"source={location!r} looks like {encoding.upper()}, but is damaged at byte {error.start}; save it as "
                "UTF-8."
            ) from error
        text, note = _guessed(content, error.start, location)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ValueError(f"line {line} of {location!r} holds a NUL character: it is damaged, or not a text.")
    return text, note


def _guessed(content: bytes, place: int, location: str) -> tuple[str, str]:
    encoding = "Windows-1252"
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:  # five bytes have no meaning in it
        encoding, text = "Latin-1", content.decode("latin-1")
    number = content[:place].count(b"\n")
    line = text.split("\n")[number].strip()
    return text, (
        f"{location!r} is not UTF-8 (line {number + 1}), so it was read as {encoding}, which is a guess: "
        f"{line[:100]!r}. Save it as UTF-8 if that is wrong."
    )


def _delimited_table(text: str, location: str, notes: list[str]) -> Table:
    if "\n" not in text:
        text = text.replace("\r", "\n")  # as old Macs wrote
    skipped, header = 0, None
    for line in text.split("\n"):  # comments, the last of which is the header in the files of AudioSet
        if not line.startswith("#"):
            break
        skipped += 1
        if "," in line and any(folded(name) in known_columns() for name in line[1:].split(",")):
            header = [name.strip() for name in line[1:].split(",")]
    excel = re.match(r"sep=(.)\r?\n", text)  # what Excel writes to tell itself the separator
    skipped += excel is not None
    body = text.split("\n", skipped)[-1] if skipped else text
    delimiter = excel[1] if excel else "," if header else _delimiter(body, location)
    records = list(_records(body, delimiter, location, first_line=skipped + 1))
    if not records:
        raise ValueError(f"source={location!r} holds nothing but comments.")
    if header is None and (header := _implied_header(records, delimiter)) is None:
        _, header = records.pop(0)
    elif header == AUDACITY_COLUMNS:
        records = [(line, record) for line, record in records if not record[0].startswith("\\")]
    columns = [name.strip() for name in header]
    if repeated := {name for name in columns if name and columns.count(name) > 1}:
        raise ValueError(f"source={location!r} has several columns {min(repeated)!r}; rename or remove them.")
    rows = []
    for number, record in records:
        fields = [*record, ""] if header == AUDACITY_COLUMNS and len(record) == 2 else record
        while len(fields) > len(columns) and not fields[-1].strip():
            fields = fields[:-1]
        if len(fields) != len(columns):
            raise ValueError(
                f"line {number} of {location!r} has {len(fields)} fields, but there are {len(columns)} columns "
                f"({', '.join(columns)}). Put texts that hold {delimiter!r} into double quotes."
            )
        rows.append(dict(zip(columns, fields, strict=True)))
    return Table(location=location, columns=columns, rows=rows, lines=[line for line, _ in records], notes=notes)


def _delimiter(text: str, location: str) -> str:
    """Return the separator of the fields: that of the suffix, unless only another one gives a known column."""
    usual = DELIMITERS.get(suffix_of(location), ",")
    first = next((line for line in text.split("\n") if line.strip()), "").rstrip("\r")
    if usual != "\t" and _is_audacity(first.split("\t")):
        return "\t"
    numbers = {}
    for delimiter in (usual, *(other for other in ",;\t|" if other != usual)):
        names = next(csv.reader([first], delimiter=delimiter, skipinitialspace=True), [])
        numbers[delimiter] = sum(folded(name) in known_columns() for name in names), len(names)
    best = max(numbers, key=lambda delimiter: numbers[delimiter][0])
    if numbers[best][0]:
        return usual if numbers[usual][0] == numbers[best][0] else best
    return usual


def _records(text: str, delimiter: str, location: str, first_line: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the fields of each record; empty lines are left out."""
    is_audacity = delimiter == "\t" and _is_audacity(text.split("\n", 1)[0].split("\t"))
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if is_audacity else csv.QUOTE_MINIMAL,
        skipinitialspace=delimiter != "\t",
        strict=True,
    )
    line = first_line
    with _long_fields():
        while True:
            try:
                record = next(reader, None)
            except csv.Error as error:
                raise ValueError(f"line {line} of {location!r} cannot be read: {error}.") from error
            if record is None:
                return
            if any(field.strip() for field in record):
                yield line, record
            line = first_line + reader.line_num


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lift the limit of 128 KB for a field, which is a setting of the whole process."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _is_audacity(fields: Sequence[str]) -> bool:
    return len(fields) in (2, 3) and all(map(is_number, fields[:2]))


def _implied_header(records: Sequence[tuple[int, list[str]]], delimiter: str) -> list[str] | None:
    """Return the columns of tables that have no header: label tracks of Audacity, and event lists of DCASE."""
    _, first = records[0]
    if delimiter == "\t" and _is_audacity(first):
        return AUDACITY_COLUMNS
    if delimiter == "\t" and len(first) == 4 and all(map(is_number, first[1:3])):
        return DCASE_COLUMNS
    return None


def _json_table(text: str, location: str, notes: list[str]) -> Table:
    """Read JSON lines, or a JSON array of paths or objects, which may be the `data` of an object."""
    entries: Any = None
    lines: list[int] = []
    if suffix_of(location) == ".json":
        try:
            entries = _parsed(text, location)
        except json.JSONDecodeError as error:  # NeMo and others write lines into files with this suffix
            if error.msg != "Extra data":
                raise ValueError(f"line {error.lineno} of {location!r} is not valid JSON: {error}.") from error
    if entries is None or (isinstance(entries, dict) and "data" not in entries and len(text.strip().split("\n")) == 1):
        entries, lines = _json_lines(text, location)
    if isinstance(entries, dict) and isinstance(entries.get("data"), list):  # as the official AST code writes them
        entries = entries["data"]
    if not isinstance(entries, list):
        raise ValueError(
            f"source={location!r} holds a {type(entries).__name__} instead of a list of recordings; pandas writes one "
            'with to_json(orient="records").'
        )
    rows = [dict(entry) if isinstance(entry, dict) else {PATH_COLUMNS[0]: entry} for entry in entries]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    unit = "line" if lines else "entry"
    lines = lines or list(range(1, len(rows) + 1))
    return Table(location=location, columns=columns, rows=rows, lines=lines, unit=unit, notes=notes)


def _json_lines(text: str, location: str) -> tuple[list[Any], list[int]]:
    entries, lines = [], []
    # Not splitlines: a text in JSON may hold U+2028 and other characters that end lines elsewhere
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                entries.append(_parsed(line, location))
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} of {location!r} is not valid JSON: {error.msg}.") from error
            lines.append(number)
    return entries, lines


def _parsed(text: str, location: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"source={location!r} has an entry with several values of {_repeated(names)!r}.")
        return found

    return json.loads(text, object_pairs_hook=unique)


def _repeated(names: Sequence[str]) -> str:
    return next(name for name in names if names.count(name) > 1)


def _parquet_table(content: bytes, location: str, only_paths: bool) -> Table:
    try:
        import pyarrow.lib
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError('Reading Parquet needs pyarrow: pip install "hf-ast[corpus]"') from error

    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
        names = file.schema_arrow.names
        column = [path_column(names, location)] if only_paths else None
        rows = file.read(columns=column).to_pylist()
    except (pyarrow.lib.ArrowException, OSError) as error:
        raise ValueError(f"source={location!r} cannot be read as Parquet: {error}") from error
    if len(set(names)) < len(names):
        raise ValueError(f"source={location!r} has several columns {_repeated(names)!r}; rename or remove them.")
    lines = list(range(1, len(rows) + 1))
    return Table(location=location, columns=list(names), rows=rows, lines=lines, unit="entry")
