"""Recordings at URLs and in file objects: whole, within limits, and with nothing left behind."""

import asyncio
import gzip
import io
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest

from hf_ast.data import audio, downloads
from tests.support.encoding import by_ffmpeg, by_soundfile, marked

WAV = by_soundfile("WAV", "PCM_16")(marked(16000), 16000)
BOMB = gzip.compress(bytes(2**26))


class Handler(BaseHTTPRequestHandler):
    """Answers well and badly."""

    def do_GET(self) -> None:  # noqa: C901, a branch for each kind of server
        stop = self.server.stop  # type: ignore[attr-defined]
        if self.path == "/slow-header":
            for letter in b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 10_000:
                if stop.wait(0.02):
                    return
                self.wfile.write(bytes([letter]))
            return
        self.send_response(302 if self.path.startswith("/to-") else 200)
        if self.path == "/to-wav":
            self.send_header("Location", "/a.wav")
        elif self.path == "/to-file":
            self.send_header("Location", "file:///etc/hostname")
        elif self.path == "/to-loop":
            self.send_header("Location", "/to-loop")
        body = {
            "/a.wav": WAV,
            "/cut.wav": WAV[: 44 + 16000],
            "/gzip": gzip.compress(WAV),
            "/bomb": BOMB,
        }.get(self.path, b"")
        if self.path in ("/gzip", "/bomb"):
            self.send_header("Content-Encoding", "gzip")
        if self.path == "/other":
            self.send_header("Content-Encoding", "br")
        if self.path == "/short":
            self.send_header("Content-Length", str(len(WAV)))
            body = WAV[:1000]
        elif self.path == "/announced":
            self.send_header("Content-Length", str(10**13))
        self.end_headers()
        self.wfile.write(body)
        while self.path in ("/endless", "/drip") and not stop.is_set():
            try:
                self.wfile.write(bytes(2**16) if self.path == "/endless" else b"\0")
            except OSError:
                return
            if self.path == "/drip":
                stop.wait(0.02)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.stop = threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.stop.set()  # type: ignore[attr-defined]
        server.shutdown()


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("path", ["/a.wav", "/to-wav", "/gzip"])
def test_a_recording_at_a_url_is_read(server: str, path: str) -> None:
    expected, _ = audio.read(WAV)
    np.testing.assert_array_equal(audio.read(server + path)[0], expected)
    assert audio.duration(server + path) == 1.5
    np.testing.assert_array_equal(np.concatenate(list(audio.stream(server + path, 16000))), expected)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/endless", r"/endless' has more than 1,000,000 bytes \(hf_ast.data.downloads.MAX_BYTES\)"),
        ("/announced", r"/announced' has more than 1,000,000 bytes"),
        ("/bomb", r"/bomb' has more than 1,000,000 bytes"),
        ("/drip", r"/drip' was not complete after 0\.5 s \(hf_ast.data.downloads.MAX_S\)"),
        ("/slow-header", r"/slow-header' was not complete after 0\.5 s"),
        ("/short", r"/short' cannot be downloaded"),
        ("/other", r"/other' comes with the encoding 'br'"),
        ("/to-file", r"/to-file' cannot be downloaded: .*file"),
        ("/to-loop", r"/to-loop' cannot be downloaded: .*redirect"),
    ],
)
def test_a_url_that_exceeds_a_limit_is_one_error(
    server: str, path: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "MAX_BYTES", 10**6)
    if path in ("/drip", "/slow-header"):
        monkeypatch.setattr(downloads, "MAX_S", 0.5)
    with pytest.raises(OSError, match=said):
        audio.read(server + path)


def test_a_recording_at_a_url_that_is_damaged_is_named_by_its_url(server: str) -> None:
    said: list[str] = []
    waveform, _ = audio.read(f"{server}/cut.wav", warn=said.append)
    assert len(waveform) == 8000
    assert said == [f"file='{server}/cut.wav' lacks 1.00 s: its header promises 1.50 s, and 0.50 s were found."]


def file_objects(folder: Path) -> Iterator[io.IOBase]:
    path = folder / "a.wav"
    path.write_bytes(WAV)
    yield io.BytesIO(WAV)
    yield path.open("rb")
    yield path.open("rb", buffering=0)
    with tempfile.SpooledTemporaryFile(max_size=1000) as spooled:
        spooled.write(WAV)
        yield spooled
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/a.wav", WAV)
    yield memory.open("/a.wav", "rb")


def test_file_objects_are_read_from_their_start_and_stay_as_they_were(tmp_path: Path) -> None:
    expected, _ = audio.read(WAV)
    for file in file_objects(tmp_path):
        file.seek(77)
        np.testing.assert_array_equal(audio.read(file)[0], expected)
        np.testing.assert_array_equal(audio.read(file, start_s=0.5)[0], expected[8000:])
        assert audio.duration(file) == 1.5
        blocks = list(audio.stream(file, 16000))
        np.testing.assert_array_equal(np.concatenate(blocks), expected)
        assert file.tell() == 77
        assert file.read(1) == WAV[77:78]  # neither closed nor detached
        file.close()


def test_an_upload_of_a_web_framework_is_read() -> None:
    class Upload:
        """As in Starlette and FastAPI: reading is a coroutine."""

        def __init__(self, content: bytes):
            self.file, self.filename = io.BytesIO(content), "voice.m4a"

        async def read(self, size: int = -1) -> bytes:
            return self.file.read(size)

    upload = Upload(by_ffmpeg("ipod", "aac")(marked(44100), 44100))
    waveform, rate = audio.read(upload)
    assert len(waveform) / rate == pytest.approx(1.5, abs=1e-3)
    assert asyncio.run(upload.read(4))
    upload.file = io.BytesIO(b"nothing")
    with pytest.raises(ValueError, match=r"file='voice\.m4a' cannot be read"):
        audio.read(upload)


class Pipe(io.RawIOBase):
    """A stream that can be read once."""

    def __init__(self, content: bytes):
        self.content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self.content.read(min(size, 1000) if size > 0 else size)


def test_a_stream_that_cannot_be_rewound_is_read_from_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipe(b"junk" + WAV)
    assert pipe.read(4) == b"junk"
    np.testing.assert_array_equal(audio.read(pipe)[0], audio.read(WAV)[0])
    assert not pipe.closed
    monkeypatch.setattr(downloads, "MAX_BYTES", 10_000)
    with pytest.raises(OSError, match="file='Pipe' has more than 10,000 bytes"):
        audio.read(Pipe(WAV))


def test_a_file_that_is_open_as_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("text")
    with (
        (tmp_path / "a.wav").open() as file,
        pytest.raises(ValueError, match=r"a\.wav' is open as text; open it in bin"),
    ):
        audio.read(file)


def test_a_download_ends_when_its_time_is_over(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that downloads ends, too, and its file with it."""
    monkeypatch.setattr(downloads, "MAX_S", 0.2)
    with pytest.raises(OSError, match="was not complete"):
        audio.read(server + "/drip")
    end = time.monotonic() + 10
    while any(thread.name == "hf-ast-download" for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.01)
