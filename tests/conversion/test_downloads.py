"""Downloads from a server on loopback that does what servers do: ranges, cuts, web pages, other files."""

import dataclasses
import hashlib
import io
import json
import os
import random
import signal
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from hf_ast.conversion.checkpoint import Checkpoint
from hf_ast.conversion.downloads import CHUNK_SIZE, cached, default_cache, fetch, recorded_digest
from hf_ast.conversion.registry import find
from tests.support.file_server import Served, Server, serving
from tests.support.processes import exit_code, limit_file_size, start

MEGABYTE = 2**20


def archive(seed: int, num_bytes: int) -> bytes:
    """What torch saves is an uncompressed archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("data", random.Random(seed).randbytes(num_bytes))
    return stream.getvalue()


CONTENT, OTHER = archive(0, 3 * MEGABYTE), archive(1, 3 * MEGABYTE)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"<!DOCTYPE html><html>This link is gone</html>"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


class Place:
    """A cache and a file of digests of its own, and the checkpoint that is downloaded."""

    def __init__(self, folder: Path, *urls: str):
        self.cache = folder / "cache"
        self.checksums = self.cache / "checksums.json"
        self.checkpoint = dataclasses.replace(
            find("ssast-tiny-patch-400"), urls=urls, pages=("https://example.org/drive",)
        )

    def fetch(self, **changes: str) -> tuple[Path, str | None]:
        checkpoint: Checkpoint = dataclasses.replace(self.checkpoint, **changes)
        file, url = fetch(checkpoint, cache=self.cache)
        return file.path, url

    @property
    def names(self) -> list[str]:
        """What is in the cache, but for locks and digests."""
        return sorted(path.name for path in self.cache.iterdir() if path.suffix != ".lock" and path != self.checksums)

    @property
    def incomplete(self) -> bytes:
        return (self.cache / "a.pth.incomplete").read_bytes()


@pytest.fixture
def place(tmp_path: Path, server: Server) -> Place:
    return Place(tmp_path, server.url("a.pth"))


def test_a_file_is_downloaded_once_and_its_digest_recorded(server: Server, place: Place) -> None:
    server.served["a.pth"] = Served(CONTENT)
    assert cached(place.checkpoint, cache=place.cache) is None
    file, url = place.fetch()
    assert (file.name, url) == ("a.pth", server.url("a.pth"))
    assert file.read_bytes() == CONTENT
    assert place.names == ["a.pth", "a.pth.json"]
    assert json.loads(place.checksums.read_text()) == {"a.pth": DIGEST}
    assert place.fetch() == (file, url)
    assert cached(place.checkpoint, cache=place.cache) == file
    assert len(server.requests) == 1


def test_recorded_digests_are_sorted_and_kept(server: Server, place: Place) -> None:
    server.served["a.pth"] = Served(CONTENT)
    place.cache.mkdir()
    place.checksums.write_text(json.dumps({"b.pth": "2" * 64}))
    place.fetch()
    assert list(json.loads(place.checksums.read_text()).items()) == [("a.pth", DIGEST), ("b.pth", "2" * 64)]
    assert recorded_digest("b.pth", cache=place.cache) == "2" * 64


def test_a_cut_connection_is_taken_up_where_it_ended(server: Server, place: Place) -> None:
    server.served["a.pth"] = Served(CONTENT, answers=[("cut", MEGABYTE), ("cut", MEGABYTE)])
    file, _ = place.fetch()
    assert file.read_bytes() == CONTENT
    starts = [int(wanted[6:-1]) for _, wanted, _, _ in server.requests[1:]]
    assert len(starts) == 2
    assert MEGABYTE - CHUNK_SIZE < starts[0] <= MEGABYTE
    # What was sent twice is less than a chunk per cut
    assert len(CONTENT) <= server.num_bytes < len(CONTENT) + 2 * CHUNK_SIZE


def test_a_download_that_failed_is_continued_by_the_next_call(server: Server, place: Place) -> None:
    server.served["a.pth"] = Served(CONTENT, answers=[("cut", MEGABYTE), ("status", 503)])
    with pytest.raises(OSError, match=r"a\.pth\?dl=1: HTTP 503 Service Unavailable"):
        place.fetch()
    assert place.names == ["a.pth.incomplete", "a.pth.incomplete.json"]
    kept = place.incomplete
    assert CONTENT.startswith(kept)
    assert not place.checksums.exists()
    file, _ = place.fetch()
    assert file.read_bytes() == CONTENT
    assert server.requests[-1] == ("a.pth", f"bytes={len(kept)}-", '"first"', len(CONTENT) - len(kept))
    assert place.names == ["a.pth", "a.pth.json"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"ETag": '"first"'}, {"ETag": '"second"'}),
        ({"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, {"Last-Modified": "Tue, 02 Jan 2024 00:00:00 GMT"}),
    ],
)
def test_a_file_that_changed_meanwhile_comes_from_its_beginning(
    server: Server, place: Place, first: dict[str, str], second: dict[str, str]
) -> None:
    server.served["a.pth"] = Served(CONTENT, headers=first, answers=[("cut", MEGABYTE), ("status", 503)])
    with pytest.raises(OSError, match="HTTP 503"):
        place.fetch()
    kept = place.incomplete
    server.served["a.pth"] = Served(OTHER, headers=second)
    file, _ = place.fetch()
    assert server.requests[-1] == ("a.pth", f"bytes={len(kept)}-", *first.values(), len(OTHER))
    assert file.read_bytes() == OTHER


@pytest.mark.parametrize("num_bytes", [MEGABYTE // 2, 2 * MEGABYTE, len(CONTENT) + 9])
def test_without_any_version_another_length_means_another_file(server: Server, place: Place, num_bytes: int) -> None:
    server.served["a.pth"] = Served(CONTENT, headers={}, answers=[("cut", MEGABYTE), ("status", 503)])
    with pytest.raises(OSError, match="HTTP 503"):
        place.fetch()
    changed = archive(2, num_bytes)
    server.served["a.pth"] = Served(changed, headers={})
    file, _ = place.fetch()
    assert file.read_bytes() == changed


def test_without_any_version_the_same_length_is_continued(server: Server, place: Place) -> None:
    server.served["a.pth"] = Served(CONTENT, headers={"ETag": 'W/"weak"'}, answers=[("cut", MEGABYTE)])
    file, _ = place.fetch()
    assert file.read_bytes() == CONTENT
    assert [request[2] for request in server.requests] == [None, None]
    assert server.num_bytes < len(CONTENT) + CHUNK_SIZE


def test_a_server_without_ranges_sends_the_whole_file_again(server: Server, place: Place) -> None:
    server.served["a.pth"] = Served(CONTENT, ranges=False, answers=[("cut", MEGABYTE)])
    file, _ = place.fetch()
    assert file.read_bytes() == CONTENT
    assert server.num_bytes == len(CONTENT) + MEGABYTE


@pytest.mark.parametrize("known", ["0" * 8, "0" * 64])
def test_a_file_with_another_digest_than_the_published_is_not_kept(server: Server, place: Place, known: str) -> None:
    server.served["a.pth"] = Served(CONTENT)
    with pytest.raises(OSError, match=f"sha256 is {DIGEST}, but {known} in the registry: it is another file"):
        place.fetch(sha256=known)
    assert place.names == []
    assert not place.checksums.exists()
    place.fetch(sha256=DIGEST[: len(known)])
    assert place.names == ["a.pth", "a.pth.json"]


def test_a_file_that_changes_after_its_first_download_is_refused(server: Server, place: Place) -> None:
    server.served["a.pth"] = Served(CONTENT)
    file, _ = place.fetch()
    file.unlink()
    server.served["a.pth"] = Served(OTHER)
    with pytest.raises(OSError, match=rf"but {DIGEST} in .*cache/checksums\.json"):
        place.fetch()
    assert not file.exists()
    assert recorded_digest("a.pth", cache=place.cache) == DIGEST


def test_a_cached_file_that_was_damaged_is_set_aside_and_downloaded_again(
    server: Server, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    server.served["a.pth"] = Served(CONTENT)
    file, _ = place.fetch()
    file.write_bytes(OTHER)
    assert place.fetch()[0].read_bytes() == CONTENT
    assert "It is now called a.pth.damaged; downloading it again" in caplog.text
    assert (place.cache / "a.pth.damaged").read_bytes() == OTHER


def test_a_recorded_digest_that_changes_takes_the_name_from_the_file_and_not_its_content(
    server: Server, place: Place
) -> None:
    server.served["a.pth"] = Served(CONTENT)
    place.fetch()
    place.checksums.write_text(json.dumps({"a.pth": "3" * 64}))
    with pytest.raises(OSError, match="but 3333"):
        place.fetch()
    assert place.names == ["a.pth.damaged"]
    assert (place.cache / "a.pth.damaged").read_bytes() == CONTENT


def test_the_beginning_of_a_file_announced_as_the_whole_is_not_kept(server: Server, place: Place) -> None:
    server.served["a.pth"] = Served(CONTENT, answers=[("short", MEGABYTE)])
    with pytest.raises(OSError, match=rf"a\.pth\?dl=1: {MEGABYTE} bytes are only the beginning of a checkpoint"):
        place.fetch()
    assert place.names == []
    assert not place.checksums.exists()
    assert place.fetch()[0].read_bytes() == CONTENT
    assert recorded_digest("a.pth", cache=place.cache) == DIGEST


def test_a_web_page_instead_of_the_file_is_a_dead_link(server: Server, tmp_path: Path) -> None:
    place = Place(tmp_path, server.url("gone.pth"), server.url("mirror.pth"))
    server.served["gone.pth"] = Served(PAGE, headers={"Content-Type": "text/html; charset=utf-8"})
    with pytest.raises(OSError, match=r"the link is dead: it sends text/html; charset=utf-8 that begins with b'<!DOC"):
        place.fetch()
    assert place.names == []
    server.served["mirror.pth"] = Served(CONTENT)
    file, url = place.fetch()
    assert (file.name, url) == ("gone.pth", server.url("mirror.pth"))
    assert file.read_bytes() == CONTENT
    # A mirror of another name may be another file: each has a digest of its own
    assert json.loads(place.checksums.read_text()) == {"mirror.pth": DIGEST}


def test_a_web_page_does_not_cost_what_had_arrived(server: Server, place: Place) -> None:
    server.served["a.pth"] = Served(CONTENT, answers=[("cut", MEGABYTE), ("status", 503)])
    with pytest.raises(OSError, match="HTTP 503"):
        place.fetch()
    kept = place.incomplete
    server.served["a.pth"] = Served(PAGE, headers={})
    with pytest.raises(OSError, match="the link is dead"):
        place.fetch()
    assert place.incomplete == kept


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def test_a_mirror_takes_over_from_dead_urls(server: Server, tmp_path: Path) -> None:
    dead = f"http://127.0.0.1:{closed_port()}/a.pth"
    place = Place(tmp_path, dead, server.url("missing.pth"), server.url("b.pth"))
    server.served["b.pth"] = Served(CONTENT)
    file, url = place.fetch()
    assert (file.name, url, file.read_bytes()) == ("a.pth", server.url("b.pth"), CONTENT)


def test_one_error_lists_every_url_with_its_failure_and_what_is_left_to_do(server: Server, tmp_path: Path) -> None:
    dead = f"http://127.0.0.1:{closed_port()}/a.pth"
    place = Place(tmp_path, dead, server.url("missing.pth"), server.url("page.pth"))
    server.served["page.pth"] = Served(PAGE, headers={})
    with pytest.raises(OSError, match=r"a\.pth cannot be downloaded") as caught:
        place.fetch()
    lines = str(caught.value).splitlines()
    assert lines[1].startswith(f"  {dead}: ConnectError: ")
    assert lines[2] == f"  {server.url('missing.pth')}: HTTP 404 Not Found"
    assert lines[3].startswith(f"  {server.url('page.pth')}: the link is dead")
    assert "https://example.org/drive" in lines[4]
    assert f"copy it to {str(place.cache / 'a.pth')!r}, and give the same command again" in lines[4]


def test_a_cut_is_noticed_where_no_length_is_announced(server: Server, place: Place) -> None:
    server.served["a.pth"] = Served(CONTENT, length=False)
    with pytest.raises(OSError, match="announces no length, so a cut connection could not be noticed"):
        place.fetch()


def test_a_file_put_there_by_hand_is_taken_and_checked_but_not_recorded(server: Server, place: Place) -> None:
    place.cache.mkdir()
    (place.cache / "a.pth").write_bytes(CONTENT)
    assert place.fetch() == (place.cache / "a.pth", None)
    assert not place.checksums.exists()
    assert server.requests == []
    server.served["a.pth"] = Served(OTHER)
    assert place.fetch(sha256=hashlib.sha256(OTHER).hexdigest())[1] == server.url("a.pth")
    assert (place.cache / "a.pth.damaged").read_bytes() == CONTENT


def test_two_processes_download_once(server: Server, place: Place) -> None:
    server.served["a.pth"] = Served(CONTENT)
    processes = [start(place.fetch) for _ in range(2)]
    assert [exit_code(process) for process in processes] == [0, 0]
    assert server.num_bytes == len(CONTENT)
    assert place.names == ["a.pth", "a.pth.json"]


def fetch_on_a_full_disk(place: Place) -> None:
    limit_file_size(MEGABYTE)
    with pytest.raises(OSError, match=r"File too large; what has arrived is kept.*a\.pth\.incomplete"):
        place.fetch()


def test_a_full_disk_is_an_error_and_the_download_continues_when_there_is_room(server: Server, place: Place) -> None:
    server.served["a.pth"] = Served(CONTENT)
    assert exit_code(start(fetch_on_a_full_disk, place)) == 0
    assert place.incomplete == CONTENT[:MEGABYTE]
    file, _ = place.fetch()
    assert file.read_bytes() == CONTENT
    assert server.requests[-1][3] == len(CONTENT) - MEGABYTE


def test_a_killed_download_is_continued(server: Server, place: Place) -> None:
    server.served["a.pth"] = Served(CONTENT, stalls=threading.Event())
    process = start(place.fetch)
    deadline = time.monotonic() + 60
    incomplete = place.cache / "a.pth.incomplete"
    while not (incomplete.is_file() and incomplete.stat().st_size > MEGABYTE):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert exit_code(process) == -signal.SIGKILL
    server.served["a.pth"].stalls.set()
    kept = place.incomplete
    assert CONTENT.startswith(kept)
    server.served["a.pth"] = Served(CONTENT)
    file, _ = place.fetch()
    assert file.read_bytes() == CONTENT
    assert server.requests[-1][3] == len(CONTENT) - len(kept)


def test_the_cache_is_beside_that_of_the_hub() -> None:
    assert default_cache() == Path(constants.HF_HOME) / "hf_ast"
