"""One connection (rule R16): what comes in on it, in which order it is answered, and when it ends.

aiohttp parses HTTP well and guards little. This adds what a server on the open internet needs: a place or
none (`places`), a deadline for each header from its first byte on, and for the first one from the beginning,
short keep-alive, limits for lines and headers, no decompression, and an answer in our own form for what could
not be parsed: quietly, since anybody can send garbage and a stack trace per packet is a way to fill a disk.
Answers have to be taken, too (`pace`).

A plain request, on a connection that is used again, never meets aiohttp: it is read (`incoming`) and answered
here. Its endpoint begins on the spot (`turns`), and what it has ready is written before the loop looks at the
next connection. aiohttp's way makes a stream, a request object, a writer and a task, and wakes two of them
up; that is twice what routing, token, body and answer cost together. Whatever is not plain and whole, and
streams, go aiohttp's way, whose private parts used for this are few: the waiter it sleeps on, the queue of
parsed messages, what stands in it for a message that is none, and the flags of reading and closing. One
request at a time: what arrives behind it is kept until its answer is out, so answers leave in the order of
the questions.

Nothing is upgraded. A request that asks for it is answered as any other, and is the last of its connection:
behind it another protocol may begin, and aiohttp's parser would throw away what came with it and read what
comes next as a request, however that began. Overload is met here too (`shedding`).

Draining is the other end. aiohttp's own shutdown closes idle connections at once and answers what is under
way as if the connection stayed, so clients meet resets. Here every answer from then on says that it is the
last one of its connection, idle connections get a time of grace, and none is closed while anything
of a request has arrived. What remains is a request that crosses our close on the wire: HTTP/1.1 has no
way to exclude it, which is why clients may repeat what is safe, and ours carry an Idempotency-Key.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import Any, Final, cast

from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import _ErrInfo

from runtime.http.admission import Admission
from runtime.http.context import request_id
from runtime.http.endpoint import refuse
from runtime.http.incoming import Request, read_plain
from runtime.http.messages import (
    HEAD_BYTES_MAX,
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    REQUEST_LINE_BYTES_MAX,
    as_last,
    has_unread,
    length_of,
    refusal_of,
)
from runtime.http.metrics import RequestObserver
from runtime.http.places import Place, Places, Surplus
from runtime.http.rendering import Ready
from runtime.http.shedding import SheddingHandler
from runtime.http.switchboard import Switchboard
from runtime.http.turns import Turns
from runtime.peers import NOBODY, Peer

KEEPALIVE_S: Final = 15.0
HEADER_DEADLINE_S: Final = 5.0
HEADER_DEADLINE_SPREAD: Final = 0.5  # of it, on top: thousands who came at one instant end one by one
LINGER_S: Final = 2.0  # how long the rest of a refused body is read, so that the answer arrives

#: Whoever asks once or twice is served aiohttp's way; a third request pays for a task of its connection.
_REQUESTS_BEFORE_TURNS: Final = 2
_GIVEN_BYTES_MAX: Final = 128 * 1024  # of one request in pieces: more than the largest we take
_EARLY_BYTES_MAX: Final = 64 * 1024  # of requests sent before the last answer; then TCP holds them back

#: What takes the place of a message whose head does not end.
_TOO_LARGE: Final = _ErrInfo(400, LineTooLong("", HEAD_BYTES_MAX), "")

#: What messages that are no HTTP are counted under.
UNREADABLE: Final = "unreadable"

#: Limits of every connection, however the application is run.
CONNECTION_OPTIONS: Final[dict[str, Any]] = {
    "access_log": None,
    "auto_decompress": False,
    "keepalive_timeout": KEEPALIVE_S,
    "lingering_time": LINGER_S,
    "max_field_size": HEADER_BYTES_MAX,
    "max_headers": HEADERS_MAX,
    "max_line_size": REQUEST_LINE_BYTES_MAX,
}

_jitter: Final = random.Random()  # noqa: S311 (spreads a crowd, protects nothing)


class Protocol(SheddingHandler):
    """One connection."""

    __slots__ = (
        "_answering",
        "_body",
        "_body_of",
        "_counted",
        "_early",
        "_given",
        "_head_bytes",
        "_header_deadline_s",
        "_header_timer",
        "_in_a_message",
        "_is_surplus",
        "_places",
        "_reads_no_further",
        "_switchboard",
        "_turns",
        "peer",
        "place",
    )

    def __init__(
        self,
        manager: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        switchboard: Switchboard,
        observer: RequestObserver,
        admission: Admission,
        places: Places,
        header_deadline_s: float,
        draining: bool,
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            cut=places.cut,
            admission=admission,
            observer=observer,
            **CONNECTION_OPTIONS,
        )
        self._switchboard = switchboard
        self._places = places
        #: None: it has none, or a live view has it now.
        self.place: Place | None = None
        self._is_surplus = False
        #: Who is at the other end.
        self.peer: Peer = NOBODY
        self._header_deadline_s = header_deadline_s
        #: Runs while a head is awaited that has begun, or that must come first of all.
        self._header_timer: asyncio.TimerHandle | None = None
        #: The latest bytes came out of turn and ended before a request's head did.
        self._in_a_message = False
        #: What the parser was given since it surely stood between two requests, how many messages it had
        #: read by then, and the one it is reading. None: it is not known any more where it stands.
        self._given: bytes | None = b""
        self._counted = 0
        self._body_of: Any = None
        #: The body of the message read last, how much came behind it that was no message yet, and whether
        #: nothing behind it is read any more.
        self._body: StreamReader = EMPTY_PAYLOAD
        self._head_bytes = 0
        self._reads_no_further = False
        self._turns: Turns[Ready] | None = None
        #: The request whose answer has to wait, and what arrived behind it.
        self._answering: Request | None = None
        self._early = b""
        if draining:
            self.drain()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        self.peer = self._places.proxies.peer(transport.get_extra_info("peername"))
        self.place = self._places.take(self)
        if self.place is not None:
            self._begin(transport)
        elif self._places.may_wait():
            transport.set_protocol(Surplus(transport, self._places, partial(self._serve_once, transport)))
        else:
            transport.abort()

    def _begin(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._await_head()

    def _serve_once(self, transport: asyncio.Transport, data: bytes) -> None:
        """Answer a probe, which is served without a place."""
        self._is_surplus = True
        transport.set_protocol(self)
        self._begin(transport)
        self.drain()
        self.data_received(data)

    @property
    def has_asked(self) -> bool:
        return self._request_count > 0

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_header_timer()
        if self.place is not None:
            self.place.leave()
        elif self._is_surplus:
            self._places.surplus_left()
        self._body_of, self._body = None, EMPTY_PAYLOAD  # they know us: a circle for the collector
        super().connection_lost(exc)
        if self._turns is not None and self._answering is None:
            self._turns.close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 (aiohttp's signature)
        await super().shutdown(timeout)
        if self._turns is not None:
            self._turns.close()

    def _process_keepalive(self) -> None:
        if self._answering is None:
            super()._process_keepalive()
        else:  # aiohttp sees a connection that waits for a request
            later = self._loop.call_later(self._keepalive_timeout, self._process_keepalive)
            self._keepalive_handle = later

    def data_received(self, data: bytes) -> None:
        if self._answering is not None or self._early:
            self._keep_early(data)
            return
        waiter = self._waiter
        idle = waiter is not None and not waiter.done()
        if idle and self._given == b"" and not (self._messages or self._reading_paused):
            if self._turns is not None:
                if self._answer_at_once(data):
                    return
            elif self._request_count >= _REQUESTS_BEFORE_TURNS:
                self._turns = Turns(self._loop, done=self._finish, lost=self.force_close)
        count = self._request_count
        if waiter is None or not idle or self._messages:
            self._parse(data)
            self._follow(data)
            if not count and self._messages:  # nothing stands before it: aiohttp has not looked yet
                self._take_up(waiter)
        else:
            self._waiter = None  # the parser's part only: nobody is woken yet
            self._parse(data)
            self._waiter = waiter
            self._follow(data)
            if self._messages:
                self._take_up(waiter)
        if self._request_count != count:
            self._stop_header_timer()
        if data:
            self._in_a_message = idle and self._request_count == count
            if self._in_a_message and self._header_timer is None:
                self._await_head()

    def _parse(self, data: bytes) -> None:
        """Let aiohttp's parser read on, up to a request to upgrade or a head that grows too large."""
        is_whole = self._body.is_eof()
        if self._reads_no_further and is_whole:
            return
        count = self._request_count
        super().data_received(data)
        if self._request_count != count:
            message, self._body = self._messages[-1]  # the parser stops at it
            self._head_bytes = 0
            if isinstance(message, RawRequestMessage) and message.upgrade:
                self._messages[-1] = (as_last(message), self._body)
                self._reads_no_further = True
        elif is_whole and not self._reading_paused:  # else the parser waits, and may have whole ones
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse_head()
        if self._reads_no_further:
            self._message_tail = b""  # of a websocket, which aiohttp would read when it was refused

    def _refuse_head(self) -> None:
        """Answer, in its turn, a head that grew too large, and read what comes no more than a body's rest."""
        rest = StreamReader(self, HEAD_BYTES_MAX, loop=self._loop)
        self._messages.append((_TOO_LARGE, rest))
        self._request_count += 1
        self._reads_no_further = True
        self._given = None

    def _await_head(self) -> None:
        seconds = self._header_deadline_s * (1.0 + _jitter.uniform(0.0, HEADER_DEADLINE_SPREAD))
        self._header_timer = self._loop.call_later(seconds, self.force_close)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _follow(self, data: bytes) -> None:
        """Know whether the parser, which was just given this, stands between two requests.

        Only then may the next bytes be read as a plain request: within a head or a body, a client could
        write what looks like one. Who sends several at once, or in pieces without a length, is left to
        aiohttp for good.
        """
        if self._given is None:
            return
        given = self._given + data
        read = self._request_count - self._counted
        if read == 1 and self._body_of is None and self._messages:
            self._body_of = self._messages[-1]
        if read == 0 and len(given) <= _GIVEN_BYTES_MAX:
            self._given = given
        elif read == 1 and self._body_of is not None and len(given) <= _GIVEN_BYTES_MAX:
            message, payload = self._body_of
            if not payload.is_eof():
                self._given = given
            elif isinstance(message, RawRequestMessage) and len(given) == length_of(given, message):
                self._given, self._counted, self._body_of = b"", self._request_count, None
            else:
                self._given = self._body_of = None
        else:
            self._given = self._body_of = None

    # What is plain

    def _answer_at_once(self, data: bytes) -> bool:
        """Begin the answer to a plain request; False: nothing was done, it is for aiohttp."""
        turns = self._turns
        assert turns is not None
        admission = self._admission
        if not turns.is_free or self._close or self._force_close or self._paused or admission.is_full():
            return False
        request = read_plain(data)
        if request is None:
            return False
        found = self._switchboard.find(request.method, request.raw_path)
        if found is None:
            return False
        endpoint, values, query = found
        if endpoint.streams:
            return False
        if self._draining:
            request.keep_alive = False
        request.peer = self.peer
        admission.arrived()
        admission.begun()
        response = turns.begin(endpoint.answer_plain(request, values, query))
        if response is None:
            self._answering = request
            self._request_in_progress = True
        else:
            self._send(response)
        return True

    def _finish(self, response: Ready) -> None:
        """An answer that had to wait is there."""
        self._answering = None
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        if self.transport is None:  # nobody is left to hear it
            assert self._turns is not None
            self._turns.close()
            return
        self._send(response)
        if self._early:
            self._loop.call_soon(self._read_early)

    def _keep_early(self, data: bytes) -> None:
        """What comes before its turn waits, and so does whoever sends too much of it."""
        self._early += data
        if self._draining and self._answering is not None:
            self._answering.keep_alive = True  # the last answer is to what came last
        if len(self._early) > _EARLY_BYTES_MAX:
            self._pause_transport_reading()

    def _read_early(self) -> None:
        early, self._early = self._early, b""
        self._read_on()
        self.data_received(early)

    # The end

    def drain(self) -> None:
        """From now on the next answer is the last one of this connection."""
        if self._draining or self._request_factory is None:
            return
        self._draining = True
        make_request = self._request_factory

        def make_last_request(
            message: RawRequestMessage, payload: StreamReader, *rest: Any
        ) -> web.BaseRequest:
            # What came behind it in the same bytes still gets its answer.
            return make_request(message if self._messages else as_last(message), payload, *rest)

        self._request_factory = make_last_request
        if self._answering is not None:
            self._answering.keep_alive = bool(self._early)
        elif self._current_request is not None and not self._messages:
            self._current_request._message = as_last(self._current_request._message)
            self._current_request._cache.pop("keep_alive", None)

    def close_if_idle(self) -> None:
        """Close the connection, unless something of a request has arrived."""
        waiter = self._waiter
        idle = waiter is not None and not waiter.done() and self._answering is None
        something = self._in_a_message or self._given or self._early or self._messages or self._holds
        if idle and not something and self.transport is not None and not has_unread(self.transport):
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> Any:
        """The answer to what aiohttp could not parse, or could not finish."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        refusal, unread = refusal_of(status, exc), Request.of(request)
        response = refuse(refusal, unread, request_id(None), UNREADABLE, self._observer, closes=True)
        self._observer.observe(UNREADABLE, response.status, 0.0)
        return response
