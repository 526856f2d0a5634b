"""Whether the files of a folder are still those that were hashed, told from what the file system says of them.

A stamp of a file is its size, inode, and the times of its last change of content (mtime) and of status (ctime).
Whoever writes to a file or replaces it changes one of them; tools can set mtime back, but not ctime. A stamp is
recorded only if the last change was well before the hashing, because file systems tell times apart only from their
next tick on. So an equal stamp stands for an equal digest, unless somebody changes the clock or writes to the disk
below the file system. Where a stamp differs, as after copying the folder, the files are hashed again.
"""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .folders import digested_files, file_digests, write_json

# Local file systems tell times of a tick of the kernel apart, at most 10 ms; some others, only full seconds or two
TICK_NS, COARSE_TICK_NS = 10**8, 2 * 10**9

Stamp = list[int]


def is_unchanged(folder: Path, digests: Mapping[str, str], record: Path) -> bool:
    """Whether a folder still has the files with these digests, and no others that `from_pretrained` may read.

    Args:
        folder: Folder of a conversion.
        digests: Digest of each file, by its name in the folder.
        record: File with the stamps of an earlier comparison, which this one writes if it had to read the files. Where
            it cannot be written, as in a cache that is read-only, every call reads them.
    """
    now = time.time_ns()
    stamps = {name: _stamp(folder / name) for name in digested_files(folder)}
    if stamps.keys() != digests.keys():
        return False
    if _recorded(record) == {"digests": dict(digests), "stamps": stamps}:
        return True
    if file_digests(folder) != digests:
        return False
    settled = all(max(changed) + _tick(changed) < now for _, _, *changed in stamps.values())
    if settled and stamps == {name: _stamp(folder / name) for name in stamps}:
        with suppress(OSError):
            write_json(record, {"digests": dict(digests), "stamps": stamps})
    return True


def _stamp(file: Path) -> Stamp:
    status = file.stat()
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def _tick(times: list[int]) -> int:
    return COARSE_TICK_NS if all(value % 10**9 == 0 for value in times) else TICK_NS


def _recorded(record: Path) -> object:
    try:
        return json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
