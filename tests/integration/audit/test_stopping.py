"""Goal: what the audit finds stops the sale of its showtime, whatever it is, and no other sale.

Method: a showtime with something sold is broken by hand as in `test_seats_broken`, beside one that is sound;
what comes of it is asked for over HTTP, like a fan does. The control is the same scene without the stop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entrypoints.audit import AuditReport, run_audit
from entrypoints.audit.findings import CHECKS, STOPPING
from entrypoints.audit.stopping import Stop, stop_sales, to_stop
from entrypoints.platform import Addresses, Platform, platform_for
from kernel.ids import new_hold_id
from loadtest.histories import Operation
from reservation import keys_of
from reservation.packing import pack_numbers
from tests.integration.audit.scenes import QUICK, Sold, sell_again_for_nothing, sold
from tests.support.contract import refused
from tests.support.engines import DatabaseMaker, temporary_data_dir, valkey_engine
from tests.support.inventories import tail_of
from tests.support.platform import RunningPlatform, migrated, run_platform

PATIENCE = replace(QUICK, money_s=1.0)
NOWHERE = {"redis_url": "redis://127.0.0.1:9/0", "database_url": "postgresql://nobody@127.0.0.1:9/none"}

Harm = Callable[[Sold], Awaitable[Any]]


@pytest.fixture
async def scene(running: RunningPlatform) -> Sold:
    return await sold(running)


async def found(scene: Sold) -> AuditReport:
    return await run_audit(scene.running.platform, patience=PATIENCE)


async def stopped(scene: Sold, report: AuditReport | None = None) -> list[Stop]:
    return await stop_sales(scene.running.platform, report or await found(scene))


async def phase(scene: Sold) -> str:
    statement = "SELECT phase FROM reservation.inventories WHERE showtime_id = $1"
    return str(await scene.value(statement, scene.showtime_id))


async def take_bit(scene: Sold) -> None:
    """The map offers a seat that is sold."""
    await scene.redis.setbit(scene.keys.taken, 0, 0)


async def give_bit_back(scene: Sold) -> None:
    await scene.redis.setbit(scene.keys.taken, 0, 1)


@pytest.mark.parametrize("harm", [sell_again_for_nothing, take_bit], ids=["in PostgreSQL", "on the map"])
async def test_where_a_seat_is_sold_twice_nobody_is_given_another_and_the_next_hall_sells_on(
    scene: Sold, harm: Harm
) -> None:
    elsewhere = await scene.running.add_showtime()
    await harm(scene)
    (stop,) = await stopped(scene)
    assert (stop.showtime_id, stop.outcome, stop.detail) == (scene.showtime_id, "paused", None)
    assert stop.is_done
    refused(await scene.fan.hold(scene.showtime_id, "C1"), 409, "sale_not_open")
    scene.running.start("writer", "completers")
    await scene.fan.buy(elsewhere, "C1")


@pytest.mark.parametrize("harm", [sell_again_for_nothing, take_bit], ids=["in PostgreSQL", "on the map"])
async def test_without_the_stop_it_sells_on(scene: Sold, harm: Harm) -> None:
    await harm(scene)
    assert not (await found(scene)).ok
    assert (await scene.fan.hold(scene.showtime_id, "C1")).status == 201


async def test_what_was_held_before_becomes_an_order_and_a_ticket(scene: Sold) -> None:
    """The stop is a pause like any other: who has seats keeps them."""
    hold = await scene.fan.hold(scene.showtime_id, "C1", "C2")
    await take_bit(scene)
    await stopped(scene)
    scene.running.start("writer", "completers")
    order = await scene.fan.order(hold.body["hold_id"])
    await scene.fan.pay(order.body["order_id"])
    await scene.fan.order_in(order.body["order_id"], "confirmed")


async def test_a_house_seat_half_blocked_by_a_crash_is_named_and_nobody_elses_seat_goes_off_sale(
    scene: Sold,
) -> None:
    await block_half(scene)
    report = await found(scene)
    (check,) = [one for one in report.checks if not one.ok]
    assert (check.name, check.showtimes) == ("seats_off_sale_have_a_reason", [scene.showtime_id])
    assert await stopped(scene, report) == []
    refused(await scene.fan.hold(scene.showtime_id, "E1"), 409, "seat_taken")
    assert (await scene.fan.hold(scene.showtime_id, "C1")).status == 201
    await scene.running.platform.sales.unblock(scene.showtime_id, ["E1"])
    assert (await found(scene)).ok


# Which promises stop a sale


def sql(statement: str) -> Harm:
    return lambda scene: scene.sql(statement)


async def forget_an_end(scene: Sold) -> None:
    await scene.fan.hold(scene.showtime_id, "C1")
    await scene.redis.delete(scene.keys.expiry)


async def hold_a_sold_seat(scene: Sold) -> None:
    """A second hold of a seat on the map, whole in every other way."""
    later_ms, tail = 2_000_000_000_000, tail_of(new_hold_id(scene.showtime_id))
    packed = b"h" + later_ms.to_bytes(6) + (1).to_bytes(6) + b"\x01" + pack_numbers([1]) + b"acc_other"
    await scene.redis.hset(scene.keys.showtime, mapping={tail: packed, "acc_other": 1})
    await scene.redis.zadd(scene.keys.expiry, {tail: later_ms})


async def block_half(scene: Sold) -> None:
    """Whoever kept a house seat from sale ended before PostgreSQL knew it."""
    await scene.running.platform.inventory.block(scene.showtime_id, [40])


HARMS: dict[str, Harm] = {
    "no_seat_has_two_owners": hold_a_sold_seat,
    "every_order_has_all_its_seats": sql("UPDATE checkout.order_lines SET amount = amount + 1"),
    "confirmed_orders_have_tickets": sql("DELETE FROM checkout.tickets WHERE seat_index = 1"),
    "nobody_exceeds_the_limit": lambda scene: scene.redis.hincrby(
        scene.keys.showtime, scene.fan.account_id, 1
    ),
    "seat_maps_agree": take_bit,
    "terms_agree": lambda scene: scene.redis.hset(scene.keys.showtime, "buyer_seats_max", 77),
    "seats_off_sale_have_a_reason": block_half,
    "holds_end": forget_an_end,
    "ledger_balances": sql(
        "INSERT INTO checkout.ledger_entries (transaction_id, line, account, amount, currency, order_id)"
        " SELECT 'sale:nothing', line, 'tickets_sold', 3 - 2 * line, 'CNY', order_id"
        " FROM checkout.orders, generate_series(1, 2) AS line"
    ),
    "money_has_a_home": sql(
        "INSERT INTO checkout.payments"
        " (payment_id, order_id, gateway, state, amount, currency, created_at)"
        " SELECT 'pay_lost', order_id, 'other', 'unknown', total, 'CNY', now() - interval '1 hour'"
        " FROM checkout.orders"
    ),
    "states_are_legal": sql("UPDATE checkout.orders SET seats_freed_at = now()"),
    "one_effect_per_event": sql("UPDATE checkout.gateway_events SET outcome = NULL"),
    "dead_letters_are_accounted_for": sql(
        "INSERT INTO checkout.dead_letters (partition, log_id, kind, data, reason)"
        " VALUES (7, '5-1', 'unknown', 'what is this', 'undecodable')"
    ),
    "order_log_is_written": sql("UPDATE checkout.writer_positions SET log_id = '9999999999999-0'"),
    "epochs_agree": sql("UPDATE checkout.orders SET epoch = 5"),
}


@pytest.mark.parametrize("check", HARMS)
async def test_a_sale_is_stopped_for_what_is_wrong_with_its_seats_or_buyers_and_for_nothing_else(
    scene: Sold, check: str
) -> None:
    await HARMS[check](scene)
    report = await found(scene)
    assert [one.name for one in report.checks if not one.ok] == [check]
    stops = await stopped(scene, report)
    assert [(stop.showtime_id, stop.checks) for stop in stops] == (
        [(scene.showtime_id, [check])] if check in STOPPING else []
    )
    assert await phase(scene) == ("paused" if check in STOPPING else "open")


def test_every_promise_about_one_showtime_is_broken_above() -> None:
    assert STOPPING < HARMS.keys() == set(CHECKS) - {"gateway_books_agree"}, "that one names a gateway"


async def test_all_showtimes_are_stopped_also_those_of_offenders_that_have_no_sentence(
    scene: Sold,
) -> None:
    """A statement makes a hundred sentences; the last showtime's come after them."""
    last = await scene.running.add_showtime()
    for showtime_id, first, count in ((scene.showtime_id, "tkt_a", 130), (last, "tkt_b", 1)):
        await scene.sql(
            "INSERT INTO checkout.tickets"
            " (ticket_id, order_id, account_id, showtime_id, seat_index, label, state)"
            " SELECT $1 || n, order_id, account_id, $2, 1000 + n, 'Z', 'issued'"
            " FROM checkout.orders, generate_series(1, $3::int) AS n",
            first,
            showtime_id,
            count,
        )
    stops = {stop.showtime_id: stop.outcome for stop in await stopped(scene)}
    assert stops == {scene.showtime_id: "paused", last: "paused"}


async def test_what_a_history_holds_against_us_stops_nothing(scene: Sold) -> None:
    gone = Operation("claim", f"hld_{scene.showtime_id[4:]}{'7' * 16}", ("C1",), 1.0, 2.0)
    report = await run_audit(scene.running.platform, patience=QUICK, told=[gone])
    assert not report.ok
    assert to_stop(report) == {}


async def test_what_a_redis_that_came_back_has_forgotten_stops_nothing_since_nobody_sells_by_it(
    make_database: DatabaseMaker, tmp_path: Path
) -> None:
    """The reaper makes its maps anew, and the sale goes on by itself."""
    database_url = await make_database(migrated)
    with temporary_data_dir() as folder:
        engine = valkey_engine(folder, dies_with_us=True)
        await engine.start()
        async with run_platform(engine.url, database_url, tmp_path) as running:
            scene = await sold(running)
            await take_bit(scene)
            assert to_stop(await found(scene)) == {scene.showtime_id: ["seat_maps_agree"]}
            await engine.stop()
            await engine.start()
            refused(await scene.fan.hold(scene.showtime_id, "C1"), 503, "inventory_rebuilding")
            for shown in (PATIENCE, replace(PATIENCE, rebuild_s=0.0)):
                assert to_stop(await run_audit(running.platform, patience=shown)) == {}
            await running.platform.reaper.round()
            assert (await found(scene)).ok
            assert (await scene.fan.hold(scene.showtime_id, "C1")).status == 201
        await engine.stop()


# Sales that are not open


@pytest.mark.parametrize("before", ["paused", "closed"])
async def test_a_sale_that_is_not_open_is_left_as_it_is(scene: Sold, before: Any) -> None:
    await scene.running.platform.sales.change_sale(scene.showtime_id, phase=before)
    await sell_again_for_nothing(scene)
    (stop,) = await stopped(scene)
    assert (stop.outcome, await phase(scene)) == ("left_alone", before)


async def test_a_sale_somebody_closes_after_the_look_stays_closed(scene: Sold) -> None:
    await take_bit(scene)
    report = await found(scene)
    await scene.running.platform.sales.change_sale(scene.showtime_id, phase="closed")
    (stop,) = await stopped(scene, report)
    assert (stop.outcome, await phase(scene)) == ("left_alone", "closed")


async def test_a_paused_sale_that_redis_sells_all_the_same_is_told_to_it_again(scene: Sold) -> None:
    await scene.running.platform.sales.change_sale(scene.showtime_id, phase="paused")
    await scene.redis.hset(scene.keys.showtime, "phase", "open")
    assert (await scene.fan.hold(scene.showtime_id, "C1")).status == 201
    (stop,) = await stopped(scene)
    assert (stop.outcome, stop.checks) == ("told_again", ["terms_agree"])
    refused(await scene.fan.hold(scene.showtime_id, "D1"), 409, "sale_not_open")


# A person resumes it


async def test_what_was_put_right_is_not_on_sale_until_a_person_says_so(scene: Sold) -> None:
    await take_bit(scene)
    await stopped(scene)
    await give_bit_back(scene)
    report = await found(scene)
    assert report.ok
    assert await stopped(scene, report) == []
    refused(await scene.fan.hold(scene.showtime_id, "C1"), 409, "sale_not_open")
    await scene.running.platform.sales.change_sale(scene.showtime_id, phase="open")
    assert await stopped(scene) == []
    assert (await scene.fan.hold(scene.showtime_id, "C1")).status == 201


# What is in the way of a stop


@asynccontextmanager
async def elsewhere(running: RunningPlatform, **gone: str) -> AsyncIterator[Platform]:
    """The same platform, with an engine that is away."""
    known = running.platform.addresses
    urls = {"redis_url": known.redis_url, "database_url": known.database_url, **gone}
    async with platform_for(running.platform.settings, Addresses(**urls, gateway_url=None)) as platform:
        yield platform


async def test_while_redis_is_away_the_pause_is_written_and_the_reaper_tells_it(scene: Sold) -> None:
    await take_bit(scene)
    report = await found(scene)
    async with elsewhere(scene.running, redis_url=NOWHERE["redis_url"]) as platform:
        (stop,) = await stop_sales(platform, report)
    assert (stop.outcome, stop.is_done, await phase(scene)) == ("not_told", False, "paused")
    assert stop.detail
    await scene.running.platform.reaper.round()
    refused(await scene.fan.hold(scene.showtime_id, "C1"), 409, "sale_not_open")


async def test_while_postgresql_is_away_the_finding_is_told_with_what_was_in_the_way(scene: Sold) -> None:
    await take_bit(scene)
    report = await found(scene)
    async with elsewhere(scene.running, database_url=NOWHERE["database_url"]) as platform:
        (stop,) = await stop_sales(platform, report)
    assert (stop.outcome, stop.is_done, await phase(scene)) == ("not_paused", False, "open")
    assert stop.detail == "The order store does not answer."


async def test_one_sale_redis_cannot_be_told_of_does_not_keep_the_others_open(scene: Sold) -> None:
    other = await scene.running.add_showtime()
    await take_bit(scene)
    await scene.redis.setbit(keys_of(other).taken, 5, 1)
    report = await found(scene)
    await scene.redis.hset(scene.keys.showtime, "epoch", 41)  # its map is just being made anew
    stops = {stop.showtime_id: stop for stop in await stopped(scene, report)}
    assert {showtime_id: stop.outcome for showtime_id, stop in stops.items()} == {
        scene.showtime_id: "not_told",
        other: "paused",
    }
    assert stops[scene.showtime_id].detail == "Seat maps are being rebuilt; nothing is lost."


async def test_whatever_is_in_the_way_of_a_pause_the_finding_is_told_with_it(scene: Sold) -> None:
    await take_bit(scene)
    report = await found(scene)
    await scene.sql("ALTER TABLE reservation.inventories ADD CONSTRAINT kept CHECK (phase = 'open')")
    (stop,) = await stopped(scene, report)
    assert (stop.outcome, await phase(scene)) == ("not_paused", "open")
    assert "violates check constraint" in (stop.detail or "")
