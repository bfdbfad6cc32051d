"""Goal: a primary that dies in a rush costs no order that was acknowledged, and its replica sells on.

Method: a real cluster with replicas, a real rush, SIGKILL. What is measured is what must hold in the end; how
long it takes is bounded generously, because a machine that runs all of this at once is slow.
"""

from __future__ import annotations

import asyncio
import time

from entrypoints.audit import run_audit
from tests.cluster.conftest import a_showtime_on
from tests.cluster.test_selling import HALL, nothing_is_broken, rush, until_seats_left
from tests.support.cluster import Cluster
from tests.support.platform import RunningPlatform
from tests.support.service import Fan

SELLS_AGAIN_WITHIN_S = 60.0
KILLED = 1


async def test_a_primary_killed_in_a_rush_costs_no_order_and_its_replica_sells_on(
    running: RunningPlatform, cluster: Cluster
) -> None:
    hit, spared = await a_showtime_on(running, KILLED, HALL), await a_showtime_on(running, 0, HALL)
    (early, late, other) = await running.fans(3)
    kept = await early.buy(hit, "15-1", "15-2")
    rushing = asyncio.create_task(rush(running, hit, 300, seed=3))
    await until_seats_left(running, hit, 240)

    cluster.kill(KILLED)
    killed_at_s = time.monotonic()
    sold_elsewhere = await _can_be_bought(running, other, spared, "1-1")
    sold_again = await _can_be_bought(running, late, hit, "15-19")
    waited_s = sold_elsewhere - killed_at_s, sold_again - killed_at_s
    print("held elsewhere {:.1f} s, there {:.1f} s after the kill".format(*waited_s))
    report = await rushing

    nothing_is_broken(report)
    assert (await early.call("GET", f"/orders/{kept['order_id']}")).body["state"] == "confirmed"
    audit = await run_audit(running.platform)
    assert audit.ok, [check for check in audit.checks if not check.ok]


async def _can_be_bought(running: RunningPlatform, fan: Fan, showtime_id: str, label: str) -> float:
    """Try to hold a seat until it is held; when that was."""
    deadline_s = time.monotonic() + SELLS_AGAIN_WITHIN_S
    while True:
        hold = await fan.hold(showtime_id, label)
        if hold.status == 201:
            return time.monotonic()
        assert hold.status in {409, 503}, hold.body
        assert time.monotonic() < deadline_s, hold.body
        await asyncio.sleep(0.1)
