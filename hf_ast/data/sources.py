"""Where the recordings of a corpus are: a folder, a manifest, a data set of `datasets`, or a URL that fsspec knows."""

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hf_ast.data.audio import SUFFIXES

from .tables import MANIFEST_SUFFIXES, manifest_rows, path_column, suffix_of


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where recordings are, in a form small enough to be recorded in a plan and sent to other machines.

    Attributes:
        kind: "folder", "manifest", or "dataset" (of `datasets`).
        location: Absolute path, URL or id of a data set.
        subset, split: Which part of a data set; all splits if None.
    """

    kind: str
    location: str
    subset: str | None = None
    split: str | None = None

    def names(self) -> list[str]:
        """Names of the recordings, each once, in an order that is always the same.

        Names are relative to the folder, or as in the manifest. Those of a data set are its paths if every row has one
        of its own, else the split and the number of the row.

        Raises:
            ValueError: There is no recording, or the manifest has no column of paths.
        """
        if self.kind == "dataset":
            names = _Dataset(self).names()
        elif self.kind == "manifest":
            names = list(dict.fromkeys(path for path, _ in _manifest_rows(self.location, only_paths=True)))
        else:
            names = sorted(_files_below(self.location))
        if not names:
            raise ValueError(f"source={self.location!r} holds no recording.")
        return names

    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """Names of the recordings with their metadata, which are the other columns of each row.

        They come in the order of `names`, but a recording in several rows of a manifest comes as often. Class numbers
        of `datasets` become names of classes, and rows of a data set have its `split`, if there are several and no
        column has that name. Recordings in a folder have no metadata.

        Raises:
            ValueError: As in `names`.
        """
        if self.kind == "dataset":
            return _Dataset(self).rows()
        if self.kind == "folder":
            return [(name, {}) for name in self.names()]
        rows = _manifest_rows(self.location)
        if not rows:
            raise ValueError(f"source={self.location!r} holds no recording.")
        return rows

    def reader(self) -> "Reader":
        """Return a reader, which opens the recordings; one per process."""
        return _Dataset(self) if self.kind == "dataset" else _Files(self)


@dataclass(frozen=True, kw_only=True)
class LoadedSource(Source):
    """A `Dataset` or `DatasetDict` of `datasets` that is loaded already.

    Attributes:
        data: The data set.
    """

    kind: str = "dataset"
    location: str = "data set in memory"
    data: Any


class Reader:
    """Opens the recordings of a source."""

    @contextmanager
    def open(self, name: str, index: int) -> Iterator[str | bytes]:
        """Yield a recording as a local file or as its bytes, for as long as it is needed.

        Args:
            name: Its name in the source.
            index: Its place in `Source.names`.
        """
        raise NotImplementedError
        yield


def find_source(source: str | os.PathLike[str], *, subset: str | None = None, split: str | None = None) -> Source:
    """Find out what a user means by the source of a corpus.

    Args:
        source: A folder, searched with its subfolders for files whose endings libsndfile knows; a CSV, TSV, JSON, JSON
            lines or Parquet manifest with a column of paths (one of `PATH_COLUMNS`), absolute or relative to the
            manifest; a folder of `datasets` or the id of a data set on the Hub; or the URL of a folder or manifest in
            any filesystem of fsspec, such as "s3://bucket/recordings".
        subset, split: Which part of a data set; all splits if None.

    Raises:
        ValueError: It is none of these.
    """
    text = os.fspath(source)
    is_url = "://" in text
    if is_url or Path(text).is_file():
        if not is_url and suffix_of(text) not in MANIFEST_SUFFIXES:
            known = ", ".join(sorted(MANIFEST_SUFFIXES))
            raise ValueError(f"source={text!r} is a file, but no manifest ({known}); give its folder instead.")
        location = text.rstrip("/") if is_url else os.path.abspath(text)
        kind = "manifest" if suffix_of(location) in MANIFEST_SUFFIXES else "folder"
        if suffix_of(location) == ".parquet" and _holds_recordings(location):
            kind = "dataset"
    elif Path(text).is_dir():
        kind, location = "dataset" if _is_dataset_folder(Path(text)) else "folder", os.path.abspath(text)
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        kind, location = "dataset", text
    else:
        raise ValueError(
            f"source={text!r} is not a folder, a manifest or a URL, and cannot be the id of a data set (owner/name)."
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
    try:
        import datasets
    except ImportError as error:
        raise ImportError('Reading a data set needs datasets: pip install "hf-ast[train]"') from error

    if isinstance(source, datasets.Dataset | datasets.DatasetDict):
        return LoadedSource(data=source)
    raise ValueError(
        f"source is a {type(source).__name__}, but must be a path, the id of a data set, a Dataset or a DatasetDict."
    )


def _is_dataset_folder(folder: Path) -> bool:
    """Whether `save_to_disk` wrote it, or it holds Parquet or Arrow files and no recordings."""
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return True
    suffixes = {path.suffix.lower() for path in folder.rglob("*")}
    return not suffixes & SUFFIXES and bool(suffixes & {".parquet", ".arrow"})


def _files_below(location: str) -> Iterator[str]:
    """Recordings in a folder and its subfolders, as paths relative to it; hidden ones are left out."""
    if "://" in location:
        filesystem, root = _filesystem(location)
        paths = [path.removeprefix(root).lstrip("/") for path in filesystem.find(root)]
    else:
        # A broken link is listed, so that the results say that it cannot be read
        paths = [path.relative_to(location).as_posix() for path in Path(location).rglob("*") if not path.is_dir()]
    for path in paths:
        if suffix_of(path) in SUFFIXES and not any(part.startswith(".") for part in path.split("/")):
            yield path


def read_bytes(location: str) -> bytes:
    """Return the content of a file, given by its path or URL."""
    if "://" not in location:
        return Path(location).read_bytes()
    filesystem, path = _filesystem(location)
    content: bytes = filesystem.cat_file(path)
    return content


def _manifest_rows(location: str, *, only_paths: bool = False) -> list[tuple[str, dict[str, Any]]]:
    return manifest_rows(read_bytes(location), location, only_paths=only_paths)


def _holds_recordings(location: str) -> bool:
    """Whether a Parquet file has the recordings themselves, as `datasets` stores them."""
    import pyarrow.parquet
    from pyarrow.types import is_struct

    filesystem, path = _filesystem(location)
    with filesystem.open(path) as file:
        schema = pyarrow.parquet.read_schema(file)
    return any(
        {"bytes", "path"} == {part.name for part in field.type.fields} for field in schema if is_struct(field.type)
    )


def _filesystem(location: str) -> tuple[Any, str]:
    """The filesystem of fsspec for a path or URL, and the path in it."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(location)
    except (ImportError, ValueError) as error:
        raise ValueError(f"source={location!r} cannot be opened by fsspec: {error}") from error


class _Files(Reader):
    """Recordings in files, here or elsewhere."""

    def __init__(self, source: Source):
        is_manifest = source.kind == "manifest"
        self.folder = posixpath.dirname(source.location) if is_manifest else source.location

    @contextmanager
    def open(self, name: str, index: int) -> Iterator[str | bytes]:
        place = name if "://" in name or os.path.isabs(name) else posixpath.join(self.folder, name)
        place = place.removeprefix("file://")
        if "://" not in place:
            yield place
            return
        # From disk, a recording of hours is decoded in blocks; in memory it would have to be there as a whole
        filesystem, path = _filesystem(place)
        with TemporaryDirectory(prefix="hf-ast-") as folder:
            copy = os.path.join(folder, posixpath.basename(path))
            filesystem.get_file(path, copy)
            yield copy


class _Dataset(Reader):
    """Recordings in a column of a data set, which stay encoded: soundfile decodes them."""

    def __init__(self, source: Source):
        self.source = source

    @cached_property
    def loaded(self) -> Mapping[str, Any]:
        """Data sets with all their columns, by the names of their splits."""
        try:
            import datasets
        except ImportError as error:
            raise ImportError('Reading a data set needs datasets: pip install "hf-ast[train]"') from error

        source = self.source
        folder = Path(source.location)
        if isinstance(source, LoadedSource):
            loaded = source.data
        elif (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            loaded = datasets.load_from_disk(source.location)
        elif suffix_of(source.location) == ".parquet" and not folder.is_dir():
            loaded = datasets.load_dataset("parquet", data_files=source.location)
        else:
            loaded = datasets.load_dataset(source.location, source.subset)
        splits = loaded if isinstance(loaded, datasets.DatasetDict) else {str(loaded.split or "train"): loaded}
        if source.split is not None:
            if source.split not in splits:
                raise ValueError(f"split={source.split!r} is not one of {list(splits)} in {source.location!r}.")
            splits = {source.split: splits[source.split]}
        return splits

    @cached_property
    def splits(self) -> Mapping[str, Any]:
        """The same with only the column of audio, which stays encoded."""
        import datasets

        audio = {}
        for name, split in self.loaded.items():
            column = self._audio_column(split)
            only = split.select_columns([column])
            if column != "audio":
                only = only.rename_column(column, "audio")
            audio[name] = only.cast_column("audio", datasets.Audio(decode=False))
        return audio

    def _audio_column(self, split: Any) -> str:
        import datasets

        audio = [name for name, feature in split.features.items() if isinstance(feature, datasets.Audio)]
        return audio[0] if len(audio) == 1 else path_column(split.column_names, self.source.location)

    def names(self) -> list[str]:
        paths, places = [], []
        for name, split in self.splits.items():
            table = split.with_format("arrow")
            for rows in table.iter(1000):  # only the paths: the recordings themselves stay on the disk
                paths += rows.column("audio").combine_chunks().field("path").to_pylist()
            places += [f"{name}/{row}" for row in range(len(split))]
        return paths if all(paths) and len(set(paths)) == len(paths) else places

    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        others = []
        for name, split in self.loaded.items():
            known = split.remove_columns([self._audio_column(split)])
            of_split = {"split": name} if len(self.loaded) > 1 else {}
            # Without any other column, a data set of `datasets` has no rows
            entries = known.to_list() if known.column_names else [{} for _ in range(len(split))]
            others += [of_split | _with_class_names(entry, known.features) for entry in entries]
        return list(zip(self.names(), others, strict=True))

    @contextmanager
    def open(self, name: str, index: int) -> Iterator[str | bytes]:
        row = index
        for split in self.splits.values():
            if row < len(split):
                audio = split[row]["audio"]
                if audio["bytes"] is not None:
                    yield audio["bytes"]
                else:
                    # Relative paths of a data set in memory are relative to the working directory
                    folder = "" if isinstance(self.source, LoadedSource) else self.source.location
                    with _Files(Source(kind="folder", location=folder)).open(audio["path"], 0) as file:
                        yield file
                return
            row -= len(split)
        raise IndexError(f"The data set {self.source.location!r} has no recording {index}; it has changed.")


def _with_class_names(entry: dict[str, Any], features: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `datasets` with the names of classes instead of their numbers."""
    from datasets import ClassLabel, List

    named = {}
    for name, value in entry.items():
        feature = features[name]
        inner = feature.feature if isinstance(feature, List) else feature
        if isinstance(inner, ClassLabel) and value is not None:
            # -1 stands for an unknown class
            value = [
                inner.int2str(number) for number in (value if isinstance(value, list) else [value]) if number >= 0
            ]
        named[name] = value
    return named
