"""Goal: every caller gets the reply to what they asked, whoever else gave up, and a crowd shares its writes.

Method: `ECHO` of a word of one's own, on a real server. A reply that reached the wrong caller would carry
the wrong word. Controls: a pipe that takes a cancelled caller's slot away, and one that writes each command
by itself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import urlsplit

import pytest
from hiredis import PushNotification, ReplyError
from redis.asyncio import Redis

from reservation.keys import epoch_key
from runtime.redis_link.counts import Tally
from runtime.redis_link.pipe import Outcome, Pipe, pack
from tests.support.inventories import EPOCH
from tests.support.links import MakeNodes
from tests.support.proxy import Proxy
from tests.support.runner import WatchedRunner

P = TypeVar("P", bound=Pipe)
CROWD = 64
CALLS = 40


class Forgetful(Pipe):
    """What must not be: the slot of a caller who has gone goes with them."""

    def cancel(self, future: asyncio.Future[Outcome]) -> None:
        future.cancel()
        self._slots.remove(future)


@asynccontextmanager
async def dialled(url: str, kind: type[P]) -> AsyncIterator[P]:
    """A bare connection, without a link that would repair it."""
    loop = asyncio.get_running_loop()
    address = urlsplit(url)
    _, pipe = await loop.create_connection(
        lambda: kind(Tally(), lambda _: None, lambda _: None, deadline_s=20.0, in_flight_max=100_000),
        address.hostname,
        address.port,
    )
    try:
        yield pipe
    finally:
        pipe.abort()
        await pipe.lost.wait()


async def test_a_crowd_of_callers_gets_each_their_own_reply(valkey_url: str, make_nodes: MakeNodes) -> None:
    (link,) = await make_nodes(valkey_url).primaries()

    async def caller(number: int) -> None:
        for call in range(CALLS):
            word = f"{number}-{call}"
            assert await link.command("ECHO", word) == word.encode()

    await asyncio.gather(*(caller(number) for number in range(CROWD)))


async def test_a_crowd_shares_its_writes(valkey_url: str, runner: WatchedRunner) -> None:
    await runner.redis.set(epoch_key(0), EPOCH)
    before = runner.nodes.counts()

    async def caller() -> None:
        for _ in range(CALLS):
            await runner.run("read_epoch", (epoch_key(0),), ())

    await asyncio.gather(*(caller() for _ in range(CROWD)))

    counts = runner.nodes.counts()
    assert counts.commands - before.commands == CROWD * CALLS
    assert (counts.flushes - before.flushes) / (counts.commands - before.commands) <= 0.1


async def test_commands_of_one_turn_leave_together_and_no_command_waits_for_company(
    valkey_url: str, make_nodes: MakeNodes
) -> None:
    nodes = make_nodes(valkey_url)
    (link,) = await nodes.primaries()
    start = nodes.counts()

    await asyncio.gather(*(link.call(pack(("PING",))) for _ in range(500)))
    together = nodes.counts()
    for _ in range(5):
        await link.command("PING")
    alone = nodes.counts()

    assert (together.commands - start.commands, together.flushes - start.flushes) == (500, 1)
    assert (alone.commands - together.commands, alone.flushes - together.flushes) == (5, 5)


async def test_what_leaves_and_arrives_is_counted_to_the_byte(proxy: Proxy, make_nodes: MakeNodes) -> None:
    nodes = make_nodes(proxy.url)
    (link,) = await nodes.primaries()
    await asyncio.gather(*(link.command("ECHO", "x" * size) for size in range(100)))

    counts = nodes.counts()
    assert (counts.bytes_out, counts.bytes_in) == (proxy.bytes_up, proxy.bytes_down)


async def _cancellation_storm(pipe: Pipe, seed: int) -> list[tuple[str, bytes]]:
    """Ask, give up at random, and answer who got a word that was not theirs."""
    choice = random.Random(seed)
    strangers: list[tuple[str, bytes]] = []

    async def caller(word: str) -> None:
        reply = await pipe.call(pack(("ECHO", word)))
        if reply != word.encode():
            strangers.append((word, reply))

    for wave in range(30):
        tasks = [asyncio.create_task(caller(f"{wave}-{number}")) for number in range(50)]
        for _ in range(choice.randrange(1, 5)):
            await asyncio.sleep(0)
        for task in choice.sample(tasks, 25):
            task.cancel()
        await asyncio.wait(tasks, timeout=5.0)
        for task in tasks:
            task.cancel()  # who was robbed of a reply would wait for ever
    return strangers


async def test_a_storm_of_cancellations_never_shifts_a_reply(valkey_url: str) -> None:
    async with dialled(valkey_url, Pipe) as pipe:
        assert await _cancellation_storm(pipe, seed=3) == []
        assert await pipe.call(pack(("ECHO", "last"))) == b"last"
        assert pipe.in_flight == 0


async def test_without_the_slots_of_the_gone_replies_reach_strangers(valkey_url: str) -> None:
    async with dialled(valkey_url, Forgetful) as pipe:
        asked = [pipe.call(pack(("ECHO", word))) for word in ("mine", "yours", "theirs")]
        pipe.cancel(asked[0])

        assert await asked[1] == b"mine"


async def test_a_caller_cancelled_while_the_connection_is_made_shifts_nothing(
    valkey_url: str, make_nodes: MakeNodes
) -> None:
    link = make_nodes(valkey_url).only
    assert link is not None
    asked = [asyncio.create_task(link.command("ECHO", str(number))) for number in range(6)]
    await asyncio.sleep(0)
    for task in asked[::2]:
        task.cancel()

    replies = await asyncio.gather(*asked, return_exceptions=True)

    assert replies[1::2] == [b"1", b"3", b"5"]
    assert all(isinstance(reply, asyncio.CancelledError) for reply in replies[::2])


# A reply in pieces


def _commands(key: str) -> list[tuple[str, ...]]:
    """One command for every kind of reply."""
    return [
        ("ECHO", "first"),
        ("SUBSCRIBE", f"{key}:news"),
        ("LRANGE", key, "0", "-1"),
        ("NONSENSE",),
        ("HGETALL", f"{key}:hash"),
        ("PUBLISH", f"{key}:news", "said before or after its own reply"),
        ("GET", f"{key}:nothing"),
        ("LLEN", key),
    ]


class _Tape(asyncio.Protocol):
    """Keeps what a server sends."""

    def __init__(self) -> None:
        self.heard = b""
        self.over = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()


async def _recorded(url: str, commands: list[tuple[str, ...]]) -> bytes:
    """The bytes of a real server's replies, the goodbye at the end included."""
    address = urlsplit(url)
    transport, tape = await asyncio.get_running_loop().create_connection(
        _Tape, address.hostname, address.port
    )
    transport.write(b"".join(map(pack, [("HELLO", "3"), *commands, ("QUIT",)])))
    await tape.over.wait()
    return tape.heard


async def _replayed(pieces: list[bytes], replies: int) -> list[Outcome]:
    """What callers get when those bytes arrive in those pieces, and then what was said unasked; errors as
    their text.
    """
    said: list[Outcome] = []
    pipe = Pipe(Tally(), lambda _: None, said.append, deadline_s=20.0, in_flight_max=100)
    futures = [pipe.call(b"") for _ in range(replies)]
    for piece in pieces:
        pipe.data_received(piece)
    outcomes = [future.result() for future in futures]
    return [str(outcome) if isinstance(outcome, ReplyError) else outcome for outcome in outcomes + said]


async def test_replies_may_break_at_every_byte(valkey_url: str, unique: str) -> None:
    redis = Redis.from_url(valkey_url)
    await redis.delete(unique)
    await redis.rpush(unique, *(f"seat {number}\r\n" for number in range(60)))
    await redis.hset(f"{unique}:hash", mapping={"state": "held", "until": "1800000000000"})
    await redis.aclose()
    commands = _commands(unique)
    recorded = await _recorded(valkey_url, commands)
    replies = len(commands) + 2
    expected = await _replayed([recorded], replies)
    kinds = [bytes, PushNotification, list, str, dict, int, type(None), int]
    assert [type(outcome) for outcome in expected[1 : replies - 1]] == kinds
    assert [push[0] for push in expected[replies:]] == [b"message"]

    for cut in range(1, len(recorded)):
        assert await _replayed([recorded[:cut], recorded[cut:]], replies) == expected
    assert await _replayed([recorded[i : i + 1] for i in range(len(recorded))], replies) == expected


async def test_a_crowd_is_served_over_a_line_that_gives_one_byte_at_a_time(
    proxy: Proxy, make_nodes: MakeNodes
) -> None:
    (link,) = await make_nodes(proxy.url).primaries()
    proxy.dribble = True

    words = [f"word {number}".encode() for number in range(100)]
    assert await asyncio.gather(*(link.command("ECHO", word) for word in words)) == words


async def test_many_calls_come_back_in_the_order_they_were_asked(echoes: WatchedRunner, unique: str) -> None:
    answers = await echoes.run_many("echo", [((unique,), (number,)) for number in range(1_200)])

    assert answers == [["said", str(number).encode()] for number in range(1_200)]


@pytest.mark.parametrize("garbage", [b"no such reply\r\n", b"+OK\r\n+OK\r\n"])
async def test_a_server_that_talks_nonsense_is_hung_up_on(valkey_url: str, garbage: bytes) -> None:
    async with dialled(valkey_url, Pipe) as pipe:
        asked = pipe.call(pack(("PING",)))
        pipe.data_received(garbage)
        await pipe.lost.wait()
        assert asked.done()
