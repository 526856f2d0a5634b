"""Files that are there completely or not at all; folders are tested where the conversion makes them."""

import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hf_ast.whole import whole_file, written_with_os_errors
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
