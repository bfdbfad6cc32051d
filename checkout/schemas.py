"""What callers send to checkout and get from it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from checkout.domain import Order, OrderState, Payment, Refund, RefundLine, Ticket
from checkout.refunds import RefundQuote
from kernel.errors import InvalidCursor
from kernel.ids import is_id
from runtime.http import Instant, Model, MoneyModel, Page, Record, instant

OrderStates = Literal["claiming", "pending_payment", "paid", "confirmed", "cancelled", "expired", "refunded"]


Disputed = Annotated[
    bool, Meta(description="What it was paid with is disputed at a bank; the cinema decides at the door.")
]


class OrderRequest(Model):
    """Turn a hold into an order."""

    EXAMPLE: ClassVar[Mapping[str, Any] | None] = {"hold_id": "hld_0123456789abcdefghjkmnpqrs"}

    hold_id: Annotated[str, Meta(min_length=1, max_length=64)]


class PaymentRequest(Model):
    """Pay an order through a gateway."""

    EXAMPLE: ClassVar[Mapping[str, Any] | None] = {"gateway": "sandbox"}

    gateway: Annotated[str, Meta(min_length=1, max_length=40)]
    return_url: (
        Annotated[
            str,
            Meta(
                max_length=2_000,
                pattern=r"^https?://[A-Za-z0-9.:\[\]-]+([/?#][!-~]*)?$",
                description="Where the gateway sends the fan afterwards: a web address without a user.",
            ),
        ]
        | None
    ) = None


class RefundRequest(Model):
    """All tickets of the order, named or not."""

    ticket_ids: (
        Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=100)] | None
    ) = None


class OrderLineAnswer(Record):
    """One seat of an order."""

    kind: Literal["seat"] = "seat"
    seat: str
    area_id: str
    amount: MoneyModel


class PaymentTest(Record):
    """Where a program pays in a sandbox."""

    method: str
    url: str


class PaymentNext(Record):
    """Where a person pays."""

    type: Literal["redirect"] = "redirect"
    url: str
    test: PaymentTest | None = None


class PaymentAnswer(Record):
    """One attempt to pay."""

    payment_id: str
    order_id: str
    gateway: str
    state: str
    charged_back: Annotated[bool, Meta(description="A bank has taken the money back, and has it now.")]
    amount: MoneyModel
    next: PaymentNext | None

    @classmethod
    def of(cls, payment: Payment) -> PaymentAnswer:
        test = PaymentTest(method="POST", url=payment.test_url) if payment.test_url else None
        return cls(
            payment_id=payment.payment_id,
            order_id=payment.order_id,
            gateway=payment.gateway,
            state=payment.state,
            charged_back=payment.charged_back,
            amount=MoneyModel.of(payment.amount),
            next=PaymentNext(url=payment.redirect_url, test=test) if payment.redirect_url else None,
        )


class TicketOfOrder(Record):
    """A ticket as its order lists it."""

    ticket_id: str
    seat: str
    state: str
    disputed: Disputed


class RefundLineAnswer(Record):
    """What comes back for one ticket."""

    ticket_id: str
    amount: MoneyModel

    @classmethod
    def of(cls, line: RefundLine, currency: str) -> RefundLineAnswer:
        return cls(ticket_id=line.ticket_id, amount=MoneyModel(amount=line.amount, currency=currency))


class RefundAnswer(Record):
    """Money going back."""

    refund_id: str
    order_id: str
    state: str
    reason: str
    total: MoneyModel
    lines: list[RefundLineAnswer]

    @classmethod
    def of(cls, refund: Refund) -> RefundAnswer:
        return cls(
            refund_id=refund.refund_id,
            order_id=refund.order_id,
            state=refund.state,
            reason=refund.reason,
            total=MoneyModel.of(refund.amount),
            lines=[RefundLineAnswer.of(line, refund.amount.currency) for line in refund.lines],
        )


class RefundQuoteAnswer(Record):
    """What a refund would bring back now, exactly."""

    order_id: str
    total: MoneyModel
    lines: list[RefundLineAnswer]

    @classmethod
    def of(cls, quote: RefundQuote) -> RefundQuoteAnswer:
        return cls(
            order_id=quote.order.order_id,
            total=MoneyModel.of(quote.amount),
            lines=[RefundLineAnswer.of(line, quote.amount.currency) for line in quote.lines],
        )


class OrderAnswer(Record):
    """An order, whole. `claiming` is shown while its claim is on the way to PostgreSQL."""

    order_id: str
    showtime_id: str
    state: OrderStates
    lines: list[OrderLineAnswer]
    total: MoneyModel
    pay_by: Instant
    payments: list[PaymentAnswer]
    tickets: list[TicketOfOrder]
    refunds: list[RefundAnswer]
    end_reason: str | None = None

    @classmethod
    def of(cls, order: Order) -> OrderAnswer:
        currency = order.total.currency
        return cls(
            order_id=order.order_id,
            showtime_id=order.showtime_id,
            state=order.state,
            lines=[
                OrderLineAnswer(
                    seat=line.label,
                    area_id=line.area_id,
                    amount=MoneyModel(amount=line.amount, currency=currency),
                )
                for line in order.lines
            ],
            total=MoneyModel.of(order.total),
            pay_by=instant(order.pay_by),
            payments=[PaymentAnswer.of(payment) for payment in order.payments],
            tickets=[
                TicketOfOrder(
                    ticket_id=ticket.ticket_id,
                    seat=ticket.label,
                    state=ticket.state,
                    disputed=ticket.disputed,
                )
                for ticket in order.tickets
            ],
            refunds=[RefundAnswer.of(refund) for refund in order.refunds],
            end_reason=order.end_reason,
        )


class OrderItem(Record):
    """An order in a list: everything but its lines."""

    order_id: str
    showtime_id: str
    state: OrderStates
    total: MoneyModel
    pay_by: Instant
    payments: list[PaymentAnswer]
    tickets: list[TicketOfOrder]
    refunds: list[RefundAnswer]
    end_reason: str | None
    created_at: Instant

    @classmethod
    def of(cls, order: Order, created_at: datetime) -> OrderItem:
        whole = OrderAnswer.of(order)
        return cls(
            order_id=whole.order_id,
            showtime_id=whole.showtime_id,
            state=whole.state,
            total=whole.total,
            pay_by=whole.pay_by,
            payments=whole.payments,
            tickets=whole.tickets,
            refunds=whole.refunds,
            end_reason=whole.end_reason,
            created_at=instant(created_at),
        )


class OrderPage(Page[OrderItem]):
    """One page of your orders."""


class ClaimingAnswer(Record):
    """The order is on its way to PostgreSQL; ask at `Location`."""

    order_id: str
    state: OrderState


class TicketAnswer(Record):
    """The right to one seat, with the code a gate reads."""

    ticket_id: str
    order_id: str
    showtime_id: str
    seat: str
    state: str
    disputed: Disputed
    code: str

    @classmethod
    def of(cls, ticket: Ticket, code: str) -> TicketAnswer:
        return cls(
            ticket_id=ticket.ticket_id,
            order_id=ticket.order_id,
            showtime_id=ticket.showtime_id,
            seat=ticket.label,
            state=ticket.state,
            disputed=ticket.disputed,
            code=code,
        )


class WebhookAnswer(Record):
    """The event is kept."""

    received: bool = True


class _Named(msgspec.Struct):
    """What every answer that is kept says."""

    order_id: str


_encode = msgspec.json.encode
_read_name: Final = msgspec.json.Decoder(_Named).decode
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def location_of(order_id: str) -> str:
    """Where an order is looked at: whatever was done about it is answered with this `Location`."""
    return f"/api/v1/orders/{order_id}"


def location_in(answer: bytes) -> str:
    """The `Location` of an answer that was kept."""
    return location_of(_read_name(answer).order_id)


def order_bytes(order: Order) -> bytes:
    """The answer of `POST /orders`, as it is kept for a repeat: an order, or that it is on its way."""
    if order.state == "claiming":
        return _encode(ClaimingAnswer(order_id=order.order_id, state="claiming"))
    return _encode(OrderAnswer.of(order))


def payment_bytes(payment: Payment) -> bytes:
    """The answer of `POST /orders/{id}/payments`, as it is kept for a repeat."""
    return _encode(PaymentAnswer.of(payment))


def refund_bytes(refund: Refund) -> bytes:
    """The answer of `POST /orders/{id}/refunds`, as it is kept for a repeat."""
    return _encode(RefundAnswer.of(refund))


def write_cursor(created_at: datetime, order_id: str) -> str:
    """Where the next page of orders begins, to the microsecond: orders of one batch share their instant."""
    micros = (created_at - _BEGINNING) // _MICROSECOND
    return base64.urlsafe_b64encode(f"{micros}:{order_id}".encode()).decode().rstrip("=")


def read_cursor(cursor: str | None) -> tuple[datetime, str] | None:
    """The inverse of `write_cursor`, and of nothing else. Raises InvalidCursor."""
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        micros, _, order_id = base64.urlsafe_b64decode(padded.encode("ascii")).decode().partition(":")
        place = _BEGINNING + int(micros) * _MICROSECOND, order_id
    except (ValueError, OverflowError):
        raise InvalidCursor() from None
    if not is_id(order_id, "ord") or write_cursor(*place) != cursor:
        raise InvalidCursor()
    return place
