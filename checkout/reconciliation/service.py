"""Reconciliation: what stands in a gateway's books and not in ours is put right, movement by movement.

There is one way for money to be with a gateway and unknown to us for good: PostgreSQL came back older than it
was (a backup restored to before a mistake, a standby promoted without its last second). Orders come back by
their logs; captures and refunds never were on one. Nobody has to notice that it happened, nor to remember a
command. The completers compare the books once a minute, from the place up to which they were compared before,
and that place went back with the payments.

What is done about a movement is what would have been done about its webhook, by the same code:

* a capture of a payment we have: it is captured;
* of one we have forgotten, for an order we have: the payment is written down again, of what the order costs,
  then it is captured. An order that ended meanwhile takes its seats again or has the money sent back;
* of one for an order that no log has any more either: it is written down as lost, and the money goes back.
  But only while a server that was whole once is made whole again: no other can have forgotten an order. What
  a new one, or a whole one, does not know was paid to somebody else who shares our account at the gateway
  (docs/adr/0027);
* a refund we have is completed, also by one that was made by hand after it had failed; one we have forgotten
  is written down, with what it took along (`RefundService.book`);
* money a bank took back, or gave to us again, is taken as its webhook would be.

What has gone back is put right last, when it is known what else was paid: an order that was paid twice keeps
the payment that stayed, and one whose only money went back ends.

A refund has one id for each payment, so whoever is asked to send it again, before or after, sends the same
one. What fits nothing (another sum, a refund beside ours, an order that was never ours, the money of an order
with a used ticket) is left to a person, who reads of it in the log and in every audit.

Refused: a command for whoever restores. He has other things to think of, and the promotion of a standby is
nobody's command. Asking for what moved since an instant: whose clock, and since when? Reading the books from
their beginning each time: they only grow. Closing the gate until the books are compared: nothing is sold
twice meanwhile, seats belong to orders, paid or not, and a gateway that is away would close the house.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from checkout.domain import Payment, refund_id_of
from checkout.log_redis import OrderLog
from checkout.payments import PaymentService
from checkout.ports import EventKind, Gateway, GatewayEvent, Movement, MovementKind
from checkout.reconciliation.store import BookStore
from checkout.refunds import RefundService
from checkout.set_back import until_written
from checkout.store import CheckoutStore
from kernel.errors import PersistenceUnavailable, SeatRushError
from kernel.ids import is_id
from runtime.postgres import Connection, attempt

_KINDS: Final[Mapping[MovementKind, EventKind]] = {
    "capture": "payment.captured",
    "chargeback": "payment.charged_back",
    "chargeback_reversed": "payment.chargeback_reversed",
}
#: What came of such an event when it is left to a person, in the words he reads.
_FITS_NOTHING: Final = {
    "orphan": "its payment is not one of ours",
    "amount_differs": "it is not the sum that was paid",
}

_log = logging.getLogger(__name__)


class Reconciliation:
    """Our books and those of all gateways."""

    def __init__(
        self,
        books: BookStore,
        store: CheckoutStore,
        log: OrderLog,
        gateways: Mapping[str, Gateway],
        payments: PaymentService,
        refunds: RefundService,
    ) -> None:
        self._books = books
        self._store = store
        self._log = log
        self._gateways = gateways
        self._payments = payments
        self._refunds = refunds

    async def is_whole(self, server: str) -> bool:
        """Whether every gateway's books were compared to their end with what this server has.

        Who knows of no gateway cannot say so.
        """
        places = [await self._books.place(name) for name in self._gateways]
        return bool(places) and all(place.whole_for == server for place in places)

    async def compare(self, server: str | None = None) -> int:
        """Go through what moved at every gateway since the last time; answers how much of it was missing.

        Missing on this server, if one is named, or on the one that answers. May end anywhere and be begun
        again. One gateway that is away keeps nobody from the others' books. Raises GatewayUnavailable,
        PersistenceUnavailable, SeatsUnavailable.
        """
        server, missing, trouble = server or await self._books.this_server(), 0, None
        for gateway in self._gateways.values():
            try:
                missing += await self._compare_with(gateway, server)
            except SeatRushError as error:
                trouble = error
        if missing:
            _log.warning("%d movements of gateways were unknown here", missing)
        if trouble is not None:
            raise trouble
        return missing

    async def _compare_with(self, gateway: Gateway, server: str) -> int:
        """The place stays in front of what is put off, so whoever begins again meets it again."""
        known = await self._books.place(gateway.name)
        may_have_forgotten = known.whole_for not in (None, server)
        place, count = known.cursor, 0
        put_off: list[Movement] = []
        cursor = place
        while True:
            page = await gateway.movements(cursor)
            cursor = page.cursor
            missing = await self._books.missing(gateway.name, page.movements)
            count += len(missing)
            put_off += [movement for movement in missing if _has_gone_back(movement)]
            for movement in missing:
                if not _has_gone_back(movement):
                    await self._put_right(gateway, movement, may_have_forgotten)
            if put_off and not page.is_last:
                continue
            for movement in put_off:
                await self._put_right(gateway, movement, may_have_forgotten)
            if not await self._books.move(gateway.name, place, cursor, server, is_end=page.is_last):
                raise PersistenceUnavailable("Others compare these books, or they are another server's.")
            place = cursor
            if page.is_last:
                return count

    async def _put_right(self, gateway: Gateway, movement: Movement, may_have_forgotten: bool) -> None:
        _log.info("%s knows of %s %s and we did not", gateway.name, movement.kind, movement.reference)
        if movement.kind == "refund":
            await self._refund(gateway, movement)
        elif movement.kind != "capture":
            await self._moved_by_bank(gateway, movement)
        elif not await self._capture(gateway, movement):
            if not is_id(movement.order_id, "ord"):
                _leave(movement, "its order is not one of ours")
                return
            await until_written(self._store, self._log)
            if not await self._capture(gateway, movement, or_lose=may_have_forgotten):
                _leave(movement, "nobody here ever had its order")

    async def _capture(self, gateway: Gateway, movement: Movement, *, or_lose: bool = False) -> bool:
        """False when nobody has its order; with `or_lose` it is written down as lost then."""
        refund_id = refund_id_of(movement.payment_id)
        refund = await gateway.find_refund(refund_id) if _has_gone_back(movement) else None

        async def take() -> tuple[bool, str | None]:
            async with self._store.transaction() as connection:
                payment = await self._recorded(connection, gateway, movement)
                if payment is None:
                    if not or_lose:
                        return False, None
                    _log.error("order %s is lost, and its money goes back", movement.order_id)
                    await self._books.record_lost_order(connection, movement.order_id, movement.amount)
                    payment = await self._recorded(connection, gateway, movement)
                    assert payment is not None, "it has an order now"
                _, paid = await self._payments.take(connection, gateway.name, _as_event(movement))
                if paid is not None and refund is not None and refund.state != "failed":
                    await self._refunds.book(connection, payment, refund_id)
            return True, None if _has_gone_back(movement) else paid

        done, to_confirm = await attempt(take)
        await self._payments.confirm(to_confirm)
        return done

    async def _recorded(self, connection: Connection, gateway: Gateway, movement: Movement) -> Payment | None:
        """The payment a movement is about, written down again if need be, and if its order is there."""
        await self._books.record_payment(connection, movement.payment_id, movement.order_id, gateway.name)
        return await self._store.lock_payment(connection, movement.payment_id)

    async def _moved_by_bank(self, gateway: Gateway, movement: Movement) -> None:
        async def take() -> tuple[str, str | None]:
            async with self._store.transaction() as connection:
                return await self._payments.take(connection, gateway.name, _as_event(movement))

        outcome, to_confirm = await attempt(take)
        if outcome in _FITS_NOTHING:
            _leave(movement, _FITS_NOTHING[outcome])
        await self._payments.confirm(to_confirm)

    async def _refund(self, gateway: Gateway, movement: Movement) -> None:
        async def take() -> None:
            async with self._store.transaction() as connection:
                payment = await self._store.lock_payment(connection, movement.payment_id)
                if payment is None or payment.state != "captured":
                    _leave(movement, "its payment is not captured here")
                    return
                refund_id = movement.reference
                if await self._store.lock_refund(connection, refund_id) is None:
                    if movement.amount != payment.amount:
                        _leave(movement, "it is not the sum that was paid")
                        return
                    ours = await self._store.lock_refund(connection, refund_id_of(payment.payment_id))
                    if ours is not None and ours[0].state == "failed":
                        refund_id = ours[0].refund_id  # somebody did by hand what failed
                    elif not await self._refunds.book(connection, payment, refund_id):
                        _leave(movement, "its payment has another refund here, or a ticket of it was used")
                        return
                outcome = await self._refunds.settle(
                    connection, refund_id, "completed", movement.amount, gateway.name
                )
                if outcome in _FITS_NOTHING:
                    _leave(movement, _FITS_NOTHING[outcome])

        await attempt(take)


def _has_gone_back(movement: Movement) -> bool:
    """Whether all that moved here is with its owner again, or about to be."""
    return movement.given_back >= movement.amount.amount


def _as_event(movement: Movement) -> GatewayEvent:
    """What is no refund, from the books, in the form of what we are told."""
    return GatewayEvent(
        event_id=f"listed:{movement.kind}:{movement.reference}",
        kind=_KINDS[movement.kind],
        gateway_ref=movement.payment_ref,
        reference=movement.payment_id,
        amount=movement.amount,
        raw=b"",
        chargeback_ref="" if movement.kind == "capture" else movement.reference,
    )


def _leave(movement: Movement, why: str) -> None:
    _log.error("%s %s is left for a person: %s", movement.kind, movement.reference, why)
