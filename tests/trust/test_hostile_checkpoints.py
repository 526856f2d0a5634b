"""Checkpoint files that somebody else made: nothing runs, memory stays bounded, damage is found."""

import builtins
import collections
import functools
import io
import os
import pickle
import resource
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hypothesis import strategies as st

from hf_ast import HfASTModel, load_classifier
from hf_ast.conversion.files import CheckpointFile
from hf_ast.conversion.folders import read_tensors
from hf_ast.conversion.layouts import Layout
from tests.support.cases import cases, outcome
from tests.support.processes import exit_code, start
from tests.support.tiny import tiny_model

WEIGHTS = {"a.weight": torch.arange(600.0).view(20, 30), "a.bias": torch.linspace(-1, 1, 20)}
# Layouts with the names in the files here
LAYOUTS = [
    Layout("test", marker, dict.fromkeys(("a", "b", *WEIGHTS), "backbone.any"), HfASTModel, lambda *_: None, None)
    for marker in ("a.weight", "a")
]
# What a refusal may need beyond what is there already, when a file is small
ROOM = 300 * 2**20


def read_state_dict(file: Path) -> dict[str, torch.Tensor]:
    return read_tensors(CheckpointFile(file), LAYOUTS).tensors


class Runs:
    """A pickle that calls a function when it is opened."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.reduced


class Module(torch.nn.Module):
    """A whole model, as `torch.save(model)` pickles it."""

    def __init__(self, evil: Runs):
        super().__init__()
        self.evil = evil


def zip_of(payload: bytes, folder: str = "archive") -> bytes:
    """An archive like those of torch, with any pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{folder}/data.pkl", payload)
        archive.writestr(f"{folder}/version", "3\n")
        archive.writestr(f"{folder}/byteorder", "little")
    return buffer.getvalue()


def saved(content: Any, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **settings)
    return buffer.getvalue()


def tar_of(payload: bytes) -> bytes:
    """The format of torch before 0.1.10."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            archive.addfile(info, io.BytesIO(payload))
    return buffer.getvalue()


def scripted() -> bytes:
    """TorchScript, which is code."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


def disguises(marker: Path) -> dict[str, bytes]:
    """Files that make a folder `marker` when they are opened as any pickle is."""
    path = str(marker)
    evil = Runs(os.mkdir, path)
    text = f"__import__('os').mkdir({path!r})"
    storage = torch.UntypedStorage(8)
    nested = {"model": {"module.deep": [collections.OrderedDict(x=({"y": evil},))]}}
    return {
        "zip": saved(WEIGHTS | {"evil": evil}),
        "before torch 1.6": saved(WEIGHTS | {"evil": evil}, _use_new_zipfile_serialization=False),
        "tar": tar_of(pickle.dumps(evil, protocol=2)),
        "nested": saved(nested),
        "as a name": saved({evil: torch.zeros(2)}),
        "eval": saved({"a": Runs(builtins.eval, text)}),
        "exec": saved({"a": Runs(builtins.exec, text)}),
        "getattr": saved({"a": Runs(getattr, Runs(__import__, "os"), "mkdir")}),
        "partial": saved({"a": Runs(functools.partial(os.mkdir, path))}),
        "storage": saved({"a": Runs(torch._utils._rebuild_tensor_v2, evil, 0, (1,), (1,), False, {})}),
        "parameter": saved({"a": Runs(torch._utils._rebuild_parameter, evil, False, {})}),
        "backward hook": saved({"a": Runs(torch._utils._rebuild_tensor_v2, storage, 0, (1,), (1,), False, evil)}),
        "state": saved({"a": Runs(collections.OrderedDict, state={"x": evil})}),
        "numpy": saved({"a": np.array([evil], dtype=object)}),
        "module": saved(Module(evil)),
        "raw pickle": pickle.dumps(evil, protocol=4),
        "raw pickle, protocol 0": pickle.dumps(evil, protocol=0),
        "zip of a raw pickle": zip_of(pickle.dumps({"a": evil}, protocol=2)),
        "path in the archive": zip_of(pickle.dumps({"a": evil}, protocol=2), "../../evil"),
        "TorchScript": scripted(),
    }


@pytest.mark.parametrize("name", sorted(disguises(Path("x"))))
def test_code_in_a_checkpoint_is_not_run(name: str, tmp_path: Path) -> None:
    marker, file = tmp_path / "code was run", tmp_path / "checkpoint.pth"
    file.write_bytes(disguises(marker)[name])
    with pytest.raises(
        ValueError, match=r"opening it would run|not a checkpoint of torch, or is damaged|is a compressed"
    ):
        read_state_dict(file)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["zip", "before torch 1.6", "tar", "raw pickle", "storage", "numpy"])
def test_code_in_a_folder_is_not_run(name: str, tmp_path: Path) -> None:
    """In the place where transformers looks for weights when there is no safetensors file."""
    marker, folder = tmp_path / "code was run", tmp_path / "model"
    tiny_model().config.save_pretrained(folder)
    for file in ("pytorch_model.bin", "model.safetensors"):
        (folder / file).write_bytes(disguises(marker)[name])
        with pytest.raises(ValueError, match="model="):
            load_classifier(folder)
        (folder / file).unlink()
    assert not marker.exists()


def bounded(call: Callable[[], None]) -> None:
    """Run in a process that may have little more memory than it has now; it must end in time."""

    def limited() -> None:
        limit = psutil.Process().memory_info().vms + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        call()

    assert exit_code(start(limited)) == 0


def compressed(num_bytes: int, level: int = 9) -> bytes:
    """A checkpoint whose tensors are zeros, deflated."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(4)}))) as whole,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as bomb,
    ):
        for entry in whole.infolist():
            bomb.writestr(entry.filename, b"\0" * num_bytes if "/data/" in entry.filename else whole.read(entry))
    return buffer.getvalue()


def declaring(num_values: int) -> bytes:
    """A file whose pickle claims a tensor of that many values, over the few that there are."""
    few = torch.zeros(4)
    rebuilt = Runs(torch._utils._rebuild_tensor_v2, few.storage(), 0, (num_values,), (1,), False, {})
    return saved({"a": rebuilt})


ABSURD = {
    "zip bomb": lambda: compressed(2**29, level=1),
    "repeated values": lambda: saved({"a": torch.zeros(1).expand(2**40)}),
    "repeated rows": lambda: saved({"a": torch.zeros(1, 30).expand(2**36, 30)}),
    "no values": lambda: saved({"a": torch.empty(2**40, device="meta")}),
    "sparse": lambda: saved({"a": torch.sparse_coo_tensor([[5]], [1.0], (2**40,))}),
    "declared": lambda: declaring(2**40),
    "declared, before torch 1.6": lambda: saved({"a": torch.zeros(4)}, _use_new_zipfile_serialization=False)[:-16],
    "many names": lambda: saved({"a": "x" * 10**6, "b": [[]] * 10**5}),
}


@pytest.mark.parametrize("name", sorted(ABSURD))
def test_absurd_sizes_are_refused_in_bounded_memory(name: str, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pth"
    file.write_bytes(ABSURD[name]())
    assert file.stat().st_size < 10**7

    def refuse() -> None:
        with pytest.raises(ValueError, match=f"file='{file}'|state_dict"):
            read_state_dict(file)

    bounded(refuse)


@pytest.mark.parametrize("name", ["/dev/zero", "pipe", "folder"])
def test_what_is_no_file_is_refused(name: str, tmp_path: Path) -> None:
    path = Path(name) if name.startswith("/") else tmp_path / name
    if name == "pipe":
        os.mkfifo(path)
    elif name == "folder":
        path.mkdir()

    def refuse() -> None:
        with pytest.raises(ValueError, match="not a regular file"):
            read_state_dict(path)

    bounded(refuse)


OFFICIAL = {"zip": saved(WEIGHTS), "before torch 1.6": saved(WEIGHTS, _use_new_zipfile_serialization=False)}


def same(tensors: dict[str, torch.Tensor]) -> bool:
    return tensors.keys() == WEIGHTS.keys() and all(torch.equal(tensors[name], WEIGHTS[name]) for name in WEIGHTS)


@cases(5, position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_in_an_archive_is_found_or_changes_nothing(position: int, bit: int, tmp_path: Path) -> None:
    content = bytearray(OFFICIAL["zip"])
    content[position % len(content)] ^= 1 << bit
    (tmp_path / "checkpoint.pth").write_bytes(content)
    tensors = outcome(lambda: read_state_dict(tmp_path / "checkpoint.pth"), "checkpoint.pth", "state_dict")
    assert tensors is None or same(tensors)


@cases(5, position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_in_an_old_file_is_an_error_or_another_value(position: int, bit: int, tmp_path: Path) -> None:
    """Files from before torch 1.6 have no checksum: the digests of the registry find what is in the values."""
    content = bytearray(OFFICIAL["before torch 1.6"])
    content[position % len(content)] ^= 1 << bit
    (tmp_path / "checkpoint.pth").write_bytes(content)
    tensors = outcome(lambda: read_state_dict(tmp_path / "checkpoint.pth"), "checkpoint.pth", "state_dict")
    assert tensors is None or all(tensor.isfinite().all() for tensor in tensors.values())


@cases(1, length=st.integers(0, 10**6), kind=st.sampled_from(sorted(OFFICIAL)))
def test_a_truncated_file_is_found(length: int, kind: str, tmp_path: Path) -> None:
    content = OFFICIAL[kind]
    (tmp_path / "checkpoint.pth").write_bytes(content[: length % len(content)])
    with pytest.raises(ValueError, match=r"checkpoint\.pth"):
        read_state_dict(tmp_path / "checkpoint.pth")
