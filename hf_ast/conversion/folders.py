"""Convert a checkpoint file to a folder that `from_pretrained` opens, completely or not at all."""

import hashlib
import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn

import hf_ast
from hf_ast.whole import whole_file, whole_folder, written_with_os_errors

from .changes import split_changes
from .checkpoint import Checkpoint
from .convert import convert_checkpoint, unwrapped

# File that records the origin of a folder, and the result of `verify_folder`
PROVENANCE = "conversion.json"
WEIGHTS = "model.safetensors"
READ_SUFFIXES = (".bin", ".json", ".py", ".safetensors")


def convert_file(
    file: Path, checkpoint: Checkpoint, out: Path, *, url: str | None = None, changes: Mapping[str, Any] | None = None
) -> Path:
    """Convert an official file into a folder with weights, config, front end, code and provenance.

    Args:
        file: Official file, in any known layout.
        checkpoint: Entry of the registry for the file, or for a released file of the same kind.
        out: Folder to make. A folder from an earlier conversion is kept if it already holds the same conversion, and
            replaced otherwise. Any other existing folder is an error, and so is one that was changed since.
        url: Where the file was downloaded from.
        changes: Fields of the config and of the feature extractor that differ from the registry's, for a file that
            was fine-tuned with other labels, statistics or geometry.

    Returns:
        `out`.

    Raises:
        ValueError: The file is damaged, not a state dict, in an unknown layout or of another checkpoint; a tensor is
            not finite; a change names no field or has an invalid value; `out` must not be replaced.
        OSError: The folder cannot be written, for example because the disk is full. Nothing incomplete is left.
    """
    config_changes, front_end_changes = split_changes(checkpoint, changes or {})
    origin = describe_conversion(checkpoint, config_changes, front_end_changes) | {
        "source": {"file": file.name, "url": url, "sha256": sha256(file), "num_bytes": file.stat().st_size},
    }
    if out.exists() and _holds(out, origin):
        return out
    try:
        config = checkpoint.build_config(**config_changes)
    except StrictDataclassError as error:  # is not a ValueError
        raise ValueError(f"changes={config_changes} do not fit: {' '.join(str(error).split())}") from error
    model = convert_checkpoint(read_state_dict(file), config)
    with whole_folder(out) as folder:
        with written_with_os_errors(out):
            model.save_pretrained(folder)
        # safetensors makes the file readable by its owner only
        (folder / WEIGHTS).chmod((folder / "config.json").stat().st_mode)
        checkpoint.build_feature_extractor(**front_end_changes).save_pretrained(folder)
        write_provenance(folder, origin | {"files": file_digests(folder)})
    return out


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
) -> dict[str, Any]:
    """Return all that a conversion depends on besides the file: the registry entry, the changes and our version."""
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
        "hf_ast": hf_ast.__version__,
    }


def file_digests(folder: Path) -> dict[str, str]:
    """Return the digests of all files that `from_pretrained` may read: weights, settings and code."""
    names = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.suffix in READ_SUFFIXES)
    return {
        name.as_posix(): sha256(folder / name)
        for name in names
        if name.name != PROVENANCE and not any(part.startswith(".") for part in name.parts)
    }


def changed_files(folder: Path, provenance: Mapping[str, Any]) -> list[str]:
    """List the files for `from_pretrained` that were changed, added or removed since the conversion."""
    recorded, found = provenance.get("files", {}), file_digests(folder)
    return sorted(name for name in recorded.keys() | found.keys() if recorded.get(name) != found.get(name))


_DAMAGED = "file={!r} is not a checkpoint of torch, or is damaged; download it again."


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """Read the tensors of an official file, as `unwrapped` returns them, memory-mapped where the format allows it.

    Raises:
        ValueError: The file is truncated or not a checkpoint, would run code, or holds a value that is not finite.
        OSError: The file cannot be read.
    """
    if not file.is_file():
        raise ValueError(f"file={str(file)!r} is not a regular file, but must be a checkpoint of torch.")
    zipped = _is_whole_zip(file)  # files from before torch 1.6 are not, and cannot be memory-mapped
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # damaged bytes can be any instruction of pickle, and raise anything
        code = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if code is not None:
            raise ValueError(
                f"file={str(file)!r} holds more than tensors: opening it would run {code[1]}. None of it was run; "
                "if you trust the file, open it yourself and save only its state dict."
            ) from error
        raise ValueError(_DAMAGED.format(str(file))) from error
    if not isinstance(content, Mapping):
        raise ValueError(f"file={str(file)!r} holds a {type(content).__name__}, but must hold a state dict.")
    tensors = unwrapped(content)
    for name, tensor in tensors.items():
        if not _is_plain(tensor):
            raise ValueError(
                f"file={str(file)!r} is not a checkpoint as training code saves it: the tensor {name!r} is a "
                f"{tensor.layout} {type(tensor).__name__} of shape {tuple(tensor.shape)} on {tensor.device}, with "
                "fewer values in the file than it claims to have."
            )
        if not torch.isfinite(tensor).all():
            raise ValueError(f"file={str(file)!r} is damaged: the tensor {name!r} holds values that are not finite.")
    return tensors


def _is_whole_zip(file: Path) -> bool:
    """Whether it is a zip archive, as torch writes them; one that is damaged, or larger when unpacked, is an error."""
    with file.open("rb") as stream:
        try:
            if not zipfile.is_zipfile(stream):
                return False
            with zipfile.ZipFile(stream) as archive:
                entries = archive.infolist()
                is_stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
                # Before it is unpacked: few bytes may stand for terabytes
                fits = is_stored and sum(entry.file_size for entry in entries) <= file.stat().st_size
                is_damaged = fits and archive.testzip() is not None
        # Names that cannot be decoded give ValueErrors, and offsets before the beginning give OSErrors
        except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError) as error:
            raise ValueError(_DAMAGED.format(str(file))) from error
    if is_damaged:
        raise ValueError(_DAMAGED.format(str(file)))
    if not fits:
        raise ValueError(
            f"file={str(file)!r} is a compressed archive, or claims to hold more than its size; torch writes "
            "checkpoints uncompressed. None of it was unpacked."
        )
    return True


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor has all of its values in memory, rather than none of them, or a few that it repeats."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout is not torch.strided or tensor.device.type != "cpu":
        return False
    return not tensor.is_quantized and tensor.nbytes <= tensor.untyped_storage().nbytes()


def sha256(file: Path) -> str:
    """Return the digest of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_provenance(folder: Path) -> dict[str, Any]:
    """Read what `convert_file` and `verify_folder` recorded about a folder.

    Raises:
        ValueError: The folder was not made by a conversion.
    """
    try:
        content: dict[str, Any] = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        return content
    except FileNotFoundError as error:
        raise ValueError(f"folder={str(folder)!r} has no {PROVENANCE}: `hf-ast convert` makes one.") from error


def write_provenance(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the record of a folder atomically."""
    write_json(folder / PROVENANCE, content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
