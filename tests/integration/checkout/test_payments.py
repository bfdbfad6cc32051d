"""Goal: captured money ends as tickets or as a full refund, whatever gateways, webhooks and crashes do.

Method: a gateway on paper whose webhooks are delivered by hand: fifty at once, in every order, twice, too
late, never, about nobody's payment, with another amount. What must be the same in the end is compared row by
row, and every test ends with each cent in its place (`sound`), in our ledger and in the gateway's books.
`HYPOTHESIS_PROFILE=thorough` tells two thousand histories instead of two hundred.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checkout import errors
from checkout.domain import RequestKey
from checkout.payments import payment_id_for
from checkout.ports import GatewayPayment
from kernel import limits
from kernel.errors import InventoryRebuilding, NotFound, Overloaded, SeatsUnavailable
from kernel.money import Money
from reservation import Refused
from tests.support.shop import PRICE, Delivery, Shop

PAY_BY_S = limits.claim_ttl_ms / 1_000


async def captures_of(shop: Shop, payment_id: str) -> int:
    """How often the ledger took this payment's money in."""
    return int(
        await shop.one(
            "SELECT count(*) FROM checkout.ledger_entries WHERE payment_id = $1 AND account = 'gateway:paper'"
            " AND amount > 0",
            payment_id,
        )
    )


async def payment_state(shop: Shop, payment_id: str) -> str:
    return str(await shop.one("SELECT state FROM checkout.payments WHERE payment_id = $1", payment_id))


async def outcome_of(shop: Shop, news: Delivery) -> Any:
    found: Any = await shop.one(
        "SELECT outcome FROM checkout.gateway_events WHERE event_id = $1", news.event_id
    )
    return found


# Once


async def test_fifty_identical_webhooks_at_once_capture_once(shop: Shop) -> None:
    fan, showtime_id = shop.fan(), await shop.showtime()
    order_id = await shop.order(fan, showtime_id, "D5", "D6")
    payment_id = await shop.open_payment(fan, order_id)
    news = shop.gateway.capture(payment_id)
    await asyncio.gather(*(shop.deliver(news) for _ in range(50)))
    await shop.settle()
    assert await captures_of(shop, payment_id) == 1
    order = await shop.find(order_id)
    assert (order.state, len(order.tickets), len(order.refunds)) == ("confirmed", 2, 0)
    assert await outcome_of(shop, news) == "captured"
    await shop.sound()


async def test_fifty_different_webhooks_of_one_capture_capture_once(shop: Shop) -> None:
    """A gateway that gives every delivery another id defeats the event's key, not the payment's state."""
    fan, showtime_id = shop.fan(), await shop.showtime()
    order_id = await shop.order(fan, showtime_id, "D5")
    payment_id = await shop.open_payment(fan, order_id)
    told = [shop.gateway.capture(payment_id) for _ in range(50)]
    await asyncio.gather(*(shop.deliver(news) for news in told))
    await shop.settle()
    assert await captures_of(shop, payment_id) == 1
    outcomes = [await outcome_of(shop, news) for news in told]
    assert sorted(set(outcomes)) == ["captured", "repeated"]
    assert outcomes.count("captured") == 1
    await shop.sound()


async def test_without_the_lock_and_the_state_it_would_capture_many_times(shop: Shop) -> None:
    """The control: the same fifty, told to code that looks first and writes second."""
    await shop.sql("CREATE TABLE public.naive (payment_id text PRIMARY KEY, captures int NOT NULL)")
    await shop.sql("INSERT INTO public.naive VALUES ('pay_1', 0)")

    async def capture() -> None:
        async with shop.store.transaction() as connection:
            if await connection.fetchval("SELECT captures FROM public.naive") == 0:
                await asyncio.sleep(0.05)  # as long as anything else may happen in between
                await connection.execute("UPDATE public.naive SET captures = captures + 1")

    await asyncio.gather(*(capture() for _ in range(50)))
    assert await shop.one("SELECT captures FROM public.naive") > 1
    await shop.sql("DROP TABLE public.naive")


# In any order


async def a_payment(shop: Shop) -> tuple[str, str, str]:
    """Fan, order and payment, ready to be paid."""
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    order_id = await shop.order(fan, showtime_id, f"{row}5", f"{row}6")
    return fan, order_id, await shop.open_payment(fan, order_id)


def without_ids(row: Any) -> dict[str, Any]:
    return {name: value for name, value in dict(row).items() if not name.endswith(("_id", "_ref", "_at"))}


async def story_of(shop: Shop, order_id: str) -> dict[str, Any]:
    """How an order, its money and its tickets ended, without what differs from run to run."""
    order = await shop.find(order_id)
    ledger = await shop.sql(
        "SELECT split_part(transaction_id, ':', 1) AS what, account, amount FROM checkout.ledger_entries"
        " WHERE order_id = $1 ORDER BY 1, 2, 3",
        order_id,
    )
    return {
        "order": (order.state, order.end_reason),
        "payments": sorted(payment.state for payment in order.payments),
        "refunds": sorted((refund.state, refund.reason, refund.amount.amount) for refund in order.refunds),
        "tickets": [(ticket.label[1:], ticket.state) for ticket in order.tickets],
        "ledger": [without_ids(row) for row in ledger],
    }


#: A whole history: what the gateway says of one order's two payments, one of which is captured.
PAYMENT_NEWS = ("failed", "captured", "captured again", "failed late", "other failed", "nobody's", "nonsense")
#: The same for an order that was paid and asked back.
REFUND_NEWS = ("captured again", "failed late", "refund failed", "refund completed", "refund completed again")

shuffled_payment_news = st.permutations(PAYMENT_NEWS).flatmap(
    lambda order: st.lists(st.sampled_from(PAYMENT_NEWS), max_size=3).map(lambda again: [*order, *again])
)
shuffled_refund_news = st.permutations(REFUND_NEWS).flatmap(
    lambda order: st.lists(st.sampled_from(REFUND_NEWS), max_size=3).map(lambda again: [*order, *again])
)
many = settings(
    max_examples=1_000 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@given(told=shuffled_payment_news)
@many
async def test_the_news_of_a_payment_may_come_in_any_order_and_any_number_of_times(
    shop: Shop, told: Sequence[str]
) -> None:
    fan, order_id, payment_id = await a_payment(shop)
    other_id = await shop.open_payment(fan, order_id)
    news = {
        "captured": shop.gateway.capture(payment_id),
        "captured again": shop.gateway.capture(payment_id),
        "failed": shop.gateway.news("payment.failed", payment_id),
        "failed late": shop.gateway.news("payment.failed", payment_id),
        "other failed": shop.gateway.decline(other_id),
        "nobody's": shop.gateway.news("payment.captured", f"pay_{'0' * 26}"),
        "nonsense": shop.gateway.news("payment.disputed", payment_id),
    }
    for what in told:
        await shop.deliver(news[what])
    await shop.write()
    assert await story_of(shop, order_id) == {
        "order": ("confirmed", None),
        "payments": ["captured", "failed"],
        "refunds": [],
        "tickets": [("5", "issued"), ("6", "issued")],
        "ledger": [
            {"what": "capture", "account": "gateway:paper", "amount": 2 * PRICE},
            {"what": "capture", "account": "open_payments", "amount": -2 * PRICE},
            {"what": "sale", "account": "open_payments", "amount": 2 * PRICE},
            {"what": "sale", "account": "tickets_sold", "amount": -2 * PRICE},
        ],
    }


@given(told=shuffled_refund_news)
@many
async def test_the_news_of_a_refund_may_come_in_any_order_and_any_number_of_times(
    shop: Shop, told: Sequence[str]
) -> None:
    fan, order_id, payment_id = await a_payment(shop)
    await shop.deliver(shop.gateway.capture(payment_id))
    await shop.write()
    refund_id = (await shop.ask_back(fan, order_id)).refund_id
    gateway_refund = await shop.gateway.refund(
        refund_id=refund_id,
        gateway_ref=shop.gateway.sessions[payment_id].gateway_ref,
        amount=Money(2 * PRICE, "CNY"),
    )
    assert gateway_refund.state == "completed"
    news = {
        "captured again": shop.gateway.news("payment.captured", payment_id),
        "failed late": shop.gateway.news("payment.failed", payment_id),
        "refund failed": shop.gateway.news("refund.failed", refund_id),
        "refund completed": shop.gateway.news("refund.completed", refund_id),
        "refund completed again": shop.gateway.news("refund.completed", refund_id),
    }
    for what in told:
        await shop.deliver(news[what])
    story = await story_of(shop, order_id)
    assert (story["order"], story["payments"]) == (("refunded", "refunded"), ["captured"])
    assert story["refunds"] == [("completed", "asked", 2 * PRICE)]
    assert story["tickets"] == [("5", "void"), ("6", "void")]
    assert sorted((entry["what"], entry["amount"]) for entry in story["ledger"]) == [
        ("capture", -2 * PRICE),
        ("capture", 2 * PRICE),
        ("owed", -2 * PRICE),
        ("owed", 2 * PRICE),
        ("refund", -2 * PRICE),
        ("refund", 2 * PRICE),
        ("sale", -2 * PRICE),
        ("sale", 2 * PRICE),
    ]


async def test_all_those_histories_left_the_books_in_order(shop: Shop) -> None:
    await shop.settle()
    await shop.sound()


async def test_a_first_card_that_failed_and_a_second_that_did_not(shop: Shop) -> None:
    _, order_id, payment_id = await a_payment(shop)
    await shop.deliver(shop.gateway.decline(payment_id))
    assert await payment_state(shop, payment_id) == "failed"
    await shop.deliver(shop.gateway.capture(payment_id))
    await shop.write()
    assert await shop.state(order_id) == "confirmed"
    await shop.sound()


async def test_captured_money_never_fails_afterwards(shop: Shop) -> None:
    _, order_id, payment_id = await a_payment(shop)
    await shop.deliver(shop.gateway.capture(payment_id))
    late = shop.gateway.news("payment.failed", payment_id)
    await shop.deliver(late)
    await shop.write()
    assert await payment_state(shop, payment_id) == "captured"
    assert await shop.state(order_id) == "confirmed"
    assert await outcome_of(shop, late) == "ignored"


# What does not add up


@pytest.mark.parametrize(
    "wrong",
    [Money(2 * PRICE - 1, "CNY"), Money(2 * PRICE + 1, "CNY"), Money(2 * PRICE, "EUR"), Money(0, "CNY")],
    ids=["less", "more", "another currency", "nothing"],
)
@pytest.mark.parametrize("learnt", ["told", "asked"])
async def test_another_amount_is_never_fulfilled_and_a_person_has_to_look(
    shop: Shop, wrong: Money, learnt: str
) -> None:
    _, order_id, payment_id = await a_payment(shop)
    if learnt == "told":
        news = shop.gateway.news("payment.captured", payment_id, amount=wrong)
        await shop.deliver(news)
        assert await outcome_of(shop, news) == "amount_differs"
    else:
        ref = shop.gateway.sessions[payment_id].gateway_ref
        shop.gateway.lies[payment_id] = GatewayPayment(ref, payment_id, "captured", wrong)
        await shop.time_passes(5)
    await shop.settle()
    assert await payment_state(shop, payment_id) == "unknown"
    assert await shop.state(order_id) == "pending_payment"
    assert not (await shop.find(order_id)).tickets
    assert await captures_of(shop, payment_id) == 0
    assert (await shop.store.oldest_open())["payments_open"] > 0
    await shop.sound()


async def test_the_right_amount_is_fulfilled_also_after_a_wrong_one(shop: Shop) -> None:
    """The control: it is the amount that is refused, and refusing it settles nothing."""
    _, order_id, payment_id = await a_payment(shop)
    await shop.deliver(shop.gateway.news("payment.captured", payment_id, amount=Money(1, "CNY")))
    await shop.deliver(shop.gateway.capture(payment_id))
    await shop.write()
    assert await shop.state(order_id) == "confirmed"
    await shop.sound()


async def test_money_for_an_unknown_payment_is_kept_as_an_orphan(shop: Shop) -> None:
    news = shop.gateway.news("payment.captured", f"pay_{'z' * 26}")
    await shop.deliver(news)
    await shop.deliver(news)
    (event,) = await shop.sql("SELECT * FROM checkout.gateway_events WHERE event_id = $1", news.event_id)
    assert (event["outcome"], event["body"]) == ("orphan", news.body)
    assert event["processed_at"] is not None


async def test_a_gateway_cannot_speak_of_another_gateways_payment(shop: Shop) -> None:
    _, order_id, payment_id = await a_payment(shop)
    await shop.sql("UPDATE checkout.payments SET gateway = 'other' WHERE payment_id = $1", payment_id)
    news = shop.gateway.news("payment.captured", payment_id)
    await shop.deliver(news)
    assert await outcome_of(shop, news) == "orphan"
    assert await shop.state(order_id) == "pending_payment"
    await shop.sql(
        "UPDATE checkout.payments SET gateway = 'paper', state = 'failed' WHERE payment_id = $1", payment_id
    )


async def test_a_gateway_asked_for_one_payment_that_speaks_of_another_changes_neither(shop: Shop) -> None:
    _, order_id, payment_id = await a_payment(shop)
    _, other_order_id, other_id = await a_payment(shop)
    ref = shop.gateway.sessions[payment_id].gateway_ref
    shop.gateway.lies[payment_id] = GatewayPayment(ref, other_id, "captured", Money(2 * PRICE, "CNY"))
    await shop.time_passes(5)
    await shop.settle()
    assert await shop.state(order_id) == await shop.state(other_order_id) == "pending_payment"
    assert await captures_of(shop, other_id) == 0
    del shop.gateway.lies[payment_id]


async def test_an_event_nobody_can_act_on_does_not_stop_the_next_one(shop: Shop) -> None:
    _, order_id, payment_id = await a_payment(shop)
    other = (await a_payment(shop))[2]
    stuck = shop.gateway.news(  # its session belongs to another payment: the database refuses it
        "payment.captured", other, ref=shop.gateway.sessions[payment_id].gateway_ref
    )
    await shop.sql("UPDATE checkout.payments SET gateway_ref = NULL WHERE payment_id = $1", other)
    news = shop.gateway.capture(payment_id)
    for event in (stuck, news):
        await shop.store.record_event("paper", event.event_id, "payment.captured", event.body)
    await shop.store.record_event("gone", "evt_gone", "payment.captured", b"{}")
    await shop.time_passes(5)
    await shop.complete()
    await shop.write()
    assert await shop.state(order_id) == "confirmed"
    assert await outcome_of(shop, stuck) is None
    await shop.sql(
        "UPDATE checkout.gateway_events SET processed_at = now(), outcome = 'test' WHERE outcome IS NULL"
    )


# Twice


async def test_a_second_payment_of_the_same_order_goes_back_by_itself(shop: Shop) -> None:
    fan, order_id, first = await a_payment(shop)
    second = await shop.open_payment(fan, order_id)
    assert second != first
    await shop.deliver(shop.gateway.capture(first), shop.gateway.capture(second))
    await shop.settle()
    order = await shop.find(order_id)
    assert order.state == "confirmed"
    assert [(refund.payment_id, refund.reason, refund.state) for refund in order.refunds] == [
        (second, "paid_twice", "completed")
    ]
    assert shop.gateway.sessions[second].refunded == 2 * PRICE
    assert shop.gateway.sessions[first].refunded == 0
    await shop.sound()


async def test_two_payments_captured_at_once_keep_one_and_return_the_other(shop: Shop) -> None:
    fan, order_id, first = await a_payment(shop)
    second = await shop.open_payment(fan, order_id)
    await asyncio.gather(
        shop.deliver(shop.gateway.capture(first)), shop.deliver(shop.gateway.capture(second))
    )
    await shop.settle()
    order = await shop.find(order_id)
    assert (order.state, [refund.reason for refund in order.refunds]) == ("confirmed", ["paid_twice"])
    assert sorted(shop.gateway.sessions[one].refunded for one in (first, second)) == [0, 2 * PRICE]
    await shop.sound()


async def test_an_order_that_was_paid_twice_can_still_be_given_back(shop: Shop) -> None:
    fan, order_id, first = await a_payment(shop)
    second = await shop.open_payment(fan, order_id)
    await shop.deliver(shop.gateway.capture(first), shop.gateway.capture(second))
    await shop.settle()
    assert (await shop.platform.refunds.quote(fan, order_id, None)).amount == Money(2 * PRICE, "CNY")
    await shop.ask_back(fan, order_id)
    await shop.settle()
    assert await shop.state(order_id) == "refunded"
    assert shop.gateway.sessions[first].refunded == shop.gateway.sessions[second].refunded == 2 * PRICE
    await shop.sound()


async def test_an_order_is_refunded_when_what_was_asked_back_has_arrived_not_something_else(
    shop: Shop,
) -> None:
    fan, order_id, first = await a_payment(shop)
    second = await shop.open_payment(fan, order_id)
    await shop.deliver(shop.gateway.capture(first))
    await shop.write()
    await shop.ask_back(fan, order_id)
    await shop.deliver(shop.gateway.capture(second))
    asked, twice = sorted((await shop.find(order_id)).refunds, key=lambda refund: refund.reason)
    await shop.deliver(shop.gateway.news("refund.completed", twice.refund_id, amount=twice.amount))
    assert await shop.state(order_id) == "confirmed"
    await shop.deliver(shop.gateway.news("refund.completed", asked.refund_id, amount=asked.amount))
    assert await shop.state(order_id) == "refunded"
    for refund in (asked, twice):  # what the news said is done, so that both books agree
        session = shop.gateway.sessions[refund.payment_id]
        session.refunded = session.amount.amount
    await shop.sound()


# Too late


async def expired(shop: Shop, *, freed: bool, **terms: Any) -> tuple[str, str, str, str]:
    """Fan, showtime, order and payment of somebody who pays when time is over."""
    fan, showtime_id = shop.fan(), await shop.showtime(**terms)
    order_id = await shop.order(fan, showtime_id, "D5", "D6")
    payment_id = await shop.open_payment(fan, order_id)
    await shop.time_passes(PAY_BY_S + 5)
    await shop.platform.completers.expire_orders()
    if freed:
        await shop.platform.completers.free_seats()
    assert await shop.state(order_id) == "expired"
    assert len(await shop.taken(showtime_id)) == (0 if freed else 2)
    return fan, showtime_id, order_id, payment_id


@pytest.mark.parametrize("freed", [False, True], ids=["seats still kept", "seats free again"])
async def test_late_money_gets_its_seats_when_nobody_else_has_them(shop: Shop, freed: bool) -> None:
    _, showtime_id, order_id, payment_id = await expired(shop, freed=freed)
    await shop.deliver(shop.gateway.capture(payment_id))
    await shop.settle()
    order = await shop.find(order_id)
    assert (order.state, order.end_reason) == ("confirmed", None)
    assert [ticket.label for ticket in order.tickets] == ["D5", "D6"]
    assert len(await shop.taken(showtime_id)) == 2
    await shop.sound()


async def test_money_between_the_deadline_and_its_judge_is_on_time(shop: Shop) -> None:
    _, order_id, payment_id = await a_payment(shop)
    await shop.time_passes(PAY_BY_S + 5)
    await shop.deliver(shop.gateway.capture(payment_id))
    await shop.settle()
    assert await shop.state(order_id) == "confirmed"
    await shop.sound()


@pytest.mark.parametrize("freed", [False, True], ids=["seats still kept", "seats free again"])
async def test_late_money_for_a_showtime_that_has_begun_goes_back_in_full(shop: Shop, freed: bool) -> None:
    """It would buy tickets that nobody may give back any more."""
    begun = datetime.now(UTC) - timedelta(seconds=1)
    _, showtime_id, order_id, payment_id = await expired(shop, freed=freed, starts_at=begun)
    await shop.deliver(shop.gateway.capture(payment_id))
    await shop.settle()
    order = await shop.find(order_id)
    assert (order.state, order.end_reason, order.tickets) == ("cancelled", "showtime_begun", ())
    assert [(refund.reason, refund.state) for refund in order.refunds] == [("unfulfillable", "completed")]
    assert await shop.taken(showtime_id) == set()
    begins_soon = datetime.now(UTC) + timedelta(minutes=1)  # the control
    *_, order_id, payment_id = await expired(shop, freed=freed, starts_at=begins_soon)
    await shop.deliver(shop.gateway.capture(payment_id))
    await shop.settle()
    assert await shop.state(order_id) == "confirmed"
    await shop.sound()


async def test_money_for_seats_that_are_still_claimed_buys_them_though_the_showtime_has_begun(
    shop: Shop,
) -> None:
    fan, showtime_id = shop.fan(), await shop.showtime(starts_at=datetime.now(UTC) - timedelta(seconds=1))
    assert await shop.state(await shop.buy(fan, showtime_id, "D5")) == "confirmed"


@pytest.mark.parametrize("rival", ["holds", "claims", "owns"])
async def test_late_money_for_seats_of_somebody_else_goes_back_in_full(shop: Shop, rival: str) -> None:
    _, showtime_id, order_id, payment_id = await expired(shop, freed=True)
    other = shop.fan()
    match rival:
        case "holds":
            await shop.hold(other, showtime_id, "D6", "D7")
        case "claims":
            await shop.order(other, showtime_id, "D6", "D7")
        case "owns":
            await shop.buy(other, showtime_id, "D6", "D7")
    await shop.deliver(shop.gateway.capture(payment_id))
    order = await shop.find(order_id)
    assert (order.state, order.end_reason) == ("cancelled", "seat_taken")
    assert [(refund.reason, refund.state) for refund in order.refunds] == [("unfulfillable", "requested")]
    await shop.settle()
    (refund,) = (await shop.find(order_id)).refunds
    assert (refund.state, refund.amount) == ("completed", Money(2 * PRICE, "CNY"))
    assert shop.gateway.sessions[payment_id].refunded == 2 * PRICE
    assert len(await shop.taken(showtime_id)) == 2  # the rival's, and nothing of them was freed
    await shop.sound()


async def test_a_rebuild_that_believes_two_owners_ends_with_one_and_a_refund(shop: Shop) -> None:
    """Redis was wrong, took the money of both, and PostgreSQL decides: the second sale is refused."""
    _, showtime_id, order_id, payment_id = await expired(shop, freed=True)
    rival = await shop.order(shop.fan(), showtime_id, "D5")
    inventory = shop.platform.inventory
    await inventory.return_seats(f"hld_{rival[4:]}", states=frozenset({"claimed"}))  # Redis forgets the rival
    await shop.deliver(shop.gateway.capture(payment_id))
    before = await shop.dead_letters("seat_taken")
    await shop.write()
    assert await shop.dead_letters("seat_taken") == before + 1
    assert await shop.state(order_id) == "paid"
    await shop.time_passes(5)
    await shop.settle()
    order = await shop.find(order_id)
    assert (order.state, order.end_reason) == ("cancelled", "seat_taken")
    assert [(refund.reason, refund.state) for refund in order.refunds] == [("unfulfillable", "completed")]
    assert await shop.state(rival) == "pending_payment"
    await shop.sound()


async def test_money_for_a_cancelled_order_goes_back_as_unfulfillable(shop: Shop) -> None:
    fan, showtime_id = shop.fan(), await shop.showtime()
    order_id = await shop.order(fan, showtime_id, "D5", "D6")
    first = await shop.open_payment(fan, order_id)
    second = await shop.open_payment(fan, order_id)
    await shop.time_passes(PAY_BY_S + 5)
    await shop.settle()
    await shop.buy(shop.fan(), showtime_id, "D5")
    await shop.deliver(shop.gateway.capture(first), shop.gateway.capture(second))
    await shop.settle()
    order = await shop.find(order_id)
    assert order.state == "cancelled"
    assert {(refund.reason, refund.state) for refund in order.refunds} == {("unfulfillable", "completed")}
    assert len(order.refunds) == 2
    await shop.sound()


async def test_two_who_confirm_the_same_late_order_at_once_do_not_cancel_each_other(shop: Shop) -> None:
    """The webhook's handler and the completer meet: one takes the seats again, the other finds them taken."""
    _, _, order_id, payment_id = await expired(shop, freed=True)
    fulfilment, inventory = shop.platform.fulfilment, shop.platform.inventory
    await shop.store.record_event(
        "paper", "evt_both", "payment.captured", shop.gateway.capture(payment_id).body
    )
    event = shop.gateway.read_event("evt_both", shop.gateway.capture(payment_id).body)
    async with shop.store.transaction() as connection:  # paid, and nobody has confirmed it yet
        await shop.platform.payments.take(connection, "paper", event)
        await shop.store.close_event(connection, "paper", "evt_both", "captured")
    entered, go_on = asyncio.Event(), asyncio.Event()
    return_seats = inventory.return_seats

    async def slowly(*arguments: Any, **named: Any) -> bool:
        if not entered.is_set():
            entered.set()
            await go_on.wait()
        return await return_seats(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inventory, "return_seats", slowly)
        slow = asyncio.create_task(fulfilment.confirm(order_id))
        await entered.wait()
        assert await fulfilment.confirm(order_id)  # the other one, all the way
        go_on.set()
        assert await slow
    await shop.write()
    assert await shop.state(order_id) == "confirmed"
    assert not (await shop.find(order_id)).refunds
    await shop.sound()


# While something is away


def raising(error: BaseException) -> Callable[..., Any]:
    async def broken(*_: object, **__: object) -> Any:
        raise error

    return broken


@pytest.mark.parametrize("trouble", [SeatsUnavailable(), InventoryRebuilding(), Overloaded()], ids=repr)
async def test_money_that_comes_while_redis_is_away_is_kept_and_confirmed_later(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    _, order_id, payment_id = await a_payment(shop)
    with monkeypatch.context() as patch:
        patch.setattr(shop.platform.inventory, "confirm", raising(trouble))
        await shop.deliver(shop.gateway.capture(payment_id))
        await shop.time_passes(5)
        await shop.settle_money()
        assert await shop.state(order_id) == "paid"
        assert not (await shop.find(order_id)).refunds
        await shop.sound()
    await shop.time_passes(5)
    await shop.settle()
    assert await shop.state(order_id) == "confirmed"
    await shop.sound()


async def test_a_crash_after_the_event_was_stored_is_made_good(shop: Shop) -> None:
    _, order_id, payment_id = await a_payment(shop)
    news = shop.gateway.capture(payment_id)
    await shop.store.record_event("paper", news.event_id, "payment.captured", news.body)
    assert (await shop.complete())["events_acted_on"] == 0  # whoever stored it may still be at work
    await shop.time_passes(3)
    assert (await shop.store.oldest_open())["events_unprocessed"] >= 3
    await shop.settle()
    assert await shop.state(order_id) == "confirmed"
    await shop.deliver(news)  # the gateway had no answer, and says it again
    assert await captures_of(shop, payment_id) == 1
    await shop.sound()


async def test_a_crash_after_the_capture_was_committed_is_made_good(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, order_id, payment_id = await a_payment(shop)
    with monkeypatch.context() as patch:
        patch.setattr(shop.platform.fulfilment, "confirm", raising(asyncio.CancelledError()))
        with pytest.raises(asyncio.CancelledError):
            await shop.deliver(shop.gateway.capture(payment_id))
    assert await shop.state(order_id) == "paid"
    await shop.time_passes(4)
    await shop.settle()
    assert await shop.state(order_id) == "confirmed"
    await shop.sound()


async def test_a_webhook_that_never_came_is_asked_for(shop: Shop) -> None:
    _, order_id, payment_id = await a_payment(shop)
    shop.gateway.capture(payment_id)
    assert (await shop.complete())["payments_asked"] == 0
    await shop.time_passes(4)
    await shop.settle()
    assert await shop.state(order_id) == "confirmed"
    await shop.sound()


async def test_a_second_card_whose_webhook_never_came_is_asked_for_too(shop: Shop) -> None:
    """The first card failed and we were told; the second one paid and we were not."""
    _, order_id, payment_id = await a_payment(shop)
    await shop.deliver(shop.gateway.decline(payment_id))
    shop.gateway.capture(payment_id)
    await shop.time_passes(4)
    await shop.settle()
    assert await shop.state(order_id) == "confirmed"
    await shop.sound()


async def failed_to_ask(shop: Shop) -> set[str]:
    return {payment.payment_id for payment in await shop.store.failed_payments_to_ask()}


async def test_a_failed_payment_is_not_asked_about_for_ever(shop: Shop) -> None:
    _, order_id, payment_id = await a_payment(shop)
    await shop.deliver(shop.gateway.decline(payment_id))
    await shop.time_passes(PAY_BY_S + 16 * 60)
    assert payment_id in await failed_to_ask(shop)  # once more
    for _ in range(3):
        await shop.time_passes(700)
        assert payment_id not in await failed_to_ask(shop)
    await shop.settle()
    assert await shop.state(order_id) == "expired"


async def test_no_payment_stays_unasked_for_two_minutes_however_long_the_gateway_was_away(shop: Shop) -> None:
    _, order_id, payment_id = await a_payment(shop)
    shop.gateway.away = True
    for _ in range(12):
        await shop.time_passes(61)
        await shop.complete()
    shop.gateway.away = False
    shop.gateway.capture(payment_id)
    await shop.time_passes(61)
    await shop.settle()
    assert await shop.state(order_id) == "confirmed"
    await shop.sound()


async def test_a_gateway_that_is_away_makes_no_second_session(shop: Shop) -> None:
    fan, showtime_id = shop.fan(), await shop.showtime()
    order_id = await shop.order(fan, showtime_id, "D5")
    shop.gateway.away = True
    for _ in range(2):
        with pytest.raises(errors.GatewayUnavailable) as refusal:
            await shop.open_payment(fan, order_id, key="patient")
        assert refusal.value.code.http_status == 503
    (payment,) = (await shop.find(order_id)).payments
    assert (payment.state, payment.gateway_ref) == ("initiated", None)
    shop.gateway.away = False
    payment_id = await shop.open_payment(fan, order_id, key="patient")
    assert await shop.open_payment(fan, order_id, key="patient") == payment_id
    assert [one.payment_id for one in (await shop.find(order_id)).payments] == [payment_id]
    assert payment_id in shop.gateway.sessions
    await shop.deliver(shop.gateway.capture(payment_id))
    await shop.write()
    assert await shop.state(order_id) == "confirmed"


async def test_a_session_we_crashed_around_is_found_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    fan, showtime_id = shop.fan(), await shop.showtime()
    order_id = await shop.order(fan, showtime_id, "D5")
    with monkeypatch.context() as patch:
        patch.setattr(shop.store, "open_payment", raising(asyncio.CancelledError()))
        with pytest.raises(asyncio.CancelledError):
            await shop.open_payment(fan, order_id)
    (payment,) = (await shop.find(order_id)).payments
    shop.gateway.capture(payment.payment_id)  # the page was open all the same
    for _ in range(2):  # first the session is found, then its end
        await shop.time_passes(10)
        await shop.settle()
    assert await shop.state(order_id) == "confirmed"
    assert shop.gateway.calls["open_session"] >= 2
    await shop.sound()


# Who may pay what, and until when


async def test_one_key_for_two_orders_never_mixes_them(shop: Shop) -> None:
    """A 503 is not kept, so the same key may come again with another order; each has its own payment."""
    fan, showtime_id = shop.fan(), await shop.showtime()
    first, second = [await shop.order(fan, showtime_id, label) for label in ("A1", "B1")]
    shop.gateway.away = True
    with pytest.raises(errors.GatewayUnavailable):
        await shop.open_payment(fan, first, key="same")
    shop.gateway.away = False
    payment_id = await shop.open_payment(fan, second, key="same")
    await shop.deliver(shop.gateway.capture(payment_id))
    await shop.write()
    assert (await shop.state(first), await shop.state(second)) == ("pending_payment", "confirmed")
    await shop.sound()


def test_a_payments_id_follows_from_its_request() -> None:
    request = RequestKey("acc_1", "key", "00")
    assert payment_id_for(request, "ord_1", "paper") == payment_id_for(request, "ord_1", "paper")
    others = {
        payment_id_for(RequestKey("acc_2", "key", "00"), "ord_1", "paper"),
        payment_id_for(RequestKey("acc_1", "kez", "00"), "ord_1", "paper"),
        payment_id_for(request, "ord_2", "paper"),
        payment_id_for(request, "ord_1", "other"),
        payment_id_for(request, "ord_1", "paper"),
    }
    assert len(others) == 5


async def test_the_gateways_page_closes_before_the_claim_does(shop: Shop) -> None:
    _, order_id, payment_id = await a_payment(shop)
    closes_at = shop.gateway.sessions[payment_id].expires_at
    assert (await shop.find(order_id)).pay_by - closes_at == timedelta(seconds=120)


async def test_what_cannot_be_paid_is_said_so(shop: Shop) -> None:
    fan, order_id, payment_id = await a_payment(shop)
    with pytest.raises(NotFound):
        await shop.open_payment(shop.fan(), order_id)
    with pytest.raises(NotFound):
        await shop.open_payment(fan, f"ord_{'0' * 26}")
    with pytest.raises(errors.UnknownGateway):
        await shop.platform.payments.open(fan, order_id, "gold", None, shop.request(fan), lambda _: b"")
    await shop.deliver(shop.gateway.capture(payment_id))
    with pytest.raises(errors.AlreadyPaid):
        await shop.open_payment(fan, order_id)
    await shop.write()
    with pytest.raises(errors.AlreadyPaid):
        await shop.open_payment(fan, order_id)

    late_fan, late, _ = await a_payment(shop)
    await shop.time_passes(PAY_BY_S + 5)
    with pytest.raises(errors.OrderExpired):  # overdue, though nobody has written it down yet
        await shop.open_payment(late_fan, late)
    await shop.settle()
    with pytest.raises(errors.OrderExpired):
        await shop.open_payment(late_fan, late)


async def test_a_refused_confirmation_names_its_reason(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    _, order_id, payment_id = await a_payment(shop)
    monkeypatch.setattr(shop.platform.inventory, "confirm", raising(Refused("not_found")))
    await shop.deliver(shop.gateway.capture(payment_id))
    order = await shop.find(order_id)
    assert (order.state, order.end_reason) == ("cancelled", "not_found")
    monkeypatch.undo()
    await shop.settle()
    await shop.sound()
