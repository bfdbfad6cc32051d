"""Goal: how long a buyer has to pay does not depend on the clock of the worker he meets.

Method: a whole worker beside the shop, on the same engines, whose wall clock is an hour off; holds and orders
are made through it, and the deadline is held against the server's own clock. The control reckons it by the
worker's clock, as one would.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from checkout import OrderService
from checkout.domain import Order
from checkout.schemas import order_bytes
from entrypoints.platform import Platform, platform_for
from kernel import limits
from kernel.clock import SystemClock, from_ms, to_ms
from tests.support.shop import Shop

#: Far more than a slow machine takes between two looks at a clock, far less than the clocks are off.
ABOUT = timedelta(seconds=60)
TO_PAY = timedelta(milliseconds=limits.claim_ttl_ms)

off = pytest.mark.parametrize("hours", [1, -1], ids=["an hour fast", "an hour slow"])


class WrongClock(SystemClock):
    """Runs well and was set badly."""

    def __init__(self, hours: int) -> None:
        self._off = timedelta(hours=hours)

    def now(self) -> datetime:
        return super().now() + self._off


@asynccontextmanager
async def a_worker(shop: Shop, hours: int) -> AsyncIterator[Platform]:
    """One more process of the platform, as far as it sells."""
    async with platform_for(shop.platform.settings, shop.platform.addresses) as worker:
        worker.clock = WrongClock(hours)
        await worker.epoch.refresh()
        worker.commits.start()
        try:
            yield worker
        finally:
            await worker.commits.close()


async def order_through(shop: Shop, worker: Platform, orders: OrderService) -> tuple[Order, timedelta]:
    """An order made there, and how long its buyer has by the server's clock."""
    fan, showtime_id = shop.fan(), await shop.showtime()
    hold = await worker.hold_service.hold_named(fan, showtime_id, ("A1",), "key")
    placed = await shop.writing(orders.place(fan, hold.hold_id, shop.request(fan), order_bytes))
    seconds, microseconds = await shop.redis.time()
    return placed.order, placed.order.pay_by - from_ms(seconds * 1_000 + microseconds // 1_000)


@off
async def test_a_buyer_has_as_long_to_pay_through_a_worker_whose_clock_is_wrong(
    shop: Shop, hours: int
) -> None:
    async with a_worker(shop, hours) as worker:
        order, left = await order_through(shop, worker, worker.orders)
    assert TO_PAY - ABOUT < left <= TO_PAY
    assert (await shop.find(order.order_id)).pay_by == order.pay_by
    await shop.platform.completers.expire_orders()
    assert await shop.state(order.order_id) == "pending_payment"


async def test_a_worker_that_has_read_no_clock_looks_once_and_then_knows(shop: Shop) -> None:
    showtime_id = await shop.showtime()
    async with a_worker(shop, 1) as worker:
        await shop.redis.config_resetstat()
        readings = [await worker.inventory.now_ms(showtime_id) for _ in range(5)]
        stats: Any = await shop.redis.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 1
    assert readings == sorted(readings)


@off
async def test_a_page_to_pay_on_closes_by_postgresqls_clock(shop: Shop, hours: int) -> None:
    """By the worker's, an hour slow, it would close too late, and an hour fast it would not open."""
    fan = shop.fan()
    order_id = await shop.order(fan, await shop.showtime(), "A1")
    pay_by = (await shop.find(order_id)).pay_by
    async with a_worker(shop, hours) as worker:
        worker.gateways = shop.platform.gateways
        request = shop.request(fan)
        payment = await worker.payments.open(fan, order_id, "paper", None, request, lambda _: b"{}")
        closes_at = shop.gateway.sessions[payment.payment_id].expires_at
        assert pay_by - closes_at == timedelta(seconds=120)
        await shop.sql("UPDATE checkout.orders SET pay_by = now() + interval '4 minutes'")
        again = shop.request(fan)
        payment = await worker.payments.open(fan, order_id, "paper", None, again, lambda _: b"{}")
    left = (await shop.find(order_id)).pay_by - shop.gateway.sessions[payment.payment_id].expires_at
    assert timedelta(0) < left <= timedelta(seconds=60), "a quarter of what was left"


@off
async def test_reckoned_by_its_own_clock_he_would_have_none_or_an_hour_more(shop: Shop, hours: int) -> None:
    """The control."""
    async with a_worker(shop, hours) as worker:

        async def wall_clock_ms(_: str) -> int:
            return to_ms(worker.clock.now())

        orders = OrderService(
            worker.checkout_store,
            worker.hold_service,
            worker.inventory,
            worker.commits,
            worker.programme.prices_of,
            lambda _: max(worker.scripts.epochs),
            wall_clock_ms,
            claim_ttl_ms=limits.claim_ttl_ms,
        )
        order, left = await order_through(shop, worker, orders)
    assert abs(left - TO_PAY) > timedelta(minutes=50)
    await shop.platform.completers.expire_orders()
    assert await shop.state(order.order_id) == ("pending_payment" if hours > 0 else "expired")
