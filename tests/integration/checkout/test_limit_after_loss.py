"""Goal: a Redis that came back as it was some time ago lets nobody order more than he may have.

Method: a fan holds all the seats he may have, lets them go, and orders others. Then the showtime's keys are
put back as they were while he still held the first, as on a server that lost its last second, and the maps
are made anew: his hold is of then, his order is of now. He tries to order what he held. The control makes the
maps anew without counting.
"""

from __future__ import annotations

from typing import Any

import pytest

from kernel.errors import SeatRushError
from reservation import keys_of, restore_redis
from tests.support.shop import Shop

LIMIT = 2


async def _orders_both(shop: Shop) -> tuple[str, int]:
    """What the second order came to, and how many seats the fan owns in the end."""
    redis = shop.redis
    showtime_id, fan = await shop.showtime(seats_per_buyer=LIMIT), shop.fan()
    first = await shop.hold(fan, showtime_id, "A1", "A2")
    keys = [key for key in keys_of(showtime_id)[:5] if await redis.exists(key)]
    then: list[Any] = [await redis.dump(key) for key in keys]
    await shop.platform.hold_service.release(fan, first)
    ordered = await shop.order(fan, showtime_id, "B1", "B2")

    await redis.delete(*keys_of(showtime_id)[:5])
    for key, value in zip(keys, then, strict=True):
        await redis.restore(key, 0, value)
    await shop.platform.rebuilder.rebuild("the server lost its last second")

    outcome = "ordered"
    try:
        await shop.place(fan, first)
    except SeatRushError as refusal:
        outcome = refusal.code.name
    assert await shop.state(ordered) == "pending_payment"
    owned = await shop.one(
        "SELECT count(*) FROM checkout.seat_claims JOIN checkout.orders USING (order_id)"
        " WHERE account_id = $1 AND owned",
        fan,
    )
    await shop.sound()
    return outcome, int(owned)


async def test_a_hold_that_came_back_is_lost_when_its_buyer_has_ordered_others(shop: Shop) -> None:
    assert await _orders_both(shop) == ("hold_lost", LIMIT)


async def test_without_counting_he_would_own_both(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: every hold is judged as if its buyer had nothing yet."""
    may_stay = restore_redis._Anew._may_stay

    def whoever_it_is(anew: Any, one: Any) -> bool:
        anew._buyer_seats_max = 1_000
        return may_stay(anew, one)

    monkeypatch.setattr(restore_redis._Anew, "_may_stay", whoever_it_is)

    assert await _orders_both(shop) == ("ordered", 2 * LIMIT)
