"""The registry for people."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .checkpoint import Checkpoint, label_names
from .downloads import recorded_digest


def align(rows: Sequence[Sequence[str]]) -> str:
    """Lines with columns of equal width; the last one is not padded."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def table(checkpoints: Iterable[Checkpoint]) -> str:
    """One line per checkpoint: name, file, labels, first metric, licence."""
    rows = [("name", "file", "labels", "metric", "licence")]
    for checkpoint in checkpoints:
        metric = f"{checkpoint.metrics[0].name} {checkpoint.metrics[0].value:.4g}" if checkpoint.metrics else "-"
        rows.append((checkpoint.name, checkpoint.file_name, checkpoint.label_set or "-", metric, checkpoint.license))
    return align(rows)


def describe(checkpoint: Checkpoint) -> str:
    """Everything that the registry says, one fact per line."""
    labels = "none: no classification head"
    if checkpoint.label_set is not None:
        labels = f"{checkpoint.label_set}: {len(label_names(checkpoint.label_set))} names"
    config, front_end = checkpoint.build_config(), checkpoint.build_feature_extractor()
    patches = " x ".join(map(str, config.grid))
    statistics = f"mean {front_end.mean:.8g}, std {front_end.std:.8g}"
    facts: list[tuple[str, Iterable[str]]] = [
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
        ("licence", [checkpoint.license, checkpoint.license_note]),
        ("code", [checkpoint.repository]),
        ("paper", [f"https://arxiv.org/abs/{checkpoint.paper}"]),
    ]
    rows = [(name if number == 0 else "", value) for name, values in facts for number, value in enumerate(values)]
    return align([("name", checkpoint.name), *rows])


def _fields(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in fields.items()) or "the family's defaults"
