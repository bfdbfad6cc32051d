"""What PostgreSQL knows of orders and money, statement by statement.

Methods that must stand together take the connection of a transaction (`transaction()`); the others
borrow one for themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from checkout.domain import Order, OrderLine, Payment, Refund, RefundLine, RequestKey, Ticket
from kernel.clock import to_ms
from kernel.ids import hold_id_of
from kernel.money import Money
from reservation import Possession
from runtime.postgres import Connection, Database, Record, rows_changed
from runtime.queries import load_queries

_SQL = load_queries(__file__)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What a request answered before."""

    fingerprint: str
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class LockedOrder:
    """An order inside a transaction; `overdue` is PostgreSQL's judgement of its deadline."""

    order_id: str
    showtime_id: str
    account_id: str
    state: str
    total: Money
    pay_by: datetime
    overdue: bool


@dataclass(frozen=True, slots=True)
class RefundToSend:
    """A refund the gateway has not completed; an old one may have lost its key there."""

    refund: Refund
    gateway: str
    gateway_ref: str
    is_old: bool


@dataclass(frozen=True, slots=True)
class OrderToFree:
    """An order whose seats Redis still has to put back on sale, except what others own by now."""

    order_id: str
    state: str
    given_up_at: datetime
    keep: tuple[int, ...]


def _payment(row: Record) -> Payment:
    return Payment(
        payment_id=row["payment_id"],
        order_id=row["order_id"],
        gateway=row["gateway"],
        state=row["state"],
        amount=Money(row["amount"], row["currency"]),
        gateway_ref=row["gateway_ref"],
        redirect_url=row["redirect_url"],
        test_url=row["test_url"],
    )


def _refund(row: Record, lines: Sequence[Any] = ()) -> Refund:
    return Refund(
        refund_id=row["refund_id"],
        order_id=row["order_id"],
        payment_id=row["payment_id"],
        state=row["state"],
        reason=row["reason"],
        amount=Money(row["amount"], row["currency"]),
        lines=tuple(RefundLine(ticket_id, amount) for ticket_id, amount in lines),
    )


def _order(row: Record) -> Order:
    return Order(
        order_id=row["order_id"],
        showtime_id=row["showtime_id"],
        account_id=row["account_id"],
        state=row["state"],
        total=Money(row["total"], row["currency"]),
        pay_by=row["pay_by"],
        end_reason=row["end_reason"],
    )


class CheckoutStore:
    """The checkout schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """One transaction on one connection."""
        return self._database.transaction()

    # Orders, as their owners see them.

    async def find_order(self, order_id: str) -> Order | None:
        """One order with lines, tickets, payments and refunds."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_SQL["find_order"], order_id)
            if row is None:
                return None
            order = replace(_order(row), lines=tuple(OrderLine(*line) for line in row["lines"]))
            return (await self._with_records(connection, [order]))[0]

    async def list_orders(
        self, account_id: str, before: tuple[datetime, str] | None, limit: int
    ) -> list[tuple[Order, datetime]]:
        """A page of orders without their lines, newest first, each with its instant."""
        instant, order_id = before or (datetime(9999, 1, 1, tzinfo=UTC), "")
        async with self._database.connection() as connection:
            rows = await connection.fetch(_SQL["list_orders"], account_id, instant, order_id, limit)
            orders = await self._with_records(connection, [_order(row) for row in rows])
        return [(order, row["created_at"]) for order, row in zip(orders, rows, strict=True)]

    async def _with_records(self, connection: Connection, orders: Sequence[Order]) -> list[Order]:
        """The orders with their tickets, payments and refunds: three statements for any number."""
        order_ids = [order.order_id for order in orders]
        if not order_ids:
            return []
        tickets = [
            Ticket(**dict(row)) for row in await connection.fetch(_SQL["tickets_of_orders"], order_ids)
        ]
        payments = [_payment(row) for row in await connection.fetch(_SQL["payments_of"], order_ids)]
        refunds = [
            _refund(row, row["lines"]) for row in await connection.fetch(_SQL["refunds_of"], order_ids)
        ]
        return [
            replace(
                order,
                tickets=tuple(item for item in tickets if item.order_id == order.order_id),
                payments=tuple(item for item in payments if item.order_id == order.order_id),
                refunds=tuple(item for item in refunds if item.order_id == order.order_id),
            )
            for order in orders
        ]

    async def find_ticket(self, ticket_id: str) -> Ticket | None:
        row = await self._database.fetchrow(_SQL["find_ticket"], ticket_id)
        return None if row is None else Ticket(**dict(row))

    async def order_states(self, order_ids: Sequence[str]) -> dict[str, str]:
        """State by order id, for those that exist."""
        rows = await self._database.fetch(_SQL["order_states"], list(order_ids))
        return {row["order_id"]: row["state"] for row in rows}

    async def lock_order(self, connection: Connection, order_id: str) -> LockedOrder | None:
        row = await connection.fetchrow(_SQL["lock_order"], order_id)
        if row is None:
            return None
        total = Money(row["total"], row["currency"])
        return LockedOrder(
            row["order_id"],
            row["showtime_id"],
            row["account_id"],
            row["state"],
            total,
            row["pay_by"],
            row["overdue"],
        )

    # Repeated requests.

    async def find_request_key(self, account_id: str, key: str) -> StoredAnswer | None:
        row = await self._database.fetchrow(_SQL["find_request_key"], account_id, key)
        return None if row is None else StoredAnswer(row["fingerprint"], row["status"], row["body"])

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

    async def drop_old_request_keys(self, days: int) -> int:
        return rows_changed(await self._database.execute(_SQL["drop_old_request_keys"], days))

    # Payments.

    async def add_payment(
        self, connection: Connection, payment_id: str, order_id: str, gateway: str, amount: Money
    ) -> None:
        await connection.execute(
            _SQL["add_payment"], payment_id, order_id, gateway, amount.amount, amount.currency
        )

    async def open_payment(
        self,
        connection: Connection,
        payment_id: str,
        gateway_ref: str,
        redirect_url: str,
        test_url: str | None,
    ) -> None:
        await connection.execute(_SQL["open_payment"], payment_id, gateway_ref, redirect_url, test_url)

    async def find_payment(self, payment_id: str) -> Payment | None:
        row = await self._database.fetchrow(_SQL["find_payment"], payment_id)
        return None if row is None else _payment(row)

    async def lock_payment(self, connection: Connection, payment_id: str) -> Payment | None:
        row = await connection.fetchrow(_SQL["lock_payment"], payment_id)
        return None if row is None else _payment(row)

    async def capture_payment(self, connection: Connection, payment_id: str, gateway_ref: str) -> bool:
        """Money arrived. False when it had arrived before."""
        tag = await connection.execute(_SQL["capture_payment"], payment_id, gateway_ref)
        return rows_changed(tag) == 1

    async def fail_payment(self, connection: Connection, payment_id: str) -> bool:
        return rows_changed(await connection.execute(_SQL["fail_payment"], payment_id)) == 1

    async def doubt_payment(self, connection: Connection, payment_id: str) -> None:
        """What the gateway says of this payment cannot be: a person has to look."""
        await connection.execute(_SQL["doubt_payment"], payment_id)

    async def payments_to_ask(self) -> list[Payment]:
        """Payments whose gateway may know more than we do."""
        rows = await self._database.fetch(_SQL["payments_to_ask"])
        rows += await self._database.fetch(_SQL["failed_payments_to_ask"])
        return [_payment(row) for row in rows]

    async def captured_payments(self, connection: Connection, order_id: str) -> list[Payment]:
        """What the order was paid with and nobody has asked back yet."""
        rows = await connection.fetch(_SQL["captured_payments"], order_id)
        return [_payment(row) for row in rows]

    # Gateway events.

    async def record_event(self, gateway: str, event_id: str, kind: str, body: bytes) -> bool:
        """Keep a gateway's word. False when we have it already."""
        row = await self._database.fetchrow(_SQL["record_event"], gateway, event_id, kind, body)
        return row is not None

    async def lock_event(self, connection: Connection, gateway: str, event_id: str) -> bool:
        """Whether the event is unprocessed and ours to work on now."""
        return await connection.fetchrow(_SQL["lock_event"], gateway, event_id) is not None

    async def close_event(self, connection: Connection, gateway: str, event_id: str, outcome: str) -> None:
        await connection.execute(_SQL["close_event"], gateway, event_id, outcome)

    async def unprocessed_events(self) -> list[tuple[str, str, bytes]]:
        rows = await self._database.fetch(_SQL["unprocessed_events"])
        return [(row["gateway"], row["event_id"], row["body"]) for row in rows]

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

    async def find_refund(self, refund_id: str) -> Refund | None:
        row = await self._database.fetchrow(_SQL["find_refund"], refund_id)
        return None if row is None else _refund(row)

    async def lock_refund(self, connection: Connection, refund_id: str) -> tuple[Refund, str] | None:
        """A refund and its gateway's name."""
        row = await connection.fetchrow(_SQL["lock_refund"], refund_id)
        return None if row is None else (_refund(row), row["gateway"])

    async def move_refund(self, connection: Connection, refund_id: str, state: str) -> bool:
        return rows_changed(await connection.execute(_SQL["move_refund"], refund_id, state)) == 1

    async def mark_refunded(self, connection: Connection, order_id: str) -> bool:
        return rows_changed(await connection.execute(_SQL["mark_refunded"], order_id)) == 1

    async def refunds_to_send(self) -> list[RefundToSend]:
        rows = await self._database.fetch(_SQL["refunds_to_send"])
        return [RefundToSend(_refund(row), row["gateway"], row["gateway_ref"], row["is_old"]) for row in rows]

    # Completers.

    async def expire_orders(self) -> list[str]:
        """End claims past their deadline; answers their ids."""
        return [row["order_id"] for row in await self._database.fetch(_SQL["expire_orders"])]

    async def orders_to_free(self) -> list[OrderToFree]:
        rows = await self._database.fetch(_SQL["orders_to_free"])
        return [
            OrderToFree(row["order_id"], row["state"], row["seats_given_up_at"], tuple(row["keep"]))
            for row in rows
        ]

    async def mark_freed(self, orders: Sequence[OrderToFree]) -> None:
        """Redis has put these seats on sale; an order that gave up seats again since then stays open."""
        await self._database.execute(
            _SQL["mark_freed"], [order.order_id for order in orders], [order.given_up_at for order in orders]
        )

    async def paid_unconfirmed(self, older_than_s: float) -> list[str]:
        rows = await self._database.fetch(_SQL["paid_unconfirmed"], older_than_s)
        return [row["order_id"] for row in rows]

    async def oldest_open(self) -> dict[str, float]:
        """Age in seconds of the oldest open item of each kind; 0 where nothing is open."""
        rows = await self._database.fetch(_SQL["oldest_open"])
        return {row["kind"]: max(0.0, row["age_s"] or 0.0) for row in rows}

    # Rebuild.

    async def owners(self) -> list[Possession]:
        """Everybody who owns seats."""
        rows = await self._database.fetch(_SQL["owners"])
        return [
            Possession(
                showtime_id=row["showtime_id"],
                hold_id=hold_id_of(row["order_id"]),
                buyer_id=row["account_id"],
                state="sold" if row["sold"] else "claimed",
                pay_by_ms=to_ms(row["pay_by"]),
                seats=tuple(row["seats"]),
            )
            for row in rows
        ]

    async def known_orders(self, order_ids: Sequence[str]) -> set[str]:
        rows = await self._database.fetch(_SQL["known_orders"], list(order_ids))
        return {row["order_id"] for row in rows}

    async def positions(self) -> dict[int, str]:
        """How far PostgreSQL has each partition's log."""
        rows = await self._database.fetch(_SQL["positions"])
        return {row["partition"]: row["log_id"] for row in rows}
