"""Goal: what one fan or one launch leaves behind never grows until others wait for it.

Method: one order is tried to be paid with a fresh key each time, one after the other and fifty at once; more
old keys lie there than one statement may take; a gateway has lost its sessions. What is left is counted in
PostgreSQL. The mutants take the limits away.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime
from typing import Any

import pytest

from checkout import errors
from kernel import limits
from kernel.errors import PersistenceUnavailable
from tests.support.shop import Session, Shop

PAY_BY_S = limits.claim_ttl_ms / 1_000
#: As long as a failed payment is asked about after the deadline.
PATIENCE_S = 15 * 60


# Attempts to pay


async def an_order(shop: Shop) -> tuple[str, str]:
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    return fan, await shop.order(fan, showtime_id, f"{row}5")


async def attempts(shop: Shop, order_id: str) -> int:
    return int(await shop.one("SELECT count(*) FROM checkout.payments WHERE order_id = $1", order_id))


async def test_an_order_is_tried_to_be_paid_so_often_and_no_more(shop: Shop) -> None:
    fan, order_id = await an_order(shop)
    opened = [await shop.open_payment(fan, order_id) for _ in range(limits.payments_per_order_max)]
    sessions = len(shop.gateway.sessions)
    for _ in range(2):
        with pytest.raises(errors.TooManyPayments):
            await shop.open_payment(fan, order_id)
    assert len(set(opened)) == await attempts(shop, order_id) == limits.payments_per_order_max
    assert len(shop.gateway.sessions) == sessions
    await shop.deliver(shop.gateway.capture(opened[7]))
    await shop.write()
    assert await shop.state(order_id) == "confirmed"


async def test_who_repeats_an_attempt_gets_his_own_however_many_there_are(shop: Shop) -> None:
    fan, order_id = await an_order(shop)
    keys = [f"try {order_id} {number}" for number in range(limits.payments_per_order_max)]
    opened = [await shop.open_payment(fan, order_id, key) for key in keys]
    assert [await shop.open_payment(fan, order_id, key) for key in keys] == opened
    await shop.sql(  # as books may add one we had forgotten
        "INSERT INTO checkout.payments (payment_id, order_id, gateway, state, amount, currency)"
        " VALUES ('pay_' || substr($1, 5), $1, 'paper', 'failed', 4990, 'CNY')",
        order_id,
    )
    assert await shop.open_payment(fan, order_id, keys[3]) == opened[3]


async def test_of_fifty_attempts_at_once_as_many_are_made_as_may_be(shop: Shop) -> None:
    fan, order_id = await an_order(shop)
    outcomes = await asyncio.gather(
        *(shop.open_payment(fan, order_id) for _ in range(50)), return_exceptions=True
    )
    most = limits.payments_per_order_max
    assert Counter(type(one) for one in outcomes) == {str: most, errors.TooManyPayments: 50 - most}
    assert await attempts(shop, order_id) == most


# Old keys


async def old_keys(shop: Shop, count: int) -> None:
    await shop.sql(
        "INSERT INTO checkout.idempotency_keys (account_id, key, fingerprint, status, body, created_at)"
        " SELECT 'acc_old', number::text, '00', 201, '', now() - interval '31 days'"
        " FROM generate_series(1, $1::int) AS number",
        count,
    )


async def old_keys_left(shop: Shop) -> int:
    return int(await shop.one("SELECT count(*) FROM checkout.idempotency_keys WHERE account_id = 'acc_old'"))


@pytest.mark.parametrize(("fails_at", "left"), [(None, 0), (3, 15)], ids=["all", "until one fails"])
async def test_old_keys_go_in_slices_and_what_is_gone_stays_gone(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, fails_at: int | None, left: int
) -> None:
    await old_keys(shop, 35)
    slices: list[int] = []
    forgetting = shop.platform.forgetting_store
    drop = forgetting.drop_old_request_keys

    async def counted(days: int, at_latest: datetime, at_a_time: int) -> Any:
        if len(slices) + 1 == fails_at:
            raise PersistenceUnavailable
        slices.append(await drop(days, at_latest, at_a_time))
        return slices[-1]

    with monkeypatch.context() as patch:
        patch.setattr(limits, "forgotten_at_a_time_max", 10)
        patch.setattr(forgetting, "drop_old_request_keys", counted)
        await shop.platform.completers.drop_old_keys()
    assert slices == [10, 10, 10, 5][: fails_at and fails_at - 1]
    assert await old_keys_left(shop) == left
    await shop.platform.completers.drop_old_keys()
    assert await old_keys_left(shop) == 0


async def test_fences_that_cannot_be_forgotten_keep_no_keys(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await old_keys(shop, 3)

    async def away(*_: object) -> int:
        raise PersistenceUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(shop.platform.forgetting_store, "drop_old_fences", away)
        await shop.platform.completers.drop_old_keys()
    assert await old_keys_left(shop) == 0


# Payments a gateway has forgotten


async def forgotten(shop: Shop) -> tuple[str, str, Session]:
    """Order, payment and the session the gateway has lost."""
    fan, order_id = await an_order(shop)
    payment_id = await shop.open_payment(fan, order_id)
    return order_id, payment_id, shop.gateway.sessions.pop(payment_id)


async def all_are_asked(shop: Shop) -> None:
    while (await shop.complete())["payments_asked"]:
        pass


async def asked(shop: Shop, payment_id: str) -> tuple[str, int]:
    (row,) = await shop.sql(
        "SELECT state, asked_times FROM checkout.payments WHERE payment_id = $1", payment_id
    )
    return row["state"], row["asked_times"]


async def test_a_payment_its_gateway_does_not_have_fails_when_nobody_can_pay_it_any_more(shop: Shop) -> None:
    _, payment_id, _ = await forgotten(shop)
    for seconds in (60, PAY_BY_S, PATIENCE_S - 120):
        await shop.time_passes(seconds)
        await all_are_asked(shop)
        assert (await asked(shop, payment_id))[0] == "pending"
    await shop.time_passes(120)
    await all_are_asked(shop)
    state, times = await asked(shop, payment_id)
    assert state == "failed"
    await shop.time_passes(120)
    await all_are_asked(shop)
    assert await asked(shop, payment_id) == (state, times)


@pytest.mark.parametrize("learnt", ["told", "read in the books"])
async def test_money_of_a_payment_its_gateway_did_not_have_is_taken_all_the_same(
    shop: Shop, learnt: str
) -> None:
    order_id, payment_id, session = await forgotten(shop)
    await shop.time_passes(PAY_BY_S + PATIENCE_S + 60)
    await all_are_asked(shop)
    assert (await asked(shop, payment_id))[0] == "failed"
    shop.gateway.sessions[payment_id] = session
    news = shop.gateway.capture(payment_id)
    if learnt == "told":
        await shop.deliver(news)
    else:
        assert await shop.reconcile() == 1
    await shop.settle()
    assert (await asked(shop, payment_id))[0] == "captured"
    assert await shop.state(order_id) == "confirmed"
    await shop.sound()


async def test_what_a_person_has_to_look_at_stays_open_though_its_gateway_has_lost_it(
    shop: Shop,
) -> None:
    _, payment_id, _ = await forgotten(shop)
    await shop.sql("UPDATE checkout.payments SET state = 'unknown' WHERE payment_id = $1", payment_id)
    await shop.time_passes(PAY_BY_S + PATIENCE_S + 60)
    await all_are_asked(shop)
    assert (await asked(shop, payment_id))[0] == "unknown"
    await shop.sql("UPDATE checkout.payments SET state = 'failed' WHERE payment_id = $1", payment_id)
