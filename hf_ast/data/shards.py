"""Recordings in tar files, as webdataset writes them: members whose names differ only in their suffixes are a sample.

Nothing is ever unpacked: a member is a stretch of bytes of its shard, whatever its name, and links are not followed.
"""

import glob
import itertools
import json
import os
import posixpath
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from .finding import OTHERS, reason_of
from .formats import HEAD_BYTES, SUFFIXES, looks_like_media
from .gzipped import GzipReader, Place

SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")
# Members whose content becomes columns of the recordings of their sample
COLUMN_SUFFIXES = (".json", ".cls", ".txt")
MAX_COLUMN_BYTES = 2**20
# What is larger is not held in memory as a whole
MAX_MEMBER_BYTES = 2**31


@dataclass(frozen=True)
class Member:
    """Where a recording is in a shard.

    Attributes:
        offset: Of its first byte in the shard, decompressed.
        size: In bytes.
        columns: What the members beside it in its sample say.
    """

    offset: int
    size: int
    columns: dict[str, Any] = field(default_factory=dict)


def is_shard(location: str) -> bool:
    """Whether a path, a URL or a pattern of several is that of tar files, by its suffix."""
    return location.lower().endswith(SHARD_SUFFIXES)


def expand_pattern(pattern: str) -> list[str]:
    """Return the paths that a path or pattern stands for, in their order.

    Args:
        pattern: A path, in which `{000..005}` stands for the numbers from the first to the last with as many digits,
            `{a,b}` for each alternative, and `*`, `?` and `[...]` for whatever is there. A file with exactly this name
            comes first.

    Returns:
        Paths; those of `{...}` whether they exist or not.
    """
    if os.path.lexists(pattern):
        return [pattern]
    paths: list[str] = []
    for path in _with_alternatives(pattern):
        found = sorted(glob.glob(path)) if glob.has_magic(path) and "://" not in path else [path]
        paths += found
    return list(dict.fromkeys(paths))


def folder_of(paths: Sequence[str]) -> str:
    """Return the folder that several paths or URLs have in common."""
    levels = zip(*(path.split("/")[:-1] for path in paths), strict=False)
    return "/".join(parts[0] for parts in itertools.takewhile(lambda parts: len(set(parts)) == 1, levels))


def _with_alternatives(pattern: str) -> Iterator[str]:
    parts = re.split(r"\{([^{}]*(?:,|\.\.)[^{}]*)\}", pattern)
    choices = [[part] if number % 2 == 0 else _alternatives(part) for number, part in enumerate(parts)]
    return ("".join(choice) for choice in itertools.product(*choices))


def _alternatives(text: str) -> list[str]:
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if numbers is None:
        return text.split(",")
    first, last = int(numbers[1]), int(numbers[2])
    step = 1 if last >= first else -1
    return [f"{number:0{len(numbers[1])}d}" for number in range(first, last + step, step)]


class Shard:
    """A tar file, whose recordings are read from wherever they are in it.

    The file is read once, to find out where its members begin. Then each is read alone: from its place in a plain tar
    file, and in a compressed one from the last place before it from which decompression can begin.

    Args:
        open_file: What opens the shard, in binary mode.
        name: Its name, for errors.

    Attributes:
        members: Recordings by their names, in the order of the shard.
        problems: Name of each member that cannot be used, or "" for the shard -> the reason. A shard that ends early,
            or is damaged, has the members before the damage.
    """

    def __init__(self, open_file: Callable[[], IO[bytes]], name: str):
        self.name = name
        self.members: dict[str, Member] = {}
        self.problems: dict[str, str] = {}
        self._open_file = open_file
        self._places: list[Place] | None = None
        self._samples: dict[str, dict[str, Any]] = {}
        try:
            with open_file() as stream:
                is_compressed = stream.read(2) == b"\x1f\x8b"
            if is_compressed:
                self._places = []
            with self._opened(is_first=True) as stream:
                self._index(stream)
        except OSError as error:
            self.problems[""] = f"it cannot be read ({reason_of(error)})"

    def read(self, name: str) -> bytes:
        """Return the bytes of a member.

        Raises:
            OSError: The shard has changed: there is no such member, or it cannot be read any more.
        """
        if (member := self.members.get(name)) is None:
            raise FileNotFoundError(f"{self.name!r} has no recording {name!r}.")
        try:
            with self._opened() as stream:
                stream.seek(member.offset)
                content = stream.read(member.size)
        except (EOFError, zlib.error) as error:
            raise OSError(f"{self.name!r} is damaged in its member {name!r} ({error}).") from error
        if len(content) < member.size:
            raise OSError(f"{self.name!r} ends before its member {name!r} does.")
        return content

    def _opened(self, *, is_first: bool = False) -> Any:
        if self._places is None:
            return self._open_file()
        return GzipReader(self._open_file, self._places, is_first=is_first)

    def _index(self, stream: Any) -> None:
        """Find the members, from the first one to the end or to what cannot be read."""
        found: list[tuple[tarfile.TarInfo, str]] = []
        begin: int | None = 0
        try:
            while begin is not None:  # tar files may follow each other
                begin = self._index_archive(stream, begin, found)
        except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
            where = f"after its member {found[-1][0].name!r}" if found else "at its beginning"
            self.problems[""] = f"it is cut or damaged {where} ({reason_of(error)}); what follows is lost"
        size = stream.seek(0, os.SEEK_END)
        for info, suffix in found:
            key = _key(info.name)
            if info.offset_data + info.size > size:
                self.problems[info.name] = "the tar file ends before it does"
            elif suffix in COLUMN_SUFFIXES:
                continue
            elif info.size > MAX_MEMBER_BYTES:
                self.problems[info.name] = f"it has {info.size} bytes; keep such recordings in files of their own"
            else:
                columns = self._samples.setdefault(key, {})
                self.members[_unused(info.name, self.members)] = Member(info.offset_data, info.size, columns)

    def _index_archive(self, stream: Any, begin: int, found: list[tuple[tarfile.TarInfo, str]]) -> int | None:
        """Add the recordings of one tar file and what is beside them; return where another one begins behind it."""
        stream.seek(begin)
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # it would grow with the shard
                suffix = posixpath.splitext(info.name)[1].lower()
                if info.isdir() or _is_hidden(info.name):
                    continue
                if not info.isreg() or info.issparse():
                    if suffix not in OTHERS:
                        self.problems[info.name] = "it is a link, a device or a sparse file, which are not read"
                elif suffix in COLUMN_SUFFIXES:
                    found.append((info, suffix))
                    self._samples.setdefault(_key(info.name), {}).update(self._columns(stream, info, suffix))
                elif _is_recording(stream, info, suffix):
                    found.append((info, suffix))
            return _next_archive(stream, archive.offset)

    def _columns(self, stream: Any, info: tarfile.TarInfo, suffix: str) -> dict[str, Any]:
        """What a member beside a recording says: the entries of an object, or its text under its suffix."""
        if info.size > MAX_COLUMN_BYTES:
            self.problems[info.name] = f"it has {info.size} bytes, more than a description of a recording"
            return {}
        stream.seek(info.offset_data)
        try:
            text = stream.read(info.size).decode("utf-8-sig")
            value = json.loads(text) if suffix == ".json" else text.strip()
        except (ValueError, RecursionError) as error:
            self.problems[info.name] = f"it cannot be understood ({error})"
            return {}
        return value if isinstance(value, dict) else {suffix[1:]: value}


def _key(name: str) -> str:
    """Return what the names of a sample's members have in common: all up to the first dot of the file name."""
    folder, file = posixpath.split(name)
    return posixpath.join(folder, file.split(".")[0])


def _next_archive(stream: Any, end: int) -> int | None:
    """Return where a tar file begins behind the end of another one, None if there is none.

    Raises:
        tarfile.ReadError: The first one has no end, or something else begins where it should be.
    """
    stream.seek(end)
    blocks = iter(lambda: stream.read(tarfile.BLOCKSIZE), b"")
    for number, block in enumerate(blocks):
        if any(block):
            if number == 0:
                raise tarfile.ReadError("bad header")
            return end + number * tarfile.BLOCKSIZE
    if stream.tell() == end:
        raise tarfile.ReadError("it has no end mark")
    return None


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def _is_recording(stream: Any, info: tarfile.TarInfo, suffix: str) -> bool:
    """As `find_recordings` tells them from other files."""
    if suffix in SUFFIXES or suffix in OTHERS:
        return suffix in SUFFIXES
    stream.seek(info.offset_data)
    return looks_like_media(stream.read(min(info.size, HEAD_BYTES)))


def _unused(name: str, used: Mapping[str, Any]) -> str:
    """The name of a member, with a number if an earlier one has the same."""
    candidates = itertools.chain([name], (f"{name}#{number}" for number in itertools.count(2)))
    return next(candidate for candidate in candidates if candidate not in used)
