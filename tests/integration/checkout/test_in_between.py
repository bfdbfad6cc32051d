"""Goal: what happens between a payment and its sale being written, or after a key is reused, leaks nothing.

Method: the order writer stands still while something else happens (a rebuild, a refund, a second
purchase), then goes on; afterwards seats, limits and money are checked against the map and the ledger.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from checkout.schemas import order_bytes
from kernel import limits
from kernel.errors import IdempotencyKeyReused, SeatsUnavailable
from kernel.ids import hold_id_of, showtime_of
from tests.support.inventories import make_forget
from tests.support.shop import Shop

PAY_BY_S = 15 * 60


async def _rebuild(shop: Shop) -> None:
    await make_forget(shop.platform.scripts)
    await shop.platform.rebuilder.rebuild("in between")


async def _late(shop: Shop, showtime_id: str, fan: str, *labels: str) -> tuple[str, str]:
    """An order that expired unpaid, its seats free again, and a payment that may still come."""
    order_id = await shop.order(fan, showtime_id, *labels)
    payment_id = await shop.open_payment(fan, order_id)
    await shop.time_passes(PAY_BY_S + 5)
    await shop.settle()
    assert await shop.state(order_id) == "expired"
    return order_id, payment_id


async def test_a_sale_written_after_a_rebuild_can_be_refunded_and_frees_its_seats(shop: Shop) -> None:
    showtime_id, fan = await shop.showtime(), shop.fan()
    order_id = await shop.order(fan, showtime_id, "D5", "D6")
    await shop.pay(fan, order_id)  # the sale is on the log, unread
    await _rebuild(shop)
    await shop.write()
    assert await shop.state(order_id) == "confirmed"
    await shop.ask_back(fan, order_id)
    await shop.settle()
    assert await shop.state(order_id) == "refunded"
    assert await shop.taken(showtime_id) == set()
    await shop.sound()


async def test_a_rebuild_before_a_late_sale_is_written_keeps_its_seats(shop: Shop) -> None:
    showtime_id, fan = await shop.showtime(), shop.fan()
    order_id, payment_id = await _late(shop, showtime_id, fan, "D5", "D6")
    await shop.deliver(shop.gateway.capture(payment_id))
    taken = await shop.taken(showtime_id)
    assert len(taken) == 2
    await _rebuild(shop)
    assert await shop.taken(showtime_id) == taken
    await shop.settle()
    assert await shop.state(order_id) == "confirmed"
    assert await shop.taken(showtime_id) == taken
    await shop.sound()


async def test_late_money_does_not_buy_beyond_the_limit(shop: Shop) -> None:
    showtime_id, fan = await shop.showtime(seats_per_buyer=2), shop.fan()
    order_id, payment_id = await _late(shop, showtime_id, fan, "D5", "D6")
    await shop.buy(fan, showtime_id, "E5", "E6")
    await shop.deliver(shop.gateway.capture(payment_id))
    await shop.settle()
    order = await shop.find(order_id)
    assert (order.state, order.end_reason) == ("cancelled", "seat_limit_exceeded")
    assert [(refund.reason, refund.state) for refund in order.refunds] == [("unfulfillable", "completed")]
    assert len(await shop.taken(showtime_id)) == 2
    await shop.sound()


async def test_late_money_does_not_buy_beyond_the_limit_by_way_of_a_rebuild_either(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was captured while Redis did not answer, and its fan has bought others before the maps were made."""
    showtime_id, fan, other = await shop.showtime(seats_per_buyer=2), shop.fan(), shop.fan()
    order_id, payment_id = await _late(shop, showtime_id, fan, "D5", "D6")
    welcome, welcome_payment = await _late(shop, showtime_id, other, "D7", "D8")

    async def away(*_: object, **__: object) -> bool:
        raise SeatsUnavailable(retry_after_s=1.0)

    with monkeypatch.context() as patch:
        patch.setattr(shop.platform.inventory, "confirm", away)
        for one in (payment_id, welcome_payment):
            await shop.deliver(shop.gateway.capture(one))
    assert [await shop.state(one) for one in (order_id, welcome)] == ["paid", "paid"]
    await shop.buy(fan, showtime_id, "E5", "E6")
    await _rebuild(shop)
    await shop.time_passes(10)
    await shop.settle()

    order = await shop.find(order_id)
    assert (order.state, order.end_reason) == ("cancelled", "seat_limit_exceeded")
    assert [(refund.reason, refund.state) for refund in order.refunds] == [("unfulfillable", "completed")]
    assert await shop.state(welcome) == "confirmed"
    assert len(await shop.taken(showtime_id)) == 4
    await shop.sound()


async def test_late_money_has_all_of_its_seats_after_a_rebuild_or_none_of_them(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them was somebody else's while the maps were made, and is free when the sale is tried again."""
    showtime_id, fan, other = await shop.showtime(), shop.fan(), shop.fan()
    order_id, payment_id = await _late(shop, showtime_id, fan, "D5", "D6")

    async def away(*_: object, **__: object) -> bool:
        raise SeatsUnavailable(retry_after_s=1.0)

    with monkeypatch.context() as patch:
        patch.setattr(shop.platform.inventory, "confirm", away)
        await shop.deliver(shop.gateway.capture(payment_id))
    await shop.order(other, showtime_id, "D6", "D7")
    await _rebuild(shop)
    assert await shop.taken(showtime_id) == await _seats(shop, showtime_id, "D6", "D7")
    await shop.time_passes(PAY_BY_S + 5)
    await shop.platform.completers.expire_orders()
    await shop.platform.completers.free_seats()
    await shop.settle()

    assert await shop.state(order_id) == "confirmed"
    assert await shop.taken(showtime_id) == await _seats(shop, showtime_id, "D5", "D6")
    await shop.sound()


async def test_late_money_does_not_buy_a_house_seat_by_way_of_a_rebuild_either(shop: Shop) -> None:
    """The house took one of them for its guests after they were given up, and the maps are made anew."""
    showtime_id, fan = await shop.showtime(), shop.fan()
    order_id, payment_id = await _late(shop, showtime_id, fan, "D5", "D6")
    await shop.platform.sales.block(showtime_id, ["D6"], "guests")
    await make_forget(shop.platform.scripts)
    with suppress(SeatsUnavailable):
        await shop.deliver(shop.gateway.capture(payment_id))
    await shop.platform.rebuilder.rebuild("a late payer and the house want the same seat")
    await shop.time_passes(10)
    await shop.settle()

    order = await shop.find(order_id)
    assert (order.state, len(order.refunds)) == ("cancelled", 1)
    house_seat = await _seats(shop, showtime_id, "D6")
    assert await shop.platform.inventory.blocked_seats(showtime_id) == house_seat
    assert await shop.taken(showtime_id) == house_seat
    await shop.sound()


# A hold's key used again after the guard forgot it gives the same hold id, and so the same order id.


async def _expired(shop: Shop, fan: str, showtime_id: str) -> tuple[str, str, str]:
    """An order for D5 and D6 that expired unpaid, with its hold and a payment that may still come."""
    order_id, payment_id = await _late(shop, showtime_id, fan, "D5", "D6")
    assert await shop.taken(showtime_id) == set()
    return hold_id_of(order_id), order_id, payment_id


async def _seats(shop: Shop, showtime_id: str, *labels: str) -> set[int]:
    layout = (await shop.platform.halls.showtime(showtime_id)).hall.layout
    return {layout.index_of[label] for label in labels}


async def _hold_again(shop: Shop, fan: str, hold_id: str, *labels: str, ttl_ms: int = 60_000) -> set[int]:
    """Other seats under the same key; answers them."""
    showtime_id = showtime_of(hold_id)
    seats = await _seats(shop, showtime_id, *labels)
    await shop.platform.inventory.hold(showtime_id, hold_id, fan, sorted(seats), ttl_ms=ttl_ms)
    return seats


async def _claim_again(shop: Shop, fan: str, hold_id: str) -> None:
    """Its claim is on the log, unread; the fan may have been told already that nothing will come of it."""
    with suppress(IdempotencyKeyReused):
        assert not (await shop.place_unwritten(fan, hold_id)).committed


async def test_a_claim_under_the_name_of_an_ended_order_is_refused_and_frees_its_seats(shop: Shop) -> None:
    showtime_id, fan = await shop.showtime(), shop.fan()
    hold_id, order_id, _ = await _expired(shop, fan, showtime_id)
    await _hold_again(shop, fan, hold_id, "F5", "F6")
    refused = await shop.dead_letters("hold_key_reused")
    await _claim_again(shop, fan, hold_id)
    await shop.settle()
    order = await shop.find(order_id)
    assert (order.state, [line.label for line in order.lines]) == ("expired", ["D5", "D6"])
    assert await shop.dead_letters("hold_key_reused") == refused + 1
    assert await shop.taken(showtime_id) == set()


async def test_an_order_is_never_told_as_created_because_an_older_one_of_its_name_was(shop: Shop) -> None:
    """The writer stands still, so all that is known comes from asking PostgreSQL, and is the older order."""
    showtime_id, fan = await shop.showtime(), shop.fan()
    hold_id, _, _ = await _expired(shop, fan, showtime_id)
    await _hold_again(shop, fan, hold_id, "F5", "F6")
    with pytest.raises(IdempotencyKeyReused):
        await shop.platform.orders.place(fan, hold_id, shop.request(fan), order_bytes)
    await shop.settle()
    assert await shop.taken(showtime_id) == set()


async def test_one_who_asks_again_is_not_told_either_that_the_older_order_is_his(shop: Shop) -> None:
    showtime_id, fan = await shop.showtime(), shop.fan()
    hold_id, _, _ = await _expired(shop, fan, showtime_id)
    await _hold_again(shop, fan, hold_id, "F5", "F6")
    await _claim_again(shop, fan, hold_id)
    with pytest.raises(IdempotencyKeyReused):
        await shop.platform.orders.place(fan, hold_id, shop.request(fan), order_bytes)
    with pytest.raises(IdempotencyKeyReused):
        await shop.place(fan, hold_id)
    await shop.settle()
    assert await shop.taken(showtime_id) == set()


async def test_a_refusal_by_the_writer_is_told_with_its_reason_and_not_as_a_seat_taken(shop: Shop) -> None:
    showtime_id, fan = await shop.showtime(), shop.fan()
    hold_id, _, _ = await _expired(shop, fan, showtime_id)
    await _hold_again(shop, fan, hold_id, "F5", "F6")
    with pytest.raises(IdempotencyKeyReused, match="fresh key"):
        await shop.place(fan, hold_id)
    await shop.settle()
    assert await shop.taken(showtime_id) == set()


async def test_a_claim_under_the_name_of_an_order_whose_refund_is_on_its_way_frees_its_seats(
    shop: Shop,
) -> None:
    """The order stays confirmed until its gateway has paid back; its seats are on sale long before."""
    showtime_id, fan = await shop.showtime(), shop.fan()
    order_id = await shop.buy(fan, showtime_id, "D5", "D6")
    shop.gateway.refund_plan = ["sent"]
    await shop.ask_back(fan, order_id)
    await shop.settle()
    assert (await shop.state(order_id), await shop.taken(showtime_id)) == ("confirmed", set())

    hold_id = hold_id_of(order_id)
    await _hold_again(shop, fan, hold_id, "F5", "F6")
    await _claim_again(shop, fan, hold_id)
    await shop.settle()
    assert await shop.taken(showtime_id) == set()
    await shop.sound()


@pytest.mark.parametrize("claimed", [False, True], ids=["held", "claimed"])
async def test_late_money_does_not_buy_the_seats_of_another_hold(shop: Shop, claimed: bool) -> None:
    showtime_id, fan = await shop.showtime(), shop.fan()
    hold_id, order_id, payment_id = await _expired(shop, fan, showtime_id)
    others = await _hold_again(shop, fan, hold_id, "F5", "F6")
    if claimed:
        await _claim_again(shop, fan, hold_id)
    await shop.deliver(shop.gateway.capture(payment_id))
    await shop.settle()
    order = await shop.find(order_id)
    assert (order.state, order.end_reason) == ("cancelled", "idempotency_key_reused")
    assert [(refund.reason, refund.state) for refund in order.refunds] == [("unfulfillable", "completed")]
    assert await shop.taken(showtime_id) == (set() if claimed else others)
    await shop.sound()


async def test_late_money_buys_its_seats_when_the_same_key_holds_the_same_seats(shop: Shop) -> None:
    showtime_id, fan = await shop.showtime(), shop.fan()
    hold_id, order_id, payment_id = await _expired(shop, fan, showtime_id)
    seats = await _hold_again(shop, fan, hold_id, "D5", "D6")
    await shop.deliver(shop.gateway.capture(payment_id))
    await shop.settle()
    assert (await shop.state(order_id), await shop.taken(showtime_id)) == ("confirmed", seats)
    await shop.sound()


# A hold of his own that is over, and whether the reaper has been here, are nothing to a late payer.


async def _is_over(shop: Shop, showtime_id: str, *, swept: bool) -> None:
    """Let the time of a hold of a millisecond pass, and the reaper come by or not."""
    await asyncio.sleep(0.02)
    if swept:
        assert (await shop.platform.inventory.sweep(showtime_id, holds_max=100)).freed == 1


async def _has_his_seats(shop: Shop, order_id: str) -> None:
    showtime_id, order = showtime_of(order_id), await shop.find(order_id)
    assert (order.state, order.end_reason, order.refunds) == ("confirmed", None, ())
    assert await shop.taken(showtime_id) == await _seats(shop, showtime_id, "D5", "D6")
    await shop.sound()


@pytest.mark.parametrize("swept", [True, False], ids=["swept", "not swept yet"])
@pytest.mark.parametrize("labels", [("D5", "D6"), ("F5", "F6")], ids=["his seats", "other seats"])
async def test_late_money_buys_its_seats_when_a_hold_of_the_same_key_is_over(
    shop: Shop, labels: tuple[str, str], swept: bool
) -> None:
    showtime_id, fan = await shop.showtime(), shop.fan()
    hold_id, order_id, payment_id = await _expired(shop, fan, showtime_id)
    await _hold_again(shop, fan, hold_id, *labels, ttl_ms=1)
    await _is_over(shop, showtime_id, swept=swept)

    await shop.deliver(shop.gateway.capture(payment_id))
    await shop.settle()

    await _has_his_seats(shop, order_id)


@pytest.mark.parametrize("swept", [True, False], ids=["swept", "not swept yet"])
async def test_late_money_buys_its_seats_when_redis_was_away_longer_than_they_were_taken_again_for(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, swept: bool
) -> None:
    """It went away between taking them and selling them, and the completer is back before the reaper."""
    showtime_id, fan, inventory = await shop.showtime(), shop.fan(), shop.platform.inventory
    order_id, payment_id = await _late(shop, showtime_id, fan, "D5", "D6")
    confirm = inventory.confirm

    async def away_when_it_is_sold(*words: Any, **named: Any) -> bool:
        if named.get("pay_by_ms") is None:
            raise SeatsUnavailable(retry_after_s=1.0)
        return await confirm(*words, **named)

    with monkeypatch.context() as patch:
        patch.setattr(inventory, "confirm", away_when_it_is_sold)
        patch.setattr(limits, "claim_ttl_ms", 1)
        await shop.deliver(shop.gateway.capture(payment_id))
    assert await shop.state(order_id) == "paid"
    await _is_over(shop, showtime_id, swept=swept)
    await shop.time_passes(10)
    await shop.settle()

    await _has_his_seats(shop, order_id)


@pytest.mark.parametrize("swept", [True, False], ids=["before it is sold", "before it is his again"])
async def test_late_money_buys_its_seats_when_a_hold_of_his_ends_between_two_steps(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, swept: bool
) -> None:
    showtime_id, fan, inventory = await shop.showtime(), shop.fan(), shop.platform.inventory
    order_id, payment_id = await _late(shop, showtime_id, fan, "D5", "D6")
    hold = inventory.hold
    steps: list[str] = []

    async def hold_that_ends(*words: Any, **named: Any) -> Any:
        steps.append("hold")
        if len(steps) > 1:
            return await hold(*words, **named)
        held = await hold(*words, **{**named, "ttl_ms": 1})
        await _is_over(shop, showtime_id, swept=swept)
        return held if swept else await hold(*words, **named)

    with monkeypatch.context() as patch:
        patch.setattr(inventory, "hold", hold_that_ends)
        await shop.deliver(shop.gateway.capture(payment_id))
    assert len(steps) == 2
    await shop.settle()

    await _has_his_seats(shop, order_id)


async def test_late_money_goes_back_when_a_hold_of_the_same_key_is_over_and_somebody_has_a_seat_of_it(
    shop: Shop,
) -> None:
    showtime_id, fan = await shop.showtime(), shop.fan()
    hold_id, order_id, payment_id = await _expired(shop, fan, showtime_id)
    await _hold_again(shop, fan, hold_id, "D5", "D6", ttl_ms=1)
    await _is_over(shop, showtime_id, swept=False)
    await shop.hold(shop.fan(), showtime_id, "D6", "D7")

    await shop.deliver(shop.gateway.capture(payment_id))
    await shop.settle()

    order = await shop.find(order_id)
    assert (order.state, order.end_reason) == ("cancelled", "seat_taken")
    assert [(refund.reason, refund.state) for refund in order.refunds] == [("unfulfillable", "completed")]
    assert await shop.taken(showtime_id) == await _seats(shop, showtime_id, "D6", "D7")
    await shop.sound()
