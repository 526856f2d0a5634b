"""Gzip files from which any stretch can be read without decompressing all that comes before it."""

import bisect
import os
import zlib
from collections.abc import Callable
from typing import IO, Any, NamedTuple

CHUNK_BYTES = 2**16
# Most bytes that one step of decompression makes, however well they were compressed
MAX_STEP_BYTES = 2**20
# Decompressed bytes between two places from which reading can begin
NUM_BYTES_BETWEEN_PLACES = 2**24
GZIP = 16 + zlib.MAX_WBITS


class Place(NamedTuple):
    """Where reading can begin: a decompressed byte, the compressed one that is read next, and the state between."""

    offset: int
    raw_offset: int
    inflate: Any


class GzipReader:
    """A gzip file as a file of its decompressed bytes.

    Args:
        open_file: What opens the compressed file, in binary mode.
        places: Places from which reading can begin, in their order.
        is_first: Whether this is the first time that the file is read; if so, places are added.
    """

    def __init__(self, open_file: Callable[[], IO[bytes]], places: list[Place], *, is_first: bool = False):
        self._raw = open_file()
        self._places = places
        self._is_first = is_first
        self._inflate: Any
        self._pending = self._buffer = b""
        self._end = 0
        self._begin(Place(0, 0, zlib.decompressobj(GZIP)))

    def __enter__(self) -> "GzipReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._end - len(self._buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, or to the end, which is where the file cannot be decompressed any further."""
        if whence == os.SEEK_END:
            self._skip_to_end()
            return self.tell()
        earlier = bisect.bisect_right(self._places, offset, key=lambda place: place.offset)
        place = self._places[earlier - 1] if earlier else Place(0, 0, zlib.decompressobj(GZIP))
        if offset < self.tell() or place.offset > self._end:
            self._begin(place)
        while self._end < offset and self._fill():
            pass
        self._buffer = self._buffer[max(0, len(self._buffer) - max(0, self._end - offset)) :]
        return self.tell()

    def read(self, size: int) -> bytes:
        """Return bytes; fewer only at the end.

        Raises:
            EOFError, zlib.error: The file ends early, or is damaged.
        """
        parts, missing = [], size
        while missing > 0 and (self._buffer or self._fill()):
            parts.append(self._buffer[:missing])
            self._buffer = self._buffer[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)

    def _begin(self, place: Place) -> None:
        self._raw.seek(place.raw_offset)
        self._inflate = place.inflate.copy()
        self._pending = b""
        self._buffer = b""
        self._end = place.offset

    def _fill(self) -> bool:
        """Put the next bytes into the empty buffer; False at the end."""
        self._buffer = b""
        self._add_place()
        while True:
            if self._inflate.eof:  # another compressed stream, or zeros, may follow
                self._pending = self._inflate.unused_data.lstrip(b"\0")
                while not self._pending:
                    if not (chunk := self._raw.read(CHUNK_BYTES)):
                        return False
                    self._pending = chunk.lstrip(b"\0")
                self._inflate = zlib.decompressobj(GZIP)
            is_last = False
            if not self._pending:
                self._pending = self._raw.read(CHUNK_BYTES)
                is_last = not self._pending
            self._buffer = self._inflate.decompress(self._pending, MAX_STEP_BYTES)
            self._pending = self._inflate.unconsumed_tail
            if self._buffer:
                self._end += len(self._buffer)
                return True
            if is_last and not self._inflate.eof:
                raise EOFError("the compressed file ends early")

    def _skip_to_end(self) -> None:
        try:
            while self._fill():
                pass
        except (OSError, EOFError, zlib.error):
            return

    def _add_place(self) -> None:
        last = self._places[-1].offset if self._places else 0
        if self._is_first and not self._inflate.eof and self._end - last >= NUM_BYTES_BETWEEN_PLACES:
            raw_offset = self._raw.tell() - len(self._pending)
            self._places.append(Place(self._end, raw_offset, self._inflate.copy()))
