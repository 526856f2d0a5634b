"""The recordings in a folder: known by their suffix, and by their content where the suffix does not tell."""

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .formats import HEAD_BYTES, SUFFIXES, looks_like_media

# Files that are asked for their first bytes in one request, where a filesystem is far away
NUM_HEADS = 500
ARCHIVES = frozenset(".7z .bz2 .cab .dmg .gz .iso .lz4 .rar .tar .tbz2 .tgz .txz .xz .zip .zst".split())
# Files with these suffixes are no recordings, and are not opened
OTHERS = (
    ARCHIVES
    | frozenset(
        # Text, documents and annotations
        ".bib .cha .conf .cfg .doc .docx .eaf .htm .html .ini .lab .license .log .lrc .md .odt .pdf .ppt .pptx .rst "
        ".rtf .srt .tex .textgrid .trs .txt .vtt "
        # Tables and data
        ".arrow .csv .db .feather .h5 .hdf5 .json .jsonl .lock .mat .npy .npz .ods .parquet .pickle .pkl .sqlite "
        ".tfrecord .toml .tsv .xls .xlsx .xml .yaml .yml "
        # Images
        ".avif .bmp .eps .gif .heic .ico .jpeg .jpg .png .psd .svg .tif .tiff .webp "
        # Code and programs
        ".bat .c .cc .class .cpp .css .dll .exe .go .h .hpp .ipynb .jar .java .js .m .php .pl .ps1 .py .pyc .pyi .r "
        ".rb .rs .sh .so .sql .swift .wasm "
        # Models, and unfinished or left-over files
        ".ckpt .index .onnx .pt .pth .safetensors .md5 .part .sha256 .tmp".split()
    )
) - SUFFIXES

# Sound that no decoder reads: nothing in the file tells its rate and codec, or the format is too rare
_BARE, _RARE = ".alaw .g722 .g726 .gsm .pcm .raw .sln .ulaw .vox", ".hcom .maud .mmf .rso"
NOT_READ = {
    **dict.fromkeys(
        _BARE.split(), "it has no header that tells its rate and codec; convert it, such as by sox or ffmpeg"
    ),
    **dict.fromkeys(_RARE.split(), "no decoder reads this format; convert it, such as by sox"),
}


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is in a folder. Names are paths relative to it, with slashes, in their order.

    Attributes:
        names: The recordings; whether they can be read is not known yet.
        unreadable: Name of each folder and file that could not be searched or told from a recording -> the reason.
        archives: Names of archives, which are not opened.
    """

    names: list[str]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    archives: list[str] = field(default_factory=list)


def find_recordings(folder: str | os.PathLike[str]) -> Found:
    """Find the recordings in a folder and its subfolders.

    A file with a suffix of `SUFFIXES` in upper or lower case is one, whatever it holds, as is a file of another suffix
    that is not in `OTHERS`, or of none, whose first bytes look like media. Hidden files and folders are left out.
    Links to folders are followed, and each folder is searched once.

    Args:
        folder: A folder on this machine.

    Raises:
        OSError: The folder itself cannot be searched.
    """
    search = _Search(os.fspath(folder))
    search.run()
    return Found(
        names=sorted(search.names),
        unreadable=dict(sorted(search.unreadable.items())),
        archives=sorted(search.archives),
    )


def find_remote_recordings(filesystem: Any, folder: str) -> Found:
    """The same in a folder of a filesystem of fsspec."""
    names, unclear, archives, unreadable = [], [], [], {}
    for path in filesystem.find(folder):
        name = path.removeprefix(folder).lstrip("/")
        if any(part.startswith(".") for part in name.split("/")):
            continue
        suffix = posixpath.splitext(name)[1].lower()
        if suffix in SUFFIXES:
            names.append(name)
        elif suffix in ARCHIVES:
            archives.append(name)
        elif suffix not in OTHERS:
            unclear.append((name, path))
    for first in range(0, len(unclear), NUM_HEADS):
        part = unclear[first : first + NUM_HEADS]
        paths = [path for _, path in part]
        heads = filesystem.cat_ranges(paths, [0] * len(part), [HEAD_BYTES] * len(part), on_error="return")
        for (name, _), head in zip(part, heads, strict=True):
            if isinstance(head, Exception):
                unreadable[name] = reason_of(head)
            elif looks_like_media(head):
                names.append(name)
            elif (suffix := posixpath.splitext(name)[1].lower()) in NOT_READ:
                unreadable[name] = NOT_READ[suffix]
    return Found(names=sorted(names), unreadable=unreadable, archives=sorted(archives))


class _Search:
    """One search of a folder; see `find_recordings`."""

    def __init__(self, root: str):
        self.root = root
        self.names: list[str] = []
        self.unreadable: dict[str, str] = {}
        self.archives: list[str] = []
        self._seen: set[tuple[int, int]] = set()

    def run(self) -> None:
        # Folders before links to folders, so that names do not depend on the order in which links come
        links = list(self._below([""]))
        while links:
            links = sorted(self._below(sorted(links)))

    def _below(self, folders: Iterable[str]) -> Iterator[str]:
        """Search folders to their bottom, and yield the links to other folders that are there."""
        stack = list(reversed(list(folders)))
        while stack:
            folder = stack.pop()
            for entry in self._entries(folder):
                name = f"{folder}{entry.name}"
                if entry.name.startswith("."):
                    continue
                if not _is_folder(entry):
                    self._add_file(entry, name)
                elif entry.is_symlink():
                    yield f"{name}/"
                else:
                    stack.append(f"{name}/")

    def _entries(self, folder: str) -> "list[os.DirEntry[str]]":
        path = os.path.join(self.root, folder)
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in self._seen:
                return []
            self._seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                return list(entries)
        except OSError as error:
            if not folder:
                raise
            self.unreadable[folder.rstrip("/")] = f"the folder cannot be searched ({reason_of(error)})"
            return []

    def _add_file(self, entry: "os.DirEntry[str]", name: str) -> None:
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix in SUFFIXES:
            self.names.append(name)
        elif suffix in ARCHIVES:
            self.archives.append(name)
        elif suffix not in OTHERS:
            try:
                if not os.path.isfile(entry.path):
                    os.stat(entry.path)  # a broken link, or else a pipe or socket, which might never give a byte
                elif looks_like_media(head_of(entry.path)):
                    self.names.append(name)
                elif suffix in NOT_READ:
                    self.unreadable[name] = NOT_READ[suffix]
            except OSError as error:
                self.unreadable[name] = f"it cannot be opened ({reason_of(error)})"


def head_of(path: str) -> bytes:
    """Return the first bytes of a file."""
    with open(path, "rb", buffering=0) as file:
        return file.read(HEAD_BYTES)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def reason_of(error: Exception) -> str:
    """Return why something failed, in few words."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
