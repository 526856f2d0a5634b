"""Configs of transformers' own AST, read as ours: for AST itself, for MAEST, and for ports of SSAST."""

import json
import os
import re
from pathlib import Path
from typing import Any

from transformers.utils import logging
from transformers.utils.hub import cached_file

logger = logging.get_logger(__name__)

# The model type of transformers' own AST
NATIVE_MODEL_TYPE = "audio-spectrogram-transformer"
# What a config of that type has where it names no other value, and what its official code was trained with
NATIVE_DEFAULTS: dict[str, Any] = {"frequency_stride": 10, "time_stride": 10, "layer_norm_eps": 1e-12}
OFFICIAL_EPSILONS = {"layer_norm_eps": 1e-6, "head_layer_norm_eps": 1e-5}
# Official models in that layout on the Hub. Their weights were trained by other code, with the epsilons above
OFFICIAL_IDS = (
    "MIT/ast-finetuned-audioset-10-10-0.4593",
    "MIT/ast-finetuned-audioset-10-10-0.450",
    "MIT/ast-finetuned-audioset-10-10-0.448",
    "MIT/ast-finetuned-audioset-10-10-0.448-v2",
    "MIT/ast-finetuned-audioset-12-12-0.447",
    "MIT/ast-finetuned-audioset-14-14-0.443",
    "MIT/ast-finetuned-audioset-16-16-0.442",
    "MIT/ast-finetuned-speech-commands-v2",
    "mtg-upf/discogs-maest-5s-pw-129e",
    "mtg-upf/discogs-maest-10s-fs-129e",
    "mtg-upf/discogs-maest-10s-dw-75e",
    "mtg-upf/discogs-maest-10s-pw-129e",
    "mtg-upf/discogs-maest-20s-pw-129e",
    "mtg-upf/discogs-maest-30s-pw-129e",
    "mtg-upf/discogs-maest-30s-pw-129e-519l",
    "mtg-upf/discogs-maest-30s-pw-73e-ts",
)
AUDIOSET_NUM_LABELS, SPEECH_COMMANDS_NUM_LABELS = 527, 35
# The 400 or 519 styles of Discogs that MAEST knows are all written "Genre---Style"
DISCOGS_NUM_LABELS, DISCOGS_SEPARATOR = (400, 519), "---"
LARGEST_LABEL = 10**6
# Of a safetensors file
LONGEST_HEADER = 10**8
HUB_ARGUMENTS = (
    "cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token",
)  # fmt: skip


def native_settings(
    native: dict[str, Any], name: str | os.PathLike[str], overrides: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return a config of transformers' own AST as fields of ours.

    Its layer-norm epsilon, which is that of all norms, stays: the weights were trained with it. The official models
    (`OFFICIAL_IDS`) were not; they get the official values. A model with AudioSet's 527 labels, or with the styles of
    Discogs, becomes multi-label, which the published configs do not say, so that the pipeline applies a sigmoid.

    Args:
        native: Content of config.json.
        name: Folder or Hub id that it was read from.
        overrides: Fields that the caller sets. A `layer_norm_eps` among them is that of all norms, too.
    """
    dropped = ("model_type", "architectures", "transformers_version")
    values = NATIVE_DEFAULTS | {field: value for field, value in native.items() if field not in dropped}
    overrides = overrides or {}
    if official_id(name) is not None:
        values |= OFFICIAL_EPSILONS
    else:
        values["head_layer_norm_eps"] = values["layer_norm_eps"]
        if not overrides.keys() & OFFICIAL_EPSILONS.keys():
            _warn_of_copies(values, name)
    if "layer_norm_eps" in overrides:
        values["head_layer_norm_eps"] = overrides["layer_norm_eps"]
    if values.get("problem_type") is None and _is_multi_label(values.get("id2label")):
        values["problem_type"] = "multi_label_classification"
    return values


def official_id(name: str | os.PathLike[str]) -> str | None:
    """Return the id of the official model that a Hub id, or a folder of the Hub's cache, stands for; None otherwise.

    Other folders are not recognised: nothing in a copy tells it from a model that was fine-tuned from the original.
    """
    text = os.fspath(name)
    if os.path.isdir(text):
        cached = re.search(
            r"models--([^/\\]+?)--([^/\\]+)[/\\]snapshots[/\\]", os.path.join(os.path.abspath(text), "")
        )
        if cached is None:
            return None
        text = f"{cached[1]}/{cached[2]}"
    return {known.lower(): known for known in OFFICIAL_IDS}.get(text.lower())


def read_labels(values: dict[str, Any], name: str | os.PathLike[str], hub: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a config.json with labels for the outputs 0, 1, 2, ..., as far as that can be known.

    Names that are numbers become text, and missing names "LABEL_0" and so on. Where the numbers have gaps or begin
    with 1, the outputs get the labels in the order of the numbers, as transformers counts them, unless the head has
    an output for each number up to the largest. Where there are no labels at all, the head says how many there are.
    What was assumed is logged as a warning. Anything else is left as it is, for the config to refuse.

    Args:
        values: Content of config.json.
        name: Folder or Hub id that it was read from.
        hub: Arguments for downloads from the Hub.
    """
    if "id2label" not in values:
        return values
    names = values["id2label"]
    if names is None:
        rows = None if values.get("num_labels") else _num_outputs(name, hub)
        labels = {str(index): f"LABEL_{index}" for index in range(rows or 0)}
        return values if rows is None else _with_labels(values, labels)
    if not isinstance(names, dict) or not names or not all(_is_number(key) for key in names):
        return values
    by_number = {int(key): _as_label(int(key), label) for key, label in names.items()}
    if len(by_number) != len(names) or not all(isinstance(label, str) for label in by_number.values()):
        return values
    if sorted(by_number) == list(range(len(by_number))):
        labels = {str(index): by_number[index] for index in sorted(by_number)}
        return values if labels == names else _with_labels(values, labels)
    largest = max(by_number)
    if largest >= LARGEST_LABEL:
        return values
    if _num_outputs(name, hub) == largest + 1:
        labels = {str(index): by_number.get(index, f"LABEL_{index}") for index in range(largest + 1)}
        assumed = "the numbers between are called LABEL_0 and so on, because the head has an output for each"
    else:
        labels = {str(index): by_number[number] for index, number in enumerate(sorted(by_number))}
        assumed = "its outputs are taken to be in the order of these numbers"
    logger.warning_once(
        f"id2label of {os.fspath(name)!r} numbers {len(by_number)} labels from {min(by_number)} to {largest}, not "
        f"from 0 to {len(by_number) - 1}; {assumed}. Check that the names fit."
    )
    return _with_labels(values, labels)


def _with_labels(values: dict[str, Any], labels: dict[str, str]) -> dict[str, Any]:
    return values | {"id2label": labels, "label2id": {label: int(index) for index, label in labels.items()}}


def _is_number(key: Any) -> bool:
    return str(key).isascii() and str(key).isdigit() and len(str(key)) < 20


def _as_label(number: int, label: Any) -> Any:
    """A name for a label that JSON gives as a number or as null."""
    if label is None:
        return f"LABEL_{number}"
    return str(label) if isinstance(label, int | float) and not isinstance(label, bool) else label


def _is_multi_label(names: Any) -> bool:
    if not isinstance(names, dict):
        return False
    if len(names) == AUDIOSET_NUM_LABELS:
        return True
    return len(names) in DISCOGS_NUM_LABELS and all(DISCOGS_SEPARATOR in str(label) for label in names.values())


def _warn_of_copies(values: dict[str, Any], name: str | os.PathLike[str]) -> None:
    """Say what to do if a folder is a copy of an official one, which nothing in it tells."""
    names = values.get("id2label") or ()
    if values["layer_norm_eps"] == NATIVE_DEFAULTS["layer_norm_eps"] and len(names) in (
        AUDIOSET_NUM_LABELS,
        SPEECH_COMMANDS_NUM_LABELS,
    ):
        logger.warning_once(
            f"{os.fspath(name)!r} keeps the layer_norm_eps={values['layer_norm_eps']:g} of its config.json, with "
            "which transformers trains. If it is a copy of an official model (MIT/ast-finetuned-*), open that by its "
            "id, or pass layer_norm_eps=1e-6, head_layer_norm_eps=1e-5, with which those were trained."
        )


def _num_outputs(name: str | os.PathLike[str], hub: dict[str, Any]) -> int | None:
    """Outputs of the classifier in the weights of a folder or Hub id, read from their header; None if unknown."""
    index = _stored_file(name, "model.safetensors.index.json", hub)
    weights = "model.safetensors"
    try:
        if index is not None:
            shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            weights = next((shard for key, shard in shards.items() if _is_head_bias(key)), weights)
        file = _stored_file(name, weights, hub) if weights == os.path.basename(weights) else None
        if file is None:
            return None
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if length <= LONGEST_HEADER else {}
        return next((int(entry["shape"][0]) for key, entry in header.items() if _is_head_bias(key)), None)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):  # damaged, which loading the weights reports
        return None


def _is_head_bias(key: str) -> bool:
    return key in ("classifier.dense.bias", "classifier.linear.bias")


def _stored_file(name: str | os.PathLike[str], file: str, hub: dict[str, Any]) -> Path | None:
    arguments = {key: value for key, value in hub.items() if key in HUB_ARGUMENTS}
    found = cached_file(
        name,
        file,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_connection_errors=False,
        **arguments,
    )
    return None if found is None else Path(found)
