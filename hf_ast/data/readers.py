"""What is in a folder, a manifest or tar shards, and what opens it."""

import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from .finding import Found, find_recordings, find_remote_recordings
from .shards import SHARD_SUFFIXES, Shard, expand_pattern, folder_of
from .tables import manifest_rows


class Reader:
    """Lists the recordings of a source, and opens them; one per process."""

    def names(self) -> list[str]:
        """Names of the recordings, as in `Source.names`; there may be none."""
        raise NotImplementedError

    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """Names with metadata, as in `Source.rows`."""
        return [(name, {}) for name in self.names()]

    def unreadable(self) -> dict[str, str]:
        """As `Source.unreadable`."""
        return {}

    def archives(self) -> list[str]:
        """As `Source.archives`."""
        return []

    @contextmanager
    def open(self, name: str, index: int) -> Iterator[str | bytes]:
        """Yield a recording as a local file or as its bytes, for as long as it is needed.

        Args:
            name: Its name in the source.
            index: Its place in `Source.names`.
        """
        raise NotImplementedError
        yield


class FileReader(Reader):
    """Recordings in files, here or elsewhere.

    Args:
        folder: Path or URL to which relative names are relative.
    """

    def __init__(self, folder: str):
        self.folder = folder

    @contextmanager
    def open(self, name: str, index: int) -> Iterator[str | bytes]:
        """See `Reader`."""
        place = name if "://" in name or os.path.isabs(name) else posixpath.join(self.folder, name)
        place = place.removeprefix("file://")
        if "://" not in place:
            # Tables of Windows separate folders by backslashes, and tables may have spaces before their separators
            spellings = (place, place.rstrip(), place.rstrip().replace("\\", "/"))
            yield next(filter(os.path.exists, spellings), place)
            return
        # From disk, a recording of hours is decoded in blocks; in memory it would have to be there as a whole
        filesystem, path = filesystem_of(place)
        with TemporaryDirectory(prefix="hf-ast-") as folder:
            copy = os.path.join(folder, posixpath.basename(path))
            filesystem.get_file(path, copy)
            yield copy


class FolderReader(FileReader):
    """Recordings in a folder and its subfolders."""

    @cached_property
    def found(self) -> Found:
        """What is in the folder."""
        if "://" in self.folder:
            return find_remote_recordings(*filesystem_of(self.folder))
        return find_recordings(self.folder)

    def names(self) -> list[str]:
        """See `Reader`."""
        return self.found.names

    def unreadable(self) -> dict[str, str]:
        """See `Reader`."""
        return dict(self.found.unreadable)

    def archives(self) -> list[str]:
        """See `Reader`."""
        return self.found.archives


class ManifestReader(FileReader):
    """Recordings that a manifest names.

    Args:
        location: Path or URL of the manifest.
    """

    def __init__(self, location: str):
        super().__init__(posixpath.dirname(location))
        self.location = location

    def names(self) -> list[str]:
        """See `Reader`."""
        rows = manifest_rows(read_bytes(self.location), self.location, only_paths=True)
        return list(dict.fromkeys(path for path, _ in rows))

    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """See `Reader`."""
        return manifest_rows(read_bytes(self.location), self.location)


class ShardReader(Reader):
    """Recordings in tar shards, each with the name of its shard before its own.

    Args:
        location: Path, URL, pattern or folder of shards.
    """

    def __init__(self, location: str):
        if os.path.isdir(location):
            below = FolderReader(location).found.archives
            paths = [posixpath.join(location, name) for name in below if name.lower().endswith(SHARD_SUFFIXES)]
        else:
            paths = expand_pattern(location)
        folder = folder_of(paths)
        self.paths = {path.removeprefix(folder).lstrip("/"): path for path in paths}
        self._shards: dict[str, Shard] = {}

    def names(self) -> list[str]:
        """See `Reader`."""
        return [name for name, _ in self.rows()]

    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """See `Reader`."""
        return [
            (f"{shard}/{name}", dict(member.columns))
            for shard in self.paths
            for name, member in self._shard(shard).members.items()
        ]

    def unreadable(self) -> dict[str, str]:
        """See `Reader`."""
        return {
            f"{shard}/{name}" if name else shard: problem
            for shard in self.paths
            for name, problem in self._shard(shard).problems.items()
        }

    @contextmanager
    def open(self, name: str, index: int) -> Iterator[str | bytes]:
        """See `Reader`."""
        shard = next((shard for shard in self.paths if name.startswith(f"{shard}/")), None)
        if shard is None:
            raise FileNotFoundError(f"There is no shard of the name with which {name!r} begins.")
        yield self._shard(shard).read(name.removeprefix(f"{shard}/"))

    def _shard(self, name: str) -> Shard:
        if name not in self._shards:
            path = self.paths[name]
            if "://" in path:
                filesystem, path = filesystem_of(path)
                self._shards[name] = Shard(partial(filesystem.open, path, "rb"), name)
            else:
                self._shards[name] = Shard(partial(_open_here, path), name)
        return self._shards[name]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_shards": {}}  # they are indexed again where they are needed


def _open_here(path: str) -> IO[bytes]:
    return open(path, "rb")


def read_bytes(location: str) -> bytes:
    """Return the content of a file, given by its path or URL."""
    if "://" not in location:
        return Path(location).read_bytes()
    filesystem, path = filesystem_of(location)
    content: bytes = filesystem.cat_file(path)
    return content


def filesystem_of(location: str) -> tuple[Any, str]:
    """Return the filesystem of fsspec for a path or URL, and the path in it."""
    try:
        import fsspec
    except ImportError as error:
        raise ImportError(f'Reading {location!r} needs fsspec: pip install "hf-ast[corpus]"') from error
    try:
        return fsspec.core.url_to_fs(location)
    except (ImportError, ValueError) as error:
        raise ValueError(f"source={location!r} cannot be opened by fsspec: {error}") from error
