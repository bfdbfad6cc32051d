"""What checkout refuses.

Each class is one code of `kernel.codes`; its docstring is the message people read. What a gateway did
wrong is never told to the fan: `GatewayUnavailable.reason` is for our logs and stays out of the facts.
"""

from __future__ import annotations

from kernel.errors import SeatRushError


class WebhookSignatureInvalid(SeatRushError, code="webhook_signature_invalid"):
    """The webhook's signature is not valid."""


class WebhookTimestampInvalid(SeatRushError, code="webhook_timestamp_invalid"):
    """The webhook's timestamp is too far from now."""


class UnknownGateway(SeatRushError, code="unknown_gateway"):
    """There is no such payment gateway."""


class GatewayUnavailable(SeatRushError, code="gateway_unavailable"):
    """The payment gateway does not answer.

    Raised when nothing is known and repeating the same call is safe; `reason` says what we saw, for logs.
    """

    def __init__(self, reason: str = "", *, retry_after_s: float = 2.0) -> None:
        super().__init__(retry_after_s=retry_after_s)
        self.reason = reason


class InvalidState(SeatRushError, code="invalid_state"):
    """The order is not in a state that allows this."""


class AlreadyPaid(SeatRushError, code="already_paid"):
    """This order is paid already."""


class OrderExpired(SeatRushError, code="order_expired"):
    """The time to pay for this order is over."""


class TooManyPayments(SeatRushError, code="too_many_payments"):
    """This order was tried to be paid too often."""


class RefundNotAllowed(SeatRushError, code="refund_not_allowed"):
    """This order can no longer be refunded."""


class AlreadyRefunded(SeatRushError, code="already_refunded"):
    """This order is refunded already."""


class PaymentChargedBack(SeatRushError, code="payment_charged_back"):
    """The bank has taken this payment back; it cannot be refunded."""


class SeatTaken(SeatRushError, code="seat_taken"):
    """Somebody else owns at least one of these seats; the claim was refused."""
