"""Goal: what is said to be the last instant is never after the caller has gone, and a server whose clock
surprises us refuses nobody who still waits.

Method: two clocks moved by hand, ours and the server's, which runs ahead, behind, jumps and is read late; the
server executes what it is sent when the test says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from kernel import limits
from kernel.clock import ManualClock
from kernel.errors import SeatsUnavailable, TooLate
from kernel.ids import new_hold_id, new_showtime_id
from reservation.deadlines import READING_S, WHENEVER, Deadlines
from reservation.inventory_redis import RedisInventory
from runtime.redis_link import Argument

PATIENCE_MS = limits.redis_deadline_ms
PATIENCE = timedelta(milliseconds=PATIENCE_MS)
KEY = "rsv:{p00}:showtime:sho"


class Server:
    """Judges by its own clock, as the scripts do; `on_the_way` passes between asking and executing."""

    def __init__(self, clock: ManualClock, ahead_ms: int) -> None:
        self.clock = clock
        self.ahead_ms = ahead_ms
        self.on_the_way = timedelta(0)
        self.on_the_way_back = timedelta(0)
        self.asked: list[Argument] = []
        self.granted_s: list[float] = []

    @property
    def now_ms(self) -> int:
        return int(self.clock.monotonic_s() * 1_000) + self.ahead_ms

    async def run(self, verb: str, keys: Sequence[str], arguments: Sequence[Argument]) -> list[Any]:
        asked_s = self.clock.monotonic_s()
        self.clock.advance(self.on_the_way)
        reply = self._execute(verb, arguments)
        self.clock.advance(self.on_the_way_back)
        if verb != "read_map" and self.clock.monotonic_s() - asked_s > PATIENCE_MS / 1_000:
            raise SeatsUnavailable  # as the link says it, while the server goes on for nobody
        return reply

    def _execute(self, verb: str, arguments: Sequence[Argument]) -> list[Any]:
        if verb == "read_map":
            return ["map", 1, b"open", 0, 0, 8, self.now_ms, 0]
        latest = arguments[-1]
        self.asked.append(latest)
        if latest != WHENEVER and self.now_ms > int(latest):
            return ["too_late", self.now_ms]
        self.granted_s.append(self.clock.monotonic_s())
        return ["held", self.now_ms + 60_000, 2]


class Scene:
    """A worker that has looked at a map a moment ago, and a server."""

    def __init__(self, ahead_ms: int = 0) -> None:
        self.clock = ManualClock(datetime.now(UTC))
        self.clock.advance(timedelta(hours=5))
        self.server = Server(self.clock, ahead_ms)
        nodes: Any = SimpleNamespace(only="the one server")
        scripts: Any = self.server
        self.deadlines = Deadlines(nodes, self.clock)
        self.inventory = RedisInventory(scripts, self.deadlines)
        self.showtime_id = new_showtime_id()

    async def look(self) -> None:
        await self.inventory.read_map(self.showtime_id)

    async def hold(self) -> None:
        await self.inventory.hold(
            self.showtime_id, new_hold_id(self.showtime_id), "acc_a", [1], ttl_ms=60_000
        )


HOUR_MS = 3_600_000
SOME_TIME = timedelta(milliseconds=700)


@pytest.mark.parametrize("ahead_ms", [0, -HOUR_MS, HOUR_MS, 1_700_000_000_000])
@pytest.mark.parametrize("reply_took", [timedelta(0), SOME_TIME])
async def test_nothing_is_granted_after_the_caller_has_gone_wherever_the_servers_clock_stands(
    ahead_ms: int, reply_took: timedelta
) -> None:
    scene = Scene(ahead_ms)
    scene.server.on_the_way_back = reply_took
    await scene.look()
    scene.server.on_the_way_back = timedelta(0)
    await scene.hold()

    scene.server.on_the_way = PATIENCE + timedelta(milliseconds=2)
    with pytest.raises(SeatsUnavailable):
        await scene.hold()

    assert len(scene.server.granted_s) == 1
    assert len(scene.server.asked) == 2


async def test_without_a_deadline_it_would_be_granted_to_nobody() -> None:
    """The control."""
    scene = Scene()
    scene.server.on_the_way = PATIENCE + timedelta(seconds=10)

    with pytest.raises(SeatsUnavailable):
        await scene.hold()

    assert scene.server.asked == [WHENEVER]
    assert len(scene.server.granted_s) == 1


async def test_before_the_first_reading_and_long_after_the_last_no_refusal_rests_on_a_guess() -> None:
    scene = Scene()
    assert scene.deadlines.latest_ms(KEY) == WHENEVER
    await scene.look()
    assert scene.deadlines.latest_ms(KEY) == scene.server.now_ms + PATIENCE_MS

    scene.clock.advance(timedelta(seconds=READING_S))
    assert scene.deadlines.latest_ms(KEY) == scene.server.now_ms + PATIENCE_MS
    scene.clock.advance(timedelta(seconds=1))
    assert scene.deadlines.latest_ms(KEY) == WHENEVER


@pytest.mark.parametrize("jump_ms", [PATIENCE_MS + 1, HOUR_MS])
async def test_a_clock_that_was_set_forward_costs_one_more_question_and_no_sale(jump_ms: int) -> None:
    scene = Scene()
    await scene.look()
    scene.server.ahead_ms += jump_ms

    await scene.hold()
    await scene.hold()

    assert len(scene.server.granted_s) == 2
    assert len(scene.server.asked) == 3, "only the first of them was asked twice"


async def test_a_clock_that_was_set_back_is_believed_from_the_next_reading_on() -> None:
    scene = Scene()
    await scene.look()
    scene.server.ahead_ms -= HOUR_MS
    await scene.hold()
    await scene.look()

    scene.server.on_the_way = PATIENCE + timedelta(milliseconds=2)
    with pytest.raises(SeatsUnavailable):
        await scene.hold()

    assert len(scene.server.granted_s) == 1


async def test_a_reading_this_process_slept_over_refuses_nobody_who_waits() -> None:
    scene = Scene()
    scene.server.on_the_way_back = timedelta(seconds=30)
    await scene.look()
    scene.server.on_the_way_back = timedelta(0)

    await scene.hold()

    assert len(scene.server.asked) == 2
    assert len(scene.server.granted_s) == 1


async def test_who_is_refused_twice_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that jumps at every look: no endless asking."""
    scene = Scene()
    await scene.look()
    run = scene.server.run

    async def jumping(verb: str, keys: Sequence[str], arguments: Sequence[Argument]) -> list[Any]:
        scene.server.ahead_ms += HOUR_MS
        return await run(verb, keys, arguments)

    monkeypatch.setattr(scene.inventory, "_run", jumping)
    with pytest.raises(TooLate) as refusal:
        await scene.hold()

    assert refusal.value.retry_after_s
    assert len(scene.server.asked) == 2
    assert scene.server.granted_s == []


async def test_each_node_has_a_clock_of_its_own() -> None:
    clock = ManualClock(datetime.now(UTC))
    node_of = {"a": "node a", "b": "node b"}
    nodes: Any = SimpleNamespace(only=None, link_of=lambda key: node_of[key])
    deadlines = Deadlines(nodes, clock)

    deadlines.read("a", 5_000)
    assert deadlines.latest_ms("b") == WHENEVER
    deadlines.read("b", 9_000)

    assert deadlines.latest_ms("a") == 5_000 + PATIENCE_MS
    assert deadlines.latest_ms("b") == 9_000 + PATIENCE_MS
