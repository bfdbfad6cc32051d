"""Goal: what happens between a payment and its sale being written, or after a key is reused, leaks nothing.

Method: the order writer stands still while something else happens (a rebuild, a refund, a second
purchase), then goes on; afterwards seats, limits and money are checked against the map and the ledger.
"""

from __future__ import annotations

from tests.support.shop import Shop

PAY_BY_S = 15 * 60


async def _rebuild(shop: Shop) -> None:
    await shop.platform.scripts.forget()
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


async def test_a_claim_under_the_name_of_an_ended_order_is_refused_and_frees_its_seats(shop: Shop) -> None:
    """A hold's key used again after the guard forgot it gives the same hold id, and so the same order id."""
    showtime_id, fan = await shop.showtime(), shop.fan()
    hold_id = await shop.hold(fan, showtime_id, "D5", "D6")
    placed = await shop.place(fan, hold_id)
    await shop.time_passes(PAY_BY_S + 5)
    await shop.settle()
    assert await shop.taken(showtime_id) == set()

    layout = (await shop.platform.halls.showtime(showtime_id)).hall.layout
    await shop.platform.inventory.hold(
        showtime_id, hold_id, fan, [layout.index_of["F5"], layout.index_of["F6"]], ttl_ms=60_000
    )
    again = await shop.place_unwritten(fan, hold_id, key="another")
    assert not again.committed
    await shop.settle()
    order = await shop.find(placed.order.order_id)
    assert (order.state, [line.label for line in order.lines]) == ("expired", ["D5", "D6"])
    assert await shop.dead_letters("hold_key_reused") == 1
    assert await shop.taken(showtime_id) == set()
