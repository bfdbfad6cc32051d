"""What a gateway says of a bank that took money back, taken once and in any order.

Each word of the gateway implies what must have come before it: a reversal says that there was a chargeback,
a chargeback that there was a capture. So whichever is heard first brings along what it implies, by the same
code and under the same names, and what comes later finds it done. Refused: to put an event aside until the
one before it comes. That one may be lost, and whoever waits for it has to be asked about for ever.

The order stays what it was and its seats stay sold: who disputes may lose, and may have sat there. What
changes is who has the money. It leaves the gateway's account for `chargebacks`, and returns when we win.

A refund that is due waits meanwhile, in the state it has: nobody asks the gateway for it (`refunds_to_send`)
before the chargeback is reversed, and then it is asked for at once. Sent now it would give the same money
back a second time, if the gateway let it, and be refused for ever, if not. Ended for good it would leave
captured money with nobody when we win. Of what was asked for before, the gateway says which came first.

Only a chargeback of the whole payment is taken. Another sum fits nothing of ours, as refunds are whole, too:
it is left to a person, and the audit names it until he has looked.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from checkout.chargebacks import store as chargebacks
from checkout.domain import Payment
from checkout.ports import GatewayEvent
from checkout.store import CheckoutStore
from runtime.postgres import Connection

#: Takes an event as the word of a capture.
Capture = Callable[[Connection, str, GatewayEvent], Awaitable[tuple[str, str | None]]]

_log = logging.getLogger(__name__)


class Chargebacks:
    """Money that banks take back."""

    def __init__(self, store: CheckoutStore, capture: Capture) -> None:
        self._store = store
        self._capture = capture

    async def take(
        self, connection: Connection, gateway_name: str, event: GatewayEvent
    ) -> tuple[str, str | None]:
        """What came of an event, and the order that is to be confirmed after the commit, if any."""
        payment = await self._store.lock_payment(connection, event.reference)
        if payment is None or payment.gateway != gateway_name:
            _log.error("%s charged a payment back that we do not know: %s", gateway_name, event.gateway_ref)
            return "orphan", None
        if event.amount != payment.amount:
            _log.error("%s of payment %s is of another sum: %s", event.kind, payment.payment_id, event.amount)
            return "amount_differs", None
        to_confirm = None
        if payment.state != "captured":
            _, to_confirm = await self._capture(connection, gateway_name, event)
        where = (connection, gateway_name, event.chargeback_ref, payment.payment_id)
        is_news = taken = await chargebacks.record(*where)
        if taken:
            await self._post(connection, "chargeback", event, payment)
            _log.warning("payment %s was charged back; order %s is disputed", where[-1], payment.order_id)
        if event.kind == "payment.chargeback_reversed":
            is_news = await chargebacks.reverse(*where)
            if is_news:
                await self._post(connection, "chargeback_reversed", event, payment)
                _log.warning("payment %s is ours again", payment.payment_id)
        if not is_news:
            return "repeated", to_confirm
        await chargebacks.mark(connection, payment.payment_id)
        return event.kind.removeprefix("payment."), to_confirm

    async def _post(self, connection: Connection, what: str, event: GatewayEvent, payment: Payment) -> None:
        gateway, bank = f"gateway:{payment.gateway}", "chargebacks"
        await self._store.post_entries(
            connection,
            f"{what}:{payment.gateway}:{event.chargeback_ref}",
            debit=bank if what == "chargeback" else gateway,
            credit=gateway if what == "chargeback" else bank,
            amount=payment.amount,
            order_id=payment.order_id,
            payment_id=payment.payment_id,
        )
