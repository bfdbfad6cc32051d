"""Goal: whatever is lawful is passed, however odd it looks in one store at one moment.

Method: a life of every kind of order, a platform caught in the middle of each step because the role that
would do the next one is held still, a Redis that lost everything, and engines that are away.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from entrypoints.audit import run_audit
from entrypoints.audit.records import SQL
from kernel.errors import NotFound, PersistenceUnavailable, SeatsUnavailable
from kernel.ids import hold_id_of, new_showtime_id
from reservation import keys_of
from tests.integration.audit.scenes import broken, counted, expired, sold
from tests.support.engines import DatabaseMaker
from tests.support.platform import RunningPlatform, migrated, run_platform
from tests.support.shop import until

_BOTH_REFUNDED = "SELECT count(*) = 2 FROM checkout.refunds WHERE state = 'completed'"


async def test_an_empty_platform_keeps_every_promise(running: RunningPlatform) -> None:
    seen = await counted(running)
    assert seen["epochs_agree"] == 64
    assert seen["order_log_is_written"] == 64
    assert seen["seat_maps_agree"] == 0


async def test_every_kind_of_order_together_keeps_every_promise(running: RunningPlatform) -> None:
    running.start("reaper")
    showtime_id = await running.add_showtime(seats_per_buyer=30)
    await running.platform.sales.block(showtime_id, ["H11", "H12"])
    fans = await running.fans(3)
    await fans[0].buy(showtime_id, "A1", "A2")
    back = await fans[0].buy(showtime_id, "A3")
    await fans[0].call("POST", f"/orders/{back['order_id']}/refunds", {})
    await fans[0].order_in(back["order_id"], "refunded")
    await fans[1].hold(showtime_id, "B1", "B2")
    await fans[1].order((await fans[1].hold(showtime_id, "C1", "C2")).body["hold_id"])
    declined = await fans[1].order((await fans[1].hold(showtime_id, "D1")).body["hold_id"])
    await fans[1].pay(declined.body["order_id"], "decline")
    await fans[1].call("DELETE", f"/holds/{(await fans[1].hold(showtime_id, 'D5')).body['hold_id']}")
    await expired(running, showtime_id, fans[2], "E1", "E2")
    twice = await fans[2].order((await fans[2].hold(showtime_id, "F1")).body["hold_id"])
    payments = [(await fans[2].open_payment(twice.body["order_id"])).body for _ in range(2)]
    for payment in payments:
        await running.decide(payment["next"]["test"]["url"], "duplicate")
    await fans[2].order_in(twice.body["order_id"], "confirmed")
    await running.seats_left(showtime_id, 80 - 2 - 2 - 2 - 2 - 1 - 1)
    await until(lambda: running.platform.database.fetchval(_BOTH_REFUNDED))
    seen = await counted(running)
    assert seen["no_seat_has_two_owners"] > 0
    assert seen["holds_end"] > 0
    assert seen["gateway_books_agree"] == 4 + 2, "captures and refunds"
    assert seen["money_has_a_home"] >= 4
    assert await broken(running, showtime_id) == {}


async def test_one_showtime_can_be_looked_at_alone(running: RunningPlatform) -> None:
    good, bad = await sold(running), await running.add_showtime()
    await running.redis.setbit(keys_of(bad).taken, 7, 1)
    assert await broken(running, good.showtime_id) == {}
    assert (await broken(running, bad)).keys() == {"seat_maps_agree"}
    with pytest.raises(NotFound):
        await run_audit(running.platform, showtime_id=new_showtime_id())


async def test_a_claim_on_its_way_to_postgresql_is_lawful(running: RunningPlatform) -> None:
    showtime_id = await running.add_showtime()
    (fan,) = await running.fans(1)
    await running.stop("writer")
    placed = await fan.order((await fan.hold(showtime_id, "A1")).body["hold_id"])
    assert (placed.status, placed.body["state"]) == (202, "claiming")
    assert await broken(running) == {}


async def test_a_sale_on_its_way_to_postgresql_is_lawful(running: RunningPlatform) -> None:
    showtime_id = await running.add_showtime()
    (fan,) = await running.fans(1)
    order = await fan.order((await fan.hold(showtime_id, "A1")).body["hold_id"])
    await running.stop("writer")
    await fan.pay(order.body["order_id"])
    await fan.order_in(order.body["order_id"], "paid")
    assert await broken(running) == {}


async def test_seats_given_up_and_not_yet_freed_are_lawful(running: RunningPlatform) -> None:
    scene = await sold(running)
    assert (await scene.fan.call("POST", f"/orders/{scene.order_id}/refunds", {})).status == 202
    assert await broken(running) == {}
    await running.platform.completers.free_seats()
    assert (await running.seats(scene.showtime_id))["seats_left"] == 80
    assert await broken(running) == {}


async def test_time_without_postgresql_is_held_against_nobody(running: RunningPlatform) -> None:
    """After an outage of an hour everything is overdue, and nobody had a chance to do anything about it."""
    scene = await sold(running)
    assert (await scene.fan.call("POST", f"/orders/{scene.order_id}/refunds", {})).status == 202
    await scene.sql(
        "UPDATE checkout.orders SET pay_by = now() - interval '1 hour',"
        " seats_given_up_at = now() - interval '1 hour'"
    )
    await scene.sql("UPDATE checkout.refunds SET requested_at = now() - interval '1 hour'")
    up_s = await scene.value("SELECT extract(epoch FROM now() - pg_postmaster_start_time())::float8")
    ages = dict.fromkeys(("claim_s", "freeing_s", "money_s", "asked_s", "log_s", "news_s"), up_s + 60.0)
    assert await broken(running, **ages) == {}
    assert (await broken(running, freeing_s=1.0, asked_s=1.0)).keys() == {"holds_end", "money_has_a_home"}


async def test_a_hold_just_past_its_time_is_lawful(running: RunningPlatform) -> None:
    showtime_id = await running.add_showtime()
    await running.platform.inventory.hold(
        showtime_id, hold_id_of(f"ord_{showtime_id[4:]}{'0' * 16}"), "acc_late", [3], ttl_ms=1
    )
    await asyncio.sleep(0.01)
    assert await broken(running) == {}
    assert (await broken(running, hold_s=0.0)).keys() == {"holds_end"}


async def test_a_late_payment_whose_seats_are_taken_again_is_lawful(running: RunningPlatform) -> None:
    showtime_id = await running.add_showtime()
    (fan,) = await running.fans(1)
    order = await fan.order((await fan.hold(showtime_id, "A1", "A2")).body["hold_id"])
    order_id = order.body["order_id"]
    payment = (await fan.open_payment(order_id)).body
    await running.platform.database.execute("UPDATE checkout.orders SET pay_by = now() - interval '1 second'")
    await fan.order_in(order_id, "expired")
    await running.seats_left(showtime_id, 80)
    await running.stop("writer", "completers")
    await running.decide(payment["next"]["test"]["url"], "late")
    await fan.order_in(order_id, "paid")
    assert await broken(running) == {}, "its sale is on the log"
    running.start("writer")
    await fan.order_in(order_id, "confirmed")
    assert await broken(running) == {}


async def test_a_late_payment_whose_seats_are_gone_is_lawful(running: RunningPlatform) -> None:
    showtime_id = await running.add_showtime()
    fan, other = await running.fans(2)
    order = await fan.order((await fan.hold(showtime_id, "A1", "A2")).body["hold_id"])
    order_id = order.body["order_id"]
    payment = (await fan.open_payment(order_id)).body
    await running.platform.database.execute("UPDATE checkout.orders SET pay_by = now() - interval '1 second'")
    await fan.order_in(order_id, "expired")
    await running.seats_left(showtime_id, 80)
    await other.buy(showtime_id, "A2")
    await running.stop("completers")
    await running.decide(payment["next"]["test"]["url"], "late")
    await fan.order_in(order_id, "cancelled")
    assert await broken(running) == {}, "its refund has not been sent"
    running.start("completers")
    await _refunded(running, order_id)
    assert await broken(running) == {}


async def _refunded(running: RunningPlatform, order_id: str) -> None:
    for _ in range(300):
        state: Any = await running.platform.database.fetchval(
            "SELECT state FROM checkout.refunds WHERE order_id = $1", order_id
        )
        if state == "completed":
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the refund did not arrive")


async def test_after_redis_lost_everything_and_was_rebuilt_every_promise_holds(
    running: RunningPlatform,
) -> None:
    scene = await sold(running)
    await running.redis.flushall()
    assert (await broken(running, rebuild_s=0.0)).keys() == {"epochs_agree", "order_log_is_written"}
    await running.platform.rebuilder.rebuild("test")
    running.start("writer", "completers")
    await scene.fan.buy(scene.showtime_id, "B1")
    await asyncio.sleep(0.6)
    assert await broken(running) == {}


async def test_a_gateway_that_is_away_is_not_held_against_anybody(
    valkey_url: str, make_database: DatabaseMaker, tmp_path: Path
) -> None:
    async with run_platform(valkey_url, await make_database(migrated), tmp_path) as running:
        await sold(running)
        platform, away = running.platform, "http://127.0.0.1:9"
        addresses = platform.addresses
        for url in (away, None):
            platform.addresses = type(addresses)(addresses.redis_url, addresses.database_url, url)
            report = await run_audit(platform)
            books = next(check for check in report.checks if check.name == "gateway_books_agree")
            assert (report.ok, books.ok, books.counted) == (True, True, 0)


@pytest.mark.parametrize(
    ("gone", "refusal"), [("redis_url", SeatsUnavailable), ("database_url", PersistenceUnavailable)]
)
async def test_an_engine_that_is_away_is_no_broken_promise(
    running: RunningPlatform, gone: str, refusal: type[Exception]
) -> None:
    addresses = running.platform.addresses
    known = {"redis_url": addresses.redis_url, "database_url": addresses.database_url, "gateway_url": None}
    nowhere = {"redis_url": "redis://127.0.0.1:9/0", "database_url": "postgresql://nobody@127.0.0.1:9/none"}
    running.platform.addresses = type(addresses)(**{**known, gone: nowhere[gone]})
    with pytest.raises(refusal):
        await run_audit(running.platform)


async def test_every_named_statement_fits_the_schema(running: RunningPlatform) -> None:
    async with running.platform.database.connection() as connection:
        for statement in SQL.values():
            await connection.prepare(statement)
