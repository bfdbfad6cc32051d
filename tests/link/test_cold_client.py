"""Goal: the plain client gives a cancelled call back cancelled, whenever the cancellation comes.

Method: a real server, and a client cancelled after every number of turns its write may take.
"""

from __future__ import annotations

import asyncio

import pytest

from runtime.redis_link import connect


@pytest.mark.parametrize("scheme", ["redis://h:1/0", "rediss://h:1/0", "unix:///tmp/s"])
def test_whatever_way_the_address_names_writes_can_be_cancelled(scheme: str) -> None:
    pool = connect(scheme).connection_pool
    made = pool.connection_class
    assert made.send_packed_command.__qualname__ == "_Patient.send_packed_command"
    assert made.pack_command.__qualname__ == "_Patient.pack_command"


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
