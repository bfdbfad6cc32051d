"""Goal: money that moved, and that PostgreSQL has forgotten, finds its order or goes back to its owner.

Method: a copy of the database from the middle of an evening is put in its place at the end (`Past`); the
gateway keeps its books, Redis its logs. Then the order writer and the completers go to work as they do in
their processes, and in the end both books name the same payments and the same refunds. Compared once more,
killed at every suspension, or by two at once, it comes to the same. The controls leave the comparison out, or
let completers judge before it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from checkout import Reconciliation, set_back
from checkout.completers import CONFIRM_AFTER_S
from checkout.domain import Order, refund_id_of
from checkout.errors import GatewayUnavailable
from checkout.ports import GatewayRefund
from entrypoints.audit import Patience, run_audit
from entrypoints.platform import Platform
from kernel.errors import PersistenceUnavailable, SeatRushError
from kernel.ids import PARTITIONS, new_id
from kernel.money import Money
from reservation import log_key
from tests.adversity.driving import Points, driven
from tests.support.past import Past
from tests.support.shop import PRICE, Shop, until


def begins_anew(platform: Platform) -> None:
    """A process has looked at no server yet."""
    for part in ("wholeness", "completers"):
        platform.__dict__.pop(part, None)


@asynccontextmanager
async def at_work(shop: Shop, *names: str) -> AsyncIterator[None]:
    """The roles of an order writer's process that begins, or some of them."""
    if not names or "completers" in names:
        begins_anew(shop.platform)
    works = {"writer": shop.writer().run, "completers": shop.platform.completers.run}
    running = [asyncio.create_task(works[name]()) for name in names or works]
    try:
        yield
    finally:
        for task in running:
            while not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=0.2)
            assert task.cancelled(), task.exception()


async def is_whole(shop: Shop) -> bool:
    """Whether completers judge by the server that answers."""
    return bool(shop.platform.wholeness.server == await shop.platform.book_store.this_server())


async def books(shop: Shop) -> tuple[set[str], set[str]]:
    """What was captured and what was given back by our word."""
    return (
        {row["payment_id"] for row in await shop.sql(_CAPTURED)},
        {row["refund_id"] for row in await shop.sql(_GIVEN_BACK)},
    )


_CAPTURED = "SELECT payment_id FROM checkout.payments WHERE state = 'captured'"
_GIVEN_BACK = "SELECT refund_id FROM checkout.refunds WHERE state = 'completed'"


def gateway_books(shop: Shop) -> tuple[set[str], set[str]]:
    """The same by the gateway's own word; nothing went back twice."""
    captured = [name for kind, _, name, _ in shop.gateway.book if kind == "capture"]
    given_back = [of.payment_id for kind, of, _, _ in shop.gateway.book if kind == "refund"]
    assert len(given_back) == len(set(given_back)), "a payment went back twice"
    return set(captured), {name for kind, _, name, _ in shop.gateway.book if kind == "refund"}


async def settled(shop: Shop) -> None:
    """Everybody has tickets or his money, and both books say so."""
    await shop.writer().write(await shop.log().read_own_pending(1_000))  # who was ended had them in hand
    await shop.time_passes(CONFIRM_AFTER_S + 1)  # and a sale that was not put on the log is the completers'
    await shop.settle()
    assert await books(shop) == gateway_books(shop)
    await shop.sound()


def is_served(order: Order) -> bool:
    return order.state == "confirmed" and [ticket.state for ticket in order.tickets] == ["issued"]


def has_money_back(order: Order) -> bool:
    """All that was captured for it, and no ticket of it opens a door."""
    paid = {payment.payment_id for payment in order.payments if payment.state == "captured"}
    back = {refund.payment_id for refund in order.refunds if refund.state == "completed"}
    return bool(paid) and paid == back and all(ticket.state == "void" for ticket in order.tickets)


# An evening with everything in it

FATES: dict[str, Callable[[Order], bool]] = {
    "paid and sold before, given back after": has_money_back,
    "page opened before, paid after": is_served,
    "ordered before, paid after": is_served,
    "all of it after": is_served,
    "paid after, and the news was lost": is_served,
    "paid after, on two pages at once": is_served,
    "bought and given back after": has_money_back,
    "given back before, the money came after": has_money_back,
    "the first payment failed before and went through after": is_served,
}


async def an_evening(shop: Shop, past: Past) -> dict[str, str]:
    """Orders by what is to become of them; when this ends PostgreSQL is back where it was in the middle."""
    gateway, showtime_id = shop.gateway, await shop.showtime()
    fans = {name: shop.fan() for name in FATES}
    seats = dict(zip(FATES, ("A1", "A2", "A3", "B1", "B2", "B3", "C1", "C2", "C3"), strict=True))
    orders: dict[str, str] = {}

    async def buy(name: str) -> None:
        orders[name] = await shop.buy(fans[name], showtime_id, seats[name])

    async def order(name: str) -> None:
        orders[name] = await shop.order(fans[name], showtime_id, seats[name])

    given_back, opened, ordered, new, unheard, twice, in_and_out, slow, second_try = FATES
    await buy(given_back)
    await buy(slow)
    gateway.refund_plan.append("sent")
    await shop.ask_back(fans[slow], orders[slow])
    await shop.complete()
    for name in (opened, ordered, second_try):
        await order(name)
    pages = {name: await shop.open_payment(fans[name], orders[name]) for name in (opened, second_try)}
    await shop.deliver(gateway.decline(pages[second_try]))
    await shop.reconcile()
    await past.remember()

    await shop.ask_back(fans[given_back], orders[given_back])
    for name in (opened, second_try):
        await shop.deliver(gateway.capture(pages[name]))
    await shop.pay(fans[ordered], orders[ordered])
    await buy(new)
    await order(unheard)
    gateway.capture(await shop.open_payment(fans[unheard], orders[unheard]))
    await order(twice)
    tabs = [await shop.open_payment(fans[twice], orders[twice]) for _ in range(2)]
    for payment_id in tabs:
        await shop.deliver(gateway.capture(payment_id))
    await buy(in_and_out)
    await shop.ask_back(fans[in_and_out], orders[in_and_out])
    gateway.complete(refund_id_of((await shop.find(orders[slow])).payments[0].payment_id))
    await shop.write()
    await shop.complete()
    assert len(gateway_books(shop)[1]) == 4
    await past.come_back()
    await shop.platform.rebuilder.rebuild("PostgreSQL was set back")
    return orders


async def all_met_their_fates(shop: Shop, orders: dict[str, str]) -> None:
    found = {name: await shop.find(order_id) for name, order_id in orders.items()}
    for name, order in found.items():
        assert FATES[name](order), (name, order)
    (showtime_id,) = {order.showtime_id for order in found.values()}
    assert len(await shop.taken(showtime_id)) == sum(map(is_served, found.values())) == 6


async def test_everybody_who_paid_has_his_ticket_or_his_money_again(evening: Shop, past: Past) -> None:
    shop = evening
    orders = await an_evening(shop, past)
    asked = shop.gateway.calls["refund"]
    async with at_work(shop):
        await until(lambda: is_whole(shop), within_s=30)
    await settled(shop)
    await all_met_their_fates(shop, orders)
    assert await set_back(shop.store, shop.log()) == []
    assert shop.gateway.calls["refund"] - asked <= 1, "what had gone back was asked for again"


async def test_without_the_comparison_people_have_paid_for_nothing(
    evening: Shop, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the logs are given again, payments are asked about, and the rest nobody knows of."""
    shop = evening

    async def nothing(_: Reconciliation, __: str) -> int:
        return 0

    orders = await an_evening(shop, past)
    monkeypatch.setattr(Reconciliation, "compare", nothing)
    async with at_work(shop):
        await until(lambda: is_whole(shop), within_s=30)
    await shop.settle()
    payments = {row["payment_id"] for row in await shop.sql("SELECT payment_id FROM checkout.payments")}
    refunds = {row["refund_id"] for row in await shop.sql("SELECT refund_id FROM checkout.refunds")}
    captured, given_back = gateway_books(shop)
    assert (len(captured - payments), len(given_back - refunds)) == (6, 3)
    assert (await shop.find(orders["paid after, and the news was lost"])).state == "pending_payment"


async def test_compared_again_nothing_is_done_again(evening: Shop, past: Past) -> None:
    shop = evening
    await an_evening(shop, past)
    await shop.write()
    assert await shop.reconcile() == 12
    await settled(shop)
    tables = await shop.tables()
    assert await shop.reconcile() == 0
    await shop.sql("DELETE FROM checkout.gateway_positions")
    assert await shop.reconcile() == 0
    assert await shop.tables() == tables


async def test_killed_anywhere_and_begun_again_it_comes_to_the_same(evening: Shop, past: Past) -> None:
    """At each suspension of each movement's repair, one after the other."""
    shop = evening
    orders = await an_evening(shop, past)
    await shop.write()
    shop.gateway.page_size, killed, stop_at = 1, 0, 1
    place = (await shop.platform.book_store.place("paper")).cursor
    while True:
        points = Points(stop_at)
        comparing = asyncio.create_task(driven(shop.platform.reconciliation.compare(), points))
        waiting = asyncio.create_task(points.stopped.wait())
        await asyncio.wait([comparing, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if comparing.done():
            comparing.result()
            break
        comparing.cancel()
        await asyncio.wait([comparing])
        killed += 1
        before, place = place, (await shop.platform.book_store.place("paper")).cursor
        stop_at = stop_at + 1 if place == before else 1
    assert killed > 60
    await settled(shop)
    await all_met_their_fates(shop, orders)


async def test_two_who_compare_at_once_pay_nothing_back_twice(evening: Shop, past: Past) -> None:
    shop = evening
    orders = await an_evening(shop, past)
    await shop.write()
    shop.gateway.page_size = 1

    async def compare() -> None:
        while True:
            try:
                await shop.reconcile()
                return
            except PersistenceUnavailable:  # the other one has moved the place
                await asyncio.sleep(0)

    await asyncio.gather(*(compare() for _ in range(4)))
    await settled(shop)
    await all_met_their_fates(shop, orders)


async def test_what_went_back_pays_for_nothing_though_it_moved_first(evening: Shop, past: Past) -> None:
    """Paid twice, and the news of the second payment came first: the first one is what went back."""
    shop, fan = evening, evening.fan()
    showtime_id = await shop.showtime()
    await past.remember()
    order_id = await shop.order(fan, showtime_id, "A1")
    first, second = [await shop.open_payment(fan, order_id) for _ in range(2)]
    news = shop.gateway.capture(first)
    await shop.deliver(shop.gateway.capture(second), news)
    await shop.settle()
    assert is_served(await shop.find(order_id))
    await past.come_back()
    await shop.platform.rebuilder.rebuild("PostgreSQL was set back")
    await shop.write()
    shop.gateway.page_size = 1
    assert await shop.reconcile() == 3
    await settled(shop)
    order = await shop.find(order_id)
    assert is_served(order)
    assert [refund.payment_id for refund in order.refunds] == [first]


async def test_asked_back_again_after_it_was_forgotten_it_has_the_same_key(evening: Shop, past: Past) -> None:
    """Before anybody has compared: PostgreSQL says that the tickets are good."""
    shop, fan = evening, evening.fan()
    order_id = await shop.buy(fan, await shop.showtime(), "A1")
    await past.remember()
    first = await shop.ask_back(fan, order_id)
    await shop.settle()
    await past.come_back()
    await shop.platform.rebuilder.rebuild("PostgreSQL was set back")
    again = await shop.ask_back(fan, order_id, key="another")
    assert again.refund_id == first.refund_id
    await settled(shop)
    assert len(shop.gateway.refunds) == 1


# Who judges


async def a_sale_past_its_deadline(shop: Shop, past: Past) -> str:
    """An order PostgreSQL thinks nobody paid in time; its sale is on the log, its payment at the gateway."""
    fan = shop.fan()
    order_id = await shop.order(fan, await shop.showtime(), "A1")
    await shop.sql("UPDATE checkout.orders SET pay_by = pay_by - interval '1 hour'")
    await past.remember()
    await shop.sql("UPDATE checkout.orders SET pay_by = pay_by + interval '1 hour'")
    await shop.pay(fan, order_id)
    await shop.write()
    assert await shop.state(order_id) == "confirmed"
    await past.come_back()
    await shop.platform.rebuilder.rebuild("PostgreSQL was set back")
    return order_id


async def rounds_of_expiry(shop: Shop, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait until a completer has gone round so often to end what is overdue."""
    gone_round, expire = asyncio.Semaphore(0), shop.store.expire_orders

    async def counted(server: str, at_latest: datetime) -> Any:
        ended = await expire(server, at_latest)
        gone_round.release()
        return ended

    monkeypatch.setattr(shop.store, "expire_orders", counted)
    async with asyncio.timeout(30):
        for _ in range(count):
            await gone_round.acquire()


async def test_nobody_ends_an_order_before_the_logs_were_given_again(
    evening: Shop, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = evening
    order_id = await a_sale_past_its_deadline(shop, past)
    async with at_work(shop, "completers"):
        await rounds_of_expiry(shop, 3, monkeypatch)
        assert await shop.state(order_id) == "pending_payment"
        async with at_work(shop, "writer"):
            await until(lambda: is_whole(shop), within_s=30)
    await settled(shop)
    assert is_served(await shop.find(order_id))


async def test_whoever_judges_by_any_server_ends_what_was_sold(
    evening: Shop, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the writer is only a little slower, and the seats are anybody's."""
    shop = evening
    order_id = await a_sale_past_its_deadline(shop, past)
    monkeypatch.setattr("checkout.reconciliation.wholeness._NOBODY", "")
    async with at_work(shop, "completers"):
        await rounds_of_expiry(shop, 3, monkeypatch)
    assert await shop.state(order_id) == "expired"


async def test_who_has_looked_at_one_server_judges_by_no_other(evening: Shop, past: Past) -> None:
    """PostgreSQL is exchanged between a completer's look and his next statement."""
    shop = evening
    await shop.platform.wholeness.look()
    before = shop.platform.wholeness.server
    order_id = await a_sale_past_its_deadline(shop, past)
    await shop.sql(
        "INSERT INTO checkout.payments (payment_id, order_id, gateway, state, amount, currency, captured_at)"
        " VALUES ('pay_judged', $1, 'paper', 'captured', 1, 'CNY', now())",
        order_id,
    )
    await shop.sql(
        "INSERT INTO checkout.refunds (refund_id, order_id, payment_id, state, reason, amount, currency)"
        " VALUES ('ref_judged', $1, 'pay_judged', 'requested', 'paid_twice', 1, 'CNY')",
        order_id,
    )
    assert await shop.store.expire_orders(before) == []
    assert await shop.store.refunds_to_send(before) == []
    now = await shop.platform.book_store.this_server()
    assert await shop.store.expire_orders(now) == [order_id], "the control: he is asked"
    assert await shop.store.orders_to_free(before) == []
    assert [one.order_id for one in await shop.store.orders_to_free(now)] == [order_id]
    assert len(await shop.store.refunds_to_send(now)) == 1


async def test_a_gateway_that_is_away_holds_nothing_up_when_only_we_begin_anew(
    evening: Shop, past: Past
) -> None:
    shop = evening
    async with at_work(shop):
        await until(lambda: is_whole(shop))
    shop.gateway.away = True
    async with at_work(shop):
        await until(lambda: is_whole(shop))
    await past.remember()
    await past.come_back()  # nothing is missing, and nobody can know
    with pytest.raises(GatewayUnavailable):
        await shop.platform.wholeness.look()
    assert not await is_whole(shop)
    shop.gateway.away = False
    await shop.platform.wholeness.look()
    assert await is_whole(shop)


async def test_a_comparison_never_moves_the_place_past_what_another_server_forgot(
    evening: Shop, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL is exchanged after a page was found to be known, and before its end is noted."""
    shop, fan = evening, evening.fan()
    order_id = await shop.order(fan, await shop.showtime(), "A1")
    await past.remember()
    await shop.pay(fan, order_id)
    await shop.write()
    store = shop.platform.book_store
    missing = store.missing

    async def and_then(gateway: str, movements: Any) -> Any:
        found = await missing(gateway, movements)
        monkeypatch.setattr(store, "missing", missing)
        await past.come_back()
        return found

    monkeypatch.setattr(store, "missing", and_then)
    with pytest.raises(PersistenceUnavailable):
        await shop.reconcile()
    await shop.platform.rebuilder.rebuild("PostgreSQL was set back")
    await shop.write()
    assert await shop.reconcile() == 1
    await settled(shop)
    assert is_served(await shop.find(order_id))


# What fits nothing


async def test_money_for_an_order_that_is_gone_for_good_goes_back_once(evening: Shop, past: Past) -> None:
    """Its log is gone as well: what the gateway knows is all there is."""
    shop = evening
    showtime_id = await shop.showtime()
    await shop.platform.wholeness.look()
    await past.remember()
    order_id = await shop.buy(shop.fan(), showtime_id, "A1")
    payment_id = (await shop.find(order_id)).payments[0].payment_id
    await past.come_back()
    await shop.redis.delete(*(log_key(partition) for partition in range(PARTITIONS)))
    await shop.platform.rebuilder.rebuild("PostgreSQL was set back")
    async with at_work(shop):
        await until(lambda: is_whole(shop), within_s=30)
    await settled(shop)
    order = await shop.find(order_id)
    assert (order.state, order.end_reason, has_money_back(order)) == ("cancelled", "order_lost", True)
    assert list(shop.gateway.refunds) == [refund_id_of(payment_id)]
    assert await shop.taken(showtime_id) == set()
    await shop.buy(shop.fan(), showtime_id, "A1")
    report = await run_audit(shop.platform, patience=Patience(settle_s=(0.01,)))
    assert not [check for check in report.checks if not check.ok]


async def test_an_order_whose_claim_is_still_on_its_way_is_waited_for(evening: Shop, past: Past) -> None:
    shop = evening
    showtime_id = await shop.showtime()
    await past.remember()
    order_id = await shop.buy(shop.fan(), showtime_id, "A1")
    await past.come_back()
    await shop.writing(shop.reconcile())
    await settled(shop)
    assert is_served(await shop.find(order_id))


@pytest.mark.parametrize(
    "oddity", ["another's order", "another sum", "less went back", "a refund beside ours"]
)
async def test_what_fits_nothing_is_left_to_a_person_and_keeps_nobody_waiting(
    evening: Shop, oddity: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop, fan = evening, evening.fan()
    gateway, showtime_id = shop.gateway, await shop.showtime()
    order_id = await shop.buy(fan, showtime_id, "A1")
    session = gateway.sessions[(await shop.find(order_id)).payments[0].payment_id]
    if oddity == "another's order":
        stranger = replace(session, payment_id=new_id("pay"), gateway_ref="ppr_odd", order_id="INV-7")
        gateway.book.append(("capture", stranger, stranger.payment_id, session.amount))
    elif oddity == "another sum":
        pending = await shop.open_payment(fan, other := await shop.order(fan, showtime_id, "A2"))
        odd = replace(gateway.sessions[pending], amount=Money(1, "CNY"))
        gateway.book.append(("capture", odd, pending, odd.amount))
    elif oddity == "less went back":
        gateway.book.append(("refund", session, new_id("ref"), Money(PRICE - 1, "CNY")))
    else:
        gateway.refund_plan.append("sent")
        await shop.ask_back(fan, order_id)
        await shop.complete()
        gateway.book.append(("refund", session, new_id("ref"), session.amount))
    with caplog.at_level(logging.ERROR):
        await shop.reconcile()
    assert caplog.text
    assert await shop.reconcile() == 0
    assert len((await shop.find(order_id)).tickets) == 1
    if oddity == "another sum":
        assert [one.state for one in (await shop.find(other)).payments] == ["unknown"]
    await shop.sound()


async def test_a_refund_made_on_the_gateways_own_pages_takes_the_tickets_along(evening: Shop) -> None:
    """Nobody asked here: it is under a name of the gateway's."""
    shop, fan = evening, evening.fan()
    showtime_id = await shop.showtime()
    order_id = await shop.buy(fan, showtime_id, "A1")
    session = shop.gateway.sessions[(await shop.find(order_id)).payments[0].payment_id]
    session.refunded = session.amount.amount
    shop.gateway.refunds["re_by_hand"] = GatewayRefund("r", "re_by_hand", "completed", session.amount)
    shop.gateway.book.append(("refund", session, "re_by_hand", session.amount))
    assert await shop.reconcile() == 1
    await settled(shop)
    order = await shop.find(order_id)
    assert (order.state, has_money_back(order)) == ("refunded", True)
    assert await shop.taken(showtime_id) == set()


async def test_one_gateway_that_is_away_keeps_nobody_from_the_others_books(evening: Shop) -> None:
    shop = evening
    order_id = await shop.order(fan := shop.fan(), await shop.showtime(), "A1")
    shop.gateway.capture(await shop.open_payment(fan, order_id))
    away = replace(shop.gateway, name="away", away=True)
    shop.platform.gateways = {away.name: away, shop.gateway.name: shop.gateway}
    del shop.platform.reconciliation
    with pytest.raises(SeatRushError):
        await shop.reconcile()
    await shop.write()
    assert is_served(await shop.find(order_id))
