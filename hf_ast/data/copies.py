"""The same recording under several names: other spellings of its path, links, and copies."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from .sources import Source

BLOCK_BYTES = 2**20


def same_files(paths: Iterable[str]) -> dict[str, str]:
    """Find files that are the same recording, by their place on the disk, and then by their content.

    Only files of equal size are read, so that the costs stay linear in their number.

    Args:
        paths: Files, which need not exist.

    Returns:
        For each file that is the same as an earlier one, the first of these.
    """
    places: dict[tuple[int, int], str] = {}
    of_size: dict[int, list[str]] = defaultdict(list)
    same: dict[str, str] = {}
    for path in dict.fromkeys(paths):
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            continue
        # Also for links, and on disks that do not tell upper from lower case, or NFC from NFD
        first = places.setdefault((found.st_dev, found.st_ino), path)
        if first != path:
            same[path] = first
        elif found.st_size:
            of_size[found.st_size].append(path)
    for equal in of_size.values():
        if len(equal) > 1:
            same |= _same_content(equal)
    return same


def _same_content(paths: Sequence[str]) -> dict[str, str]:
    first: dict[bytes, str] = {}
    same = {}
    for path in paths:
        try:
            digest = _digest(path)
        except OSError:
            continue
        if (other := first.setdefault(digest, path)) != path:
            same[path] = other
    return same


def _digest(path: str) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.digest()


def families(source: Source, names: Iterable[str], digests: Mapping[str, bytes]) -> dict[str, str]:
    """Return, for each recording of a source that is the same as an earlier one, the name of the first of these.

    Args:
        source: The source. Recordings that are neither on this machine nor in a data set are not compared.
        names: Names of the recordings.
        digests: Hashes of those whose bytes lie in a data set.
    """
    by_path: dict[str, str] = {}
    first: dict[bytes, str] = {}
    same: dict[str, str] = {}
    folder = os.path.dirname(source.location) if source.kind == "manifest" else source.location
    for name in dict.fromkeys(names):
        if name in digests:
            if (other := first.setdefault(digests[name], name)) != name:
                same[name] = other
        elif source.kind != "dataset" and "://" not in name and "://" not in folder:
            path = os.path.join(folder, name)
            if (other := by_path.setdefault(path, name)) != name:
                same[name] = other
    return same | {by_path[path]: by_path[other] for path, other in same_files(by_path).items()}


def digest_of(content: bytes) -> bytes:
    """Return a hash of the bytes of a recording."""
    return hashlib.blake2b(content, digest_size=16).digest()
