"""Manifests: the bytes of a table -> a path and the other columns for each row."""

import csv
import io
import json
import posixpath
from collections.abc import Sequence
from typing import Any

MANIFEST_SUFFIXES = frozenset((".csv", ".tsv", ".json", ".jsonl", ".parquet"))
# Names of the column of paths; the last three are those of `datasets`, ESC-50 and the official AST code
PATH_COLUMNS = ("path", "file", "audio", "file_name", "filename", "wav")


def manifest_rows(content: bytes, location: str, *, only_paths: bool = False) -> list[tuple[str, dict[str, Any]]]:
    """Return the path in each row of a manifest, with the other columns of the row.

    Args:
        content: The bytes of the manifest.
        location: Its path or URL, whose suffix says its format.
        only_paths: Whether the other columns need not be read from Parquet.

    Raises:
        ValueError: It is damaged, has no column of paths, or a row has no path.
    """
    suffix = suffix_of(location)
    if suffix == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.ParquetFile(io.BytesIO(content))
        column = path_column(table.schema_arrow.names, location)
        entries = table.read(columns=[column] if only_paths else None).to_pylist()
    elif suffix in (".csv", ".tsv"):
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
        entries = list(csv.DictReader(text, delimiter="\t" if suffix == ".tsv" else ","))
    else:
        entries = _json_entries(content.decode("utf-8-sig"), location)
    rows = []
    for number, entry in enumerate(entries):
        others = dict(entry) if isinstance(entry, dict) else {PATH_COLUMNS[0]: entry}
        value = others.pop(path_column(list(others), location))
        if not isinstance(value, str) or not value:
            raise ValueError(f"source={location!r} has {value!r} instead of a path in its entry {number}.")
        rows.append((value, others))
    return rows


def _json_entries(text: str, location: str) -> list[Any]:
    """Entries of JSON lines, or of a JSON array of paths or objects, which may be the `data` of an object."""
    try:
        if suffix_of(location) == ".jsonl":
            entries = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            try:
                entries = json.loads(text)
            except json.JSONDecodeError:  # NeMo and others write lines into files with this suffix
                entries = [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise ValueError(f"source={location!r} is not valid JSON: {error}.") from error
    if isinstance(entries, dict) and isinstance(entries.get("data"), list):  # as the official AST code writes them
        entries = entries["data"]
    if not isinstance(entries, list):
        raise ValueError(f"source={location!r} holds a {type(entries).__name__} instead of a list of recordings.")
    return entries


def path_column(columns: Sequence[Any], location: str) -> str:
    """Return the name of the column of paths, or raise a ValueError if there is none."""
    for name in PATH_COLUMNS:
        if name in columns:
            return name
    raise ValueError(f"source={location!r} has the columns {list(columns)}, but none of {PATH_COLUMNS}.")


def suffix_of(location: str) -> str:
    """Return the suffix of a path or URL in lower case, such as ".csv"."""
    return posixpath.splitext(location)[1].lower()
