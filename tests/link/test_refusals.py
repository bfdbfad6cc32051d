"""Goal: what the server says of its own state becomes one of few refusals, and a bug of ours stays a bug.

Method: a real server brought into each state, and a verb that writes. Nothing is imitated: the error's text
is the server's.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from kernel.errors import InventoryRebuilding, Overloaded, SeatRushError, SeatsUnavailable
from kernel.ids import PARTITIONS
from reservation.keys import epoch_key
from runtime.engines import ValkeyEngine
from tests.link.conftest import MakeSpeaker, until
from tests.support.inventories import make_forget, teach
from tests.support.runner import WatchedRunner

State = Callable[[Redis, ValkeyEngine], Any]


@asynccontextmanager
async def _configured(redis: Redis, **values: str) -> AsyncIterator[None]:
    names = [name.replace("_", "-") for name in values]
    before: dict[str, str] = await redis.config_get(*names)
    for name, value in zip(names, values.values(), strict=True):
        await redis.config_set(name, value)
    try:
        yield
    finally:
        for name in names:
            await redis.config_set(name, before[name])


@asynccontextmanager
async def _full(redis: Redis, _: ValkeyEngine) -> AsyncIterator[None]:
    async with _configured(redis, maxmemory="1"):
        yield


@asynccontextmanager
async def _without_replicas(redis: Redis, _: ValkeyEngine) -> AsyncIterator[None]:
    async with _configured(redis, min_replicas_to_write="1"):
        yield


@asynccontextmanager
async def _replica(redis: Redis, _: ValkeyEngine) -> AsyncIterator[None]:
    await redis.replicaof("127.0.0.1", "1")
    try:
        yield
    finally:
        await redis.replicaof("NO", "ONE")


@asynccontextmanager
async def _orphaned_replica(redis: Redis, _: ValkeyEngine) -> AsyncIterator[None]:
    async with _replica(redis, _), _configured(redis, replica_serve_stale_data="no"):
        yield


async def _snapshot_is(redis: Redis, state: str) -> bool:
    return (await redis.info("persistence"))["rdb_last_bgsave_status"] == state


@asynccontextmanager
async def _broken_disk(redis: Redis, engine: ValkeyEngine) -> AsyncIterator[None]:
    in_the_way = engine.home / "dump.rdb"  # where the server wants to put its snapshot
    in_the_way.unlink(missing_ok=True)
    in_the_way.mkdir()
    (in_the_way / "file").touch()
    async with _configured(redis, save="3600 1"):
        with suppress(RedisError):
            await redis.bgsave()
        await until(lambda: _snapshot_is(redis, "err"))
        try:
            yield
        finally:
            shutil.rmtree(in_the_way)
    await redis.bgsave()
    await until(lambda: _snapshot_is(redis, "ok"))


@asynccontextmanager
async def _in_a_long_script(redis: Redis, engine: ValkeyEngine) -> AsyncIterator[None]:
    busy = Redis.from_url(engine.url)
    endless = asyncio.create_task(busy.eval("while true do end", 0))
    while True:
        try:
            await redis.ping()
            await asyncio.sleep(0.01)
        except RedisError:
            break
    try:
        yield
    finally:
        await redis.script_kill()
        with suppress(RedisError):
            await endless
        await busy.aclose()


@asynccontextmanager
async def _reading_its_file(redis: Redis, engine: ValkeyEngine) -> AsyncIterator[None]:
    await redis.mset({f"ballast:{number}": "x" * 200 for number in range(300)})
    async with _configured(redis, key_load_delay="2000", loading_process_events_interval_bytes="1024"):
        reloading = Redis.from_url(engine.url)
        reload = asyncio.create_task(reloading.execute_command("DEBUG", "RELOAD"))
        while True:
            try:
                await redis.get("ballast:0")
                await asyncio.sleep(0.001)
            except RedisError:
                break
        try:
            yield
        finally:
            await reload
            await reloading.aclose()
    await redis.flushdb()


#: A state, the verb that meets it, and what its caller is told.
STATES: dict[str, tuple[State, str, type[SeatRushError]]] = {
    "OOM": (_full, "remember", Overloaded),
    "NOREPLICAS": (_without_replicas, "remember", SeatsUnavailable),
    "READONLY": (_replica, "remember", SeatsUnavailable),
    "MASTERDOWN": (_orphaned_replica, "echo", SeatsUnavailable),
    "MISCONF": (_broken_disk, "remember", SeatsUnavailable),
    "BUSY": (_in_a_long_script, "echo", SeatsUnavailable),
    "LOADING": (_reading_its_file, "echo", SeatsUnavailable),
}


@pytest_asyncio.fixture(loop_scope="session")
async def remembering(moody: ValkeyEngine, speaker: MakeSpeaker) -> WatchedRunner:
    return await speaker(moody.url)


@pytest.mark.parametrize("word", STATES)
async def test_a_server_that_cannot_serve_now_says_so_to_the_caller_and_serves_again_afterwards(
    moody: ValkeyEngine, remembering: WatchedRunner, unique: str, word: str
) -> None:
    enter, verb, refusal = STATES[word]
    async with enter(remembering.redis, moody):
        with pytest.raises(refusal) as met:
            await remembering.run(verb, (unique,), ("not now",))
        assert str(met.value.__cause__).startswith(f"{word} ")
        assert met.value.retry_after_s

    assert await remembering.run(verb, (unique,), ("now",)) == ["said", b"now"]


async def test_many_calls_meet_the_closed_gate_like_one(valkey_url: str, runner: WatchedRunner) -> None:
    runner.adopt_epochs([987_654] * PARTITIONS)  # never loaded here
    calls = [((epoch_key(partition),), ()) for partition in range(PARTITIONS)]
    with pytest.raises(InventoryRebuilding):
        await runner.run_many("read_epoch", calls)


async def test_after_one_of_many_was_refused_the_next_call_gets_its_own_answer(
    echoes: WatchedRunner, unique: str
) -> None:
    await echoes.redis.set(f"{unique}:word", "no number")
    calls = [((unique if number != 3 else f"{unique}:word",), (1,)) for number in range(10)]

    with pytest.raises(ResponseError):
        await echoes.run_many("count", calls)

    assert await echoes.run("echo", (unique,), ("mine",)) == ["said", b"mine"]


async def test_of_many_plain_commands_the_one_asked_wrongly_says_so_in_its_place(
    echoes: WatchedRunner, unique: str
) -> None:
    before, wrong, after = await echoes.commands(
        ("SET", unique, "no number"), ("INCR", unique), ("GET", unique)
    )
    assert (before, after) == (b"OK", b"no number")
    assert isinstance(wrong, ResponseError)


async def test_an_error_that_only_we_can_have_caused_stays_what_it_is(
    echoes: WatchedRunner, unique: str
) -> None:
    await echoes.redis.delete(unique)
    await echoes.redis.rpush(unique, "a list")

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await echoes.run("count", (unique,), (1,))
    (link,) = await echoes.nodes.primaries()
    with pytest.raises(ResponseError, match="unknown command"):
        await link.command("NONSENSE")


async def test_forgetting_closes_the_gate_and_loading_opens_it(
    remembering: WatchedRunner, unique: str
) -> None:
    await make_forget(remembering)
    with pytest.raises(InventoryRebuilding):
        await remembering.run("echo", (unique,), ("hello",))
    await teach(remembering)

    assert await remembering.run("echo", (unique,), ("hello",)) == ["said", b"hello"]
