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
from entrypoints.selling import add_showtime
from reservation import import_layout
from runtime.http import Health, Runner
from runtime.redis_link import connect
from runtime.settings import load
from tests.support.engines import DatabaseMaker
from tests.support.platform import migrated

#: What `serve` keeps going beside the requests.
FOLLOWERS = {"EpochWatch.follow", "Fitness.follow", "Measurements.publish", "Warming.follow"}


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

    def fails() -> None:
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
    close()
    await platform.commits.close()


async def test_a_process_that_follows_nothing_any_more_answers_what_it_began_and_ends(
    platform: Platform, door: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks after it starts another one; this one would sell nothing after the next rebuild."""
    ready, fails, drained = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def follow() -> None:
        await fails.wait()
        raise LookupError("no epochs")

    class Drained(Runner):
        async def drain(self, **patience: Any) -> None:
            await super().drain(**patience)
            drained.set()

    monkeypatch.setattr(platform.epoch, "follow", follow)
    monkeypatch.setattr(serving, "Runner", Drained)
    task = asyncio.create_task(serving.serve(platform, door, ready=ready.set))
    async with asyncio.timeout(20):
        await ready.wait()
        assert not task.done()
        fails.set()
        with pytest.raises(LookupError):
            await task
    assert drained.is_set()


async def _served_until_ready(platform: Platform, door: socket.socket, showtime_id: str) -> bool:
    """Whether a process has the showtime at hand at the moment it says that it is ready."""
    ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def look() -> None:
        at_hand = platform.halls.at_hand(showtime_id, platform.clock.monotonic_s())
        ready.set_result(at_hand is not None)

    task = asyncio.create_task(serving.serve(platform, door, ready=look, accept_when_ready=True))
    async with asyncio.timeout(20):
        found = await ready
        os.kill(os.getpid(), signal.SIGTERM)
        await task
    return found


async def test_a_successor_has_its_halls_ready_before_it_accepts_anybody(
    platform: Platform, door: socket.socket
) -> None:
    showtime_id = await add_showtime(platform, import_layout(b"A1,A2", name="two"))
    assert await _served_until_ready(platform, door, showtime_id)


async def test_control_without_a_round_before_it_a_successor_knows_no_hall(
    platform: Platform, door: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    showtime_id = await add_showtime(platform, import_layout(b"A1,A2", name="two"))
    monkeypatch.setattr(platform.warming, "round", lambda: asyncio.sleep(0))
    assert not await _served_until_ready(platform, door, showtime_id)


async def test_halls_that_take_too_long_do_not_keep_a_process_from_its_work(
    platform: Platform, door: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    showtime_id = await add_showtime(platform, import_layout(b"A1,A2", name="two"))
    monkeypatch.setattr(serving, "_WARM_UP_WITHIN_S", 0.2)
    monkeypatch.setattr(platform.warming, "round", asyncio.Event().wait)
    assert not await _served_until_ready(platform, door, showtime_id)


async def test_a_process_that_is_told_to_end_makes_nothing_ready_any_more(
    platform: Platform, door: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = asyncio.Event()
    still_going: list[bool] = []

    def following() -> bool:
        going = (one for one in asyncio.all_tasks() if not one.done())
        return any(one.get_coro().__qualname__ == "Warming.follow" for one in going)

    class Drained(Runner):
        async def drain(self, **patience: Any) -> None:
            await asyncio.sleep(0)
            still_going.append(following())
            await super().drain(**patience)

    monkeypatch.setattr(serving, "Runner", Drained)
    task = asyncio.create_task(serving.serve(platform, door, ready=ready.set))
    async with asyncio.timeout(20):
        await ready.wait()
        assert following()
        os.kill(os.getpid(), signal.SIGTERM)
        await task
    assert still_going == [False]
