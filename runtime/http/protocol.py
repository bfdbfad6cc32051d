"""The front of the front: connections, before there is a request (rule R16).

aiohttp parses HTTP well and guards little. This adds what a server on the open internet needs: a deadline
for the first complete header, short keep-alive, limits for lines and headers, no decompression, and an
answer in our own form for what could not be parsed: quietly, since anybody can send garbage and a
stack trace per packet is a way to fill a disk.

`Runner` also takes a short cut. Every request of ours goes to one handler that routes by itself, so it
is handed to the protocol directly instead of passing `Application`'s router and middlewares first; that
is a fifth of the cost of a small request. The application still has its start-up and clean-up, and is
complete without the short cut.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from runtime.http.context import request_id
from runtime.http.endpoint import refuse
from runtime.http.errors import BadRequest, HeadersTooLarge, HttpRefusal, InternalError, UriTooLong
from runtime.http.metrics import RequestObserver
from runtime.http.switchboard import Switchboard

KEEPALIVE_S: Final = 15.0
HEADER_DEADLINE_S: Final = 5.0
LINGER_S: Final = 2.0  # how long the rest of a refused body is read, so that the answer arrives
HEADERS_MAX: Final = 128
REQUEST_LINE_BYTES_MAX: Final = 8_192
HEADER_BYTES_MAX: Final = 8_190  # differs from the line's, which is how an error tells whose limit it was
SHUTDOWN_S: Final = 10.0

#: What messages that are no HTTP are counted under.
UNREADABLE: Final = "unreadable"

SWITCHBOARD: Final = web.AppKey("switchboard", Switchboard)
OBSERVER: Final[web.AppKey[RequestObserver]] = web.AppKey("observer")

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


class Protocol(web.RequestHandler):
    """One connection."""

    __slots__ = ("_header_deadline_s", "_header_timer", "_observer")

    _header_timer: asyncio.TimerHandle

    def __init__(
        self,
        manager: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        observer: RequestObserver,
        header_deadline_s: float,
    ) -> None:
        super().__init__(manager, loop=loop, **CONNECTION_OPTIONS)
        self._observer = observer
        self._header_deadline_s = header_deadline_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._header_timer = self._loop.call_later(self._header_deadline_s, self._close_if_silent)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._header_timer.cancel()
        super().connection_lost(exc)

    def _close_if_silent(self) -> None:
        if self._request_count == 0:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what aiohttp could not parse, or could not finish."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        refusal = _refusal(exc) if status < 500 else InternalError()
        response = refuse(refusal, request, request_id(None), UNREADABLE, self._observer, closes=True)
        self._observer.observe(UNREADABLE, response.status, 0.0)
        return response


def _refusal(exc: BaseException | None) -> HttpRefusal:
    if isinstance(exc, LineTooLong):
        return UriTooLong() if exc.args[1] == REQUEST_LINE_BYTES_MAX else HeadersTooLarge()
    if isinstance(exc, BadHttpMessage) and exc.message.startswith("Too many headers"):
        return HeadersTooLarge()
    return BadRequest()


class _Server(web.Server):
    """Makes a protocol for each connection."""

    def __init__(self, app: web.Application, standard: web.Server, header_deadline_s: float) -> None:
        super().__init__(
            app[SWITCHBOARD].answer,
            request_factory=standard.request_factory,
        )
        self._observer = app[OBSERVER]
        self._header_deadline_s = header_deadline_s

    def __call__(self) -> web.RequestHandler:
        return Protocol(
            self,
            loop=asyncio.get_running_loop(),
            observer=self._observer,
            header_deadline_s=self._header_deadline_s,
        )


class Runner(web.AppRunner):
    """Runs an application of `build_app`. Use it as an `AppRunner`: `setup`, a site, `cleanup`."""

    __slots__ = ("_header_deadline_s",)

    def __init__(self, app: web.Application, *, header_deadline_s: float = HEADER_DEADLINE_S) -> None:
        super().__init__(app, shutdown_timeout=SHUTDOWN_S)
        self._header_deadline_s = header_deadline_s

    async def _make_server(self) -> web.Server:
        return _Server(self.app, await super()._make_server(), self._header_deadline_s)
