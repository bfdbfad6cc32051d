"""Goal: what a crash, a lost message or a slow gateway left half done is finished, and nothing else.

Method: PostgreSQL's own clock for the deadline of one short claim; everywhere else its instants are moved
into the past. Races between a completer and a late payment are planted by hand: the completer is stopped
between its two stores, the payment goes all the way, the completer goes on.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from checkout import OrderService
from checkout.domain import digest_of
from checkout.schemas import order_bytes
from kernel import limits
from kernel.errors import InventoryRebuilding, SeatsUnavailable
from kernel.ids import partition_of, showtime_of
from tests.support.shop import Shop, until

PAY_BY_S = limits.claim_ttl_ms / 1_000


def orders_with(shop: Shop, *, claim_ttl_ms: int) -> OrderService:
    """The order service with another time to pay."""
    platform = shop.platform
    return OrderService(
        platform.checkout_store,
        platform.hold_service,
        platform.inventory,
        platform.commits,
        platform.programme.prices_of,
        lambda showtime_id: platform.scripts.epochs[partition_of(showtime_id)],
        platform.inventory.now_ms,
        claim_ttl_ms=claim_ttl_ms,
    )


async def place(shop: Shop, orders: OrderService, fan: str, hold_id: str) -> str:
    placed = await shop.writing(orders.place(fan, hold_id, shop.request(fan), order_bytes))
    return placed.order.order_id


# Deadlines


async def test_an_unpaid_order_ends_by_postgres_clock_and_its_seats_return(shop: Shop) -> None:
    fan, showtime_id = shop.fan(), await shop.showtime()
    orders = orders_with(shop, claim_ttl_ms=600)
    await shop.tidy()
    order_id = await place(shop, orders, fan, await shop.hold(fan, showtime_id, "D5", "D6"))
    assert await shop.platform.completers.expire_orders() == 0
    assert await shop.state(order_id) == "pending_payment"
    overdue = "SELECT now() > pay_by FROM checkout.orders WHERE order_id = $1"
    await until(lambda: shop.one(overdue, order_id))
    assert await shop.platform.completers.expire_orders() == 1
    order = await shop.find(order_id)
    assert (order.state, order.end_reason) == ("expired", "not_paid")
    assert len(await shop.taken(showtime_id)) == 2  # PostgreSQL first …
    await shop.platform.completers.free_seats()
    assert await shop.taken(showtime_id) == set()  # … Redis second
    assert await shop.buy(shop.fan(), showtime_id, "D5", "D6")
    await shop.sound()


async def test_a_claim_that_is_written_after_its_deadline_ends_at_once(shop: Shop) -> None:
    """The order writer was away for longer than the fan had; the control beside it has time left."""
    await shop.tidy()
    fan, showtime_id = shop.fan(), await shop.showtime()
    orders = orders_with(shop, claim_ttl_ms=-5_000)
    overdue = await place(shop, orders, fan, await shop.hold(fan, showtime_id, "D5"))
    on_time = await shop.order(fan, showtime_id, "E5")
    assert await shop.platform.completers.expire_orders() == 1
    assert (await shop.state(overdue), await shop.state(on_time)) == ("expired", "pending_payment")


async def test_an_order_is_ended_once_by_any_number_of_completers(shop: Shop) -> None:
    await shop.tidy()
    showtime_id = await shop.showtime()
    order_ids = [await shop.order(shop.fan(), showtime_id, f"{row}1") for row in "ABCDEFGH"]
    await shop.time_passes(PAY_BY_S + 5)
    ended = await asyncio.gather(*(shop.platform.completers.expire_orders() for _ in range(8)))
    assert sum(ended) == len(order_ids)
    await asyncio.gather(*(shop.platform.completers.free_seats() for _ in range(4)))
    assert await shop.taken(showtime_id) == set()
    await shop.settle()
    await shop.sound()


async def test_a_paid_order_never_ends_for_want_of_payment(shop: Shop) -> None:
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    order_id = await shop.order(fan, showtime_id, f"{row}5")
    await shop.pay(fan, order_id)
    await shop.time_passes(PAY_BY_S + 5)
    assert await shop.platform.completers.expire_orders() == 0
    await shop.settle()
    assert await shop.state(order_id) == "confirmed"


# Freeing seats, and being overtaken


async def overtaken(shop: Shop) -> tuple[str, str, asyncio.Task[int], asyncio.Event]:
    """An expired order whose seats a completer is just about to free: stopped between its two stores."""
    fan, showtime_id = shop.fan(), await shop.showtime()
    order_id = await shop.order(fan, showtime_id, "D5", "D6")
    payment_id = await shop.open_payment(fan, order_id)
    await shop.time_passes(PAY_BY_S + 5)
    await shop.platform.completers.expire_orders()
    reached, go_on = asyncio.Event(), asyncio.Event()
    orders_to_free = shop.store.orders_to_free

    async def then_wait(*words: Any) -> Any:
        found = await orders_to_free(*words)
        reached.set()
        await go_on.wait()
        return found

    shop.store.orders_to_free = then_wait
    freeing = asyncio.create_task(shop.platform.completers.free_seats())
    await reached.wait()
    shop.store.orders_to_free = orders_to_free
    await shop.deliver(shop.gateway.capture(payment_id))  # late, and the seats are still there: sold
    await shop.write()
    assert await shop.state(order_id) == "confirmed"
    return showtime_id, order_id, freeing, go_on


async def test_a_completer_overtaken_by_a_late_payment_frees_nothing(shop: Shop) -> None:
    showtime_id, order_id, freeing, go_on = await overtaken(shop)
    go_on.set()
    await freeing
    assert len(await shop.taken(showtime_id)) == 2
    assert await shop.one("SELECT seats_freed_at IS NULL FROM checkout.orders WHERE order_id = $1", order_id)
    await shop.settle()
    await shop.sound()


async def test_without_the_fence_of_states_it_would_put_sold_seats_on_sale(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same interleaving, with a completer that frees whatever it finds."""
    return_seats = shop.platform.inventory.return_seats

    async def unfenced(hold_id: str, *, states: Any, keep: Any = ()) -> bool:
        return await return_seats(hold_id, states=frozenset({"claimed", "sold", "expired"}), keep=keep)

    showtime_id, order_id, freeing, go_on = await overtaken(shop)
    monkeypatch.setattr(shop.platform.inventory, "return_seats", unfenced)
    go_on.set()
    await freeing
    monkeypatch.undo()
    assert await shop.taken(showtime_id) == set()  # seats with a ticket, free for everybody
    assert await shop.state(order_id) == "confirmed"
    await shop.platform.rebuilder.rebuild("the control freed sold seats")
    assert len(await shop.taken(showtime_id)) == 2


async def test_a_completer_that_slept_through_a_payment_and_a_refund_still_frees_the_seats(
    shop: Shop,
) -> None:
    """It frees nothing for the expiry it has seen; the refund it has not seen must not count as done."""
    showtime_id, order_id, freeing, go_on = await overtaken(shop)
    fan = (await shop.find(order_id)).account_id
    await shop.ask_back(fan, order_id)
    go_on.set()
    await freeing
    assert len(await shop.taken(showtime_id)) == 2
    await shop.settle()
    assert await shop.taken(showtime_id) == set()
    assert await shop.state(order_id) == "refunded"
    await shop.sound()


async def test_a_seat_sold_to_another_meanwhile_is_not_freed(shop: Shop) -> None:
    """Redis believed two; the loser's seats are freed except what PostgreSQL gave to somebody else."""
    showtime_id = await shop.showtime()
    loser = await shop.order(shop.fan(), showtime_id, "D5", "D6")
    layout = (await shop.platform.halls.showtime(showtime_id)).hall.layout
    shared = layout.index_of["D5"]
    await shop.time_passes(PAY_BY_S + 5)
    await shop.platform.completers.expire_orders()
    await shop.sql(  # a second owner of one of the seats, written by another way in
        "INSERT INTO checkout.orders"
        " (order_id, showtime_id, account_id, epoch, state, currency, total, pay_by)"
        " VALUES ($1, $2, 'acc_other', 1, 'pending_payment', 'CNY', 4990, now() + interval '1 hour')",
        other := f"ord_{showtime_id[4:]}{'7' * 16}",
        showtime_id,
    )
    await shop.sql("INSERT INTO checkout.order_lines VALUES ($1, $2, 'D5', 'stalls', 4990)", other, shared)
    await shop.sql(
        "INSERT INTO checkout.seat_claims VALUES ($1, $2, $3, 'claimed')", other, showtime_id, shared
    )
    await shop.platform.completers.free_seats()
    assert await shop.taken(showtime_id) == {shared}
    assert await shop.state(loser) == "expired"
    await shop.sound()


async def test_freeing_while_redis_is_away_is_done_when_it_is_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    showtime_id = await shop.showtime()
    await shop.order(shop.fan(), showtime_id, "D5")
    await shop.time_passes(PAY_BY_S + 5)
    await shop.platform.completers.expire_orders()

    async def away(*_: Any, **__: Any) -> bool:
        raise SeatsUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(shop.platform.inventory, "return_seats", away)
        assert await shop.platform.completers.free_seats() == 0
        assert (await shop.store.oldest_open())["seats_unfreed"] >= 0
    assert len(await shop.taken(showtime_id)) == 1
    await shop.settle()
    assert await shop.taken(showtime_id) == set()


async def test_one_showtime_that_cannot_be_freed_keeps_no_other_waiting(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, fine = await shop.showtime(), await shop.showtime()
    for showtime_id in (stuck, fine):
        await shop.order(shop.fan(), showtime_id, "D5")
    await shop.time_passes(PAY_BY_S + 5)
    await shop.platform.completers.expire_orders()
    return_seats = shop.platform.inventory.return_seats

    async def broken(hold_id: str, **named: Any) -> bool:
        if showtime_of(hold_id) == stuck:
            raise InventoryRebuilding
        return await return_seats(hold_id, **named)

    with monkeypatch.context() as patch:
        patch.setattr(shop.platform.inventory, "return_seats", broken)
        await shop.platform.completers.free_seats()
    assert (len(await shop.taken(stuck)), len(await shop.taken(fine))) == (1, 0)
    await shop.settle()
    assert await shop.taken(stuck) == set()


# All jobs together


async def test_a_gateway_that_hangs_keeps_no_seat_from_sale(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    fan, showtime_id = shop.fan(), await shop.showtime()
    order_id = await shop.order(fan, showtime_id, "A1")
    await shop.open_payment(fan, order_id)
    unpaid = await shop.order(shop.fan(), showtime_id, "D5")
    await shop.time_passes(PAY_BY_S - 100)
    asked = asyncio.Event()

    async def hangs(gateway_ref: str) -> Any:
        asked.set()
        await asyncio.sleep(3_600)

    with monkeypatch.context() as patch:
        patch.setattr(shop.gateway, "find_payment", hangs)
        running = asyncio.create_task(shop.platform.completers.run())
        await asyncio.wait_for(asked.wait(), 5)
        await shop.time_passes(200)

        async def back_on_sale() -> bool:
            return not await shop.taken(showtime_id)

        await until(back_on_sale)
        assert await shop.state(unpaid) == "expired"
        while not running.done():
            running.cancel()
            await asyncio.wait([running], timeout=0.2)
    await shop.settle()
    await shop.sound()


async def test_the_age_of_the_oldest_open_item_is_told_by_kind(shop: Shop) -> None:
    await shop.tidy()
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    order_id = await shop.order(fan, showtime_id, f"{row}1")
    await shop.open_payment(fan, order_id)
    ages = await shop.store.oldest_open()
    assert set(ages) == {
        "claims_overdue",
        "paid_unconfirmed",
        "seats_unfreed",
        "payments_open",
        "refunds_open",
        "events_unprocessed",
    }
    assert ages["claims_overdue"] == 0
    await shop.time_passes(PAY_BY_S + 30)
    ages = await shop.store.oldest_open()
    assert 25 < ages["claims_overdue"] < 60
    assert ages["payments_open"] > PAY_BY_S
    await shop.settle()
    assert (await shop.store.oldest_open())["claims_overdue"] == 0


async def test_answers_older_than_thirty_days_are_forgotten_and_younger_ones_kept(shop: Shop) -> None:
    fan = shop.fan()
    for key in ("old", "young"):
        await shop.store.keep_request_key(shop.request(fan, key), 201, b"{}")
    await shop.sql(
        "UPDATE checkout.idempotency_keys SET created_at = now() - interval '31 days'"
        " WHERE account_id = $1 AND key = $2",
        fan,
        digest_of("old"),
    )
    await shop.platform.completers.drop_old_keys()
    assert await shop.store.find_request_key(fan, digest_of("old")) is None
    assert await shop.store.find_request_key(fan, digest_of("young")) is not None
