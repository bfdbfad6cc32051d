"""Viewers of live streams on real sockets, and what they have been sent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final

import uvloop

from runtime.http.sse import BUFFER_BYTES_MAX, EventStream

#: Loops a stream must behave the same on: what processes run on, and what anybody may run it on.
LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


def on_loop(name: str, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Play a story on a loop of its own."""
    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
        runner.run(story())


class Viewer:
    """One end of a connection as a browser has it: reads only when told to."""

    stream: EventStream

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.received = b""

    @classmethod
    async def connect(cls, *, chunked: bool = False) -> Viewer:
        """A viewer whose stream is open."""
        viewer = cls()
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=viewer._ours)
        viewer.stream = EventStream(transport, chunked=chunked, buffer_bytes_max=BUFFER_BYTES_MAX)
        transport.set_protocol(viewer.stream)
        return viewer

    @property
    def transport(self) -> asyncio.Transport:
        return self.stream._transport

    async def read(self) -> bytes:
        """Everything there is to read now, and all before it."""
        quiet = 0
        while quiet < 3:
            try:
                piece = self.theirs.recv(1 << 20)
            except BlockingIOError:
                quiet += 1
                await asyncio.sleep(0)
            else:
                quiet = 0 if piece else 3
                self.received += piece
        return self.received

    async def events(self) -> list[tuple[str, str]]:
        """What has been read so far, as event and id; comments are left out."""
        events = []
        for block in (await self.read()).decode().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            if "event" in fields:
                events.append((fields["event"], fields.get("id", "")))
        return events

    def close(self) -> None:
        self.transport.abort()
        self.theirs.close()
