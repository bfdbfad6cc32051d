"""What checkout's statements answer, as values: one row, one value.

An order comes whole in one row. What belongs to it (lines, tickets, payments, refunds) is in JSON arrays of
columns: one look instead of four, and no name is sent again for every line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from checkout.domain import Order, OrderLine, Payment, Refund, RefundLine, Ticket, is_disputed
from checkout.tours import Place
from kernel.money import Money
from runtime.postgres import Record


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What a request answered before."""

    fingerprint: str
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class LockedOrder:
    """An order inside a transaction, which began `now` by PostgreSQL's clock."""

    order_id: str
    showtime_id: str
    account_id: str
    state: str
    total: Money
    pay_by: datetime
    now: datetime

    @property
    def overdue(self) -> bool:
        """Whether its deadline is over."""
        return self.now >= self.pay_by


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

    @property
    def place(self) -> Place:
        """Where it stands among those that wait."""
        return self.given_up_at, self.order_id


@dataclass(frozen=True, slots=True)
class OrderToSell:
    """A paid order whose sale is not written."""

    order_id: str
    paid_at: datetime

    @property
    def place(self) -> Place:
        """Where it stands among those that wait."""
        return self.paid_at, self.order_id


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A gateway's word that was kept and not acted on."""

    gateway: str
    event_id: str
    body: bytes
    received_at: datetime

    @property
    def place(self) -> Place:
        """Where it stands among those that wait."""
        return self.received_at, f"{self.gateway} {self.event_id}"


@dataclass(frozen=True, slots=True)
class PayableOrder:
    """What an order asks for; `now` is PostgreSQL's, which judges deadlines."""

    total: Money
    pay_by: datetime
    now: datetime


@dataclass(frozen=True, slots=True)
class PaidOrder:
    """An order that was paid this instant; nobody has confirmed it yet."""

    order_id: str
    showtime_id: str
    account_id: str
    pay_by: datetime


@dataclass(frozen=True, slots=True)
class Capture:
    """A gateway says that it captured a payment: `reference` is our id of it, `gateway_ref` the gateway's."""

    gateway: str
    event_id: str
    body: bytes
    reference: str
    gateway_ref: str
    amount: Money


def payment_of(row: Record) -> Payment:
    return Payment(
        payment_id=row["payment_id"],
        order_id=row["order_id"],
        gateway=row["gateway"],
        state=row["state"],
        amount=Money(row["amount"], row["currency"]),
        gateway_ref=row["gateway_ref"],
        redirect_url=row["redirect_url"],
        test_url=row["test_url"],
        charged_back=row["charged_back"],
    )


def refund_of(row: Record) -> Refund:
    """A refund without its lines."""
    return Refund(
        refund_id=row["refund_id"],
        order_id=row["order_id"],
        payment_id=row["payment_id"],
        state=row["state"],
        reason=row["reason"],
        amount=Money(row["amount"], row["currency"]),
        lines=(),
    )


def locked_order_of(row: Record) -> LockedOrder:
    return LockedOrder(
        order_id=row["order_id"],
        showtime_id=row["showtime_id"],
        account_id=row["account_id"],
        state=row["state"],
        total=Money(row["total"], row["currency"]),
        pay_by=row["pay_by"],
        now=row["now"],
    )


def order_of(row: Record, lines: Sequence[Any] = ()) -> Order:
    """A whole order; a page of orders comes without `lines`."""
    order_id, showtime_id, account_id = row["order_id"], row["showtime_id"], row["account_id"]
    payments = tuple(
        Payment(payment_id, order_id, gateway, state, Money(amount, currency), *where)
        for payment_id, gateway, state, amount, currency, *where in row["payments"] or ()
    )
    refunds = tuple(
        Refund(
            refund_id,
            order_id,
            payment_id,
            state,
            reason,
            Money(amount, currency),
            tuple(RefundLine(*line) for line in lines or ()),
        )
        for refund_id, payment_id, state, reason, amount, currency, lines in row["refunds"] or ()
    )
    disputed = is_disputed(payments, refunds)
    return Order(
        order_id=order_id,
        showtime_id=showtime_id,
        account_id=account_id,
        state=row["state"],
        total=Money(row["total"], row["currency"]),
        pay_by=row["pay_by"],
        lines=tuple(OrderLine(*line) for line in lines),
        payments=payments,
        tickets=tuple(
            Ticket(ticket_id, order_id, account_id, showtime_id, seat_index, label, state, disputed)
            for ticket_id, seat_index, label, state in row["tickets"] or ()
        ),
        refunds=refunds,
        end_reason=row["end_reason"],
    )
