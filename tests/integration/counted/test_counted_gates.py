"""What a rush costs Redis, counted and not timed: gates that noise hardly moves.

Goal: the promises of the hot path that a change could break without breaking a single answer: commands of
one turn leave in one write, a hold is one command, the disk is asked once for many holds, and reading a map
asks nobody. Method: sixty-four fans at once over HTTP on the whole platform, and the counters of the link and
of Valkey before and after. Whoever starves the server of its turns makes each do less, so a rush is judged by
the best of three stretches, and turns without those that only time asked for. The control is one fan alone,
who shares with nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from runtime.redis_link import LinkCounts
from tests.support.platform import RunningPlatform
from tests.support.service import Fan

FANS, ROUNDS, ROW = 64, 40, 40
STRETCHES = 3
HALL = "\n".join(",".join(f"{row}-{seat}" for seat in range(1, ROW + 1)) for row in range(1, FANS + 1))


@dataclass
class Counted:
    """Differences over the work."""

    link: LinkCounts
    scripts: dict[str, int]
    turns: int


@asynccontextmanager
async def counting(running: RunningPlatform, found: list[Counted]) -> AsyncIterator[None]:
    async def look() -> tuple[LinkCounts, int, int]:
        info: dict[str, Any] = await running.redis.info("everything")
        return running.platform.nodes.counts(), info["cmdstat_evalsha"]["calls"], info["eventloop_cycles"]

    link, scripts, turns = await look()
    yield
    link_now, scripts_now, turns_now = await look()
    found.append(
        Counted(
            LinkCounts(commands=link_now.commands - link.commands, flushes=link_now.flushes - link.flushes),
            {"evalsha": scripts_now - scripts},
            turns_now - turns,
        )
    )


async def at_once(fans: list[Fan], work: Callable[[int, Fan], Awaitable[None]]) -> None:
    """Everybody does it at the same time."""
    await asyncio.gather(*(work(number, fan) for number, fan in enumerate(fans)))


@pytest.fixture
async def crowd(running: RunningPlatform) -> tuple[str, list[Fan]]:
    """A showtime with a row for each fan, and the fans, who have looked at it once."""
    assert running.session.connector is not None
    showtime_id = await running.add_showtime(HALL, seats_per_buyer=ROW)
    fans = await running.fans(FANS)
    await at_once(fans, lambda number, fan: _hold(running, showtime_id, fan, number, 0))
    return showtime_id, fans


async def _hold(running: RunningPlatform, showtime_id: str, fan: Fan, row: int, turn: int) -> None:
    answer = await fan.hold(showtime_id, f"{row + 1}-{turn + 1}")
    assert answer.status == 201, answer.body


async def test_holds_of_many_fans_share_writes_and_fsyncs(
    running: RunningPlatform, crowd: tuple[str, list[Fan]]
) -> None:
    showtime_id, fans = crowd
    await running.redis.config_set("appendfsync", "always")
    found: list[Counted] = []
    rounds = (ROUNDS - 1) // STRETCHES

    async def hold_in_a_row(number: int, fan: Fan) -> None:
        first = 1 + rounds * len(found)
        for turn in range(first, first + rounds):
            await _hold(running, showtime_id, fan, number, turn)

    try:
        for _ in range(STRETCHES):
            async with counting(running, found):
                await at_once(fans, hold_in_a_row)
    finally:
        await running.redis.config_set("appendfsync", "everysec")
    holds = FANS * rounds
    for count in found:
        print(f"{holds} holds: {count}")
        assert count.link.commands >= holds
    # The rest are looks, by time: on a slow machine there is more of it, and each costs a turn.
    assert min(count.link.commands for count in found) <= 1.05 * holds
    looks = [count.link.commands - holds for count in found]
    assert min(one.link.flushes - by_time for one, by_time in zip(found, looks, strict=True)) <= 0.1 * holds
    # A turn of Valkey's loop writes and syncs at most once.
    assert min(one.turns - by_time for one, by_time in zip(found, looks, strict=True)) <= 0.05 * holds


async def test_one_fan_alone_shares_with_nobody(
    running: RunningPlatform, crowd: tuple[str, list[Fan]]
) -> None:
    """The control: the same holds one after the other count a write and a turn each."""
    showtime_id, fans = crowd
    found: list[Counted] = []
    async with counting(running, found):
        for turn in range(1, ROUNDS):
            await _hold(running, showtime_id, fans[0], 0, turn)
    (count,) = found
    assert count.link.flushes >= ROUNDS - 1
    assert count.turns >= ROUNDS - 1


async def test_a_thousand_looks_at_a_map_cost_what_one_does(
    running: RunningPlatform, crowd: tuple[str, list[Fan]]
) -> None:
    showtime_id, fans = crowd
    path = f"/showtimes/{showtime_id}/seats"

    async def look(times: int) -> int:
        found: list[Counted] = []
        async with counting(running, found):
            await at_once(fans[:20], lambda *_: _look(running, path, times))
        return found[0].scripts["evalsha"]

    await look(1)
    looks = 50
    loop = asyncio.get_running_loop()
    began = loop.time()
    scripts = await look(looks)
    by_time = (loop.time() - began) / 0.025 + 2  # the map is read once a tick, whoever looks
    print(f"{20 * looks} looks: {scripts} scripts; {by_time:.0f} ticks went by")
    assert scripts <= by_time


async def _look(running: RunningPlatform, path: str, times: int) -> None:
    for _ in range(times):
        answer = await running.request("GET", path)
        assert answer.status == 200


async def test_losers_ask_nobody(running: RunningPlatform, crowd: tuple[str, list[Fan]]) -> None:
    showtime_id, fans = crowd
    found: list[Counted] = []
    losers = 20 * FANS

    async def want_what_is_gone(number: int, fan: Fan) -> None:
        for _ in range(20):
            answer = await fan.hold(showtime_id, "1-1")
            assert answer.status == 409, answer.body

    async with counting(running, found):
        await at_once(fans, want_what_is_gone)
    (count,) = found
    print(f"{losers} losers: {count}")
    assert count.link.commands <= 0.1 * losers  # by time, not by loser
