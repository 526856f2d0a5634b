"""Files that are there completely or not at all; folders are tested where the conversion makes them."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hf_ast.whole import HOST, whole_file, whole_folder, written_with_os_errors
from tests.support.processes import exit_code, limit_file_size, start


def test_a_file_is_replaced_once_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "card [1].md"
    out.write_text("old")
    with whole_file(out) as partial:
        partial.write_text("new")
        assert out.read_text() == "old"
    assert out.read_text() == "new"

    def fail() -> None:
        with whole_file(out) as partial:
            partial.write_text("part of")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"card [1].md": "new"}


def write_and_die(out: Path) -> None:
    with whole_file(out) as partial:
        partial.write_text("part of")
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    out = tmp_path / "card.md"
    assert exit_code(start(write_and_die, out)) == -signal.SIGKILL
    assert [path.name.startswith(".card.md.partial-") for path in tmp_path.iterdir()] == [True]
    with whole_file(out) as partial:
        partial.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["card.md"]


def test_two_writers_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    out = tmp_path / "card.md"
    with whole_file(out) as partial:
        partial.write_text("of the first")
        process = start(write_other, out)
        assert exit_code(process) == 0
        assert out.read_text() == "of the second"
    assert out.read_text() == "of the first"


def test_only_what_no_living_writer_has_is_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    # In a container, a killed process may have had our own id
    dead = [f".out.partial-{HOST}-{os.getpid()}-0123abcd", f".out.partial-{HOST}-999999999-0123abcd"]
    alive = [f".out.partial-{HOST}-{os.getppid()}-0123abcd", ".out.partial-elsewhere-999999999-0123abcd"]
    for name in (*dead, *alive, ".out.partial-notes"):
        (tmp_path / name).mkdir()
    old = tmp_path / ".out.replaced-elsewhere-1-0123abcd"
    old.mkdir()
    os.utime(old, (0, 0))
    with whole_folder(out) as partial:
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            [*alive, ".out.partial-notes", "out", partial.name]
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*alive, ".out.partial-notes", "out"])


def test_threads_that_write_the_same_name_all_succeed(tmp_path: Path) -> None:
    def write(number: int) -> None:
        with whole_file(tmp_path / "file") as partial:
            partial.write_text(str(number))
        with whole_folder(tmp_path / "folder") as folder:
            (folder / "file").write_text(str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(200)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() in map(str, range(200))
    assert (tmp_path / "folder" / "file").read_text() in map(str, range(200))


def write_other(out: Path) -> None:
    with whole_file(out) as partial:
        partial.write_text("of the second")


def save_without_room(out: Path) -> None:
    limit_file_size(10_000)
    for save in (torch.save, save_file):
        with pytest.raises(OSError, match=f"'{out}' cannot be written; is the disk full"), written_with_os_errors(out):
            save({"weight": torch.zeros(100_000)}, out / "file")


def test_torch_and_safetensors_without_room(tmp_path: Path) -> None:
    assert exit_code(start(save_without_room, tmp_path)) == 0


def test_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"), written_with_os_errors(tmp_path):
        torch.zeros(2, 3) @ torch.zeros(2, 3)
