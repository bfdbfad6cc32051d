"""What reads bytes of strangers, each with the promise it makes for any bytes at all.

A target takes bytes and returns when its reader kept its promise: it refused in one of the declared ways, or
what it took is exactly what a slower or stricter reader makes of the same bytes, and survives the way there
and back. Anything else is raised, and is a finding. Nothing here knows who makes up the bytes: atheris does
in `tests.fuzz.parsers`, and `tests/unit/test_foreign_bytes.py` plays the seeds and what was once found.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from accounts.schemas import RegistrationRequest
from catalogue.paging import Cursors
from catalogue.schemas import SearchQuery, ShowtimesQuery
from checkout import entries
from checkout.errors import WebhookSignatureInvalid, WebhookTimestampInvalid
from checkout.gateways import standard_webhooks
from checkout.gateways.sandbox import SandboxGateway
from checkout.gateways.standard_webhooks import SigningKeys
from checkout.schemas import RefundRequest, read_cursor, write_cursor
from checkout.ticket_code import TicketReader, TicketUnreadable
from kernel.clock import SystemClock
from kernel.errors import InvalidCursor, NotAuthenticated, SeatRushError
from kernel.ids import is_id, order_id_of, partition_of, showtime_of
from reservation.domain import Layout
from reservation.layouts import LayoutRejected, from_document, import_layout, to_document
from reservation.schemas import HoldRequest
from runtime.http.context import request_id
from runtime.http.decoding import BodyDecoder, QueryDecoder
from runtime.http.explaining import has_control_characters
from runtime.http.idempotency import Idempotency, key_of
from runtime.http.incoming import Request
from runtime.http.negotiation import accepts, is_json
from runtime.paths import ROOT
from runtime.peers import Proxies
from runtime.tokens import TokenVerifier
from tests.support.two_readers import agree, parsed

CORPUS: Final = ROOT / "tests" / "fuzz" / "corpus"
_SAMPLES: Final = ROOT / "tests" / "unit" / "layouts" / "samples"
_KEYS: Final = SigningKeys((b"a signing secret of 32 bytes, 0k",))
_SIGNED_AT: Final = datetime(2026, 11, 23, tzinfo=UTC)


@dataclass(frozen=True)
class Target:
    """`play` returns when the promise was kept; `seeds` are where to begin."""

    name: str
    promise: str
    play: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]

    def found(self) -> dict[str, bytes]:
        """What once broke it, by file name."""
        return {file.name: file.read_bytes() for file in sorted((CORPUS / self.name).glob("*"))}


# Requests


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def requests(data: bytes) -> None:
    """Both readers, whole and cut in two."""
    plain = agree(data, _loop())
    messages = parsed(data, _loop())
    assert plain is None or len(messages) == 1
    for message, _ in messages:
        for value in message.headers.values():
            assert "\r" not in value
            assert "\n" not in value


def _request_seeds() -> Sequence[bytes]:
    body = b'{"seats":["7-12","7-13"]}'
    fields = b"Host: x\r\nIdempotency-Key: k-1\r\nContent-Type: application/json\r\n"
    hold = b"POST /api/v1/showtimes/sho_0123456789/holds HTTP/1.1\r\n" + fields
    return (
        hold + b"Content-Length: 25\r\n\r\n" + body,
        b"GET /api/v1/showtimes?limit=5 HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n",
        hold + b"Transfer-Encoding: chunked\r\n\r\n19\r\n" + body + b"\r\n0\r\n\r\n",
    )


def headers(data: bytes) -> None:
    """Values of header fields that are taken apart by us."""
    text = data.decode("utf-8", "surrogateescape")
    accepts(text, "application/json")
    is_json(text)
    assert len(request_id(text)) <= 128
    for proxies in (Proxies(), Proxies("none"), Proxies("10.0.0.0/8, ::1")):
        proxies.speak_for(text)
        proxies.peer((text, 1))


# Bodies and queries


_BODIES: Final = [BodyDecoder(model) for model in (HoldRequest, RegistrationRequest, RefundRequest)]
_QUERIES: Final = [QueryDecoder(model) for model in (ShowtimesQuery, SearchQuery)]


def bodies(data: bytes) -> None:
    """A body is refused with a code, or Python's own parser reads the same from it."""
    decoder = _BODIES[data[0] % len(_BODIES)] if data else _BODIES[0]
    body = data[1:]
    try:
        decoded = decoder.decode(body)
    except SeatRushError:
        return
    slowly = json.loads(body, object_pairs_hook=_without_twins)
    again = json.loads(msgspec.json.encode(decoded))
    assert _fits(slowly, again), body


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({name for name, _ in pairs}) == len(pairs), "a key twice was taken"
    for name, value in pairs:
        assert not has_control_characters(name)
        assert not (isinstance(value, str) and has_control_characters(value)), "a control character was taken"
    return dict(pairs)


def _fits(slowly: Any, decoded: Any) -> bool:
    """Whether everything that stands in the text stands in the struct, beside its defaults."""
    if isinstance(slowly, dict):
        return all(name in decoded and _fits(value, decoded[name]) for name, value in slowly.items())
    return bool(slowly == decoded)


def queries(data: bytes) -> None:
    """A query is refused with a code, or what was taken has no control characters."""
    text = data.decode("utf-8", "surrogateescape")
    for decoder in _QUERIES:
        try:
            decoded = decoder.decode(text)
        except SeatRushError:
            continue
        assert not has_control_characters(str(decoded.cursor or ""))


# The order log, webhooks


def log_entries(data: bytes) -> None:
    """An entry is decoded, newer than us, or undecodable; what was decoded is written back the same."""
    try:
        entry = entries.decode(data)
    except entries.EntryTooNew:
        return
    except entries.UNDECODABLE:
        return
    assert entries.decode(entries.encode(entry)) == entry
    assert partition_of(entry.showtime_id) < 64


def _entry_seeds() -> Sequence[bytes]:
    order_id, showtime_id = "ord_0123456789abcdefghjkmnpqrs", "sho_0123456789"
    claim = entries.Claim(
        order_id=order_id,
        showtime_id=showtime_id,
        account_id="acc_1",
        epoch=1,
        currency="CNY",
        total=100,
        pay_by_ms=1,
        seats=[(1, "A1", "area", 100)],
        request_key="k",
        fingerprint="f",
        answer="{}",
    )
    confirm = entries.Confirm(order_id=order_id, showtime_id=showtime_id, version=2)
    return entries.encode(claim), entries.encode(confirm)


def webhooks(data: bytes) -> None:
    """A delivery is refused, or somebody with the secret has signed exactly this."""
    event_id, timestamp, signature, body = (*data.split(b"\n", 3), b"", b"", b"")[:4]
    fields: Mapping[str, str] = {
        standard_webhooks.ID_HEADER: event_id.decode("utf-8", "surrogateescape"),
        standard_webhooks.TIMESTAMP_HEADER: timestamp.decode("utf-8", "surrogateescape"),
        standard_webhooks.SIGNATURE_HEADER: signature.decode("utf-8", "surrogateescape"),
    }
    gateway = SandboxGateway("http://localhost:1", _KEYS)
    gateway.read_event("evt_1", body)
    try:
        event = gateway.read_webhook(fields, body, _SIGNED_AT)
    except (WebhookSignatureInvalid, WebhookTimestampInvalid):
        return
    at = datetime.fromtimestamp(int(fields[standard_webhooks.TIMESTAMP_HEADER]), UTC)
    genuine = standard_webhooks.sign(_KEYS, event.event_id, body, at)[standard_webhooks.SIGNATURE_HEADER]
    assert genuine in fields[standard_webhooks.SIGNATURE_HEADER].split(" "), "a forgery was taken"


def _webhook_seeds() -> Sequence[bytes]:
    data = {"gateway_ref": "gpay_1", "reference": "pay_1", "amount": 100, "currency": "CNY"}
    body = json.dumps({"type": "payment.captured", "data": data}).encode()
    signed = standard_webhooks.sign(_KEYS, "evt_1", body, _SIGNED_AT)
    return ("\n".join([*signed.values(), ""]).encode() + body,)


# What comes back to us in a text


_CURSORS: Final = Cursors(tuple[str, str], "films")
_TICKETS: Final = TicketReader(Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key())
_TOKENS: Final = TokenVerifier([b"a token key of more than 32 bytes"], SystemClock())
_PREFIXES: Final = ("sho", "hld", "ord", "tkt", "acc")


def texts(data: bytes) -> None:
    """Keys, ids, cursors, tokens and ticket codes: refused, or exactly as we write them."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        key = key_of({"idempotency-key": text})
    except SeatRushError:
        key = ""
    assert key == "" or (1 <= len(key) <= 64 and key.isascii() and key.isprintable() and " " not in key)
    assert len(Idempotency(key, Request("POST", text, {}), data).fingerprint) == 16
    for prefix in _PREFIXES:
        if is_id(text, prefix):
            assert text.startswith(prefix + "_")
            assert text.isalnum() or text.replace("_", "", 1).isalnum()
    if is_id(text, "hld"):
        assert is_id(order_id_of(text), "ord")
        assert is_id(showtime_of(text), "sho")
    with suppress(InvalidCursor):
        place = read_cursor(text)
        assert place is None or write_cursor(*place) == text
    with suppress(InvalidCursor):
        assert _CURSORS.write(_CURSORS.read(text, ("", ""))) == text
    with suppress(TicketUnreadable):
        raise AssertionError(f"a forged code was read: {_TICKETS.read(text)}")
    with suppress(NotAuthenticated):
        raise AssertionError(f"a forged token was believed: {_TOKENS.verify(text)}")


def _text_seeds() -> Sequence[bytes]:
    cursors = write_cursor(_SIGNED_AT, "ord_0123456789abcdefghjkmnpqrs"), _CURSORS.write(("a", "film_1"))
    ids = "hld_0123456789abcdefghjkmnpqrs", '"a \\"quoted\\" key"', "sho_0123456789"
    head = next(iter(_TOKENS._keys))  # a token is told by its head; behind it anybody may write anything
    return tuple(text.encode() for text in (*cursors, *ids, f"{head}.e30.x", "0" * 154))


# Layouts


def layouts(data: bytes) -> None:
    """A file becomes a layout that is stored and read back the same, or is refused with reasons."""
    try:
        imported = import_layout(data, name="hall")
    except LayoutRejected as rejected:
        issues = rejected.issues
    else:
        _survives(imported.layout)
        return
    assert issues
    json.dumps([[issue.code, issue.where, issue.detail] for issue in issues], ensure_ascii=False).encode()


def _survives(layout: Layout) -> None:
    """Stored and read back the same, every label once, every seat in one segment."""
    stored = json.loads(json.dumps(to_document(layout)))
    assert from_document(stored) == layout
    assert from_document(stored).layout_id == layout.layout_id
    labels = [seat.label for seat in layout.seats]
    assert len(set(labels)) == len(labels)
    covered = [index for part in layout.segments for index in range(part.start, part.start + part.length)]
    assert sorted(covered) == list(range(len(labels)))


def _layout_seeds() -> Sequence[bytes]:
    return tuple(file.read_bytes() for file in sorted(_SAMPLES.iterdir()))


TARGETS: Final[Mapping[str, Target]] = {
    target.name: target
    for target in (
        Target(
            "requests",
            "read without a parser as the parser reads it, or not at all",
            requests,
            _request_seeds,
        ),
        Target(
            "headers",
            "any value of a header is read without an exception",
            headers,
            lambda: (
                b"text/html;q=0.5, */*;q=0",
                b"1.2.3.4, [::ffff:10.0.0.1]:80",
                b"application/json; charset=x",
            ),
        ),
        Target(
            "bodies",
            "a body is refused with a code, or read as Python's parser reads it",
            bodies,
            lambda: (
                b'\0{"seats":["A1","A2"]}',
                b'\0{"best_available":{"count":2,"area_id":"a"}}',
                b'\1{"email":"a@b.example","password":"seven lamps over water","display_name":"a"}',
                b'\2{"ticket_ids":["tkt_1"]}',
            ),
        ),
        Target(
            "queries",
            "a query is refused with a code, or taken without control characters",
            queries,
            lambda: (b"limit=5&cursor=abc&date=2026-11-23", b"q=%E6%B5%81&limit=1"),
        ),
        Target(
            "log-entries", "an entry is decoded, newer than we are, or undecodable", log_entries, _entry_seeds
        ),
        Target("webhooks", "a delivery is refused, or signed by a secret of ours", webhooks, _webhook_seeds),
        Target(
            "texts",
            "keys, ids, cursors, tokens and codes: ours to the letter, or refused",
            texts,
            _text_seeds,
        ),
        Target(
            "layouts", "a file becomes a layout that survives storing, or is refused", layouts, _layout_seeds
        ),
    )
}
