"""Putting it together: from the operations of all contexts to an application that runs.

    app = build_app([seats, orders], verifier=tokens, guard=guard, title="SeatRush", version="0.1.0")
    runner = Runner(app)
    await runner.setup()
    await web.SockSite(runner, socket).start()
    ...
    await runner.cleanup()

Everything is handed in and nothing is looked up, so two applications can live in one process, as tests
want. All declarations are checked here, before a port is open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from aiohttp import web

from kernel.errors import SeatRushError
from runtime.http import docs_page, health, openapi
from runtime.http.admission import Admission
from runtime.http.auth import TokenVerifier
from runtime.http.connection import CONNECTION_OPTIONS
from runtime.http.endpoint import Endpoint, Surroundings
from runtime.http.health import Health
from runtime.http.idempotency import IdempotencyGuard
from runtime.http.metrics import RequestMetrics, RequestObserver
from runtime.http.operations import Operations
from runtime.http.places import Places
from runtime.http.protocol import ADMISSION, OBSERVER, PLACES, STREAMS, SWITCHBOARD
from runtime.http.reading import BODY_DEADLINE_S
from runtime.http.recent import RecentAnswers
from runtime.http.sse import Streams
from runtime.http.switchboard import Switchboard
from runtime.metrics import Measurements


def build_app(
    operations: Sequence[Operations],
    *,
    verifier: TokenVerifier,
    guard: IdempotencyGuard,
    title: str,
    version: str,
    servers: Sequence[str] = (),
    readiness: Health | None = None,
    measurements: Measurements | None = None,
    observer: RequestObserver | None = None,
    streams: Streams | None = None,
    recent: RecentAnswers | None = None,
    admission: Admission | None = None,
    places: Places | None = None,
    body_deadline_s: float = BODY_DEADLINE_S,
) -> web.Application:
    """The application of one process: these operations, the probes, the metrics and the documentation.

    Requests are counted in `measurements`, unless an `observer` is given that does something else with them.
    """
    measurements = Measurements("api") if measurements is None else measurements
    if observer is None:
        observer = RequestMetrics()
        measurements.add(observer.readings)
    streams = Streams() if streams is None else streams
    admission = Admission() if admission is None else admission
    places = Places() if places is None else places
    measurements.add(admission.readings)
    measurements.add(places.readings)
    documented = [*operations, health.operations(readiness or Health({}), measurements.page)]

    document = openapi.document(documented, title=title, version=version, servers=servers)
    surroundings = Surroundings(
        verifier=verifier,
        guard=guard,
        recent=RecentAnswers() if recent is None else recent,
        observer=observer,
        streams=streams,
        body_deadline_s=body_deadline_s,
    )
    switchboard = Switchboard(
        (
            Endpoint(operation, surroundings)
            for context in (*documented, docs_page.operations(document))
            for operation in context
        ),
        observer,
    )
    app = web.Application(handler_args=CONNECTION_OPTIONS)
    app[SWITCHBOARD] = switchboard
    app[OBSERVER] = observer
    app[STREAMS] = streams
    app[ADMISSION] = admission
    app[PLACES] = places
    app.router.add_route("*", "/{path:(?s:.*)}", cast(Any, switchboard.answer), expect_handler=_no_invitation)
    app.on_shutdown.append(_close_streams)
    return app


def shut_changes(app: web.Application, refusal: Callable[[], SeatRushError] | None) -> None:
    """Refuse every call that may change something, or with None take them again; reads go on."""
    app[SWITCHBOARD].shut_changes(refusal)


async def _no_invitation(_: web.Request) -> None:
    """Bodies are invited when they are read, not before the caller is known."""


async def _close_streams(app: web.Application) -> None:
    app[STREAMS].close_all()
