"""What PostgreSQL knows of orders and money, statement by statement.

Methods that must stand together take the connection of a transaction (`transaction()`); the others are one
statement, which is its own transaction. What every buyer asks for (an order, a request's key, the plain steps
of a payment) is gathered: all who come at the same time share a statement (`runtime.gathering`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Final

from checkout.domain import Order, Payment, Refund, RequestKey, Ticket
from checkout.rows import (
    Capture,
    LockedOrder,
    OrderToFree,
    OrderToSell,
    PaidOrder,
    PayableOrder,
    RefundToSend,
    StoredAnswer,
    StoredEvent,
    locked_order_of,
    order_of,
    payment_of,
    refund_of,
)
from checkout.tours import BEGINNING, Place
from kernel import limits
from kernel.clock import to_ms
from kernel.ids import hold_id_of
from kernel.money import Money
from reservation import Possession
from runtime.gathering import Gathering
from runtime.postgres import Connection, Database, rows_changed
from runtime.queries import load_queries

_SQL = load_queries(__file__)

#: Items of a completer's job in one look.
AT_A_TIME: Final = 200


class CheckoutStore:
    """The checkout schema."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._orders = Gathering(self._find_orders)
        self._request_keys = Gathering(self._find_request_keys)
        self._payments_to_add = Gathering(self._add_payments)
        self._payments_to_open = Gathering(self._open_payments)
        self._captures = Gathering(self._take_captures)

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """One transaction on one connection."""
        return self._database.transaction()

    # Orders, as their owners see them.

    async def find_order(self, order_id: str) -> Order | None:
        """One order with lines, tickets, payments and refunds."""
        return await self._orders(order_id)

    async def _find_orders(self, order_ids: Sequence[str]) -> list[Order | None]:
        rows = await self._database.fetch(_SQL["find_orders"], list(dict.fromkeys(order_ids)))
        orders = {row["order_id"]: order_of(row, row["lines"] or ()) for row in rows}
        return [orders.get(order_id) for order_id in order_ids]

    async def list_orders(
        self, account_id: str, before: tuple[datetime, str] | None, limit: int
    ) -> list[tuple[Order, datetime]]:
        """A page of orders without their lines, newest first, each with its instant."""
        instant, order_id = before or (datetime(9999, 1, 1, tzinfo=UTC), "")
        rows = await self._database.fetch(_SQL["list_orders"], account_id, instant, order_id, limit)
        return [(order_of(row), row["created_at"]) for row in rows]

    async def find_ticket(self, ticket_id: str) -> Ticket | None:
        row = await self._database.fetchrow(_SQL["find_ticket"], ticket_id)
        return None if row is None else Ticket(**dict(row))

    async def order_states(self, order_ids: Sequence[str]) -> dict[str, tuple[str, datetime]]:
        """State and deadline by order id, for those that exist."""
        rows = await self._database.fetch(_SQL["order_states"], list(order_ids))
        return {row["order_id"]: (row["state"], row["pay_by"]) for row in rows}

    async def lock_order(self, connection: Connection, order_id: str) -> LockedOrder | None:
        row = await connection.fetchrow(_SQL["lock_order"], order_id)
        return None if row is None else locked_order_of(row)

    # Repeated requests.

    async def find_request_key(self, account_id: str, key: str) -> StoredAnswer | None:
        return await self._request_keys((account_id, key))

    async def _find_request_keys(self, keys: Sequence[tuple[str, str]]) -> list[StoredAnswer | None]:
        rows = await self._database.fetch(_SQL["find_request_keys"], *_columns(keys))
        answers = {
            (row["account_id"], row["key"]): StoredAnswer(row["fingerprint"], row["status"], row["body"])
            for row in rows
        }
        return [answers.get(key) for key in keys]

    async def keep_request_key(
        self, request: RequestKey, status: int, body: bytes, connection: Connection | None = None
    ) -> None:
        """Remember an answer; the first one stays."""
        execute = self._database.execute if connection is None else connection.execute
        await execute(
            _SQL["insert_request_keys"],
            [request.account_id],
            [request.key],
            [request.fingerprint],
            [status],
            [body],
        )

    # Payments.

    async def add_payment_at_once(
        self, payment_id: str, order_id: str, account_id: str, gateway: str
    ) -> PayableOrder | None:
        """Add an attempt to pay, where that is plain: the order is this account's, waits for its payment, has
        none yet, and nobody has it locked. None in every other case: who locks the order tells them apart.
        """
        return await self._payments_to_add((payment_id, order_id, account_id, gateway))

    async def _add_payments(self, payments: Sequence[tuple[str, ...]]) -> list[PayableOrder | None]:
        rows = await self._database.fetch(_SQL["add_payments"], *_columns(payments))
        payable = {
            row["payment_id"]: PayableOrder(Money(row["total"], row["currency"]), row["pay_by"], row["now"])
            for row in rows
        }
        return [payable.get(payment_id) for payment_id, *_ in payments]

    async def payable_order(self, order_id: str) -> PayableOrder | None:
        """What an order asks for, whether or not it can still be paid."""
        row = await self._database.fetchrow(_SQL["payable_order"], order_id)
        if row is None:
            return None
        return PayableOrder(Money(row["total"], row["currency"]), row["pay_by"], row["now"])

    async def may_add_payment(self, connection: Connection, payment_id: str, order_id: str) -> bool:
        """Whether an order that is locked has this attempt to pay, or room for it."""
        words = (order_id, payment_id, limits.payments_per_order_max)
        return bool(await connection.fetchval(_SQL["may_add_payment"], *words))

    async def add_payment(
        self, connection: Connection, payment_id: str, order_id: str, gateway: str, amount: Money
    ) -> None:
        await connection.execute(
            _SQL["add_payment"], payment_id, order_id, gateway, amount.amount, amount.currency
        )

    async def open_payment(self, payment: Payment, request: RequestKey, answer: bytes) -> None:
        """Keep the gateway's session of an attempt, with what a repeat of its request is answered."""
        await self._payments_to_open((payment, request, answer))

    async def _open_payments(self, opened: Sequence[tuple[Payment, RequestKey, bytes]]) -> list[None]:
        await self._database.execute(
            _SQL["open_payments"],
            *_columns(
                [
                    (
                        payment.payment_id,
                        payment.gateway_ref,
                        payment.redirect_url,
                        payment.test_url,
                        request.account_id,
                        request.key,
                        request.fingerprint,
                        answer,
                    )
                    for payment, request, answer in opened
                ]
            ),
        )
        return [None] * len(opened)

    async def reopen_payment(
        self, payment_id: str, gateway_ref: str, redirect_url: str, test_url: str | None
    ) -> None:
        """Keep the gateway's session of an attempt nobody waits for any more."""
        await self._database.execute(_SQL["reopen_payment"], payment_id, gateway_ref, redirect_url, test_url)

    async def lock_payment(self, connection: Connection, payment_id: str) -> Payment | None:
        row = await connection.fetchrow(_SQL["lock_payment"], payment_id)
        return None if row is None else payment_of(row)

    async def capture_payment(self, connection: Connection, payment_id: str, gateway_ref: str) -> bool:
        """Money arrived. False when it had arrived before."""
        tag = await connection.execute(_SQL["capture_payment"], payment_id, gateway_ref)
        return rows_changed(tag) == 1

    async def fail_payment(self, connection: Connection, payment_id: str, gateway: str) -> bool:
        """No money will come. False when the payment is another gateway's, or it is not for this to say."""
        return rows_changed(await connection.execute(_SQL["fail_payment"], payment_id, gateway)) == 1

    async def fail_forgotten_payment(self, payment_id: str) -> None:
        """The gateway does not have this payment: it has failed, once nobody can pay it any more."""
        await self._database.execute(_SQL["fail_forgotten_payment"], payment_id)

    async def doubt_payment(self, connection: Connection, payment_id: str) -> None:
        """What the gateway says of this payment cannot be: a person has to look."""
        await connection.execute(_SQL["doubt_payment"], payment_id)

    async def payments_to_ask(self) -> list[Payment]:
        """Open payments whose gateway may know more than we do; they count as asked."""
        return [payment_of(row) for row in await self._database.fetch(_SQL["payments_to_ask"])]

    async def failed_payments_to_ask(self) -> list[Payment]:
        """Failed payments that may be tried again where they failed; they count as asked."""
        return [payment_of(row) for row in await self._database.fetch(_SQL["failed_payments_to_ask"])]

    async def captured_payments(self, connection: Connection, order_id: str) -> list[Payment]:
        """What the order was paid with and nobody has asked back yet."""
        rows = await connection.fetch(_SQL["captured_payments"], order_id)
        return [payment_of(row) for row in rows]

    # Gateway events.

    async def take_capture(self, capture: Capture) -> PaidOrder | None:
        """Keep a gateway's word of a capture and act on it, in one transaction, where that is plain: a new
        event, its payment pending and of that sum, its order waiting, and nobody else has either locked.
        None in every other case: the event is kept then, and `lock_event` tells whether it was before.
        """
        return await self._captures(capture)

    async def _take_captures(self, captures: Sequence[Capture]) -> list[PaidOrder | None]:
        told = {(capture.gateway, capture.event_id): capture for capture in captures}
        rows = await self._database.fetch(
            _SQL["take_captures"],
            *_columns(
                [
                    (
                        capture.gateway,
                        capture.event_id,
                        capture.body,
                        capture.reference,
                        capture.gateway_ref,
                        capture.amount.amount,
                        capture.amount.currency,
                    )
                    for capture in told.values()
                ]
            ),
        )
        paid = {
            (row["gateway"], row["event_id"]): PaidOrder(
                row["order_id"], row["showtime_id"], row["account_id"], row["pay_by"]
            )
            for row in rows
        }
        return [paid.get((capture.gateway, capture.event_id)) for capture in captures]

    async def record_event(self, gateway: str, event_id: str, kind: str, body: bytes) -> bool:
        """Keep a gateway's word. False when we have it already."""
        row = await self._database.fetchrow(_SQL["record_event"], gateway, event_id, kind, body)
        return row is not None

    async def lock_event(self, connection: Connection, gateway: str, event_id: str) -> bool:
        """Whether the event is unprocessed and ours to work on now."""
        return await connection.fetchrow(_SQL["lock_event"], gateway, event_id) is not None

    async def close_event(self, connection: Connection, gateway: str, event_id: str, outcome: str) -> None:
        await connection.execute(_SQL["close_event"], gateway, event_id, outcome)

    async def unprocessed_events(
        self, after: Place = BEGINNING, at_a_time: int = AT_A_TIME
    ) -> list[StoredEvent]:
        """Events nobody has acted on, some of them, the oldest first."""
        rows = await self._database.fetch(_SQL["unprocessed_events"], *after, at_a_time)
        return [StoredEvent(row["gateway"], row["event_id"], row["body"], row["received_at"]) for row in rows]

    # Money.

    async def post_entries(
        self,
        connection: Connection,
        transaction_id: str,
        *,
        debit: str,
        credit: str,
        amount: Money,
        order_id: str,
        payment_id: str | None,
    ) -> None:
        """Move an amount from `credit` to `debit`."""
        await connection.execute(
            _SQL["post_entries"],
            transaction_id,
            debit,
            credit,
            amount.amount,
            amount.currency,
            order_id,
            payment_id,
        )

    async def mark_paid(self, connection: Connection, order_id: str) -> bool:
        """Pending or expired → paid. False when the order cannot take the money."""
        return rows_changed(await connection.execute(_SQL["mark_paid"], order_id)) == 1

    async def cancel_paid(self, connection: Connection, order_id: str, reason: str) -> bool:
        changed = rows_changed(await connection.execute(_SQL["cancel_paid"], order_id, reason)) == 1
        await connection.execute(_SQL["release_claims"], [order_id])
        return changed

    # Refunds.

    async def add_refund(self, connection: Connection, refund_id: str, payment: Payment, reason: str) -> bool:
        """A refund of a whole payment. False when there is one."""
        row = await connection.fetchrow(
            _SQL["add_refund"],
            refund_id,
            payment.order_id,
            payment.payment_id,
            reason,
            payment.amount.amount,
            payment.amount.currency,
        )
        return row is not None

    async def give_back_tickets(self, connection: Connection, refund_id: str, order_id: str) -> int:
        """Void the order's tickets, note what each brings back, give up its seats; answers how many."""
        await connection.execute(_SQL["add_refund_lines"], refund_id, order_id)
        voided = rows_changed(await connection.execute(_SQL["void_tickets"], order_id))
        await connection.execute(_SQL["give_up_sold"], order_id)
        return voided

    async def tickets_by_state(self, connection: Connection, order_id: str) -> Counter[str]:
        """How many tickets of an order open a door, have opened it, or do not any more."""
        rows = await connection.fetch(_SQL["tickets_by_state"], order_id)
        return Counter({row["state"]: row["tickets"] for row in rows})

    async def lock_refund(self, connection: Connection, refund_id: str) -> tuple[Refund, str] | None:
        """A refund and its gateway's name."""
        row = await connection.fetchrow(_SQL["lock_refund"], refund_id)
        return None if row is None else (refund_of(row), row["gateway"])

    async def move_refund(self, connection: Connection, refund_id: str, state: str) -> bool:
        return rows_changed(await connection.execute(_SQL["move_refund"], refund_id, state)) == 1

    async def mark_refunded(self, connection: Connection, order_id: str) -> bool:
        return rows_changed(await connection.execute(_SQL["mark_refunded"], order_id)) == 1

    async def refunds_to_send(self, server: str = "") -> list[RefundToSend]:
        """Refunds to ask for now; of this server only, if one is named."""
        rows = await self._database.fetch(_SQL["refunds_to_send"], server)
        return [
            RefundToSend(refund_of(row), row["gateway"], row["gateway_ref"], row["is_old"]) for row in rows
        ]

    # Completers. Those who judge name the server they judge by, or none for any.

    async def expire_orders(self, server: str = "", at_latest: datetime | None = None) -> list[str]:
        """End claims past their deadline; answers their ids.

        PostgreSQL says what time it is, but no later than `at_latest`, if that is given.
        """
        rows = await self._database.fetch(_SQL["expire_orders"], server, at_latest)
        return [row["order_id"] for row in rows]

    async def orders_to_free(
        self, server: str = "", after: Place = BEGINNING, at_a_time: int = AT_A_TIME
    ) -> list[OrderToFree]:
        """Orders whose seats are not back on sale, some of them, the oldest first."""
        rows = await self._database.fetch(_SQL["orders_to_free"], server, *after, at_a_time)
        return [
            OrderToFree(row["order_id"], row["state"], row["seats_given_up_at"], tuple(row["keep"]))
            for row in rows
        ]

    async def mark_freed(self, orders: Sequence[OrderToFree]) -> None:
        """Redis has put these seats on sale; an order that gave up seats again since then stays open."""
        await self._database.execute(
            _SQL["mark_freed"], [order.order_id for order in orders], [order.given_up_at for order in orders]
        )

    async def paid_unconfirmed(
        self,
        older_than_s: float,
        but_not: Sequence[str] = (),
        server: str = "",
        after: Place = BEGINNING,
        at_a_time: int = AT_A_TIME,
    ) -> list[OrderToSell]:
        """Paid orders whose sale has not come back from the log, some of them, the oldest first."""
        words = (older_than_s, list(but_not), server, *after, at_a_time)
        rows = await self._database.fetch(_SQL["paid_unconfirmed"], *words)
        return [OrderToSell(row["order_id"], row["paid_at"]) for row in rows]

    async def oldest_open(self) -> dict[str, float]:
        """Age in seconds of the oldest open item of each kind; 0 where nothing is open."""
        rows = await self._database.fetch(_SQL["oldest_open"])
        return {row["kind"]: max(0.0, row["age_s"] or 0.0) for row in rows}

    # Rebuild.

    async def close_books(self, epochs: Mapping[int, int], awaited: Mapping[str, int]) -> None:
        """From now on no claim of these partitions becomes an order that is older than its partition's epoch.

        Except those awaited, each until the epoch it is named with is over. Waits for batches under way, so
        that whoever looks for owners afterwards sees theirs. Raises PersistenceUnavailable.
        """
        risen = (list(epochs), list(epochs.values()))
        async with self.transaction() as connection:
            await connection.execute(_SQL["raise_fence"], *risen)
            await connection.execute(_SQL["note_fence"], *risen)
            if awaited:
                await connection.execute(_SQL["await_claims"], list(awaited), list(awaited.values()))

    async def owners(self, showtime_ids: Sequence[str]) -> list[Possession]:
        """Everybody who owns seats at some showtimes."""
        rows = await self._database.fetch(_SQL["owners"], list(showtime_ids))
        return [
            Possession(
                showtime_id,
                hold_id_of(order_id),
                account_id,
                "sold" if sold else "claimed",
                to_ms(pay_by),
                tuple(sorted(seats)),
                is_late,
            )
            for showtime_id, order_id, account_id, pay_by, sold, seats, is_late in rows
        ]

    async def known_orders(self, order_ids: Sequence[str]) -> set[str]:
        rows = await self._database.fetch(_SQL["known_orders"], list(order_ids))
        return {row["order_id"] for row in rows}

    async def positions(self) -> dict[int, str]:
        """How far PostgreSQL has each partition's log."""
        return await positions_in(self._database)


async def positions_in(database: Database) -> dict[int, str]:
    """How far this PostgreSQL has each partition's log; asked by those who write it, too."""
    rows = await database.fetch(_SQL["positions"])
    return {row["partition"]: row["log_id"] for row in rows}


def _columns(rows: Sequence[Sequence[object]]) -> list[tuple[object, ...]]:
    """Rows turned into one array a column."""
    return list(zip(*rows, strict=True))
