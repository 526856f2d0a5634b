"""The official files: downloaded once, continued where a download stopped, checked against their digests."""

import json
import logging
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import httpx2
from filelock import FileLock
from huggingface_hub import constants
from tqdm import tqdm

from .checkpoint import Checkpoint, file_name
from .folders import sha256, write_json

# In the cache: digests of first downloads, against which later ones are checked, as few files have a published one
CHECKSUMS = "checksums.json"
TIMEOUT = httpx2.Timeout(60.0, connect=20.0)
CHUNK_SIZE = 2**16
# How files of torch begin: zip archives, and pickles from before torch 1.6. Dead links often answer with a web page
BEGINNINGS = (b"PK\x03\x04", b"\x80\x02")

logger = logging.getLogger(__name__)


class DownloadError(OSError):
    """A URL does not give the file, or none of them does."""


def default_cache() -> Path:
    """Folder of the official files: beside the caches of the Hub, and moved with them by `HF_HOME`."""
    return Path(constants.HF_HOME) / "hf_ast"


def cached(checkpoint: Checkpoint, *, cache: Path | None = None) -> Path | None:
    """The official file if it is in the cache, downloaded or put there by hand."""
    file = (cache or default_cache()) / checkpoint.file_name
    return file if file.is_file() else None


def fetch(checkpoint: Checkpoint, *, cache: Path | None = None) -> tuple[Path, str | None]:
    """The official file, from the cache or downloaded into it.

    Args:
        checkpoint: Its URLs are tried in order.
        cache: Folder; `default_cache()` if None. Of two processes, one waits for the other. The digest of a first
            download is recorded in it.

    Returns:
        The file, and the URL that it came from; None if somebody put it into the cache by hand.

    Raises:
        DownloadError: No URL gives the file, or HF_HUB_OFFLINE is set. The message says why, URL by URL, and what is
            left to do.
        OSError: The disk is full, for example. What has arrived is kept, and continued by the next call.
    """
    cache = cache or default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    file = cache / checkpoint.file_name
    with FileLock(cache / f".{file.name}.lock"):
        if file.is_file():
            url = _read_json(_origin(file)).get("url")
            try:
                _check_and_record(checkpoint, file, url)
                return file, url
            except DownloadError as error:
                damaged = file.with_name(f"{file.name}.damaged")
                logger.warning("%s: %s. It is now called %s; downloading it again.", file, error, damaged.name)
                file.replace(damaged)
                _origin(file).unlink(missing_ok=True)
        if constants.HF_HUB_OFFLINE:
            raise DownloadError(
                f"{checkpoint.file_name} is not in the cache {str(cache)!r}, and HF_HUB_OFFLINE forbids downloads."
            )
        failures = []
        for url in checkpoint.urls:
            try:
                _fetch_from(url, checkpoint, file)
                return file, url
            except (DownloadError, httpx2.HTTPError) as error:
                failures.append(f"  {url}: {_reason(error)}")
    browser = f"A browser may get it from {' or '.join(checkpoint.pages)} . " if checkpoint.pages else ""
    raise DownloadError(
        "\n".join((f"{checkpoint.file_name} cannot be downloaded:", *failures))
        + f"\n{browser}Once you have the file: hf-ast convert FILE --as {checkpoint.name}"
    )


def digest_problem(checkpoint: Checkpoint, digest: str, name: str, *, cache: Path | None = None) -> str | None:
    """What a digest contradicts, or None.

    Args:
        checkpoint: Has a published digest, or its first digits, or none.
        digest: sha256 of the file, in hexadecimal digits.
        name: Of the file; a mirror of another name may be another file.
        cache: Folder of the recorded digests; `default_cache()` if None.
    """
    cache = cache or default_cache()
    recorded = recorded_digest(name, cache=cache)
    for known, place in ((checkpoint.sha256, "the registry"), (recorded, cache / CHECKSUMS)):
        if not digest.startswith(known):
            return f"sha256 is {digest}, but {known} in {place}: it is another file, or damaged"
    return None


def recorded_digest(name: str, *, cache: Path | None = None) -> str:
    """Digest of the first download of the file of that name into a cache; "" if there was none."""
    return _read_json((cache or default_cache()) / CHECKSUMS).get(name, "")


def _check_and_record(checkpoint: Checkpoint, file: Path, url: str | None) -> None:
    """Raise `DownloadError` if the digest is wrong; record it if there was none and the file was downloaded."""
    digest, name = sha256(file), file_name(url or checkpoint.file_name)
    if (problem := digest_problem(checkpoint, digest, name, cache=file.parent)) is not None:
        raise DownloadError(problem)
    checksums = file.with_name(CHECKSUMS)
    if url is not None:
        with FileLock(checksums.with_name(f".{checksums.name}.lock")):
            recorded = _read_json(checksums)
            if name not in recorded:
                write_json(checksums, dict(sorted((recorded | {name: digest}).items())))


def _fetch_from(url: str, checkpoint: Checkpoint, file: Path) -> None:
    """Download from one URL. Only what is whole and has the right digest gets the final name."""
    incomplete = file.with_name(f"{file.name}.incomplete")
    with httpx2.Client(follow_redirects=True, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}) as client:
        whole = False
        while not whole:
            before = _kept(incomplete, url)
            try:
                whole = _receive(client, url, incomplete)
            except httpx2.TransportError:  # a cut connection is taken up again as long as each one brings something
                if _kept(incomplete, url) <= before:
                    raise
    try:
        _check_and_record(checkpoint, incomplete, url)
    except DownloadError:
        _remove(incomplete)
        raise
    _origin(incomplete).replace(_origin(file))
    incomplete.replace(file)


def _receive(client: httpx2.Client, url: str, incomplete: Path) -> bool:
    """Send one request; returns whether the file is whole. If it is not, what was there was of no use, and is gone."""
    origin, start = _read_json(_origin(incomplete)), _kept(incomplete, url)
    if start and start == origin["num_bytes"]:
        return True
    headers = {"Range": f"bytes={start}-"} if start else {}
    if start and origin["validator"]:
        headers["If-Range"] = origin["validator"]  # the whole file comes if it has changed
    with client.stream("GET", url, headers=headers) as response:
        continued = start > 0 and response.status_code in (206, 416)
        if continued:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if span is None or (int(span[1]), int(span[2])) != (start, origin["num_bytes"]):
                _remove(incomplete)
                return False
        response.raise_for_status()
        chunks = response.iter_bytes(CHUNK_SIZE)
        if not continued:
            start = 0
            chunks = _checked(chunks, response)
            origin = {"url": url, "validator": _validator(response), "num_bytes": _length(response)}
            _remove(incomplete)
            write_json(_origin(incomplete), origin)
        _append(chunks, incomplete, start, origin["num_bytes"])
    if origin["num_bytes"] not in (None, _kept(incomplete, url)):
        _remove(incomplete)
        raise DownloadError(f"sent another number of bytes than the announced {origin['num_bytes']}")
    return True


def _checked(chunks: Iterator[bytes], response: httpx2.Response) -> Iterator[bytes]:
    """The same chunks, if they begin as a checkpoint does."""
    first = next(chunks, b"")
    if not first.startswith(BEGINNINGS):
        content_type = response.headers.get("Content-Type", "something")
        raise DownloadError(
            f"the link is dead: it sends {content_type} that begins with {first[:30]!r}, no checkpoint"
        )
    return chain([first], chunks)


def _append(chunks: Iterator[bytes], incomplete: Path, start: int, num_bytes: int | None) -> None:
    """Write the chunks behind what is there, with a progress bar."""
    name = incomplete.name.removesuffix(".incomplete")
    try:
        with (
            incomplete.open("ab") as stream,
            tqdm(desc=name, initial=start, total=num_bytes, unit="B", unit_scale=True, disable=None) as progress,
        ):
            for chunk in chunks:
                stream.write(chunk)
                progress.update(len(chunk))
    except OSError as error:
        reason = f"{error.strerror}; what has arrived is kept, and continued by the next call"
        raise OSError(error.errno, reason, str(incomplete)) from error


def _length(response: httpx2.Response) -> int | None:
    """Bytes of the body; None if it comes in chunks, which also tell where it ends."""
    if "Content-Length" in response.headers:
        return int(response.headers["Content-Length"])
    if response.headers.get("Transfer-Encoding") != "chunked":
        raise DownloadError("gives no length, so that a cut connection would not be noticed")
    return None


def _validator(response: httpx2.Response) -> str | None:
    """What tells this version of the file from others: a strong ETag, or the date of the last change."""
    etag = response.headers.get("ETag", "W/")
    return response.headers.get("Last-Modified") if etag.startswith("W/") else etag


def _kept(incomplete: Path, url: str) -> int:
    """Bytes that can be continued from that URL."""
    if _read_json(_origin(incomplete)).get("url") != url or not incomplete.is_file():
        return 0
    return incomplete.stat().st_size


def _remove(incomplete: Path) -> None:
    for path in (incomplete, _origin(incomplete)):
        path.unlink(missing_ok=True)


def _origin(file: Path) -> Path:
    """Where it is written down what a file was downloaded from."""
    return file.with_name(f"{file.name}.json")


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _reason(error: Exception) -> str:
    if isinstance(error, httpx2.HTTPStatusError):
        return f"HTTP {error.response.status_code} {error.response.reason_phrase}"
    return str(error) if isinstance(error, DownloadError) else f"{type(error).__name__}: {error}"
