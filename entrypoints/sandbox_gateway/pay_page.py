"""The page where people pay: what it costs, two buttons, a countdown, and that it is only a play.

Works without scripts; the one small script only makes the remaining time run. It counts down from the
seconds the server named, not from the wall clock of the browser, which may be anywhere. Style and
script are files of their own, so the content policy can forbid everything inline.

After the choice people go back to the shop, but only to addresses on the list this service was
started with: scheme, host and port must be equal and the path must begin like the listed one. Those
origins also stand in `form-action`, because browsers apply it to redirects after a form as well.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import SplitResult, urlsplit

from entrypoints.sandbox_gateway.records import Payment
from kernel.clock import from_ms, rfc3339

_FILES: Final = Path(__file__).parent / "page"
_PAGE: Final = Template((_FILES / "pay.html").read_text("utf-8"))
_PLAIN: Final = Template((_FILES / "plain.html").read_text("utf-8"))
STYLE: Final = (_FILES / "pay.css").read_bytes()
SCRIPT: Final = (_FILES / "pay.js").read_bytes()

#: Currencies whose minor unit is not a hundredth (ISO 4217).
_DIGITS: Final = {"JPY": 0, "KRW": 0, "VND": 0, "CLP": 0, "ISK": 0, "BHD": 3, "KWD": 3, "JOD": 3, "TND": 3}
_PORTS: Final = {"http": 80, "https": 443}

_DONE: Final = {
    "captured": ("Payment approved", "The shop has been told. No money moved: this is a sandbox."),
    "failed": ("Payment declined", "The shop has been told. No money moved: this is a sandbox."),
    "expired": ("Too late to pay", "The time for this payment is over. Go back to the shop and try again."),
    "planned": ("Payment under way", "It will be approved shortly, as was asked for."),
}


class ReturnUrls:
    """The addresses people may be sent back to."""

    def __init__(self, prefixes: Sequence[str]) -> None:
        self._allowed = [urlsplit(prefix) for prefix in prefixes]

    def allowed(self, url: str | None) -> str | None:
        """The address if it is on the list, else None."""
        if url is None or "\\" in url:
            return None
        try:
            wanted = urlsplit(url)
            if wanted.username is not None or wanted.password is not None:
                return None
            on_list = any(
                _origin(wanted) == _origin(listed) and wanted.path.startswith(listed.path)
                for listed in self._allowed
            )
        except ValueError:
            return None
        return url if on_list else None


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def headers(return_url: str | None) -> dict[str, str]:
    """What every HTML answer carries."""
    targets = "'self'"
    if return_url is not None:
        parts = urlsplit(return_url)
        targets += f" {parts.scheme}://{parts.netloc}"
    return {
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'self'; script-src 'self'; form-action {targets};"
            " base-uri 'none'; frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def money_text(amount: int, currency: str) -> str:
    """An amount for people: `CNY 4,990.00`."""
    digits = _DIGITS.get(currency, 2)
    whole, rest = divmod(amount, 10**digits)
    return f"{currency} {whole:,}" + (f".{rest:0{digits}}" if digits else "")


def pay_page(payment: Payment, now_ms: int, return_url: str | None) -> str:
    """The page as it is now: something to choose, or how it ended."""
    state = "planned" if payment.planned else payment.state_at(now_ms)
    open_until_ms = payment.expires_at_ms
    still_open = not payment.planned and payment.state != "captured" and open_until_ms > now_ms
    if still_open:
        facts = {
            "amount": money_text(payment.amount, payment.currency),
            "order_id": payment.order_id,
            "reference": payment.reference,
            "expires_at": rfc3339(from_ms(open_until_ms)),
            "expires_text": from_ms(open_until_ms).strftime("%H:%M:%S UTC"),
            "seconds_left": str((open_until_ms - now_ms) // 1000),
            "earlier": "The last try was declined. You may try again." if state == "failed" else "",
        }
        return _PAGE.substitute({name: html.escape(text) for name, text in facts.items()})
    title, text = _DONE["expired" if state == "pending" else state]
    return plain_page(title, text, return_url)


def plain_page(title: str, text: str, return_url: str | None = None) -> str:
    """A page with nothing to choose."""
    if return_url is not None:
        way_out = f'<p><a class="back" href="{html.escape(return_url)}">Back to the shop</a></p>'
    else:
        way_out = "<p>You may close this page.</p>"
    return _PLAIN.substitute(title=html.escape(title), text=html.escape(text), way_out=way_out)
