"""Slow clients are as slow as they should be, and as many, whatever is done to them.

Goal: a bench beside slow connections must really have them. Method: the process of its own, against a server
that notes what comes from where and when, and hangs up on some.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.harness import Dawdlers

TEXTS = {
    "head": b"GET /head HTTP/1.1\r\nHost: x\r\n\r\n",
    "body": b"POST /body HTTP/1.1\r\nContent-Length: 9\r\n\r\nBODYBYTES",
    "unread": b"GET /unread HTTP/1.1\r\nHost: x\r\n\r\n",
}


class Noticing:
    """A server that only listens; it hangs up on connections that said nothing, after a while."""

    def __init__(self, silent_s: float) -> None:
        self._silent_s = silent_s
        self.port = 0
        self.said: list[bytearray] = []
        self.homes: Counter[str] = Counter()
        self.hung_up = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Noticing]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.homes[writer.get_extra_info("peername")[0]] += 1
        heard = bytearray()
        self.said.append(heard)
        try:
            async with asyncio.timeout(self._silent_s) as patience:
                while piece := await reader.read(4_096):
                    heard += piece
                    patience.reschedule(None)
        except TimeoutError:
            self.hung_up += 1
        finally:
            writer.close()


async def test_each_kind_says_what_it_should_and_no_more() -> None:
    async with Noticing(60.0).listening() as server, Dawdlers() as slow:
        await slow.come(server.port, {"head": 5, "body": 5, "silent": 5, "unread": 5}, TEXTS)
        while sum(len(heard) > 1 for heard in server.said) < 15:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert await slow.counts() == {
            "here": {"head": 5, "body": 5, "silent": 5, "unread": 5},
            "hung_up": {},
        }
        said = [bytes(heard) for heard in server.said]
    unread, whole_head = TEXTS["unread"] * 8, TEXTS["body"][:-9]
    assert said.count(b"") == 5
    assert said.count(unread) == 5
    bodies = [heard for heard in said if heard.startswith(whole_head)]
    assert len(bodies) == 5, "their heads at once"
    assert max(map(len, bodies)) < len(TEXTS["body"]), "and then a byte at a time"
    dripping = [heard for heard in said if heard and TEXTS["head"].startswith(heard)]
    assert len(dripping) == 5
    assert max(map(len, dripping)) < len(TEXTS["head"])


async def test_who_is_hung_up_on_comes_back() -> None:
    async with Noticing(0.2).listening() as server, Dawdlers() as slow:
        await slow.come(server.port, {"silent": 30}, TEXTS)
        while server.hung_up < 90:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        counts = await slow.counts()
        assert counts["hung_up"]["silent"] >= 60
        await slow.go()
        assert (await slow.counts())["here"] == {"unread": 0}
    assert len(server.homes) > 5, "they come from many addresses"
    assert max(server.homes) != "127.0.0.1"
