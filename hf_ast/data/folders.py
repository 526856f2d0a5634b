"""What a tree of folders says about the recordings in it, if the whole tree fits one reading.

    owl/1.wav                     folders are classes
    train/owl/1.wav               folders of splits above those of the classes
    owl/1.wav, testing_list.txt   classes, with the lists of Speech Commands

Any other tree is an error that shows it.
"""

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .labels import expect_clear_folders, labels_in, normalized
from .splitting import TEST, TRAIN, VALIDATION, split_name
from .tables import MANIFEST_SUFFIXES

# Speech Commands: noise for mixing, which belongs to no class
NOISE_FOLDER = "_background_noise_"
# Lists that come with Speech Commands, and the splits of the files named in them
SPLIT_LISTS = {"validation_list.txt": VALIDATION, "testing_list.txt": TEST}
# Folders that an error shows
MAX_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A recording in a tree: its name, its place among the recordings, its classes and its split."""

    name: str
    index: int
    labels: tuple[str, ...]
    split: str | None


def read_tree(
    location: str,
    names: Sequence[str],
    *,
    level: int | None = None,
    separator: str | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Leaf]:
    """Return what a tree says about its recordings.

    Recordings that lie in no folder have no class. Those in `_background_noise_` belong to none.

    Args:
        location: The folder.
        names: Recordings in it, as paths relative to it.
        level: Which folder in the path of a recording is its class, counted from 1; if None, the tree must tell.
        separator: Separator of several classes in the name of a folder; None to ask where there may be one.
        say: Gets remarks, as sentences; None if the classes do not matter, so that any tree is right.

    Raises:
        ValueError: The tree does not fit one reading, a folder may stand for several classes, or a class has no
            recording.
    """
    folders = {name: [normalized(part) for part in PurePosixPath(name).parts[:-1]] for name in names}
    classed = {name: path for name, path in folders.items() if path and NOISE_FOLDER not in path}
    lists = _split_lists(location)
    tops = {path[0] for path in classed.values()}
    has_splits = not lists and bool(tops) and all(map(_is_split, tops))
    has_splits = has_splits and all(len(path) > 1 for path in classed.values())
    if say is None:
        return [
            Leaf(name=name, index=index, labels=(), split=_split(folders[name], has_splits, lists, name, location))
            for index, name in enumerate(names)
        ]
    depth = level or (2 if has_splits else 1)
    if level is None:
        _expect_one_reading(location, folders, classed, has_splits)
    elif level < 1 or not any(len(path) >= level for path in classed.values()):
        raise ValueError(
            f"label_level={level} must be at least 1, and not deeper than the folders.\n{tree(location, names)}"
        )
    classes = {name: path[depth - 1] for name, path in classed.items() if len(path) >= depth}
    expect_clear_folders(sorted(set(classes.values())), separator)
    if level is None:
        _expect_no_empty_class(location, set(classes.values()), depth, say)
    missing = [name for name in lists if name not in folders]
    if missing:
        say(f"{len(missing)} recordings in the lists of splits of {location!r} are not there, such as {missing[0]!r}.")
    return [
        Leaf(
            name=name,
            index=index,
            labels=labels_in(classes[name], separator or "") if name in classes else (),
            split=_split(folders[name], has_splits, lists, name, location),
        )
        for index, name in enumerate(names)
    ]


def tree(location: str, names: Sequence[str]) -> str:
    """Show the folders of a tree with their numbers of recordings, abbreviated, as lines of text."""
    counts = Counter(posixpath.dirname(name) for name in names)
    shown = sorted(counts)[:MAX_SHOWN]
    lines = [f"  {posixpath.join(folder, '') or 'directly in it'}: {counts[folder]} recordings" for folder in shown]
    if len(counts) > MAX_SHOWN:
        lines.append(f"  and {len(counts) - MAX_SHOWN} other folders")
    return "\n".join([f"{location!r} holds", *lines])


def _is_split(folder: str) -> bool:
    try:
        split_name(folder, "")
    except ValueError:
        return False
    return True


def _split(path: Sequence[str], has_splits: bool, lists: dict[str, str], name: str, location: str) -> str | None:
    if lists:
        return lists.get(name, TRAIN)
    return split_name(path[0], location) if has_splits and path and _is_split(path[0]) else None


def _expect_one_reading(
    location: str, folders: dict[str, list[str]], classed: dict[str, list[str]], has_splits: bool
) -> None:
    names = list(folders)
    in_root = [name for name, path in folders.items() if not path]
    depths = {len(path) for path in classed.values()}
    tops = sorted({path[0] for path in classed.values()})
    splits = {split_name(top, location) for top in tops if _is_split(top)}
    options = (
        "Give the folder whose subfolders are the classes; or say which folder in a path is the class, counted from "
        "1, with label_level= (--label-level); or give a table with the columns `path` and `label`."
    )
    tables = [] if "://" in location else _tables(location)
    if tables and (len(tops) < 2 or any(map(_is_official, tables))):
        raise ValueError(
            f"source={location!r} has folders that need not be classes, and the table {tables[0]!r}; give this table "
            f"instead, if it has the labels. {options}\n{tree(location, names)}"
        )
    if not tops:
        return
    if has_splits:
        wrong = "lie beside the folders of splits" if in_root else ""
        wrong = wrong or ("lie at different depths or in several folders below the splits" if depths != {2} else "")
    elif len(splits) > 1 or (splits and len(tops) == 1):
        wrong = "lie in folders of splits, without folders of classes" if len(splits) == len(tops) or in_root else ""
        wrong = wrong or "lie in folders of splits and in others"
    elif depths != {1}:
        wrong = "lie in several folders, any of which may be its class"
    else:
        wrong = ""
    if not wrong:
        return
    example = in_root[0] if in_root and has_splits else max(classed, key=lambda name: len(classed[name]))
    if len(tops) == 1 and not splits:
        options = f"If {tops[0]!r} only holds the others, give {posixpath.join(location, tops[0])!r}. {options}"
    raise ValueError(
        f"source={location!r} does not say what the classes are: recordings such as {example!r} {wrong}. {options}\n"
        f"{tree(location, names)}"
    )


def _expect_no_empty_class(location: str, classes: set[str], depth: int, say: Callable[[str], None]) -> None:
    """Raise a ValueError if a folder beside those of the classes is empty; name one that holds only other files."""
    if "://" in location:
        return
    folders = [Path(location)]
    for _ in range(depth):
        folders = [
            Path(entry) for folder in folders for entry in os.scandir(folder) if entry.is_dir() and _counts(entry.name)
        ]
    others = sorted(folder for folder in folders if normalized(folder.name) not in classes)
    empty = [folder for folder in others if not any(files for _, _, files in os.walk(folder))]
    if empty:
        raise ValueError(
            f"source={location!r} has {len(empty)} empty folder{'s' * (len(empty) > 1)} beside the classes, such as "
            f"{empty[0].name!r}. A class needs recordings that can be read; remove a folder that is no class."
        )
    for folder in others:
        say(f"The folder {folder.name!r} holds no recording, so it is no class.")


def _counts(folder: str) -> bool:
    return not folder.startswith((".", "__")) and folder != NOISE_FOLDER


def _tables(location: str) -> list[str]:
    """Return tables in a folder and in those directly in it that may have the labels, relative to it."""
    found = []
    for folder in [location, *(entry.path for entry in os.scandir(location) if entry.is_dir())]:
        for name in sorted(os.listdir(folder)):
            suffix = posixpath.splitext(name)[1].lower()
            if suffix in MANIFEST_SUFFIXES - {".txt"} and not name.startswith("."):
                found.append(os.path.relpath(os.path.join(folder, name), location))
    return sorted(found)


def _is_official(table: str) -> bool:
    """Whether a table in a release of a data set is known by its name."""
    known = ("esc50.csv", "UrbanSound8K.csv", "FSD50K.ground_truth/dev.csv", "FSD50K.ground_truth/eval.csv")
    return Path(table).as_posix().endswith((*known, "openmic-2018-aggregated-labels.csv"))


def _split_lists(folder: str) -> dict[str, str]:
    """Name of each recording in the lists of Speech Commands -> its split."""
    found: dict[str, str] = {}
    if "://" in folder:
        return found
    for name, split in SPLIT_LISTS.items():
        path = Path(folder) / name
        if path.is_file():
            found |= dict.fromkeys(path.read_text(encoding="utf-8-sig").split(), split)
    return found
