"""Recordings in a data set of `datasets`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from .readers import FileReader, Reader
from .tables import path_column, suffix_of


class DatasetReader(Reader):
    """Recordings in a column of a data set, which stay encoded: `hf_ast.data.audio` decodes them.

    Args:
        location: Folder or Parquet file, or the id of a data set on the Hub.
        subset, split: Which part of it; all splits if None.
        data: A `Dataset` or `DatasetDict` that is loaded already, or None.
    """

    def __init__(self, location: str, subset: str | None, split: str | None, data: Any = None):
        self.location = location
        self.subset = subset
        self.split = split
        self.data = data

    @cached_property
    def loaded(self) -> Mapping[str, Any]:
        """Data sets with all their columns, by the names of their splits."""
        datasets = import_datasets()
        folder = Path(self.location)
        if self.data is not None:
            loaded = self.data
        elif (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            loaded = datasets.load_from_disk(self.location)
        elif suffix_of(self.location) == ".parquet" and not folder.is_dir():
            loaded = datasets.load_dataset("parquet", data_files=self.location)
        else:
            loaded = datasets.load_dataset(self.location, self.subset)
        splits = loaded if isinstance(loaded, datasets.DatasetDict) else {str(loaded.split or "train"): loaded}
        if self.split is not None:
            if self.split not in splits:
                raise ValueError(f"split={self.split!r} is not one of {list(splits)} in {self.location!r}.")
            splits = {self.split: splits[self.split]}
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
        return audio[0] if len(audio) == 1 else path_column(split.column_names, self.location)

    def names(self) -> list[str]:
        """See `Reader`."""
        paths, places = [], []
        for name, split in self.splits.items():
            table = split.with_format("arrow")
            for rows in table.iter(1000):  # only the paths: the recordings themselves stay on the disk
                paths += rows.column("audio").combine_chunks().field("path").to_pylist()
            places += [f"{name}/{row}" for row in range(len(split))]
        return paths if all(paths) and len(set(paths)) == len(paths) else places

    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """See `Reader`."""
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
        """See `Reader`."""
        row = index
        for split in self.splits.values():
            if row < len(split):
                audio = split[row]["audio"]
                if audio is None or (audio["bytes"] is None and audio["path"] is None):
                    raise ValueError(f"{name!r} has neither bytes nor a path in the data set {self.location!r}.")
                if audio["bytes"] is not None:
                    yield audio["bytes"]
                else:
                    # Relative paths of a data set in memory are relative to the working directory
                    with FileReader("" if self.data is not None else self.location).open(audio["path"], 0) as file:
                        yield file
                return
            row -= len(split)
        raise IndexError(f"The data set {self.location!r} has no recording {index}; it has changed.")


def import_datasets() -> Any:
    """Return the package `datasets`."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError('Reading a data set needs datasets: pip install "hf-ast[train]"') from error
    return datasets


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
