"""Goal: an audit during a sale says nothing that is not so, whatever is half done at that moment.

Method: a crowd that holds, orders, pays, declines, loses webhooks, pays late, gives back and walks away, on
holds and claims that live for seconds, with every role running; meanwhile one audit after the other, with
the patience of production. Once in quiet waters, once while the seat maps are rebuilt under everybody's
feet and Redis loses everything. The control plants one seat that is taken for nothing in the middle of it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from entrypoints.audit import AuditReport, run_audit
from reservation import keys_of
from tests.support.engines import DatabaseMaker
from tests.support.platform import RunningPlatform, migrated, run_platform
from tests.support.service import Fan

HALL: Final = "\n".join(",".join(f"{row}{seat}" for seat in range(1, 31)) for row in "ABCDEFGHIJKLMNOPQRST")
FANS: Final = 24
SECONDS: Final = 5.0
OUTCOMES: Final = (
    "approve",
    "approve",
    "approve",
    "duplicate",
    "decline",
    "lose",
    "reorder",
    "delay:0.2",
    "late",
)


@pytest.fixture
async def busy(
    valkey_url: str, make_database: DatabaseMaker, tmp_path: Path
) -> AsyncIterator[RunningPlatform]:
    async with run_platform(
        valkey_url,
        await make_database(migrated),
        tmp_path,
        roles=("writer", "completers", "reaper"),
        hold_ttl_ms=1_000,
        claim_ttl_ms=2_000,
    ) as running:
        yield running


async def _visit(fan: Fan, showtime_id: str, dice: random.Random, did: Counter[str]) -> None:
    """One fan's try, which may end anywhere."""
    hold = await fan.hold_best(showtime_id, dice.randint(1, 4))
    did[f"hold {hold.status}"] += 1
    if hold.status != 201:
        await asyncio.sleep(0.05)
        return
    walks_away = dice.random()
    if walks_away < 0.1:
        await fan.call("DELETE", f"/holds/{hold.body['hold_id']}")
    if walks_away < 0.2:
        return
    order = await fan.order(hold.body["hold_id"])
    did[f"order {order.status}"] += 1
    if order.status != 201 or dice.random() < 0.1:
        return
    order_id = order.body["order_id"]
    payment = await fan.open_payment(order_id)
    did[f"payment {payment.status}"] += 1
    if payment.status != 201:
        return
    outcome = dice.choice(OUTCOMES)
    if outcome == "late":
        await asyncio.sleep(2.2)
    test_url = payment.body["next"]["test"]["url"]
    await fan.service.request("POST", test_url, json_body={"outcome": outcome})
    if dice.random() < 0.4:
        await asyncio.sleep(0.5)
        refund = await fan.call("POST", f"/orders/{order_id}/refunds", {})
        did[f"refund {refund.status}"] += 1


@asynccontextmanager
async def _crowd(running: RunningPlatform, showtimes: int) -> AsyncIterator[tuple[list[str], Counter[str]]]:
    """A crowd at the doors of some showtimes, until the block ends."""
    showtime_ids = [await running.add_showtime(HALL, seats_per_buyer=1_000) for _ in range(showtimes)]
    did: Counter[str] = Counter()
    closed = asyncio.Event()

    async def come_again(fan: Fan, seed: int) -> None:
        dice = random.Random(seed)
        while not closed.is_set():
            await _visit(fan, dice.choice(showtime_ids), dice, did)

    fans = await running.fans(FANS)
    visits = [asyncio.create_task(come_again(fan, seed)) for seed, fan in enumerate(fans)]
    try:
        yield showtime_ids, did
    finally:
        closed.set()
        await asyncio.gather(*visits)


async def _audits(running: RunningPlatform, seconds: float) -> list[AuditReport]:
    """One audit after the other."""
    reports = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        reports.append(await run_audit(running.platform))
    return reports


def _alarms(reports: list[AuditReport]) -> list[str]:
    return [
        f"{check.name}: {check.offender}" for report in reports for check in report.checks if not check.ok
    ]


async def test_audits_during_a_sale_find_nothing(busy: RunningPlatform) -> None:
    async with _crowd(busy, showtimes=3) as (_, did):
        reports = await _audits(busy, SECONDS)
    assert did["order 201"] > 50, did
    assert did["refund 202"] > 0, did
    assert _alarms(reports) == []
    await asyncio.sleep(1.0)
    assert _alarms([await run_audit(busy.platform)]) == []


async def test_audits_while_redis_is_lost_and_rebuilt_find_nothing(busy: RunningPlatform) -> None:
    async with _crowd(busy, showtimes=3) as (_, did):
        auditing = asyncio.create_task(_audits(busy, SECONDS))
        await asyncio.sleep(1.0)
        await busy.platform.rebuilder.rebuild("test")
        await asyncio.sleep(1.0)
        await busy.redis.flushall()
        reports = await auditing
    assert did["order 201"] > 20, did
    assert did["hold 503"] > 0, did
    assert _alarms(reports) == []


async def test_a_broken_promise_is_found_in_the_middle_of_a_sale(busy: RunningPlatform) -> None:
    async with _crowd(busy, showtimes=1) as ((showtime_id,), did):
        await asyncio.sleep(1.0)
        taken = await busy.redis.get(keys_of(showtime_id).taken)
        seat = max(seat for seat in range(600) if not taken[seat >> 3] & (0x80 >> (seat & 7)))
        await busy.redis.setbit(keys_of(showtime_id).taken, seat, 1)
        report = await run_audit(busy.platform)
    assert did["order 201"] > 5, did
    assert _alarms([report]) == [f"seat_maps_agree: {showtime_id}: seat {seat} is taken without a reason"]
