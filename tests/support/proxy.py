"""A TCP proxy that misbehaves on request: the network between a client and a real server.

It counts what passes and how often it was dialled, and it can let replies through byte by byte, hold them
back, drop the connection in the middle of a request or of a reply, and turn callers away. With a `tls`
context it speaks TLS to the client and plain to the server. A fault lasts until it is taken back, and
`cut_…` strikes the connection that gets there first.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

_CHUNK = 64 * 1024


class Proxy:
    """`async with Proxy(server_url) as proxy:` and clients of `proxy.url`."""

    def __init__(self, server_url: str, *, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(server_url)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self._scheme = "rediss" if tls else "redis"
        self._tls = tls
        self._port = 0
        self._listener: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.dials = 0
        self.bytes_up = 0
        self.bytes_down = 0
        #: Replies leave one byte at a time.
        self.dribble = False
        #: Whoever dials is hung up on at once.
        self.slam = False
        self._up_left: int | None = None
        self._down_left: int | None = None

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._port}/0"

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()

    async def accept(self) -> None:
        """Listen, always at the same address."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self._port, ssl=self._tls)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Stop listening and drop every connection."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self.cut()

    async def cut(self) -> None:
        """Drop every connection now."""
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    def cut_after_requests(self, size: int) -> None:
        """Let `size` more bytes of requests through, then drop the connection."""
        self._up_left = size

    def cut_after_replies(self, size: int) -> None:
        """Let `size` more bytes of replies through, then drop the connection."""
        self._down_left = size

    def freeze(self) -> None:
        """Hold back every reply, on connections of now and later."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let what was held back through."""
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.dials += 1
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if not self.slam:
                await self._pass(reader, writer)
        except asyncio.CancelledError:
            pass  # this is how a connection is dropped; the streams library would log it
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._server)
        pumps = [
            asyncio.create_task(self._pump_up(reader, server_writer)),
            asyncio.create_task(self._pump_down(server_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            server_writer.transport.abort()
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)

    async def _pump_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self._up_left is not None:
                    data, cut = data[: self._up_left], len(data) > self._up_left
                    self._up_left = None if cut else self._up_left - len(data)
                    if cut:
                        writer.write(data)
                        await writer.drain()
                        return
                self.bytes_up += len(data)
                writer.write(data)
                await writer.drain()

    async def _pump_down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._flowing.wait()
                if self._down_left is not None:
                    data, cut = data[: self._down_left], len(data) > self._down_left
                    self._down_left = None if cut else self._down_left - len(data)
                    if cut:
                        writer.write(data)
                        await writer.drain()
                        return
                self.bytes_down += len(data)
                for piece in (data[i : i + 1] for i in range(len(data))) if self.dribble else (data,):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
