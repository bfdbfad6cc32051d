"""Goal: what a gateway says is believed of its own payments and refunds, and of the sum that was asked for.

Method: one order at a time, and a gateway whose word fits nearly: a refund of less than was owed, told by a
webhook, found by asking and found in the books; a word of one gateway about what is another's; a payment that
is said to have failed after it was captured with a wrong sum; money that somebody gave back by hand. Whatever
does not fit stays open for a person, and our ledger says what the gateway's books do. Next to each stands the
same word where it fits.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from checkout.domain import Order
from checkout.ports import GatewayRefund
from kernel.money import Money
from tests.support.shop import PRICE, Delivery, Shop

#: A day after which a gateway may have forgotten a refund's key, so that it is looked for.
LATER_S = 21 * 3_600


# A refund of another sum


async def hears_of_it(shop: Shop, refund_id: str) -> None:
    await shop.deliver(shop.gateway.news("refund.completed", refund_id))


async def asks_for_it(shop: Shop, refund_id: str) -> None:
    await shop.time_passes(LATER_S)
    await shop.complete()


async def reads_of_it(shop: Shop, refund_id: str) -> None:
    await shop.reconcile()


ways = pytest.mark.parametrize("learns", [hears_of_it, asks_for_it, reads_of_it])
Way = Callable[[Shop, str], Awaitable[None]]


async def gives_back(shop: Shop, amount: Money, learns: Way) -> Order:
    """Of two seats; the gateway took its time, and this is what it gave back."""
    fan, gateway = shop.fan(), shop.gateway
    order_id = await shop.buy(fan, await shop.showtime(), "A1", "A2")
    gateway.refund_plan = ["sent"]
    refund = await shop.ask_back(fan, order_id)
    await shop.complete()
    gateway.refunds[refund.refund_id] = replace(gateway.refunds[refund.refund_id], amount=amount)
    session = gateway.sessions[refund.payment_id]
    session.refunded = amount.amount
    gateway.complete(refund.refund_id)
    await learns(shop, refund.refund_id)
    return await shop.find(order_id)


@ways
@pytest.mark.parametrize(
    "amount", [Money(PRICE, "CNY"), Money(2 * PRICE, "HKD")], ids=["less", "other money"]
)
async def test_a_refund_of_another_sum_is_not_the_refund_that_was_owed(
    evening: Shop, amount: Money, learns: Way, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        order = await gives_back(evening, amount, learns)
    assert (order.state, [refund.state for refund in order.refunds]) == ("confirmed", ["sent"])
    assert f"{order.refunds[0].refund_id} is completed with another amount" in caplog.text
    assert ("left for a person: it is not the sum" in caplog.text) == (learns is reads_of_it)
    assert await owed(evening) == 2 * PRICE
    await evening.sound()


@ways
async def test_a_refund_of_what_was_owed_is_the_refund(evening: Shop, learns: Way) -> None:
    order = await gives_back(evening, Money(2 * PRICE, "CNY"), learns)
    assert (order.state, [refund.state for refund in order.refunds]) == ("refunded", ["completed"])
    assert not await owed(evening)
    await evening.sound()


async def owed(shop: Shop) -> int:
    """What the ledger says we owe."""
    statement = "SELECT -coalesce(sum(amount), 0) FROM checkout.ledger_entries WHERE account = 'refunds_due'"
    return int(await shop.one(statement))


# Another gateway's word


@asynccontextmanager
async def another_gateway(shop: Shop) -> AsyncIterator[Callable[[Delivery], Awaitable[None]]]:
    """One more, which may say what it likes; how its news is received."""
    shop.platform.gateways["another"] = replace(shop.gateway, name="another")

    async def says(news: Delivery) -> None:
        await shop.platform.payments.receive("another", news.headers, news.body)

    yield says
    del shop.platform.gateways["another"]


@pytest.mark.parametrize("state", ["completed", "failed"])
async def test_one_gateways_word_ends_no_refund_of_anothers(evening: Shop, state: str) -> None:
    shop, fan = evening, evening.fan()
    order_id = await shop.buy(fan, await shop.showtime(), "A1")
    refund = await shop.ask_back(fan, order_id)
    async with another_gateway(shop) as says:
        await says(shop.gateway.news(f"refund.{state}", refund.refund_id))
        assert [one.state for one in (await shop.find(order_id)).refunds] == ["requested"]
        assert await outcomes(shop) == ["orphan"]
    await shop.settle()
    assert (await shop.state(order_id), shop.gateway.calls["refund"]) == ("refunded", 1)
    await shop.sound()


async def test_one_gateways_word_fails_no_payment_of_anothers(evening: Shop) -> None:
    shop, fan = evening, evening.fan()
    order_id = await shop.order(fan, await shop.showtime(), "A1")
    payment_id = await shop.open_payment(fan, order_id)
    news = shop.gateway.decline(payment_id)
    async with another_gateway(shop) as says:
        await says(news)
    assert [one.state for one in (await shop.find(order_id)).payments] == ["pending"]
    assert await outcomes(shop) == ["ignored"]
    await shop.deliver(news)
    assert [one.state for one in (await shop.find(order_id)).payments] == ["failed"], "its own gateway's"


async def outcomes(shop: Shop) -> list[str]:
    """What came of the events of others."""
    rows = await shop.sql("SELECT outcome FROM checkout.gateway_events WHERE gateway = 'another'")
    return [row["outcome"] for row in rows]


# What only a person can say


async def test_a_payment_in_doubt_does_not_fail_by_a_later_word(evening: Shop) -> None:
    """Money was captured, though not what was asked for: somebody has to look at it."""
    shop, fan = evening, evening.fan()
    order_id = await shop.order(fan, await shop.showtime(), "A1")
    payment_id = await shop.open_payment(fan, order_id)
    await shop.deliver(shop.gateway.news("payment.captured", payment_id, Money(1, "CNY")))
    await shop.deliver(shop.gateway.decline(payment_id))
    assert [one.state for one in (await shop.find(order_id)).payments] == ["unknown"]
    await shop.deliver(shop.gateway.capture(payment_id))  # what was asked for, after all
    assert await shop.state(order_id) == "paid"


async def given_back_by_hand(shop: Shop, order_id: str) -> None:
    """On the gateway's own pages: the whole payment, under a name of the gateway's."""
    session = shop.gateway.sessions[(await shop.find(order_id)).payments[0].payment_id]
    session.refunded = session.amount.amount
    shop.gateway.refunds["re_by_hand"] = GatewayRefund("r", "re_by_hand", "completed", session.amount)
    shop.gateway.book.append(("refund", session, "re_by_hand", session.amount))
    await shop.reconcile()
    await shop.settle()


@pytest.mark.parametrize("used", [1, 2])
async def test_money_given_back_after_the_door_takes_no_tickets_along(
    evening: Shop, used: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A kindness after the film. Where no ticket was used see `test_reconciliation.py`."""
    shop, fan = evening, evening.fan()
    showtime_id = await shop.showtime()
    order_id = await shop.buy(fan, showtime_id, "A1", "A2")
    for ticket in (await shop.find(order_id)).tickets[:used]:
        await shop.sql(
            "UPDATE checkout.tickets SET state = 'admitted' WHERE ticket_id = $1", ticket.ticket_id
        )
    before = await shop.find(order_id)
    with caplog.at_level(logging.ERROR):
        await given_back_by_hand(shop, order_id)
    assert "left for a person" in caplog.text
    assert await shop.find(order_id) == before
    assert (before.state, len(await shop.taken(showtime_id))) == ("confirmed", 2)
    assert not await owed(shop)


@pytest.mark.parametrize("ours", ["failed", "sent"])
async def test_money_given_back_beside_a_refund_that_failed_completes_it(evening: Shop, ours: str) -> None:
    """One that is on its way may still arrive, and is another: a person has to look."""
    shop, fan, gateway = evening, evening.fan(), evening.gateway
    order_id = await shop.buy(fan, await shop.showtime(), "A1")
    gateway.refund_plan = [ours]
    refund = await shop.ask_back(fan, order_id)
    await shop.complete()
    await given_back_by_hand(shop, order_id)
    order, is_over = await shop.find(order_id), ours == "failed"
    assert [one.refund_id for one in order.refunds] == [refund.refund_id]
    assert (order.state, order.refunds[0].state) == (
        ("refunded", "completed") if is_over else ("confirmed", ours)
    )
    assert await owed(shop) == (0 if is_over else PRICE)
    asked = gateway.asked_back[refund.refund_id]
    await shop.time_passes(LATER_S)
    await shop.sound()
    if is_over:
        await shop.complete()
        assert gateway.asked_back[refund.refund_id] == asked
