"""What does the client cost per EVALSHA?

CPU microseconds of the client's own process, kernel included, per call of a script with the words of a
hold: 3 keys, 9 arguments, of which one comes back so that every answer is checked against its question. The
script does nothing else and the server has other cores, so nothing but the client is measured. *In flight*
is how many callers, each waiting for its answer before it asks again, are at it at once.

Contenders: redis-py as most use it (a pool, one connection per command in flight), redis-py with an
explicit pipeline (as many commands as would be in flight, packed and read by one caller: what somebody
could write who has them all in one place, which requests of different people never are), coredis
(multiplexed), and the product's link through `ScriptRunner.run`, contract checks and statuses included.

The floor is no client at all: the same bytes, packed beforehand, written in one piece and counted as they
come back. With one in flight most of every contender's time is the kernel's, once out and once in; the
distance to the floor says what a client adds to that.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast

import coredis
import hiredis
from redis.asyncio import BlockingConnectionPool, Redis

from bench.harness import Curve, Harness, Result, Sample, at_least, bootstrap, cpu, main
from bench.harness.machine import pin
from kernel.ids import PARTITIONS
from runtime.lua import Contract, Script
from runtime.redis_link import Argument, Nodes, ScriptRunner

QUESTION = "What does the client cost per EVALSHA?"
AT_ONCE: Final = (1, 64, 512)
POOL = "redis-py, pool"
PIPELINE = "redis-py, pipeline"
COREDIS = "coredis"
OURS = "the link"
FLOOR = "no client"

_KEYS: Final = tuple(f"rsv:{{p07}}:{kind}:sho_{7:026d}" for kind in ("showtime", "taken", "expiry"))
_REST: Final[tuple[Argument, ...]] = (
    f"acc_{7:026d}",
    480_000,
    "",
    b"\0\x07\0\x08",
    "lenient",
    b"\0\0\0\x0c\0\x0d\0\x19",
    b"",
    "buyer",
)
_SCRIPT: Final = Script(
    verb="probe",
    path=Path("probe.lua"),
    contract=Contract("Answer a name.", 3, 9, False, ("held",), None, "none"),
    shebang="#!lua",
    body="return { 'held', ARGV[1], 1800000000000 }\n",
    writes=True,
)
#: Asks with a name and answers the name that came back.
Ask = Callable[[str], Awaitable[bytes]]
#: Asks that many times, so many at once; answers how many answers were wrong.
Drive = Callable[[int, int], Awaitable[int]]


def _name(number: int) -> str:
    return f"hld_{number:026d}"


def _callers(ask: Ask) -> Drive:
    """So many callers, each with its own name, each asking again when answered."""

    async def caller(number: int, calls: int) -> int:
        name, wrong = _name(number), 0
        expected = name.encode()
        for _ in range(calls):
            wrong += await ask(name) != expected
        return wrong

    async def drive(calls: int, at_once: int) -> int:
        return sum(await asyncio.gather(*(caller(number, calls // at_once) for number in range(at_once))))

    return drive


@asynccontextmanager
async def _link(url: str) -> AsyncIterator[Drive]:
    nodes = Nodes(url)
    runner = ScriptRunner(nodes, {"probe": _SCRIPT})
    runner.adopt_epochs([1] * PARTITIONS)
    for link in await runner.nodes.primaries():
        await runner.load(link, {1})

    async def ask(name: str) -> bytes:
        reply: list[Any] = await runner.run("probe", _KEYS, (name, *_REST))
        return bytes(reply[1])

    yield _callers(ask)
    await nodes.aclose()


def _plain(url: str, pool_max: int) -> Redis:
    """redis-py with nothing of ours: `connect` packs commands in C."""
    return Redis.from_pool(BlockingConnectionPool.from_url(url, max_connections=pool_max, protocol=3))


@asynccontextmanager
async def _pool(url: str) -> AsyncIterator[Drive]:
    sha = _SCRIPT.sha(1)
    async with _plain(url, max(AT_ONCE)) as redis:

        async def ask(name: str) -> bytes:
            reply: list[Any] = await redis.evalsha(sha, 3, *_KEYS, name, *_REST)
            return bytes(reply[1])

        yield _callers(ask)


@asynccontextmanager
async def _pipeline(url: str) -> AsyncIterator[Drive]:
    sha = _SCRIPT.sha(1)
    async with _plain(url, 1) as redis:

        async def drive(calls: int, at_once: int) -> int:
            names = [_name(number) for number in range(at_once)]
            wrong = 0
            for _ in range(calls // at_once):
                pipeline = redis.pipeline(transaction=False)
                for name in names:
                    pipeline.evalsha(sha, 3, *_KEYS, name, *_REST)
                for name, reply in zip(names, await pipeline.execute(), strict=True):
                    wrong += reply[1] != name.encode()
            return wrong

        yield drive


@asynccontextmanager
async def _coredis(url: str) -> AsyncIterator[Drive]:
    sha = _SCRIPT.sha(1)
    async with coredis.Redis.from_url(url) as redis:

        async def ask(name: str) -> bytes:
            reply: Any = await redis.evalsha(sha, keys=_KEYS, args=[name, *_REST])
            return bytes(reply[1])

        yield _callers(ask)


class _Counting(asyncio.Protocol):
    """Sends a piece, and the next one when its answers are all there."""

    def __init__(self) -> None:
        self._lacking = self._pieces = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    async def exchange(self, piece: bytes, answer_bytes: int, pieces: int) -> None:
        self._piece, self._answer_bytes, self._pieces = piece, answer_bytes, pieces
        self._over = asyncio.get_running_loop().create_future()
        self._send()
        await self._over

    def data_received(self, data: bytes) -> None:
        self._lacking -= len(data)
        if self._lacking == 0:
            if self._pieces:
                self._send()
            else:
                self._over.set_result(None)

    def _send(self) -> None:
        self._pieces -= 1
        self._lacking = self._answer_bytes
        self.transport.write(self._piece)


@asynccontextmanager
async def _floor(host: str, port: int) -> AsyncIterator[Drive]:
    _, line = await asyncio.get_running_loop().create_connection(_Counting, host, port)
    words: Sequence[Argument] = ("EVALSHA", _SCRIPT.sha(1), 3, *_KEYS, _name(0), *_REST)
    packed: bytes = hiredis.pack_command(tuple(words))
    answer = f"*3\r\n$4\r\nheld\r\n$30\r\n{_name(0)}\r\n:1800000000000\r\n"

    async def drive(calls: int, at_once: int) -> int:
        await line.exchange(packed * at_once, len(answer) * at_once, calls // at_once)
        return 0

    yield drive
    line.transport.abort()


async def run(harness: Harness) -> Result:
    engine = await harness.valkey(appendonly="no")
    url = engine.url
    calls = 1_024 if harness.options.quick else 5_120  # divides by every number of callers
    wrong: dict[str, int] = {}

    async with AsyncExitStack() as stack:
        drives: dict[str, Drive] = {
            OURS: await stack.enter_async_context(_link(url)),  # first: it loads the script
            POOL: await stack.enter_async_context(_pool(url)),
            PIPELINE: await stack.enter_async_context(_pipeline(url)),
            COREDIS: await stack.enter_async_context(_coredis(url)),
            FLOOR: await stack.enter_async_context(_floor("127.0.0.1", engine.port)),
        }
        pin(os.getpid(), harness.cores.measured)
        stack.callback(pin, os.getpid(), harness.cores.others)

        async def block(name: str, at_once: int) -> Sample:
            drive = drives[name]
            await drive(at_once, at_once)  # connected, and warm
            with harness.meter({"client": [os.getpid()]}) as meter:
                missed = await drive(calls, at_once)
            wrong[name] = wrong.get(name, 0) + missed
            return meter.sample(calls)

        blocks = {
            _block(name, at_once): (lambda name=name, at_once=at_once: block(name, at_once))
            for name in drives
            for at_once in AT_ONCE
        }
        record = await harness.in_turns(blocks, twice=_block(OURS, 64))

    client = cpu("client")
    targets = {1: at_least(5), 64: at_least(15)}
    ratios = [
        record.ratio(
            f"{peer} ÷ {OURS}, {at_once} in flight",
            _block(peer, at_once),
            _block(OURS, at_once),
            of=client,
            target=targets.get(at_once) if peer == POOL else None,
        )
        for at_once in AT_ONCE
        for peer in (POOL, PIPELINE, COREDIS)
    ]
    ratios += [
        record.ratio(
            f"{name} ÷ {FLOOR}, {at_once} in flight", _block(name, at_once), _block(FLOOR, at_once), of=client
        )
        for at_once in AT_ONCE
        for name in (OURS, POOL)
    ]
    one = {name: record.median(_block(name, 1), client) for name in (OURS, POOL, FLOOR)}
    above_floor = [
        f"One in flight: {name} costs {one[name] - one[FLOOR]:.1f} µs above that floor, the kernel's part."
        for name in (OURS, POOL)
        if math.isfinite(one[name] - one[FLOOR])
    ]
    points: dict[str, list[tuple[float, float, float, float]]] = {}
    for name in drives:
        for at_once in AT_ONCE:
            if kept := record.kept(_block(name, at_once)):
                interval = bootstrap([client(sample) for sample in kept])
                points.setdefault(name, []).append((at_once, interval.median, interval.low, interval.high))
    return harness.result(
        "redis_client",
        QUESTION,
        "EVALSHA",
        record,
        [*ratios, record.control_ratio(client, "CPU of the client")],
        curves=[Curve("Client CPU per EVALSHA", "in flight", "µs", points, log_y=True)],
        notes=[
            "uvloop and TCP over loopback for every contender; the client alone on its core.",
            f"'{FLOOR}' writes packed bytes and counts the answer's: no client can cost less.",
            *above_floor,
        ],
        audit={name: {"ok": not missed, "wrong_answers": missed} for name, missed in wrong.items()},
    )


def _block(name: str, at_once: int) -> str:
    return f"{name}, {at_once}"


if __name__ == "__main__":
    main(run)
