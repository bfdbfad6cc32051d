"""Completers: small jobs that finish whatever a crash, a lost message or a slow gateway left half done.

Each is idempotent, each takes its work with `FOR UPDATE SKIP LOCKED` or repeats harmlessly, and the age
of its oldest open item (`CheckoutStore.oldest_open`) is the real health signal. Freeing seats follows the
rule of doubt: PostgreSQL gives them up first, Redis puts them on sale second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from checkout import errors
from checkout.fulfilment import Fulfilment
from checkout.payments import PaymentService
from checkout.ports import Gateway
from checkout.refunds import RefundService
from checkout.store import CheckoutStore
from kernel import limits
from kernel.errors import SeatRushError
from kernel.ids import hold_id_of
from reservation import ReturnableState, SeatInventory

INTERVAL_S: Final = 0.5
CONFIRM_AFTER_S: Final = 3.0  # a sale is usually back from the log within milliseconds
HOUSEKEEPING_S: Final = 3_600.0

#: In which state the seats of an order that gave them up may still be found in Redis.
_RETURNABLE: Final[dict[str, frozenset[ReturnableState]]] = {
    "expired": frozenset({"claimed"}),
    "cancelled": frozenset({"claimed", "sold"}),
    "confirmed": frozenset({"sold"}),
    "refunded": frozenset({"sold"}),
}

_log = logging.getLogger(__name__)


class Completers:
    """All jobs of the order side."""

    def __init__(
        self,
        store: CheckoutStore,
        inventory: SeatInventory,
        gateways: Mapping[str, Gateway],
        payments: PaymentService,
        refunds: RefundService,
        fulfilment: Fulfilment,
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._gateways = gateways
        self._payments = payments
        self._refunds = refunds
        self._fulfilment = fulfilment

    async def run(self) -> None:
        """Every job in turn, until cancelled."""
        jobs: tuple[Callable[[], Awaitable[int]], ...] = (
            self.expire_orders,
            self.free_seats,
            self.act_on_events,
            self.ask_payments,
            self.confirm_paid,
            self.send_refunds,
        )
        since_housekeeping_s = 0.0
        while True:
            for job in jobs:
                await self._attempt(job)
            since_housekeeping_s += INTERVAL_S
            if since_housekeeping_s >= HOUSEKEEPING_S:
                since_housekeeping_s = 0.0
                await self._attempt(self.drop_old_keys)
            await asyncio.sleep(INTERVAL_S)

    async def _attempt(self, job: Callable[[], Awaitable[int]]) -> None:
        """One job's trouble is not another's: it is logged, and tried again next round."""
        name = getattr(job, "__name__", "job")
        try:
            await job()
        except SeatRushError as error:
            _log.warning("%s waits: %s", name, error)
        except Exception:  # noqa: BLE001 (a bug in one job must not stop the others)
            _log.exception("%s failed", name)

    async def run_once(self) -> dict[str, int]:
        """Every job once; answers how many items each took up."""
        return {
            "orders_expired": await self.expire_orders(),
            "seats_freed": await self.free_seats(),
            "events_acted_on": await self.act_on_events(),
            "payments_asked": await self.ask_payments(),
            "orders_confirmed": await self.confirm_paid(),
            "refunds_sent": await self.send_refunds(),
        }

    async def expire_orders(self) -> int:
        """End claims past their deadline."""
        return len(await self._store.expire_orders())

    async def free_seats(self) -> int:
        """Put given-up seats back on sale."""
        waiting = await self._store.orders_to_free()
        freed = []
        for order_id, state, keep in waiting:
            if state in _RETURNABLE:
                await self._inventory.return_seats(hold_id_of(order_id), states=_RETURNABLE[state], keep=keep)
                freed.append(order_id)
        if freed:
            await self._store.mark_freed(freed)
        return len(freed)

    async def act_on_events(self) -> int:
        """Take up events that were stored and then left by a crash."""
        events = await self._store.unprocessed_events()
        for gateway_name, event_id, body in events:
            event = self._gateways[gateway_name].read_event(event_id, body)
            await self._payments.act_on(gateway_name, event)
        return len(events)

    async def ask_payments(self) -> int:
        """Ask gateways about payments they have not told us the end of."""
        waiting = await self._store.payments_to_ask()
        for payment in waiting:
            try:
                await self._payments.ask(payment)
            except errors.GatewayUnavailable as error:
                _log.warning("payment %s stays open: %s", payment.payment_id, error.reason)
        return len(waiting)

    async def confirm_paid(self) -> int:
        """Drive paid orders to their end."""
        waiting = await self._store.paid_unconfirmed(CONFIRM_AFTER_S)
        for order_id in waiting:
            await self._fulfilment.confirm(order_id)
        return len(waiting)

    async def send_refunds(self) -> int:
        """Ask gateways for refunds they have not completed."""
        waiting = await self._store.refunds_to_send()
        for item in waiting:
            try:
                await self._refunds.send(item)
            except errors.GatewayUnavailable as error:
                _log.warning("refund %s stays open: %s", item.refund.refund_id, error.reason)
        return len(waiting)

    async def drop_old_keys(self) -> int:
        """Forget idempotency keys past their time."""
        return await self._store.drop_old_request_keys(limits.idempotency_days)
