"""Goal: a fan gets back what the quote said, to the cent and once; seats return only after tickets are void.

Method: whole purchases given back on real engines, with a gateway on paper that completes, fails, works
slowly or loses its answers as planned. Redis is looked at between the steps, because the order of the writes
is the promise: what PostgreSQL gave up comes on sale second, never first.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from checkout import errors
from checkout.domain import digest_of, refund_id_of
from checkout.entries import Confirm
from kernel.errors import NotFound, RequestInProgress, ValidationFailed
from kernel.ids import is_id
from kernel.money import Money
from tests.support.shop import PRICE, Shop, against_the_rules, feed


async def bought(shop: Shop, *numbers: int) -> tuple[str, str, str]:
    """Fan, showtime and a confirmed order of these seats of some row."""
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    labels = [f"{row}{number}" for number in numbers or (5, 6)]
    return fan, showtime_id, await shop.buy(fan, showtime_id, *labels)


async def refund_state(shop: Shop, refund_id: str) -> str:
    return str(await shop.one("SELECT state FROM checkout.refunds WHERE refund_id = $1", refund_id))


# How much


@pytest.mark.parametrize("price", [1, 3333, PRICE, 1_000_003])
async def test_what_is_quoted_is_what_comes_back_to_the_cent(shop: Shop, price: int) -> None:
    fan, showtime_id = shop.fan(), await shop.showtime(price=price)
    order_id = await shop.buy(fan, showtime_id, "C1", "C2", "C3")
    quote = await shop.platform.refunds.quote(fan, order_id, None)
    assert quote.amount == Money(3 * price, "CNY")
    assert [line.amount for line in quote.lines] == [price] * 3
    refund = await shop.ask_back(fan, order_id)
    assert (refund.amount, refund.lines) == (quote.amount, quote.lines)
    await shop.settle()
    kept = (await shop.find(order_id)).refunds[0]
    assert (kept.state, kept.amount) == ("completed", quote.amount)
    assert sorted(kept.lines, key=lambda line: line.ticket_id) == sorted(
        quote.lines, key=lambda line: line.ticket_id
    )
    assert shop.gateway.refunds[refund.refund_id].amount == quote.amount
    await shop.sound()


async def test_an_order_that_cost_nothing_can_be_paid_and_given_back_too(shop: Shop) -> None:
    fan, showtime_id = shop.fan(), await shop.showtime(price=0)
    order_id = await shop.buy(fan, showtime_id, "C1")
    await shop.ask_back(fan, order_id)
    await shop.settle()
    assert await shop.state(order_id) == "refunded"
    assert not await shop.one("SELECT count(*) FROM checkout.ledger_entries WHERE order_id = $1", order_id)
    await shop.sound()


async def test_tickets_may_be_named_if_all_of_them_are(shop: Shop) -> None:
    fan, _, order_id = await bought(shop, 5, 6, 7)
    tickets = [ticket.ticket_id for ticket in (await shop.find(order_id)).tickets]
    refunds = shop.platform.refunds
    assert (await refunds.quote(fan, order_id, tickets[::-1])).amount.amount == 3 * PRICE
    for wrong in ([], tickets[:2], [*tickets, tickets[0]], [f"tkt_{'0' * 26}"] * 3):
        with pytest.raises(ValidationFailed):
            await refunds.quote(fan, order_id, wrong)
    assert await shop.state(order_id) == "confirmed"


# Whose, and when


async def test_somebody_elses_order_is_not_there(shop: Shop) -> None:
    _, _, order_id = await bought(shop)
    stranger = shop.fan()
    with pytest.raises(NotFound):
        await shop.platform.refunds.quote(stranger, order_id, None)
    with pytest.raises(NotFound):
        await shop.ask_back(stranger, order_id)
    with pytest.raises(NotFound):
        await shop.ask_back(stranger, f"ord_{'0' * 26}")
    assert not (await shop.find(order_id)).refunds


async def test_what_was_never_paid_cannot_be_given_back(shop: Shop) -> None:
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    order_id = await shop.order(fan, showtime_id, f"{row}5")
    with pytest.raises(errors.InvalidState) as refusal:
        await shop.ask_back(fan, order_id)
    assert refusal.value.facts == {"state": "pending_payment"}
    await shop.deliver(shop.gateway.capture(await shop.open_payment(fan, order_id)))
    with pytest.raises(errors.InvalidState) as refusal:  # paid, and its tickets are still on their way
        await shop.ask_back(fan, order_id)
    assert refusal.value.facts == {"state": "paid"}
    await shop.write()
    assert (await shop.ask_back(fan, order_id)).state == "requested"


async def test_nothing_is_given_back_once_the_showtime_has_begun(shop: Shop) -> None:
    fan = shop.fan()
    begun = await shop.showtime(starts_at=datetime.now(UTC) - timedelta(seconds=1))
    order_id = await shop.buy(fan, begun, "A1")
    with pytest.raises(errors.RefundNotAllowed):
        await shop.platform.refunds.quote(fan, order_id, None)
    with pytest.raises(errors.RefundNotAllowed):
        await shop.ask_back(fan, order_id)
    assert [ticket.state for ticket in (await shop.find(order_id)).tickets] == ["issued"]
    soon = await shop.showtime(starts_at=datetime.now(UTC) + timedelta(seconds=60))  # the control
    await shop.ask_back(fan, await shop.buy(fan, soon, "A1"))
    await shop.settle()
    await shop.sound()


async def test_an_order_with_a_used_ticket_is_not_given_back(shop: Shop) -> None:
    fan, _, order_id = await bought(shop, 5, 6)
    used = (await shop.find(order_id)).tickets[0].ticket_id
    await shop.sql("UPDATE checkout.tickets SET state = 'admitted' WHERE ticket_id = $1", used)
    before = await shop.tables()
    with pytest.raises(errors.RefundNotAllowed):
        await shop.ask_back(fan, order_id)
    assert await shop.tables() == before
    await against_the_rules(
        shop.platform.database, "UPDATE checkout.tickets SET state = 'issued' WHERE ticket_id = $1", used
    )


async def test_a_ticket_used_between_the_quote_and_the_refund_is_noticed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    fan, _, order_id = await bought(shop, 5, 6)
    used = (await shop.find(order_id)).tickets[0].ticket_id
    lock_order = shop.store.lock_order

    async def after_the_gate(connection: Any, locked: str) -> Any:
        await shop.sql("UPDATE checkout.tickets SET state = 'admitted' WHERE ticket_id = $1", used)
        return await lock_order(connection, locked)

    monkeypatch.setattr(shop.store, "lock_order", after_the_gate)
    with pytest.raises(errors.RefundNotAllowed):
        await shop.ask_back(fan, order_id)
    monkeypatch.undo()
    order = await shop.find(order_id)
    assert (order.state, len(order.refunds)) == ("confirmed", 0)
    assert {ticket.state for ticket in order.tickets} == {"issued", "admitted"}
    await against_the_rules(
        shop.platform.database, "UPDATE checkout.tickets SET state = 'issued' WHERE ticket_id = $1", used
    )
    await shop.sound()


# Once


async def test_twenty_requests_at_once_make_one_refund(shop: Shop) -> None:
    fan, _, order_id = await bought(shop)

    async def ask() -> str:
        try:
            return (await shop.ask_back(fan, order_id)).state
        except errors.AlreadyRefunded:
            return "already_refunded"

    answers = await asyncio.gather(*(ask() for _ in range(20)))
    assert Counter(answers) == {"requested": 1, "already_refunded": 19}
    await shop.settle()
    order = await shop.find(order_id)
    assert (order.state, len(order.refunds)) == ("refunded", 1)
    payment_id = order.payments[0].payment_id
    assert shop.gateway.sessions[payment_id].refunded == 2 * PRICE
    await shop.sound()


async def asked_twice_while_the_first_commits(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, *, comes: str, key: str = "same"
) -> None:
    """A refund is being committed when its caller, who was told that nobody knows, asks once more.

    The second request waits for the first one's transaction, or looks at the order when that is over.
    """
    fan, _, order_id = await bought(shop)
    keep, quote = shop.store.keep_request_key, shop.platform.refunds.quote
    written, go_on, looking = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def then_hang(*words: Any) -> None:
        await keep(*words)
        written.set()
        await go_on.wait()

    async def look(*words: Any) -> Any:
        if comes == "when it is over":
            go_on.set()
            await first
        quoted = await quote(*words)
        looking.set()
        return quoted

    with monkeypatch.context() as patch:
        patch.setattr(shop.store, "keep_request_key", then_hang)
        first = asyncio.create_task(shop.ask_back(fan, order_id, key="same"))
        await written.wait()
        patch.setattr(shop.store, "keep_request_key", keep)
        patch.setattr(shop.platform.refunds, "quote", look)
        second = asyncio.create_task(shop.ask_back(fan, order_id, key=key))
        if comes == "while it is written":
            await looking.wait()
            go_on.set()
        refund = await first
        try:
            await second
        finally:
            order = await shop.find(order_id)
            assert [one.refund_id for one in order.refunds] == [refund.refund_id]


COMES = pytest.mark.parametrize("comes", ["while it is written", "when it is over"])


@COMES
async def test_whoever_meets_his_own_refund_is_not_refused_for_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, comes: str
) -> None:
    with pytest.raises(RequestInProgress) as told:
        await asked_twice_while_the_first_commits(shop, monkeypatch, comes=comes)
    assert told.value.retry_after_s
    await shop.settle()
    await shop.sound()


@COMES
async def test_whoever_meets_anothers_refund_is_refused(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, comes: str
) -> None:
    with pytest.raises(errors.AlreadyRefunded):
        await asked_twice_while_the_first_commits(shop, monkeypatch, comes=comes, key="another")


async def test_who_does_not_look_for_his_key_is_refused_for_his_own_refund(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""

    async def unknown(*_: Any) -> None:
        """There is no such key."""

    monkeypatch.setattr(shop.store, "find_request_key", unknown)
    with pytest.raises(errors.AlreadyRefunded):
        await asked_twice_while_the_first_commits(shop, monkeypatch, comes="while it is written")


async def test_without_the_unique_index_the_money_would_be_owed_more_than_once(shop: Shop) -> None:
    """The control: what twenty who look first and write second would owe."""
    await shop.sql("CREATE TABLE public.naive_refunds (payment_id text NOT NULL)")

    looked: list[None] = []
    two_have = asyncio.Event()

    async def ask() -> None:
        async with shop.store.transaction() as connection:
            if not await connection.fetchval("SELECT count(*) FROM public.naive_refunds"):
                looked.append(None)
                if len(looked) == 2:
                    two_have.set()
                await two_have.wait()
                await connection.execute("INSERT INTO public.naive_refunds VALUES ('pay_1')")

    await asyncio.gather(*(ask() for _ in range(20)))
    assert await shop.one("SELECT count(*) FROM public.naive_refunds") > 1
    await shop.sql("DROP TABLE public.naive_refunds")


async def test_what_was_given_back_cannot_be_given_back_again(shop: Shop) -> None:
    fan, _, order_id = await bought(shop)
    await shop.ask_back(fan, order_id)
    for _ in ("while the money is on its way", "and when it has arrived"):
        with pytest.raises(errors.AlreadyRefunded):
            await shop.ask_back(fan, order_id)
        with pytest.raises(errors.AlreadyRefunded):
            await shop.platform.refunds.quote(fan, order_id, None)
        await shop.settle()
    assert await shop.state(order_id) == "refunded"


async def test_a_refunds_id_follows_from_its_payment_whoever_asks_for_it(shop: Shop) -> None:
    fan, _, order_id = await bought(shop)
    payment_id = (await shop.find(order_id)).payments[0].payment_id
    refund = await shop.ask_back(fan, order_id, key="any")
    assert refund.refund_id == refund_id_of(payment_id)
    assert is_id(refund.refund_id, "ref")
    assert refund_id_of(payment_id) != refund_id_of("pay_another")


async def test_the_answer_is_kept_with_the_refund_itself(shop: Shop) -> None:
    fan, _, order_id = await bought(shop)
    refund = await shop.ask_back(fan, order_id, key="back")
    kept = await shop.store.find_request_key(fan, digest_of("back"))
    assert kept.status == 202
    assert refund.refund_id.encode() in kept.body
    together = await shop.sql(
        "SELECT xmin::text FROM checkout.refunds WHERE refund_id = $1"
        " UNION SELECT xmin::text FROM checkout.idempotency_keys WHERE account_id = $2 AND key = 'back'"
        " UNION SELECT xmin::text FROM checkout.tickets WHERE order_id = $3"
        " UNION SELECT xmin::text FROM checkout.ledger_entries WHERE transaction_id = 'owed:' || $1",
        refund.refund_id,
        fan,
        order_id,
    )
    assert len(together) == 1


# The seats


async def test_seats_return_only_after_their_tickets_are_void(shop: Shop) -> None:
    fan, showtime_id = shop.fan(), await shop.showtime()
    order_id = await shop.buy(fan, showtime_id, "D5", "D6")
    seats = await shop.taken(showtime_id)
    assert len(seats) == 2
    await shop.ask_back(fan, order_id)
    order = await shop.find(order_id)
    assert {ticket.state for ticket in order.tickets} == {"void"}
    claims = await shop.sql("SELECT DISTINCT state FROM checkout.seat_claims WHERE order_id = $1", order_id)
    assert [claim["state"] for claim in claims] == ["returned"]
    assert await shop.taken(showtime_id) == seats  # PostgreSQL let go, and Redis has not heard of it
    assert await shop.platform.completers.free_seats() >= 1
    assert await shop.taken(showtime_id) == set()
    assert await shop.platform.completers.free_seats() == 0


async def test_the_other_way_round_a_fan_would_be_sold_a_seat_that_has_a_ticket(shop: Shop) -> None:
    """The control: Redis first, PostgreSQL second, and a crash in between."""
    fan, showtime_id = shop.fan(), await shop.showtime()
    order_id = await shop.buy(fan, showtime_id, "D5", "D6")
    hold_id = f"hld_{order_id[4:]}"
    assert await shop.platform.inventory.return_seats(hold_id, states=frozenset({"sold"}))
    await shop.heard(showtime_id)
    with pytest.raises(errors.SeatTaken):  # held, and only the arbiter saves the first fan's ticket
        await shop.place(victim := shop.fan(), await shop.hold(victim, showtime_id, "D5", "D6"))
    assert await shop.state(order_id) == "confirmed"
    await shop.settle()
    await shop.sound()


async def test_the_next_fan_sits_there_and_the_old_ticket_stays_void(shop: Shop) -> None:
    fan, showtime_id = shop.fan(), await shop.showtime()
    order_id = await shop.buy(fan, showtime_id, "D5", "D6")
    old = {ticket.ticket_id for ticket in (await shop.find(order_id)).tickets}
    await shop.ask_back(fan, order_id)
    await shop.settle()
    next_order_id = await shop.buy(shop.fan(), showtime_id, "D5", "D6")
    new = {ticket.ticket_id for ticket in (await shop.find(next_order_id)).tickets}
    assert not old & new
    await shop.ask_back(fan_of := (await shop.find(next_order_id)).account_id, next_order_id)
    await shop.settle()
    third = await shop.buy(fan_of, showtime_id, "D5", "D6")
    for ticket_id in old | new:
        assert (await shop.store.find_ticket(ticket_id)).state == "void"
    assert {ticket.state for ticket in (await shop.find(third)).tickets} == {"issued"}
    await shop.settle()
    assert len(await shop.taken(showtime_id)) == 2
    await shop.sound()


async def test_the_sale_may_be_fed_again_after_the_refund(shop: Shop) -> None:
    """A confirmation that comes late or twice finds a refunded order, and issues nothing."""
    fan, showtime_id, order_id = await bought(shop)
    await shop.ask_back(fan, order_id)
    await shop.settle()
    before = await shop.tables()
    assert await shop.platform.fulfilment.confirm(order_id)
    await feed(shop, Confirm(order_id=order_id, showtime_id=showtime_id))
    assert await shop.write() == 1
    after = await shop.tables()
    assert after.pop("writer_positions") != before.pop("writer_positions")
    assert after == before


# A gateway that does not do it at once


async def test_a_refund_that_failed_stays_open_and_is_asked_for_again(shop: Shop) -> None:
    fan, _, order_id = await bought(shop)
    shop.gateway.refund_plan = ["failed", "failed", "completed"]
    refund_id = (await shop.ask_back(fan, order_id)).refund_id
    for seconds in (0, 5, 11):
        await shop.time_passes(seconds)
        await shop.platform.completers.send_refunds()
        if shop.gateway.refund_plan:
            assert await refund_state(shop, refund_id) == "failed"
            assert await shop.state(order_id) == "confirmed"
            assert (await shop.store.oldest_open())["refunds_open"] > 0
    assert await refund_state(shop, refund_id) == "completed"
    assert await shop.state(order_id) == "refunded"
    await shop.settle()
    await shop.sound()


async def test_a_refund_that_failed_and_is_under_way_again_says_so(shop: Shop) -> None:
    fan, _, order_id = await bought(shop)
    shop.gateway.refund_plan = ["failed", "sent"]
    refund_id = (await shop.ask_back(fan, order_id)).refund_id
    await shop.platform.completers.send_refunds()
    assert await refund_state(shop, refund_id) == "failed"
    await shop.time_passes(5)
    await shop.platform.completers.send_refunds()
    assert await refund_state(shop, refund_id) == "sent"
    await shop.deliver(shop.gateway.news("refund.completed", refund_id))
    assert await shop.state(order_id) == "refunded"
    await shop.sound()


async def test_a_slow_refund_is_sent_and_ends_with_its_webhook(shop: Shop) -> None:
    fan, _, order_id = await bought(shop)
    shop.gateway.refund_plan = ["sent"]
    refund_id = (await shop.ask_back(fan, order_id)).refund_id
    await shop.settle()
    assert await refund_state(shop, refund_id) == "sent"
    assert await shop.state(order_id) == "confirmed"
    news = shop.gateway.news("refund.completed", refund_id)
    await asyncio.gather(*(shop.deliver(news) for _ in range(10)))
    assert (await refund_state(shop, refund_id), await shop.state(order_id)) == ("completed", "refunded")
    await shop.sound()


async def test_a_refund_whose_answer_got_lost_is_asked_for_with_the_same_key(shop: Shop) -> None:
    fan, _, order_id = await bought(shop)
    shop.gateway.refund_plan = ["unknown"]
    refund_id = (await shop.ask_back(fan, order_id)).refund_id
    await shop.platform.completers.send_refunds()
    assert await refund_state(shop, refund_id) == "requested"
    await shop.time_passes(5)
    await shop.settle()
    assert await refund_state(shop, refund_id) == "completed"
    payment_id = (await shop.find(order_id)).payments[0].payment_id
    assert shop.gateway.sessions[payment_id].refunded == 2 * PRICE
    await shop.sound()


async def test_after_most_of_a_day_a_refund_is_looked_for_before_it_is_repeated(shop: Shop) -> None:
    """Gateways forget keys after a day; a repeat would then be a second refund."""
    fan, _, order_id = await bought(shop)
    shop.gateway.refund_plan = ["unknown"]
    await shop.ask_back(fan, order_id)
    await shop.platform.completers.send_refunds()
    asked = shop.gateway.calls["refund"]
    await shop.time_passes(21 * 3_600)
    await shop.settle()
    assert await shop.state(order_id) == "refunded"
    assert shop.gateway.calls["refund"] == asked
    await shop.sound()


async def test_after_most_of_a_day_a_refund_the_gateway_never_had_is_made(shop: Shop) -> None:
    """The control: looking first does not mean never asking."""
    fan, _, order_id = await bought(shop)
    shop.gateway.away = True
    await shop.ask_back(fan, order_id)
    await shop.complete()
    assert [refund.state for refund in (await shop.find(order_id)).refunds] == ["requested"]
    shop.gateway.away = False
    await shop.time_passes(21 * 3_600)
    await shop.settle()
    assert await shop.state(order_id) == "refunded"
    await shop.sound()


async def test_a_refund_that_hangs_keeps_no_other_from_its_money(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, stuck_id = (await bought(shop))[::2]
    fan, _, order_id = await bought(shop)
    first = (await shop.ask_back(stuck, stuck_id)).refund_id
    await shop.ask_back(fan, order_id)
    refund = shop.gateway.refund

    async def breaks(*, refund_id: str, **named: Any) -> Any:
        if refund_id == first:
            raise RuntimeError("something nobody thought of")
        return await refund(refund_id=refund_id, **named)

    monkeypatch.setattr(shop.gateway, "refund", breaks)
    await shop.platform.completers.send_refunds()
    assert (await shop.state(order_id), await shop.state(stuck_id)) == ("refunded", "confirmed")
    monkeypatch.undo()
    await shop.time_passes(10)
    await shop.settle()
    assert await shop.state(stuck_id) == "refunded"
    await shop.sound()


async def test_news_of_a_refund_we_do_not_know_is_kept_and_changes_nothing(shop: Shop) -> None:
    before = await shop.tables()
    news = shop.gateway.news("refund.completed", f"ref_{'0' * 26}")
    await shop.deliver(news)
    after = await shop.tables()
    assert after.pop("gateway_events") != before.pop("gateway_events")
    assert after == before
    assert (
        await shop.one("SELECT outcome FROM checkout.gateway_events WHERE event_id = $1", news.event_id)
        == "orphan"
    )
