"""Goal: the short way of a payment is the long one in a single statement: cheaper, and never another story.

Method: the same histories are told to both, and end alike; whatever is not plain is left to the long way, and
nobody waits for a stranger's lock. What a statement costs is counted at the connection: every statement and
every border of a transaction is a round trip.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from checkout import CheckoutStore, OrderWriter, WriterStore
from checkout.rows import Capture, PaidOrder
from checkout.store import _SQL
from entrypoints.platform import Platform
from kernel.money import Money
from runtime.postgres import Database
from tests.support.engines import DatabaseMaker
from tests.support.platform import RunningPlatform, run_platform
from tests.support.shop import PRICE, Delivery, Shop, against_the_rules, migrated, until

#: Round trips to PostgreSQL of one sale alone, its one look at the confirmed order included.
ROUND_TRIPS_PER_SALE_MAX = 6
SALES_AT_ONCE = 40


# The same stories


async def a_payment(shop: Shop) -> tuple[str, str, str]:
    """Fan, order and payment, ready to be paid."""
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    order_id = await shop.order(fan, showtime_id, f"{row}5", f"{row}6")
    return fan, order_id, await shop.open_payment(fan, order_id)


def capture_of(shop: Shop, payment_id: str, news: Delivery | None = None) -> Capture:
    """A capture as the webhook's handler passes it on."""
    news = news or shop.gateway.capture(payment_id)
    event = shop.gateway.read_event(news.event_id, news.body)
    assert event.amount is not None
    return Capture("paper", event.event_id, event.raw, event.reference, event.gateway_ref, event.amount)


async def nothing(*_: object) -> None:
    """The short way, closed."""


@asynccontextmanager
async def the_long_way(store: CheckoutStore) -> AsyncIterator[None]:
    """Everything is taken for unusual."""

    async def only_keep(capture: Capture) -> None:
        await store.record_event(capture.gateway, capture.event_id, "payment.captured", capture.body)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "add_payment_at_once", nothing)
        patch.setattr(store, "take_capture", only_keep)
        yield


async def story_of(shop: Shop, order_id: str) -> dict[str, Any]:
    """Every row about an order, without what differs from run to run."""
    found = {}
    for table in ("orders", "payments", "tickets", "ledger_entries", "refunds", "seat_claims"):
        rows = await shop.sql(
            f"SELECT to_jsonb(t) AS row FROM checkout.{table} t WHERE order_id = $1", order_id
        )
        found[table] = sorted(
            repr(
                sorted(
                    (name, value is not None if _own(name) else value) for name, value in row["row"].items()
                )
            )
            for row in rows
        )
    events = await shop.sql(
        "SELECT e.kind, e.outcome, e.processed_at IS NOT NULL AS done FROM checkout.gateway_events e"
        " JOIN checkout.payments p ON convert_from(e.body, 'UTF8') LIKE '%' || p.payment_id || '%'"
        " WHERE p.order_id = $1 ORDER BY e.received_at",
        order_id,
    )
    return found | {"gateway_events": [dict(event) for event in events]}


def _own(name: str) -> bool:
    """Whether a column has a value of its own in every story."""
    return name.endswith(("_id", "_ref", "_at", "_url", "_by", "label", "seat_index"))


async def paid(shop: Shop) -> str:
    _, order_id, payment_id = await a_payment(shop)
    await shop.deliver(shop.gateway.capture(payment_id))
    return order_id


async def paid_and_told_again(shop: Shop) -> str:
    _, order_id, payment_id = await a_payment(shop)
    news = shop.gateway.capture(payment_id)
    await shop.deliver(news, news, shop.gateway.capture(payment_id))
    return order_id


async def paid_twice(shop: Shop) -> str:
    fan, order_id, first = await a_payment(shop)
    second = await shop.open_payment(fan, order_id)
    await shop.deliver(shop.gateway.capture(first), shop.gateway.capture(second))
    return order_id


async def paid_too_much(shop: Shop) -> str:
    _, order_id, payment_id = await a_payment(shop)
    await shop.deliver(shop.gateway.news("payment.captured", payment_id, amount=Money(PRICE, "CNY")))
    await shop.deliver(shop.gateway.capture(payment_id))
    return order_id


async def paid_after_a_decline(shop: Shop) -> str:
    _, order_id, payment_id = await a_payment(shop)
    await shop.deliver(shop.gateway.decline(payment_id), shop.gateway.capture(payment_id))
    return order_id


async def paid_too_late(shop: Shop) -> str:
    _, order_id, payment_id = await a_payment(shop)
    await shop.sql("UPDATE checkout.orders SET pay_by = now() - interval '1 s' WHERE order_id = $1", order_id)
    await shop.platform.completers.expire_orders()
    await shop.deliver(shop.gateway.capture(payment_id))
    return order_id


async def paid_before_we_had_the_session(shop: Shop) -> str:
    """The news overtakes the commit of the row's other half."""
    _, order_id, payment_id = await a_payment(shop)
    await against_the_rules(
        shop.platform.database,
        "UPDATE checkout.payments SET state = 'initiated', gateway_ref = NULL WHERE payment_id = $1",
        payment_id,
    )
    await shop.deliver(shop.gateway.capture(payment_id))
    return order_id


STORIES = (
    paid,
    paid_and_told_again,
    paid_twice,
    paid_too_much,
    paid_after_a_decline,
    paid_too_late,
    paid_before_we_had_the_session,
)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_both_ways_tell_the_same_story(shop: Shop, story: Callable[[Shop], Any]) -> None:
    short = await story_of(shop, await story(shop))
    async with the_long_way(shop.store):
        long = await story_of(shop, await story(shop))
    assert short == long
    await shop.settle()
    await shop.sound()


# Many at once


async def test_twenty_captures_at_once_are_one_commit(shop: Shop) -> None:
    waiting = [await a_payment(shop) for _ in range(20)]
    captures = [capture_of(shop, payment_id) for *_, payment_id in waiting]
    taken = await asyncio.gather(*map(shop.store.take_capture, captures))
    assert [paid.order_id for paid in taken if paid] == [order_id for _, order_id, _ in waiting]
    order_ids = [order_id for _, order_id, _ in waiting]
    for table, column in (("orders", "order_id"), ("payments", "order_id"), ("ledger_entries", "order_id")):
        statement = (
            f"SELECT count(DISTINCT xmin::text) FROM checkout.{table} WHERE {column} = ANY ($1::text[])"
        )
        assert await shop.one(statement, order_ids) == 1
    await shop.time_passes(4)
    await shop.settle()
    assert {await shop.state(order_id) for order_id in order_ids} == {"confirmed"}
    await shop.sound()


async def test_of_two_payments_of_one_order_in_one_statement_one_is_taken_and_both_are_kept(
    shop: Shop,
) -> None:
    fan, order_id, first = await a_payment(shop)
    second = await shop.open_payment(fan, order_id)
    captures = [capture_of(shop, one) for one in (first, second)]
    taken = await asyncio.gather(*map(shop.store.take_capture, captures))
    assert [type(one) for one in taken if one] == [PaidOrder]
    kept = await shop.sql(
        "SELECT outcome FROM checkout.gateway_events WHERE event_id = ANY ($1::text[]) ORDER BY outcome",
        [capture.event_id for capture in captures],
    )
    assert [row["outcome"] for row in kept] == ["captured", None]
    await shop.time_passes(4)
    await shop.settle()
    assert [refund.reason for refund in (await shop.find(order_id)).refunds] == ["paid_twice"]
    await shop.sound()


async def test_an_events_name_used_again_captures_nothing(shop: Shop) -> None:
    """The event's key is what makes a repeat harmless, also when the repeat says something else."""
    _, order_id, payment_id = await a_payment(shop)
    _, other_order_id, other_id = await a_payment(shop)
    capture = capture_of(shop, payment_id)
    assert await shop.store.take_capture(capture)
    other = capture_of(shop, other_id)
    again = Capture("paper", capture.event_id, other.body, other.reference, other.gateway_ref, other.amount)
    assert await shop.store.take_capture(again) is None
    assert (await shop.state(order_id), await shop.state(other_order_id)) == ("paid", "pending_payment")
    await shop.deliver(shop.gateway.capture(other_id))
    await shop.time_passes(4)
    await shop.settle()
    await shop.sound()


# Somebody is busy with it


@pytest.mark.parametrize("table", ["orders", "payments"])
async def test_who_is_locked_out_waits_alone(shop: Shop, table: str) -> None:
    _, locked_id, locked_payment = await a_payment(shop)
    _, free_id, free_payment = await a_payment(shop)
    async with shop.store.transaction() as connection:
        await connection.execute(f"SELECT FROM checkout.{table} WHERE order_id = $1 FOR UPDATE", locked_id)
        waiting = asyncio.create_task(shop.deliver(shop.gateway.capture(locked_payment)))
        await shop.deliver(shop.gateway.capture(free_payment))
        assert await shop.state(free_id) == "paid"
        assert not waiting.done()
        assert await shop.one(  # kept already, so a crash now loses nothing
            "SELECT count(*) FROM checkout.gateway_events WHERE processed_at IS NULL"
            " AND convert_from(body, 'UTF8') LIKE '%' || $1::text || '%'",
            locked_payment,
        )
    await waiting
    assert await shop.state(locked_id) == "paid"
    await shop.settle()
    await shop.sound()


async def test_without_passing_over_it_everybody_waits(shop: Shop) -> None:
    """The control: the same statement, waiting for the lock, keeps the free one from being paid."""
    waits = _SQL["take_captures"].replace("SKIP LOCKED", "")
    assert waits != _SQL["take_captures"]
    _, locked_id, locked_payment = await a_payment(shop)
    _, free_id, free_payment = await a_payment(shop)
    told = [capture_of(shop, one) for one in (locked_payment, free_payment)]
    columns = zip(
        *[
            (
                one.gateway,
                one.event_id,
                one.body,
                one.reference,
                one.gateway_ref,
                one.amount.amount,
                one.amount.currency,
            )
            for one in told
        ],
        strict=True,
    )
    async with shop.store.transaction() as connection:
        await connection.execute("SELECT FROM checkout.orders WHERE order_id = $1 FOR UPDATE", locked_id)
        taking = asyncio.create_task(shop.platform.database.fetch(waits, *columns))
        await until(
            lambda: shop.one("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")
        )
        assert not taking.done()
        assert await shop.state(free_id) == "pending_payment"
    await taking
    await shop.time_passes(4)
    await shop.settle()
    await shop.sound()


async def test_a_payment_is_opened_also_while_somebody_has_its_order(shop: Shop) -> None:
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    order_id = await shop.order(fan, showtime_id, f"{row}5")
    async with shop.store.transaction() as connection:
        await connection.execute("SELECT FROM checkout.orders WHERE order_id = $1 FOR UPDATE", order_id)
        assert await shop.store.add_payment_at_once("pay_never", order_id, fan, "paper") is None
        opening = asyncio.create_task(shop.open_payment(fan, order_id))
        await a_payment(shop)  # somebody else opens one
        assert not opening.done()
    payment_id = await opening
    assert [one.payment_id for one in (await shop.find(order_id)).payments] == [payment_id]


# What it costs


@dataclass
class Counted:
    """A platform whose worker is listened to; log and orders are served and watched over `others`."""

    platform: Platform
    running: RunningPlatform
    others: CheckoutStore
    heard: list[str] = field(default_factory=list)

    def trips(self) -> list[str]:
        """The round trips since the last time, by the statement's name."""
        heard, self.heard = self.heard, []
        return [statement.splitlines()[0].removeprefix("-- ") for statement in heard]

    def hear(self, query: Any) -> None:
        self.heard.append(query.query)

    async def confirmed(self, order_id: str) -> bool:
        order = await self.others.find_order(order_id)
        return order is not None and order.state == "confirmed"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def counted(
    valkey_url: str, make_database: DatabaseMaker, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Counted]:
    url = await make_database(migrated)
    folder = tmp_path_factory.mktemp("counted")
    async with run_platform(valkey_url, url, folder, roles=()) as running:
        platform, others = running.platform, Database(url)
        counted = Counted(platform, running, CheckoutStore(others))
        borrow = platform.database.connection

        @asynccontextmanager
        async def listened_to() -> AsyncIterator[Any]:
            async with borrow() as connection:
                connection.add_query_logger(counted.hear)
                try:
                    yield connection
                finally:
                    connection.remove_query_logger(counted.hear)

        stop = asyncio.Event()
        writer = OrderWriter(platform.order_log, WriterStore(others), platform.clock)

        async def write() -> None:
            while not stop.is_set():
                if entries := await platform.order_log.read(1_000, None):
                    await writer.write(entries)
                await asyncio.sleep(0.002)

        writing = asyncio.create_task(write())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(platform.database, "connection", listened_to)
            yield counted
            stop.set()
            await writing
        await others.close()


async def trips_of(counted: Counted, sales: int) -> list[str]:
    """The worker's round trips for so many sales at once; each buyer looks once, at the confirmed order."""
    showtime_id = await counted.running.add_showtime()
    fans = await counted.running.fans(sales + 1)
    labels = [f"{row}{seat}" for row in "ABCDEFGH" for seat in (1, 2, 3, 5, 6, 7, 8)]

    async def buy(number: int) -> None:
        fan = fans[number]
        held = await fan.hold(showtime_id, labels[number])
        order_id = (await fan.order(held.body["hold_id"])).body["order_id"]
        await fan.pay(order_id)
        await until(lambda: counted.confirmed(order_id))
        assert (await fan.call("GET", f"/orders/{order_id}")).body["state"] == "confirmed"

    await buy(sales)  # what is asked once for all buyers is known from now on
    counted.trips()
    await asyncio.gather(*map(buy, range(sales)))
    return [trip for trip in counted.trips() if trip != "current_epochs"]  # that one goes by time


async def test_a_sale_alone_is_six_round_trips_to_postgres_and_no_transaction_has_a_border(
    counted: Counted, capsys: pytest.CaptureFixture[str]
) -> None:
    trips = await trips_of(counted, 1)
    with capsys.disabled():
        print(f"\nround trips of a sale alone: {len(trips)}: {', '.join(trips)}")
    assert len(trips) <= ROUND_TRIPS_PER_SALE_MAX
    assert not [trip for trip in trips if trip.startswith(("BEGIN", "COMMIT"))]


async def test_sales_at_once_share_their_round_trips(
    counted: Counted, capsys: pytest.CaptureFixture[str]
) -> None:
    trips = await trips_of(counted, SALES_AT_ONCE)
    with capsys.disabled():
        print(f"\nround trips of a sale among {SALES_AT_ONCE}: {len(trips) / SALES_AT_ONCE:.1f}")
    assert len(trips) <= ROUND_TRIPS_PER_SALE_MAX * SALES_AT_ONCE / 2


async def test_by_the_long_way_a_sale_costs_more_than_twice_as_much(
    counted: Counted, capsys: pytest.CaptureFixture[str]
) -> None:
    """The control: the counter counts, and the short way is what spares them."""
    async with the_long_way(counted.platform.checkout_store):
        trips = await trips_of(counted, 1)
    with capsys.disabled():
        print(f"\nround trips of a sale by the long way: {len(trips)}: {', '.join(trips)}")
    assert len(trips) > 2 * ROUND_TRIPS_PER_SALE_MAX
    assert trips.count("COMMIT") == 2
