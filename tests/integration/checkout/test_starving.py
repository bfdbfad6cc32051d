"""Goal: what cannot be done, however much of it there is, keeps nobody else's seats, sales and news waiting.

Method: more orders and events that cannot be done than a completer takes up at a time, all of them older
than one that can: their showtime is shut, or their gateway is gone. Completers go round until each was met
once. The controls begin every round at the oldest. Then a server of seats does not answer at all, and is
counted how often it is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from checkout.completers import AT_ONCE_MAX, CONFIRM_AFTER_S
from checkout.store import AT_A_TIME
from checkout.tours import Tour
from kernel.errors import SeatsUnavailable
from kernel.ids import partition_of, showtime_of
from reservation import keys_of
from tests.support.shop import Shop

STUCK = 2 * AT_A_TIME + 1
#: As many as meet each item once.
ROUNDS = 4


async def a_showtime_that_is_shut(shop: Shop) -> str:
    """Its sale is known, and nobody comes to make its maps anew."""
    showtime_id = await shop.showtime()
    await shop.redis.hset(keys_of(showtime_id).showtime, "epoch", "-1")
    return showtime_id


async def stuck_orders(shop: Shop, state: str) -> None:
    """Orders of a showtime that is shut, a day old: expired and not freed, or paid and not sold."""
    columns = {"expired": "ended_at, seats_given_up_at", "paid": "paid_at, created_at"}
    await shop.sql(
        f"""INSERT INTO checkout.orders
              (order_id, showtime_id, account_id, epoch, state, currency, total, pay_by, {columns[state]})
            SELECT 'ord_' || substr($1::text, 5) || lpad(number::text, 16, '0'), $1::text, 'acc_stuck', 1,
            $2::text,
                   'CNY', 1, now() - interval '1 day', now() - interval '1 day', now() - interval '1 day'
            FROM generate_series(1, $3::int) AS number""",
        await a_showtime_that_is_shut(shop),
        state,
        STUCK,
    )


@contextmanager
def each_round_begins_at_the_oldest(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(Tour, "met", lambda *_: None)
        yield


async def rounds(shop: Shop) -> None:
    for _ in range(ROUNDS):
        await shop.complete()
        await shop.write()


async def given_up_behind_others(shop: Shop) -> str:
    """A showtime with an order that was not paid, and hundreds before it whose seats cannot be freed."""
    showtime_id = await shop.showtime()
    await shop.order(shop.fan(), showtime_id, "A1")
    await shop.time_passes(3_600)
    await stuck_orders(shop, "expired")
    return showtime_id


async def test_seats_nobody_can_free_keep_no_others_from_sale(evening: Shop) -> None:
    showtime_id = await given_up_behind_others(evening)
    await rounds(evening)
    assert not await evening.taken(showtime_id)


async def test_begun_at_the_oldest_the_seats_of_others_are_never_freed(
    evening: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    showtime_id = await given_up_behind_others(evening)
    with each_round_begins_at_the_oldest(monkeypatch):
        await rounds(evening)
    assert await evening.taken(showtime_id)


async def paid_behind_others(shop: Shop) -> str:
    """An order whose sale did not come to the log, and hundreds before it whose sale cannot."""
    fan, showtime_id = shop.fan(), await shop.showtime()
    order_id = await shop.order(fan, showtime_id, "A1")
    epoch = await shop.redis.hget(keys_of(showtime_id).showtime, "epoch")
    await shop.redis.hset(keys_of(showtime_id).showtime, "epoch", "-1")
    await shop.pay(fan, order_id)
    await shop.redis.hset(keys_of(showtime_id).showtime, "epoch", epoch)
    await shop.time_passes(CONFIRM_AFTER_S + 1)
    await stuck_orders(shop, "paid")
    assert await shop.state(order_id) == "paid"
    return order_id


async def test_sales_nobody_can_make_keep_no_other_buyer_waiting(evening: Shop) -> None:
    order_id = await paid_behind_others(evening)
    await rounds(evening)
    assert await evening.state(order_id) == "confirmed"


async def test_begun_at_the_oldest_the_sales_of_others_are_never_made(
    evening: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    order_id = await paid_behind_others(evening)
    with each_round_begins_at_the_oldest(monkeypatch):
        await rounds(evening)
    assert await evening.state(order_id) == "paid"


async def told_behind_others(shop: Shop) -> str:
    """An order whose webhook crashed, and hundreds of news of a gateway we have no more."""
    fan = shop.fan()
    order_id = await shop.order(fan, await shop.showtime(), "A1")
    news = shop.gateway.capture(await shop.open_payment(fan, order_id))
    await shop.store.record_event(shop.gateway.name, news.event_id, "payment.captured", news.body)
    await shop.time_passes(60)
    await shop.sql(
        """INSERT INTO checkout.gateway_events (gateway, event_id, kind, body, received_at)
           SELECT 'gone', 'evt_' || number, 'payment.captured', '', now() - interval '1 day'
           FROM generate_series(1, $1::int) AS number""",
        STUCK,
    )
    shop.gateway.away = True  # what it knows nobody learns by asking
    return order_id


async def test_news_nobody_can_read_keep_no_other_news_waiting(evening: Shop) -> None:
    order_id = await told_behind_others(evening)
    await rounds(evening)
    assert await evening.state(order_id) == "confirmed"


async def test_begun_at_the_oldest_the_news_of_others_are_never_heard(
    evening: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    order_id = await told_behind_others(evening)
    with each_round_begins_at_the_oldest(monkeypatch):
        await rounds(evening)
    assert await evening.state(order_id) == "pending_payment"


async def test_a_server_that_does_not_answer_is_not_asked_for_each_of_its_orders(
    evening: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would wait for a deadline, and whoever comes behind them for all of these."""
    shop = evening
    fine = away = await shop.showtime()
    while partition_of(fine) == partition_of(away):
        fine = await shop.showtime()
    for row in "ABCDEFGH":
        await shop.order(shop.fan(), away, f"{row}1")
        await shop.order(shop.fan(), away, f"{row}2")
        await shop.order(shop.fan(), away, f"{row}3")
    await shop.order(shop.fan(), fine, "A1")
    await shop.time_passes(3_600)
    await shop.platform.completers.expire_orders()
    asked: Counter[str] = Counter()
    return_seats = shop.platform.inventory.return_seats

    async def silent(hold_id: str, **named: Any) -> bool:
        asked[showtime_of(hold_id)] += 1
        if showtime_of(hold_id) == away:
            raise SeatsUnavailable
        return await return_seats(hold_id, **named)

    with monkeypatch.context() as patch:
        patch.setattr(shop.platform.inventory, "return_seats", silent)
        assert await shop.platform.completers.free_seats() == 1
    assert not await shop.taken(fine)
    assert 1 <= asked[away] <= AT_ONCE_MAX
    assert await shop.platform.completers.free_seats() == 24
    assert not await shop.taken(away)
