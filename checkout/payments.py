"""Payments: opening one at a gateway, hearing how it went, and acting on it once.

No transaction is open while a gateway is asked. The payment's row exists before the gateway hears of it,
under an id that follows from the request, so a repeat finds the same row and the same session. What a
gateway says is stored, and done about it in one transaction that also marks it done: a repeat, a race with
the poller and a crash all end the same way.

There is a short way and a long one. Nearly every payment is the first of an order that waits for it, and
nearly every capture is the first word about a pending payment of the right sum: these are one statement,
shared with whoever comes at the same time, and it stores the gateway's word and acts on it in one commit.
The short statement waits for nobody's payment or order and judges nothing: whatever is not plain it leaves,
stored, to the long way, which takes locks in their order and knows every case. All it may wait for is its own
twin: the same event, stored by somebody who has not committed yet. A transaction with a round trip for each
of those steps was the price of a sale before.

Captured money always gets an owner in the same transaction: the order, or a refund.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

from checkout import errors
from checkout.chargebacks import Chargebacks
from checkout.domain import Order, Payment, RequestKey, refund_id_of
from checkout.fulfilment import Fulfilment
from checkout.ports import Gateway, GatewayEvent, GatewayPayment
from checkout.rows import Capture, LockedOrder, PaidOrder, PayableOrder
from checkout.store import CheckoutStore
from kernel.clock import Clock
from kernel.errors import NotFound, PersistenceUnavailable, SeatRushError
from kernel.money import Money
from runtime.postgres import Connection, attempt

_log = logging.getLogger(__name__)


class PaymentService:
    """Money coming in."""

    def __init__(
        self,
        store: CheckoutStore,
        gateways: Mapping[str, Gateway],
        fulfilment: Fulfilment,
        refund_settled: Callable[[Connection, str, str, Money | None, str], Awaitable[str]],
        find_order: Callable[[str, str], Awaitable[Order]],
        clock: Clock,
    ) -> None:
        self._store = store
        self._gateways = gateways
        self._fulfilment = fulfilment
        self._refund_settled = refund_settled
        self._find_order = find_order
        self._clock = clock
        self._chargebacks = Chargebacks(store, self._captured)

    def gateway(self, name: str) -> Gateway:
        """The gateway of that name. Raises UnknownGateway."""
        try:
            return self._gateways[name]
        except KeyError:
            raise errors.UnknownGateway() from None

    async def open(
        self,
        account_id: str,
        order_id: str,
        gateway_name: str,
        return_url: str | None,
        request: RequestKey,
        render: Callable[[Payment], bytes],
    ) -> Payment:
        """Open a payment for an order. `render` gives the answer kept for a repeat.

        Raises UnknownGateway, NotFound, AlreadyPaid, OrderExpired, InvalidState, TooManyPayments,
        GatewayUnavailable, and PersistenceUnavailable while the order's claim is on its way (an answer no
        repeat is given again).
        """
        gateway = self.gateway(gateway_name)
        payment_id = payment_id_for(request, order_id, gateway.name)
        order = await self._store.add_payment_at_once(payment_id, order_id, account_id, gateway.name)
        if order is None:
            order = await self._add_payment(payment_id, order_id, account_id, gateway.name)
        session = await gateway.open_session(
            payment_id=payment_id,
            order_id=order_id,
            amount=order.total,
            expires_at=_page_closes_at(order),
            return_url=return_url,
        )
        payment = Payment(
            payment_id,
            order_id,
            gateway.name,
            session.state,
            order.total,
            session.gateway_ref,
            session.redirect_url,
            session.test_url,
        )
        await self._store.open_payment(payment, request, render(payment))
        return payment

    async def _add_payment(
        self, payment_id: str, order_id: str, account_id: str, gateway_name: str
    ) -> PayableOrder:
        """The long way, for orders that are locked, were tried before, or cannot be paid: it says why not."""

        async def add() -> PayableOrder | None:
            async with self._store.transaction() as connection:
                order = await self._store.lock_order(connection, order_id)
                if order is None:
                    return None
                _must_be_payable(order, account_id)
                if not await self._store.may_add_payment(connection, payment_id, order_id):
                    raise errors.TooManyPayments()
                await self._store.add_payment(connection, payment_id, order_id, gateway_name, order.total)
                return PayableOrder(order.total, order.pay_by, order.now)

        payable = await attempt(add)
        if payable is not None:
            return payable
        await self._find_order(account_id, order_id)  # raises NotFound, unless it is claiming
        raise PersistenceUnavailable(
            "The order is still on its way; ask again in a moment.", retry_after_s=1.0
        )

    async def receive(self, gateway_name: str, headers: Mapping[str, str], body: bytes) -> None:
        """A webhook: verified, stored, committed; then acted upon, now or by the completer.

        Raises UnknownGateway, WebhookSignatureInvalid, WebhookTimestampInvalid.
        """
        gateway = self.gateway(gateway_name)
        event = gateway.read_webhook(headers, body, self._clock.now())
        if event.kind == "payment.captured":
            paid = await self._store.take_capture(_as_capture(gateway_name, event))
            if paid is not None:
                await self.confirm(paid.order_id, paid)
                return
        else:
            await self._store.record_event(gateway_name, event.event_id, event.kind, event.raw)
        await self.act_on(gateway_name, event)

    async def act_on(self, gateway_name: str, event: GatewayEvent) -> None:
        """Take the effect of a stored event, once."""

        async def take() -> str | None:
            async with self._store.transaction() as connection:
                if not await self._store.lock_event(connection, gateway_name, event.event_id):
                    return None
                outcome, to_confirm = await self.take(connection, gateway_name, event)
                await self._store.close_event(connection, gateway_name, event.event_id, outcome)
            return to_confirm

        await self.confirm(await attempt(take))

    async def take(
        self, connection: Connection, gateway_name: str, event: GatewayEvent
    ) -> tuple[str, str | None]:
        """What came of an event, and the order that is to be confirmed after the commit, if any."""
        match event.kind:
            case "payment.captured":
                return await self._captured(connection, gateway_name, event)
            case "payment.failed":
                failed = await self._store.fail_payment(connection, event.reference, gateway_name)
                return "failed" if failed else "ignored", None
            case "payment.charged_back" | "payment.chargeback_reversed":
                return await self._chargebacks.take(connection, gateway_name, event)
            case "refund.completed" | "refund.failed":
                state = event.kind.removeprefix("refund.")
                settled = self._refund_settled
                return await settled(connection, event.reference, state, event.amount, gateway_name), None
            case _:
                return "ignored", None

    async def confirm(self, order_id: str | None, paid: PaidOrder | None = None) -> None:
        """Confirm what was just paid; if a store is away the completer will."""
        if order_id is None:
            return
        try:
            await self._fulfilment.confirm(order_id, paid)
        except SeatRushError as error:
            _log.warning("order %s stays paid for the completer: %s", order_id, error)

    async def ask(self, payment: Payment) -> None:
        """Ask the gateway how a payment went that it has not told us about."""
        gateway = self.gateway(payment.gateway)
        if payment.gateway_ref is None:
            await self._reopen(gateway, payment)
            return
        found = await gateway.find_payment(payment.gateway_ref)
        if found is None:
            await self._store.fail_forgotten_payment(payment.payment_id)
            return
        if found.state not in {"captured", "failed"}:
            return
        if found.reference != payment.payment_id:
            _log.error(
                "asked for payment %s, %s spoke of %s", payment.payment_id, gateway.name, found.reference
            )
            return
        async with self._store.transaction() as connection:
            _, to_confirm = await self.take(connection, payment.gateway, _as_event(found))
        await self.confirm(to_confirm)

    async def _reopen(self, gateway: Gateway, payment: Payment) -> None:
        """We crashed around `open_session`: repeating it finds the session, or makes the only one."""
        order = await self._store.payable_order(payment.order_id)
        assert order is not None, "an order is never deleted"
        session = await gateway.open_session(
            payment_id=payment.payment_id,
            order_id=payment.order_id,
            amount=payment.amount,
            expires_at=_page_closes_at(order),
            return_url=None,
        )
        await self._store.reopen_payment(
            payment.payment_id, session.gateway_ref, session.redirect_url, session.test_url
        )

    async def _captured(
        self, connection: Connection, gateway_name: str, event: GatewayEvent
    ) -> tuple[str, str | None]:
        payment = await self._store.lock_payment(connection, event.reference)
        if payment is None or payment.gateway != gateway_name:
            _log.error("gateway %s captured a payment we do not know: %s", gateway_name, event.gateway_ref)
            return "orphan", None
        if event.amount != payment.amount:
            _log.error("payment %s captured with another amount: %s", payment.payment_id, event.amount)
            await self._store.doubt_payment(connection, payment.payment_id)
            return "amount_differs", None
        if not await self._store.capture_payment(connection, payment.payment_id, event.gateway_ref):
            return "repeated", None
        await self._store.post_entries(
            connection,
            f"capture:{payment.payment_id}",
            debit=f"gateway:{gateway_name}",
            credit="open_payments",
            amount=payment.amount,
            order_id=payment.order_id,
            payment_id=payment.payment_id,
        )
        if await self._store.mark_paid(connection, payment.order_id):
            return "captured", payment.order_id
        order = await self._store.lock_order(connection, payment.order_id)
        reason = "unfulfillable" if order is not None and order.state == "cancelled" else "paid_twice"
        refund_id = refund_id_of(payment.payment_id)
        if await self._store.add_refund(connection, refund_id, payment, reason):
            await self._store.post_entries(
                connection,
                f"owed:{refund_id}",
                debit="open_payments",
                credit="refunds_due",
                amount=payment.amount,
                order_id=payment.order_id,
                payment_id=payment.payment_id,
            )
        return "captured_again", None


def payment_id_for(request: RequestKey, order_id: str, gateway_name: str) -> str:
    """The payment of one request, the same however often it is repeated.

    The order and the gateway are part of it: after an answer that was not kept (503), the same key may
    come with another order, and must not meet this one's row.
    """
    material = f"{request.account_id}\n{request.key}\n{order_id}\n{gateway_name}"
    return f"pay_{hashlib.sha256(material.encode()).hexdigest()[:26]}"


def _page_closes_at(order: PayableOrder) -> datetime:
    """When the gateway's page must close: before the claim does, so nobody pays too late (rule R12).

    By the clock of PostgreSQL, which ends the claim. A worker's would give no time to pay, or too much.
    """
    return order.pay_by - min(timedelta(seconds=120), (order.pay_by - order.now) / 4)


def _must_be_payable(order: LockedOrder, account_id: str) -> None:
    if order.account_id != account_id:
        raise NotFound()
    if order.state in {"paid", "confirmed", "refunded"}:
        raise errors.AlreadyPaid()
    if order.state == "expired" or order.overdue:
        raise errors.OrderExpired()
    if order.state != "pending_payment":
        raise errors.InvalidState(state=order.state)


def _as_capture(gateway_name: str, event: GatewayEvent) -> Capture:
    assert event.amount is not None, "a capture names its sum"
    return Capture(gateway_name, event.event_id, event.raw, event.reference, event.gateway_ref, event.amount)


def _as_event(found: GatewayPayment) -> GatewayEvent:
    """What we learnt by asking, in the form of what we are told."""
    return GatewayEvent(
        event_id=f"asked:{found.reference}:{found.state}",
        kind="payment.captured" if found.state == "captured" else "payment.failed",
        gateway_ref=found.gateway_ref,
        reference=found.reference,
        amount=found.amount,
        raw=b"",
    )
