"""Server-sent events for many viewers of the same thing.

A seat map has thousands of viewers and one change at a time. So a change is framed once, and fanning it
out is one write per viewer: no queue, no task and no `await` per viewer and event. A `Frame` carries both
forms HTTP knows, chunked for 1.1 and plain for the 1.0 that some proxies speak, because framing per viewer
is the price that is being avoided.

When its head is out, a stream takes the connection over: from then on the connection's protocol is the
`EventStream` itself, and everything that read the request (parser, request, task, coroutines: ten kilobytes)
is told that its connection is gone, and goes. So thousands of viewers are little more than their sockets,
and one who leaves is forgotten at once. What stays is the place, which the stream has now and leaves when its
connection is lost. How many streams there may be is said there, too (`places`).

The write goes to the socket itself when nothing waits in front of it. A transport would put the bytes on
a list, and make the same system call at the end of the turn; that detour costs a tenth of a delivery. It
is taken for what the kernel has no room for, on TLS, and whenever something waits already, so the order of
bytes is the order of calls. A descriptor is forgotten when the loop says that its connection is lost, which
it says before it closes it: afterwards the number might be somebody else's.

Nobody slows the others down. Beyond `BUFFER_BYTES_MAX` waiting, a viewer of an `Audience` is told nothing
more; when it has taken what waited, it is told the whole in one frame and is again one of many. Who takes
nothing at all for long is cut, and the browser comes back by itself with its `Last-Event-ID`.

One timer a second serves all streams, a fifteenth of them at a time: it cuts those that are stuck, and
sends the others a heartbeat, so beats never fall on all connections at once. At shutdown each viewer is
told to come back after a time of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from aiohttp import HttpVersion11, web
from multidict import CIMultiDict

from kernel.errors import Overloaded
from runtime.http.answers import Stream
from runtime.http.places import Place

HEARTBEAT_S: Final = 15
BUFFER_BYTES_MAX: Final = 64 * 1024  # waiting in the process: three snapshots of a hall of 60,000
KERNEL_BYTES: Final = 64 * 1024  # waiting in the kernel, which would by itself take megabytes of old news

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
_INDIRECT: Final = -1  # in place of a descriptor: everything goes through the transport
_LAST_CHUNK: Final = b"0\r\n\r\n"


def _come_back() -> Frame:
    return Frame(b"retry: %d\n\n" % _random.randint(*_RETRY_MS))


class EventStream(asyncio.Protocol):
    """One viewer. `lost` is called once, when its connection is gone."""

    __slots__ = (
        "_buffer_bytes_max",
        "_descriptor",
        "_place",
        "_stuck_beats",
        "_transport",
        "chunked",
        "lost",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        chunked: bool,
        buffer_bytes_max: int,
        place: Place | None = None,
    ) -> None:
        self.chunked = chunked
        self.lost: Callable[[], None] | None = None
        self._transport = transport
        self._place = place
        self._buffer_bytes_max = buffer_bytes_max
        self._stuck_beats = 0
        self._descriptor = _INDIRECT
        connection = transport.get_extra_info("socket")
        if connection is not None and transport.get_extra_info("sslcontext") is None:
            self._descriptor = connection.fileno()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self._descriptor = _INDIRECT
        if self._place is not None:
            self._place.leave()
        lost, self.lost = self.lost, None
        if lost is not None:
            lost()

    def send(self, event: Frame) -> bool:
        """Hand the event to the network. False: this viewer is gone, or too slow to be told."""
        return self.put(event.chunk if self.chunked else event.plain)

    def put(self, data: bytes) -> bool:
        """`send` for bytes that are framed as this viewer wants them."""
        if self._descriptor < 0:
            return self._put_indirectly(data)
        if self._transport.get_write_buffer_size():
            return self._put_indirectly(data)
        try:
            taken = os.write(self._descriptor, data)
        except OSError:  # no room, or the connection broke, which the transport finds out by itself
            taken = 0
        if taken < len(data):
            self._transport.write(data[taken:])
        return True

    def _put_indirectly(self, data: bytes) -> bool:
        transport = self._transport
        if transport.is_closing() or transport.get_write_buffer_size() > self._buffer_bytes_max:
            return False
        transport.write(data)
        return True

    def close(self) -> None:
        """End the stream; the viewer may come back."""
        if self.chunked:
            self.put(_LAST_CHUNK)
        self._descriptor = _INDIRECT
        self._transport.close()

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    @property
    def has_room(self) -> bool:
        """Whether everything it was told is on its way."""
        return self._transport.get_write_buffer_size() == 0

    def beat(self) -> None:
        """A heartbeat; at the second one in a row that finds no room, the connection is cut."""
        if self.send(_HEARTBEAT):
            self._stuck_beats = 0
        elif self._stuck_beats:
            self._descriptor = _INDIRECT
            self._transport.abort()
        else:
            self._stuck_beats = 1


class Audience:
    """Viewers who are told the same."""

    def __init__(self) -> None:
        self._keeping_up: dict[EventStream, None] = {}
        self._behind: dict[EventStream, None] = {}

    def __len__(self) -> int:
        return len(self._keeping_up) + len(self._behind)

    def add(self, viewer: EventStream) -> None:
        """Tell this one too, from now on."""
        self._keeping_up[viewer] = None

    def remove(self, viewer: EventStream) -> None:
        """Tell this one no more."""
        self._keeping_up.pop(viewer, None)
        self._behind.pop(viewer, None)

    def tell(self, event: Frame) -> None:
        """Tell everybody; who has no room for it is behind from now on."""
        chunk, plain = event.chunk, event.plain
        missed = [viewer for viewer in self._keeping_up if not viewer.put(chunk if viewer.chunked else plain)]
        for viewer in missed:
            self._behind[viewer] = self._keeping_up.pop(viewer)

    def catch_up(self, whole: Callable[[], Frame]) -> None:
        """Tell those who were behind, and have room again, the whole; they keep up from now on."""
        for viewer in [viewer for viewer in self._behind if viewer.has_room]:
            del self._behind[viewer]
            self._keeping_up[viewer] = None
            viewer.send(whole())


def _place_of(request: web.BaseRequest) -> Place | None:
    """The place of a request's connection; aiohttp's own connections know of none."""
    place: Place | None = getattr(request.protocol, "place", None)
    return place


class Streams:
    """All streams of one process."""

    def __init__(
        self,
        *,
        buffer_bytes_max: int = BUFFER_BYTES_MAX,
        tick_s: float = 1.0,
    ) -> None:
        self._buffer_bytes_max = buffer_bytes_max
        self._tick_s = tick_s
        self._ticks = 0
        self._open: list[set[EventStream]] = [set() for _ in range(HEARTBEAT_S)]  # by the tick they beat at
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False

    async def serve(
        self,
        request: web.BaseRequest,
        stream: Stream,
        headers: CIMultiDict[str],
        opened: Callable[[], None],
    ) -> web.StreamResponse:
        """Answer a request with a stream; it goes on when the request is over."""
        place = _place_of(request)
        if place is not None and not place.may_have_a_view and not self._closing:
            raise Overloaded("No more live views can be opened here.")
        response = web.StreamResponse(headers=headers)
        response.force_close()
        with suppress(ConnectionError):
            await response.prepare(request)
        opened()
        if request.transport is not None:
            self._take_over(request, request.transport, stream)
        return response

    def _take_over(self, request: web.BaseRequest, transport: asyncio.Transport, stream: Stream) -> None:
        connection: Any = request.protocol
        place = _place_of(request)
        viewer = EventStream(
            transport,
            chunked=request.version >= HttpVersion11,
            buffer_bytes_max=self._buffer_bytes_max,
            place=place,
        )
        transport.set_protocol(viewer)
        if place is not None:
            place.keep_for_a_view()
            connection.place = None  # else it would leave it
        connection.transport = None  # else it would close it, as one does with a lost connection
        connection.connection_lost(None)
        if self._closing:
            viewer.send(_come_back())
            viewer.close()
            return
        unsubscribe: Callable[[], None] | None = None
        try:
            unsubscribe = stream.subscribe(viewer)
        except Exception:  # noqa: BLE001 (headers are out: nobody is left to tell)
            _log.exception("a live view could not be opened")
            viewer.close()
        together = self._open[self._ticks % HEARTBEAT_S]

        def forget() -> None:
            together.discard(viewer)
            if unsubscribe is not None:
                unsubscribe()

        viewer.lost = forget
        together.add(viewer)  # also one that is closed: it is there until it has taken what it was told
        if self._timer is None:
            self._tick()

    def close_all(self) -> None:
        """Tell every viewer when to come back, and end all streams."""
        self._closing = True
        frames = [_come_back() for _ in range(_RETRY_FRAMES)]
        for index, viewer in enumerate([viewer for together in self._open for viewer in together]):
            viewer.send(frames[index % _RETRY_FRAMES])
            viewer.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._ticks += 1
        for viewer in list(self._open[self._ticks % HEARTBEAT_S]):
            viewer.beat()
        self._timer = (
            asyncio.get_running_loop().call_later(self._tick_s, self._tick) if any(self._open) else None
        )
