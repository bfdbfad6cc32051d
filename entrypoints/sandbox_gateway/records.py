"""What stands in the books, as Python objects, and what may be asked to be written there.

Requests are checked here field by field, before anybody touches the books: every text has an alphabet
and a length, every number a range, unknown fields are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from kernel.clock import from_ms, rfc3339, to_ms

AMOUNT_MAX: Final = 10**11  # ninety million such payments still fit SQLite's integers

_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}\Z")]
_Amount = Annotated[int, msgspec.Meta(ge=1, le=AMOUNT_MAX)]
_Currency = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}\Z")]
_Link = Annotated[str, msgspec.Meta(pattern=r"^https?://[!-~]{1,2000}\Z")]
_Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class NewPayment(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The body of `POST /v1/payments`."""

    reference: _Name
    order_id: _Name
    amount: _Amount
    currency: _Currency
    expires_at: _Instant
    return_url: _Link | None = None


class NewRefund(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The body of `POST /v1/refunds`."""

    reference: _Name
    payment: _Name
    amount: _Amount
    currency: _Currency


@dataclass(frozen=True, slots=True)
class Payment:
    """One session.

    `planned`: somebody paid, and the capture comes later. `charged_back`: a bank has the money now.
    """

    gateway_ref: str
    reference: str
    order_id: str
    amount: int
    currency: str
    return_url: str | None
    expires_at_ms: int
    state: str
    refunded: int
    created_at_ms: int
    settled_at_ms: int | None
    planned: bool
    charged_back: bool

    def state_at(self, now_ms: int) -> str:
        """The state people are told: a session nobody paid in time is `expired`."""
        if self.state == "pending" and not self.planned and self.expires_at_ms <= now_ms:
            return "expired"
        return self.state

    def document(self, now_ms: int, base_url: str) -> dict[str, Any]:
        """As the interface shows it."""
        return {
            "gateway_ref": self.gateway_ref,
            "reference": self.reference,
            "order_id": self.order_id,
            "amount": self.amount,
            "currency": self.currency,
            "refunded": self.refunded,
            "charged_back": bool(self.charged_back),
            "state": self.state_at(now_ms),
            "created_at": _instant(self.created_at_ms),
            "settled_at": _instant(self.settled_at_ms),
            "expires_at": _instant(self.expires_at_ms),
            "return_url": self.return_url,
            "pay_url": f"{base_url}/pay/{self.gateway_ref}",
            "test_url": f"{base_url}/test/payments/{self.gateway_ref}",
        }

    def news(self) -> dict[str, Any]:
        """The `data` of its webhooks."""
        return {
            "gateway_ref": self.gateway_ref,
            "reference": self.reference,
            "order_id": self.order_id,
            "amount": self.amount,
            "currency": self.currency,
        }


@dataclass(frozen=True, slots=True)
class Refund:
    """One refund of a payment."""

    gateway_ref: str
    reference: str
    payment: str
    amount: int
    currency: str
    state: str
    created_at_ms: int
    settled_at_ms: int | None

    def document(self) -> dict[str, Any]:
        """As the interface shows it."""
        return {
            **self.news(),
            "state": self.state,
            "created_at": _instant(self.created_at_ms),
            "settled_at": _instant(self.settled_at_ms),
        }

    def news(self) -> dict[str, Any]:
        """The `data` of its webhooks."""
        return {
            "gateway_ref": self.gateway_ref,
            "reference": self.reference,
            "payment": self.payment,
            "amount": self.amount,
            "currency": self.currency,
        }


@dataclass(frozen=True, slots=True)
class Chargeback:
    """A bank took what was left of a payment: `charged_back`, or `reversed` when the shop has it again."""

    gateway_ref: str
    payment: Payment
    amount: int
    state: str

    @property
    def reference(self) -> str:
        """Nobody asked for it, so it has no other name."""
        return self.gateway_ref

    @property
    def currency(self) -> str:
        """That of its payment."""
        return self.payment.currency

    def document(self) -> dict[str, Any]:
        """As the interface shows it."""
        return {**self.news(), "state": self.state}

    def news(self) -> dict[str, Any]:
        """The `data` of its webhooks: of which payment, and which chargeback of that."""
        return {**self.payment.news(), "amount": self.amount, "chargeback": self.gateway_ref}


@dataclass(frozen=True, slots=True)
class Event:
    """One webhook on its way; `copies` go out at once. `due_ms` None: it waits for another one."""

    event_id: str
    body: bytes
    copies: int
    due_ms: int | None


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of the book, with the sums over all of it."""

    entries: list[dict[str, Any]]
    totals: list[dict[str, Any]]
    webhooks_waiting: int
    next_number: int | None


def expiry_ms(instant: datetime) -> int:
    """The instant in milliseconds, kept within what every part of this program can print."""
    return min(max(to_ms(instant), 0), 253_402_300_000_000)


def _instant(instant_ms: int | None) -> str | None:
    return None if instant_ms is None else rfc3339(from_ms(instant_ms))
