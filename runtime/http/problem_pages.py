"""A page for every refusal: what it means and what to do about it.

The `type` of a problem document is a link, and somebody follows it at the worst moment of a sale. The
page says in plain words whether waiting helps and what to try next. Title, status and nature come from
the table of codes; the advice stands here, by code where there is more to say than by status.
"""

from __future__ import annotations

from html import escape
from typing import Final

from kernel import limits
from kernel.codes import CODES, Code

_BY_STATUS: Final = {
    400: "Correct the request before sending it again; unchanged, it will be refused again.",
    401: "Sign in with POST /api/v1/sessions and send the token as `Authorization: Bearer …`.",
    403: "Use an account that may do this.",
    404: "Check the address and the id. What belongs to somebody else is answered in the same way.",
    409: "Read the current state, and decide again with it.",
    410: "It is over; start again from the seat map.",
    413: f"Send less: a body of at most {limits.body_bytes_max // 1024} KiB.",
    415: "Send the body as `Content-Type: application/json`, in UTF-8 and not compressed.",
    422: "Correct the fields named in `errors` and send the request again.",
    429: "Wait as long as `Retry-After` says, then go on more slowly.",
    500: "Tell us the `request_id`. If money was involved, ask for the order's state before repeating.",
    503: "Wait as long as `Retry-After` says and send the same request again, with the same "
    "Idempotency-Key if it had one. Nothing that was confirmed is lost.",
}
_BY_CODE: Final = {
    "engines_unsafe": "Nothing is lost, and nothing new is taken until the operators have mended a setting; "
    "`checks` names it.",
    "malformed_json": "Send one JSON document in UTF-8: no byte order mark, nothing after it, no NaN or "
    f"Infinity, and not nested deeper than {limits.json_depth_max} levels.",
    "duplicate_key": "Name each field of an object once.",
    "duplicate_parameter": "Give each query parameter once.",
    "invalid_cursor": "Cursors are opaque: send `next_cursor` back exactly as it came, or start without one.",
    "idempotency_key_missing": "Send an `Idempotency-Key` header: a fresh random value, such as a UUID, for "
    "each intent, and the same one again for each retry of it.",
    "idempotency_key_invalid": "Send one `Idempotency-Key` header of 1 to 64 printable ASCII characters "
    "without spaces.",
    "idempotency_key_reused": "Use a fresh key for a new request. Repeat the earlier one unchanged.",
    "request_in_progress": "The first request with this key has not finished. Wait as long as `Retry-After` "
    "says and repeat; you will get its answer.",
    "invalid_credentials": "Check login and password. Which of the two is wrong is not said.",
    "webhook_signature_invalid": "Sign the exact bytes of the body with the shared secret.",
    "webhook_timestamp_invalid": "Check the sender's clock.",
    "entry_pass_required": "Take a place in the waiting room; its `entry_pass` goes into the `Entry-Pass` "
    "header.",
    "method_not_allowed": "The `Allow` header names the methods this address answers.",
    "not_acceptable": "Send no `Accept` header, or one that leaves room for what this call answers in.",
    "request_timeout": "Send the request again; the network may have been slow.",
    "seat_taken": "`conflicts` names the seats somebody else has, `alternatives` names seats like them that "
    "were free a moment ago.",
    "sold_out": "Seats come back when holds expire or tickets are returned: watch the seat map, or look at "
    "another showtime.",
    "orphan_seat": "Choose so that no single seat is left alone; `alternatives` has such a choice.",
    "seat_limit_exceeded": "Hold fewer seats. Holds, unpaid orders and tickets count together.",
    "sale_not_open": "Come back when the sale opens; `opens_at` says when, where it is known.",
    "hold_expired": "The seats are free again. Hold them again, if nobody else was faster.",
    "hold_lost": "After a fault this hold could not be kept. Nothing was charged; choose again.",
    "already_paid": "Nothing is left to do: read the order.",
    "too_many_payments": f"An order may be tried to be paid {limits.payments_per_order_max} times. Pay on a "
    "page that was opened before: the order names its payments.",
    "uri_too_long": "Send long values in a body, not in the address.",
    "headers_too_large": "Send fewer and shorter headers; cookies are the usual cause.",
    "unknown_field": "Leave out the fields named in `errors`. Callers never set prices or states.",
    "card_data_refused": "Leave the number out; cards are only ever given to the payment gateway. The fields "
    "that have one are in `errors`, and nothing of what was sent was kept.",
    "too_many_seats": f"Make several holds of at most {limits.seats_per_hold_max} seats.",
}


def advice(code: Code) -> str:
    """What to do, in one or two sentences."""
    return _BY_CODE.get(code.name) or _BY_STATUS.get(code.http_status, _BY_STATUS[400])


def index_page() -> str:
    """All refusals in one table."""
    rows = "\n".join(
        f'<tr><td><a href="/docs/problems/{code.slug}"><code>{code.name}</code></a></td>'
        f"<td>{code.http_status}</td><td>{_nature(code)}</td><td>{escape(code.title)}</td></tr>"
        for code in CODES.values()
    )
    return page(
        "Problems",
        f"""<h1>Problems</h1>
<p>Every error is an <code>application/problem+json</code> document (RFC 9457). Its <code>code</code> is
stable; branch on it. Its <code>title</code> and <code>detail</code> may be reworded.</p>
<div class="scroll"><table>
<thead><tr><th scope="col">Code</th><th scope="col">Status</th><th scope="col">Nature</th>
<th scope="col">Meaning</th></tr></thead>
<tbody>
{rows}
</tbody></table></div>""",
    )


def problem_page(code: Code) -> str:
    """One refusal."""
    return page(
        code.name,
        f"""<p class="quiet"><a href="/docs/problems">All problems</a></p>
<h1>{escape(code.title)}</h1>
<dl class="facts">
<dt>Code</dt><dd><code>{code.name}</code></dd>
<dt>Status</dt><dd>{code.http_status}</dd>
<dt>Nature</dt><dd>{_nature(code)}</dd>
</dl>
<h2>What to do</h2>
<p>{_marked_up(advice(code))}</p>
<p class="quiet">When you ask us about it, name the <code>request_id</code> of the answer.</p>""",
    )


def page(title: str, body: str) -> str:
    """A page of the documentation."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} · SeatRush API</title>
<link rel="stylesheet" href="/docs/assets/docs.css">
</head>
<body>
{TOP}
<main class="page" id="content">
{body}
</main>
</body>
</html>
"""


#: The head of every page.
TOP: Final = """<a class="skip" href="#content">Skip to the content</a>
<header class="top"><strong>SeatRush API</strong>
<nav aria-label="Documentation"><a href="/docs">Operations</a> · <a href="/docs/problems">Problems</a> ·
<a href="/openapi.json">openapi.json</a></nav></header>"""


def _nature(code: Code) -> str:
    if code.transient:
        return '<span class="transient">transient</span>: the same request may succeed later'
    return '<span class="final">final</span>: the same request will be refused again'


def _marked_up(text: str) -> str:
    """Escaped text whose `backticks` are code."""
    parts = [escape(part) for part in text.split("`")]
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
