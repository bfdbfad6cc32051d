"""People: they want the same seats, lose their connection, try again with the same key, pay late or twice.

A fan insists: whoever hears nothing, or that something is away, asks again with the same key on whatever
worker answers. What he was told stands in the books (`audit.Books`), and is held against us at the end.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from checkout.domain import RequestKey
from checkout.schemas import order_bytes, payment_bytes, refund_bytes
from kernel.errors import SeatRushError
from kernel.ids import hold_id_for
from reservation import BestAvailable
from tests.simulation.gateway import NAME

if TYPE_CHECKING:
    from tests.simulation.house import House, Role

ATTEMPTS_MAX: Final = 12
#: Whoever was refused thinks about it for up to so long. A hall is sold out most of the time, and to ask ten
#: times a second for what is gone costs a history half of its work and tries nothing new.
REFUSED_PAUSE_S: Final = 0.6


class GaveUp(Exception):
    """Twelve times nothing is enough."""


class Fan:
    """One account, one person."""

    def __init__(self, house: House, number: int) -> None:
        self._house = house
        self._world = house.world
        self._dice = house.world.dice
        self._account = f"acc_{number:026d}"
        self._keys = (f"key-{number}-{count}" for count in itertools.count())

    async def live(self) -> None:
        """Visit after visit, until it is late."""
        while self._world.now_s < self._house.faults_until_s and not self._world.calm:
            await self._pause(0.3)
            try:
                await self._visit()
            except SeatRushError as refusal:
                self._world.note(self._account[-2:], "refused", refusal.code.name)
                await self._pause(REFUSED_PAUSE_S)
            except GaveUp:
                self._world.note(self._account[-2:], "gave up")

    async def _pause(self, most_s: float) -> None:
        await asyncio.sleep(self._dice.uniform(0, most_s))

    def _chance(self, of: float) -> bool:
        return self._dice.random() < of

    def _request(self) -> RequestKey:
        return RequestKey(self._account, next(self._keys), "00")

    async def _insist(self, work: Callable[[Role], Coroutine[Any, Any, Any]]) -> Any:
        """The answer, however often one has to ask. Raises what is no weather, and GaveUp."""
        for attempt in range(ATTEMPTS_MAX):
            try:
                return await self._house.ask(work)
            except ConnectionError:
                await self._pause(0.2 * (attempt + 1))
            except SeatRushError as refusal:
                if refusal.code.http_status < 500:
                    raise
                await self._pause(0.2 * (attempt + 1))
        raise GaveUp

    async def _visit(self) -> None:
        hold = await self._hold()
        if self._chance(0.1):
            return  # and the hold ends by itself
        if self._chance(self._house.lets_go):
            await self._insist(lambda worker: worker.holds.release(self._account, hold.hold_id))
            return
        if self._chance(0.1):
            hold = await self._insist(lambda worker: worker.holds.extend(self._account, hold.hold_id))
        if self._chance(0.3):
            await self._pause(self._house.hold_ttl_ms / 800)
        order_id = await self._order(hold.hold_id)
        if self._chance(0.7):
            await self._pay(order_id)
        if await self._is_confirmed(order_id) and self._chance(0.7):
            request = self._request()
            for _ in range(1 + self._chance(0.2)):
                await self._insist(
                    lambda worker: worker.refunds.request(
                        self._account, order_id, None, request, refund_bytes
                    )
                )

    async def _hold(self) -> Any:
        """Seats by name, mostly those everybody wants, or the best there are."""
        seats, key = self._house.layout.seats, next(self._keys)
        account, showtime_id = self._account, self._house.showtime_id
        best = BestAvailable(self._dice.choice([1, 2])) if self._chance(0.25) else None
        count = min(len(seats), self._dice.choice([1, 1, 2, 3]))
        first = min(self._dice.choice([0, 0, 1, 2, len(seats)]), len(seats) - count)
        labels = [seat.label for seat in seats[first : first + count]]
        hold_id = hold_id_for(showtime_id, account, key)

        async def hold(worker: Role) -> Any:
            asked_s = self._world.now_s
            self._world.note(account[-2:], "wants", hold_id, *([best.count] if best else labels))
            try:
                if best:
                    return await worker.holds.hold_best(account, showtime_id, best, key)
                return await worker.holds.hold_named(account, showtime_id, labels, key)
            except SeatRushError as refusal:
                if refusal.code.name in {"seat_taken", "sold_out", "seat_limit_exceeded"}:
                    self._house.books.judge_refused_hold(worker, hold_id, asked_s)
                raise

        held = await self._insist(hold)
        if self._chance(0.2):
            held = await self._insist(hold)
        return held

    async def _order(self, hold_id: str) -> str:
        request = self._request()
        for _ in range(1 + self._chance(0.2)):
            placed = await self._insist(
                lambda worker: worker.orders.place(self._account, hold_id, request, order_bytes)
            )
            if placed.committed:
                self._house.books.was_told(placed.order)
        return str(placed.order.order_id)

    async def _pay(self, order_id: str) -> None:
        for _ in range(1 + self._chance(0.1)):  # now and then in two tabs
            request = self._request()
            payment = await self._insist(
                lambda worker, request=request: worker.payments.open(
                    self._account, order_id, NAME, None, request, payment_bytes
                )
            )
            if self._chance(0.15):
                self._house.gateway.decline(payment.payment_id)
                await self._pause(2.0)
            if self._chance(0.5):
                await self._pause(0.2)
            else:
                await self._pause(self._house.claim_ttl_ms / 1_000)
            paid = self._house.gateway.pay(payment.payment_id)
            self._world.note(self._account[-2:], "pays", payment.payment_id, paid)

    async def _is_confirmed(self, order_id: str) -> bool:
        """Look until the order has come to an end, or for long enough."""
        for _ in range(self._dice.choice([2, 10])):
            order = await self._insist(lambda worker: worker.orders.find(self._account, order_id))
            self._house.books.was_shown(order)
            if order.state in {"confirmed", "cancelled", "expired", "refunded"}:
                return bool(order.state == "confirmed")
            await self._pause(1.0)
        return False
