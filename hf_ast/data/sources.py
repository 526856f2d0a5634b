"""Where the recordings of a corpus are: a folder, a manifest, tar shards, a data set of `datasets`, or a URL."""

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .dataset_reader import DatasetReader, import_datasets
from .readers import FolderReader, ManifestReader, Reader, ShardReader, filesystem_of, read_bytes as read_bytes
from .shards import SHARD_SUFFIXES, expand_pattern, is_shard
from .tables import MANIFEST_SUFFIXES, suffix_of

# Number of names in an error
MAX_NAMES = 3


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where recordings are, in a form small enough to be recorded in a plan and sent to other machines.

    Attributes:
        kind: "folder", "manifest", "shards" (tar files), or "dataset" (of `datasets`).
        location: Absolute path, URL, pattern of shards, or id of a data set.
        subset, split: Which part of a data set; all splits if None.
    """

    kind: str
    location: str
    subset: str | None = None
    split: str | None = None

    def names(self) -> list[str]:
        """Names of the recordings, each once, in an order that is always the same.

        Names are relative to the folder, or as in the manifest, or those of a shard and a member of it. Those of a
        data set are its paths if every row has one of its own, else the split and the number of the row.

        Raises:
            ValueError: There is no recording, or the manifest has no column of paths.
        """
        names = self._contents.names()
        self._expect_some(names)
        return names

    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """Names of the recordings with their metadata, which are the other columns of each row.

        They come in the order of `names`, but a recording in several rows of a manifest comes as often. Class numbers
        of `datasets` become names of classes, and rows of a data set have its `split`, if there are several and no
        column has that name. Recordings in a folder have no metadata, those in shards what is beside them in their
        sample: the entries of a `.json` member, and the texts of `.cls` and `.txt` members under these names.

        Raises:
            ValueError: As in `names`.
        """
        rows = self._contents.rows()
        self._expect_some(rows)
        return rows

    def unreadable(self) -> dict[str, str]:
        """Name of whatever may hold recordings, but cannot be searched or opened -> the reason.

        These are folders, files whose kind only their content could tell, shards, and members of shards. Recordings
        among `names` that cannot be decoded are not here: nobody has opened them yet.
        """
        return self._contents.unreadable()

    def archives(self) -> list[str]:
        """Names of the archives in a folder, which are not opened."""
        return self._contents.archives()

    def reader(self) -> Reader:
        """Return a reader, which opens the recordings; one per process."""
        if self.kind == "folder":
            return FolderReader(self.location)
        if self.kind == "manifest":
            return ManifestReader(self.location)
        if self.kind == "shards":
            return ShardReader(self.location)
        return DatasetReader(self.location, self.subset, self.split)

    @cached_property
    def _contents(self) -> Reader:
        """A reader that keeps what it found."""
        return self.reader()

    def _expect_some(self, recordings: list[Any]) -> None:
        if recordings:
            return
        found = self.unreadable()
        reasons = [f"{name!r}: {reason}" for name, reason in found.items()]
        reasons += [f"{name!r} is an archive, which must be unpacked" for name in self.archives()]
        more = f" ({'; '.join(reasons[:MAX_NAMES])}{'; ...' if len(reasons) > MAX_NAMES else ''})" if reasons else ""
        raise ValueError(f"source={self.location!r} holds no recording{more}.")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_contents"}


@dataclass(frozen=True, kw_only=True)
class LoadedSource(Source):
    """A `Dataset` or `DatasetDict` of `datasets` that is loaded already.

    Attributes:
        data: The data set.
    """

    kind: str = "dataset"
    location: str = "data set in memory"
    data: Any

    def reader(self) -> Reader:
        """Return a reader, which opens the recordings; one per process."""
        return DatasetReader(self.location, self.subset, self.split, self.data)


def find_source(source: str | os.PathLike[str], *, subset: str | None = None, split: str | None = None) -> Source:
    """Find out what a user means by the source of a corpus.

    Args:
        source: A folder, searched with its subfolders for recordings (see `find_recordings`); a CSV, TSV, JSON, JSON
            lines or Parquet manifest with a column of paths (one of `PATH_COLUMNS`), absolute or relative to the
            manifest; tar shards: one file, a pattern such as "shard-{000..005}.tar" (see `expand_pattern`), or a
            folder of them without any other recording; a folder of `datasets` or the id of a data set on the Hub; or
            the URL of a folder, manifest or shard in any filesystem of fsspec, such as "s3://bucket/recordings".
        subset, split: Which part of a data set; all splits if None.

    Raises:
        ValueError: It is none of these.
        OSError: A folder cannot be searched.
    """
    text = os.fspath(source)
    if "://" in text:
        kind, location = _kind_of_url(text), text.rstrip("/")
    elif os.path.isdir(text):
        kind, location = _kind_of_folder(Path(text)), os.path.abspath(text)
    elif is_shard(text) and (os.path.isfile(text) or expand_pattern(text) not in ([], [text])):
        kind, location = "shards", os.path.abspath(text)
    elif os.path.isfile(text):
        kind, location = _kind_of_file(text), os.path.abspath(text)
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", text) and suffix_of(text) not in MANIFEST_SUFFIXES | {*SHARD_SUFFIXES}:
        kind, location = "dataset", text
    else:
        raise ValueError(
            f"source={text!r} is not a folder, a manifest, tar shards or a URL, and cannot be the id of a data set "
            "(owner/name)."
        )
    if kind != "dataset" and (subset or split):
        raise ValueError(f"source={text!r} is not a data set, so subset={subset!r} and split={split!r} do not apply.")
    return Source(kind=kind, location=location, subset=subset, split=split)


def as_source(source: Any, *, subset: str | None = None) -> Source:
    """Return what `find_source` finds, a `Source` as it is, or a loaded `Dataset` or `DatasetDict` of `datasets`.

    Raises:
        ValueError: It is none of these, or a subset is given, but the source is not a data set given by its name.
    """
    if isinstance(source, str | os.PathLike):
        return find_source(source, subset=subset)
    if subset is not None:
        raise ValueError(f"subset={subset!r} applies only to a data set that is given by its name.")
    if isinstance(source, Source):
        return source
    datasets = import_datasets()
    if isinstance(source, datasets.Dataset | datasets.DatasetDict):
        return LoadedSource(data=source)
    raise ValueError(
        f"source is a {type(source).__name__}, but must be a path, the id of a data set, a Dataset or a DatasetDict."
    )


def _kind_of_url(url: str) -> str:
    if is_shard(url):
        return "shards"
    if suffix_of(url) == ".parquet" and _holds_recordings(url):
        return "dataset"
    return "manifest" if suffix_of(url) in MANIFEST_SUFFIXES else "folder"


def _kind_of_file(path: str) -> str:
    if suffix_of(path) not in MANIFEST_SUFFIXES:
        known = ", ".join(sorted(MANIFEST_SUFFIXES))
        raise ValueError(
            f"source={path!r} is a file, but no manifest ({known}) and no tar shard; give its folder instead."
        )
    return "dataset" if suffix_of(path) == ".parquet" and _holds_recordings(path) else "manifest"


def _kind_of_folder(folder: Path) -> str:
    """A folder of recordings, or else of tar shards, or of what `save_to_disk` and `datasets` write."""
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return "dataset"
    found = FolderReader(str(folder)).found
    if not found.names and any(map(is_shard, found.archives)):
        return "shards"
    holds_tables = not found.names and any(path.suffix in (".parquet", ".arrow") for path in folder.rglob("*"))
    return "dataset" if holds_tables else "folder"


def _holds_recordings(location: str) -> bool:
    """Whether a Parquet file has the recordings themselves, as `datasets` stores them."""
    try:
        import pyarrow.parquet
        from pyarrow.types import is_struct
    except ImportError as error:
        raise ImportError(f'Reading {location!r} needs pyarrow: pip install "hf-ast[corpus]"') from error

    filesystem, path = filesystem_of(location)
    with filesystem.open(path) as file:
        schema = pyarrow.parquet.read_schema(file)
    return any(
        {"bytes", "path"} == {part.name for part in field.type.fields} for field in schema if is_struct(field.type)
    )
