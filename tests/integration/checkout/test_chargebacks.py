"""Goal: money a bank takes back is taken once from our ledger, whatever we are told, when and how often.

Method: whole purchases on real engines, with a gateway on paper whose banks take money back and give it
again. Its news are delivered in every order, several times, at once or never, around refunds in every state;
then `sound` holds our ledger against what happened, cent by cent. Seats, tickets and the order have to stay
what they were; that a bank has the money is written on the payment and shown on the tickets.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from typing import Any

import pytest

from checkout import errors
from checkout.domain import Order, refund_id_of
from checkout.payments import PaymentService
from kernel.money import Money
from tests.adversity.driving import Points, driven
from tests.support.past import Past
from tests.support.shop import PRICE, Delivery, Shop, until

DAY_S = 24 * 3_600


async def bought(shop: Shop) -> tuple[str, str, str]:
    """Fan, confirmed order of one seat, and its payment."""
    fan, showtime_id = shop.fan(), await shop.showtime()
    order_id = await shop.buy(fan, showtime_id, "A1")
    return fan, order_id, (await shop.find(order_id)).payments[0].payment_id


async def opened(shop: Shop) -> tuple[str, str]:
    """An order that waits for its payment, and the payment."""
    fan, showtime_id = shop.fan(), await shop.showtime()
    order_id = await shop.order(fan, showtime_id, "A1")
    return order_id, await shop.open_payment(fan, order_id)


async def balances(shop: Shop, order_id: str) -> dict[str, int]:
    rows = await shop.sql(
        "SELECT account, sum(amount)::bigint AS balance FROM checkout.ledger_entries"
        " WHERE order_id = $1 GROUP BY account HAVING sum(amount) <> 0",
        order_id,
    )
    return {row["account"]: row["balance"] for row in rows}


async def postings(shop: Shop, order_id: str) -> Counter[str]:
    """How often what was posted for an order."""
    rows = await shop.sql(
        "SELECT transaction_id FROM checkout.ledger_entries WHERE order_id = $1 AND line = 1", order_id
    )
    return Counter(row["transaction_id"].split(":")[0] for row in rows)


async def outcome(shop: Shop, news: Delivery) -> str | None:
    found: str | None = await shop.one(
        "SELECT outcome FROM checkout.gateway_events WHERE event_id = $1", news.event_id
    )
    return found


def is_disputed(order: Order) -> bool:
    """What the tickets say, which is what the payments say; and nothing else has changed."""
    assert {ticket.state for ticket in order.tickets} == {"issued"}
    said = {ticket.disputed for ticket in order.tickets}
    assert said == {any(payment.charged_back for payment in order.payments)}
    return said == {True}


# What it does, and what it leaves as it is


async def test_the_money_is_with_a_bank_and_the_seats_stay_sold(shop: Shop) -> None:
    _, order_id, payment_id = await bought(shop)
    before = await shop.find(order_id)
    seats = await shop.taken(before.showtime_id)
    news = shop.gateway.charge_back(payment_id)
    await shop.deliver(news)
    await shop.settle()
    order = await shop.find(order_id)
    assert (order.state, order.lines, order.end_reason) == ("confirmed", before.lines, None)
    assert [payment.state for payment in order.payments] == ["captured"]
    assert is_disputed(order)
    assert not is_disputed(before)
    assert (await shop.store.find_ticket(order.tickets[0].ticket_id)) == order.tickets[0]
    assert await shop.taken(order.showtime_id) == seats
    assert await outcome(shop, news) == "charged_back"
    assert await balances(shop, order_id) == {"chargebacks": PRICE, "tickets_sold": -PRICE}
    await shop.sound()


async def test_what_we_win_is_ours_again(shop: Shop) -> None:
    _, order_id, payment_id = await bought(shop)
    await shop.deliver(shop.gateway.charge_back(payment_id))
    news = shop.gateway.reverse(payment_id)
    await shop.deliver(news)
    order = await shop.find(order_id)
    assert not is_disputed(order)
    assert not (await shop.store.find_ticket(order.tickets[0].ticket_id)).disputed
    assert await outcome(shop, news) == "chargeback_reversed"
    assert await balances(shop, order_id) == {"gateway:paper": PRICE, "tickets_sold": -PRICE}
    await shop.sound()


async def test_a_seat_somebody_disputes_is_not_sold_to_the_next(shop: Shop) -> None:
    _, order_id, payment_id = await bought(shop)
    await shop.deliver(shop.gateway.charge_back(payment_id))
    await shop.time_passes(90 * DAY_S)
    await shop.settle()
    assert (await shop.find(order_id)).state == "confirmed"
    assert len(await shop.taken((await shop.find(order_id)).showtime_id)) == 1
    await shop.sound()


async def test_an_order_that_cost_nothing_has_nothing_to_take_back(shop: Shop) -> None:
    """No bank would; whoever says so moves no money."""
    fan, showtime_id = shop.fan(), await shop.showtime(price=0)
    order_id = await shop.buy(fan, showtime_id, "A1")
    await shop.deliver(shop.gateway.charge_back((await shop.find(order_id)).payments[0].payment_id))
    assert await balances(shop, order_id) == {}
    await shop.sound()


# Once, whatever we are told


async def test_ten_deliveries_at_once_are_one_chargeback(shop: Shop) -> None:
    _, order_id, payment_id = await bought(shop)
    for news in (shop.gateway.charge_back(payment_id), shop.gateway.reverse(payment_id)):
        await asyncio.gather(*(shop.deliver(news) for _ in range(10)))
    assert await postings(shop, order_id) == dict.fromkeys(
        ("capture", "sale", "chargeback", "chargeback_reversed"), 1
    )
    await shop.sound()


async def test_another_event_about_the_same_time_is_a_repeat(shop: Shop) -> None:
    """The gateway tells it again under another id, also after it was reversed, and reverses it twice."""
    _, order_id, payment_id = await bought(shop)
    await shop.deliver(shop.gateway.charge_back(payment_id))
    again = shop.gateway.news_of_bank("payment.charged_back", payment_id)
    await shop.deliver(again, shop.gateway.reverse(payment_id))
    repeats = [
        shop.gateway.news_of_bank(kind, payment_id)
        for kind in ("payment.chargeback_reversed", "payment.charged_back")
    ]
    await asyncio.gather(*(shop.deliver(news) for news in repeats))
    assert [await outcome(shop, news) for news in (again, *repeats)] == ["repeated"] * 3
    assert not is_disputed(await shop.find(order_id))
    assert (await postings(shop, order_id))["chargeback_reversed"] == 1
    await shop.sound()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("is_won", [True, False], ids=["won", "lost"])
async def test_news_in_any_order_come_to_the_same(shop: Shop, order: tuple[int, ...], is_won: bool) -> None:
    """Each word implies what came before it: even a capture nobody has told us of."""
    order_id, payment_id = await opened(shop)
    gateway = shop.gateway
    told = [gateway.capture(payment_id), gateway.charge_back(payment_id)]
    told.append(gateway.reverse(payment_id) if is_won else told[-1])
    for place in order:
        await shop.deliver(told[place], told[place])
    await shop.settle()
    found = await shop.find(order_id)
    assert (found.state, is_disputed(found)) == ("confirmed", not is_won)
    wanted = {"capture": 1, "sale": 1, "chargeback": 1} | ({"chargeback_reversed": 1} if is_won else {})
    assert await postings(shop, order_id) == wanted
    await shop.sound()


async def test_a_chargeback_is_the_first_we_hear_of_a_payment_we_crashed_around(shop: Shop) -> None:
    """Even the gateway's session of it was never written down."""
    order_id, payment_id = await opened(shop)
    shop.gateway.capture(payment_id)
    await shop.sql(
        "UPDATE checkout.payments SET gateway_ref = NULL, redirect_url = NULL WHERE payment_id = $1",
        payment_id,
    )
    await shop.deliver(shop.gateway.charge_back(payment_id))
    await shop.settle()
    found = await shop.find(order_id)
    assert (found.state, is_disputed(found)) == ("confirmed", True)
    assert found.payments[0].gateway_ref == shop.gateway.sessions[payment_id].gateway_ref
    await shop.sound()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
async def test_a_bank_may_take_the_same_money_again_after_we_won(shop: Shop, order: tuple[int, ...]) -> None:
    _, order_id, payment_id = await bought(shop)
    told = [shop.gateway.charge_back(payment_id), shop.gateway.reverse(payment_id)]
    told.append(shop.gateway.charge_back(payment_id))
    for place in order:
        await shop.deliver(told[place])
    assert is_disputed(await shop.find(order_id))
    assert await balances(shop, order_id) == {"chargebacks": PRICE, "tickets_sold": -PRICE}
    await shop.deliver(shop.gateway.reverse(payment_id))
    assert not is_disputed(await shop.find(order_id))
    assert (await postings(shop, order_id))["chargeback"] == 2
    await shop.sound()


async def completed(shop: Shop, order_id: str, wanted: bool) -> bool:
    """Let completers act on events that were left; whether it is as it should be then."""
    await shop.time_passes(3)
    await shop.platform.completers.act_on_events()
    return is_disputed(await shop.find(order_id)) == wanted


async def test_killed_anywhere_the_completers_take_it_once(shop: Shop) -> None:
    """At each suspension between hearing of it and answering the gateway."""
    _, order_id, payment_id = await bought(shop)
    killed = 0
    for stop_at in itertools.count(1):
        is_taken = shop.gateway.sessions[payment_id].charged_back
        news = shop.gateway.reverse(payment_id) if is_taken else shop.gateway.charge_back(payment_id)
        points = Points(stop_at)
        telling = asyncio.create_task(driven(shop.deliver(news), points))
        waiting = asyncio.create_task(points.stopped.wait())
        await asyncio.wait([telling, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        was_killed = not telling.done()
        telling.cancel()
        await asyncio.wait([telling])
        await shop.deliver(news)  # the gateway had no answer; who was killed may have it in hand still
        await until(lambda wanted=not is_taken: completed(shop, order_id, wanted))
        if not was_killed:
            break
        killed += 1
    assert killed >= 8
    await shop.sound()


# What fits nothing


@pytest.mark.parametrize(
    ("bent", "said"),
    [
        ({"reference": f"pay_{'0' * 26}"}, "orphan"),
        ({"amount": PRICE - 1}, "amount_differs"),
        ({"amount": PRICE + 1}, "amount_differs"),
        ({"currency": "EUR"}, "amount_differs"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["payment.charged_back", "payment.chargeback_reversed"])
async def test_what_fits_no_payment_of_ours_is_kept_and_left_to_a_person(
    shop: Shop, kind: str, bent: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, order_id, payment_id = await bought(shop)
    before = await shop.tables()
    news = shop.gateway.news_of_bank(kind, payment_id, **bent)
    with caplog.at_level(logging.ERROR):
        await shop.deliver(news, news)
    assert caplog.text
    assert await outcome(shop, news) == said
    after = await shop.tables()
    assert len(after.pop("gateway_events")) == len(before.pop("gateway_events")) + 1
    assert after == before
    assert not is_disputed(await shop.find(order_id))


async def test_another_sum_of_a_payment_we_have_not_seen_captured_captures_nothing(shop: Shop) -> None:
    order_id, payment_id = await opened(shop)
    await shop.deliver(shop.gateway.news_of_bank("payment.charged_back", payment_id, amount=1))
    found = await shop.find(order_id)
    assert (found.state, [payment.state for payment in found.payments]) == ("pending_payment", ["pending"])


async def test_another_gateways_word_for_our_payment_is_an_orphan(shop: Shop) -> None:
    _, order_id, payment_id = await bought(shop)
    news = shop.gateway.news_of_bank("payment.charged_back", payment_id)
    event = shop.gateway.read_event(news.event_id, news.body)
    payments: PaymentService = shop.platform.payments
    async with shop.store.transaction() as connection:
        assert await payments.take(connection, "another", event) == ("orphan", None)
    assert not is_disputed(await shop.find(order_id))


# Whoever asks for his money meanwhile


async def test_nobody_gets_from_us_what_his_bank_has_given_him(shop: Shop) -> None:
    fan, order_id, payment_id = await bought(shop)
    await shop.deliver(shop.gateway.charge_back(payment_id))
    before = await shop.tables()
    with pytest.raises(errors.PaymentChargedBack):
        await shop.platform.refunds.quote(fan, order_id, None)
    with pytest.raises(errors.PaymentChargedBack):
        await shop.ask_back(fan, order_id)
    assert await shop.tables() == before
    await shop.deliver(shop.gateway.reverse(payment_id))
    await shop.ask_back(fan, order_id)
    await shop.settle()
    assert await shop.state(order_id) == "refunded"
    assert await balances(shop, order_id) == {}
    await shop.sound()


async def test_a_refund_that_waits_for_a_chargeback_to_be_written_is_refused(shop: Shop) -> None:
    """The quote was made before, and the chargeback is not committed when the refund comes to its payment."""
    fan, order_id, payment_id = await bought(shop)
    news = shop.gateway.charge_back(payment_id)
    event = shop.gateway.read_event(news.event_id, news.body)
    async with shop.store.transaction() as connection:
        await shop.platform.payments.take(connection, "paper", event)
        asking = asyncio.create_task(shop.ask_back(fan, order_id))
        waiting = (
            "SELECT count(*) > 0 FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        await until(lambda: shop.one(waiting))
    with pytest.raises(errors.PaymentChargedBack):
        await asking
    order = await shop.find(order_id)
    assert (order.refunds, is_disputed(order)) == ((), True)
    await shop.sound()


async def test_a_refund_and_a_chargeback_that_race_leave_one_of_two_stories(shop: Shop) -> None:
    stories: Counter[str] = Counter()
    for _ in range(12):
        fan, order_id, payment_id = await bought(shop)
        news = shop.gateway.charge_back(payment_id)
        asked, _ = await asyncio.gather(
            shop.ask_back(fan, order_id), shop.deliver(news), return_exceptions=True
        )
        if isinstance(asked, BaseException):
            assert isinstance(asked, errors.PaymentChargedBack)
        order = await shop.find(order_id)
        assert len(order.refunds) == (0 if isinstance(asked, BaseException) else 1)
        stories["refused" if isinstance(asked, BaseException) else "waits"] += 1
        await shop.settle_money()
        assert shop.gateway.sessions[payment_id].refunded == 0
    assert stories.total() == 12
    await shop.sound()


# A refund that was there before


async def test_a_refund_that_was_due_waits_and_is_sent_when_we_win(shop: Shop) -> None:
    fan, order_id, payment_id = await bought(shop)
    await shop.tidy()
    refund_id = (await shop.ask_back(fan, order_id)).refund_id
    await shop.deliver(shop.gateway.charge_back(payment_id))
    for _ in range(5):
        await shop.time_passes(DAY_S)
        await shop.complete()
    assert shop.gateway.asked_back[refund_id] == 0, "it is asked for while a bank has the money"
    order = await shop.find(order_id)
    assert ([refund.state for refund in order.refunds], order.payments[0].charged_back) == (
        ["requested"],
        True,
    )
    assert (await shop.store.oldest_open())["refunds_open"] == 0.0, "nobody can do anything about it"
    assert await balances(shop, order_id) == {"chargebacks": PRICE, "refunds_due": -PRICE}
    await shop.deliver(shop.gateway.reverse(payment_id))
    await shop.complete()
    assert shop.gateway.refunds[refund_id].state == "completed"
    assert await shop.state(order_id) == "refunded"
    assert await balances(shop, order_id) == {}
    await shop.sound()


async def refused_for_a_while(shop: Shop) -> None:
    """The gateway is asked again and again, each time when the pause is over."""
    for _ in range(3):
        await shop.complete()
        await shop.time_passes(700)


async def test_a_refund_the_gateway_refused_for_a_bank_is_not_asked_for_ever(shop: Shop) -> None:
    """The refund is sent before we hear of the chargeback, and refused; heard of, nobody asks any more."""
    fan, order_id, payment_id = await bought(shop)
    await shop.ask_back(fan, order_id)
    news = shop.gateway.charge_back(payment_id)
    await refused_for_a_while(shop)
    asked = shop.gateway.asked_back[refund_id_of(payment_id)]
    assert asked > 1, "the control: until then it is asked for again"
    await shop.deliver(news)
    for _ in range(3):
        await shop.time_passes(DAY_S)
        await shop.complete()
    assert shop.gateway.asked_back[refund_id_of(payment_id)] == asked
    assert [refund.state for refund in (await shop.find(order_id)).refunds] == ["failed"]
    await shop.deliver(shop.gateway.reverse(payment_id))
    await shop.complete()
    assert await shop.state(order_id) == "refunded"
    await shop.sound()


async def test_a_refund_that_waited_is_asked_for_at_once_and_not_after_its_pause(shop: Shop) -> None:
    fan, order_id, payment_id = await bought(shop)
    await shop.ask_back(fan, order_id)
    news = shop.gateway.charge_back(payment_id)
    await refused_for_a_while(shop)
    await shop.complete()  # refused a moment ago: its pause is ten minutes by now
    await shop.deliver(news, shop.gateway.reverse(payment_id))
    await shop.complete()
    assert await shop.state(order_id) == "refunded"
    await shop.sound()


@pytest.mark.parametrize("state", ["sent", "failed", "unknown", "completed"])
async def test_a_bank_that_takes_what_is_on_its_way_back_is_believed(shop: Shop, state: Any) -> None:
    """Other gateways may let it: the money went back twice then, and our ledger says so."""
    fan, order_id, payment_id = await bought(shop)
    gateway, session = shop.gateway, shop.gateway.sessions[payment_id]
    gateway.refund_plan = [state]
    refund_id = (await shop.ask_back(fan, order_id)).refund_id
    await shop.complete()
    here = {"unknown": "requested"}.get(state, state)
    assert [refund.state for refund in (await shop.find(order_id)).refunds] == [here]
    session.chargebacks[f"cbk_{refund_id}"] = True
    gateway.book.append(("chargeback", session, f"cbk_{refund_id}", session.amount))
    await shop.deliver(gateway.news_of_bank("payment.charged_back", payment_id))
    asked = gateway.asked_back[refund_id]
    await shop.time_passes(DAY_S)
    await shop.complete()
    assert gateway.asked_back[refund_id] == asked
    order = await shop.find(order_id)
    assert ([refund.state for refund in order.refunds], order.payments[0].charged_back) == ([here], True)
    await shop.sound()
    if state == "sent":
        gateway.complete(refund_id)
    await shop.reconcile()
    is_back = state != "failed"
    assert [one.state for one in (await shop.find(order_id)).refunds] == [
        "completed" if is_back else "failed"
    ]
    assert await shop.state(order_id) == ("refunded" if is_back else "confirmed")
    await shop.deliver(gateway.reverse(payment_id))
    await shop.settle()
    assert (await shop.state(order_id), session.refunded) == ("refunded", PRICE)
    assert await balances(shop, order_id) == {}
    await shop.sound()


# An order that was paid twice


async def paid_twice(shop: Shop) -> tuple[str, str, str]:
    """An order, the payment its tickets were paid with, and the one that was too much."""
    fan, showtime_id = shop.fan(), await shop.showtime()
    order_id = await shop.order(fan, showtime_id, "A1")
    kept, more = [await shop.open_payment(fan, order_id) for _ in range(2)]
    await shop.deliver(shop.gateway.capture(kept), shop.gateway.capture(more))
    await shop.write()
    return order_id, kept, more


async def test_who_disputes_what_was_too_much_is_right_and_his_tickets_are_good(shop: Shop) -> None:
    order_id, _, more = await paid_twice(shop)
    await shop.deliver(shop.gateway.charge_back(more))
    await shop.settle()
    order = await shop.find(order_id)
    assert [ticket.disputed for ticket in order.tickets] == [False]
    assert not (await shop.store.find_ticket(order.tickets[0].ticket_id)).disputed
    assert [refund.state for refund in order.refunds] == ["requested"]
    await shop.ask_back(order.account_id, order_id)
    await shop.settle()
    assert {one.payment_id: one.state for one in (await shop.find(order_id)).refunds}[more] == "requested"
    assert shop.gateway.sessions[more].refunded == 0
    await shop.sound()


async def test_what_was_too_much_goes_back_though_a_bank_has_the_other(shop: Shop) -> None:
    order_id, kept, more = await paid_twice(shop)
    await shop.deliver(shop.gateway.charge_back(kept))
    await shop.settle()
    order = await shop.find(order_id)
    assert [ticket.disputed for ticket in order.tickets] == [True]
    assert (await shop.store.find_ticket(order.tickets[0].ticket_id)).disputed
    assert [(refund.payment_id, refund.state) for refund in order.refunds] == [(more, "completed")]
    await shop.sound()


async def test_money_for_seats_that_are_gone_keeps_its_owner_while_a_bank_has_it(shop: Shop) -> None:
    """Paid too late, refunded for that, and charged back before the refund was sent."""
    order_id, payment_id = await opened(shop)
    showtime_id = (await shop.find(order_id)).showtime_id
    await shop.time_passes(DAY_S)
    await shop.settle()
    await shop.heard(showtime_id)
    await shop.buy(shop.fan(), showtime_id, "A1")
    shop.gateway.capture(payment_id)
    await shop.deliver(shop.gateway.charge_back(payment_id))
    await shop.settle()
    order = await shop.find(order_id)
    assert (order.state, [refund.state for refund in order.refunds]) == ("cancelled", ["requested"])
    assert await balances(shop, order_id) == {"chargebacks": PRICE, "refunds_due": -PRICE}
    await shop.sound()


# Webhooks that never come, and a PostgreSQL that went back


async def test_what_nobody_told_us_is_found_in_the_books_once(shop: Shop) -> None:
    _, order_id, payment_id = await bought(shop)
    await shop.reconcile()
    shop.gateway.charge_back(payment_id)
    assert await shop.reconcile() == 1
    assert is_disputed(await shop.find(order_id))
    late = shop.gateway.news_of_bank("payment.charged_back", payment_id)
    await shop.deliver(late)
    assert await outcome(shop, late) == "repeated"
    shop.gateway.reverse(payment_id)
    shop.gateway.charge_back(payment_id)
    shop.gateway.reverse(payment_id)
    assert await shop.reconcile() == 3
    assert not is_disputed(await shop.find(order_id))
    asked, tables = shop.gateway.calls["movements"], await shop.tables()
    assert await shop.reconcile() == 0
    assert shop.gateway.calls["movements"] == asked + 1
    await shop.sql("DELETE FROM checkout.gateway_positions")
    assert await shop.reconcile() == 0
    assert await shop.tables() == tables
    await shop.sound()


@pytest.mark.parametrize("oddity", ["another sum", "another's payment"])
async def test_a_line_that_fits_nothing_is_left_to_a_person_and_keeps_nobody_waiting(
    shop: Shop, oddity: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, order_id, payment_id = await bought(shop)
    session, amount = shop.gateway.sessions[payment_id], Money(PRICE - 1, "CNY")
    if oddity == "another's payment":
        session, amount = type(session)("pay_none", "r", Money(PRICE, "CNY"), session.expires_at, "o"), amount
    shop.gateway.book.append(("chargeback", session, "cbk_odd", amount))
    with caplog.at_level(logging.ERROR):
        assert await shop.reconcile() >= 1
    assert "left for a person" in caplog.text
    assert await shop.reconcile() == 0
    assert not is_disputed(await shop.find(order_id))
    await shop.sound()


async def an_evening(shop: Shop, past: Past) -> dict[str, tuple[str, str]]:
    """Orders and payments by what PostgreSQL will have forgotten of them; then it is back in the middle."""
    showtime_id, gateway = await shop.showtime(), shop.gateway

    async def buy(seat: str) -> tuple[str, str]:
        order_id = await shop.buy(shop.fan(), showtime_id, seat)
        return order_id, (await shop.find(order_id)).payments[0].payment_id

    found = {"that it was taken": await buy("A1"), "that we won": await buy("A2")}
    found["both"] = await buy("A3")
    await shop.deliver(gateway.charge_back(found["that we won"][1]))
    await shop.reconcile()
    await past.remember()
    await shop.deliver(gateway.charge_back(found["that it was taken"][1]))
    await shop.deliver(gateway.reverse(found["that we won"][1]))
    for news in (gateway.charge_back, gateway.reverse):
        await shop.deliver(news(found["both"][1]))
    found["all of it"] = await buy("B1")
    await shop.deliver(gateway.charge_back(found["all of it"][1]))
    await past.come_back()
    await shop.platform.rebuilder.rebuild("PostgreSQL was set back")
    await shop.write()
    return found


async def test_what_postgresql_forgot_of_banks_is_found_again_once(evening: Shop, past: Past) -> None:
    shop = evening
    found = await an_evening(shop, past)
    assert await shop.reconcile() == 6
    await shop.settle()
    said = {name: is_disputed(await shop.find(order_id)) for name, (order_id, _) in found.items()}
    assert said == {"that it was taken": True, "that we won": False, "both": False, "all of it": True}
    await shop.sound()
    tables = await shop.tables()
    await shop.sql("DELETE FROM checkout.gateway_positions")
    assert await shop.reconcile() == 0
    assert await shop.tables() == tables


async def test_without_the_comparison_money_is_thought_to_be_ours(evening: Shop, past: Past) -> None:
    """The control: completers ask about payments, and nobody about banks."""
    shop = evening
    found = await an_evening(shop, past)
    await shop.settle()
    order = await shop.find(found["that it was taken"][0])
    assert not is_disputed(order)
    assert await balances(shop, order.order_id) == {"gateway:paper": PRICE, "tickets_sold": -PRICE}
