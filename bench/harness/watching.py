"""Viewers of a live map: thousands of SSE connections in a process of their own that only count.

They read what comes and throw it away; what is counted is events (a blank line ends one) and bytes, so a
bench can say that its viewers really were served. The process closes all of them when it is told to.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Final

import orjson
import uvloop

from runtime.engines import raise_file_limit

_AT_ONCE: Final = 200  # connections under way at a time: the listener's queue is not what is measured


class Viewer(asyncio.Protocol):
    """One connection."""

    __slots__ = ("_audience", "_closing", "_opened", "_request", "_transport")

    def __init__(self, audience: Audience, request: bytes) -> None:
        self._audience = audience
        self._request = request
        self._opened = self._closing = False

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        audience = self._audience
        if not self._opened:
            self._opened = True
            audience.opened += data.startswith(b"HTTP/1.1 200")
        audience.bytes += len(data)
        audience.events += data.count(b"\n\n")

    def connection_lost(self, error: Exception | None) -> None:
        self._audience.lost += not self._closing

    def close(self) -> None:
        self._closing = True
        self._transport.abort()


class Audience:
    """All viewers of this process."""

    def __init__(self) -> None:
        self.viewers: list[Viewer] = []
        self.opened = self.events = self.bytes = self.lost = 0

    async def come(self, port: int, request: bytes, count: int) -> None:
        """Connect so many more and wait until all of them have their first bytes."""
        loop = asyncio.get_running_loop()
        for start in range(0, count, _AT_ONCE):
            made = await asyncio.gather(
                *(
                    loop.create_connection(lambda: Viewer(self, request), "127.0.0.1", port)
                    for _ in range(min(_AT_ONCE, count - start))
                )
            )
            self.viewers += [viewer for _, viewer in made]
        await self._heard()

    async def _heard(self) -> None:
        while self.opened < len(self.viewers):
            if self.lost:
                return
            await asyncio.sleep(0.02)

    def go(self) -> None:
        """Close every connection."""
        for viewer in self.viewers:
            viewer.close()
        self.viewers.clear()
        self.opened = self.events = self.bytes = self.lost = 0

    def counts(self) -> dict[str, int]:
        return {"opened": self.opened, "events": self.events, "bytes": self.bytes, "lost": self.lost}


async def main() -> None:
    raise_file_limit()
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    audience = Audience()
    while line := await lines.readline():
        order = orjson.loads(line)
        if order["do"] == "come":
            await audience.come(order["port"], order["request"].encode(), order["count"])
        elif order["do"] == "go":
            audience.go()
        sys.stdout.buffer.write(orjson.dumps(audience.counts()) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(main())
