"""Goal: a way is a good network until it is told otherwise, fails as told, and is good again after the heal.

Method: a real server that answers every line with itself, clients over real connections.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest_asyncio

from entrypoints.chaos.way import Way

Dial = Callable[[], Awaitable["Client"]]


class Client:
    """Asks, and says whether the answer came."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, line: bytes, within_s: float = 5.0) -> bytes | None:
        """The answer; nothing when the connection is over, None when nothing came."""
        try:
            self.writer.write(line + b"\n")
            await self.writer.drain()
            async with asyncio.timeout(within_s):
                return (await self.reader.readline()).strip()
        except TimeoutError:
            return None
        except OSError:
            return b""


class Echo:
    """The server, and every line that reached it."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self.heard.append(line.strip())
            writer.write(line)
        writer.close()


@pytest_asyncio.fixture(loop_scope="session")
async def scene() -> AsyncIterator[tuple[Way, Echo, Dial]]:
    echo, clients = Echo(), []
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0, limit=2**20)
    port = server.sockets[0].getsockname()[1]
    async with Way("127.0.0.1", port) as way:

        async def dial() -> Client:
            client = Client(*await asyncio.open_connection("127.0.0.1", way.port))
            clients.append(client)
            return client

        yield way, echo, dial
        for client in clients:
            client.writer.close()
    server.close()


async def test_a_way_passes_everything_on_as_it_is(scene: Any) -> None:
    _, _, dial = scene
    client = await dial()
    long = b"x" * 300_000
    asked = asyncio.create_task(client.ask(b"short"))
    assert await asked == b"short"
    client.writer.write(long + b"\n")
    assert len(await client.reader.readexactly(len(long) + 1)) == 300_001


async def test_a_shut_way_drops_who_is_there_and_turns_away_who_comes(scene: Any) -> None:
    way, echo, dial = scene
    before = await dial()
    assert await before.ask(b"one") == b"one"
    way.shut()
    assert await before.ask(b"two") == b""
    assert await (await dial()).ask(b"three") == b""
    way.heal()
    assert await (await dial()).ask(b"four") == b"four"
    assert echo.heard == [b"one", b"four"]


async def test_a_half_open_way_swallows_and_tells_nobody(scene: Any) -> None:
    way, echo, dial = scene
    client = await dial()
    assert await client.ask(b"one") == b"one"
    way.half_open(random.Random(1), share=1.0)
    assert await client.ask(b"two", within_s=0.2) is None
    assert await (await dial()).ask(b"three", within_s=0.2) is None
    assert echo.heard == [b"one"]
    assert way.swallowed_bytes == len(b"two\nthree\n")
    way.heal()
    assert await client.ask(b"four") == b"", "nothing is read after a hole"
    assert await (await dial()).ask(b"five") == b"five"


async def test_what_was_asked_is_done_when_its_reply_is_lost(scene: Any) -> None:
    way, echo, dial = scene
    client = await dial()
    way.lose_replies(random.Random(1), share=1.0)
    assert await client.ask(b"one") == b""
    assert echo.heard == [b"one"]
    way.heal()
    assert await (await dial()).ask(b"two") == b"two"


async def test_a_slow_way_keeps_the_order(scene: Any) -> None:
    way, echo, dial = scene
    client = await dial()
    way.slow_down(random.Random(1), piece_s_max=0.02)
    said = [b"%d" % number for number in range(20)]
    for line in said:
        client.writer.write(line + b"\n")
        await asyncio.sleep(0.001)
    assert [(await client.reader.readline()).strip() for _ in said] == said
    assert echo.heard == said


async def test_what_one_fault_takes_back_is_its_own(scene: Any) -> None:
    """Two of a pair may strike the same way, and the shorter one ends first."""
    way, echo, dial = scene
    way.shut()
    way.slow_down(random.Random(1), piece_s_max=0.001)
    way.heal("slow")
    assert await (await dial()).ask(b"one") == b"", "still shut"
    way.half_open(random.Random(1), share=1.0)
    way.heal("shut")
    assert await (await dial()).ask(b"two", within_s=0.2) is None, "still half open"
    way.lose_replies(random.Random(1), share=1.0)
    way.heal("half_open")
    assert await (await dial()).ask(b"three") == b"", "its reply is still lost"
    assert echo.heard == [b"three"]
    way.heal()
    assert await (await dial()).ask(b"four") == b"four"


async def test_who_calls_a_server_that_is_gone_is_hung_up_on(scene: Any) -> None:
    async with Way("127.0.0.1", 9) as nowhere:
        reader, writer = await asyncio.open_connection("127.0.0.1", nowhere.port)
        assert await reader.read() == b""
        writer.close()
