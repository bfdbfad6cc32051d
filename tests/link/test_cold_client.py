"""Goal: the plain client gives a cancelled call back cancelled, whenever the cancellation comes, and never
sends a command twice by itself.

Method: a real server, a client cancelled after every number of turns its write may take, and a way on which
a reply gets lost. The control is the same client with the library's habit of repeating.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from runtime.redis_link import WEATHER, cold, connect
from tests.support.proxy import Proxy


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


async def _counted_with_a_lost_reply(valkey_url: str, proxy: Proxy, key: str) -> bytes | None:
    """What a counter stands at that was raised once, by a command whose first reply never arrived."""
    redis = connect(proxy.url, pool_max=1)
    await redis.ping()
    proxy.cut_after_replies(0)
    with suppress(*WEATHER):
        await redis.incr(key)
    await redis.aclose()
    direct = connect(valkey_url)
    counted: bytes | None = await direct.get(key)
    await direct.aclose()
    return counted


async def test_a_command_whose_reply_was_lost_is_not_sent_again(
    valkey_url: str, proxy: Proxy, unique: str
) -> None:
    assert await _counted_with_a_lost_reply(valkey_url, proxy, unique) == b"1"


async def test_with_the_librarys_own_repeats_it_would_be_executed_twice(
    valkey_url: str, proxy: Proxy, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold, "Retry", lambda *_: Retry(NoBackoff(), 3))
    assert await _counted_with_a_lost_reply(valkey_url, proxy, unique) == b"2"
