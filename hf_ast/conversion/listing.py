"""Entries of the registry as rows of tables, and as data for JSON."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from .checkpoint import Checkpoint, label_names
from .downloads import recorded_digest

HEADER = ("name", "file", "labels", "metric", "licence")


def summary(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the row of a checkpoint in a table with `HEADER`."""
    metric = f"{checkpoint.metrics[0].name} {checkpoint.metrics[0].value:.4g}" if checkpoint.metrics else "-"
    return (checkpoint.name, checkpoint.file_name, checkpoint.label_set or "-", metric, checkpoint.license or "none")


def facts(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """Return all that the registry has about a checkpoint, as rows of a name (empty if it is repeated) and a value."""
    labels = "none: no classification head"
    if checkpoint.label_set is not None:
        labels = f"{checkpoint.label_set}: {len(label_names(checkpoint.label_set))} names"
    config: Any = checkpoint.build_config()
    front_end: Any = checkpoint.build_feature_extractor()
    patches = " x ".join(map(str, config.grid))
    statistics = f"mean {front_end.mean:.8g}, std {front_end.std:.8g}"
    values: list[tuple[str, Iterable[str]]] = [
        ("name", [checkpoint.name]),
        ("title", [checkpoint.title]),
        ("family", [checkpoint.family]),
        ("Hub id", [checkpoint.hub_id]),
        ("file", [checkpoint.file_name]),
        ("url", checkpoint.urls),
        ("page", checkpoint.pages),
        (
            "sha256",
            [checkpoint.sha256 or recorded_digest(checkpoint.file_name) or "not known before a first download"],
        ),
        ("also called", checkpoint.aliases),
        ("geometry", [f"{config.max_length} frames of {config.num_mel_bins} mel bins, {patches} patches"]),
        ("config", [_fields(checkpoint.config)]),
        ("front end", [f"{front_end.sampling_rate} Hz, {statistics}", _fields(checkpoint.front_end)]),
        ("labels", [labels]),
        ("metric", [f"{m.name} {m.value:.4g} on {m.dataset} ({m.source})" for m in checkpoint.metrics]),
        ("trained on", [", ".join(checkpoint.datasets)]),
        ("licence", [checkpoint.license or "none is stated", checkpoint.license_note]),
        ("not stated", checkpoint.remarks),
        ("code", [checkpoint.repository]),
        ("paper", [f"https://arxiv.org/abs/{checkpoint.paper}"]),
    ]
    return [(name if number == 0 else "", value) for name, of_name in values for number, value in enumerate(of_name)]


def as_data(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return all that the registry has about a checkpoint, as data for JSON."""
    data = {field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(checkpoint)}
    return data | {
        "config": dict(checkpoint.config),
        "front_end": dict(checkpoint.front_end),
        "metrics": [dataclasses.asdict(metric) for metric in checkpoint.metrics],
        "file_name": checkpoint.file_name,
        "hub_id": checkpoint.hub_id,
    }


def _fields(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in fields.items()) or "the family's defaults"
