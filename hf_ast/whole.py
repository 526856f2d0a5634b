"""Files and folders that get their final name only when they are complete, even if the process is killed."""

import errno
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

# What another host, which may still write, left is removed after a day only
ABANDONED_AFTER_S = 24 * 3600
HOST = re.sub(r"\W+", "-", socket.gethostname())
_ours: set[str] = set()


@contextmanager
def whole_file(out: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which becomes `out` if the block succeeds, and is removed if it fails.

    Each call has its own, beside `out`, so that threads, processes and hosts may write the same file. What killed
    processes left there is removed first.
    """
    out = out.resolve()  # replace the target of a symbolic link, not the link
    _clean_up(out)
    with _beside(out, "partial") as partial:
        yield partial
        os.replace(partial, out)


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
    with _beside(out, "partial") as partial, _beside(out, "replaced") as replaced:
        partial.mkdir()
        yield partial
        try:
            while partial.exists():
                _replace_folder(partial, out, replaced)
        finally:
            _restore(replaced, out)


def _replace_folder(partial: Path, out: Path, replaced: Path) -> None:
    """Rename `partial` to `out`, unless another thread or process puts its own there in between."""
    _remove(replaced)
    with suppress(FileNotFoundError):
        out.rename(replaced)
    try:
        partial.rename(out)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES):  # the last is what Windows says
            raise


@contextmanager
def _beside(out: Path, state: str) -> Iterator[Path]:
    """Yield a path that nobody else has, which tells who made it; remove what is there in the end."""
    path = out.with_name(f".{out.name}.{state}-{HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    _ours.add(path.name)
    try:
        yield path
    finally:
        if state == "partial" or out.exists():  # else it is all that there is
            _remove(path)
        _ours.discard(path.name)


def _clean_up(out: Path) -> None:
    """Remove what killed processes left beside `out`, and restore a folder that one of them was replacing."""
    pattern = re.compile(rf"\.{re.escape(out.name)}\.(partial|replaced)-(.+)-(\d+)-[0-9a-f]{{8}}")
    for left in out.parent.iterdir() if out.parent.is_dir() else ():
        found = pattern.fullmatch(left.name)
        if found is None or not _is_abandoned(left, host=found[2], process=int(found[3])):
            continue
        if found[1] == "replaced":
            _restore(left, out)
        _remove(left)


def _restore(replaced: Path, out: Path) -> None:
    """Give a folder its name back, unless it has a successor, which may come at any moment."""
    if out.exists() or not replaced.exists():
        return
    try:
        replaced.rename(out)
    except OSError:
        if not out.exists():
            raise


def _is_abandoned(path: Path, *, host: str, process: int) -> bool:
    """Whether nobody writes to a temporary file or folder any more."""
    import psutil

    if host != HOST:
        try:
            return time.time() - path.stat().st_mtime > ABANDONED_AFTER_S
        except FileNotFoundError:
            return False
    # In a container, the killed process may have had our own id
    return path.name not in _ours if process == os.getpid() else not psutil.pid_exists(process)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
