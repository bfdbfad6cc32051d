"""The calls of checkout: order, pay, look, give back."""

from __future__ import annotations

from checkout.domain import RequestKey, digest_of
from checkout.payments import PaymentService
from checkout.refunds import RefundService
from checkout.schemas import (
    ClaimingAnswer,
    OrderAnswer,
    OrderItem,
    OrderPage,
    OrderRequest,
    PaymentAnswer,
    PaymentRequest,
    RefundAnswer,
    RefundQuoteAnswer,
    RefundRequest,
    TicketAnswer,
    WebhookAnswer,
    location_of,
    order_bytes,
    payment_bytes,
    read_cursor,
    refund_bytes,
    write_cursor,
)
from checkout.service import OrderService
from checkout.ticket_code import TicketSigner, svg_of
from kernel import limits
from runtime.http import Answer, Call, Operations, PageQuery, accepted, created, ok

_WHILE_AWAY = ("inventory_rebuilding", "seats_unavailable", "persistence_unavailable", "overloaded")
#: Why an order is not given back; a quote says it as the refund would.
_NO_REFUND = (
    "not_found",
    "invalid_state",
    "already_refunded",
    "payment_charged_back",
    "refund_not_allowed",
    "validation_failed",
    "persistence_unavailable",
)


def operations(
    orders: OrderService, payments: PaymentService, refunds: RefundService, signer: TicketSigner
) -> Operations:
    """The operations of this context."""
    operations = Operations(tag="checkout", description="Orders, payments, tickets, refunds.")

    @operations.post(
        "/api/v1/orders",
        summary="Turn a hold into an order",
        description="One order per hold: asking again answers the same order.",
        body=OrderRequest,
        answers={201: OrderAnswer, 202: ClaimingAnswer},
        refuses=("not_found", "hold_expired", "hold_lost", "seat_taken", "too_late", *_WHILE_AWAY),
        auth=True,
        idempotent=True,
    )
    async def place_order(call: Call[OrderRequest]) -> Answer:
        placed = await orders.place(call.account_id, call.body.hold_id, _request_of(call), order_bytes)
        location = location_of(placed.order.order_id)
        if not placed.committed:
            return accepted(
                ClaimingAnswer(order_id=placed.order.order_id, state="claiming"), location=location
            )
        return created(OrderAnswer.of(placed.order), location=location)

    @operations.get(
        "/api/v1/orders",
        summary="Your orders, newest first",
        query=PageQuery,
        answers={200: OrderPage},
        refuses=("invalid_cursor", "persistence_unavailable"),
        auth=True,
    )
    async def list_orders(call: Call[None, PageQuery]) -> Answer:
        size = call.query.page_size
        found = await orders.list(call.account_id, read_cursor(call.query.cursor), size + 1)
        items = [OrderItem.of(order, created_at) for order, created_at in found[:size]]
        more = len(found) > size
        cursor = write_cursor(found[size - 1][1], found[size - 1][0].order_id) if more else None
        return ok(OrderPage(data=items, next_cursor=cursor))

    @operations.get(
        "/api/v1/orders/{order_id}",
        summary="One of your orders",
        answers={200: OrderAnswer},
        refuses=("not_found", "hold_expired", "hold_lost", *_WHILE_AWAY),
        auth=True,
    )
    async def get_order(call: Call) -> Answer:
        return ok(OrderAnswer.of(await orders.find(call.account_id, call.path_id("ord"))))

    @operations.post(
        "/api/v1/orders/{order_id}/payments",
        summary="Pay an order",
        body=PaymentRequest,
        answers={201: PaymentAnswer},
        refuses=(
            "not_found",
            "unknown_gateway",
            "already_paid",
            "order_expired",
            "invalid_state",
            "too_many_payments",
            "gateway_unavailable",
            "persistence_unavailable",
        ),
        auth=True,
        idempotent=True,
    )
    async def open_payment(call: Call[PaymentRequest]) -> Answer:
        order_id, asked = call.path_id("ord"), call.body
        payment = await payments.open(
            call.account_id, order_id, asked.gateway, asked.return_url, _request_of(call), payment_bytes
        )
        return created(PaymentAnswer.of(payment), location=location_of(order_id))

    @operations.post(
        "/api/v1/webhooks/{gateway}",
        summary="A gateway tells how a payment or refund went",
        body=bytes,
        answers={200: WebhookAnswer},
        refuses=(
            "unknown_gateway",
            "webhook_signature_invalid",
            "webhook_timestamp_invalid",
            "persistence_unavailable",
        ),
        body_bytes_max=limits.webhook_body_bytes_max,
    )
    async def receive_webhook(call: Call[bytes]) -> Answer:
        await payments.receive(call.path["gateway"], call.headers, call.body)
        return ok(WebhookAnswer())

    @operations.post(
        "/api/v1/orders/{order_id}/refund-quotes",
        summary="What a refund would bring back",
        body=RefundRequest,
        answers={200: RefundQuoteAnswer},
        refuses=_NO_REFUND,
        auth=True,
        body_optional=True,
    )
    async def quote_refund(call: Call[RefundRequest]) -> Answer:
        quote = await refunds.quote(call.account_id, call.path_id("ord"), call.body.ticket_ids)
        return ok(RefundQuoteAnswer.of(quote))

    @operations.post(
        "/api/v1/orders/{order_id}/refunds",
        summary="Give an order back",
        body=RefundRequest,
        answers={202: RefundAnswer},
        refuses=_NO_REFUND,
        auth=True,
        idempotent=True,
        body_optional=True,
    )
    async def request_refund(call: Call[RefundRequest]) -> Answer:
        order_id = call.path_id("ord")
        refund = await refunds.request(
            call.account_id, order_id, call.body.ticket_ids, _request_of(call), refund_bytes
        )
        return accepted(RefundAnswer.of(refund), location=location_of(order_id))

    @operations.get(
        "/api/v1/tickets/{ticket_id}",
        summary="One of your tickets",
        answers={200: TicketAnswer},
        refuses=("not_found", "persistence_unavailable"),
        auth=True,
    )
    async def get_ticket(call: Call) -> Answer:
        ticket = await orders.find_ticket(call.account_id, call.path_id("tkt"))
        return ok(TicketAnswer.of(ticket, signer.code_of(ticket)))

    @operations.get(
        "/api/v1/tickets/{ticket_id}/code.svg",
        summary="The ticket's code as a QR picture",
        answers={200: bytes},
        refuses=("not_found", "persistence_unavailable"),
        auth=True,
        media_type="image/svg+xml",
    )
    async def get_ticket_code(call: Call) -> Answer:
        ticket = await orders.find_ticket(call.account_id, call.path_id("tkt"))
        return ok(svg_of(signer.code_of(ticket)))

    return operations


def _request_of(call: Call[OrderRequest] | Call[PaymentRequest] | Call[RefundRequest]) -> RequestKey:
    repeat = call.idempotency
    return RequestKey(call.account_id, digest_of(repeat.key), repeat.fingerprint.hex())
