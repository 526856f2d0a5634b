"""Recordings as files that can be read from any place: paths, bytes, file objects, downloads."""

import inspect
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from . import downloads

CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class RecordingFile:
    """A recording that is open.

    Attributes:
        name: What messages call it.
        file: Its bytes; whoever reads them seeks first.
        size: Number of bytes.
        path: Where it lies, if it is a file of this machine.
    """

    name: str
    file: BinaryIO
    size: int
    path: str | None = None

    def read(self, start: int, num_bytes: int) -> bytes:
        """Return bytes from a place on, fewer where the file ends."""
        self.file.seek(start)
        return self.file.read(num_bytes)

    def part(self, start: int, end: int) -> BinaryIO:
        """Return the bytes between two places as a file of their own."""
        return io.BufferedReader(_Part(self.file, start, end), CHUNK_BYTES // 16)


def is_file(source: Any) -> bool:
    """Whether a source is a path, the bytes of a file, or a file object."""
    return isinstance(source, str | os.PathLike | bytes | bytearray) or hasattr(source, "read")


def describe(source: Any) -> str:
    """Return what an error message calls a recording."""
    if isinstance(source, bytes | bytearray):
        return f"file={f'{len(source)} bytes of audio'!r}"
    if isinstance(source, str | os.PathLike):
        return f"file={os.fspath(source)!r:.500}"
    if not hasattr(source, "read"):
        return "source"
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    return f"file={name if isinstance(name, str) else type(source).__name__!r:.500}"


@contextmanager
def open_recording(source: Any) -> Iterator[RecordingFile]:
    """Open a path, bytes or a file object. A file object of the caller stays open, and where it stood.

    Raises:
        FileNotFoundError, IsADirectoryError: The path is wrong.
        ValueError: The path is a device, a pipe or a socket, or the file object gives text.
    """
    name = describe(source)
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        _check_path(path, name)
        with open(path, "rb") as file:
            yield RecordingFile(name, file, os.fstat(file.fileno()).st_size, os.fsdecode(path))
    elif isinstance(source, bytes | bytearray):
        yield RecordingFile(name, io.BytesIO(source), len(source))
    else:
        # A web framework's upload reads asynchronously, but holds an ordinary file
        file = source.file if inspect.iscoroutinefunction(source.read) and hasattr(source, "file") else source
        with _borrowed(file, name) as (borrowed, size):
            yield RecordingFile(name, borrowed, size)


def _check_path(path: Any, name: str) -> None:
    if os.path.isfile(path):
        return
    if os.path.isdir(path):
        raise IsADirectoryError(f"{name} is a folder, but must be an audio file.")
    if not os.path.exists(path):
        raise FileNotFoundError(f"{name} does not exist.")
    # Reading it might never end
    raise ValueError(f"{name} is a device, pipe or socket, but must be an audio file.")


@contextmanager
def _borrowed(file: Any, name: str) -> Iterator[tuple[BinaryIO, int]]:
    """A file object of the caller, from its start; or a copy from where it stands, if it cannot be read twice."""
    try:
        position = file.tell() if not hasattr(file, "seekable") or file.seekable() else None
    except (AttributeError, OSError):
        position = None
    if isinstance(file.read(0), str):
        raise ValueError(f"{name} is open as text; open it in binary mode: open(path, 'rb').")
    if position is None:
        with tempfile.TemporaryFile(prefix="hf-ast-") as copy:
            size = 0
            while chunk := file.read(CHUNK_BYTES):
                size += len(chunk)
                downloads.check_size(size, name)
                copy.write(chunk)
            yield copy, size
        return
    try:
        size = file.seek(0, os.SEEK_END)
        yield file, file.tell() if size is None else size
    finally:
        file.seek(position)


class _Part(io.RawIOBase):
    """The bytes between two places of a file, as a file."""

    def __init__(self, file: BinaryIO, start: int, end: int):
        self.file, self.start, self.size = file, start, max(0, end - start)
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        self.position = max(0, base + offset)
        return self.position

    def readinto(self, buffer: Any) -> int:
        num_bytes = max(0, min(len(buffer), self.size - self.position))
        self.file.seek(self.start + self.position)
        content = self.file.read(num_bytes) if num_bytes else b""
        buffer[: len(content)] = content
        self.position += len(content)
        return len(content)
