"""Values of tables and names of folders -> labels; where it is not certain what they mean, an error asks."""

import ast
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .columns import folded, is_missing, number_in
from .tables import Table

DEFAULT_SEPARATOR = ";"
# Below this share of recordings with several labels, the separator may be a part of a name, or a row a mistake
FEW = 0.05
# What programs write for a missing value, but what may also be the name of a class
MISSING = frozenset(("nan", "NaN", "NAN", "NA", "N/A", "n/a", "#N/A", "<NA>", "null", "NULL", "None"))


class Value(NamedTuple):
    """What stands in a column of labels, and where it stands."""

    value: Any
    where: str


def normalized(label: str) -> str:
    """Return a label in Unicode's NFC form: file systems store an umlaut as one or as two code points."""
    return unicodedata.normalize("NFC", label).strip()


def label_of(value: Any) -> str:
    """Return the name of the class that a single value stands for.

    Numbers and truth values have one name, whatever type they have in a file: 1, 1.0, "1" and "1.0" are "1"; True,
    "True" and "TRUE" are "true".
    """
    if isinstance(value, bool):
        return str(value).lower()
    text = normalized(str(value))
    if text in ("True", "TRUE", "False", "FALSE"):
        return text.lower()
    whole, point, zeros = text.partition(".")
    if point and whole.removeprefix("-").isdecimal() and zeros and not zeros.strip("0"):
        return whole
    return text


def labels_in(value: Any, separator: str | None, missing: str | None = None) -> tuple[str, ...]:
    """Return the labels in a value of a table, each once.

    Args:
        value: One label, a list of labels, or text with several labels.
        separator: Separator of several labels in a text; "" if every text is one label.
        missing: Text that stands for no label.
    """
    if isinstance(value, list | tuple):
        values: Iterable[Any] = value
    elif hasattr(value, "tolist"):
        values = [value.tolist()]
    elif isinstance(value, str) and separator:
        values = _literal(value) if separator == "," and _is_literal(value) else value.split(separator)
    else:
        values = [value]
    found = (label_of(one) for one in values if not is_missing(one))
    return tuple(dict.fromkeys(label for label in found if label and label != missing))


def expect_clear(values: Sequence[Value], separator: str | None, missing: str | None, *, multi_label: bool) -> None:
    """Raise a ValueError, which shows the case and the options, if it is not certain which labels texts stand for.

    Args:
        values: The values of a column.
        separator: What the user said; None if nothing.
        missing: Text that stands for no label, as the user said it; None if nothing.
        multi_label: Whether the user said that a recording may have several labels.
    """
    texts = [value for value in values if isinstance(value.value, str) and value.value.strip()]
    if missing is None:
        for value in texts:
            if value.value.strip() in MISSING:
                text = value.value.strip()
                raise ValueError(
                    f"{value.where} has the label {text!r}. Is it missing? Then missing_label={text!r} "
                    f"(--missing-label {text!r}). Is it a class? Then missing_label='' (--missing-label '')."
                )
    if separator is not None:
        return
    for value in texts:
        if _is_literal(value.value):
            raise _several(value, ",")
    split = [value for value in texts if DEFAULT_SEPARATOR in value.value]
    if split:
        if len(split) < FEW * len(texts) and not multi_label:
            raise _several(split[0], DEFAULT_SEPARATOR, f"{len(split)} of {len(texts)} texts have one")
        return
    for mark in ",|":
        for value in texts:
            if mark in value.value:
                raise _several(value, mark)


def expect_clear_folders(names: Sequence[str], separator: str | None) -> None:
    """Raise a ValueError if the name of a folder, such as "owl,wren", looks like several labels.

    A comma with a space behind it is a part of a name, as in "Male speech, man speaking", unless what is between the
    commas is the name of another class.
    """
    if separator is not None:
        return
    for name in names:
        for mark in ",|;":
            parts = [part.strip() for part in name.split(mark)]
            if len(parts) > 1 and (f"{mark} " not in name or any(part in names for part in parts)):
                raise _several(Value(name, "the folder of a class"), mark)


def _several(value: Value, mark: str, why: str = "") -> ValueError:
    parts = labels_in(value.value, mark)
    return ValueError(
        f"{value.where} has the label {value.value!r:.200}{f' ({why})' if why else ''}. Are these several labels, "
        f"{list(parts)[:5]}? Then label_separator={mark!r} (--label-separator {mark!r}). Is it one? Then "
        "label_separator='' (--label-separator '')."
    )


def expect_many(several: Sequence[str], number: int) -> None:
    """Raise a ValueError if so few recordings have several rows with different labels that it may be a mistake."""
    if several and len(several) < FEW * number:
        raise ValueError(
            f"{len(several)} of {number} recordings have rows with different labels, such as {several[0]!r}. May a "
            "recording have several labels? Then multi_label=True (--multi-label). If it has one, correct these rows."
        )


def _is_literal(text: str) -> bool:
    """Whether a text looks like a list that Python, NumPy or JSON wrote."""
    text = text.strip()
    return (text[:1], text[-1:]) in (("[", "]"), ("{", "}")) or (text.startswith(("('", '("')) and text.endswith(")"))


def _literal(text: str) -> list[Any]:
    try:
        return list(ast.literal_eval(text.strip()))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return [part.strip(" '\"") for part in text.strip().strip("[](){}").split(",")]


def names_in(table: Table) -> dict[str, str]:
    """Return the names of classes by their ids and numbers, from a table such as `class_labels_indices.csv`.

    Raises:
        ValueError: It has no columns `mid` (or `id`) and `display_name` (or `name`).
    """
    columns = {folded(name): name for name in table.columns}
    name = next((columns[one] for one in ("display_name", "name", "label") if one in columns), None)
    keys = [columns[one] for one in ("mid", "id", "index") if one in columns]
    if name is None or not keys:
        raise ValueError(
            f"label_names={table.location!r} has the columns {table.columns}, but needs `mid` or `index`, and "
            "`display_name`."
        )
    found: dict[str, str] = {}
    for row in table.rows:
        for key in keys:
            found.setdefault(label_of(row[key]), normalized(str(row[name])))
    return found


def named(labels: Sequence[str], names: Mapping[str, str], where: str) -> tuple[str, ...]:
    """Return the names of ids, or raise a ValueError for an id without one."""
    known = set(names.values())
    for label in labels:
        if label not in names and label not in known:
            raise ValueError(f"{where} has the label {label!r}, which has no name in the table of names.")
    return tuple(dict.fromkeys(names.get(label, label) for label in labels))


def is_id(label: str) -> bool:
    """Whether a label is an id of AudioSet's ontology, such as "/m/04rlf"."""
    return label.startswith(("/m/", "/t/", "/g/"))


def is_positive(value: Any, threshold: float = 0.5) -> bool:
    """Whether a rating, such as the relevance in OpenMIC, is high enough for a label."""
    number = number_in(value)
    return number is not None and number >= threshold
