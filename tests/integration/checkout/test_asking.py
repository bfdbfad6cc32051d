"""Goal: who was told to ask a gateway asks it, and nobody looks at what was asked about for the last time.

Method: payments fail and are asked about until that is enough; then PostgreSQL is asked how many of them the
next look goes through, and the control is the same look without saying so. A look at those that failed takes
too long, every time; the control is both looks in one job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from checkout import store
from checkout.completers import Completers
from checkout.domain import Payment
from kernel import limits
from kernel.errors import PersistenceUnavailable
from tests.support.shop import Shop, until

PAY_BY_S = limits.claim_ttl_ms / 1_000
MANY = 120
_ONE_AS_OFTEN = """
INSERT INTO checkout.payments (payment_id, order_id, gateway, state, amount, currency, created_at)
SELECT payment_id || n, order_id, gateway, state, amount, currency, created_at
FROM checkout.payments, generate_series(1, $2::int) AS n WHERE payment_id = $1::text
"""
_WAS_ASKED = "SELECT asked_at IS NOT NULL FROM checkout.payments WHERE payment_id = $1"
_ASK_FAILED = store._SQL["failed_payments_to_ask"]


async def a_payment(shop: Shop) -> tuple[str, str]:
    """Order and payment, ready to be paid."""
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    order_id = await shop.order(fan, showtime_id, f"{row}5")
    return order_id, await shop.open_payment(fan, order_id)


async def looked_at(shop: Shop, statement: str) -> int:
    """How many payments a look goes through to find none that is due."""
    (plan,) = await shop.one(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
    return sum(
        int(node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
        for node in _nodes(plan["Plan"])
        if node.get("Relation Name") == "payments" and "Scan" in node["Node Type"]
    )


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


async def test_who_asks_about_failed_payments_looks_at_none_that_was_asked_about_for_the_last_time(
    shop: Shop,
) -> None:
    await shop.tidy()
    _, payment_id = await a_payment(shop)
    await shop.deliver(shop.gateway.decline(payment_id))
    await shop.sql(_ONE_AS_OFTEN, payment_id, MANY - 1)
    await shop.time_passes(PAY_BY_S + 16 * 60)
    asked: set[str] = set()
    while found := await shop.store.failed_payments_to_ask():
        asked |= {payment.payment_id for payment in found}
    assert len(asked) == MANY
    await shop.time_passes(700)
    assert await looked_at(shop, _ASK_FAILED) == 0
    assert await looked_at(shop, _ASK_FAILED.replace(" AND NOT asked_enough", "")) > 0


async def test_a_failed_payment_is_asked_about_as_long_as_a_second_card_may_be_taken(shop: Shop) -> None:
    _, payment_id = await a_payment(shop)
    await shop.deliver(shop.gateway.decline(payment_id))
    enough = "SELECT asked_enough FROM checkout.payments WHERE payment_id = $1"
    asked_until_s = 0
    for passed_s in range(0, int(PAY_BY_S) + 20 * 60, 61):
        found = await shop.store.failed_payments_to_ask()
        if payment_id in {payment.payment_id for payment in found}:
            assert asked_until_s in {0, passed_s - 61}, "without a gap"
            asked_until_s = passed_s
        assert await shop.one(enough, payment_id) == (passed_s >= PAY_BY_S + 14 * 60 - 1)
        await shop.time_passes(61)
    assert PAY_BY_S + 14 * 60 <= asked_until_s <= PAY_BY_S + 15 * 60


async def _stopped(running: asyncio.Task[None]) -> None:
    while not running.done():
        running.cancel()
        await asyncio.wait([running], timeout=0.2)


async def _in_one_job(completers: Completers) -> int:
    waiting = await completers._store.payments_to_ask()
    waiting += await completers._store.failed_payments_to_ask()
    await completers._each(waiting, "ask_payments", completers._payments.ask)
    return len(waiting)


@pytest.mark.parametrize(
    ("job", "finds_out"), [(None, True), (_in_one_job, False)], ids=["two jobs", "the control: one job"]
)
async def test_open_payments_are_asked_about_though_a_look_at_those_that_failed_takes_too_long(
    shop: Shop,
    monkeypatch: pytest.MonkeyPatch,
    job: Callable[[Completers], Awaitable[int]] | None,
    finds_out: bool,
) -> None:
    await shop.tidy()
    order_id, payment_id = await a_payment(shop)
    await shop.platform.wholeness.look()  # or the gateway's books tell before anybody asks
    shop.gateway.capture(payment_id)
    await shop.time_passes(4)
    looked = asyncio.Event()

    async def takes_too_long() -> list[Payment]:
        looked.set()
        raise PersistenceUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(shop.store, "failed_payments_to_ask", takes_too_long)
        if job is not None:
            patch.setattr(Completers, "ask_payments", job)
        running = asyncio.create_task(shop.platform.completers.run())
        await asyncio.wait_for(looked.wait(), 5)
        await until(lambda: shop.one(_WAS_ASKED, payment_id))
        await asyncio.sleep(0.1)
        found_out = await shop.state(order_id) != "pending_payment"
        await _stopped(running)
    assert found_out == finds_out
    await shop.time_passes(100)
    await shop.settle()
    assert await shop.state(order_id) == "confirmed"


async def test_failed_payments_are_asked_about_by_the_jobs_that_go_round(shop: Shop) -> None:
    """Comparing the books finds the second card, too, but who only told us of a failure is asked."""
    order_id, payment_id = await a_payment(shop)
    await shop.deliver(shop.gateway.decline(payment_id))
    shop.gateway.capture(payment_id)
    await shop.time_passes(4)
    running = asyncio.create_task(shop.platform.completers.run())
    await until(lambda: shop.one(_WAS_ASKED, payment_id))
    await _stopped(running)
    await shop.time_passes(100)
    await shop.settle()
    assert await shop.state(order_id) == "confirmed"
