"""Goal: one intent, one effect, one answer; also among twins, after a crash and after Redis lost its memory.

Method: the guard itself, asked as an endpoint asks it, with Redis emptied, slow to answer or fenced off, and
with leases of a tenth of a second where a process dies. The effects it protects are real orders and refunds.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from checkout import RequestGuard
from checkout.domain import RequestKey, digest_of
from checkout.schemas import order_bytes
from checkout.service import Placed
from kernel import limits
from kernel.errors import (
    IdempotencyKeyReused,
    InventoryRebuilding,
    NotFound,
    PersistenceUnavailable,
    RequestInProgress,
    SeatsUnavailable,
)
from kernel.ids import partition_of
from runtime.http import Replay, Started
from tests.support.inventories import make_forget
from tests.support.shop import Shop

ONE, OTHER = b"\x01" * 16, b"\x02" * 16
JSON = {"Content-Type": "application/json"}
PROBLEM = {"Content-Type": "application/problem+json"}
KEPT = b'{"order_id":"ord_1"}'
ORDER = "place_order"


@pytest.fixture
def guard(shop: Shop) -> RequestGuard:
    return shop.platform.guard


def of_order(order_id: str) -> dict[str, str]:
    """What the first answer about an order says, and any other."""
    return {**JSON, "Location": f"/api/v1/orders/{order_id}"}


async def forgotten(shop: Shop) -> None:
    """Redis forgets every request."""
    keys = [key async for key in shop.redis.scan_iter("req:*")]
    if keys:
        await shop.redis.delete(*keys)


# Twins


async def test_a_twin_waits_and_a_repeat_gets_the_first_answer(shop: Shop, guard: RequestGuard) -> None:
    fan = shop.fan()
    first = await guard.begin(fan, "key", ONE, ORDER)
    assert isinstance(first, Started)
    with pytest.raises(RequestInProgress) as refusal:
        await guard.begin(fan, "key", ONE, ORDER)
    assert refusal.value.retry_after_s
    await guard.finish(first, 201, JSON | {"Location": "/orders/1"}, b'{"order":1}')
    for _ in range(2):
        assert await guard.begin(fan, "key", ONE, ORDER) == Replay(
            201, JSON | {"Location": "/orders/1"}, b'{"order":1}'
        )


async def test_of_fifty_twins_one_begins(shop: Shop, guard: RequestGuard) -> None:
    fan = shop.fan()

    async def begin() -> str:
        try:
            return type(await guard.begin(fan, "key", ONE, ORDER)).__name__
        except RequestInProgress:
            return "in progress"

    answers = [await one for one in asyncio.as_completed([begin() for _ in range(50)])]
    assert sorted(set(answers)) == ["Started", "in progress"]
    assert answers.count("Started") == 1


async def test_looking_first_and_claiming_second_would_let_twins_in(shop: Shop) -> None:
    """The control: the same fifty without the script."""
    redis, key = shop.redis, "req:{control}:1"
    await asyncio.gather(*(redis.ping() for _ in range(50)))  # nobody connects in a race

    async def begin() -> bool:
        if await redis.get(key):
            return False
        await asyncio.sleep(0.05)  # as long as anything else may happen in between
        await redis.set(key, "running", px=1_000)
        return True

    assert sum(await asyncio.gather(*(begin() for _ in range(50)))) > 1


async def test_a_key_belongs_to_its_account(shop: Shop, guard: RequestGuard) -> None:
    owner, stranger = shop.fan(), shop.fan()
    started = await guard.begin(owner, "key", ONE, ORDER)
    assert isinstance(started, Started)
    await guard.finish(started, 201, JSON, b"mine")
    assert isinstance(await guard.begin(stranger, "key", ONE, ORDER), Started)


@pytest.mark.parametrize(
    "key", ["k", "k" * 64, "!#$%&'()~", "a:b{c}d", "*", "0b8f3c1e-7a55-4f0e-9c84-cf0c3a1f8d10"]
)
async def test_any_key_a_caller_may_send_is_a_key_of_its_own(
    shop: Shop, guard: RequestGuard, key: str
) -> None:
    fan = shop.fan()
    started = await guard.begin(fan, key, ONE, ORDER)
    assert isinstance(started, Started)
    await guard.finish(started, 404, PROBLEM, key.encode())
    await forgotten(shop)
    assert await guard.begin(fan, key, ONE, ORDER) == Replay(404, PROBLEM, key.encode())
    assert isinstance(await guard.begin(fan, key + "_", ONE, ORDER), Started)


# Another request under the same key


@pytest.mark.parametrize("finished", [False, True])
async def test_the_same_key_with_another_request_is_refused(
    shop: Shop, guard: RequestGuard, finished: bool
) -> None:
    fan = shop.fan()
    started = await guard.begin(fan, "key", ONE, ORDER)
    assert isinstance(started, Started)
    if finished:
        await guard.finish(started, 201, JSON, b"{}")
    for _ in range(2):
        with pytest.raises(IdempotencyKeyReused):
            await guard.begin(fan, "key", OTHER, ORDER)
    if finished:
        assert isinstance(await guard.begin(fan, "key", ONE, ORDER), Replay)


async def test_a_reused_key_is_refused_also_from_postgres_and_stays_usable(
    shop: Shop, guard: RequestGuard
) -> None:
    fan = shop.fan()
    started = await guard.begin(fan, "key", ONE, ORDER)
    assert isinstance(started, Started)
    await guard.finish(started, 409, PROBLEM, b"no")
    await forgotten(shop)
    for _ in range(2):
        with pytest.raises(IdempotencyKeyReused):
            await guard.begin(fan, "key", OTHER, ORDER)
    assert await guard.begin(fan, "key", ONE, ORDER) == Replay(409, PROBLEM, b"no")


# When Redis lost its memory


async def test_an_orders_answer_outlives_redis(shop: Shop, guard: RequestGuard) -> None:
    """The answer was written with the order itself, by the order writer: nobody had to finish anything."""
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    hold_id = await shop.hold(fan, showtime_id, f"{row}5")
    started = await guard.begin(fan, "order", ONE, ORDER)
    assert isinstance(started, Started)
    request = RequestKey(fan, digest_of("order"), ONE.hex())
    placed = await shop.writing(shop.platform.orders.place(fan, hold_id, request, order_bytes))
    order_id = placed.order.order_id  # and here the process died
    await forgotten(shop)
    assert await guard.begin(fan, "order", ONE, ORDER) == Replay(
        201, of_order(order_id), order_bytes(placed.order)
    )
    with pytest.raises(IdempotencyKeyReused):
        await guard.begin(fan, "order", OTHER, ORDER)


async def test_a_refunds_answer_outlives_redis(shop: Shop, guard: RequestGuard) -> None:
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    order_id = await shop.buy(fan, showtime_id, f"{row}5")
    started = await guard.begin(fan, "back", b"\0", "request_refund")
    assert isinstance(started, Started)
    refund = await shop.ask_back(fan, order_id, key="back")
    await forgotten(shop)
    replay = await guard.begin(fan, "back", b"\0", "request_refund")
    assert isinstance(replay, Replay)
    assert (replay.status, replay.headers) == (202, of_order(order_id))
    assert refund.refund_id.encode() in replay.body


async def test_a_payments_answer_outlives_redis(shop: Shop, guard: RequestGuard) -> None:
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    order_id = await shop.order(fan, showtime_id, f"{row}5")
    payment_id = await shop.open_payment(fan, order_id, key="pay")
    await forgotten(shop)
    replay = await guard.begin(fan, "pay", b"\0", "open_payment")
    assert isinstance(replay, Replay)
    assert (replay.status, replay.headers) == (201, of_order(order_id))
    assert payment_id.encode() in replay.body


async def test_what_was_replayed_from_postgres_is_remembered_again(
    shop: Shop, guard: RequestGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    fan = shop.fan()
    await shop.store.keep_request_key(RequestKey(fan, digest_of("key"), ONE.hex()), 201, KEPT)
    assert await guard.begin(fan, "key", ONE, ORDER) == Replay(201, of_order("ord_1"), KEPT)

    async def never(*_: Any) -> Any:
        raise AssertionError("PostgreSQL is asked once")

    monkeypatch.setattr(shop.store, "find_request_key", never)
    assert await guard.begin(fan, "key", ONE, ORDER) == Replay(201, of_order("ord_1"), KEPT)


# Another key for what was done before


async def a_second_key(shop: Shop, guard: RequestGuard, *, is_written: bool) -> tuple[str, str, Placed]:
    """Its fan, the hold, and what it was answered: days ago, and the hold is gone by now."""
    fan, showtime_id = shop.fan(), await shop.showtime()
    hold_id = await shop.hold(fan, showtime_id, "C1")
    place = shop.place if is_written else shop.place_unwritten
    await place(fan, hold_id, key="first")
    started = await guard.begin(fan, "second", b"\0", ORDER)
    assert isinstance(started, Started)
    placed = await place(fan, hold_id, key="second")
    await shop.write()
    await shop.tidy()
    assert not await shop.taken(showtime_id)
    await forgotten(shop)
    return fan, hold_id, placed


@pytest.mark.parametrize("is_written", [True, False], ids=["201", "202"])
async def test_a_second_key_for_a_hold_is_answered_the_same_when_the_hold_is_gone(
    shop: Shop, guard: RequestGuard, is_written: bool
) -> None:
    fan, _, placed = await a_second_key(shop, guard, is_written=is_written)
    assert placed.committed is is_written
    replay = await guard.begin(fan, "second", b"\0", ORDER)
    assert isinstance(replay, Replay)
    assert (replay.status, replay.headers) == (201 if is_written else 202, of_order(placed.order.order_id))
    assert replay.body == order_bytes(placed.order)


async def test_kept_by_redis_alone_a_second_key_is_told_that_there_is_no_such_hold(
    shop: Shop, guard: RequestGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""

    async def nothing(*_: Any) -> None:
        """Is not kept."""

    with monkeypatch.context() as patch:
        patch.setattr(shop.store, "keep_request_key", nothing)
        fan, hold_id, placed = await a_second_key(shop, guard, is_written=True)
    assert placed.committed
    assert isinstance(await guard.begin(fan, "second", b"\0", ORDER), Started)
    with pytest.raises(NotFound):
        await shop.place_unwritten(fan, hold_id, key="second")


# When a process died


async def test_a_lease_ends_by_itself(
    shop: Shop, guard: RequestGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "request_lease_ms", 150)
    fan = shop.fan()
    assert isinstance(await guard.begin(fan, "key", ONE, ORDER), Started)  # and this worker is gone
    with pytest.raises(RequestInProgress):
        await guard.begin(fan, "key", ONE, ORDER)
    await asyncio.sleep(0.25)
    assert isinstance(await guard.begin(fan, "key", ONE, ORDER), Started)


async def test_after_a_crash_behind_the_effect_the_repeat_meets_it(
    shop: Shop, guard: RequestGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "request_lease_ms", 100)
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    order_id = await shop.buy(fan, showtime_id, f"{row}5")
    assert isinstance(await guard.begin(fan, "back", b"\0", "request_refund"), Started)
    await shop.ask_back(fan, order_id, key="back")  # committed; the worker dies before it can answer
    await asyncio.sleep(0.2)
    assert isinstance(await guard.begin(fan, "back", b"\0", "request_refund"), Replay)
    assert len((await shop.find(order_id)).refunds) == 1


async def test_what_was_given_up_can_be_tried_again_at_once(shop: Shop, guard: RequestGuard) -> None:
    fan = shop.fan()
    for _ in range(2):
        started = await guard.begin(fan, "key", ONE, ORDER)
        assert isinstance(started, Started)
        await guard.abandon(started)


# Refusals


@pytest.mark.parametrize("status", [404, 409, 410, 422])
async def test_refusals_are_kept_and_given_again(shop: Shop, guard: RequestGuard, status: int) -> None:
    fan, body = shop.fan(), f'{{"status":{status}}}'.encode()
    started = await guard.begin(fan, "key", ONE, ORDER)
    assert isinstance(started, Started)
    await guard.finish(started, status, PROBLEM, body)
    assert await guard.begin(fan, "key", ONE, ORDER) == Replay(status, PROBLEM, body)
    await forgotten(shop)
    assert await guard.begin(fan, "key", ONE, ORDER) == Replay(status, PROBLEM, body)


async def test_redis_is_given_no_refusal_and_no_key_as_it_was_worded(shop: Shop, guard: RequestGuard) -> None:
    """A refusal repeats words of whoever was refused: an address, his name for the request."""
    fan, body = shop.fan(), b'{"instance":"/api/v1/orders/lin@example.com"}'
    for status, headers in ((404, PROBLEM), (201, JSON)):
        started = await guard.begin(fan, f"lin-{status}", ONE, ORDER)
        assert isinstance(started, Started)
        await guard.finish(started, status, headers, body)
    assert await guard.begin(fan, "lin-404", ONE, ORDER) == Replay(404, PROBLEM, body)

    found = [key async for key in shop.redis.scan_iter(f"req:*:{fan}:*")]

    assert found == [f"req:{{p{partition_of(fan):02d}}}:{fan}:{digest_of('lin-201')}".encode()]


async def test_the_first_answer_stays(shop: Shop, guard: RequestGuard) -> None:
    """A refusal that comes late (its lease had ended, its twin did the work) does not replace an effect."""
    fan = shop.fan()
    started = await guard.begin(fan, "key", ONE, ORDER)
    assert isinstance(started, Started)
    await shop.store.keep_request_key(RequestKey(fan, digest_of("key"), ONE.hex()), 201, KEPT)
    await guard.finish(started, 409, PROBLEM, b"too late")
    await forgotten(shop)
    assert await guard.begin(fan, "key", ONE, ORDER) == Replay(201, of_order("ord_1"), KEPT)


# While something is away


async def test_while_postgres_is_away_nothing_is_begun_and_the_key_stays_free(
    shop: Shop, guard: RequestGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    fan = shop.fan()

    async def away(*_: Any) -> Any:
        raise PersistenceUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(shop.store, "find_request_key", away)
        with pytest.raises(PersistenceUnavailable):
            await guard.begin(fan, "key", ONE, ORDER)
    assert isinstance(await guard.begin(fan, "key", ONE, ORDER), Started)


async def test_while_the_gate_is_closed_nothing_is_begun(shop: Shop, guard: RequestGuard) -> None:
    await make_forget(shop.platform.scripts)
    with pytest.raises(InventoryRebuilding):
        await guard.begin(shop.fan(), "key", ONE, ORDER)
    await shop.platform.rebuilder.rebuild("a test closed the gate")
    assert isinstance(await guard.begin(shop.fan(), "key", ONE, ORDER), Started)


async def test_an_answer_redis_could_not_take_is_still_in_postgres(
    shop: Shop, guard: RequestGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    fan = shop.fan()
    started = await guard.begin(fan, "key", ONE, ORDER)
    assert isinstance(started, Started)

    async def away(*_: Any, **__: Any) -> Any:
        raise SeatsUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(shop.platform.scripts, "command", away)
        await guard.finish(started, 409, PROBLEM, b"no")  # silently: the lease ends it
        with pytest.raises(SeatsUnavailable):
            await guard.finish(started, 201, JSON, b"yes")
    await forgotten(shop)
    assert await guard.begin(fan, "key", ONE, ORDER) == Replay(409, PROBLEM, b"no")
