"""Orders: from a hold to a claim PostgreSQL has committed.

One order per hold is a fact of naming: the order's id is the hold's tail. So a repeat, a twin and a
second worker all meet in one script call, and the log entry carries everything the order will ever be:
the seats with their frozen prices, the deadline, even the answer its buyer is given.

The deadline is reckoned by the seat store's clock, which judged the hold: a worker's own may be an hour
off, and its orders would be over at birth, or keep their seats for more than an hour.

Success is said only after the writer's commit; what takes longer than a breath is 202 with a link.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from checkout import errors
from checkout.commits_redis import Commits
from checkout.domain import Order, OrderLine, RequestKey, Ticket
from checkout.entries import Claim, encode
from checkout.store import CheckoutStore
from kernel import limits
from kernel.clock import from_ms, to_ms
from kernel.errors import IdempotencyKeyReused, NotFound, SeatRushError
from kernel.ids import hold_id_of, is_id, order_id_of
from kernel.money import Money, total
from reservation import Hold, HoldExpired, HoldLost, Refused, ReservationService, SeatInventory, refusal_error

#: Prices of a showtime by area id.
PriceList = Callable[[str], Awaitable[Mapping[str, Money]]]


@dataclass(frozen=True, slots=True)
class Placed:
    """An order that was placed; `committed` is false while PostgreSQL has not said so."""

    order: Order
    committed: bool


class OrderService:
    """Orders of fans."""

    def __init__(
        self,
        store: CheckoutStore,
        reservation: ReservationService,
        inventory: SeatInventory,
        commits: Commits,
        prices_of: PriceList,
        epoch_of: Callable[[str], int],
        now_ms: Callable[[str], Awaitable[int]],
        *,
        claim_ttl_ms: int,
    ) -> None:
        self._store = store
        self._reservation = reservation
        self._inventory = inventory
        self._commits = commits
        self._prices_of = prices_of
        self._epoch_of = epoch_of
        self._now_ms = now_ms
        self._claim_ttl = timedelta(milliseconds=claim_ttl_ms)

    async def place(
        self, account_id: str, hold_id: str, request: RequestKey, render: Callable[[Order], bytes]
    ) -> Placed:
        """Claim a hold's seats for an order. `render` gives the answer that is kept for a repeat.

        Raises NotFound, HoldExpired and HoldLost. When PostgreSQL refused the claim, SeatTaken, or
        IdempotencyKeyReused for a hold whose key had become an order before.
        """
        hold = await self._reservation.find_hold(account_id, hold_id)
        order_id = order_id_of(hold_id)
        if hold.state != "held":
            return await self._placed_before(account_id, hold, request, render)
        now = from_ms(await self._now_ms(hold.showtime.showtime_id))
        order = await self._order_of(account_id, order_id, hold, now + self._claim_ttl)
        expected = self._commits.expect(order_id, order.pay_by)
        try:
            fresh = await self._inventory.claim(
                hold_id,
                account_id,
                seats=hold.seats,
                pay_by_ms=to_ms(order.pay_by),
                entry=encode(_claim(order, self._epoch_of(order.showtime_id), request, render(order))),
            )
            outcome = None
            if fresh:
                outcome = await self._commits.wait(expected, limits.order_commit_wait_ms / 1000)
        except Refused as refusal:
            raise refusal_error(refusal) from None
        finally:
            expected.cancel()
        if not fresh:
            hold = await self._reservation.find_hold(account_id, hold_id)
            return await self._placed_before(account_id, hold, request, render)
        if outcome == "refused":
            raise await self._why_refused(order_id, order.pay_by)
        return Placed(order, committed=outcome == "committed")

    async def find(self, account_id: str, order_id: str) -> Order:
        """An order of this account, also while its claim is on the way. Raises NotFound."""
        if not is_id(order_id, "ord"):
            raise NotFound()
        order = await self._store.find_order(order_id)
        if order is None:
            return await self._claiming(account_id, order_id)
        if order.account_id != account_id:
            raise NotFound()
        return order

    async def list(
        self, account_id: str, before: tuple[datetime, str] | None, limit: int
    ) -> list[tuple[Order, datetime]]:
        """A page of an account's orders, newest first."""
        return await self._store.list_orders(account_id, before, limit)

    async def find_ticket(self, account_id: str, ticket_id: str) -> Ticket:
        """A ticket of this account. Raises NotFound."""
        ticket = await self._store.find_ticket(ticket_id) if is_id(ticket_id, "tkt") else None
        if ticket is None or ticket.account_id != account_id:
            raise NotFound()
        return ticket

    async def _order_of(self, account_id: str, order_id: str, hold: Hold, pay_by: datetime) -> Order:
        showtime = hold.showtime
        prices = await self._prices_of(showtime.showtime_id)
        seats = [showtime.hall.layout.seats[seat] for seat in hold.seats]
        lines = tuple(
            OrderLine(seat.index, seat.label, seat.area_id, prices[seat.area_id].amount) for seat in seats
        )
        currency = next(iter(prices.values())).currency
        return Order(
            order_id=order_id,
            showtime_id=showtime.showtime_id,
            account_id=account_id,
            state="pending_payment",
            total=total((prices[seat.area_id] for seat in seats), currency),
            pay_by=pay_by,
            lines=lines,
        )

    async def _placed_before(
        self, account_id: str, hold: Hold, request: RequestKey, render: Callable[[Order], bytes]
    ) -> Placed:
        """The same hold again: the same order, as it is by now.

        The key of the request that claimed it is written with the order, and this may be another one. When
        the hold is gone, what this one was answered could not be found out by looking: so it is kept.
        """
        order_id = order_id_of(hold.hold_id)
        pay_by = from_ms(hold.expires_at_ms) if hold.state == "claimed" else None
        expected = self._commits.expect(order_id, pay_by)
        try:
            outcome = await self._commits.wait(expected, limits.order_commit_wait_ms / 1000)
        finally:
            expected.cancel()
        if outcome == "refused":
            raise await self._why_refused(order_id, pay_by)
        order = await self.find(account_id, order_id)
        if outcome is None:
            order = replace(order, state="claiming")
        await self._store.keep_request_key(request, 201 if outcome else 202, render(order))
        return Placed(order, committed=outcome is not None)

    async def _why_refused(self, order_id: str, pay_by: datetime | None) -> SeatRushError:
        """An order of that name with another deadline is an older one; its hold's key was used again.

        A claim from behind the fence came too late: a recovery had not known of it.
        """
        order = await self._store.find_order(order_id)
        if order is not None and pay_by is not None and order.pay_by != pay_by:
            return IdempotencyKeyReused("This hold's key had become an order before; hold with a fresh key.")
        if order is not None and order.end_reason == HoldLost.code.name:
            return HoldLost()
        return errors.SeatTaken()

    async def _claiming(self, account_id: str, order_id: str) -> Order:
        try:
            hold = await self._reservation.find_hold(account_id, hold_id_of(order_id))
        except (HoldExpired, HoldLost):
            raise NotFound() from None
        if hold.state == "held":
            raise NotFound()
        order = await self._order_of(account_id, order_id, hold, from_ms(hold.expires_at_ms))
        return replace(order, state="claiming")


def _claim(order: Order, epoch: int, request: RequestKey, answer: bytes) -> Claim:
    return Claim(
        order_id=order.order_id,
        showtime_id=order.showtime_id,
        account_id=order.account_id,
        epoch=epoch,
        currency=order.total.currency,
        total=order.total.amount,
        pay_by_ms=to_ms(order.pay_by),
        seats=[(line.seat_index, line.label, line.area_id, line.amount) for line in order.lines],
        request_key=request.key,
        fingerprint=request.fingerprint,
        answer=answer.decode(),
    )
