"""What the plumbing itself refuses, before or instead of a handler.

Each class is one code of `kernel.codes`. Beyond what every refusal has, these may carry headers the
answer needs (`Allow` on a 405) and may end the connection: after half a body there is nothing left on
it that could be trusted to be the next request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from kernel.errors import SeatRushError, ValidationFailed


class HttpRefusal(SeatRushError):
    """The request was refused before it reached a handler."""

    closes_connection: ClassVar[bool] = False
    headers: Mapping[str, str] = {}


class BadRequest(HttpRefusal, code="bad_request"):
    """The request is not well-formed HTTP."""

    closes_connection = True


class RequestTimeout(HttpRefusal, code="request_timeout"):
    """The request took too long to arrive."""

    closes_connection = True


class PayloadTooLarge(HttpRefusal, code="payload_too_large"):
    """The body is larger than this service accepts."""

    closes_connection = True


class UriTooLong(HttpRefusal, code="uri_too_long"):
    """The address is too long."""

    closes_connection = True


class HeadersTooLarge(HttpRefusal, code="headers_too_large"):
    """The headers are larger than this service accepts."""

    closes_connection = True


class MethodNotAllowed(HttpRefusal, code="method_not_allowed"):
    """This address does not answer that method."""

    def __init__(self, allow: str) -> None:
        super().__init__()
        self.headers = {"Allow": allow}


class NotAcceptable(HttpRefusal, code="not_acceptable"):
    """The Accept header leaves out what this call answers in."""


class UnsupportedMediaType(HttpRefusal, code="unsupported_media_type"):
    """Send application/json, in UTF-8 and not compressed."""


class MalformedJson(HttpRefusal, code="malformed_json"):
    """The body is not JSON this service can read."""


class DuplicateKey(HttpRefusal, code="duplicate_key"):
    """The body names the same field twice."""


class DuplicateParameter(HttpRefusal, code="duplicate_parameter"):
    """A parameter that may stand once stands several times."""


class UnknownField(ValidationFailed, code="unknown_field"):
    """The body has a field this call does not know."""


class IdempotencyKeyMissing(HttpRefusal, code="idempotency_key_missing"):
    """This call needs an Idempotency-Key header."""


class IdempotencyKeyInvalid(HttpRefusal, code="idempotency_key_invalid"):
    """The Idempotency-Key is not one header of 1 to 64 printable characters."""


class InternalError(SeatRushError, code="internal_error"):
    """Something went wrong on our side. It has been recorded under this request id."""
