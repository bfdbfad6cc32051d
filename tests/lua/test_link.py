"""Goal: what the network and the server do becomes one of few refusals, and a cancelled call stays cancelled.

Method: a real server whose scripts are flushed, a client cancelled at the moment its write ends, and error
replies as redis-py words them, alone and inside a pipeline.
"""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, ResponseError

from kernel.errors import InventoryRebuilding, Overloaded, SeatsUnavailable
from kernel.ids import PARTITIONS
from reservation.keys import epoch_key
from runtime.redis_link import ScriptRunner, _refusal, connect


async def test_many_calls_meet_the_closed_gate_like_one(valkey_url: str) -> None:
    redis = connect(valkey_url)
    runner = ScriptRunner(redis)
    runner.adopt_epoch(987_654)  # never loaded here
    calls = [((epoch_key(partition),), ()) for partition in range(PARTITIONS)]
    with pytest.raises(InventoryRebuilding):
        await runner.run_many("read_epoch", calls)
    await redis.aclose()


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (NoScriptError("NOSCRIPT No matching script"), InventoryRebuilding),
        (OutOfMemoryError("OOM command not allowed"), Overloaded),
        (RedisConnectionError("gone"), SeatsUnavailable),
        (ResponseError("BUSY Redis is busy running a script"), SeatsUnavailable),
        (
            ResponseError("Command # 1 (EVALSHA) of pipeline caused error: BUSY Redis is busy"),
            SeatsUnavailable,
        ),
        (ResponseError("MISCONF Errors writing to the AOF file"), SeatsUnavailable),
        (ResponseError("ERR wrong number of arguments"), ResponseError),
        (ResponseError("BUSYGROUP Consumer Group name already exists"), ResponseError),
    ],
)
def test_trouble_of_the_server_is_told_from_a_bug_of_ours(error: Exception, refusal: type[Exception]) -> None:
    assert type(_refusal(error)) is refusal


async def test_a_call_cancelled_as_its_write_ends_stays_cancelled(valkey_url: str) -> None:
    redis = connect(valkey_url)
    await redis.ping()
    for turns in range(40):
        task = asyncio.create_task(redis.get("nothing"))
        for _ in range(turns % 8):
            await asyncio.sleep(0)
        if not task.done():
            assert task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert await redis.get("nothing") is None
    await redis.aclose()
