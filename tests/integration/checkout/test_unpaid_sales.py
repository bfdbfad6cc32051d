"""Goal: sales whose payment was lost keep nobody waiting, and are held against nobody who has paid meanwhile.

Method: claims and their sales are on the log, and no payment is in PostgreSQL, as after one that was set
back. The writer takes them while its trips are counted; what it leaves behind is compared with what it
leaves when each sale is refused by itself, which is the control. Then a payment arrives between the look
that says "not paid" and what is done about it, by hand; the control has the statement without its
condition.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from checkout import WriterStore
from checkout.completers import CONFIRM_AFTER_S
from checkout.entries import Claim, Confirm
from checkout.writer import store as writer_store
from checkout.writer.store import COPY_ORDERS_MIN
from entrypoints.audit.records import prove_records
from kernel.ids import new_showtime_id
from reservation import keys_of
from tests.support.shop import Shop, claim_of, feed

MANY = COPY_ORDERS_MIN - 1


@asynccontextmanager
async def trips(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
    """What is asked of PostgreSQL meanwhile, by the statements' names."""
    heard: list[str] = []
    borrow = shop.platform.database.connection

    def hear(query: Any) -> None:
        heard.append(query.query.splitlines()[0].removeprefix("-- "))

    @asynccontextmanager
    async def listened_to() -> AsyncIterator[Any]:
        async with borrow() as connection:
            connection.add_query_logger(hear)
            try:
                yield connection
            finally:
                connection.remove_query_logger(hear)

    with monkeypatch.context() as patch:
        patch.setattr(shop.platform.database, "connection", listened_to)
        yield heard


def sale_of(claim: Claim) -> Confirm:
    return Confirm(order_id=claim.order_id, showtime_id=claim.showtime_id)


async def fed(shop: Shop, count: int) -> list[Claim]:
    """So many claims and their sales, each claim before its sale."""
    showtime_id = new_showtime_id()
    claims = [claim_of(showtime_id, seat) for seat in range(count)]
    await feed(shop, *claims, *map(sale_of, claims))
    return claims


def one_by_one(patch: pytest.MonkeyPatch) -> None:
    """Each sale is found at fault by itself."""

    async def nothing(*_: Any) -> set[str]:
        return set()

    patch.setattr(WriterStore, "_put_unpaid_aside", nothing)


async def put_aside(shop: Shop, claims: Sequence[Claim]) -> set[tuple[Any, ...]]:
    """What became of their sales, and of the orders."""
    rows = await shop.sql(
        """SELECT o.order_id, o.state, o.end_reason, d.kind, d.reason, count(d.*) AS letters,
                  (SELECT count(*) FROM checkout.tickets t WHERE t.order_id = o.order_id) AS tickets
           FROM checkout.orders o
           LEFT JOIN checkout.dead_letters d ON convert_from(d.data, 'UTF8') LIKE '%' || o.order_id || '%'
           WHERE o.order_id = ANY ($1::text[]) GROUP BY o.order_id, d.kind, d.reason""",
        [claim.order_id for claim in claims],
    )
    return {tuple(row.values())[1:] for row in rows} if len(rows) == len(claims) else set()


LOST = {("pending_payment", "payment_lost", "confirm", "invalid_state", 1, 0)}


@pytest.mark.parametrize("count", [MANY, 2 * COPY_ORDERS_MIN], ids=["statement", "COPY"])
async def test_sales_whose_payments_are_lost_cost_no_trip_more_than_one(
    evening: Shop, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = evening
    await fed(shop, 1)
    async with trips(shop, monkeypatch) as of_one:
        await shop.write()
    claims = await fed(shop, count)
    async with trips(shop, monkeypatch) as of_all:
        await shop.write()
    assert len(of_all) <= len(of_one) + (count >= COPY_ORDERS_MIN), (of_one, of_all)
    assert await put_aside(shop, claims) == LOST
    await shop.sound()


async def test_refused_one_by_one_each_costs_transactions_of_its_own_and_ends_the_same(
    evening: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    shop = evening
    claims = await fed(shop, MANY)
    with monkeypatch.context() as patch:
        one_by_one(patch)
        async with trips(shop, monkeypatch) as of_all:
            await shop.write()
    assert of_all.count("put_aside") == MANY
    assert len(of_all) > 10 * MANY
    assert await put_aside(shop, claims) == LOST


async def test_a_sale_that_is_nobodys_is_refused_and_the_lost_ones_beside_it_are_not_held_up(
    evening: Shop,
) -> None:
    shop = evening
    claims = await fed(shop, 20)
    await feed(shop, nobodys := sale_of(claim_of(claims[0].showtime_id, 99)), sale_of(claims[0]))
    await shop.write()
    assert await put_aside(shop, claims[1:]) == LOST
    assert await shop.dead_letters("invalid_state") == 20 + 2
    assert await shop.store.find_order(nobodys.order_id) is None
    writer = shop.writer()
    await feed(shop, sale_of(claims[1]), *(paid := [claim_of(new_showtime_id(), 1)]))
    await writer.write(await shop.log().read(1_000, None))
    ends = {
        "claim": writer.counts.claims,
        "confirm": writer.counts.confirms,
        "aside": writer.counts.put_aside,
    }
    assert ends == {"claim": 1, "confirm": 0, "aside": 1}
    assert await shop.state(paid[0].order_id) == "pending_payment"


# Paid meanwhile


async def an_order_on_a_page(shop: Shop) -> tuple[str, str, str, Any]:
    """Its showtime, which is shut, its id, its payment, and the news that it was made."""
    fan, showtime_id = shop.fan(), await shop.showtime()
    order_id = await shop.order(fan, showtime_id, "A1")
    payment_id = await shop.open_payment(fan, order_id)
    await shop.redis.hset(keys_of(showtime_id).showtime, "epoch", "-1")
    return showtime_id, order_id, payment_id, shop.gateway.capture(payment_id)


async def refused_while_it_is_paid_for(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> str:
    """The sale of an order that ended unpaid, and is paid for between the look at it and its refusal."""
    showtime_id, order_id, _, news = await an_order_on_a_page(shop)
    await shop.time_passes(3_600)
    await shop.platform.completers.expire_orders()
    await feed(shop, Confirm(order_id=order_id, showtime_id=showtime_id))
    refuse = WriterStore.refuse

    async def meanwhile(self: WriterStore, *words: Any) -> None:
        await shop.deliver(news)
        assert await shop.state(order_id) == "paid"
        await refuse(self, *words)

    with monkeypatch.context() as patch:
        patch.setattr(WriterStore, "refuse", meanwhile)
        await shop.write()
    assert await shop.dead_letters("invalid_state") == 1
    await shop.platform.rebuilder.rebuild("it was shut")
    await shop.time_passes(CONFIRM_AFTER_S + 1)
    await shop.settle()
    await shop.sound()
    return order_id


async def test_a_sale_that_was_refused_for_want_of_money_is_made_when_that_has_come(
    evening: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = await evening.find(await refused_while_it_is_paid_for(evening, monkeypatch))
    assert (order.state, order.end_reason, len(order.tickets)) == ("confirmed", None, 1)


async def test_held_against_who_has_paid_meanwhile_it_costs_him_his_seats(
    evening: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the statement does not ask what the sale was refused for."""
    statement = writer_store._SQL["mark_unfulfillable"]
    careless = statement.replace(" AND $2::text <> 'invalid_state'", "")
    assert careless != statement
    monkeypatch.setattr(writer_store, "_SQL", {**writer_store._SQL, "mark_unfulfillable": careless})
    order = await evening.find(await refused_while_it_is_paid_for(evening, monkeypatch))
    assert (order.state, order.end_reason) == ("cancelled", "invalid_state")


async def _paid_while_its_sale_is_judged(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> str:
    """Between the statement that found it unpaid and the one that puts such sales aside; the order's id."""
    showtime_id, order_id, _, news = await an_order_on_a_page(shop)
    await feed(shop, Confirm(order_id=order_id, showtime_id=showtime_id))
    put_aside = WriterStore._put_unpaid_aside

    async def meanwhile(self: WriterStore, *words: Any) -> Any:
        await shop.deliver(news)
        return await put_aside(self, *words)

    with monkeypatch.context() as patch:
        patch.setattr(WriterStore, "_put_unpaid_aside", meanwhile)
        await shop.write()
    return order_id


async def test_a_sale_whose_order_is_paid_while_it_is_judged_is_made(
    evening: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = evening
    order = await shop.find(await _paid_while_its_sale_is_judged(shop, monkeypatch))
    assert (order.state, order.end_reason, len(order.tickets)) == ("confirmed", None, 1)
    assert await shop.dead_letters() == 0
    await shop.platform.rebuilder.rebuild("it was shut")
    await shop.settle()
    await shop.sound()


async def test_an_order_that_is_paid_while_its_sale_is_judged_is_not_confirmed_before_it_was_paid(
    evening: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction that judges began before the one that pays, and PostgreSQL's now is when it began."""
    await _paid_while_its_sale_is_judged(evening, monkeypatch)
    assert (await prove_records(evening.platform.database, None)).suspects == set()
