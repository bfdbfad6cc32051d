"""`seatrush serve`: one API process.

Several may listen on one port (`reuse_port`); they share nothing but the servers behind them. On SIGTERM
the process stops accepting, finishes what it has begun, tells live viewers when to come back, and ends.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from importlib.metadata import version

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry

import accounts
import catalogue
import checkout
import reservation
from entrypoints.platform import Platform
from kernel.ids import PARTITIONS
from reservation import epoch_key
from runtime.http import Health, Operations, Runner, build_app, document

TITLE = "SeatRush"


def operations_of(platform: Platform) -> Sequence[Operations]:
    """Every operation the API has."""
    return (
        accounts.operations(platform.account_service),
        catalogue.operations(platform.programme),
        reservation.operations(
            platform.hold_service, platform.halls, platform.maps, platform.programme.prices_of
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


def _health(platform: Platform) -> Health:
    async def seats() -> None:
        await platform.scripts.run("read_epoch", (epoch_key(PARTITIONS - 1),), ())

    async def orders() -> None:
        await platform.database.fetchval("SELECT 1")

    return Health({"redis": _timed(seats), "postgres": _timed(orders)})


def build(platform: Platform, health: Health | None = None) -> web.Application:
    """The API application of this process."""
    return build_app(
        operations_of(platform),
        verifier=platform.verifier,
        guard=platform.guard,
        title=TITLE,
        version=version("seatrush"),
        readiness=health or _health(platform),
        registry=CollectorRegistry(),
    )


async def serve(
    platform: Platform, *, host: str, port: int, ready: Callable[[], None] = lambda: None
) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await platform.epoch.refresh()
    following = asyncio.create_task(platform.epoch.follow())
    platform.commits.start()
    health = _health(platform)
    runner = Runner(build(platform, health))
    try:
        await runner.setup()
        await web.SockSite(runner, _listen(host, port), backlog=2048).start()
        ready()
        await stop.wait()
    finally:
        health.drain()
        await runner.cleanup()
        await platform.maps.close()
        await platform.commits.close()
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    listener.setblocking(False)
    return listener
