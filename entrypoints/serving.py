"""`seatrush serve`: one API process.

Several may serve one port; they share nothing but the servers behind them. Under a supervisor each
accepts on a listener it has inherited (`--fd`), alone it makes one that others may join.

On SIGTERM the process stops accepting, tells live viewers when to come back, says with each answer that it
is the connection's last, gives idle connections time for one, and ends. On SIGINT it gives idle connections
no time: somebody waits at a terminal. A second signal ends it with what is under way cut off.

Before it accepts anybody it makes ready the halls that will be asked for next, if that takes seconds only,
and it goes on doing so until it is told to end (`reservation.warming`).

As a successor (`--ready-fd`) it accepts nobody before it can do its work, and then says so. Otherwise it
accepts at once, because an answer that says which part is missing is better than none.

Nothing is sold on stores that may forget (`entrypoints.fitness`): whatever would change something is refused
until they are set up well, and reads go on.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any, Final

import orjson
from aiohttp import web

import accounts
import catalogue
import checkout
import reservation
from entrypoints.fitness import Fitness
from entrypoints.platform import Platform
from entrypoints.supervision import BACKLOG
from kernel.errors import SeatRushError
from kernel.ids import PARTITIONS
from reservation import epoch_key
from runtime.heap import settle
from runtime.http import (
    DRAIN_IDLE_S,
    Admission,
    Health,
    Operations,
    Places,
    Proxies,
    Runner,
    build_app,
    document,
    shut_changes,
    that_fit,
)
from runtime.metrics import Measurements

TITLE: Final = "SeatRush"

#: Each costs three microseconds a connection in a calm, where all but one look at an empty door.
ACCEPTS_PER_TURN: Final = 16

_ASK_EVERY_S: Final = 0.2
_WARM_UP_WITHIN_S: Final = 3.0
#: After how long the thread that answers takes its turn back from one that computes. Python's own five
#: milliseconds are as long as two hundred answers, and are waited for again at every one of them.
_SWITCH_INTERVAL_S: Final = 0.0005
_WARM_UP_PATHS: Final = (b"/livez", b"/readyz", b"/api/v1/films", b"/api/v1/showtimes")


def operations_of(platform: Platform) -> Sequence[Operations]:
    """Every operation the API has."""
    return (
        accounts.operations(platform.account_service),
        catalogue.operations(platform.programme),
        reservation.operations(
            platform.hold_service,
            platform.halls,
            platform.drawings,
            platform.maps,
            platform.programme.prices_of,
        ),
        checkout.operations(platform.orders, platform.payments, platform.refunds, platform.ticket_signer),
    )


def api_document(platform: Platform) -> bytes:
    """The OpenAPI document of this API, as it is committed."""
    written = document(operations_of(platform), title=TITLE, version=version("seatrush"))
    return orjson.dumps(written, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _timed(check: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[float]]:
    async def run() -> float:
        began = time.perf_counter()
        await check()
        return time.perf_counter() - began

    return run


async def _first_good(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Wait for the first of them that is not refused. Raises the last refusal when all are."""
    for number, done in enumerate(asyncio.as_completed(tasks), 1):
        try:
            await done
            return
        except SeatRushError:
            if number == len(tasks):
                raise


def _health(platform: Platform) -> Health:
    async def seats() -> None:
        """Whether any node sells: while one of a cluster is away its seats are, and not this process."""
        reads = [
            asyncio.create_task(platform.scripts.run("read_epoch", (key,), ()))
            for key in platform.nodes.one_of_each(epoch_key(partition) for partition in range(PARTITIONS))
        ]
        try:
            await _first_good(reads)
        finally:
            for read in reads:
                read.cancel()
        platform.fitness.must_be_fit("redis")

    async def orders() -> None:
        await platform.database.fetchval("SELECT 1")
        platform.fitness.must_be_fit("postgres")

    return Health({"redis": _timed(seats), "postgres": _timed(orders)})


def build(
    platform: Platform, health: Health | None = None, measurements: Measurements | None = None
) -> web.Application:
    """The API application of this process."""
    settings = platform.settings
    return build_app(
        operations_of(platform),
        verifier=platform.verifier,
        guard=platform.guard,
        title=TITLE,
        version=version("seatrush"),
        readiness=health or _health(platform),
        measurements=measurements or platform.measurements("api"),
        admission=Admission(wait_ms_max=settings.queue_wait_ms_max),
        places=Places(
            connections_max=that_fit(settings.connections_max),
            per_address_max=settings.connections_per_address_max,
            proxies=Proxies(settings.trusted_proxies),
        ),
    )


class _Ending:
    """What the signals say: SIGTERM to end in peace, SIGINT to end soon, a second one to end now."""

    def __init__(self) -> None:
        self.in_peace = True
        self.asked = asyncio.Event()
        self.hastened = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._hear, True)
        loop.add_signal_handler(signal.SIGINT, self._hear, False)

    def _hear(self, in_peace: bool) -> None:
        if self.asked.is_set():
            self.hastened.set()
        else:
            self.in_peace = in_peace
            self.asked.set()


async def serve(
    platform: Platform,
    listener: socket.socket,
    *,
    ready: Callable[[], None] = lambda: None,
    accept_when_ready: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called once this process can do its work."""
    ending = _Ending()
    await platform.epoch.refresh()
    platform.commits.start()
    platform.freed_news.start()
    health = _health(platform)
    measurements = platform.measurements("api")
    measurements.add(platform.throttle.readings)
    app = build(platform, health, measurements)
    await _sell_while_fit(platform.fitness, app)
    runner = Runner(app)
    await runner.setup()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    await warm_up(runner)
    with suppress(TimeoutError):
        async with asyncio.timeout(_WARM_UP_WITHIN_S):
            await platform.warming.round()
    settle()
    warming = asyncio.create_task(platform.warming.follow())
    coming_up = asyncio.create_task(
        _come_up(runner, listener, health, ready, accept_when_ready=accept_when_ready)
    )
    asked, hastened = (asyncio.create_task(one.wait()) for one in (ending.asked, ending.hastened))
    #: None of these ends by itself, and without one of them this process is not what it says it is.
    followers: set[asyncio.Task[Any]] = {
        warming,
        asyncio.create_task(platform.epoch.follow()),
        asyncio.create_task(platform.fitness.follow()),
        asyncio.create_task(platform.log_lag.follow()),
        asyncio.create_task(measurements.publish()),
    }
    tasks = [coming_up, asked, hastened, *followers]
    try:
        await asyncio.wait({coming_up, asked, *followers}, return_when=asyncio.FIRST_COMPLETED)
        if coming_up.done():
            coming_up.result()
        ended, _ = await asyncio.wait({asked, *followers}, return_when=asyncio.FIRST_COMPLETED)
        coming_up.cancel()  # who is told to end does not begin
        warming.cancel()
        health.drain()
        tasks.append(asyncio.create_task(runner.drain(idle_s=DRAIN_IDLE_S if ending.in_peace else 0.0)))
        await asyncio.wait({tasks[-1], hastened}, return_when=asyncio.FIRST_COMPLETED)
        for follower in ended & followers:
            follower.result()
    finally:
        await runner.cleanup()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        platform.freed_news.close()
        await platform.maps.close()
        await platform.commits.close()


async def _sell_while_fit(fitness: Fitness, app: web.Application) -> None:
    """Refuse whatever would change something while the stores are unfit; the first look is taken now."""

    def heed() -> None:
        shut_changes(app, None if fitness.fit.is_set() else fitness.refusal)

    fitness.heed = heed
    await fitness.look()


async def _come_up(
    runner: Runner,
    listener: socket.socket,
    health: Health,
    ready: Callable[[], None],
    *,
    accept_when_ready: bool,
) -> None:
    if not accept_when_ready:
        await accept(runner, listener)
    while not all(result.ok for result in await health.results()):  # noqa: ASYNC110 (others' state, no event)
        await asyncio.sleep(_ASK_EVERY_S)
    if accept_when_ready:
        await accept(runner, listener)
    ready()


async def accept(runner: web.BaseRunner, listener: socket.socket) -> None:
    """Accept on the listener until the runner drains, `ACCEPTS_PER_TURN` connections a turn of the loop.

    The loop takes one connection a turn from each listener it has. A turn answers everybody who has asked
    meanwhile, so in a rush hundreds of people who had just come would stand before the door, for as many
    turns as there are of them. So the loop is given the same listener several times.
    """
    for one in (listener, *(listener.dup() for _ in range(ACCEPTS_PER_TURN - 1))):
        await web.SockSite(runner, one, backlog=BACKLOG).start()


async def warm_up(runner: Runner) -> None:
    """Have a few requests answered, over a connection no port knows of.

    What the first request of all would make (decoders, statements, caches) exists then, before the heap is
    settled and before a fan waits for it. What fails here will be told to whoever asks for it.
    """
    ours, theirs = socket.socketpair()
    assert runner.server is not None
    await asyncio.get_running_loop().connect_accepted_socket(runner.server, theirs)
    reader, writer = await asyncio.open_connection(sock=ours)
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(_WARM_UP_WITHIN_S):
            for path in _WARM_UP_PATHS[:-1]:
                writer.write(b"GET %b HTTP/1.1\r\nHost: warm-up\r\n\r\n" % path)
            writer.write(
                b"GET %b HTTP/1.1\r\nHost: warm-up\r\nConnection: close\r\n\r\n" % _WARM_UP_PATHS[-1]
            )
            await reader.read()
    writer.close()
