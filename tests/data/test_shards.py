"""Recordings in tar shards, as webdataset writes them."""

import gzip
import io
import json
import os
import pickle
import random
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hf_ast.data import audio, gzipped
from hf_ast.data.gzipped import GzipReader, Place
from hf_ast.data.shards import Shard, expand_pattern, folder_of
from hf_ast.data.sources import find_source
from tests.support.recordings import sine


def flac(frequency_hz: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sine(16000, 0.5, frequency_hz), 16000, format="FLAC")
    return file.getvalue()


def tar(members: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return file.getvalue()


def shard(content: bytes) -> Shard:
    return Shard(lambda: io.BytesIO(content), "shard.tar")


def frequency_hz(recording: Any) -> float:
    waveform, rate = audio.read(recording)
    return float(np.abs(np.fft.rfft(waveform)).argmax() * rate / len(waveform))


SAMPLES = {
    "a/000.flac": flac(300),
    "a/000.json": b'{"label": "dog", "split": "train"}',
    "a/001.cls": b"7\n",
    "a/001.flac": flac(500),
    "a/001.txt": "Stra\xdfe".encode(),
    "b.left.flac": flac(700),
    "b.right.flac": flac(900),
    "b.json": b"[1, 2]",
    "no_suffix": flac(1100),
    "a/000.jpg": b"no recording",
    ".hidden.flac": flac(1300),
}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_samples_are_recordings_with_what_is_beside_them(suffix: str, tmp_path: Path) -> None:
    content = tar(SAMPLES)
    (tmp_path / f"shard{suffix}").write_bytes(gzip.compress(content) if suffix == ".tar.gz" else content)
    source = find_source(tmp_path / f"shard{suffix}")
    assert source.kind == "shards"
    assert source.rows() == [
        (f"shard{suffix}/a/000.flac", {"label": "dog", "split": "train"}),
        (f"shard{suffix}/a/001.flac", {"cls": "7", "txt": "Stra\xdfe"}),
        (f"shard{suffix}/b.left.flac", {"json": [1, 2]}),
        (f"shard{suffix}/b.right.flac", {"json": [1, 2]}),
        (f"shard{suffix}/no_suffix", {}),
    ]
    assert not source.unreadable()
    reader = pickle.loads(pickle.dumps(source)).reader()  # as a data loader sends it
    found = []
    for index, name in reversed(list(enumerate(source.names()))):  # in any order
        with reader.open(name, index) as recording:
            found.append(frequency_hz(recording))
    assert found == pytest.approx([1100, 900, 700, 500, 300], abs=2)


def test_patterns_and_folders_of_shards(tmp_path: Path) -> None:
    for number in (0, 1, 3):
        (tmp_path / f"shard-{number:03d}.tar").write_bytes(tar({f"{number}.flac": flac(300)}))
    names = [f"shard-{number:03d}.tar/{number}.flac" for number in (0, 1, 3)]
    assert find_source(tmp_path).names() == names
    assert find_source(tmp_path / "shard-*.tar").names() == names
    assert find_source(tmp_path / "shard-{000,003}.tar").names() == [names[0], names[2]]
    source = find_source(tmp_path / "shard-{000..003}.tar")
    assert source.names() == names
    assert source.unreadable() == {"shard-002.tar": "it cannot be read (No such file or directory)"}
    with pytest.raises(ValueError, match="is not a folder, a manifest, tar shards"):
        find_source(tmp_path / "other-*.tar")
    (tmp_path / "a.wav").write_bytes(b"")  # now it is a folder of recordings, and the shards are archives in it
    assert find_source(tmp_path).kind == "folder"
    assert len(find_source(tmp_path).archives()) == 3


def test_patterns(tmp_path: Path) -> None:
    assert expand_pattern("/x/{08..11}-{a,b}.tar")[:3] == ["/x/08-a.tar", "/x/08-b.tar", "/x/09-a.tar"]
    assert expand_pattern("/x/{3..1}.tar") == ["/x/3.tar", "/x/2.tar", "/x/1.tar"]
    literal = str(tmp_path / "odd{1..2}[a].tar")
    Path(literal).write_bytes(b"")
    assert expand_pattern(literal) == [literal]
    assert folder_of(["/x/train/0.tar", "/x/training/1.tar"]) == "/x"
    assert folder_of(["s3://bucket/a/0.tar"]) == "s3://bucket/a"


@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_cut_shard_is_read_up_to_the_cut_and_named(is_compressed: bool) -> None:
    noise = random.Random(0).randbytes(50_000)
    members = {f"{number}.wav": bytes([number]) * 10 + noise for number in range(4)}
    content = tar(members)
    whole = {name: shard(content).members[name] for name in members}
    cut = content[: whole["2.wav"].offset + 20_000]
    if is_compressed:
        compressed = gzip.compress(content)
        cut = compressed[: len(compressed) * 6 // 10]
    found = shard(cut)
    assert list(found.members) == ["0.wav", "1.wav"]
    assert found.read("1.wav") == members["1.wav"]
    assert found.problems["2.wav"] == "the tar file ends before it does"
    assert "cut or damaged after its member '2.wav'" in found.problems[""]


def test_a_shard_without_an_end_or_with_a_damaged_middle_is_named() -> None:
    content = tar({"0.wav": b"x" * 1000, "1.wav": b"y" * 1000})
    first = content[:1536]  # exactly one member
    assert list(shard(first).members) == ["0.wav"]
    assert "it has no end mark" in shard(first).problems[""]
    damaged = first + b"\x55" * 512 + content[2048:]
    assert list(shard(damaged).members) == ["0.wav"]
    assert "after its member '0.wav'" in shard(damaged).problems[""]
    for nothing in (b"", b"no tar file", b"\x1f\x8b no gzip file"):
        assert "at its beginning" in shard(nothing).problems[""]


def test_joined_shards_are_read_to_their_end() -> None:
    joined = tar({"0.wav": b"x"}) + tar({"1.wav": b"yy"})
    for content in (joined, gzip.compress(joined), gzip.compress(joined[:7000]) + gzip.compress(joined[7000:])):
        found = shard(content)
        assert [found.read(name) for name in found.members] == [b"x", b"yy"]
        assert not found.problems


def test_members_of_one_name_are_all_read() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for content in (b"first", b"second"):
            info = tarfile.TarInfo("a.wav")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    found = shard(file.getvalue())
    assert {name: found.read(name) for name in found.members} == {"a.wav": b"first", "a.wav#2": b"second"}


def test_hostile_members_never_touch_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret.wav"
    secret.write_bytes(b"secret")
    names = {str(tmp_path / "absolute.wav"): b"1", "../up.wav": b"2", "/etc/passwd.wav": b"3"}
    links = {"link.wav": str(secret), "link.json": str(secret)}
    (tmp_path / "shard.tar").write_bytes(tar(names, links))
    before = sorted(tmp_path.iterdir())
    source = find_source(tmp_path / "shard.tar")
    reader = source.reader()
    read = []
    for index, name in enumerate(source.names()):
        with reader.open(name, index) as recording:
            read.append(recording)
    assert read == [b"1", b"2", b"3"]
    assert list(source.unreadable()) == ["shard.tar/link.wav"]
    assert sorted(tmp_path.iterdir()) == before


def test_descriptions_that_cannot_be_understood_are_named() -> None:
    found = shard(tar({"a.wav": b"x", "a.json": b"{", "a.txt": b"\xff", "b.wav": b"y", "b.json": b" " * 2**21}))
    assert list(found.members) == ["a.wav", "b.wav"]
    assert found.problems.keys() == {"a.json", "a.txt", "b.json"}
    assert json.loads(json.dumps(found.members["a.wav"].columns)) == {}


class CountedFile(io.BytesIO):
    num_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        CountedFile.num_read += len(content)
        return content


@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_member_is_read_from_its_place(is_compressed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gzipped, "NUM_BYTES_BETWEEN_PLACES", 2**18)
    monkeypatch.setattr(gzipped, "MAX_STEP_BYTES", 2**16)
    chance = random.Random(0)
    members = {f"{number:03d}.wav": chance.randbytes(20_000 + number) for number in range(200)}
    content = gzip.compress(tar(members)) if is_compressed else tar(members)
    found = Shard(lambda: CountedFile(content), "shard.tar")
    names = list(members)
    chance.shuffle(names)
    CountedFile.num_read = 0
    assert all(found.read(name) == members[name] for name in names)
    # Two places are 2**18 bytes apart, and four times that is what buffers may add; the whole is 4 MB
    assert CountedFile.num_read / len(names) < (2**20 if is_compressed else 21_000)


def test_any_stretch_of_a_gzip_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gzipped, "NUM_BYTES_BETWEEN_PLACES", 10_000)
    monkeypatch.setattr(gzipped, "MAX_STEP_BYTES", 3000)
    chance = random.Random(1)
    content = b"".join(chance.choice([b"silence" * 2000, chance.randbytes(9000)]) for _ in range(40))
    half = len(content) // 2
    compressed = gzip.compress(content[:half]) + gzip.compress(content[half:]) + b"\0" * 100
    places: list[Place] = []
    with GzipReader(lambda: io.BytesIO(compressed), places, is_first=True) as file:
        assert file.seek(0, os.SEEK_END) == len(content)
    assert len(places) > 20
    with GzipReader(lambda: io.BytesIO(compressed), places) as file:
        for _ in range(300):
            begin, size = chance.randrange(len(content) + 1000), chance.randrange(30_000)
            assert file.seek(begin) == min(begin, len(content))
            assert file.read(size) == content[begin : begin + size]
            assert file.tell() == min(begin + size, len(content)) or begin > len(content)
