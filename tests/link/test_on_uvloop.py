"""Goal: the promises of the link hold on the loop the service runs on, not only on the one tests run on.

Method: the same link in a thread with a uvloop of its own, against the proxy and the server of this suite.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from kernel.errors import SeatsUnavailable
from runtime.redis_link import Nodes
from runtime.redis_link.link import Link
from runtime.redis_link.pipe import pack
from tests.support.proxy import Proxy


async def _on_uvloop(url: str, scene: Callable[[Link], Awaitable[Any]], **options: float) -> Any:
    """Play a scene with a connected link on a uvloop."""

    async def played() -> Any:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        nodes = Nodes(url, **options)  # type: ignore[arg-type]
        try:
            (link,) = await nodes.primaries()
            return await scene(link)
        finally:
            await nodes.aclose()

    return await asyncio.to_thread(uvloop.run, played())


async def test_commands_of_one_turn_leave_together(valkey_url: str) -> None:
    async def scene(link: Link) -> tuple[int, int]:
        before = link.counts()
        words = [str(number).encode() for number in range(500)]
        outcomes = await asyncio.gather(*(link.call(pack(("ECHO", word))) for word in words))
        assert outcomes == words
        counts = link.counts()
        return counts.commands - before.commands, counts.flushes - before.flushes

    assert await _on_uvloop(valkey_url, scene) == (500, 1)


async def test_a_storm_of_cancellations_shifts_no_reply(valkey_url: str) -> None:
    async def scene(link: Link) -> list[bytes]:
        asked = [link.call(pack(("ECHO", str(number)))) for number in range(600)]
        for number, future in enumerate(asked):
            if number % 3 == 0:
                await asyncio.sleep(0)
                future.cancel()
        return await asyncio.gather(*asked[1::3])

    assert await _on_uvloop(valkey_url, scene) == [str(number).encode() for number in range(1, 600, 3)]


async def test_a_cut_refuses_everybody_in_flight_and_the_next_call_works(proxy: Proxy) -> None:
    async def scene(link: Link) -> tuple[list[Any], Any]:
        proxy.cut_after_replies(4)
        cut = await asyncio.gather(*(link.call(pack(("ECHO", "abc"))) for _ in range(20)))
        return cut, await link.command("ECHO", "again")

    cut, again = await _on_uvloop(proxy.url, scene)
    assert [type(outcome) for outcome in cut] == [SeatsUnavailable] * 20
    assert again == b"again"


async def test_late_replies_reach_nobody(proxy: Proxy) -> None:
    loop = asyncio.get_running_loop()

    async def scene(link: Link) -> tuple[Any, bytes, int]:
        loop.call_soon_threadsafe(proxy.freeze)
        while not isinstance(early := await link.call(pack(("ECHO", "early"))), SeatsUnavailable):
            pass  # the proxy lives in another thread and freezes when it gets to it
        loop.call_soon_threadsafe(proxy.thaw)
        return early, await link.command("ECHO", "late"), link.counts().reconnects

    _, late, reconnects = await _on_uvloop(proxy.url, scene, deadline_s=0.8)
    assert (late, reconnects) == (b"late", 0)
