"""Files and folders that get their final name only when they are complete, even if the process is killed."""

import glob
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError


@contextmanager
def whole_file(out: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which becomes `out` if the block succeeds, and is removed if it fails.

    Each process has its own, beside `out`. What killed processes left there is removed first.
    """
    out = out.resolve()  # replace the target of a symbolic link, not the link
    _clean_up(out)
    partial = _beside(out, "partial")
    try:
        yield partial
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def written_with_os_errors(out: Path) -> Iterator[None]:
    """Turn the special errors that safetensors and `torch.save` raise on a full disk into an OSError.

    Raises:
        OSError: The file cannot be written; the message names `out`.
    """
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        # torch.save has no error type of its own: in the end, the destructor of its writer raises a RuntimeError
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise OSError(f"{str(out)!r} cannot be written; is the disk full? ({reason})") from error


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder to write to, which becomes `out` if the block succeeds, and is removed if it fails.

    An existing `out` is replaced. What killed processes left beside it is removed, or restored, first.
    """
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    _clean_up(out)
    partial, replaced = (_beside(out, state) for state in ("partial", "replaced"))
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


def _beside(out: Path, state: str) -> Path:
    return out.with_name(f".{out.name}.{state}-{os.getpid()}")


def _clean_up(out: Path) -> None:
    """Remove what killed processes left beside `out`, and restore a folder that one of them was replacing."""
    import psutil

    for left in out.parent.glob(f".{glob.escape(out.name)}.*-*"):
        found = re.fullmatch(r"\.(partial|replaced)-(\d+)", left.name.removeprefix(f".{out.name}"))
        # In a container, the killed process may have had our own process id
        if found is None or (int(found[2]) != os.getpid() and psutil.pid_exists(int(found[2]))):
            continue
        if found[1] == "replaced" and not out.exists():
            left.rename(out)
        elif left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()
