"""Opening what somebody else made: no code of a folder is run, and no file outside of it is read."""

import json
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

# Lists of weight files, by safetensors and torch
INDEX_SUFFIX = ".index.json"
CONFIG = "config.json"


def open_safely(auto_class: Any, path: str | os.PathLike[str], **settings: Any) -> Any:
    """`auto_class.from_pretrained(path, **settings)` that runs no code of the folder, and asks nobody whether it may.

    Without an answer, transformers asks on the terminal whether to run a model's code, and waits.

    Raises:
        ValueError: A list of weight files leads out of the folder, a weight is NaN or infinite, or as in
            `from_pretrained`.
    """
    expect_own_files(path)
    opened = auto_class.from_pretrained(path, **settings, trust_remote_code=False)
    model = opened[0] if isinstance(opened, tuple) else opened
    if hasattr(model, "named_parameters"):
        expect_finite(path, model.named_parameters())
    return opened


def expect_finite(path: str | os.PathLike[str], weights: Iterable[tuple[str, Any]]) -> None:
    """Raise a ValueError if a weight of a checkpoint is NaN or infinite; it names the first one."""
    for name, weight in weights:
        if not weight.is_floating_point() or not weight.numel():
            continue
        # A few milliseconds per million weights at most: one pass, without a copy
        smallest, largest = weight.detach().aminmax()
        if not (smallest.isfinite() and largest.isfinite()):
            raise ValueError(
                f"model={os.fspath(path)!r} is unusable: its weight {name!r} holds values that are NaN or infinite, "
                "because its training diverged, its file is damaged, or they do not fit into the dtype."
            )


def hub_settings(revision: str | None, token: str | bool | None) -> dict[str, Any]:
    """Those of the two that are given, as keywords of `from_pretrained`."""
    return {name: value for name, value in (("revision", revision), ("token", token)) if value is not None}


def expect_own_files(path: str | os.PathLike[str]) -> None:
    """Raise a ValueError if a folder names files outside of itself as its weights; for other paths do nothing."""
    folder = Path(path)
    if not folder.is_dir():
        return
    for index in sorted(folder.glob(f"*{INDEX_SUFFIX}")):
        files = _read(index).get("weight_map")
        if not isinstance(files, dict):
            raise ValueError(f"{str(index)!r} is damaged: it has no 'weight_map' from tensors to files.")
        for name in files.values():
            _expect_name(name, index)
    if (folder / CONFIG).is_file():
        name = _read(folder / CONFIG).get("transformers_weights")
        if name is not None:
            _expect_name(name, folder / CONFIG)


def is_inside(name: Any) -> bool:
    """Whether a file name leads to a file in the folder that it is relative to, on any operating system."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    kinds = (PurePosixPath(name), PureWindowsPath(name))
    # On Windows "C:x" and "\\x" are relative by name, but not to the folder
    return bool(kinds[0].parts) and not any(".." in kind.parts or kind.anchor for kind in kinds)


def _expect_name(name: Any, file: Path) -> None:
    if not is_inside(name):
        raise ValueError(
            f"{str(file)!r} names {name!r} as a file of weights, but it must be in the same folder; nothing was read."
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(file)!r} is damaged: it is not JSON ({type(error).__name__}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{str(file)!r} is damaged: it holds a {type(content).__name__}, but must hold an object.")
    return content
