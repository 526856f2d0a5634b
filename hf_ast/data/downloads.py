"""Recordings at URLs: a stream into a temporary file, within limits.

The limits are settings of this module: `MAX_BYTES` of the recording, compressed for the way or not, `MAX_S` seconds
for the whole download, and `SILENCE_S` seconds without a byte.
"""

import tempfile
import threading
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

MAX_BYTES = 2**32
MAX_S = 1800.0
SILENCE_S = 60.0
CHUNK_BYTES = 2**16


def download(url: str) -> BinaryIO:
    """Return the file at a URL (http or https, redirects followed to the same) as an open temporary file.

    Raises:
        OSError: It cannot be downloaded, or exceeds a limit.
    """
    worker = _Download(url)
    worker.start()
    worker.join(MAX_S)
    if worker.is_alive():
        worker.is_late = True
        raise OSError(
            f"file={url!r:.500} was not complete after {MAX_S:.5g} s (hf_ast.data.downloads.MAX_S); download it first."
        )
    if worker.error is not None:
        raise worker.error
    return worker.file


def check_size(num_bytes: int, name: str) -> None:
    """Refuse a stream that is longer than what is taken from one."""
    if num_bytes > MAX_BYTES:
        raise OSError(
            f"{name} has more than {MAX_BYTES:,} bytes (hf_ast.data.downloads.MAX_BYTES); store it as a file first."
        )


class _Download(threading.Thread):
    """A download in a thread, so that a server that sends a byte a minute ends no later than any other."""

    def __init__(self, url: str):
        super().__init__(name="hf-ast-download", daemon=True)
        self.url, self.name_in_messages = url, f"file={url!r:.500}"
        self.file: BinaryIO = _TemporaryFile(url)  # type: ignore[assignment]
        self.error: Exception | None = None
        self.is_late = False

    def run(self) -> None:
        """Fetch the file; what goes wrong is in `error`."""
        import httpx2

        try:
            with (
                httpx2.Client(follow_redirects=True, timeout=min(SILENCE_S, MAX_S)) as client,
                client.stream("GET", self.url, headers={"Accept-Encoding": "identity"}) as response,
            ):
                response.raise_for_status()
                self._store(response)
            self.file.seek(0)
        except (httpx2.HTTPError, httpx2.InvalidURL, zlib.error) as error:
            self.error = OSError(f"{self.name_in_messages} cannot be downloaded: {error or type(error).__name__}")
            self.error.__cause__ = error
        except Exception as error:  # it belongs to the thread that waits
            self.error = error
        finally:
            if self.error is not None or self.is_late:
                self.file.close()

    def _store(self, response: Any) -> None:
        check_size(int(response.headers.get("content-length") or 0), self.name_in_messages)
        encoding = response.headers.get("content-encoding", "identity").lower()
        chunks: Iterable[bytes] = self._counted(response.iter_raw(CHUNK_BYTES))
        if encoding in ("gzip", "x-gzip", "deflate"):
            chunks = _inflated(chunks)
        elif encoding not in ("", "identity"):
            raise OSError(f"{self.name_in_messages} comes with the encoding {encoding!r}, which was not asked for.")
        num_bytes = 0
        for chunk in chunks:
            num_bytes += len(chunk)
            check_size(num_bytes, self.name_in_messages)
            self.file.write(chunk)

    def _counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        num_bytes = 0
        for chunk in chunks:
            if self.is_late:
                return
            num_bytes += len(chunk)
            check_size(num_bytes, self.name_in_messages)
            yield chunk


def _inflated(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Decompressed bytes of gzip or zlib in small pieces, however much a chunk expands to."""
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
    for chunk in chunks:
        while chunk:
            yield inflater.decompress(chunk, CHUNK_BYTES)
            chunk = inflater.unconsumed_tail
    yield inflater.flush()
    if not inflater.eof:
        raise zlib.error("the compressed stream ends too early")


class _TemporaryFile:
    """A temporary file without a name in the file system, which messages call by its URL."""

    def __init__(self, url: str):
        self.filename = url
        self.file = tempfile.TemporaryFile(prefix="hf-ast-")  # noqa: SIM115, it ends with this object

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)
