"""Refunds: money going back, seats going back on sale, in that order of certainty.

One transaction decides: the refund is written, the tickets are void, PostgreSQL gives the seats up and
the ledger owes the money. From then on everything is repetition: the gateway is asked, always with the
refund's id as its key, until it has paid; the seats are put on sale by the completer. A refund that
fails stays open and is asked again with growing gaps: it is never silently closed. While a bank has the money
(`checkout.chargebacks`) none is asked for, and those there are wait.

A caller may be told that nobody knows (503) while his refund is still being committed, and ask once more.
What his second request then finds is his own: it is not refused for it, but told to come back for the first
one's answer.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from checkout import errors
from checkout.domain import Order, Payment, Refund, RefundLine, RequestKey, is_disputed, refund_id_of
from checkout.ports import Gateway, GatewayRefund
from checkout.rows import RefundToSend
from checkout.store import CheckoutStore
from kernel.errors import NotFound, RequestInProgress, ValidationFailed
from kernel.money import Money, total
from runtime.postgres import Connection, attempt

_log = logging.getLogger(__name__)

#: Answers when a showtime begins; None for one without an instant.
StartsAt = Callable[[str], Awaitable[datetime | None]]


@dataclass(frozen=True, slots=True)
class RefundQuote:
    """What would come back, exactly, for which tickets."""

    order: Order
    lines: tuple[RefundLine, ...]
    amount: Money


class RefundService:
    """Money going back."""

    def __init__(
        self,
        store: CheckoutStore,
        gateways: Mapping[str, Gateway],
        starts_at: StartsAt,
    ) -> None:
        self._store = store
        self._gateways = gateways
        self._starts_at = starts_at

    async def quote(self, account_id: str, order_id: str, ticket_ids: Sequence[str] | None) -> RefundQuote:
        """What a refund would bring.

        Raises NotFound, InvalidState, AlreadyRefunded, PaymentChargedBack, RefundNotAllowed,
        ValidationFailed.
        """
        order = await self._store.find_order(order_id)
        if order is None or order.account_id != account_id:
            raise NotFound()
        _must_be_refundable(order)
        asked = await self._store.payable_order(order_id)
        assert asked is not None, "an order is never deleted"
        _must_be_before(await self._starts_at(order.showtime_id), asked.now)
        price = {line.seat_index: line.amount for line in order.lines}
        lines = tuple(
            RefundLine(ticket.ticket_id, price[ticket.seat_index])
            for ticket in order.tickets
            if ticket.state == "issued"
        )
        _must_be_all([line.ticket_id for line in lines], ticket_ids)
        currency = order.total.currency
        return RefundQuote(order, lines, total((Money(line.amount, currency) for line in lines), currency))

    async def request(
        self,
        account_id: str,
        order_id: str,
        ticket_ids: Sequence[str] | None,
        request: RequestKey,
        render: Callable[[Refund], bytes],
    ) -> Refund:
        """Ask for a whole order's money back. `render` gives the answer kept for a repeat.

        Raises what `quote` raises; and RequestInProgress when this very request was committed meanwhile.
        """
        try:
            return await self._request(account_id, order_id, ticket_ids, request, render)
        except errors.AlreadyRefunded:
            if await self._store.find_request_key(account_id, request.key) is None:
                raise
            raise RequestInProgress(retry_after_s=1.0) from None

    async def _request(
        self,
        account_id: str,
        order_id: str,
        ticket_ids: Sequence[str] | None,
        request: RequestKey,
        render: Callable[[Refund], bytes],
    ) -> Refund:
        quote = await self.quote(account_id, order_id, ticket_ids)
        starts_at = await self._starts_at(quote.order.showtime_id)

        async def note() -> Refund:
            async with self._store.transaction() as connection:
                order = await self._store.lock_order(connection, order_id)
                assert order is not None, "an order is never deleted"
                payments = await self._store.captured_payments(connection, order_id)
                if order.state != "confirmed" or not payments:
                    raise errors.AlreadyRefunded()
                _must_be_before(starts_at, order.now)
                payment = await self._store.lock_payment(connection, payments[0].payment_id)
                assert payment is not None, "a payment is never deleted"
                if payment.charged_back:  # whoever charges it back from now on finds the refund
                    raise errors.PaymentChargedBack()
                refund_id = refund_id_of(payment.payment_id)
                refund = Refund(
                    refund_id, order_id, payment.payment_id, "requested", "asked", quote.amount, quote.lines
                )
                if not await self._store.add_refund(connection, refund_id, payment, "asked"):
                    raise errors.AlreadyRefunded()
                if await self._store.give_back_tickets(connection, refund_id, order_id) != len(quote.lines):
                    raise errors.RefundNotAllowed("A ticket of this order has been used.")
                await self._store.post_entries(
                    connection,
                    f"owed:{refund_id}",
                    debit="tickets_sold",
                    credit="refunds_due",
                    amount=quote.amount,
                    order_id=order_id,
                    payment_id=payment.payment_id,
                )
                await self._store.keep_request_key(request, 202, render(refund), connection)
            return refund

        return await attempt(note)

    async def send(self, item: RefundToSend) -> None:
        """Ask the gateway once more. Raises GatewayUnavailable."""
        refund = item.refund
        answer = await self._ask_back(item)
        async with self._store.transaction() as connection:
            if answer.state in {"completed", "failed"}:
                await self.settle(connection, refund.refund_id, answer.state, answer.amount, item.gateway)
            elif refund.state in {"requested", "failed"} and answer.state == "sent":
                await self._store.move_refund(connection, refund.refund_id, "sent")

    async def _ask_back(self, item: RefundToSend) -> GatewayRefund:
        """Gateways forget idempotency keys after a day: an old refund is looked for before it is repeated."""
        gateway, refund = self._gateways[item.gateway], item.refund
        if item.is_old:
            found = await gateway.find_refund(refund.refund_id)
            if found is not None and found.state != "failed":
                return found
        return await gateway.refund(
            refund_id=refund.refund_id, gateway_ref=item.gateway_ref, amount=refund.amount
        )

    async def book(self, connection: Connection, payment: Payment, refund_id: str) -> bool:
        """Write down a refund of a whole payment that its gateway made and we have forgotten.

        What it was for follows from the order: the only money its tickets were sold for takes them along, the
        only money of a sale that is not made yet ends it, and any other was money too much. False when there
        is another refund of this payment, or a ticket that was paid with it has opened the door: what then
        went back was no return, and what it was a person has to say.
        """
        order = await self._store.lock_order(connection, payment.order_id)
        assert order is not None, "a payment has an order"
        kept = await self._store.captured_payments(connection, order.order_id)
        is_only = all(one.payment_id == payment.payment_id for one in kept)
        states = await self._store.tickets_by_state(connection, order.order_id) if is_only else Counter()
        if states["admitted"]:
            return False
        tickets = states["issued"]
        is_unmade = order.state == "cancelled" or (order.state == "paid" and is_only)
        reason = "asked" if tickets else "unfulfillable" if is_unmade else "paid_twice"
        if not await self._store.add_refund(connection, refund_id, payment, reason):
            return False
        if tickets:
            await self._store.give_back_tickets(connection, refund_id, order.order_id)
        elif is_unmade:
            await self._store.cancel_paid(connection, order.order_id, "refunded")
        await self._store.post_entries(
            connection,
            f"owed:{refund_id}",
            debit="tickets_sold" if tickets else "open_payments",
            credit="refunds_due",
            amount=payment.amount,
            order_id=order.order_id,
            payment_id=payment.payment_id,
        )
        return True

    async def settle(
        self, connection: Connection, refund_id: str, state: str, amount: Money | None, gateway: str
    ) -> str:
        """Take what the gateway says of a refund, once; answers what came of it.

        Only its payment's gateway can say so, and only of all of it: who was given back less is still owed.
        """
        found = await self._store.lock_refund(connection, refund_id)
        if found is None or found[1] != gateway:
            _log.error("gateway %s speaks of a refund we do not know: %s", gateway, refund_id)
            return "orphan"
        refund, _ = found
        if amount != refund.amount:
            _log.error("refund %s is %s with another amount: %s", refund_id, state, amount)
            return "amount_differs"
        if refund.state == "completed" or not await self._store.move_refund(connection, refund_id, state):
            return "repeated"
        if state == "completed":
            await self._store.post_entries(
                connection,
                f"refund:{refund_id}",
                debit="refunds_due",
                credit=f"gateway:{gateway}",
                amount=refund.amount,
                order_id=refund.order_id,
                payment_id=refund.payment_id,
            )
            await self._store.mark_refunded(connection, refund.order_id)
        else:
            _log.error("refund %s failed at %s and stays open", refund_id, gateway)
        return state


def _must_be_refundable(order: Order) -> None:
    """What came back because the order was paid twice does not count: its tickets stand."""
    if order.state == "refunded" or any(refund.reason != "paid_twice" for refund in order.refunds):
        raise errors.AlreadyRefunded()
    if order.state != "confirmed":
        raise errors.InvalidState(state=order.state)
    if is_disputed(order.payments, order.refunds):
        raise errors.PaymentChargedBack()
    if any(ticket.state == "admitted" for ticket in order.tickets):
        raise errors.RefundNotAllowed("A ticket of this order has been used.")


def _must_be_before(starts_at: datetime | None, now: datetime) -> None:
    """Money goes back until the showtime begins, by PostgreSQL's clock: a worker's may be an hour off."""
    if starts_at is not None and starts_at <= now:
        raise errors.RefundNotAllowed("The showtime has begun.")


def _must_be_all(issued: Sequence[str], asked: Sequence[str] | None) -> None:
    if asked is not None and (sorted(asked) != sorted(issued)):
        raise ValidationFailed(
            [
                {
                    "pointer": "/ticket_ids",
                    "code": "not_all_tickets",
                    "detail": "an order is refunded whole: name all of its tickets, or none",
                }
            ]
        )
