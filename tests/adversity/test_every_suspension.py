"""Every verb of seats and money is interrupted wherever it can be, and then done again.

Goal: whatever becomes of the first try, after a repeat there is exactly one effect, each seat has one owner,
each cent a home, and the audit finds nothing (P4, F18 to F20, F58 to F60). Method: real engines; the verb's
coroutine is stopped at its n-th suspension, for each n there is, in five ways:

* killed: nothing leaves the process any more;
* killed late: the engines do what they were asked, and the process dies before it hears of it;
* reply lost: the same, and the process lives on with new connections;
* cancelled: its client hung up;
* overtaken: somebody else does the whole thing, and then the first one goes on.

A rebuild has some hundreds of suspensions, most of them alike, one for each partition: of those each way has
ten, and no two ways the same ten. `test_rebuild_steps` lets it die around every kind of its steps.

The control is a verb that is not safe to repeat: a counter that is raised. The same drive finds it out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from redis.asyncio import Redis

from entrypoints.audit import run_audit
from entrypoints.platform import Platform
from kernel.errors import SeatRushError
from runtime.redis_link import WEATHER, connect
from tests.adversity.driving import Points
from tests.adversity.operations import OPERATIONS, Operation, Scene, insist
from tests.adversity.process import Process, process_of, until_done
from tests.support.shop import Shop

#: How long somebody who overtakes may wait for what the one at the gate has locked.
_LOCKED_S = 0.3
#: Longer than a completer leaves to others what may be on its way.
_LEFT_ALONE_S = 5.0


@asynccontextmanager
async def _orders_being_written(shop: Shop, *, wanted: bool) -> AsyncIterator[None]:
    async def write() -> None:
        while True:
            await shop.write()
            await asyncio.sleep(0.002)

    writing = asyncio.create_task(write()) if wanted else None
    try:
        yield
    finally:
        if writing is not None:
            writing.cancel()
            with suppress(asyncio.CancelledError):
                await writing


async def _ends(task: asyncio.Task[Any]) -> None:
    """However the first try ends: done, refused in our words, or cut off. Anything else is a bug."""
    with suppress(SeatRushError, *WEATHER, asyncio.CancelledError):
        await task


async def _killed(mine: Process, points: Points, task: asyncio.Task[Any], again: Any) -> None:
    await mine.is_cut_off()
    await mine.ends()


async def _killed_late(mine: Process, points: Points, task: asyncio.Task[Any], again: Any) -> None:
    mine.hold_replies()
    await until_done()
    await _killed(mine, points, task, again)


async def _reply_lost(mine: Process, points: Points, task: asyncio.Task[Any], again: Any) -> None:
    mine.hold_replies()
    await until_done()
    await mine.loses_its_connections()
    points.gate.set()
    await _ends(task)


async def _cancelled(mine: Process, points: Points, task: asyncio.Task[Any], again: Any) -> None:
    task.cancel()
    points.gate.set()  # whoever else works for it goes on
    await _ends(task)


async def _overtaken(mine: Process, points: Points, task: asyncio.Task[Any], again: Any) -> None:
    other = asyncio.ensure_future(again())
    await asyncio.wait([other], timeout=_LOCKED_S)
    points.gate.set()
    await _ends(task)
    await other


WAYS: dict[str, Callable[..., Awaitable[None]]] = {
    "killed": _killed,
    "killed_late": _killed_late,
    "reply_lost": _reply_lost,
    "cancelled": _cancelled,
    "overtaken": _overtaken,
}


async def _interrupt(shop: Shop, operation: Operation, way: str, stop_at: int) -> bool:
    """One try that is interrupted and then repeated; whether it has that many suspensions."""
    scene = await operation.prepare(shop)

    async def again() -> None:
        await operation.again(shop, scene)

    async with process_of(shop) as mine, _orders_being_written(shop, wanted=operation.is_written):
        points = Points(stop_at)
        task = mine.begin(operation.work(mine.platform, scene), points)
        stopping = asyncio.create_task(points.stopped.wait())
        await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        reached = points.stopped.is_set()
        if reached:
            await WAYS[way](mine, points, task, again)
        else:
            await task
        await again()
    await shop.settle()
    await shop.time_passes(_LEFT_ALONE_S)
    await shop.settle()
    await operation.check(shop, scene)
    await shop.sound()
    return reached


async def _points_of(shop: Shop, operation: Operation, way: str = "killed") -> list[int]:
    """Where this verb is stopped: everywhere, or evenly spread where there are many, each way elsewhere."""
    # What other tests left open would be counted here, and be gone when it comes to interrupting.
    await shop.tidy()
    scene = await operation.prepare(shop)
    async with process_of(shop) as mine, _orders_being_written(shop, wanted=operation.is_written):
        points = Points()
        await mine.begin(operation.work(mine.platform, scene), points)
        await operation.again(shop, scene)
    await shop.settle()
    every, most = points.met, operation.points_max
    assert every > 0, "nothing to interrupt"
    if every <= most:
        return [*range(1, every + 1)]
    shift = [*WAYS].index(way) / len(WAYS)
    return [1 + int((step + shift) * every / most) for step in range(most)]


#: A process that was killed closes nothing; here its sockets are ours.
_DEAD = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@_DEAD
@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OPERATIONS)
async def test_interrupted_anywhere_and_done_again_there_is_one_effect(
    shop: Shop, name: str, way: str
) -> None:
    operation = OPERATIONS[name]
    points = await _points_of(shop, operation, way)
    reached = [await _interrupt(shop, operation, way, point) for point in points]
    assert sum(reached) > len(points) / 2, f"{sum(reached)} of {points} met, and tries differ only a little"
    report = await run_audit(shop.platform)
    assert report.ok, [check for check in report.checks if not check.ok]


async def test_a_verb_that_is_not_safe_to_repeat_is_found_out(shop: Shop) -> None:
    """The control."""
    counts: list[int] = []
    clients: list[Redis] = []

    async def prepare(_: Shop) -> Scene:
        await shop.redis.delete("control")
        return Scene("", "", ("A1", "A2"), shop.request("nobody"))

    async def raise_it(platform: Platform, _: Scene) -> None:
        clients.append(connect(platform.addresses.redis_url))
        await clients[-1].incr("control")

    async def check(_: Shop, __: Scene) -> None:
        counts.append(int(await shop.redis.get("control")))

    async def again(_: Shop, scene: Scene) -> None:
        await insist(lambda: raise_it(shop.platform, scene))

    verb = Operation(prepare, raise_it, again, check)
    points = await _points_of(shop, verb)
    for point in points:
        await _interrupt(shop, verb, "killed_late", point)
    await shop.redis.delete("control")
    for client in clients:
        await client.aclose()
    assert set(counts) == {1, 2}, "before it was sent it is done once, afterwards twice"
