"""Goal: each promise about money, states and events, broken by hand, is found broken, and no other one is.

Method: as in `test_seats_broken`. The ledger's triggers are switched off where a planted entry needs it; the
gateway's books are the real ones, so there it is our side that is bent.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.audit.scenes import Sold, broken, sold
from tests.support.platform import RunningPlatform

LEDGER = "checkout.ledger_entries"


@pytest.fixture
async def scene(running: RunningPlatform) -> Sold:
    return await sold(running)


async def _unguarded(scene: Sold, statement: str, *arguments: object) -> None:
    """Change the ledger, which nobody may."""
    await scene.sql(f"ALTER TABLE {LEDGER} DISABLE TRIGGER USER")
    await scene.sql(statement, *arguments)
    await scene.sql(f"ALTER TABLE {LEDGER} ENABLE TRIGGER USER")


async def _paid(running: RunningPlatform) -> Sold:
    """An order that is paid, and whose sale waits on the log because nobody writes."""
    showtime_id = await running.add_showtime()
    (fan,) = await running.fans(1)
    order = await fan.order((await fan.hold(showtime_id, "A1", "A2")).body["hold_id"])
    await running.stop("writer")
    await fan.pay(order.body["order_id"])
    paid = await fan.order_in(order.body["order_id"], "paid")
    await running.stop()
    return Sold(running, showtime_id, fan, paid)


async def test_a_ledger_that_does_not_add_up_is_found(scene: Sold) -> None:
    await _unguarded(
        scene, f"UPDATE {LEDGER} SET amount = amount + 1 WHERE transaction_id LIKE 'sale:%' AND line = 1"
    )
    found = await broken(scene.running)
    assert found.keys() == {"ledger_balances"}
    assert f"sale:{scene.order_id}" in found["ledger_balances"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (f"DELETE FROM {LEDGER} WHERE transaction_id LIKE 'sale:%'", "keeps 9980 open"),
        (f"UPDATE {LEDGER} SET account = 'gateway:other' WHERE account = 'gateway:sandbox'", "gateway:other"),
        (
            f"UPDATE {LEDGER} SET amount = amount * 2 WHERE transaction_id LIKE 'capture:%'",
            "line 1 of capture:",
        ),
        (
            f"INSERT INTO {LEDGER} SELECT 'sale:twice', line, account, amount, currency, order_id"
            f" FROM {LEDGER} WHERE transaction_id LIKE 'sale:%'",
            "line 1 of sale:twice is in the ledger for nothing",
        ),
        (
            f"DELETE FROM {LEDGER} WHERE transaction_id LIKE 'capture:%' AND line = 2",
            "has 1 lines that sum to 9980 CNY",
        ),
    ],
)
async def test_entries_that_are_not_what_happened_are_found(scene: Sold, change: str, sentence: str) -> None:
    await _unguarded(scene, change)
    found = await broken(scene.running)
    assert found.keys() == {"ledger_balances"}
    assert sentence in found["ledger_balances"], found


async def test_a_refund_of_more_than_was_captured_is_found(scene: Sold) -> None:
    assert (await scene.fan.call("POST", f"/orders/{scene.order_id}/refunds", {})).status == 202
    await scene.sql("UPDATE checkout.refunds SET amount = amount + 1")
    await scene.sql(
        "UPDATE checkout.refund_lines SET amount = amount + 1 WHERE ticket_id IN"
        " (SELECT ticket_id FROM checkout.tickets WHERE seat_index = 0)"
    )
    await _unguarded(
        scene, f"UPDATE {LEDGER} SET amount = amount + sign(amount) WHERE transaction_id LIKE 'owed:%'"
    )
    found = await broken(scene.running)
    assert found.keys() == {"ledger_balances"}
    assert f"is more than payment {scene.payment_id} captured" in found["ledger_balances"]


async def test_refund_lines_that_do_not_make_the_refund_are_found(scene: Sold) -> None:
    assert (await scene.fan.call("POST", f"/orders/{scene.order_id}/refunds", {})).status == 202
    await scene.sql(
        "DELETE FROM checkout.refund_lines WHERE ticket_id IN"
        " (SELECT ticket_id FROM checkout.tickets WHERE seat_index = 0)"
    )
    found = await broken(scene.running)
    assert found.keys() == {"ledger_balances"}
    assert "its lines sum to 4990" in found["ledger_balances"]


async def test_captured_money_that_goes_nowhere_is_found(running: RunningPlatform) -> None:
    scene = await _paid(running)
    assert await broken(running) == {}
    await scene.sql("UPDATE checkout.orders SET paid_at = now() - interval '10 minutes'")
    found = await broken(running, money_s=1.0)
    assert found.keys() == {"money_has_a_home"}
    assert scene.payment_id in found["money_has_a_home"]
    assert f"order {scene.order_id} is paid" in found["money_has_a_home"]


@pytest.mark.parametrize("state", ["requested", "failed"])
async def test_a_refund_that_does_not_arrive_is_found(scene: Sold, state: str) -> None:
    assert (await scene.fan.call("POST", f"/orders/{scene.order_id}/refunds", {})).status == 202
    await scene.sql(
        "UPDATE checkout.refunds SET state = $1, requested_at = now() - interval '10 minutes'", state
    )
    found = await broken(scene.running, money_s=1.0)
    assert found.keys() == {"money_has_a_home"}
    assert f"of order {scene.order_id} is {state} since" in found["money_has_a_home"]


async def test_a_refund_the_gateway_works_on_may_take_its_time(scene: Sold) -> None:
    assert (await scene.fan.call("POST", f"/orders/{scene.order_id}/refunds", {})).status == 202
    await scene.sql("UPDATE checkout.refunds SET state = 'sent', requested_at = now() - interval '3 days'")
    assert await broken(scene.running, money_s=1.0) == {}


async def _declined(scene: Sold) -> str:
    """A second order of the fan whose payment failed; answers the payment."""
    scene.running.start("writer")
    order = await scene.fan.order((await scene.fan.hold(scene.showtime_id, "C1")).body["hold_id"])
    payment = await scene.fan.pay(order.body["order_id"], "decline")
    payment_id = str(payment.body["payment_id"])
    for _ in range(200):
        if (
            await scene.value("SELECT state FROM checkout.payments WHERE payment_id = $1", payment_id)
            == "failed"
        ):
            break
        await asyncio.sleep(0.02)
    await scene.running.stop()
    return payment_id


async def test_a_payment_nobody_knows_the_end_of_is_found(scene: Sold) -> None:
    payment_id = await _declined(scene)
    await scene.sql(
        "UPDATE checkout.payments SET state = 'unknown', created_at = now() - interval '10 minutes'"
        " WHERE payment_id = $1",
        payment_id,
    )
    found = await broken(scene.running, money_s=1.0)
    assert found.keys() == {"money_has_a_home"}
    assert f"nobody knows what became of payment {payment_id}" in found["money_has_a_home"]


async def test_money_the_gateway_took_and_we_never_heard_of_is_found(scene: Sold) -> None:
    """A second card succeeds after the first failed, the webhook is lost, and nobody asks."""
    payment_id = await _declined(scene)
    test_url = await scene.value("SELECT test_url FROM checkout.payments WHERE payment_id = $1", payment_id)
    await scene.running.decide(test_url, "lose")
    assert await broken(scene.running) == {}, "it may still be on its way"
    assert await broken(scene.running, news_s=-1.0) == {
        "gateway_books_agree": f"the gateway captured 4990 CNY for {payment_id} and we do not know it"
    }


async def test_money_we_only_dreamt_of_is_found(scene: Sold) -> None:
    """A capture that stands in all our tables, and not in the gateway's books."""
    await scene.sql(
        "INSERT INTO checkout.payments (payment_id, order_id, gateway, state, amount, currency, gateway_ref,"
        " captured_at) VALUES ('pay_dreamt', $1, 'sandbox', 'captured', 100, 'CNY', 'sbp_dreamt', now())",
        scene.order_id,
    )
    await scene.sql(
        "INSERT INTO checkout.refunds (refund_id, order_id, payment_id, state, reason, amount, currency)"
        " VALUES ('ref_dreamt', $1, 'pay_dreamt', 'requested', 'paid_twice', 100, 'CNY')",
        scene.order_id,
    )
    for transaction, debit, credit in (
        ("capture:pay_dreamt", "gateway:sandbox", "open_payments"),
        ("owed:ref_dreamt", "open_payments", "refunds_due"),
    ):
        await scene.sql(
            f"INSERT INTO {LEDGER} (transaction_id, line, account, amount, currency, order_id)"
            " VALUES ($1, 1, $2, 100, 'CNY', $4), ($1, 2, $3, -100, 'CNY', $4)",
            transaction,
            debit,
            credit,
            scene.order_id,
        )
    assert await broken(scene.running) == {
        "gateway_books_agree": "pay_dreamt is captured here and not in the gateway's books"
    }


async def test_a_price_that_changed_after_it_was_paid_is_found(scene: Sold) -> None:
    """Every table of ours agrees on the new price; the gateway and the log remember the old one."""
    await scene.sql("UPDATE checkout.order_lines SET amount = 1")
    await scene.sql("UPDATE checkout.orders SET total = 2")
    await scene.sql("UPDATE checkout.payments SET amount = 2")
    await _unguarded(scene, f"UPDATE {LEDGER} SET amount = 2 * sign(amount)")
    found = await broken(scene.running)
    assert found.keys() == {"gateway_books_agree", "order_log_is_written"}
    sums = "with 2 CNY here and 9980 CNY there"
    assert found["gateway_books_agree"] == f"{scene.payment_id} was captured {sums}"
    assert "was claimed with other seats, owner or price" in found["order_log_is_written"]


async def test_a_state_outside_the_tables_is_found(scene: Sold) -> None:
    payment_id = await _declined(scene)
    await scene.sql("ALTER TABLE checkout.payments DROP CONSTRAINT payments_state_known")
    await scene.sql("UPDATE checkout.payments SET state = 'forgotten' WHERE payment_id = $1", payment_id)
    assert await broken(scene.running) == {
        "states_are_legal": f"payment {payment_id} is forgotten, which is no state"
    }


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE checkout.orders SET confirmed_at = paid_at - interval '1 second'",
        "UPDATE checkout.orders SET seats_freed_at = now()",
        "UPDATE checkout.orders SET seats_given_up_at = now(), seats_freed_at = now()",
    ],
)
async def test_instants_that_contradict_the_state_are_found(scene: Sold, change: str) -> None:
    await scene.sql(change)
    assert await broken(scene.running) == {
        "states_are_legal": f"order {scene.order_id} is confirmed, and its instants say otherwise"
    }


async def test_a_void_ticket_nobody_gave_back_is_found(scene: Sold) -> None:
    await scene.sql("UPDATE checkout.tickets SET state = 'void', voided_at = now() WHERE seat_index = 0")
    found = await broken(scene.running)
    assert found.keys() == {"states_are_legal", "confirmed_orders_have_tickets"}
    assert f"is void and nobody asked order {scene.order_id} back" in found["states_are_legal"]


async def test_a_refunded_order_whose_refund_is_not_done_is_found(scene: Sold) -> None:
    scene.running.start("writer", "completers")
    assert (await scene.fan.call("POST", f"/orders/{scene.order_id}/refunds", {})).status == 202
    await scene.fan.order_in(scene.order_id, "refunded")
    await scene.running.seats_left(scene.showtime_id, 80)
    await scene.running.stop()
    assert await broken(scene.running) == {}
    await scene.sql("UPDATE checkout.refunds SET reason = 'paid_twice'")
    found = await broken(scene.running)
    assert f"order {scene.order_id} is refunded, and the refund" in found["states_are_legal"]


@pytest.mark.parametrize(
    ("table", "key", "copy", "sentence"),
    [
        ("gateway_events", "gateway_events_pkey", "*", "of sandbox stands twice"),
        ("idempotency_keys", "idempotency_keys_pkey", "*", "stands twice"),
    ],
)
async def test_what_must_stand_once_and_stands_twice_is_found(
    scene: Sold, table: str, key: str, copy: str, sentence: str
) -> None:
    await scene.sql(f"ALTER TABLE checkout.{table} DROP CONSTRAINT {key}")
    await scene.sql(f"INSERT INTO checkout.{table} SELECT {copy} FROM checkout.{table} LIMIT 1")
    found = await broken(scene.running)
    assert found.keys() == {"one_effect_per_event"}
    assert sentence in found["one_effect_per_event"]


async def test_a_gateways_word_nobody_acted_on_is_found(scene: Sold) -> None:
    await scene.sql(
        "UPDATE checkout.gateway_events SET processed_at = NULL, outcome = NULL,"
        " received_at = now() - interval '10 minutes'"
    )
    found = await broken(scene.running, money_s=1.0)
    assert found.keys() == {"one_effect_per_event"}
    assert "nobody acted on it" in found["one_effect_per_event"]


async def test_an_event_without_an_outcome_is_found(scene: Sold) -> None:
    await scene.sql("UPDATE checkout.gateway_events SET outcome = NULL")
    found = await broken(scene.running)
    assert found.keys() == {"one_effect_per_event"}
    assert "nothing came of it" in found["one_effect_per_event"]


@pytest.mark.parametrize("table", ["orders", "payments", "refunds", "tickets", "seat_claims"])
async def test_states_that_nothing_keeps_to_their_arrows_are_found(scene: Sold, table: str) -> None:
    await scene.running.platform.database.execute(
        f"ALTER TABLE checkout.{table} DISABLE TRIGGER {table}_along_arrows"
    )

    found = await broken(scene.running)

    assert found == {"states_are_legal": f"nothing guards the arrows of checkout.{table}"}
