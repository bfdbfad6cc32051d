"""The sandbox's own refusals: a company of its own has codes of its own.

They are written as RFC 9457 problem documents. None of them is known to the shop's code table; the
adapter in `checkout.gateways.sandbox` reads the few it cares about.
"""

from __future__ import annotations

from typing import ClassVar

import orjson
from aiohttp import web

CONTENT_TYPE = "application/problem+json"


class Problem(Exception):
    """Something was refused; the docstring is the sentence, `code` the stable word."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad_request"

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail
        super().__init__(detail or self.code)

    def response(self) -> web.Response:
        """The refusal as an HTTP answer."""
        title = (type(self).__doc__ or self.code).strip().splitlines()[0]
        response = problem(self.status, self.code, title, self.detail)
        if self.status == 503:
            response.headers["Retry-After"] = "1"
        if self.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response


def problem(status: int, code: str, title: str, detail: str | None = None) -> web.Response:
    """A problem document."""
    document = {
        "type": f"urn:seatrush:sandbox-gateway:{code.replace('_', '-')}",
        "title": title,
        "status": status,
        "code": code,
    }
    if detail:
        document["detail"] = detail
    return web.Response(
        status=status,
        body=orjson.dumps(document),
        content_type=CONTENT_TYPE,
        headers={"Cache-Control": "no-store"},
    )


class BadRequest(Problem):
    """The request is not well-formed."""


class MalformedJson(Problem):
    """The body is not JSON."""

    code = "malformed_json"


class InvalidCursor(Problem):
    """The cursor is not one these books gave out."""

    code = "invalid_cursor"


class IdempotencyKeyMissing(Problem):
    """This call needs an Idempotency-Key header."""

    code = "idempotency_key_missing"


class IdempotencyKeyInvalid(Problem):
    """The Idempotency-Key is one header of 1 to 64 printable characters."""

    code = "idempotency_key_invalid"


class NotAuthenticated(Problem):
    """Send the shared secret as a bearer token."""

    status, code = 401, "not_authenticated"


class PaymentNotFound(Problem):
    """There is no such payment."""

    status, code = 404, "payment_not_found"


class RequestTimeout(Problem):
    """The body took too long to arrive."""

    status, code = 408, "request_timeout"


class SessionExpired(Problem):
    """The time to pay is over; only the outcome `late` still works."""

    status, code = 409, "session_expired"


class PaymentNotCaptured(Problem):
    """A payment that was not captured cannot be refunded."""

    status, code = 409, "payment_not_captured"


class PaymentChargedBack(Problem):
    """A bank has taken this payment back; there is nothing to refund."""

    status, code = 409, "payment_charged_back"


class PaymentNotChargedBack(Problem):
    """No bank ever took this payment back."""

    status, code = 409, "payment_not_charged_back"


class NothingToChargeBack(Problem):
    """All of this payment was given back."""

    status, code = 409, "nothing_to_charge_back"


class RefundExceedsCaptured(Problem):
    """All refunds together would exceed what was captured."""

    status, code = 409, "refund_exceeds_captured"


class CurrencyMismatch(Problem):
    """A refund has the currency of its payment."""

    status, code = 409, "currency_mismatch"


class IdempotencyKeyReused(Problem):
    """This Idempotency-Key came with other content before."""

    status, code = 422, "idempotency_key_reused"


class ValidationFailed(Problem):
    """A field is not acceptable."""

    status, code = 422, "validation_failed"


class BooksUnavailable(Problem):
    """The books cannot be written now; nothing was done."""

    status, code = 503, "books_unavailable"
