"""Goal: a process that is told to end begins nothing new, and leaves nothing running when a part of it fails.

Method: `serve` itself in the test's own process, on real engines and ended by a real signal; what it waits
for before it may accept is held back by the test.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from entrypoints import serving
from entrypoints.platform import Addresses, Platform, platform_for
from runtime.http import Health, Runner
from runtime.redis_link import connect
from runtime.settings import load
from tests.support.engines import DatabaseMaker
from tests.support.platform import migrated

#: What `serve` keeps going beside the requests.
FOLLOWERS = {"EpochWatch.follow", "Measurements.publish"}


@pytest_asyncio.fixture(loop_scope="session")
async def platform(
    valkey_url: str, make_database: DatabaseMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    """Parts that nobody has started, and a heap that stays the tests' own."""
    monkeypatch.setattr(serving, "settle", lambda: None)
    redis = connect(valkey_url)
    await redis.flushall()
    await redis.aclose()
    addresses = Addresses(valkey_url, await make_database(migrated), None)
    async with platform_for(load({}, data_dir=tmp_path), addresses) as made:
        await made.rebuilder.rebuild("test")
        yield made
    for heard in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(heard)


@pytest.fixture
def door() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


async def test_a_successor_told_to_end_before_it_is_ready_accepts_nobody(
    platform: Platform, door: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it waited for is there a moment after it was told."""
    asked, there, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    said: list[str] = []

    async def part() -> float:
        asked.set()
        if not there.is_set():
            raise OSError
        return 0.0

    class Drained(Runner):
        async def drain(self, **patience: Any) -> None:
            there.set()
            await asyncio.sleep(2 * serving._ASK_EVERY_S)
            said.extend("accepts" for _ in self.sites)
            await super().drain(**patience)
            ended.set()

    monkeypatch.setattr(serving, "_health", lambda _: Health({"part": part}, fresh_s=0.0))
    monkeypatch.setattr(serving, "Runner", Drained)
    task = asyncio.create_task(
        serving.serve(platform, door, ready=lambda: said.append("ready"), accept_when_ready=True)
    )
    async with asyncio.timeout(20):
        await asked.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await task
    assert ended.is_set()
    assert said == []


async def test_a_part_that_fails_as_it_is_closed_leaves_nothing_running(
    platform: Platform, door: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = asyncio.Event()

    async def fails() -> None:
        raise ArithmeticError

    close = platform.freed_news.close
    monkeypatch.setattr(platform.freed_news, "close", fails)
    before = asyncio.all_tasks()
    task = asyncio.create_task(serving.serve(platform, door, ready=ready.set))
    async with asyncio.timeout(20):
        await ready.wait()
        mine = {one for one in asyncio.all_tasks() - before if one.get_coro().__qualname__ in FOLLOWERS}
        assert len(mine) == len(FOLLOWERS)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(ArithmeticError):
            await task
    assert all(one.done() for one in mine)
    await asyncio.gather(close(), platform.commits.close())
