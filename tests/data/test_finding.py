"""What a folder holds: recordings, what cannot be told, and archives."""

import os
from pathlib import Path

import fsspec
import pytest
import soundfile

from hf_ast.data.finding import OTHERS, find_recordings, find_remote_recordings
from hf_ast.data.formats import SUFFIXES
from tests.support.recordings import sine


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def wav_bytes(folder: Path) -> bytes:
    path = folder.parent / "one.wav"
    soundfile.write(path, sine(8000, 0.05), 8000)
    return path.read_bytes()


def test_suffixes_of_all_formats_are_recordings_in_any_case(tmp_path: Path) -> None:
    names = [f"a{suffix}" for suffix in SUFFIXES] + [f"b{suffix.upper()}" for suffix in SUFFIXES]
    touch(tmp_path, *names, "notes.txt", "page.HTML", "picture.jpg", "table.csv")
    assert find_recordings(tmp_path).names == sorted(names)
    assert not OTHERS & SUFFIXES


def test_content_tells_where_the_suffix_does_not(tmp_path: Path) -> None:
    sound = wav_bytes(tmp_path)
    for name in ("no_suffix", "take.1", "voice.note", "2024-05-01 10.30", "page.txt"):
        (tmp_path / name).write_bytes(sound)
    (tmp_path / "README").write_text("no recording")
    (tmp_path / "empty").write_bytes(b"")
    found = find_recordings(tmp_path)
    # Files with the suffix of a text are not opened
    assert found.names == ["2024-05-01 10.30", "no_suffix", "take.1", "voice.note"]
    assert not found.unreadable


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", ".b.wav", ".git/c.wav", "deep/._d.wav", "deep/.e/f.wav", "deep/g.wav")
    assert find_recordings(tmp_path).names == ["a.wav", "deep/g.wav"]


def test_archives_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "more/b.ZIP", "c.tar.gz")
    assert find_recordings(tmp_path).archives == ["c.tar.gz", "more/b.ZIP"]


def test_sound_without_a_header_is_named_and_its_content_comes_first(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    touch(folder, "call.GSM", "more/tape.vox")
    (folder / "called.raw").write_bytes(wav_bytes(tmp_path / "x"))
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bare/call.gsm", b"x")
    for found in (find_recordings(folder), find_remote_recordings(memory, "/bare")):
        assert found.unreadable
        assert all("no header that tells its rate" in reason for reason in found.unreadable.values())
    assert list(find_recordings(folder).unreadable) == ["call.GSM", "more/tape.vox"]
    assert find_recordings(folder).names == ["called.raw"]


def test_rare_formats_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "ring.mmf", "robot.RSO")
    found = find_recordings(tmp_path)
    assert found.names == ["a.wav"]
    assert found.unreadable == dict.fromkeys(
        ("ring.mmf", "robot.RSO"), "no decoder reads this format; convert it, such as by sox"
    )


def test_broken_links_are_named(tmp_path: Path) -> None:
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "itself").symlink_to("itself")
    found = find_recordings(tmp_path)
    assert found.names == ["gone.wav"]
    assert list(found.unreadable) == ["gone", "itself"]
    assert "No such file" in found.unreadable["gone"]
    assert "symbolic links" in found.unreadable["itself"]


def test_links_to_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    touch(outside, "b.wav", "deep/c.wav")
    touch(inside, "a.wav", "real/d.wav")
    (inside / "link").symlink_to(outside)
    (outside / "deep" / "back").symlink_to(outside)
    (inside / "loop").symlink_to(inside)
    (inside / "again").symlink_to(inside / "real")  # each folder once, by its own name
    found = find_recordings(inside)
    assert found.names == ["a.wav", "link/b.wav", "link/deep/c.wav", "real/d.wav"]
    assert not found.unreadable


def test_a_folder_that_may_not_be_searched_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.wav", "private/b.wav")
    scandir = os.scandir

    def refuse(path: str) -> object:  # not by its mode, which does not stop root
        if os.fspath(path).rstrip("/").endswith("private"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_recordings(tmp_path)
    assert found.names == ["a.wav"]
    assert found.unreadable == {"private": "the folder cannot be searched (Permission denied)"}


def test_names_may_be_anything(tmp_path: Path) -> None:
    names = ["line\nbreak.wav", "[live].wav", "caf\xe9.wav", os.fsdecode(b"caf\xe9.wav"), " .wav", "a*?{b}.wav"]
    touch(tmp_path, *names)
    assert find_recordings(tmp_path).names == sorted(names)


def test_pipes_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # reading it would never end
    os.mkfifo(tmp_path / "pipe.wav")
    assert find_recordings(tmp_path).names == ["pipe.wav"]


def test_folders_elsewhere_are_searched_alike(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    sound = wav_bytes(tmp_path / "x")
    for name, content in {"a.WAV": b"", "no_suffix": sound, "text": b"x", ".h.wav": b"", "z.zip": b""}.items():
        memory.pipe_file(f"/finding/deep/{name}", content)
    found = find_remote_recordings(memory, "/finding")
    assert (found.names, found.archives) == (["deep/a.WAV", "deep/no_suffix"], ["deep/z.zip"])
