"""Models by name: made once, whatever else happens, and never half-made."""

import dataclasses
import errno
import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import huggingface_hub
import psutil
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel

import hf_ast
from hf_ast import SSASTConfig, get_checkpoint
from hf_ast.checkpoints import resolve_model
from hf_ast.cli import main
from hf_ast.conversion import folders, layouts, registry
from hf_ast.conversion.folders import convert_file, read_provenance, sha256, write_provenance
from hf_ast.conversion.prepare import is_ready
from hf_ast.whole import HOST
from tests.support.converted import narrow, write_narrow_file
from tests.support.file_server import Served, Server, serving
from tests.support.interpreter import ROOT
from tests.support.loopback_hub import LoopbackHub
from tests.support.official_files import write_official_file
from tests.support.processes import exit_code, start

NAME = "ssast-tiny-patch-400"
FILE = "SSAST-Tiny-Patch-400.pth"


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_narrow_file(tmp_path_factory.mktemp("official")).read_bytes()


@pytest.fixture
def server(official: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The registry says that the file is on a server here."""
    with serving() as running:
        running.served[FILE] = Served(official)
        replace_urls(monkeypatch, running.url(FILE))
        yield running


def replace_urls(monkeypatch: pytest.MonkeyPatch, *urls: str) -> None:
    entry = dataclasses.replace(narrow(NAME), urls=urls)
    aliases = {alias: entry if found.name == NAME else found for alias, found in registry.ALIASES.items()}
    monkeypatch.setattr(registry, "ALIASES", aliases)


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def names(cache: Path) -> list[str]:
    """What is in the folder of converted checkpoints, but for locks and stamps."""
    return sorted(path.name for path in (cache / "converted").iterdir() if path.suffix not in (".lock", ".stamps"))


def modified(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


# --- get_checkpoint


def test_a_checkpoint_is_made_on_first_use_and_found_from_then_on(server: Server, tmp_path: Path) -> None:
    folder = get_checkpoint(FILE, cache=tmp_path)
    provenance = read_provenance(folder)
    assert (provenance["checkpoint"], provenance["source"]["url"]) == (NAME, server.url(FILE))
    assert provenance["verification"]["passed"]
    assert AutoModel.from_pretrained(folder).config.hidden_size == 64
    assert AutoFeatureExtractor.from_pretrained(folder).max_length == 1024
    assert (folder / "README.md").read_text().startswith("---\n")
    before = modified(folder)
    assert get_checkpoint("hf-ast/ssast-tiny-patch-400", cache=str(tmp_path)) == folder
    assert modified(folder) == before
    assert len(server.requests) == 1
    assert names(tmp_path) == [NAME]


def test_without_a_cache_it_is_the_default_one(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path))
    assert get_checkpoint(NAME) == tmp_path / "hf_ast" / "converted" / NAME


def test_a_name_of_nothing_is_an_error_with_what_comes_close(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"'ssast-tiny-patch-40' \(close: ssast-tiny-patch-400, .*`hf-ast checkpoints`"
    ):
        get_checkpoint("ssast-tiny-patch-40", cache=tmp_path)


def get_and_count_conversions(cache: Path, counts: Path) -> None:
    """A conversion ends with a change of names, of which Python tells."""

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.rename" and Path(str(arguments[0])).name.startswith(f".{NAME}.partial"):
            (counts / str(os.getpid())).touch()

    sys.addaudithook(count)
    assert get_checkpoint(NAME, cache=cache) == cache / "converted" / NAME
    assert read_provenance(cache / "converted" / NAME)["verification"]["passed"]


def test_of_two_processes_one_makes_the_folder_and_both_get_it(
    server: Server, official: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "counts").mkdir()
    server.served[FILE].stalls = threading.Event()
    processes = [start(get_and_count_conversions, tmp_path, tmp_path / "counts") for _ in range(2)]
    printed, deadline = "", time.monotonic() + 60
    while "is being made by another process; waiting for it" not in printed:
        assert time.monotonic() < deadline
        printed += capfd.readouterr().err
    served = server.served[FILE]
    server.served[FILE] = Served(official)
    served.stalls.set()
    assert [exit_code(process) for process in processes] == [0, 0]
    assert len(list((tmp_path / "counts").iterdir())) == 1
    assert names(tmp_path) == [NAME]


def get_and_die(cache: Path, renamed: str, parent: str) -> None:
    """The process kills itself before it renames something of that beginning in a folder of that beginning."""

    def kill(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.rename":
            path = Path(str(arguments[0]))
            if path.name.startswith(renamed) and path.parent.name.startswith(parent):
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(kill)
    get_checkpoint(NAME, cache=cache)


@pytest.mark.parametrize(
    ("renamed", "parent", "left"),
    [
        (f"{FILE}.incomplete", "", []),
        (f".{NAME}.partial", "converted", [f".{NAME}"]),
        (".conversion.json.partial", NAME, [NAME]),
    ],
    ids=["after the download", "after the conversion", "after the verification"],
)
def test_what_a_killed_process_left_is_never_returned_and_is_finished_by_the_next(
    renamed: str, parent: str, left: list[str], server: Server, tmp_path: Path
) -> None:
    process: BaseProcess = start(get_and_die, tmp_path, renamed, parent)
    assert exit_code(process) == -signal.SIGKILL
    assert [name.partition(".partial-")[0] if name.startswith(".") else name for name in names(tmp_path)] == left
    folder = get_checkpoint(NAME, cache=tmp_path)
    assert read_provenance(folder)["verification"]["passed"]
    assert names(tmp_path) == [NAME]
    # What had arrived was not sent again
    assert sum(request[3] for request in server.requests) == len(server.served[FILE].content)


def test_offline_the_folder_or_the_file_is_enough_and_else_there_is_one_clear_error(
    server: Server, official: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = get_checkpoint(NAME, cache=tmp_path / "first")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    requests = len(server.requests)
    (tmp_path / "first" / FILE).unlink()
    assert get_checkpoint(NAME, cache=tmp_path / "first") == folder
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / FILE).write_bytes(official)
    assert read_provenance(get_checkpoint(NAME, cache=tmp_path / "second"))["source"]["url"] is None
    with pytest.raises(OSError, match=rf"{FILE} is not in the cache '.*third', and HF_HUB_OFFLINE forbids downloads"):
        get_checkpoint(NAME, cache=tmp_path / "third")
    assert len(server.requests) == requests
    monkeypatch.undo()
    dead = f"http://127.0.0.1:{closed_port()}/{FILE}"
    replace_urls(monkeypatch, dead)
    with pytest.raises(OSError, match=rf"{FILE} cannot be downloaded:\n  {dead}: ConnectError"):
        get_checkpoint(NAME, cache=tmp_path / "third")
    assert get_checkpoint(NAME, cache=tmp_path / "second") == tmp_path / "second" / "converted" / NAME


def as_reader(cache: Path, ready: bool) -> None:
    """As a user who may read the cache; to root, every folder can be written."""
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    if ready:
        assert get_checkpoint(NAME, cache=cache).name == NAME
        return
    with pytest.raises(OSError, match=r"cache='.*' cannot be written \(Permission denied\), and .* another folder as"):
        get_checkpoint(NAME, cache=cache)


def test_a_cache_that_is_read_only_serves_what_is_ready_and_else_says_so(server: Server) -> None:
    cache = Path(tempfile.mkdtemp())  # not in the folder of the tests, which is closed to others
    try:
        for ready in (False, True):
            if ready:
                get_checkpoint(NAME, cache=cache)
            for path in (cache, *cache.rglob("*")):
                path.chmod(0o555 if path.is_dir() else 0o444)
            assert exit_code(start(as_reader, cache, ready)) == 0
            for path in (cache, *cache.rglob("*")):
                path.chmod(path.stat().st_mode | stat.S_IWUSR)
    finally:
        shutil.rmtree(cache)


def get_without_writing_elsewhere(cache: Path) -> None:
    """The process fails as soon as it writes, makes, renames or removes something outside of the cache."""

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        writes = event in ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink")
        if event == "open":
            writes = bool(int(arguments[2]) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if writes and isinstance(arguments[0], str | bytes | Path):
            path = Path(os.fsdecode(arguments[0])).absolute()
            if path.is_relative_to(ROOT) and "__pycache__" not in path.parts:
                raise PermissionError(errno.EROFS, "Read-only file system", str(path))

    sys.addaudithook(refuse)
    with pytest.raises(PermissionError):
        (ROOT / "hf_ast" / "conversion" / "checksums.json").write_text("{}")
    get_checkpoint(NAME, cache=cache)


def test_nothing_is_written_into_a_read_only_installation(server: Server, tmp_path: Path) -> None:
    assert exit_code(start(get_without_writing_elsewhere, tmp_path)) == 0
    assert json.loads((tmp_path / "checksums.json").read_text()).keys() == {FILE}


def change_epsilon(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-12}))


@pytest.mark.parametrize(
    ("change", "file"),
    [
        (change_epsilon, "config.json"),
        pytest.param(
            lambda folder: (folder / "model.safetensors").write_bytes(b"cut"),
            "model.safetensors",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda folder: (folder / "preprocessor_config.json").unlink(),
            "preprocessor_config.json",
            marks=pytest.mark.slow,
        ),
        (lambda folder: (folder / "modeling_ssast.py").write_text("import os"), "modeling_ssast.py"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "adapter_config.json"),
        (lambda folder: (folder / "conversion.json").write_text("{"), "conversion.json"),
    ],
)
def test_a_folder_with_a_changed_file_is_set_aside_and_made_again(
    change: Callable[[Path], object], file: str, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = get_checkpoint(NAME, cache=tmp_path)
    good = {path.name: path.read_bytes() for path in folder.iterdir()}
    change(folder)
    changed = {path.name: path.read_bytes() for path in folder.iterdir()}
    with caplog.at_level(logging.WARNING):
        assert get_checkpoint(NAME, cache=tmp_path) == folder
    assert f"was changed since its conversion ({file}). It is now called {NAME}.changed" in caplog.text
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == good
    aside = tmp_path / "converted" / f"{NAME}.changed"
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == changed
    assert len(server.requests) == 1


def test_another_version_entry_or_digest_makes_the_folder_again(
    server: Server, official: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = get_checkpoint(NAME, cache=tmp_path)
    monkeypatch.setattr(hf_ast, "__version__", "99.0")
    assert read_provenance(get_checkpoint(NAME, cache=tmp_path))["hf_ast"] == "99.0"
    entry = dataclasses.replace(registry.find(NAME), front_end={"mean": -5.0})
    monkeypatch.setitem(registry.ALIASES, NAME, entry)
    assert AutoFeatureExtractor.from_pretrained(get_checkpoint(NAME, cache=tmp_path)).mean == -5.0
    assert len(server.requests) == 1
    # Somebody found out that the file was the wrong one
    (tmp_path / FILE).unlink()
    (tmp_path / "checksums.json").unlink()
    tensors = torch.load(io.BytesIO(official), weights_only=True)
    tensors["module.v.norm.bias"] += 1
    torch.save(tensors, tmp_path / FILE)
    server.served[FILE] = Served((tmp_path / FILE).read_bytes())
    right = sha256(tmp_path / FILE)
    monkeypatch.setitem(registry.ALIASES, NAME, dataclasses.replace(entry, sha256=right))
    assert read_provenance(get_checkpoint(NAME, cache=tmp_path))["source"]["sha256"] == right
    assert names(tmp_path) == [folder.name]


def test_a_folder_that_is_only_converted_is_verified_before_it_is_returned(
    server: Server, official: bytes, tmp_path: Path
) -> None:
    (tmp_path / FILE).write_bytes(official)
    folder = convert_file(tmp_path / FILE, registry.find(NAME), tmp_path / "converted" / NAME)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert read_provenance(get_checkpoint(NAME, cache=tmp_path))["verification"]["passed"]
    provenance = read_provenance(folder)
    write_provenance(folder, provenance | {"verification": {"passed": True}})  # which says not what was found
    assert read_provenance(get_checkpoint(NAME, cache=tmp_path))["verification"] == provenance["verification"]
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_a_folder_without_its_card_is_finished_before_it_is_returned(server: Server, tmp_path: Path) -> None:
    folder = get_checkpoint(NAME, cache=tmp_path)
    card, weights = folder / "README.md", folder / "model.safetensors"
    before, content = weights.stat().st_mtime_ns, card.read_bytes()
    # As a process leaves it that is killed while it writes the card; no process has this id
    card.rename(folder / f".README.md.partial-{HOST}-999999999-0123abcd")
    assert get_checkpoint(NAME, cache=tmp_path) == folder
    assert card.read_bytes() == content
    assert weights.stat().st_mtime_ns == before
    assert not [path.name for path in folder.iterdir() if "partial" in path.name]


def test_a_conversion_that_does_not_pass_is_an_error_and_leaves_no_folder(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, *others = layouts.LAYOUTS[SSASTConfig]
    one, two = "v.blocks.{}.norm1.weight", "v.blocks.{}.norm2.weight"
    key_map = {**layout.key_map, one: layout.key_map[two], two: layout.key_map[one]}
    wrong = dataclasses.replace(layout, key_map=key_map)
    monkeypatch.setitem(layouts.LAYOUTS, SSASTConfig, (wrong, *others))
    with pytest.raises(
        ValueError, match=rf"{FILE}, converted as {NAME}, does not pass its verification: .* from the independent impl"
    ):
        get_checkpoint(NAME, cache=tmp_path)
    assert names(tmp_path) == []


def test_ready_folder_is_hashed_once_and_again_only_after_a_change(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = get_checkpoint(NAME, cache=tmp_path)
    hashed: list[str] = []
    monkeypatch.setattr(folders, "sha256", lambda file: hashed.append(file.name) or sha256(file))
    for _ in range(3):
        assert get_checkpoint(NAME, cache=tmp_path) == folder
    assert hashed == []
    weights, status = folder / "model.safetensors", (folder / "model.safetensors").stat()
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))  # as if nothing had been written
    assert not is_ready(folder, registry.find(NAME), cache=tmp_path)
    assert "model.safetensors" in hashed


def test_file_fetched_by_hand_makes_the_same_command_work_as_the_message_says(
    server: Server,
    official: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    replace_urls(monkeypatch, f"http://127.0.0.1:{closed_port()}/{FILE}")
    command = ["convert", NAME, "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    for offline in (True, False):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
        assert main(command) == 1
        message = capsys.readouterr().err
        found = re.search(r"Once you have the file, copy it to '(.*)', and give the same command again\.\n$", message)
        assert found is not None
    Path(found[1]).write_bytes(official)
    assert main(command) == 0
    assert read_provenance(tmp_path / "out")["source"]["url"] is None
    assert get_checkpoint(NAME, cache=tmp_path / "cache").name == NAME


def test_conversion_reads_the_official_file_twice(tmp_path: Path) -> None:
    """Once for its digest, and once for its tensors; Python tells of every opening."""
    write_official_file(registry.find(NAME), tmp_path)
    assert exit_code(start(convert_and_count, tmp_path)) == 0


def convert_and_count(cache: Path) -> None:
    opened: list[str] = []

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and str(arguments[0]) == str(cache / FILE):
            opened.append(str(arguments[1]))

    sys.addaudithook(count)
    before = psutil.Process().io_counters().read_chars
    get_checkpoint(NAME, cache=cache)
    read = psutil.Process().io_counters().read_chars - before
    num_bytes = (cache / FILE).stat().st_size
    # The end of the archive, to see that it is there; the digest; its first bytes; the tensors, mapped into memory
    assert len(opened) <= 5, opened
    # The file once, the new weights twice: for their digest, and for the stamps; they are opened by mapping as well
    assert read < 4.5 * num_bytes


# --- resolve_model


def test_folders_and_names_of_the_registry_ask_nobody(
    server: Server, hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path))
    assert resolve_model(tmp_path) == str(tmp_path)
    assert resolve_model(FILE.lower()) == str(tmp_path / "hf_ast" / "converted" / NAME)
    (tmp_path / "best.pth").touch()
    with pytest.raises(ValueError, match=r"best\.pth' is a file; `hf-ast convert` turns a checkpoint file into"):
        resolve_model(tmp_path / "best.pth")
    assert hub.requests == []


def test_an_id_in_the_cache_of_the_hub_asks_nobody(hub: LoopbackHub, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--me--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    (repository / "snapshots" / ("a" * 40)).mkdir(parents=True)
    (repository / "snapshots" / ("a" * 40) / "config.json").write_text("{}")
    assert resolve_model("me/model") == "me/model"
    assert hub.requests == []


def test_other_ids_are_asked_for_once(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub.HfApi().create_repo("me/model")
    hub.requests.clear()
    assert resolve_model("me/model") == "me/model"
    assert hub.requests == ["GET /api/models/me/model"]
    with pytest.raises(ValueError, match=r"nor a model on the Hub that you can access") as caught:
        resolve_model("me/modle")
    assert str(caught.value).startswith("model='me/modle' is neither a folder nor a released checkpoint (")
    assert hub.requests[1:] == ["GET /api/models/me/modle"]


def test_an_id_of_the_hub_that_the_registry_knows_is_the_released_checkpoint_where_the_hub_has_it_not(
    server: Server, hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path))
    assert resolve_model(f"hf-ast/{NAME}") == str(tmp_path / "hf_ast" / "converted" / NAME)
    huggingface_hub.HfApi().create_repo(f"hf-ast/{NAME}")
    assert resolve_model(f"hf-ast/{NAME}") == f"hf-ast/{NAME}"


@pytest.mark.parametrize("name", ["me/model", "audioset_10_10_0.4539"])
def test_without_a_network_it_is_one_quick_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waits to try again"))
    with pytest.raises(
        ValueError, match=r"in the local cache of the Hub, and the Hub cannot be reached \(ConnectError: "
    ) as caught:
        resolve_model(name)
    assert ("close: audioset_10_10_0.4593, " in str(caught.value)) == (name != "me/model")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"nor in the local cache of the Hub, and HF_HUB_OFFLINE forbids asking"):
        resolve_model(name)


def test_what_no_id_can_be_is_said_to_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"model='\./no such folder' is neither .*, nor a valid Hub id\."):
        resolve_model("./no such folder")
