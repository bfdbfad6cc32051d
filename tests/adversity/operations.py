"""What is interrupted: verbs of seats and money, each with a scene, a way to repeat it, and its one effect.

A repeat is what the client, the gateway or the next process does: the same words with the same key, until the
answer is not "later". `check` looks at the stores when everything has settled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from checkout import OrderLog, OrderWriter, WriterStore
from checkout.domain import RequestKey
from checkout.schemas import order_bytes, payment_bytes, refund_bytes
from entrypoints.platform import Platform
from kernel.errors import (
    InventoryRebuilding,
    NotFound,
    Overloaded,
    PersistenceUnavailable,
    RequestInProgress,
    SeatsUnavailable,
)
from reservation.errors import HoldExpired, HoldNotExtendable
from tests.support.shop import Delivery, Shop

LATER = (PersistenceUnavailable, SeatsUnavailable, InventoryRebuilding, Overloaded)


@dataclass
class Scene:
    """Whom and what one run is about; every run has its own."""

    fan: str
    showtime_id: str
    labels: tuple[str, str]
    request: RequestKey
    hold_id: str = ""
    order_id: str = ""
    news: Delivery | None = None

    @property
    def seats(self) -> set[int]:
        """The indices of the two seats; a row has ten."""
        first = 10 * "ABCDEFGH".index(self.labels[0][0])
        return {first, first + 1}


@dataclass(frozen=True)
class Operation:
    """`work` is done by the process that is interrupted, `again` by another one."""

    prepare: Callable[[Shop], Awaitable[Scene]]
    work: Callable[[Platform, Scene], Coroutine[Any, Any, Any]]
    again: Callable[[Shop, Scene], Awaitable[object]]
    check: Callable[[Shop, Scene], Awaitable[None]]
    #: Whether somebody writes orders meanwhile.
    is_written: bool = True
    #: At most so many of its suspensions are tried in one way, evenly spread.
    points_max: int = 40


async def insist(work: Callable[[], Awaitable[Any]]) -> Any:
    """Ask until the answer is not "later"."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await work()
            except LATER:
                await asyncio.sleep(0.02)


def _same_again(work: Callable[[Platform, Scene], Coroutine[Any, Any, Any]]) -> Any:
    async def again(shop: Shop, scene: Scene) -> None:
        await insist(lambda: work(shop.platform, scene))

    return again


# Scenes


async def _a_fan(shop: Shop) -> Scene:
    showtime_id, row = await shop.row()
    fan = shop.fan()
    return Scene(fan, showtime_id, (f"{row}1", f"{row}2"), shop.request(fan))


async def _a_holder(shop: Shop) -> Scene:
    scene = await _a_fan(shop)
    scene.hold_id = await shop.hold(scene.fan, scene.showtime_id, *scene.labels)
    return scene


async def _an_orderer(shop: Shop) -> Scene:
    scene = await _a_fan(shop)
    scene.order_id = await shop.order(scene.fan, scene.showtime_id, *scene.labels)
    return scene


async def _a_payer(shop: Shop) -> Scene:
    scene = await _an_orderer(shop)
    scene.news = shop.gateway.capture(await shop.open_payment(scene.fan, scene.order_id))
    return scene


async def _a_winner(shop: Shop) -> Scene:
    """Paid, charged back, ours again; and the last is the first we hear of it."""
    scene = await _an_orderer(shop)
    payment_id = await shop.open_payment(scene.fan, scene.order_id)
    shop.gateway.capture(payment_id)
    shop.gateway.charge_back(payment_id)
    scene.news = shop.gateway.reverse(payment_id)
    return scene


async def _an_owner(shop: Shop) -> Scene:
    scene = await _a_fan(shop)
    scene.order_id = await shop.buy(scene.fan, scene.showtime_id, *scene.labels)
    return scene


async def _an_unwritten_claim(shop: Shop) -> Scene:
    scene = await _a_holder(shop)
    placed = await shop.place_unwritten(scene.fan, scene.hold_id, scene.request.key)
    scene.order_id = placed.order.order_id
    return scene


async def _a_late_one(shop: Shop) -> Scene:
    scene = await _an_orderer(shop)
    await shop.time_passes(4 * 3_600)
    return scene


# Verbs


async def _hold(platform: Platform, scene: Scene) -> Any:
    service = platform.hold_service
    return await service.hold_named(scene.fan, scene.showtime_id, scene.labels, scene.request.key)


async def _extend(platform: Platform, scene: Scene) -> None:
    with suppress(HoldNotExtendable):  # what a repeat hears
        await platform.hold_service.extend(scene.fan, scene.hold_id)


async def _release(platform: Platform, scene: Scene) -> None:
    with suppress(NotFound, HoldExpired):  # what a repeat hears
        await platform.hold_service.release(scene.fan, scene.hold_id)


async def _order(platform: Platform, scene: Scene) -> Any:
    return await platform.orders.place(scene.fan, scene.hold_id, scene.request, order_bytes)


async def _open_payment(platform: Platform, scene: Scene) -> Any:
    return await platform.payments.open(
        scene.fan, scene.order_id, "paper", None, scene.request, payment_bytes
    )


async def _receive(platform: Platform, scene: Scene) -> None:
    assert scene.news is not None
    await platform.payments.receive("paper", scene.news.headers, scene.news.body)


async def _ask_back(platform: Platform, scene: Scene) -> None:
    with suppress(RequestInProgress):  # what a repeat hears, where nobody gave it the first answer
        await platform.refunds.request(scene.fan, scene.order_id, None, scene.request, refund_bytes)


async def _write(platform: Platform, _: Scene) -> None:
    log = OrderLog(platform.scripts, platform.blocking_redis, consumer="writer-1")
    writer = OrderWriter(log, WriterStore(platform.database), platform.clock)
    for entries in (await log.read_own_pending(100), await log.read(100, None)):
        if entries:
            await writer.write(entries)


async def _complete(platform: Platform, _: Scene) -> Any:
    return await platform.completers.run_once()


async def _rebuild(platform: Platform, _: Scene) -> Any:
    return await platform.rebuilder.rebuild("by hand")


async def _rebuild_again(shop: Shop, _: Scene) -> None:
    await insist(lambda: shop.platform.rebuilder.rebuild_if_needed())


# Effects


async def _count(shop: Shop, statement: str, argument: str) -> int:
    return int(await shop.one(f"SELECT count(*) FROM checkout.{statement} = $1", argument))


async def _is_held_once(shop: Shop, scene: Scene) -> None:
    assert scene.seats <= await shop.taken(scene.showtime_id)
    hold = await shop.platform.hold_service.hold_named(
        scene.fan, scene.showtime_id, scene.labels, scene.request.key
    )
    assert set(hold.seats) == scene.seats, "a repeat finds the one there is"


async def _is_still_held(shop: Shop, scene: Scene) -> None:
    assert scene.seats <= await shop.taken(scene.showtime_id)
    assert (await shop.platform.hold_service.find_hold(scene.fan, scene.hold_id)).hold_id == scene.hold_id


async def _is_free(shop: Shop, scene: Scene) -> None:
    assert scene.seats.isdisjoint(await shop.taken(scene.showtime_id))


async def _is_one_order(shop: Shop, scene: Scene) -> None:
    assert await _count(shop, "orders WHERE account_id", scene.fan) == 1
    claimed = (
        "seat_claims c JOIN checkout.orders o USING (order_id) WHERE c.state = 'claimed' AND o.account_id"
    )
    assert await _count(shop, claimed, scene.fan) == 2


async def _is_one_payment(shop: Shop, scene: Scene) -> None:
    assert await _count(shop, "payments WHERE order_id", scene.order_id) == 1
    payment_id = await shop.one(
        "SELECT payment_id FROM checkout.payments WHERE order_id = $1", scene.order_id
    )
    assert payment_id in shop.gateway.sessions


async def _is_confirmed_once(shop: Shop, scene: Scene) -> None:
    assert await shop.state(scene.order_id) == "confirmed"
    assert await _count(shop, "tickets WHERE order_id", scene.order_id) == 2
    assert await _count(shop, "refunds WHERE order_id", scene.order_id) == 0


async def _is_won_once(shop: Shop, scene: Scene) -> None:
    await _is_confirmed_once(shop, scene)
    posted = "ledger_entries WHERE transaction_id LIKE 'chargeback%' AND order_id"
    assert await _count(shop, posted, scene.order_id) == 4, "two movements of two lines"
    assert [payment.charged_back for payment in (await shop.find(scene.order_id)).payments] == [False]


async def _is_paid_back_once(shop: Shop, scene: Scene) -> None:
    assert await shop.state(scene.order_id) == "refunded"
    assert await _count(shop, "refunds WHERE order_id", scene.order_id) == 1
    payment_id = await shop.one(
        "SELECT payment_id FROM checkout.payments WHERE order_id = $1", scene.order_id
    )
    session = shop.gateway.sessions[payment_id]
    assert session.refunded == session.amount.amount
    await _is_free(shop, scene)


async def _is_over(shop: Shop, scene: Scene) -> None:
    assert await shop.state(scene.order_id) == "expired"
    await _is_free(shop, scene)


async def _is_still_owned(shop: Shop, scene: Scene) -> None:
    assert await shop.platform.rebuilder.gate_is_open()
    assert scene.seats <= await shop.taken(scene.showtime_id)
    assert await shop.state(scene.order_id) == "confirmed"


OPERATIONS: Mapping[str, Operation] = {
    "hold": Operation(_a_fan, _hold, _same_again(_hold), _is_held_once),
    "extend": Operation(_a_holder, _extend, _same_again(_extend), _is_still_held),
    "release": Operation(_a_holder, _release, _same_again(_release), _is_free),
    "order": Operation(_a_holder, _order, _same_again(_order), _is_one_order),
    "open_payment": Operation(_an_orderer, _open_payment, _same_again(_open_payment), _is_one_payment),
    "webhook": Operation(_a_payer, _receive, _same_again(_receive), _is_confirmed_once),
    "chargeback": Operation(_a_winner, _receive, _same_again(_receive), _is_won_once),
    "refund": Operation(_an_owner, _ask_back, _same_again(_ask_back), _is_paid_back_once),
    "writer": Operation(_an_unwritten_claim, _write, _same_again(_write), _is_one_order, is_written=False),
    "completers": Operation(_a_late_one, _complete, _same_again(_complete), _is_over),
    "rebuild": Operation(_an_owner, _rebuild, _rebuild_again, _is_still_owned, points_max=10),
}
