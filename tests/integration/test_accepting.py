"""Goal: who comes in a rush is let in within a few turns of the loop, however many come at once.

Method: the loop that serves, a listener made known to it as `serve` does it, and connections that the kernel
has taken before the loop has its next turn. Turns are counted, not seconds. The control is one listener.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import uvloop
from aiohttp import web

from entrypoints.serving import ACCEPTS_PER_TURN, accept

COMERS = 320


async def _nobody_asks(_: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError("nobody asks for anything here")


async def _once(runner: web.BaseRunner, listener: socket.socket) -> None:
    await web.SockSite(runner, listener, backlog=2 * COMERS).start()


async def _turns(start: Callable[[web.BaseRunner, socket.socket], Awaitable[None]]) -> int:
    """How many turns it takes until everybody who came at once is let in."""
    runner = web.ServerRunner(web.Server(_nobody_asks))
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0), backlog=2 * COMERS) as listener:
        listener.setblocking(False)
        address = listener.getsockname()
        await start(runner, listener)
        comers = [socket.create_connection(address) for _ in range(COMERS)]
        turns = 0
        assert runner.server is not None
        async with asyncio.timeout(30):
            while len(runner.server.connections) < COMERS:
                turns += 1
                await asyncio.sleep(0)
        for comer in comers:
            comer.close()
        await runner.cleanup()
        assert listener.fileno() == -1, "nobody is let in any more"
    return turns


def test_a_crowd_at_the_door_is_let_in_many_at_a_turn() -> None:
    assert uvloop.run(_turns(accept)) <= 2 * COMERS / ACCEPTS_PER_TURN


def test_control_at_one_listener_everybody_waits_for_a_turn_of_his_own() -> None:
    assert uvloop.run(_turns(_once)) >= COMERS
