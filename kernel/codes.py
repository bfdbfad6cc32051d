"""Every status a caller can meet, said once as the sentence the box office would say.

Lua answers with these words, Python raises the error of that name, HTTP carries them as `code`, the
web shows a text for them. A code never changes its meaning; `title` may be reworded. `transient`
says whether the same request, repeated unchanged, could succeed later.

The published page of a code is `/docs/problems/<slug>`, the slug being the code with hyphens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Code:
    """One refusal: its stable name, HTTP status, title, and whether waiting can help."""

    name: str
    http_status: int
    title: str
    transient: bool = False

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-")


_TABLE: Final = (
    # What is wrong with the message itself.
    Code("malformed_json", 400, "The body is not JSON this service can read."),
    Code("duplicate_key", 400, "The body names the same field twice."),
    Code("bad_request", 400, "The request is not well-formed HTTP."),
    Code("duplicate_parameter", 400, "A parameter that may stand once stands several times."),
    Code("invalid_cursor", 400, "The page cursor is not one this service gave out."),
    Code("idempotency_key_missing", 400, "This call needs an Idempotency-Key header."),
    Code("idempotency_key_invalid", 400, "The Idempotency-Key is not 1 to 64 printable characters."),
    # Who is asking.
    Code("not_authenticated", 401, "A valid access token is needed."),
    Code("invalid_credentials", 401, "Login and password do not fit together."),
    Code("webhook_signature_invalid", 401, "The webhook's signature is not valid."),
    Code("webhook_timestamp_invalid", 401, "The webhook's timestamp is too far from now."),
    Code("forbidden", 403, "This account may not do that."),
    Code("entry_pass_required", 403, "This sale has a waiting room; come in through it."),
    # Where it is asked.
    Code("not_found", 404, "There is nothing here."),
    Code("method_not_allowed", 405, "This address does not answer that method."),
    Code("not_acceptable", 406, "This service answers in JSON."),
    Code("request_timeout", 408, "The request took too long to arrive.", transient=True),
    # What the seats say.
    Code("seat_taken", 409, "Somebody else has at least one of these seats.", transient=True),
    Code("sold_out", 409, "No seat that fits is left.", transient=True),
    Code("orphan_seat", 409, "This choice would leave a single seat alone.", transient=True),
    Code("seat_limit_exceeded", 409, "That is more seats than one buyer may have here."),
    Code("sale_not_open", 409, "Seats of this showtime are not on sale yet.", transient=True),
    Code("sale_closed", 409, "Seats of this showtime are no longer on sale."),
    Code("hold_lost", 409, "The hold was lost in a recovery; choose again."),
    Code("hold_not_extendable", 409, "This hold cannot be kept any longer."),
    Code("hold_claimed", 409, "This hold has become an order."),
    Code("hold_expired", 410, "The hold has expired."),
    Code("seat_not_blocked", 409, "At least one of these seats is not blocked."),
    # What orders and money say.
    Code("invalid_state", 409, "The order is not in a state that allows this."),
    Code("already_paid", 409, "This order is paid already."),
    Code("too_many_payments", 409, "This order was tried to be paid too often."),
    Code("refund_not_allowed", 409, "This order can no longer be refunded."),
    Code("already_refunded", 409, "This order is refunded already."),
    Code("payment_charged_back", 409, "The bank has taken this payment back; it cannot be refunded."),
    Code("order_expired", 410, "The time to pay for this order is over."),
    # Accounts.
    Code("account_exists", 409, "There is an account with this login."),
    # Repeats.
    Code("request_in_progress", 409, "The same request is still running.", transient=True),
    Code("idempotency_key_reused", 422, "This Idempotency-Key came with another request before."),
    # What the content says.
    Code("payload_too_large", 413, "The body is larger than this service accepts."),
    Code("uri_too_long", 414, "The address is too long."),
    Code("unsupported_media_type", 415, "Send application/json."),
    Code("headers_too_large", 431, "The headers are larger than this service accepts."),
    Code("validation_failed", 422, "At least one field is not acceptable."),
    Code("unknown_field", 422, "The body has a field this call does not know."),
    Code("card_data_refused", 422, "A card number stands in a field that is not for one."),
    Code("unknown_seat", 422, "At least one of these seats is not in this layout."),
    Code("duplicate_seat", 422, "A seat is named twice."),
    Code("too_many_seats", 422, "That is more seats than one hold may have."),
    Code("unknown_area", 422, "There is no such area in this layout."),
    Code("unknown_gateway", 422, "There is no such payment gateway."),
    # What the service says of itself.
    Code("rate_limited", 429, "Too many requests; slow down.", transient=True),
    Code("internal_error", 500, "Something went wrong on our side."),
    Code("inventory_rebuilding", 503, "Seat maps are being rebuilt; nothing is lost.", transient=True),
    Code("seats_unavailable", 503, "The seat store does not answer.", transient=True),
    Code("too_late", 503, "The seat store came to this too late; nothing was changed.", transient=True),
    Code("persistence_unavailable", 503, "The order store does not answer.", transient=True),
    Code("engines_unsafe", 503, "The stores are not set up to keep a promise.", transient=True),
    Code("gateway_unavailable", 503, "The payment gateway does not answer.", transient=True),
    Code("overloaded", 503, "The service is at its limit.", transient=True),
)

CODES: Final[dict[str, Code]] = {code.name: code for code in _TABLE}
assert len(CODES) == len(_TABLE), "a code stands twice in the table"

#: Words Lua answers with when nothing is refused. They never leave the seat engine.
OUTCOMES: Final = frozenset(
    {
        "opened",
        "already_open",
        "held",
        "already_held",
        "holds_overdue",
        "extended",
        "released",
        "claimed",
        "already_claimed",
        "confirmed",
        "already_confirmed",
        "returned",
        "nothing_to_return",
        "blocked",
        "blocked_seats",
        "unblocked",
        "swept",
        "map",
        "hold",
        "restore_begun",
        "records_added",
        "restored",
        "epoch_current",
        "partition_opened",
        "partition_shut",
        "showtime_shut",
        "begun",
        "repeated",
    }
)
