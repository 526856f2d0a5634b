"""Download official files into the cache: resumable, from several mirrors, and checked against their digests.

pooch could replace only the progress bar, the comparison of digests and the temporary file. It does not resume, try
mirrors, recognise a web page sent in place of a file, remember the digest of a first download, or lock out a second
process, and these are most of this module.
"""

import json
import logging
import re
import zipfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import httpx2
from filelock import FileLock
from huggingface_hub import constants
from tqdm import tqdm

from .checkpoint import Checkpoint, file_name
from .files import CheckpointFile
from .folders import write_json

# File in the cache with the digests of first downloads. Few files have a published digest to check later ones against
CHECKSUMS = "checksums.json"
TIMEOUT = httpx2.Timeout(60.0, connect=20.0)
CHUNK_SIZE = 2**16
# First bytes of files of torch: zip archives, and pickles from before torch 1.6. Dead links often send a web page
ZIP, PICKLE = b"PK\x03\x04", b"\x80\x02"

logger = logging.getLogger(__name__)


class DownloadError(OSError):
    """The file cannot be downloaded from a URL, or from any of them."""


def default_cache() -> Path:
    """Return the default folder for official files: `hf_ast` beside the cache of the Hub, as set by `HF_HOME`."""
    return Path(constants.HF_HOME) / "hf_ast"


def cached(checkpoint: Checkpoint, *, cache: Path | None = None) -> Path | None:
    """Return the official file in the cache, whether downloaded or put there by hand, or None."""
    file = (cache or default_cache()) / checkpoint.file_name
    return file if file.is_file() else None


def fetch(checkpoint: Checkpoint, *, cache: Path | None = None) -> tuple[CheckpointFile, str | None]:
    """Return the official file from the cache, after downloading it if necessary.

    Args:
        checkpoint: Its URLs are tried in order.
        cache: Folder; `default_cache()` if None. It also holds the digests of first downloads. If two processes want
            the same file, the second waits for the first.

    Returns:
        The file, read once for its digest, and the URL from which it was downloaded; None if it was put into the
        cache by hand.

    Raises:
        DownloadError: No URL gives the file, or HF_HUB_OFFLINE is set. The message gives the reason for each URL, and
            says what else can be done.
        OSError: The file cannot be written, for example because the disk is full. What has arrived is kept, and the
            next call resumes the download.
    """
    cache = cache or default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    file = cache / checkpoint.file_name
    with FileLock(cache / f".{file.name}.lock"):
        if file.is_file():
            url = _read_json(_origin(file)).get("url")
            try:
                return _check_and_record(checkpoint, file, url), url
            except DownloadError as error:
                damaged = file.with_name(f"{file.name}.damaged")
                logger.warning("%s: %s. It is now called %s; downloading it again.", file, error, damaged.name)
                file.replace(damaged)
                _origin(file).unlink(missing_ok=True)
        if constants.HF_HUB_OFFLINE:
            raise DownloadError(
                f"{checkpoint.file_name} is not in the cache {str(cache)!r}, and HF_HUB_OFFLINE forbids downloads. "
                + _by_hand(checkpoint, file)
            )
        failures = []
        for url in checkpoint.urls:
            try:
                return _fetch_from(url, checkpoint, file), url
            except (DownloadError, httpx2.HTTPError) as error:
                failures.append(f"  {url}: {_reason(error)}")
    raise DownloadError(
        "\n".join((f"{checkpoint.file_name} cannot be downloaded:", *failures, _by_hand(checkpoint, file)))
    )


def digest_problem(checkpoint: Checkpoint, digest: str, name: str, *, cache: Path | None = None) -> str | None:
    """Say which known digest contradicts the digest of a file; None if there is no contradiction.

    Args:
        checkpoint: Entry with the published digest, or its first digits, if there is one.
        digest: sha256 of the file, in hexadecimal digits.
        name: Name of the file, under which its digest is recorded; mirrors with other names may hold other files.
        cache: Folder of the recorded digests; `default_cache()` if None.
    """
    cache = cache or default_cache()
    recorded = recorded_digest(name, cache=cache)
    for known, place in ((checkpoint.sha256, "the registry"), (recorded, cache / CHECKSUMS)):
        if not digest.startswith(known):
            return f"sha256 is {digest}, but {known} in {place}: it is another file, or damaged"
    return None


def recorded_digest(name: str, *, cache: Path | None = None) -> str:
    """Return the digest of the first download of the file of that name into a cache; "" if there was none."""
    return _read_json((cache or default_cache()) / CHECKSUMS).get(name, "")


def _by_hand(checkpoint: Checkpoint, file: Path) -> str:
    """Say how a file that was fetched by hand takes the place of the download."""
    browser = f"A browser may get it from {' or '.join(checkpoint.pages)} . " if checkpoint.pages else ""
    return f"{browser}Once you have the file, copy it to {str(file.absolute())!r}, and give the same command again."


def _check_and_record(checkpoint: Checkpoint, file: Path, url: str | None) -> CheckpointFile:
    """Return a file, and record the digest of a first download; `DownloadError` if it is damaged or another one."""
    if _is_cut(file):
        raise DownloadError(f"{file.stat().st_size} bytes are only the beginning of a checkpoint: it was cut off")
    opened, name = CheckpointFile(file), file_name(url or checkpoint.file_name)
    try:
        digest = opened.sha256
    except ValueError as error:
        raise DownloadError(str(error)) from error
    if (problem := digest_problem(checkpoint, digest, name, cache=file.parent)) is not None:
        raise DownloadError(problem)
    checksums = file.with_name(CHECKSUMS)
    if url is not None:
        with FileLock(checksums.with_name(f".{checksums.name}.lock")):
            recorded = _read_json(checksums)
            if name not in recorded:
                write_json(checksums, dict(sorted((recorded | {name: digest}).items())))
    return opened


def _is_cut(file: Path) -> bool:
    """Whether an archive lacks its end: proxies may present a cut file as complete. Pickles do not show it."""
    with file.open("rb") as stream:
        return stream.read(len(ZIP)) == ZIP and not zipfile.is_zipfile(stream)


def _fetch_from(url: str, checkpoint: Checkpoint, file: Path) -> CheckpointFile:
    """Download from one URL. The file gets its final name once it is complete and has the right digest."""
    incomplete = file.with_name(f"{file.name}.incomplete")
    with httpx2.Client(follow_redirects=True, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}) as client:
        whole = False
        while not whole:
            before = _kept(incomplete, url)
            try:
                whole = _receive(client, url, incomplete)
            except httpx2.TransportError:  # reconnect as long as each connection brings something
                if _kept(incomplete, url) <= before:
                    raise
    try:
        opened = _check_and_record(checkpoint, incomplete, url)
    except DownloadError:
        _remove(incomplete)
        raise
    _origin(incomplete).replace(_origin(file))
    return opened.renamed(file)


def _receive(client: httpx2.Client, url: str, incomplete: Path) -> bool:
    """Send one request that resumes the download; return False if the part on disk was useless and is removed."""
    origin, start = _read_json(_origin(incomplete)), _kept(incomplete, url)
    if start and start == origin["num_bytes"]:
        return True
    headers = {"Range": f"bytes={start}-"} if start else {}
    if start and origin["validator"]:
        headers["If-Range"] = origin["validator"]  # if the file has changed, the whole file is sent
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
        raise DownloadError(f"sent more or fewer bytes than the announced {origin['num_bytes']}")
    return True


def _checked(chunks: Iterator[bytes], response: httpx2.Response) -> Iterator[bytes]:
    """Pass the chunks on, after checking that they begin like a checkpoint."""
    first = next(chunks, b"")
    if not first.startswith((ZIP, PICKLE)):
        content_type = response.headers.get("Content-Type", "something")
        raise DownloadError(
            f"the link is dead: it sends {content_type} that begins with {first[:30]!r}, not a checkpoint"
        )
    return chain([first], chunks)


def _append(chunks: Iterator[bytes], incomplete: Path, start: int, num_bytes: int | None) -> None:
    """Append the chunks to the incomplete file, with a progress bar."""
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
        reason = f"{error.strerror}; what has arrived is kept, and the next call resumes the download"
        raise OSError(error.errno, reason, str(incomplete)) from error


def _length(response: httpx2.Response) -> int | None:
    """Return the length of the body in bytes; None for chunked transfer, which marks its own end."""
    if "Content-Length" in response.headers:
        return int(response.headers["Content-Length"])
    if response.headers.get("Transfer-Encoding") != "chunked":
        raise DownloadError("announces no length, so a cut connection could not be noticed")
    return None


def _validator(response: httpx2.Response) -> str | None:
    """Return what identifies this version of the file: a strong ETag, or the date of its last change."""
    etag = response.headers.get("ETag", "W/")
    return response.headers.get("Last-Modified") if etag.startswith("W/") else etag


def _kept(incomplete: Path, url: str) -> int:
    """Return how many bytes have arrived from that URL."""
    if _read_json(_origin(incomplete)).get("url") != url or not incomplete.is_file():
        return 0
    return incomplete.stat().st_size


def _remove(incomplete: Path) -> None:
    for path in (incomplete, _origin(incomplete)):
        path.unlink(missing_ok=True)


def _origin(file: Path) -> Path:
    """Return the path at which the origin of a file is recorded."""
    return file.with_name(f"{file.name}.json")


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _reason(error: Exception) -> str:
    if isinstance(error, httpx2.HTTPStatusError):
        return f"HTTP {error.response.status_code} {error.response.reason_phrase}"
    return str(error) if isinstance(error, DownloadError) else f"{type(error).__name__}: {error}"
