"""Goal: with the seat store's memory full, whoever has seats still gets his tickets or gives them back, and
the gate can be opened again; only new holds are refused.

Method: the order side on real engines, its wheels turned by hand, with `maxmemory` far below what is used.
The scripts themselves are looked at in tests/lua/test_memory.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from checkout.domain import RequestKey, digest_of
from kernel import limits
from kernel.errors import Overloaded
from runtime.http import Replay, Started
from tests.support.shop import Shop

ONE = b"\x01" * 16


@pytest.fixture
async def full(shop: Shop) -> AsyncIterator[Shop]:
    """A shop whose memory is full as soon as `fill` was called."""
    yield shop
    await shop.redis.config_set("maxmemory", 0)


async def fill(shop: Shop) -> None:
    await shop.redis.config_set("maxmemory", 1)


async def test_a_purchase_that_was_begun_ends_with_tickets(full: Shop) -> None:
    showtime_id, row = await full.row()
    holder, orderer = full.fan(), full.fan()
    hold_id = await full.hold(holder, showtime_id, f"{row}1")
    order_id = await full.order(orderer, showtime_id, f"{row}3")
    await fill(full)

    placed = await full.place(holder, hold_id)
    assert placed.committed
    for fan, one in ((holder, placed.order.order_id), (orderer, order_id)):
        await full.pay(fan, one)
        await full.write()
        assert await full.state(one) == "confirmed"

    with pytest.raises(Overloaded):
        await full.hold(full.fan(), showtime_id, f"{row}5")
    await full.sound()


async def test_seats_nobody_paid_for_and_seats_given_back_are_free_again(full: Shop) -> None:
    showtime_id, row = await full.row()
    unpaid, refunded = full.fan(), full.fan()
    await full.order(unpaid, showtime_id, f"{row}1")
    bought = await full.buy(refunded, showtime_id, f"{row}3")
    before = len(await full.taken(showtime_id))
    await fill(full)

    await full.ask_back(refunded, bought)
    await full.time_passes(3_600)
    await full.settle()

    assert len(await full.taken(showtime_id)) == before - 2
    await full.sound()


async def test_a_rebuild_opens_the_gate_with_memory_full(full: Shop) -> None:
    showtime_id, row = await full.row()
    await full.order(full.fan(), showtime_id, f"{row}1")
    before = await full.taken(showtime_id)
    await fill(full)

    await full.platform.rebuilder.rebuild("test")

    assert await full.platform.rebuilder.gate_is_open()
    assert await full.taken(showtime_id) == before


async def test_a_repeat_is_answered_from_postgresql_while_redis_can_remember_nothing(full: Shop) -> None:
    guard, fan = full.platform.guard, full.fan()
    await full.store.keep_request_key(
        RequestKey(fan, digest_of("kept"), ONE.hex()), 201, b'{"order_id":"ord_1"}'
    )
    await fill(full)

    repeated = await guard.begin(fan, "kept", ONE, "place_order")
    assert isinstance(repeated, Replay)
    assert (repeated.status, repeated.body) == (201, b'{"order_id":"ord_1"}')

    begun = await guard.begin(fan, "new", ONE, "place_order")
    assert isinstance(begun, Started)
    await guard.finish(begun, 201, {}, b"done")
    keys = [key async for key in full.redis.scan_iter(f"req:*:{fan}:*")]
    assert keys
    for key in keys:
        assert 0 < await full.redis.pttl(key) <= limits.request_lease_ms
