"""The connections of one server, and their beginning and end.

`Runner` takes a short cut. Every request of ours goes to one handler that routes by itself, so it is
handed to the connection directly instead of passing `Application`'s router and middlewares first. The
application still has its start-up and clean-up, and is complete without the short cut.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from aiohttp import web

from runtime.http.admission import Admission
from runtime.http.connection import HEADER_DEADLINE_S, Protocol
from runtime.http.metrics import RequestObserver
from runtime.http.places import Places
from runtime.http.sse import Streams
from runtime.http.switchboard import Switchboard

SHUTDOWN_S: Final = 10.0

#: How long a connection may stay idle after its process was told to finish, and how often we look.
DRAIN_IDLE_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.05
#: What `cleanup` still waits for a request after `drain` has waited or was given up.
_CUT_OFF_WITHIN_S: Final = 0.2

SWITCHBOARD: Final = web.AppKey("switchboard", Switchboard)
OBSERVER: Final[web.AppKey[RequestObserver]] = web.AppKey("observer")
STREAMS: Final = web.AppKey("streams", Streams)
ADMISSION: Final = web.AppKey("admission", Admission)
PLACES: Final = web.AppKey("places", Places)


class _Server(web.Server):
    """Makes a protocol for each connection."""

    def __init__(self, app: web.Application, standard: web.Server, header_deadline_s: float) -> None:
        super().__init__(
            cast(Any, app[SWITCHBOARD].answer),  # a Ready is a StreamResponse in what aiohttp asks of one
            request_factory=standard.request_factory,
        )
        self._switchboard = app[SWITCHBOARD]
        self._observer = app[OBSERVER]
        self._admission = app[ADMISSION]
        self._places = app[PLACES]
        self._header_deadline_s = header_deadline_s
        self._draining = False

    def __call__(self) -> web.RequestHandler:
        return Protocol(
            self,
            loop=asyncio.get_running_loop(),
            switchboard=self._switchboard,
            observer=self._observer,
            admission=self._admission,
            places=self._places,
            header_deadline_s=self._header_deadline_s,
            draining=self._draining,
        )

    def drain(self) -> None:
        """Every answer from now on is the last one of its connection."""
        self._draining = True
        for connection in self.connections:
            assert isinstance(connection, Protocol)
            connection.drain()

    def close_idle(self) -> None:
        """Close the connections nothing has arrived on."""
        for connection in self.connections:
            assert isinstance(connection, Protocol)
            connection.close_if_idle()


class Runner(web.AppRunner):
    """Runs an application of `build_app`. Use it as an `AppRunner`: `setup`, a site, `cleanup`.

    With `drain` before `cleanup`, no client meets a closed door.
    """

    __slots__ = ("_header_deadline_s",)

    def __init__(self, app: web.Application, *, header_deadline_s: float = HEADER_DEADLINE_S) -> None:
        super().__init__(app, shutdown_timeout=SHUTDOWN_S)
        self._header_deadline_s = header_deadline_s

    async def drain(self, *, idle_s: float = DRAIN_IDLE_S, within_s: float = SHUTDOWN_S) -> None:
        """Accept nobody any more, and return when everybody has left.

        Live viewers are told when to come back. Connections stay open for `idle_s`, or for their next
        answer; what is under way after that has `within_s`. May be cancelled: `cleanup` cuts off the rest.
        """
        server = self.server
        assert isinstance(server, _Server)
        for site in list(self.sites):
            await site.stop()
        server.drain()
        self.app[STREAMS].close_all()
        loop = asyncio.get_running_loop()
        close_idle_at = loop.time() + idle_s
        give_up_at = close_idle_at + within_s
        self._shutdown_timeout = _CUT_OFF_WITHIN_S
        while server.connections and (now := loop.time()) < give_up_at:
            if now >= close_idle_at:
                server.close_idle()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _make_server(self) -> web.Server:
        return _Server(self.app, await super()._make_server(), self._header_deadline_s)
