"""Goal: how long a buyer has to pay does not depend on the clock of the worker he meets; and no clock that
leaps, of whomever, ends or throws away what is young by another one.

Method: a whole worker beside the shop, on the same engines, whose wall clock is an hour off; holds and orders
are made through it, and the deadline is held against the server's own clock. The control reckons it by the
worker's clock, as one would. PostgreSQL's clock is turned for whoever finds another `now()` before its own;
the control turns the worker's as far. Money is asked back half an hour before and after a showtime begins.
To a Redis whose clock has leapt its entries are of yesterday.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from checkout import OrderService, OrderWriter, WriterStore, errors
from checkout.domain import Order
from checkout.entries import encode
from checkout.schemas import order_bytes, refund_bytes
from checkout.writer import loop
from entrypoints.platform import Platform, platform_for
from kernel import limits
from kernel.clock import SystemClock, from_ms, to_ms
from kernel.ids import new_showtime_id, partition_of
from reservation import keys_of, log_key
from tests.support.shop import Shop, claim_of, until

#: Far more than a slow machine takes between two looks at a clock, far less than the clocks are off.
ABOUT = timedelta(seconds=60)
TO_PAY = timedelta(milliseconds=limits.claim_ttl_ms)

off = pytest.mark.parametrize("hours", [1, -1], ids=["an hour fast", "an hour slow"])


class WrongClock(SystemClock):
    """Runs well and was set badly."""

    def __init__(self, hours: float) -> None:
        self._off = timedelta(hours=hours)

    def now(self) -> datetime:
        return super().now() + self._off


@asynccontextmanager
async def a_worker(shop: Shop, hours: float, database_url: str | None = None) -> AsyncIterator[Platform]:
    """One more process of the platform, as far as it sells."""
    addresses = shop.platform.addresses
    addresses = replace(addresses, database_url=database_url or addresses.database_url)
    async with platform_for(shop.platform.settings, addresses) as worker:
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
async def test_money_comes_back_until_the_showtime_begins_by_postgresqls_clock(
    shop: Shop, hours: int
) -> None:
    """By the worker's, an hour fast, too little comes back, and an hour slow too much."""
    fan, has_begun = shop.fan(), hours < 0
    starts_at = datetime.now(UTC) + timedelta(minutes=-30 if has_begun else 30)
    order_id = await shop.buy(fan, await shop.showtime(starts_at=starts_at), "A1")
    async with a_worker(shop, hours) as worker:
        assert (worker.clock.now() >= starts_at) != has_begun, "what it would say itself"
        if has_begun:
            with pytest.raises(errors.RefundNotAllowed):
                await worker.refunds.quote(fan, order_id, None)
            with pytest.raises(errors.RefundNotAllowed):
                await worker.refunds.request(fan, order_id, None, shop.request(fan), refund_bytes)
        else:
            await worker.refunds.quote(fan, order_id, None)
            await worker.refunds.request(fan, order_id, None, shop.request(fan), refund_bytes)
    refunds = (await shop.find(order_id)).refunds
    assert [refund.state for refund in refunds] == ([] if has_begun else ["requested"])


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


# PostgreSQL's clock leaps

#: A month: claims are long over then, and what is kept for thirty days is too old.
MONTH_H = 31 * 24

both_or_one = pytest.mark.parametrize(
    ("hours", "ends"), [(0, False), (MONTH_H, True)], ids=["PostgreSQL's only", "ours too (control)"]
)


@pytest.fixture
async def leapt_url(shop: Shop) -> AsyncIterator[str]:
    """The shop's database, for whoever is to find its clock a month ahead."""
    await shop.sql("CREATE SCHEMA leapt")
    await shop.sql(
        "CREATE FUNCTION leapt.now() RETURNS timestamptz STABLE LANGUAGE sql"
        f" AS $$ SELECT pg_catalog.now() + interval '{MONTH_H} hours' $$"
    )
    yield f"{shop.platform.addresses.database_url}?search_path=leapt,pg_catalog,public"
    await shop.sql("DROP SCHEMA leapt CASCADE")


@both_or_one
async def test_a_claim_is_not_over_before_two_clocks_say_so(
    shop: Shop, leapt_url: str, hours: int, ends: bool
) -> None:
    order_id = await shop.order(shop.fan(), await shop.showtime(), "A1")
    async with a_worker(shop, hours, leapt_url) as worker:
        worker.wholeness.trust()
        await worker.completers.expire_orders()
    assert await shop.state(order_id) == ("expired" if ends else "pending_payment")


async def test_a_clock_that_is_a_little_slow_keeps_no_seat_from_sale(shop: Shop) -> None:
    order_id = await shop.order(shop.fan(), await shop.showtime(), "A1")
    await shop.sql("UPDATE checkout.orders SET pay_by = now() WHERE order_id = $1", order_id)
    async with a_worker(shop, -1.9 / 3_600) as worker:
        worker.wholeness.trust()
        await worker.completers.expire_orders()
    assert await shop.state(order_id) == "expired"


@both_or_one
async def test_what_is_kept_thirty_days_is_kept_until_two_clocks_say_they_are_over(
    shop: Shop, leapt_url: str, hours: int, ends: bool
) -> None:
    request = shop.request(shop.fan())
    await shop.store.keep_request_key(request, 201, b"{}")
    await shop.sql("INSERT INTO checkout.awaited_claims VALUES ('ord_awaited', 1, now())")
    async with a_worker(shop, hours, leapt_url) as worker:
        await worker.completers.drop_old_keys()
    assert (await shop.store.find_request_key(request.account_id, request.key) is None) is ends
    for table in ("fence_history", "awaited_claims"):
        assert (await shop.one(f"SELECT count(*) FROM checkout.{table}") == 0) is ends
    await shop.sql("TRUNCATE checkout.awaited_claims")


# The clocks of who keeps the log


@pytest.mark.parametrize(
    ("age_h", "hours", "is_cut"),
    [(0, 25, False), (25, -25, False), (25, 0, True)],
    ids=["the writer's leapt", "the server's leapt", "a day has passed (control)"],
)
async def test_an_entry_is_kept_for_a_day_by_two_clocks(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, age_h: int, hours: int, is_cut: bool
) -> None:
    showtime_id = new_showtime_id()
    key = log_key(partition_of(showtime_id))
    await shop.redis.delete(key)
    await shop.log().ensure_groups()
    seconds, _ = await shop.redis.time()
    for seat in range(2):  # the last one PostgreSQL has is always kept
        entry: dict[Any, Any] = {"kind": "claim", "data": encode(claim_of(showtime_id, seat))}
        await shop.redis.xadd(key, entry, id=f"{(seconds - age_h * 3_600) * 1_000 + seat}-0")
    monkeypatch.setattr(loop, "TRIM_INTERVAL_S", 0.0)
    log = shop.log()
    trim, cuts = log.trim, list[int]()

    async def counted(*words: Any) -> int:
        cuts.append(await trim(*words))
        return cuts[-1]

    monkeypatch.setattr(log, "trim", counted)
    writer = OrderWriter(log, WriterStore(shop.platform.database), WrongClock(hours))
    writing = asyncio.create_task(writer.run())
    await until(lambda: asyncio.sleep(0, len(cuts) > 2))
    writing.cancel()
    await asyncio.wait([writing])
    assert await shop.redis.xlen(key) == (1 if is_cut else 2)


# The clock of who makes maps anew


@off
async def test_how_long_a_hold_is_called_lost_is_reckoned_by_the_server_that_judges_it(
    shop: Shop, hours: int
) -> None:
    showtime_id = await shop.showtime()
    async with a_worker(shop, hours) as worker:
        await worker.rebuilder.rebuild("a wrong clock")
    await shop.platform.epoch.refresh()
    seconds, _ = await shop.redis.time()
    until_ms = int(await shop.redis.hget(keys_of(showtime_id).showtime, "losses_until_ms"))  # type: ignore[misc]
    left = timedelta(milliseconds=until_ms - seconds * 1_000)
    assert abs(left - timedelta(milliseconds=limits.hold_lifetime_ms_max)) < ABOUT
