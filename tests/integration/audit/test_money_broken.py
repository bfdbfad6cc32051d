"""Goal: each promise about money, states and events, broken by hand, is found broken, and no other one is.

Method: as in `test_seats_broken`. The ledger's triggers are switched off where a planted entry needs it; the
gateway's books are the real ones, so there it is our side that is bent.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import pytest

from kernel.errors import PersistenceUnavailable
from runtime.paths import ROOT
from runtime.postgres import UniqueViolation
from tests.integration.audit.scenes import Sold, broken, sold
from tests.support.platform import RunningPlatform
from tests.support.shop import until

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


@pytest.mark.parametrize("more", [1, -9978], ids=["a cent more", "all but two cents less"])
async def test_a_refund_of_another_sum_than_was_captured_is_found(scene: Sold, more: int) -> None:
    """All our tables agree on it; orders are given back whole."""
    assert (await scene.fan.call("POST", f"/orders/{scene.order_id}/refunds", {})).status == 202
    assert await broken(scene.running) == {}
    await scene.sql("UPDATE checkout.refunds SET amount = amount + $1", more)
    await scene.sql(
        "UPDATE checkout.refund_lines l"
        " SET amount = CASE t.seat_index WHEN 0 THEN l.amount + $1 + 4989 ELSE 1 END"
        " FROM checkout.tickets t WHERE t.ticket_id = l.ticket_id",
        more,
    )
    await _unguarded(
        scene,
        f"UPDATE {LEDGER} SET amount = amount + $1 * sign(amount) WHERE transaction_id LIKE 'owed:%'",
        more,
    )
    found = await broken(scene.running)
    assert found.keys() == {"ledger_balances"}
    sums = f"gives {9980 + more} CNY back, and payment {scene.payment_id} was of 9980 CNY"
    assert found["ledger_balances"].endswith(sums)


@pytest.mark.parametrize(("amount", "currency"), [(9980, "JPY"), (9981, "CNY")])
async def test_a_payment_of_another_sum_than_its_order_costs_is_found(
    scene: Sold, amount: int, currency: str
) -> None:
    """In yuan or in cents; at a gateway whose books nobody can read, so that only our own rows speak."""
    await scene.sql("UPDATE checkout.payments SET gateway = 'other'")
    await _unguarded(
        scene, f"UPDATE {LEDGER} SET account = 'gateway:other' WHERE account = 'gateway:sandbox'"
    )
    assert await broken(scene.running) == {}
    await scene.sql("UPDATE checkout.payments SET amount = $1, currency = $2", amount, currency)
    await _unguarded(
        scene,
        f"UPDATE {LEDGER} SET amount = $1 * sign(amount), currency = $2"
        " WHERE transaction_id LIKE 'capture:%'",
        amount,
        currency,
    )
    found = await broken(scene.running)
    assert found.keys() == {"ledger_balances"}
    sums = f"payment {scene.payment_id} is of {amount} {currency}, and order {scene.order_id} costs 9980 CNY"
    first = f"order {scene.order_id} is confirmed and keeps 1 open (and 1 more)"
    assert found["ledger_balances"] in {sums, first}


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
    await scene.sql("UPDATE reservation.epochs SET raised_at = '2020-01-01', opened_at = '2020-01-01'")
    found = await broken(running, money_s=1.0)
    assert found.keys() == {"money_has_a_home"}
    assert scene.payment_id in found["money_has_a_home"]
    assert f"order {scene.order_id} is paid" in found["money_has_a_home"]


async def test_a_sale_that_waited_for_its_map_is_held_against_nobody(running: RunningPlatform) -> None:
    """Redis was away for ten minutes, forgot, and is back since a moment."""
    scene = await _paid(running)
    await scene.sql("UPDATE checkout.orders SET paid_at = now() - interval '10 minutes'")
    await running.redis.flushall()
    await running.platform.rebuilder.rebuild("test")
    await scene.sql("UPDATE reservation.epochs SET opened_at = now() + interval '1 minute'")  # while we look
    assert await broken(running, money_s=0.0) == {}
    await scene.sql(
        "UPDATE reservation.epochs SET raised_at = raised_at - interval '1 hour', opened_at = NULL"
    )
    assert "money_has_a_home" in await broken(running, money_s=1.0), (
        "an excuse ends, also where a map stays shut"
    )


async def test_a_refund_the_gateway_refuses_is_found(scene: Sold) -> None:
    assert (await scene.fan.call("POST", f"/orders/{scene.order_id}/refunds", {})).status == 202
    await scene.sql(
        "UPDATE checkout.refunds SET state = 'failed', requested_at = now() - interval '10 minutes',"
        " asked_at = now()"
    )
    found = await broken(scene.running, money_s=1.0)
    assert found.keys() == {"money_has_a_home"}
    assert f"of order {scene.order_id} is failed since" in found["money_has_a_home"]


@pytest.mark.parametrize("state", ["requested", "sent"])
async def test_a_refund_may_take_its_time_while_somebody_asks_for_it(scene: Sold, state: str) -> None:
    """At a gateway that works on it, or is away: three days, and asked a moment ago."""
    assert (await scene.fan.call("POST", f"/orders/{scene.order_id}/refunds", {})).status == 202
    await scene.sql(
        "UPDATE checkout.refunds SET state = $1, requested_at = now() - interval '3 days', asked_at = now()",
        state,
    )
    assert await broken(scene.running, money_s=1.0, asked_s=60.0) == {}
    await scene.sql("UPDATE checkout.refunds SET asked_at = now() - interval '364 days', asked_times = 20")
    assert await broken(scene.running, asked_s=1.0) == {
        "money_has_a_home": f"refund {await scene.value('SELECT refund_id FROM checkout.refunds')} of order"
        f" {scene.order_id} is {state} and nobody asks for it"
    }


async def test_a_refund_nobody_ever_asked_for_is_found(scene: Sold) -> None:
    assert (await scene.fan.call("POST", f"/orders/{scene.order_id}/refunds", {})).status == 202
    assert await broken(scene.running, asked_s=60.0) == {}, "somebody will in a moment"
    await scene.sql("UPDATE checkout.refunds SET requested_at = now() - interval '10 minutes'")
    found = await broken(scene.running, asked_s=1.0)
    assert "is requested and nobody asks for it" in found["money_has_a_home"]


async def _open_payment(scene: Sold, name: str, state: str, *, asked: str | None, created: str) -> None:
    """A payment whose end the gateway has not told; what it was asked for so long ago."""
    await scene.sql(
        "INSERT INTO checkout.payments (payment_id, order_id, gateway, state, amount, currency, gateway_ref,"
        " created_at, asked_at) SELECT 'pay_' || $2::text, order_id, 'other', $3, total, currency, $2::text,"
        " now() - $4::text::interval, now() - $5::text::interval FROM checkout.orders WHERE order_id = $1",
        scene.order_id,
        name,
        state,
        created,
        asked,
    )


@pytest.mark.parametrize("asked", ["30 days", None])
@pytest.mark.parametrize("state", ["initiated", "pending"])
async def test_a_payment_nobody_asks_about_is_found(scene: Sold, state: str, asked: str | None) -> None:
    await _open_payment(scene, "odd", state, asked=asked, created="31 days")
    assert await broken(scene.running, asked_s=1.0) == {
        "money_has_a_home": f"payment pay_odd of order {scene.order_id} is {state}"
        " and nobody asks what became of it"
    }


@pytest.mark.parametrize("state", ["initiated", "pending"])
async def test_a_payment_somebody_asks_about_may_stay_open(scene: Sold, state: str) -> None:
    await _open_payment(scene, "slow", state, asked="1 second", created="31 days")
    await _open_payment(scene, "new", state, asked=None, created="1 second")
    assert await broken(scene.running, asked_s=60.0) == {}


async def test_a_payment_may_wait_its_turn_behind_an_older_one(scene: Sold) -> None:
    """Ten thousand pages were opened at once: who asks begins with the oldest. The control: nobody asks."""
    await _open_payment(scene, "older", "pending", asked="0 seconds", created="50 minutes")
    await _open_payment(scene, "younger", "pending", asked=None, created="40 minutes")
    up_s = await scene.value("SELECT extract(epoch FROM now() - pg_postmaster_start_time())::float8")
    assert await broken(scene.running, asked_s=max(up_s - 1.0, 0.0)) == {}
    await scene.sql(
        "UPDATE checkout.payments SET asked_at = now() - interval '49 minutes' WHERE gateway = 'other'"
    )
    found = await broken(scene.running, asked_s=1.0)
    assert "payment pay_older" in found["money_has_a_home"]
    assert "(and 1 more)" in found["money_has_a_home"]


async def test_completers_that_work_ask_often_enough(scene: Sold) -> None:
    await _open_payment(scene, "old", "pending", asked="30 days", created="31 days")
    scene.running.start("completers")
    asked = (
        "SELECT asked_at > now() - interval '1 minute' FROM checkout.payments WHERE payment_id = 'pay_old'"
    )
    await until(lambda: scene.value(asked))
    assert await broken(scene.running, asked_s=60.0) == {}


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
    await scene.sql("UPDATE checkout.payments SET asked_at = now()")
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
        " captured_at) VALUES ('pay_dreamt', $1, 'sandbox', 'captured', 9980, 'CNY', 'sbp_dreamt', now())",
        scene.order_id,
    )
    await scene.sql(
        "INSERT INTO checkout.refunds (refund_id, order_id, payment_id, state, reason, amount, currency)"
        " VALUES ('ref_dreamt', $1, 'pay_dreamt', 'requested', 'paid_twice', 9980, 'CNY')",
        scene.order_id,
    )
    for transaction, debit, credit in (
        ("capture:pay_dreamt", "gateway:sandbox", "open_payments"),
        ("owed:ref_dreamt", "open_payments", "refunds_due"),
    ):
        await scene.sql(
            f"INSERT INTO {LEDGER} (transaction_id, line, account, amount, currency, order_id)"
            " VALUES ($1, 1, $2, 9980, 'CNY', $4), ($1, 2, $3, -9980, 'CNY', $4)",
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


_REPLACED = (
    "CREATE OR REPLACE FUNCTION checkout.{}() RETURNS trigger LANGUAGE plpgsql"
    " AS $$ BEGIN RETURN NULL; END $$"
)
_OWNER = "a seat of checkout.seat_claims to one owner: index seat_claims_one_owner"
_TICKET = "a seat of checkout.tickets to one owner: index tickets_one_per_seat"
_ARBITER = "CREATE {} seat_claims_one_owner ON checkout.seat_claims {}"
GUARDS = {
    "no arbiter of claims": (("DROP INDEX checkout.seat_claims_one_owner",), f"nothing keeps {_OWNER}"),
    "no arbiter of tickets": (("DROP INDEX checkout.tickets_one_per_seat",), f"nothing keeps {_TICKET}"),
    "an arbiter that refuses nothing": (
        (
            "DROP INDEX checkout.seat_claims_one_owner",
            _ARBITER.format("INDEX", "(showtime_id, seat_index) WHERE owned"),
        ),
        f"nothing keeps {_OWNER}",
    ),
    "an arbiter of other rows": (
        (
            "DROP INDEX checkout.seat_claims_one_owner",
            _ARBITER.format("UNIQUE INDEX", "(showtime_id, seat_index) WHERE state = 'sold'"),
        ),
        f"nothing keeps {_OWNER}",
    ),
    "an arbiter of other columns": (
        (
            "DROP INDEX checkout.seat_claims_one_owner",
            _ARBITER.format("UNIQUE INDEX", "(order_id, seat_index) WHERE owned"),
        ),
        f"nothing keeps {_OWNER}",
    ),
    "an arbiter whose making was broken off": (
        (
            "DROP INDEX checkout.tickets_one_per_seat",
            "INSERT INTO checkout.tickets SELECT 'tkt_second', order_id, account_id, showtime_id, seat_index,"
            " label, state FROM checkout.tickets WHERE seat_index = 0",
            "CREATE UNIQUE INDEX CONCURRENTLY tickets_one_per_seat ON checkout.tickets"
            " (showtime_id, seat_index) WHERE state <> 'void'",
            "DELETE FROM checkout.tickets WHERE ticket_id = 'tkt_second'",
        ),
        f"nothing keeps {_TICKET}",
    ),
    "a ledger that can be changed": (
        (f"ALTER TABLE {LEDGER} DISABLE TRIGGER ledger_entries_append_only",),
        "nothing keeps the ledger from being changed",
    ),
    "a ledger that need not balance": (
        (f"ALTER TABLE {LEDGER} DISABLE TRIGGER ledger_entries_balance",),
        "nothing keeps the ledger in balance",
    ),
    "arrows that refuse nothing": (
        (_REPLACED.format("no_such_arrow"),),
        "function checkout.no_such_arrow is not what the migrations made",
    ),
    "a ledger that refuses nothing": (
        (_REPLACED.format("ledger_is_append_only"),),
        "function checkout.ledger_is_append_only is not what the migrations made",
    ),
    "a balance that refuses nothing": (
        (_REPLACED.format("ledger_must_balance"),),
        "function checkout.ledger_must_balance is not what the migrations made",
    ),
}


@pytest.mark.parametrize("gone", GUARDS)
async def test_a_guard_that_is_gone_is_found_before_anything_went_past_it(scene: Sold, gone: str) -> None:
    statements, sentence = GUARDS[gone]
    admin = scene.running.platform.database
    try:
        for statement in statements:
            with suppress(UniqueViolation):
                await admin.execute(statement)
        assert await broken(scene.running) == {"states_are_legal": sentence}
    finally:
        await _guarded_again(scene)
    assert await broken(scene.running) == {}


async def test_an_arbiter_that_was_not_finished_because_somebody_still_looked_is_found(scene: Sold) -> None:
    """It refuses what comes, and what came before it was never looked through to the end."""
    admin = scene.running.platform.database
    await admin.execute("DROP INDEX checkout.tickets_one_per_seat")
    try:
        async with admin.transaction(snapshot=True) as reader:
            await reader.fetchval("SELECT 1")  # an old snapshot, for which the last step waits
            making = asyncio.create_task(
                admin.execute(
                    "CREATE UNIQUE INDEX CONCURRENTLY tickets_one_per_seat ON checkout.tickets"
                    " (showtime_id, seat_index) WHERE state <> 'void'"
                )
            )
            waits = "SELECT pid FROM pg_stat_progress_create_index WHERE phase = 'waiting for old snapshots'"
            await until(lambda: admin.fetchval(waits))
            await admin.execute(f"SELECT pg_cancel_backend(({waits}))")
            with pytest.raises(PersistenceUnavailable):
                await making
        assert await admin.fetchval(
            "SELECT indisready AND NOT indisvalid FROM pg_index"
            " WHERE indexrelid = 'checkout.tickets_one_per_seat'::regclass"
        )
        assert await broken(scene.running) == {"states_are_legal": f"nothing keeps {_TICKET}"}
    finally:
        await _guarded_again(scene)
    assert await broken(scene.running) == {}


async def _guarded_again(scene: Sold) -> None:
    """As the migrations made them."""
    schema = (ROOT / "migrations" / "schema.sql").read_text()
    database = scene.running.platform.database
    for function in ("no_such_arrow", "ledger_is_append_only", "ledger_must_balance"):
        found = re.search(rf"CREATE (FUNCTION checkout\.{function}\(\).*?END \$\$;)", schema, re.S)
        assert found is not None
        await database.execute(f"CREATE OR REPLACE {found[1]}")
    for index in ("seat_claims_one_owner", "tickets_one_per_seat"):
        found = re.search(rf"CREATE UNIQUE INDEX {index} [^;]*;", schema)
        assert found is not None
        await database.execute(f"DROP INDEX IF EXISTS checkout.{index}")
        await database.execute(found[0])
    await database.execute(f"ALTER TABLE {LEDGER} ENABLE TRIGGER USER")


async def test_an_arbiter_that_was_made_anew_in_place_is_the_same(scene: Sold) -> None:
    await scene.running.platform.database.execute("REINDEX INDEX checkout.seat_claims_one_owner")
    assert await broken(scene.running) == {}
