"""Checkpoint files as people have them: read once for their digest, once for their tensors, and never run."""

import hashlib
import json
import os
import pickle
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from .stand_ins import StandIn, load_without_code

CHUNK_SIZE = 2**20
ZIP = b"PK\x03\x04"
# What Hub repositories hold, in the order in which transformers looks for it
FOLDER_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_INDEX = ".index.json"
_DAMAGED = "file={!r} is not a checkpoint of torch, or is damaged; download it again."
_WHOLE_MODEL = (
    "file={!r} holds a whole model ({}) instead of its tensors, and such a file is opened by running code. None of it "
    "was run. Where the model was made: torch.save(model.state_dict(), 'weights.pth'); then convert that file."
)


class CheckpointFile:
    """A file of tensors: of torch, of safetensors, or the index of several of them in its folder.

    The bytes are read once for the digest, during which an archive is checked for damage, and the tensors once more,
    memory-mapped where the format allows it. Both are kept, so that whoever has the object reads nothing again.

    Args:
        path: The file, or a folder with one of `FOLDER_FILES`.

    Raises:
        ValueError: The path is no regular file. By `sha256` and `content`: the file is truncated, damaged or not a
            checkpoint, changes while it is read, or would run code.
        OSError: The file cannot be read.
    """

    def __init__(self, path: Path):
        inside = (path / name for name in FOLDER_FILES)
        self.path = next((file for file in inside if file.is_file()), path) if path.is_dir() else path
        if not self.path.is_file():
            raise ValueError(f"file={str(path)!r} is not a regular file, but must be a checkpoint of torch.")

    @cached_property
    def parts(self) -> tuple[Path, ...]:
        """The files that hold the tensors: those of an index, or the file itself."""
        if not self.path.name.endswith(_INDEX):
            return (self.path,)
        try:
            names = sorted(set(json.loads(self.path.read_text(encoding="utf-8"))["weight_map"].values()))
            inside = all(Path(name).name == name for name in names)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"file={str(self.path)!r} is not the index of a checkpoint ({error}).") from error
        parts = tuple(self.path.with_name(name) for name in names)
        missing = [part.name for part in parts if not part.is_file()]
        if missing or not inside or not parts:
            raise ValueError(f"file={str(self.path)!r} names files that are not beside it: {missing or names}.")
        return parts

    @property
    def sha256(self) -> str:
        """Digest in hexadecimal digits; of an index, that of the digests of its parts in the order of their names."""
        digests = list(self.digests.values())
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    @cached_property
    def digests(self) -> dict[str, str]:
        """Digest of each part, by its name."""
        return {part.name: _digest(part) for part in self.parts}

    def renamed(self, path: Path) -> "CheckpointFile":
        """Rename a file that has one part, and return it with its digest."""
        renamed = CheckpointFile(self.path.replace(path))
        renamed.digests = {path.name: self.sha256}
        return renamed

    @property
    def num_bytes(self) -> int:
        """Size of all parts."""
        return sum(part.stat().st_size for part in self.parts)

    @cached_property
    def content(self) -> Mapping[str, Any]:
        """What the file holds: tensors, and in a file of torch whatever else there is, with stand-ins for objects."""
        before = [(part, _state(part)) for part in self.parts]
        _ = self.digests  # finds damage before any of it is opened
        merged: dict[str, Any] = {}
        for part in self.parts:
            content = _read(part)
            if twice := merged.keys() & content.keys():
                raise ValueError(f"file={str(self.path)!r} has the tensor {min(twice)!r} twice.")
            merged |= content
        if any(_state(part) != state for part, state in before):
            raise ValueError(f"file={str(self.path)!r} was changed while it was read.")
        return merged


def as_checkpoint_file(file: "CheckpointFile | Path") -> CheckpointFile:
    """Return a file as it is, or that at a path."""
    return file if isinstance(file, CheckpointFile) else CheckpointFile(file)


def sha256(file: Path) -> str:
    """Return the digest of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _state(file: Path) -> tuple[int, ...]:
    status = file.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _read(file: Path) -> Mapping[str, Any]:
    with file.open("rb") as stream:
        head = stream.read(16)
    try:
        if file.suffix == ".safetensors" or _begins_like_safetensors(head, file):
            return safetensors.torch.load_file(file)
        content = load_without_code(file, mmap=head.startswith(ZIP))
    except (ValueError, OSError) as error:
        if "None of it was run" in str(error) or isinstance(error, OSError):
            raise
        raise ValueError(_DAMAGED.format(str(file))) from error
    except SafetensorError as error:
        raise ValueError(f"file={str(file)!r} is damaged, or no file of safetensors ({error}).") from error
    except Exception as error:  # damaged bytes can be any instruction of pickle, and raise anything
        if isinstance(error, pickle.UnpicklingError) and "persistent_load of storage" in str(error):
            raise ValueError(_WHOLE_MODEL.format(str(file), "in the format before torch 1.6")) from error
        raise ValueError(_DAMAGED.format(str(file))) from error
    if isinstance(content, StandIn):
        raise ValueError(_WHOLE_MODEL.format(str(file), content.full_name))
    if not isinstance(content, Mapping):
        raise ValueError(f"file={str(file)!r} holds a {type(content).__name__}, but must hold a state dict.")
    return content


def _begins_like_safetensors(head: bytes, file: Path) -> bool:
    """Whether a file begins with the length of its header, and the header's brace."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < file.stat().st_size


class _Span(NamedTuple):
    """Where the bytes of an archive's entry are, and their checksum."""

    start: int
    end: int
    crc: int


def _digest(file: Path) -> str:
    """Read a file once: return its digest, and compare the checksums of an archive's entries with their bytes."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        spans = _entries(stream, file)
        position, running = 0, 0
        stream.seek(0)
        while chunk := stream.read(CHUNK_SIZE):
            digest.update(chunk)
            view, after = memoryview(chunk), position + len(chunk)
            while spans and spans[0].start < after:
                span = spans[0]
                running = zlib.crc32(view[max(span.start - position, 0) : span.end - position], running)
                if span.end > after:
                    break
                if running != span.crc:
                    raise ValueError(_DAMAGED.format(str(file)))
                spans.popleft()
                running = 0
            position = after
    if spans:
        raise ValueError(_DAMAGED.format(str(file)))
    return digest.hexdigest()


def _entries(stream: BinaryIO, file: Path) -> deque[_Span]:
    """Return the entries of a zip archive, as torch writes them, in their order; none for any other file.

    Raises:
        ValueError: The archive is damaged, or larger when unpacked: few bytes may stand for terabytes.
    """
    try:
        if not zipfile.is_zipfile(stream):
            if _starts_with_zip(stream):
                raise zipfile.BadZipFile
            return deque()
        with zipfile.ZipFile(stream) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        is_stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        fits = is_stored and sum(entry.file_size for entry in entries) <= os.fstat(stream.fileno()).st_size
        spans = sorted(_spans(stream, entries)) if fits else []
    # Names that cannot be decoded give ValueErrors, and offsets before the beginning give OSErrors
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError) as error:
        raise ValueError(_DAMAGED.format(str(file))) from error
    if not fits:
        raise ValueError(
            f"file={str(file)!r} is a compressed archive, or claims to hold more than its size; torch writes "
            "checkpoints uncompressed. None of it was unpacked."
        )
    if any(later.start < earlier.end for earlier, later in pairwise(spans)):
        raise ValueError(_DAMAGED.format(str(file)))
    return deque(spans)


def _starts_with_zip(stream: BinaryIO) -> bool:
    stream.seek(0)
    return stream.read(len(ZIP)) == ZIP


def _spans(stream: BinaryIO, entries: list[zipfile.ZipInfo]) -> Iterator[_Span]:
    for entry in entries:
        stream.seek(entry.header_offset)
        header = stream.read(30)  # of a fixed size, then the name and what torch aligns the bytes with
        if len(header) < 30 or not header.startswith(ZIP) or entry.compress_size != entry.file_size:
            raise zipfile.BadZipFile
        start = entry.header_offset + 30 + sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        yield _Span(start, start + entry.file_size, entry.CRC)


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor has all of its values in memory, rather than none of them, or a few that it repeats."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout is not torch.strided or tensor.device.type != "cpu":
        return False
    return not tensor.is_quantized and tensor.nbytes <= tensor.untyped_storage().nbytes()
