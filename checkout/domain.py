"""Orders, payments, refunds and tickets as plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from kernel.money import Money

OrderState = Literal["claiming", "pending_payment", "paid", "confirmed", "cancelled", "expired", "refunded"]


@dataclass(frozen=True, slots=True)
class RequestKey:
    """The idempotency key of a request, with the fingerprint of what was asked; `key` is its digest."""

    account_id: str
    key: str
    fingerprint: str


def digest_of(key: str) -> str:
    """What an idempotency key is called where it is kept: 24 hexadecimal digits.

    Keys are the callers' own words, up to 255 characters that may say anything about anybody, and the claim
    of an order takes its key through Redis and its files.
    """
    return hashlib.blake2b(key.encode(), digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class OrderLine:
    """One seat of an order with its frozen price."""

    seat_index: int
    label: str
    area_id: str
    amount: int


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to one seat."""

    ticket_id: str
    order_id: str
    account_id: str
    showtime_id: str
    seat_index: int
    label: str
    state: str
    disputed: bool


@dataclass(frozen=True, slots=True)
class Payment:
    """One attempt to pay. `charged_back`: a bank has taken the money back, and has it now."""

    payment_id: str
    order_id: str
    gateway: str
    state: str
    amount: Money
    gateway_ref: str | None
    redirect_url: str | None
    test_url: str | None
    charged_back: bool = False


@dataclass(frozen=True, slots=True)
class RefundLine:
    """What comes back for one ticket."""

    ticket_id: str
    amount: int


@dataclass(frozen=True, slots=True)
class Refund:
    """Money going back."""

    refund_id: str
    order_id: str
    payment_id: str
    state: str
    reason: str
    amount: Money
    lines: tuple[RefundLine, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """An order with everything its owner may see."""

    order_id: str
    showtime_id: str
    account_id: str
    state: OrderState
    total: Money
    pay_by: datetime
    lines: tuple[OrderLine, ...] = ()
    payments: tuple[Payment, ...] = ()
    tickets: tuple[Ticket, ...] = ()
    refunds: tuple[Refund, ...] = ()
    end_reason: str | None = None


def is_disputed(payments: Iterable[Payment], refunds: Iterable[Refund]) -> bool:
    """Whether a bank has taken back what an order's tickets were paid with.

    Money that has to go back because it was too much, or for seats that were gone, never paid for them.
    """
    not_for_tickets = {refund.payment_id for refund in refunds if refund.reason != "asked"}
    return any(one.charged_back and one.payment_id not in not_for_tickets for one in payments)


def refund_id_of(payment_id: str) -> str:
    """The refund of a payment, whoever asks for it, why and how often, and whatever was forgotten meanwhile.

    It is the gateway's idempotency key, so a payment goes back once.
    """
    material = f"refund {payment_id}"
    return f"ref_{hashlib.sha256(material.encode()).hexdigest()[:26]}"
