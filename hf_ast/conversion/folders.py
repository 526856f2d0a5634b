"""Convert a checkpoint file to a folder that `from_pretrained` opens, completely or not at all."""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, StrictDataclassError
from transformers import PreTrainedConfig, SequenceFeatureExtractor

import hf_ast
from hf_ast.whole import whole_file, whole_folder, written_with_os_errors

from .assumptions import find_assumptions, with_heads
from .changes import split_changes
from .checkpoint import Checkpoint, file_name
from .containers import HEADS_OF, Unwrapped, unwrap
from .convert import build_model, in_float32, layouts_of
from .files import CheckpointFile, as_checkpoint_file, is_plain, sha256
from .heads import head_labels
from .layouts import Layout

# File that records the origin of a folder, and the result of `verify_folder`
PROVENANCE = "conversion.json"
WEIGHTS = "model.safetensors"
READ_SUFFIXES = (".bin", ".json", ".py", ".safetensors")


@dataclass(frozen=True)
class Plan:
    """What a conversion of a file makes: its tensors, the config, and what of it no tensor tells.

    Args:
        found: Tensors of the file, and what was unwrapped and left out.
        config: Config of the model.
        front_end: Feature extractor of the model.
        assumed: What no tensor tells; see `assumptions.find_assumptions`. Nothing for a released file, of which it is
            published.
    """

    found: Unwrapped
    config: PreTrainedConfig
    front_end: SequenceFeatureExtractor
    assumed: Mapping[str, Mapping[str, Any]]


def plan_conversion(
    file: CheckpointFile, checkpoint: Checkpoint, origin: Mapping[str, Any], weights: str | None
) -> Plan:
    """Find the tensors in a file, and the settings that belong to them.

    Args:
        file: The file.
        checkpoint: Entry of the registry for the file, or for a released file of the same kind.
        origin: Record of the conversion, with `changes`, `front_end_changes` and `source`.
        weights: As in `convert_file`.

    Raises:
        ValueError: As in `convert_file`.
    """
    changes, front_end_changes = origin["changes"], origin.get("front_end_changes", {})
    found = read_tensors(file, layouts_of(checkpoint.config_class()), weights)
    if not found.layout.model_class.__name__.endswith(tuple(HEADS_OF)):
        checkpoint = dataclasses.replace(checkpoint, label_set=None)
    checkpoint = dataclasses.replace(checkpoint, front_end={**checkpoint.front_end, **front_end_changes})
    try:
        config = checkpoint.build_config(**{**head_labels(found), **changes})
    except StrictDataclassError as error:  # is not a ValueError
        raise ValueError(f"changes={changes} do not fit: {' '.join(str(error).split())}") from error
    front_end = checkpoint.build_feature_extractor(**{"min_length": config.min_frames} | front_end_changes)
    given = origin.get("given", ())
    assumed: Mapping[str, Mapping[str, Any]] = {}
    if given or not is_released(checkpoint, origin["source"]):
        assumed = find_assumptions(checkpoint, found.layout, config, front_end, given)
    return Plan(found, config, front_end, assumed)


def read_tensors(file: CheckpointFile, layouts: Sequence[Layout], weights: str | None = None) -> Unwrapped:
    """Find the tensors of a model in a file, as `containers.unwrap` does, and check that they are whole and finite.

    Returns:
        What was found, its tensors in float32 as in the official files.

    Raises:
        ValueError: As by `containers.unwrap`, or a tensor has fewer values in the file than its shape says, values of
            another kind than floating-point numbers, or a value that is not finite; the message names it.
    """
    found = unwrap(file.content, layouts, weights)
    for name, tensor in found.tensors.items():
        if not is_plain(tensor):
            raise ValueError(
                f"file={str(file.path)!r} is not a checkpoint as training code saves it: the tensor {name!r} is a "
                f"{tensor.layout} {type(tensor).__name__} of shape {tuple(tensor.shape)} on {tensor.device}, with "
                "fewer values in the file than it claims to have."
            )
    tensors = in_float32(found.tensors, found.layout)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(
                f"file={str(file.path)!r} is damaged: the tensor {name!r} holds values that are not finite."
            )
    return dataclasses.replace(found, tensors=tensors)


def convert_file(
    file: Path | CheckpointFile,
    checkpoint: Checkpoint,
    out: Path,
    *,
    url: str | None = None,
    changes: Mapping[str, Any] | None = None,
    weights: str | None = None,
) -> Path:
    """Convert an official file into a folder with weights, config, front end, code and provenance.

    Args:
        file: File in any known layout, or what a trainer saved around it; see `containers.unwrap`.
        checkpoint: Entry of the registry for the file, or for a released file of the same kind.
        out: Folder to make. A folder from an earlier conversion is kept if it already holds the same conversion, and
            replaced otherwise. Any other existing folder is an error, and so is one that was changed since.
        url: Where the file was downloaded from.
        changes: Fields of the config and of the feature extractor that differ from the registry's, for a file that
            was fine-tuned with other labels, statistics or geometry. Another `hidden_size` brings the official number
            of heads with it.
        weights: Which weights to take, where the file has several: "average", "raw", or the container of one set.

    Returns:
        `out`.

    Raises:
        ValueError: The file is damaged, without tensors, in an unknown layout or of another checkpoint; a tensor is
            not finite; `weights` must choose; a change names no field or has an invalid value; `out` must not be
            replaced.
        OSError: The folder cannot be written, for example because the disk is full. Nothing incomplete is left.
    """
    config_changes, front_end_changes = split_changes(checkpoint, changes or {})
    file = as_checkpoint_file(file)
    origin = describe_conversion(
        checkpoint, with_heads(checkpoint, config_changes), front_end_changes, weights, given=changes or {}
    ) | {"source": describe_file(file, url)}
    if out.exists() and _holds(out, origin):
        return out
    plan = plan_conversion(file, checkpoint, origin, weights)
    model = build_model(plan.found, plan.config)
    origin |= {"unwrapped": plan.found.to_json(), "assumed": json.loads(json.dumps(plan.assumed))}
    with whole_folder(out) as folder:
        with written_with_os_errors(out):
            model.save_pretrained(folder)
        # safetensors makes the file readable by its owner only
        (folder / WEIGHTS).chmod((folder / "config.json").stat().st_mode)
        plan.front_end.save_pretrained(folder)
        write_provenance(folder, origin | {"files": file_digests(folder)})
    return out


def describe_file(file: CheckpointFile, url: str | None) -> dict[str, Any]:
    """Return the name, origin, digest and size of a file, and the digests of its parts if it has several."""
    source = {"file": file.path.name, "url": url, "sha256": file.sha256, "num_bytes": file.num_bytes}
    return source if len(file.parts) == 1 else source | {"parts": file.digests}


def is_released(checkpoint: Checkpoint, source: Mapping[str, Any]) -> bool:
    """Whether a source is the released file itself: its URL or name is known, and its digest matches."""
    named = source["url"] in checkpoint.urls or source["file"] in {file_name(url) for url in checkpoint.urls}
    return named and source["sha256"].startswith(checkpoint.sha256)


def _holds(out: Path, origin: Mapping[str, Any]) -> bool:
    """Whether an existing folder already holds this conversion. One that must not be replaced is an error."""
    if not (out / PROVENANCE).is_file():
        raise ValueError(f"out={str(out)!r} exists and was not made by a conversion; give another folder.")
    earlier = read_provenance(out)
    changed = changed_files(out, earlier)
    if lost := [name for name in changed if (out / name).exists()]:
        raise ValueError(
            f"out={str(out)!r} was changed after its conversion ({', '.join(lost)}); give another folder, or remove "
            "this one."
        )
    return not changed and origin.items() <= earlier.items()


def describe_conversion(
    checkpoint: Checkpoint,
    changes: Mapping[str, Any] | None = None,
    front_end_changes: Mapping[str, Any] | None = None,
    weights: str | None = None,
    *,
    given: Iterable[str] = (),
) -> dict[str, Any]:
    """Return all that a conversion depends on besides the file: the registry entry, the changes and our version.

    Args:
        checkpoint: Entry of the registry.
        changes, front_end_changes: What differs from the entry.
        weights: Which weights of the file were asked for.
        given: Names of the changes that were not derived from others.
    """
    entry = {
        "config": dict(checkpoint.config),
        "front_end": dict(checkpoint.front_end),
        "label_set": checkpoint.label_set,
    }
    return {
        "checkpoint": checkpoint.name,
        "entry": json.loads(json.dumps(entry)),  # as it is when read back
        "changes": dict(changes or {}),
        "front_end_changes": dict(front_end_changes or {}),
        "given": sorted(given),
        "weights": weights,
        "hf_ast": hf_ast.__version__,
    }


def file_digests(folder: Path) -> dict[str, str]:
    """Return the digests of `digested_files`, by their names."""
    return {name: sha256(folder / name) for name in digested_files(folder)}


def digested_files(folder: Path) -> list[str]:
    """List all files that `from_pretrained` may read: weights, settings and code."""
    names = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.suffix in READ_SUFFIXES)
    return [
        name.as_posix()
        for name in names
        if name.name != PROVENANCE and not any(part.startswith(".") for part in name.parts)
    ]


def changed_files(folder: Path, provenance: Mapping[str, Any]) -> list[str]:
    """List the files for `from_pretrained` that were changed, added or removed since the conversion."""
    recorded, found = provenance.get("files", {}), file_digests(folder)
    return sorted(name for name in recorded.keys() | found.keys() if recorded.get(name) != found.get(name))


def read_provenance(folder: Path) -> dict[str, Any]:
    """Read what `convert_file` and `verify_folder` recorded about a folder.

    Raises:
        ValueError: The folder was not made by a conversion, or its record is damaged.
    """
    path = folder / PROVENANCE
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"folder={str(folder)!r} has no {PROVENANCE}: `hf-ast convert` makes one.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is damaged: it is not JSON ({type(error).__name__}).") from error
    source = content.get("source") if isinstance(content, dict) else None
    # A file of no known address has the URL None
    kinds = {"file": str, "sha256": str, "url": str | None}
    if (
        not isinstance(source, dict)
        or not isinstance(content.get("checkpoint"), str)
        or not all(name in source and isinstance(source[name], kind) for name, kind in kinds.items())
    ):
        raise ValueError(
            f"{str(path)!r} is damaged: it does not name a checkpoint, and the file, url and sha256 of a source; "
            "convert the file again."
        )
    return content


def find_provenance(path: str | os.PathLike[str], **hub: Any) -> dict[str, Any] | None:
    """Read the record of a folder or Hub id; None if there is none, or the local cache lacks it without a network.

    Args:
        path: Folder or Hub id.
        hub: `revision` and `token`, if given.

    Raises:
        ValueError: The record is damaged.
    """
    folder = Path(path)
    if not folder.is_dir():
        try:
            folder = Path(hf_hub_download(os.fspath(path), PROVENANCE, **hub)).parent
        except EntryNotFoundError:
            return None
    return read_provenance(folder) if (folder / PROVENANCE).is_file() else None


def write_provenance(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the record of a folder atomically."""
    write_json(folder / PROVENANCE, content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
