"""Completers: small jobs that finish whatever a crash, a lost message or a slow gateway left half done.

Each is idempotent, each takes its work with `FOR UPDATE SKIP LOCKED` or repeats harmlessly, and the age
of its oldest open item (`CheckoutStore.oldest_open`) is the real health signal. Freeing seats follows the
rule of doubt: PostgreSQL gives them up first, Redis puts them on sale second.

Four of them judge: they end claims, free seats, drive sales to an end, send money back. A PostgreSQL that
was set back knows nothing of what was paid and returned since, and who judges by it ends what was sold. So
these work for one server by name, when it has everything (`reconciliation/wholeness.py`), and every statement
they begin with says which: not even who had looked before it was exchanged judges by the next one.

What is late by PostgreSQL's clock ends only where ours agrees. A clock that leaps is found out within half a
minute, and nothing is sold on it then; but by now every buyer's claim would have ended, and his seats be
somebody else's. A second clock can only delay: one that is slow keeps unpaid seats from sale, and
`claims_overdue` says so.

What cannot be done keeps nobody waiting: jobs go on tours through what is open (`checkout/tours.py`). A
server of seats that does not answer is asked once a partition and round, or its two hundred orders would
each wait for a deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from checkout.forgetting import ForgettingStore
from checkout.fulfilment import Fulfilment
from checkout.payments import PaymentService
from checkout.ports import Gateway
from checkout.reconciliation import Wholeness
from checkout.refunds import RefundService
from checkout.rows import OrderToFree, OrderToSell, StoredEvent
from checkout.store import AT_A_TIME, CheckoutStore
from checkout.tours import Tour
from kernel import limits
from kernel.clock import Clock
from kernel.errors import InventoryRebuilding, SeatRushError, SeatsUnavailable
from kernel.ids import hold_id_of, partition_of, showtime_of
from reservation import ReturnableState, SeatInventory

INTERVAL_S: Final = 0.5
CONFIRM_AFTER_S: Final = 3.0  # a sale is usually back from the log within milliseconds
CONFIRM_PAUSE_S_MAX: Final = 60.0
PATIENT_MAX: Final = 8_000  # sales waited for at once: more would only make the logs longer
HOUSEKEEPING_S: Final = 3_600.0
AT_ONCE_MAX: Final = 8  # items of one job under way: a slow gateway is asked about several payments

#: In which state the seats of an order that gave them up may still be found in Redis.
_RETURNABLE: Final[dict[str, frozenset[ReturnableState]]] = {
    "expired": frozenset({"claimed"}),
    "cancelled": frozenset({"claimed", "sold"}),
    "confirmed": frozenset({"claimed", "sold"}),  # claimed: a rebuild came before the sale was written
    "refunded": frozenset({"claimed", "sold"}),
}

T = TypeVar("T")
WaitingOrder = TypeVar("WaitingOrder", OrderToFree, OrderToSell)

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
        wholeness: Wholeness,
        forgetting: ForgettingStore,
        clock: Clock,
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._gateways = gateways
        self._payments = payments
        self._refunds = refunds
        self._fulfilment = fulfilment
        self._wholeness = wholeness
        self._forgetting = forgetting
        self._clock = clock
        #: Paid orders whose sale was put on the log here: when it may be again, and the pause after that.
        self._sold: dict[str, tuple[float, float]] = {}
        self._freeing, self._acting, self._confirming = Tour(), Tour(), Tour()

    async def run(self) -> None:
        """Every job on its own, until cancelled: a gateway that hangs keeps no seat from sale."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self._wholeness.look, INTERVAL_S))
            for job in (
                self.expire_orders,
                self.free_seats,
                self.act_on_events,
                self.ask_payments,
                self.ask_failed_payments,
                self.confirm_paid,
                self.send_refunds,
            ):
                group.create_task(self._repeat(job, INTERVAL_S))
            group.create_task(self._repeat(self.drop_old_keys, HOUSEKEEPING_S))

    async def _repeat(self, job: Callable[[], Awaitable[object]], interval_s: float) -> None:
        while True:
            await self._attempt(job.__name__, job())
            await asyncio.sleep(interval_s)

    async def _attempt(self, what: str, work: Awaitable[object]) -> bool:
        """One trouble is not another's: it is logged, and tried again next round."""
        try:
            await work
            return True
        except SeatRushError as error:
            _log.warning("%s waits: %s", what, getattr(error, "reason", error))
        except Exception:  # noqa: BLE001 (a bug met by one item must not stop the others)
            _log.exception("%s failed", what)
        return False

    async def _each(self, items: Sequence[T], name: str, work: Callable[[T], Awaitable[object]]) -> list[T]:
        """Take up items side by side; answers those that went well."""
        slots = asyncio.Semaphore(AT_ONCE_MAX)

        async def take_up(item: T) -> bool:
            async with slots:
                return await self._attempt(name, work(item))

        went_well = await asyncio.gather(*map(take_up, items))
        return [item for item, well in zip(items, went_well, strict=True) if well]

    async def _each_order(
        self, items: Sequence[WaitingOrder], name: str, work: Callable[[WaitingOrder], Awaitable[object]]
    ) -> list[WaitingOrder]:
        """Take up orders, but none of a partition whose server has just not answered for another."""
        away: set[int] = set()

        async def unless_away(item: WaitingOrder) -> None:
            partition = partition_of(showtime_of(item.order_id))
            if partition in away:
                raise SeatsUnavailable
            try:
                await work(item)
            except SeatsUnavailable:
                away.add(partition)
                raise

        return await self._each(items, name, unless_away)

    async def run_once(self) -> dict[str, int]:
        """Every job once; answers how many items each took up, which is none where nobody is to judge."""
        return {
            "orders_expired": await self.expire_orders(),
            "seats_freed": await self.free_seats(),
            "events_acted_on": await self.act_on_events(),
            "payments_asked": await self.ask_payments() + await self.ask_failed_payments(),
            "orders_confirmed": await self.confirm_paid(),
            "refunds_sent": await self.send_refunds(),
        }

    async def expire_orders(self) -> int:
        """End claims past their deadline."""
        return len(await self._store.expire_orders(self._wholeness.server, self._at_latest()))

    async def free_seats(self) -> int:
        """Put given-up seats back on sale."""
        after = self._freeing.after
        given_up = await self._store.orders_to_free(self._wholeness.server, after, AT_A_TIME)
        self._freeing.met([order.place for order in given_up], AT_A_TIME)
        freed = await self._each_order(given_up, "free_seats", self._free)
        if freed:
            await self._store.mark_freed(freed)
        return len(freed)

    async def _free(self, order: OrderToFree) -> None:
        assert order.state in _RETURNABLE, "no other state gives seats up"
        try:
            await self._inventory.return_seats(
                hold_id_of(order.order_id), states=_RETURNABLE[order.state], keep=order.keep
            )
        except InventoryRebuilding:
            if not await self._fulfilment.is_forgotten(order.order_id):
                raise  # where nobody sells any more, nobody can hold what was given up

    async def act_on_events(self) -> int:
        """Take up events that were stored and then left by a crash."""
        events = await self._store.unprocessed_events(self._acting.after, AT_A_TIME)
        self._acting.met([event.place for event in events], AT_A_TIME)
        await self._each(events, "act_on_events", self._act_on)
        return len(events)

    async def _act_on(self, stored: StoredEvent) -> None:
        event = self._gateways[stored.gateway].read_event(stored.event_id, stored.body)
        await self._payments.act_on(stored.gateway, event)

    async def ask_payments(self) -> int:
        """Ask gateways about payments they have not told us the end of."""
        waiting = await self._store.payments_to_ask()
        await self._each(waiting, "ask_payments", self._payments.ask)
        return len(waiting)

    async def ask_failed_payments(self) -> int:
        """Ask gateways about payments that failed, which a second card may have mended.

        A job of its own: who was told whom to ask has to ask them, whatever becomes of the next look.
        """
        waiting = await self._store.failed_payments_to_ask()
        await self._each(waiting, "ask_failed_payments", self._payments.ask)
        return len(waiting)

    async def confirm_paid(self) -> int:
        """Drive paid orders to their end.

        A sale that is on the log is there until it is written, unless the server lost it: while the order
        writer is away, an order's sale is put there again after pauses that grow to a minute.
        """
        now_s = asyncio.get_running_loop().time()
        self._sold = {one: when for one, when in self._sold.items() if now_s < when[0] + CONFIRM_PAUSE_S_MAX}
        patient = [order_id for order_id, (again_at_s, _) in self._sold.items() if now_s < again_at_s]
        if len(patient) >= PATIENT_MAX:
            return 0
        waiting = await self._store.paid_unconfirmed(
            CONFIRM_AFTER_S, patient, self._wholeness.server, self._confirming.after, AT_A_TIME
        )
        self._confirming.met([order.place for order in waiting], AT_A_TIME)
        for order in await self._each_order(waiting, "confirm_paid", self._confirm):
            _, pause_s = self._sold.get(order.order_id, (0.0, CONFIRM_AFTER_S))
            self._sold[order.order_id] = now_s + pause_s, min(2 * pause_s, CONFIRM_PAUSE_S_MAX)
        return len(waiting)

    async def _confirm(self, order: OrderToSell) -> None:
        await self._fulfilment.confirm(order.order_id)

    async def send_refunds(self) -> int:
        """Ask gateways for refunds they have not completed."""
        waiting = await self._store.refunds_to_send(self._wholeness.server)
        await self._each(waiting, "send_refunds", self._refunds.send)
        return len(waiting)

    async def drop_old_keys(self) -> None:
        """Forget idempotency keys past their time, and what claims were held against then."""
        at_latest = self._at_latest()
        fences = self._forgetting.drop_old_fences(limits.idempotency_days, at_latest)
        await self._attempt("drop_old_fences", fences)
        await self._attempt("drop_old_request_keys", self._drop_request_keys(at_latest))

    async def _drop_request_keys(self, at_latest: datetime) -> None:
        """In slices, each for good: a day's worth at once may take longer than a statement is given."""
        dropped = at_a_time = limits.forgotten_at_a_time_max
        while dropped == at_a_time:
            words = (limits.idempotency_days, at_latest, at_a_time)
            dropped = await self._forgetting.drop_old_request_keys(*words)

    def _at_latest(self) -> datetime:
        """The latest it can be, if our clock and PostgreSQL's are as close as they must be."""
        return self._clock.now() + timedelta(milliseconds=limits.clock_skew_ms_max)
