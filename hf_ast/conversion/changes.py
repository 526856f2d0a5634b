"""Fields of the config and the feature extractor in which a fine-tuned file differs from its registry entry."""

import dataclasses
import difflib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint


def split_changes(checkpoint: Checkpoint, changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split changes into those of the config and those of the feature extractor.

    A field of both, such as `max_length`, is in both results. Any one of `id2label`, `label2id` and `num_labels`
    determines the others, which are added. Values are returned as JSON would hold them, so that they compare equal to
    those that an earlier conversion recorded.

    Raises:
        ValueError: A name is a field of neither (the message suggests similar names), a numeric field of the feature
            extractor is not a number, or the labels contradict each other.
    """
    config_class, feature_extractor_class = checkpoint.config_class, checkpoint.feature_extractor_class
    config_fields = {field.name for field in dataclasses.fields(config_class)} | {"num_labels"}
    parameters = inspect.signature(feature_extractor_class).parameters
    front_end_fields = parameters.keys() - {"kwargs"}
    for name in changes:
        if name not in config_fields | front_end_fields:
            close = difflib.get_close_matches(name, sorted(config_fields | front_end_fields))
            hint = f" Similar: {', '.join(close)}." if close else ""
            raise ValueError(
                f"changes has {name!r}, which is not a field of {config_class.__name__} or "
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
    """List the names of labels by number, from a list or from a mapping in either direction.

    Raises:
        ValueError: The numbers are not 0, 1, 2, ..., or a name is empty or occurs twice.
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
            raise ValueError(f"Every label must be a distinct name, but {name!r} is empty, not text, or used twice.")
    return labels


def read_labels(file: Path) -> dict[int, str]:
    """Read labels from a file, by number.

    Args:
        file: Text with one name per line, in the order of the logits; or JSON with a list of names, a mapping from
            numbers to names, or one from names to numbers.

    Raises:
        ValueError: The file holds something else, a name occurs twice, or a number is missing.
    """
    text = file.read_text(encoding="utf-8").strip()
    try:
        labels = json.loads(text) if text[:1] in ("[", "{") else [line.strip() for line in text.splitlines()]
        return dict(enumerate(_names_in_order(labels)))
    except ValueError as error:
        raise ValueError(f"labels={str(file)!r}: {error}") from error


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Parse strings of the form FIELD=VALUE. A value that is not JSON is taken as a string.

    Raises:
        ValueError: A string has no "=".
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
