"""Goal: the same code sells on a cluster: wherever a showtime's seats lie, and while they move.

Method: three real primaries with a replica each, the whole platform on them. Slots are moved, and primaries
killed, with the commands and signals an operator's tool or a power cut would send, in the middle of a rush.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from entrypoints.audit import run_audit
from entrypoints.rush import rehearse
from kernel.ids import partition_of
from loadtest.rush import Report, RushPlan
from reservation import log_key
from runtime.redis_link.slots import slot_of
from tests.cluster.conftest import a_showtime_on, primary_of
from tests.support.cluster import PRIMARIES, Cluster
from tests.support.platform import RunningPlatform

HALL = "\n".join(",".join(f"{row}-{seat}" for seat in range(1, 21)) for row in range(1, 16))


@pytest.mark.parametrize("number", range(PRIMARIES))
async def test_a_ticket_is_bought_and_given_back_on_every_primary(
    running: RunningPlatform, number: int
) -> None:
    showtime_id = await a_showtime_on(running, number, HALL)
    (fan,) = await running.fans(1)

    order = await fan.buy(showtime_id, "1-1", "1-2")
    await running.seats_left(showtime_id, 298)
    refund = await fan.call("POST", f"/orders/{order['order_id']}/refunds", {})

    assert primary_of(showtime_id) == number
    assert refund.status in {201, 202}, refund.body
    await fan.order_in(order["order_id"], "refunded")
    await running.seats_left(showtime_id, 300)
    assert (await run_audit(running.platform)).ok


async def rush(running: RunningPlatform, showtime_id: str, fans: int, seed: int) -> Report:
    plan = RushPlan(fans, seed=seed)
    return await rehearse(running.platform, running.base_url, plan, showtime_id, None, board=False)


async def _in_the_middle(
    running: RunningPlatform, showtime_id: str, act: Callable[[], Awaitable[None]], *, seed: int
) -> Report:
    """A rush, and what happens once a fifth of its seats are gone."""
    rushing = asyncio.create_task(rush(running, showtime_id, 400, seed))
    await until_seats_left(running, showtime_id, 240)
    await act()
    return await rushing


async def until_seats_left(running: RunningPlatform, showtime_id: str, most: int) -> None:
    """Wait until the map shows that few. In a rush a map may also be refused for a while."""
    while (await running.seats(showtime_id)).get("seats_left", most + 1) > most:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def nothing_is_broken(report: Report) -> None:
    verdict = report.verdict
    assert (verdict.sold_twice, verdict.missing, verdict.changed) == ([], [], [])
    assert (verdict.not_on_map, verdict.impossible) == ([], [])
    assert report.audit.ok, report.audit.broken


async def test_a_rush_sells_a_hall_out_and_the_audit_agrees(running: RunningPlatform) -> None:
    report = await rush(running, await a_showtime_on(running, 1, HALL), 400, seed=1)

    nothing_is_broken(report)
    assert report.exit_code == 0
    assert report.sold == 300


async def test_a_slot_that_moves_in_a_rush_loses_nothing_and_sells_nothing_twice(
    running: RunningPlatform, cluster: Cluster
) -> None:
    showtime_id = await a_showtime_on(running, 2, HALL)
    slot = slot_of(log_key(partition_of(showtime_id)))

    async def move() -> None:
        await cluster.begin_move(slot, 2, 0)
        await asyncio.sleep(0.2)
        while await cluster.keys_in(slot, 2):
            await cluster.move_keys(slot, 2, 0, most=1)
        await cluster.end_move(slot, 0)

    report = await _in_the_middle(running, showtime_id, move, seed=2)

    nothing_is_broken(report)
    assert report.exit_code == 0
    assert report.sold == 300
    assert await cluster.keys_in(slot, 0), "the sale did not move"
