"""One base for every refusal.

A refusal is a class named after its code; the docstring is its message and the fields are the facts
a caller needs. Contexts declare theirs in `<context>/errors.py`; the translation to HTTP happens once,
in `runtime.http.problems`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from kernel.codes import CODES, Code


class Facts(dict[str, Any]):
    """What a caller is told beside the code, by name. Not to be changed once it was told.

    `encoded` is for whoever writes them down: thousands are refused for the same reason.
    """

    __slots__ = ("encoded",)

    def __init__(self, facts: Mapping[str, Any]) -> None:
        super().__init__(facts)
        self.encoded: bytes | None = None


_NO_FACTS: Final = Facts({})


class SeatRushError(Exception):
    """Something was refused.

    `facts` are added to the problem document (JSON-ready values only); `retry_after_s` becomes the
    `Retry-After` header.
    """

    code: ClassVar[Code] = CODES["internal_error"]
    #: The message of the class; thousands a second are refused with it.
    sentence: ClassVar[str] = "Something was refused."

    def __init__(
        self, detail: str | None = None, *, retry_after_s: float | None = None, **facts: Any
    ) -> None:
        self.detail = detail or self.sentence
        self.facts = Facts(facts) if facts else _NO_FACTS
        self.retry_after_s = retry_after_s
        super().__init__(self.detail)

    def __init_subclass__(cls, *, code: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if code:
            cls.code = CODES[code]
        cls.sentence = (cls.__doc__ or cls.code.title).strip().splitlines()[0]


class NotFound(SeatRushError, code="not_found"):
    """There is nothing here."""


class NotAuthenticated(SeatRushError, code="not_authenticated"):
    """A valid access token is needed."""


class Forbidden(SeatRushError, code="forbidden"):
    """This account may not do that."""


class ValidationFailed(SeatRushError, code="validation_failed"):
    """At least one field is not acceptable.

    `errors` lists every problem as `{"pointer": "/seats/0", "code": "…", "detail": "…"}`.
    """

    def __init__(self, errors: list[dict[str, str]], detail: str | None = None) -> None:
        super().__init__(detail, errors=errors)


class RequestInProgress(SeatRushError, code="request_in_progress"):
    """The same request is still running."""


class IdempotencyKeyReused(SeatRushError, code="idempotency_key_reused"):
    """This Idempotency-Key came with another request before."""


class InvalidCursor(SeatRushError, code="invalid_cursor"):
    """The page cursor is not one this service gave out."""


class InventoryRebuilding(SeatRushError, code="inventory_rebuilding"):
    """Seat maps are being rebuilt; nothing is lost."""


class SeatsUnavailable(SeatRushError, code="seats_unavailable"):
    """The seat store does not answer."""


class TooLate(SeatsUnavailable, code="too_late"):
    """The seat store came to this too late; nothing was changed."""


class PersistenceUnavailable(SeatRushError, code="persistence_unavailable"):
    """The order store does not answer."""


class Overloaded(SeatRushError, code="overloaded"):
    """The service is at its limit."""


class EnginesUnsafe(SeatRushError, code="engines_unsafe"):
    """The stores below are not set up to keep a promise."""
