"""Goal: while PostgreSQL's disk is full nobody is told of an order that is not there, and it heals by itself.

Method: a real PostgreSQL on a disk of its own that is filled to the last byte while people buy. Its data
cannot grow then, and sooner or later its log cannot either, which ends the server; it is kept running as
`seatrush up` keeps it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import pytest

from entrypoints.supervision import keep_engine
from runtime.migrations import migrate
from tests.support.disks import filled, small_disk
from tests.support.engines import postgres_engine_in
from tests.support.platform import RunningPlatform, run_platform
from tests.support.service import Fan
from tests.support.shop import until

#: More seats than are sold before the disk is found full.
HALL = "\n".join(",".join(f"{row}-{seat}" for seat in range(1, 51)) for row in range(1, 41))


@pytest.mark.timeout(240)
async def test_while_the_disk_is_full_orders_are_refused_or_unknown_and_afterwards_all_are_there(
    valkey_url: str, tmp_path: Path
) -> None:
    with small_disk("256m") as disk:
        small = {"min_wal_size": "32MB", "max_wal_size": "64MB"}
        engine = postgres_engine_in(disk / "data", dies_with_us=True, options=small)
        await engine.start()
        keeping = asyncio.create_task(keep_engine(engine, say=print, restarted=lambda _: None))
        try:
            await migrate(engine.url)
            async with run_platform(valkey_url, engine.url, tmp_path) as running:
                await _sell_on(running, disk)
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
            await engine.stop()


_MUCH_LOG = "SELECT pg_logical_emit_message(true, 'test', repeat('x', 4000000))"


async def _sell_on(running: RunningPlatform, disk: Path) -> None:
    showtime_id = await running.add_showtime(HALL, seats_per_buyer=1000)
    (fan,) = await running.fans(1)
    first = await fan.buy(showtime_id, "1-1")
    answers: dict[str, int] = {first["order_id"]: 201}
    with filled(disk):
        refusals = 0
        deadline_s = time.monotonic() + 60
        while refusals < 3:
            assert time.monotonic() < deadline_s, "the disk was never found full"
            if len(answers) > 1:
                with suppress(Exception):  # what would be hours of orders: the room left for log is used up
                    await running.platform.database.execute(_MUCH_LOG)
            tried = await asyncio.gather(*(_order(running, fan, showtime_id) for _ in range(8)))
            assert {status for status, _ in tried} <= {201, 202, 503}, tried
            answers |= {order_id: status for status, order_id in tried if order_id}
            refusals += sum(status != 201 for status, _ in tried)
    told = [order_id for order_id, status in answers.items() if status in (201, 202)]
    assert len(told) > 1
    orders = running.platform.checkout_store.order_states

    async def all_there() -> bool:
        with suppress(Exception):
            return set(await orders(told)) == set(told)
        return False

    await until(all_there, within_s=60)
    (late,) = await running.fans(1)
    await late.buy(showtime_id, "40-50")


async def _order(running: RunningPlatform, fan: Fan, showtime_id: str) -> tuple[int, str]:
    """Hold a seat and order it once; the status, and the id of an order that was told of."""
    hold = await fan.hold_best(showtime_id, 1)
    if hold.status != 201:
        return hold.status, ""
    order = await fan.order(hold.body["hold_id"])
    return order.status, order.body.get("order_id", "")
