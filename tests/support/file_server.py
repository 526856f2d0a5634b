"""A server of files on loopback that does what servers do: ranges, cuts, dead links, web pages instead of files."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Served:
    """What is behind a path.

    Args:
        content: The file.
        headers: Sent with it; what tells versions apart is in them.
        ranges, length: Whether parts are sent, and the length is announced.
        answers: One for each request, and then the whole file comes: ("cut", number of bytes), ("status", number), or
            ("short", number of bytes), which are sent as if they were the whole file.
        stalls: Nothing comes after half of the file until this is set.
    """

    content: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"first"'})
    ranges: bool = True
    length: bool = True
    answers: list[tuple[str, int]] = field(default_factory=list)
    stalls: threading.Event | None = None


@dataclass
class Server:
    """A running server; `requests` are (path, Range, If-Range, bytes sent)."""

    address: str
    served: dict[str, Served] = field(default_factory=dict)
    requests: list[tuple[str, str | None, str | None, int]] = field(default_factory=list)

    def url(self, name: str) -> str:
        return f"{self.address}/{name}?dl=1"

    @property
    def num_bytes(self) -> int:
        return sum(request[3] for request in self.requests)


class LoopbackServer(ThreadingHTTPServer):
    """Says nothing of clients that are gone."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers as the `Served` of the path says."""

    protocol_version = "HTTP/1.1"
    state: Server

    def do_GET(self) -> None:
        served = self.state.served.get(self.path.partition("?")[0].removeprefix("/"))
        if served is None:
            self.refuse(404)
            return
        kind, number = served.answers.pop(0) if served.answers else ("cut", len(served.content))
        if kind == "short":
            served = replace(served, content=served.content[:number])
        start = self.start(served)
        if kind == "status":
            self.refuse(number)
        elif start >= len(served.content):
            self.refuse(416, f"bytes */{len(served.content)}")
        else:
            self.send(served, start, number)

    def start(self, served: Served) -> int:
        """First byte to send: 0 if the condition of the request does not hold."""
        if not served.ranges or self.headers["If-Range"] not in (None, *served.headers.values()):
            return 0
        return int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))

    def refuse(self, status: int, content_range: str | None = None) -> None:
        self.record(0)
        self.send_response(status)
        if content_range is not None:
            self.send_header("Content-Range", content_range)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, served: Served, start: int, number: int) -> None:
        """Send at most so many bytes."""
        size = len(served.content)
        body = served.content[start:][:number]
        self.record(len(body))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        for header, value in served.headers.items():
            self.send_header(header, value)
        if served.length:
            self.send_header("Content-Length", str(size - start))
        self.end_headers()
        with suppress(ConnectionError):  # of a client that has no room on its disk
            if served.stalls is not None:
                self.wfile.write(body[: len(body) // 2])
                served.stalls.wait(30)
            else:
                self.wfile.write(body)
        self.close_connection = not served.length or served.stalls is not None or start + len(body) < size

    def record(self, num_bytes: int) -> None:
        name = self.path.partition("?")[0].removeprefix("/")
        self.state.requests.append((name, self.headers["Range"], self.headers["If-Range"], num_bytes))

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@contextmanager
def serving() -> Iterator[Server]:
    handler = type("Handler", (Handler,), {})
    with LoopbackServer(("127.0.0.1", 0), handler) as running:
        handler.state = Server(f"http://127.0.0.1:{running.server_port}")
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield handler.state
        running.shutdown()
        thread.join()
