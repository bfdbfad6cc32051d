"""Server-sent events for many viewers of the same thing.

A seat map has thousands of viewers and one change at a time. So a change is framed once, and fanning it
out is one `transport.write` per viewer: no queue, no task and no `await` per viewer and event. Each open
stream costs its connection and a parked coroutine. A `Frame` carries both forms HTTP knows, chunked
for 1.1 and plain for the 1.0 that some proxies speak, because framing per viewer is the price that is
being avoided.

Nobody may slow the others down. What a viewer has not taken yet waits in its transport's buffer; beyond
the limit the connection is cut, and the browser comes back by itself with its `Last-Event-ID`.

One timer a second serves all streams: it notices those whose viewer is gone, and sends a heartbeat to a
fifteenth of the others, so beats never fall on all connections at once. At shutdown each viewer is told
to come back after a time of its own.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from aiohttp import HttpVersion11, web
from multidict import CIMultiDict

from kernel.errors import Overloaded
from runtime.http.answers import Stream

HEARTBEAT_S: Final = 15
BUFFER_BYTES_MAX: Final = 256 * 1024  # a few snapshots of a large hall
STREAMS_MAX: Final = 20_000  # per process; about 8 KiB each

_RETRY_MS: Final = (500, 5_000)  # spread over which viewers come back after a restart
_RETRY_FRAMES: Final = 64

_log = logging.getLogger(__name__)
_random: Final = random.Random()  # noqa: S311 (spreads a crowd, protects nothing)


class Frame:
    """Bytes ready for the wire, in both forms."""

    __slots__ = ("chunk", "plain")

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self.chunk = b"%x\r\n%b\r\n" % (len(plain), plain)


def frame(data: bytes, *, event: str = "", event_id: str = "") -> Frame:
    """An event. Line breaks in `data` become several `data:` lines, as the format wants."""
    lines = []
    if event_id:
        lines.append(b"id: " + event_id.encode())
    if event:
        lines.append(b"event: " + event.encode())
    lines += [b"data: " + line for line in data.splitlines() or [b""]]
    return Frame(b"\n".join(lines) + b"\n\n")


_HEARTBEAT: Final = Frame(b": \n\n")


class EventStream:
    """One viewer."""

    __slots__ = ("_buffer_bytes_max", "_chunked", "_gone", "_transport")

    def __init__(self, transport: asyncio.Transport, *, chunked: bool, buffer_bytes_max: int) -> None:
        self._transport = transport
        self._chunked = chunked
        self._buffer_bytes_max = buffer_bytes_max
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(self, event: Frame) -> bool:
        """Hand the event to the network. False: this viewer is gone or was too slow."""
        transport = self._transport
        if transport.is_closing() or self._gone.done():
            self.close()
            return False
        if transport.get_write_buffer_size() > self._buffer_bytes_max:
            transport.abort()
            self.close()
            return False
        transport.write(event.chunk if self._chunked else event.plain)
        return True

    def close(self) -> None:
        """End the stream; the viewer may come back."""
        if not self._gone.done():
            self._gone.set_result(None)

    @property
    def is_open(self) -> bool:
        return not (self._gone.done() or self._transport.is_closing())

    async def wait_closed(self) -> None:
        """Return when the viewer is gone or the stream was closed."""
        await self._gone


class Streams:
    """All streams of one process."""

    def __init__(
        self,
        *,
        streams_max: int = STREAMS_MAX,
        buffer_bytes_max: int = BUFFER_BYTES_MAX,
        tick_s: float = 1.0,
    ) -> None:
        self._streams_max = streams_max
        self._buffer_bytes_max = buffer_bytes_max
        self._tick_s = tick_s
        self._ticks = 0
        self._open: dict[EventStream, int] = {}  # stream -> the tick, modulo HEARTBEAT_S, it beats at
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False

    @property
    def open_count(self) -> int:
        return len(self._open)

    async def serve(
        self,
        request: web.BaseRequest,
        stream: Stream,
        headers: CIMultiDict[str],
        opened: Callable[[], None],
    ) -> web.StreamResponse:
        """Answer a request with a stream, until it ends."""
        if self._closing or len(self._open) >= self._streams_max:
            raise Overloaded("No more live views can be opened here.")
        response = web.StreamResponse(headers=headers)
        response.force_close()
        with suppress(ConnectionError):
            await response.prepare(request)
        opened()
        if request.transport is not None:
            viewer = EventStream(
                request.transport,
                chunked=request.version >= HttpVersion11,
                buffer_bytes_max=self._buffer_bytes_max,
            )
            await self._watch(viewer, stream)
        return response

    async def _watch(self, viewer: EventStream, stream: Stream) -> None:
        self._open[viewer] = self._ticks % HEARTBEAT_S
        if self._timer is None:
            self._tick()
        try:
            unsubscribe = stream.subscribe(viewer)
        except Exception:  # noqa: BLE001 (headers are out: nobody is left to tell)
            _log.exception("a live view could not be opened")
            viewer.close()
        else:
            try:
                await viewer.wait_closed()
            finally:
                unsubscribe()
        finally:
            del self._open[viewer]

    def close_all(self) -> None:
        """Tell every viewer when to come back, and end all streams."""
        self._closing = True
        frames = [Frame(b"retry: %d\n\n" % _random.randint(*_RETRY_MS)) for _ in range(_RETRY_FRAMES)]
        for index, viewer in enumerate(list(self._open)):
            viewer.send(frames[index % _RETRY_FRAMES])
            viewer.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._ticks += 1
        beat = self._ticks % HEARTBEAT_S
        for viewer, slot in list(self._open.items()):
            if not viewer.is_open:
                viewer.close()
            elif slot == beat:
                viewer.send(_HEARTBEAT)
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick) if self._open else None
