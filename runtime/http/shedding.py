"""Turning away what there is no time for (rule R15): who hears 503, when, and how much of it at once.

`admission` says when the queue is full. Under overload, what a refusal costs decides how much is left for the
others, so a request is turned away between the parser and everything else: no token and no body looked at.
That is possible where nothing stands before it. What is not whole yet, came behind something that is being
answered, or behind a probe, which is answered however full it is, is asked about when its turn comes, and
goes the long way to the same answer. So no request begins that the queue was not asked about, whatever stood
before it; answers keep the order of the questions; and the parser and we never disagree about where a message
ends.

Whoever was refused waits for a moment. Its connection is not read, since a client that asks again without
waiting would otherwise be refused as often as it can ask; nor is what it has sent already, and the parser
reads only so far ahead. So a connection gets a few dozen refusals a moment, however much it sends. And a
refusal somebody has to take, too: while those before it wait in the process, nothing is refused and nothing
read, and whoever takes none of them is cut in the end (`pace`).

Refused: to close the connection of who asks too much. People behind one proxy share one, and whoever is sent
away comes back with another handshake.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from aiohttp import HttpVersion11, web
from aiohttp.http import RawRequestMessage

from kernel.errors import Overloaded
from runtime.http import problems
from runtime.http.admission import Admission
from runtime.http.context import request_id
from runtime.http.endpoint import refuse
from runtime.http.incoming import Request
from runtime.http.metrics import RequestObserver
from runtime.http.pace import PacedHandler
from runtime.http.places import PROBES
from runtime.http.rendering import Ready, render

#: How long a connection is not read after a refusal for want of time.
SHED_PAUSE_S: Final = (0.4, 0.8)  # below the least Retry-After: it meets only who does not keep to it

#: What is turned away is counted under this.
SHED: Final = "shed"

_TOO_BUSY: Final = Overloaded("This process has more to do than it can.")
_jitter: Final = random.Random()  # noqa: S311 (spreads a crowd, protects nothing)

_Answered = tuple[web.StreamResponse, bool]


class SheddingHandler(PacedHandler):
    """aiohttp's side of a connection, with a door that may be shut for want of time."""

    __slots__ = ("_admission", "_draining", "_holds", "_let_in", "_observer", "_pause_timer")

    def __init__(
        self,
        manager: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        cut: Callable[[], None],
        admission: Admission,
        observer: RequestObserver,
        **options: Any,
    ) -> None:
        super().__init__(manager, loop=loop, cut=cut, **options)
        self._admission = admission
        self._observer = observer
        #: Each answer is the last one of the connection.
        self._draining = False
        #: The request that is taken up next was counted when it came.
        self._let_in = False
        #: Nothing is read, for a moment after a refusal, and until there is room for another.
        self._holds = False
        self._pause_timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._pause_timer is not None:
            self._pause_timer.cancel()
        super().connection_lost(exc)

    def _send(self, response: Ready) -> None:
        assert self.transport is not None
        self.transport.write(response.message)
        if response.shared:
            self.transport.write(response.shared)
        if response.keep_alive:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        else:
            self.force_close()

    # Where nothing stands before

    def _take_up(self, waiter: asyncio.Future[None] | None) -> None:
        """Refuse what has just been read, or leave it to aiohttp, who waits for it or will look by itself."""
        if self._admission.is_full():
            self._turn_away()
            if self._paused and self._messages:
                self._hold()
                return
        else:
            self._admission.arrived()
            self._let_in = True
        if self._messages and waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _turn_away(self) -> None:
        """Refuse what has been read, from the first one on, as far as it is whole and there is room."""
        while self._messages and self.transport is not None and not self._paused:
            message, payload = self._messages[0]
            if not isinstance(message, RawRequestMessage) or _is_a_probe(message):
                return
            if not payload.is_eof() or self._reading_paused:
                return
            self._messages.popleft()
            assert self._parser is not None
            self._parser.message_consumed()
            self._refuse_unread(message)

    def _refuse_unread(self, message: RawRequestMessage) -> None:
        is_last = message.should_close or (self._draining and not self._messages)
        keep_alive = message.version == HttpVersion11 and not is_last
        unread = Request(message.method, message.path, {}, keep_alive=keep_alive)
        name = request_id(None)
        answered = problems.answer(_TOO_BUSY, instance=unread.path, request_id=name)
        self._send(render(answered, unread, problems.MEDIA_TYPE, name))
        self._count_shed()
        if keep_alive:
            self._hold_for_a_moment()

    def _count_shed(self) -> None:
        self._admission.turned_away()
        self._observer.observe(SHED, _TOO_BUSY.code.http_status, 0.0)

    # Where something did

    def _handle_request(
        self,
        request: web.BaseRequest,
        start_time: float | None,
        request_handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> Coroutine[Any, Any, _Answered]:
        """What aiohttp calls for each message, in its turn."""
        if self._let_in:
            self._let_in = False
        elif request_handler is self._request_handler:  # else it is no HTTP, and refused for that
            if self._admission.is_full() and not _is_a_probe(request._message):
                return self._refuse_in_turn(request, start_time)
            self._admission.arrived()
            self._admission.begun()
        return super()._handle_request(request, start_time, request_handler)

    async def _refuse_in_turn(self, request: web.BaseRequest, start_time: float | None) -> _Answered:
        """Refuse this one when there is room, and then what stands behind it."""
        try:
            await self._drain_helper()
        except ConnectionError as error:  # whoever writes finds that out, too
            error.__traceback__ = None  # what was waited for keeps it, and a frame that: a circle
        response, is_lost = await super()._handle_request(request, start_time, self._refuse_the_long_way)
        if response.keep_alive and not is_lost and self.transport is not None:
            self._hold_for_a_moment()
            if request.content.is_eof() and self._admission.is_full():
                self._turn_away()
        return response, is_lost

    async def _refuse_the_long_way(self, request: web.BaseRequest) -> Any:
        self._count_shed()
        return refuse(_TOO_BUSY, Request.of(request), request_id(None), SHED, self._observer)

    # Afterwards

    def _hold(self) -> None:
        self._holds = True
        self._pause_transport_reading()

    def _hold_for_a_moment(self) -> None:
        if self._pause_timer is None:
            self._hold()
            self._pause_timer = self._loop.call_later(_jitter.uniform(*SHED_PAUSE_S), self._end_moment)

    def _end_moment(self) -> None:
        self._pause_timer = None
        self._end_hold()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._holds:
            self._loop.call_soon(self._end_hold)

    def _end_hold(self) -> None:
        """Take up what is left of what was read, and read on, if the moment is over and there is room."""
        if not self._holds or self._pause_timer is not None or self._paused or self.transport is None:
            return
        self._holds = False
        waiter = self._waiter
        if not self._messages:
            if not self._reading_paused:
                self._buffer_paused = False
                self.data_received(b"")  # what the parser has not looked at yet
        elif waiter is not None and not waiter.done():
            self._take_up(waiter)
        self._read_on()

    def _read_on(self) -> None:
        """Read again, unless something else is in the way."""
        if not (self._reading_paused or self._buffer_paused):
            self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        if not self._holds:
            super()._resume_transport_reading()


def _is_a_probe(message: RawRequestMessage) -> bool:
    return message.path.partition("?")[0] in PROBES
