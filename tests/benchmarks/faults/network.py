"""A server of files and a Hub on loopback, in a process of their own, behind a cable that can be cut."""

import asyncio
import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

CHUNK_SIZE = 4096
# After every chunk, so that a transfer lasts long enough to be cut or killed
PAUSE_S = 0.001


@contextmanager
def network(storage: Path) -> Iterator[Any]:
    """A proxy of a `Network` in a process of its own, which forked processes and programs reach through its ports."""
    with Manager(ctx=multiprocessing.get_context("fork")) as manager:
        yield manager.Network(storage)


class Network:
    """Both servers, and how much more the cable to them carries.

    Args:
        storage: Folder for what is uploaded to the Hub.
    """

    def __init__(self, storage: Path):
        # Not above: whoever wants the addresses in the environment has not imported huggingface_hub yet
        from tests.support.file_server import serving
        from tests.support.loopback_hub import TOKEN, serve

        self._stack = stack = ExitStack()  # keeps the servers running
        self._cable = Cable()
        self._files = stack.enter_context(serving())
        hub = stack.enter_context(serve(storage))
        self._address, hub.url, hub.storage_url = (
            f"http://127.0.0.1:{self._cable.connect(int(url.rpartition(':')[2]))}"
            for url in (self._files.address, hub.url, hub.storage_url)
        )
        self._environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}

    def environment(self) -> dict[str, str]:
        """What makes huggingface_hub use this Hub; to be set before its import."""
        return self._environment

    def offer(self, file: Path) -> str:
        """Serve a file; its URL."""
        from tests.support.file_server import Served

        self._files.served[file.name] = Served(file.read_bytes())
        return f"{self._address}/{file.name}"

    def send_short(self, name: str, num_bytes: int) -> None:
        """Send the next client only the beginning of a file, as if it were all."""
        self._files.served[name].answers.append(("short", num_bytes))

    def lose(self, num_bytes: int, manner: str) -> None:
        """Lose the network after so many more bytes; the manners are those of `Cable`."""
        self._cable.lose(num_bytes, manner)

    def restore(self) -> None:
        """Carry everything again."""
        self._cable.lose(None)
        for served in self._files.served.values():
            served.answers.clear()

    def carried(self) -> int:
        """Bytes that went through the cable, in both directions."""
        return self._cable.num_carried


class Manager(BaseManager):
    """The process of the servers."""


Manager.register("Network", Network)


class Cable:
    """Forwards ports of loopback until it is cut.

    It is cut after a number of bytes: "once" (connections end, new ones work), "gone" (new ones are refused as well),
    or "silent" (nothing ends, and nothing comes).
    """

    def __init__(self) -> None:
        self.num_carried = 0
        self.room: int | None = None
        self.manner = ""
        self.never = asyncio.Event()  # its waiters stay alive; those of an event that nobody holds are collected
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def connect(self, port: int) -> int:
        """Forward a new port to one of a server."""
        starting = asyncio.start_server(partial(self.carry, port), "127.0.0.1", 0)
        return asyncio.run_coroutine_threadsafe(starting, self.loop).result().sockets[0].getsockname()[1]

    def lose(self, num_bytes: int | None, manner: str = "") -> None:
        self.room, self.manner = num_bytes, manner

    async def carry(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.room == 0:
            await self.stay_silent() if self.manner == "silent" else writer.transport.abort()
            return
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(self.pump(reader, upstream_writer), self.pump(upstream_reader, writer))

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Carry one direction; the end of either direction ends the other one."""
        try:
            while data := await source.read(CHUNK_SIZE):
                sink.write(data[: self.room])
                await sink.drain()
                self.num_carried += len(data)
                if self.room is not None:
                    self.room = max(0, self.room - len(data))
                if self.room == 0:
                    await self.end(sink)
                    return
                await asyncio.sleep(PAUSE_S)
            sink.close()
        except ConnectionError:
            sink.transport.abort()

    async def end(self, sink: asyncio.StreamWriter) -> None:
        if self.manner == "silent":
            await self.stay_silent()
        if self.manner == "once":
            self.room = None
        sink.transport.abort()

    async def stay_silent(self) -> None:
        await self.never.wait()
