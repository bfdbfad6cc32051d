"""From captured money to tickets, or to the money going back: one durable outcome either way.

Called by whoever learns of a capture (webhook, poller) and by the completer until it has happened. Every
step may be repeated. When the hold is gone because the deadline was, the same seats are taken again if
they are still free; if they are not, or the showtime has begun, the order is cancelled and the refund is
written in the same transaction, so no captured payment is ever without an owner.

A PostgreSQL that was set back to before a showtime was added has its orders by the logs, and never again
the showtime: its seats are shut for good, and waiting for them would be waiting for ever. So whoever finds
seats shut looks whether they are anybody's to open, and if not the order is lost, as one that no log has
(docs/adr/0027).

What is confirmed at first is the claim of that very order, known by its deadline: a hold's key used again
after the order expired makes the same hold id, and what it holds may be other seats. Seats that were taken
again are their fan's hold until they are sold, and he may let go of it meanwhile and hold others: so they are
known by themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from checkout.domain import Order, refund_id_of
from checkout.entries import Confirm, encode
from checkout.refunds import StartsAt
from checkout.rows import PaidOrder
from checkout.store import CheckoutStore
from kernel import limits
from kernel.clock import to_ms
from kernel.errors import InventoryRebuilding
from kernel.ids import hold_id_of, showtime_of
from reservation import Refused, SeatInventory

_log = logging.getLogger(__name__)

#: What is said of a hold that ended between two of our steps: its fan's own, or ours of long ago.
_RAN_OUT: Final = frozenset({"hold_expired", "not_found"})

#: Whether PostgreSQL has a sale of this showtime, whatever its phase.
HasSale = Callable[[str], Awaitable[bool]]


class Fulfilment:
    """Confirms paid orders."""

    def __init__(
        self, store: CheckoutStore, inventory: SeatInventory, has_sale: HasSale, starts_at: StartsAt
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._has_sale = has_sale
        self._starts_at = starts_at

    async def confirm(self, order_id: str, paid: PaidOrder | None = None) -> bool:
        """Put a paid order's sale on the log. False when it had to be cancelled and refunded.

        Whoever has this instant made it `paid` says so, and spares the look at it. Raises SeatsUnavailable
        or InventoryRebuilding; the completer tries again.
        """
        try:
            return await self._confirm(order_id, paid)
        except InventoryRebuilding:
            if not await self.is_forgotten(order_id):
                raise
            _log.error("order %s is lost: its showtime is not known any more", order_id)
            await self.cancel(order_id, "order_lost")
            return False

    async def is_forgotten(self, order_id: str) -> bool:
        """Whether its seats, which are shut, are shut for good: nobody knows of the showtime any more.

        Raises PersistenceUnavailable.
        """
        return not await self._has_sale(showtime_of(order_id))

    async def _confirm(self, order_id: str, paid: PaidOrder | None) -> bool:
        if paid is not None and await self._confirm_held(paid):
            return True
        order = await self._store.find_order(order_id)
        if order is None or order.state != "paid":
            return True
        if order.end_reason is not None:
            await self.cancel(order_id, order.end_reason)
            return False
        if await self._confirm_held(order):
            return True
        return await self._confirm_late(order_id)

    async def _confirm_late(self, order_id: str, *, may_repeat: bool = True) -> bool:
        """Confirm what has no claim any more. False when the seats are not to be had."""
        # What was tried may have been under way for long: others confirmed it, and its fan gave it back.
        order = await self._store.find_order(order_id)
        if order is None or order.state != "paid":
            return True
        _log.info("order %s was paid after its seats were given up", order_id)
        if await self._has_begun(order):
            await self.cancel(order_id, "showtime_begun")
            return False
        seats = [line.seat_index for line in order.lines]
        try:
            await self._take_again(hold_id_of(order_id), order.account_id, seats)
            await self._put_on_log(order, seats=seats)
            return True
        except Refused as refusal:
            if may_repeat and refusal.status in _RAN_OUT:  # the hold of the next try has its full time
                return await self._confirm_late(order_id, may_repeat=False)
            await self.cancel(order_id, refusal.status)
            return False

    async def _has_begun(self, order: Order) -> bool:
        """Whether the showtime has, by the clock that judges refunds: nobody could give such tickets back."""
        starts_at = await self._starts_at(order.showtime_id)
        asked = await self._store.payable_order(order.order_id)
        assert asked is not None, "an order is never deleted"
        return starts_at is not None and starts_at <= asked.now

    async def _confirm_held(self, order: Order | PaidOrder) -> bool:
        """Confirm while the claim stands, as nearly always. False when it does not."""
        try:
            await self._put_on_log(order, pay_by_ms=to_ms(order.pay_by))
        except Refused:
            return False
        return True

    async def _put_on_log(
        self, order: Order | PaidOrder, *, pay_by_ms: int | None = None, seats: Sequence[int] = ()
    ) -> None:
        entry = encode(Confirm(order_id=order.order_id, showtime_id=order.showtime_id))
        hold_id = hold_id_of(order.order_id)
        await self._inventory.confirm(
            hold_id, order.account_id, entry=entry, pay_by_ms=pay_by_ms, seats=seats
        )

    async def _take_again(self, hold_id: str, account_id: str, seats: list[int]) -> None:
        """The same seats under the same hold, whatever the hour; a twin of this call may have them already.

        A hold of that id that is over is cleared away: it may have had them, and nobody is to wait for the
        reaper. Raises Refused when somebody else has them, or the buyer has bought up to the limit meanwhile.
        """
        await self._inventory.return_seats(hold_id, states=frozenset({"expired"}))
        await self._inventory.hold(
            showtime_of(hold_id), hold_id, account_id, seats, ttl_ms=limits.claim_ttl_ms, guards="late"
        )

    async def cancel(self, order_id: str, reason: str) -> None:
        """The seats are not to be had: cancel, and ask every captured payment back."""
        async with self._store.transaction() as connection:
            order = await self._store.lock_order(connection, order_id)
            if order is None or order.state != "paid":
                return
            await self._store.cancel_paid(connection, order_id, reason)
            for payment in await self._store.captured_payments(connection, order_id):
                refund_id = refund_id_of(payment.payment_id)
                if await self._store.add_refund(connection, refund_id, payment, "unfulfillable"):
                    await self._store.post_entries(
                        connection,
                        f"owed:{refund_id}",
                        debit="open_payments",
                        credit="refunds_due",
                        amount=payment.amount,
                        order_id=order_id,
                        payment_id=payment.payment_id,
                    )
