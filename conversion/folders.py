"""A checkpoint file -> a folder that `from_pretrained` opens, or nothing at all."""

import hashlib
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

import hf_ast

from .checkpoint import Checkpoint
from .convert import convert_checkpoint, unwrapped

# What a folder says of its origin, and what `verify` found
PROVENANCE = "conversion.json"


def convert_file(
    file: Path, checkpoint: Checkpoint, out: Path, *, url: str | None = None, changes: Mapping[str, Any] | None = None
) -> Path:
    """Convert an official file into a folder with weights, config, front end, code and provenance.

    Args:
        file: In any official layout.
        checkpoint: What the file is, or what it is like.
        out: The folder to make. One that an earlier conversion made is replaced, and left as it is if it holds just
            this already; any other one is an error.
        url: Where the file came from.
        changes: Fields of the config that differ from the registry's, for a file that was fine-tuned with other labels
            or another geometry.

    Returns:
        `out`.

    Raises:
        ValueError: The file is broken, no state dict, in no known layout or not of this checkpoint; a tensor is not
            finite; `out` is somebody else's.
        OSError: The disk is full, for example. There is nothing half-made under `out`.
    """
    if out.exists() and not (out / PROVENANCE).is_file():
        raise ValueError(f"out={str(out)!r} exists and no conversion made it; give another folder.")
    changes = dict(changes or {})
    origin = {
        "checkpoint": checkpoint.name,
        "changes": changes,
        "hf_ast": hf_ast.__version__,
        "source": {"file": file.name, "url": url, "sha256": sha256(file), "num_bytes": file.stat().st_size},
    }
    if out.exists() and origin.items() <= read_provenance(out).items():
        return out
    model = convert_checkpoint(read_state_dict(file), checkpoint.build_config(**changes))
    length = {"max_length": changes["max_length"]} if "max_length" in changes else {}
    with whole_folder(out) as folder:
        model.save_pretrained(folder)
        checkpoint.build_feature_extractor(**length).save_pretrained(folder)
        write_provenance(folder, origin)
    return out


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """The tensors of an official file, not copied into memory but mapped, as `unwrapped` gives them.

    Raises:
        ValueError: The file is truncated or no checkpoint, would run code, or holds a value that is not finite.
        FileNotFoundError: There is no such file.
    """
    try:
        # Files from before torch 1.6 are no zip archives, and cannot be mapped
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"file={str(file)!r} holds more than tensors, and opening it could run code: {str(error).splitlines()[0]}"
        ) from error
    except (RuntimeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"file={str(file)!r} is no checkpoint, or truncated; download it again. ({error})") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"file={str(file)!r} holds a {type(content).__name__}, but must hold a state dict.")
    tensors = unwrapped(content)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"file={str(file)!r} is damaged: the tensor {name!r} holds values that are not finite.")
    return tensors


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A new folder to write to, which gets the name `out` when the block ends well, and vanishes when it does not."""
    out.parent.mkdir(parents=True, exist_ok=True)
    for left in out.parent.glob(f".{out.name}.partial-*"):  # by a process that was killed
        if not psutil.pid_exists(int(left.name.rpartition("-")[2])):
            shutil.rmtree(left)
    partial = out.parent / f".{out.name}.partial-{os.getpid()}"
    replaced = out.parent / f".{out.name}.replaced-{os.getpid()}"
    partial.mkdir()
    try:
        yield partial
        if out.exists():
            out.rename(replaced)
        partial.rename(out)
    finally:
        if replaced.exists() and not out.exists():
            replaced.rename(out)
        for left in (partial, replaced):
            shutil.rmtree(left, ignore_errors=True)


def sha256(file: Path) -> str:
    """Digest of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_provenance(folder: Path) -> dict[str, Any]:
    """What `convert_file` and `verify` wrote about a folder.

    Raises:
        ValueError: The folder was not made by a conversion.
    """
    try:
        return json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            f"folder={str(folder)!r} has no {PROVENANCE}: `python -m conversion convert` makes one."
        ) from error


def write_provenance(folder: Path, content: Mapping[str, Any]) -> None:
    """Write it in one piece."""
    partial = folder / f".{PROVENANCE}.partial"
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / PROVENANCE)
