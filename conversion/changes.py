"""What a fine-tuned file changes in what the registry says of the checkpoint that it is like."""

import dataclasses
import difflib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .checkpoint import FAMILIES, Checkpoint


def split_changes(checkpoint: Checkpoint, changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Changes of the config, and of the feature extractor; what both have, as `max_length`, goes to both.

    Each of `id2label`, `label2id` and `num_labels` alone brings the others with it. Values are as JSON holds them, so
    that a conversion can be compared with what an earlier one wrote down.

    Raises:
        ValueError: A name is a field of neither; the message names what comes close. A field of the feature extractor
            is no number. The labels contradict each other.
    """
    config_class, feature_extractor_class = FAMILIES[checkpoint.family]
    config_fields = {field.name for field in dataclasses.fields(config_class)} | {"num_labels"}
    parameters = inspect.signature(feature_extractor_class).parameters
    front_end_fields = parameters.keys() - {"kwargs"}
    for name in changes:
        if name not in config_fields | front_end_fields:
            close = difflib.get_close_matches(name, sorted(config_fields | front_end_fields))
            hint = f" Close: {', '.join(close)}." if close else ""
            raise ValueError(
                f"changes has {name!r}, which is no field of {config_class.__name__} or "
                f"{feature_extractor_class.__name__}.{hint}"
            )
    for name in changes.keys() & front_end_fields:  # the config checks its own fields
        if isinstance(parameters[name].default, int | float) and not isinstance(changes[name], int | float):
            raise ValueError(f"changes has {name}={changes[name]!r}, which must be a number, or true or false.")
    changes = json.loads(json.dumps(_with_all_label_fields(changes)))
    return (
        {name: value for name, value in changes.items() if name in config_fields},
        {name: value for name, value in changes.items() if name in front_end_fields},
    )


def _with_all_label_fields(changes: Mapping[str, Any]) -> dict[str, Any]:
    if not changes.keys() & {"num_labels", "id2label", "label2id"}:
        return dict(changes)
    num_labels = changes.get("num_labels")
    if num_labels is not None and (not isinstance(num_labels, int) or num_labels < 1):
        raise ValueError(f"num_labels={num_labels!r} must be a positive number.")
    unnamed = [f"LABEL_{index}" for index in range(num_labels or 0)]
    names = _names_in_order(changes.get("id2label") or changes.get("label2id") or unnamed)
    if num_labels not in (None, len(names)):
        raise ValueError(f"num_labels={num_labels}, but there are {len(names)} labels.")
    label2id = {name: index for index, name in enumerate(names)}
    return {**changes, "id2label": dict(enumerate(names)), "label2id": label2id, "num_labels": len(names)}


def _names_in_order(labels: Any) -> list[str]:
    """Names from a list, or a mapping from or to their numbers.

    Raises:
        ValueError: The numbers are not 0, 1, 2 ..., or a name is empty or there twice.
    """
    if isinstance(labels, Mapping):
        from_names = all(isinstance(value, int) for value in labels.values())
        pairs = [(number, name) if from_names else (name, number) for name, number in labels.items()]
        try:
            by_number = {int(number): name for number, name in pairs}
        except (TypeError, ValueError) as error:
            raise ValueError(f"The labels must be numbered, but {error}.") from error
        if sorted(by_number) != list(range(len(pairs))):
            raise ValueError(f"The labels must be numbered 0 to {len(pairs) - 1}, each number once.")
        labels = [by_number[number] for number in range(len(pairs))]
    if not isinstance(labels, list) or not labels:
        raise ValueError("The labels must be names, one per line, or a list or mapping of them in JSON.")
    for name in labels:
        if not isinstance(name, str) or not name or labels.count(name) > 1:
            raise ValueError(f"Every label must be a name of its own, but {name!r} is empty, no text, or there twice.")
    return labels


def read_labels(file: Path) -> dict[int, str]:
    """Labels by number.

    Args:
        file: Names, one per line in the order of the logits; or JSON: a list of names, or a mapping from numbers to
            names, or from names to numbers.

    Raises:
        ValueError: It holds something else, a name twice, or a number is missing.
    """
    text = file.read_text(encoding="utf-8").strip()
    try:
        labels = json.loads(text) if text[:1] in ("[", "{") else [line.strip() for line in text.splitlines()]
        return dict(enumerate(_names_in_order(labels)))
    except ValueError as error:
        raise ValueError(f"labels={str(file)!r}: {error}") from error


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """FIELD=VALUE texts -> fields; a value is JSON, or else the text itself.

    Raises:
        ValueError: A text has no "=".
    """
    fields = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator:
            raise ValueError(f"--set {setting} must be FIELD=VALUE.")
        try:
            fields[name] = json.loads(value)
        except json.JSONDecodeError:
            fields[name] = value
    return fields
