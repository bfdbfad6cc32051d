"""Goal: whatever stands at the gateway's address, checkout gets an honest answer in time.

Method: a raw TCP server that plays one bad part after the other against every call of the port. The
honest answers are `GatewayUnavailable`, and `unknown` for a refund that may have happened; never an
exception of another kind, never `None` (which would claim that the gateway knows of no such thing),
never later than the deadline. A well-behaved part stands beside them as the control.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from checkout.errors import GatewayUnavailable, WebhookSignatureInvalid
from checkout.gateways import SandboxGateway, SigningKeys, new_secret, sign
from checkout.ports import Gateway
from kernel.money import Money

KEYS = SigningKeys.parse(new_secret())
PRICE = Money(4990, "CNY")
DEADLINE_S = 0.5
NOW = datetime(2026, 11, 22, 20, 14, tzinfo=UTC)

GOOD: dict[str, Any] = {
    "gateway_ref": "sbp_1",
    "reference": "ours_1",
    "amount": 4990,
    "currency": "CNY",
    "state": "pending",
    "pay_url": "https://pay.example/1",
    "test_url": None,
}

CHARGED_BACK: dict[str, Any] = GOOD | {"chargeback": "sbc_1"}

BOOKS: dict[str, Any] = {
    "data": [
        {
            "number": 7,
            "kind": "capture",
            "gateway_ref": "sbp_1",
            "reference": "ours_1",
            "amount": 4990,
            "currency": "CNY",
            "payment": "sbp_1",
            "payment_reference": "ours_1",
            "order_id": "ord_1",
            "payment_refunded": 0,
        }
    ],
    "next_cursor": None,
}

Part = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def says(text: bytes) -> Part:
    """One fixed reply, then goodbye."""

    async def part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text)
        await writer.drain()

    return part


def replies(body: Any, status: str = "200 OK", headers: str = "") -> Part:
    """One HTTP reply."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n{headers}\r\n"
    return says(head.encode() + content)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def trickles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def never_begins(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


@asynccontextmanager
async def stranger(part: Part) -> AsyncIterator[str]:
    """A server that plays one part for everybody."""

    players: set[asyncio.Task[Any]] = set()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        player = asyncio.current_task()
        assert player
        players.add(player)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await part(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(play, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for player in players:
            player.cancel()
        await asyncio.gather(*players, return_exceptions=True)


async def open_session(gateway: Gateway) -> Any:
    return await gateway.open_session(
        payment_id="ours_1", order_id="ord_1", amount=PRICE, expires_at=NOW, return_url=None
    )


async def find_payment(gateway: Gateway) -> Any:
    return await gateway.find_payment("sbp_1")


async def find_refund(gateway: Gateway) -> Any:
    return await gateway.find_refund("ours_1")


async def movements(gateway: Gateway) -> Any:
    return await gateway.movements("")


async def refund(gateway: Gateway) -> Any:
    return await gateway.refund(refund_id="ours_1", gateway_ref="sbp_1", amount=PRICE)


BAD_PARTS: dict[str, Part] = {
    "silence": silent,
    "a trickle": trickles,
    "endless early hints": never_begins,
    "hanging up": hangs_up,
    "garbage": says(b"\x00\xff garbage \r\n\r\n" * 100),
    "another protocol": says(b"220 mail.example ESMTP ready\r\n"),
    "half a reply": says(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"),
    "a bad chunk": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}"),
    "endless headers": says(b"HTTP/1.1 200 OK\r\n" + b"X-More: yes\r\n" * 50_000 + b"\r\n"),
    "a long header": says(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 10**6 + b"\r\n\r\n"),
    "500": replies(b"Oops", "500 Internal Server Error"),
    "502 in our own words": replies({"code": "payment_not_found"}, "502 Bad Gateway"),
    "a page": replies(b"<html>Welcome to the hotel network</html>"),
    "404 by a stranger": replies(b"<html>No such page</html>", "404 Not Found"),
    "another shape": replies({"data": "nothing", "gateway_ref": 7}),
    "no text at all": replies(b"\xff\xfe\x00"),
    "deep nesting": replies(b'{"data":' + b"[" * 60_000 + b"]" * 60_000 + b"}"),
    "packed": replies(gzip.compress(orjson.dumps(GOOD)), headers="Content-Encoding: gzip\r\n"),
    "another id": replies(
        GOOD | {"reference": "theirs", "gateway_ref": "sbp_2", "data": [GOOD | {"reference": "x"}]}
    ),
    "a negative amount": replies(GOOD | {"amount": -4990, "data": [GOOD | {"amount": -1}]}),
    "a refused secret": replies({"code": "not_authenticated"}, "401 Unauthorized"),
}


@pytest.mark.parametrize("name", BAD_PARTS)
async def test_whatever_a_stranger_does_the_answer_is_honest_and_in_time(name: str) -> None:
    async with (
        stranger(BAD_PARTS[name]) as url,
        SandboxGateway(url, KEYS, deadline_s=DEADLINE_S) as gateway,
    ):
        began = time.monotonic()
        for call in (open_session, find_payment, find_refund, movements):
            with pytest.raises(GatewayUnavailable) as refusal:
                await call(gateway)
            assert refusal.value.retry_after_s
            assert refusal.value.detail == "The payment gateway does not answer."
        if name == "a refused secret":  # the one case where surely nothing was moved
            with pytest.raises(GatewayUnavailable):
                await refund(gateway)
        else:
            given_back = await refund(gateway)
            assert (given_back.state, given_back.gateway_ref) == ("unknown", None)
        assert time.monotonic() - began < 5 * DEADLINE_S + 1


async def test_the_control_a_good_reply_is_taken() -> None:
    for body, call in (
        (GOOD, open_session),
        (GOOD, find_payment),
        (GOOD | {"state": "completed"}, refund),
        ({"data": [GOOD | {"state": "completed"}]}, find_refund),
    ):
        async with stranger(replies(body)) as url, SandboxGateway(url, KEYS) as gateway:
            assert (await call(gateway)).gateway_ref == "sbp_1"
    async with stranger(replies(BOOKS)) as url, SandboxGateway(url, KEYS) as gateway:
        assert [one.payment_id for one in (await movements(gateway)).movements] == ["ours_1"]


@pytest.mark.parametrize(
    "change",
    [{"kind": "bribe"}, {"amount": -1}, {"payment_refunded": -1}, {"order_id": ""}, {"number": 0}],
    ids=str,
)
async def test_books_with_an_odd_line_are_no_books(change: dict[str, Any]) -> None:
    """A line that was passed over would never be asked for again."""
    odd = BOOKS | {"data": [*BOOKS["data"], BOOKS["data"][0] | change]}
    async with stranger(replies(odd)) as url, SandboxGateway(url, KEYS) as gateway:
        with pytest.raises(GatewayUnavailable):
            await movements(gateway)


@pytest.mark.parametrize("change", [{"amount": 4991}, {"currency": "EUR"}, {"reference": "ours_2"}])
async def test_a_reply_about_something_else_is_no_reply(change: dict[str, Any]) -> None:
    async with stranger(replies(GOOD | change)) as url, SandboxGateway(url, KEYS) as gateway:
        with pytest.raises(GatewayUnavailable):
            await open_session(gateway)
        assert (await refund(gateway)).state == "unknown"


@pytest.mark.parametrize("link", ["javascript:alert(1)", "/pay/1", "https://x y/", "ftp://x/", ""])
async def test_fans_are_never_sent_to_something_that_is_no_address(link: str) -> None:
    async with stranger(replies(GOOD | {"pay_url": link})) as url, SandboxGateway(url, KEYS) as gateway:
        with pytest.raises(GatewayUnavailable):
            await open_session(gateway)


async def test_a_state_we_do_not_know_is_unknown_not_failed() -> None:
    async with stranger(replies(GOOD | {"state": "on_hold"})) as url, SandboxGateway(url, KEYS) as gateway:
        assert (await open_session(gateway)).state == "unknown"
        assert (await find_payment(gateway)).state == "unknown"
        assert (await refund(gateway)).state == "unknown"


async def test_a_redirect_is_not_followed() -> None:
    visited = False

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visited
        visited = True

    async with stranger(elsewhere) as other:
        part = replies(b"", "302 Found", f"Location: {other}/\r\n")
        async with stranger(part) as url, SandboxGateway(url, KEYS) as gateway:
            for call in (open_session, find_payment, find_refund, movements):
                with pytest.raises(GatewayUnavailable):
                    await call(gateway)
            assert (await refund(gateway)).state == "unknown"
    assert not visited


async def test_a_hundred_megabytes_are_not_read() -> None:
    written = 0

    async def huge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
        for _ in range(1_600):
            writer.write(b" " * 65_536)
            await writer.drain()
            written += 65_536

    async with stranger(huge) as url, SandboxGateway(url, KEYS) as gateway:
        with pytest.raises(GatewayUnavailable) as refusal:
            await find_payment(gateway)
    assert "more than 65536 bytes" in refusal.value.reason
    assert written < 16 * 1024 * 1024, "what the kernel's own buffers take, no more"


async def test_where_nobody_listens_even_a_refund_surely_did_not_happen() -> None:
    async with stranger(silent) as url:
        pass
    async with SandboxGateway(url, KEYS) as gateway:
        for call in (open_session, find_payment, find_refund, refund):
            with pytest.raises(GatewayUnavailable):
                await call(gateway)


async def test_a_connection_that_died_idle_is_tried_once_more_and_only_once() -> None:
    calls = 0

    async def dies_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        await (hangs_up if calls == 1 else replies(GOOD | {"state": "completed"}))(reader, writer)

    async with stranger(dies_first) as url, SandboxGateway(url, KEYS) as gateway:
        assert (await refund(gateway)).state == "completed"
    assert calls == 2


async def test_only_the_gateway_itself_can_say_that_it_knows_nothing() -> None:
    unknown = replies({"code": "payment_not_found"}, "404 Not Found")
    async with stranger(unknown) as url, SandboxGateway(url, KEYS) as gateway:
        assert await find_payment(gateway) is None
    async with stranger(replies({"data": []})) as url, SandboxGateway(url, KEYS) as gateway:
        assert await find_refund(gateway) is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (orjson.dumps({"type": "refund.failed", "data": GOOD}), "refund.failed"),
        (orjson.dumps({"type": "dispute.opened", "data": GOOD}), "unknown"),
        (orjson.dumps({"type": "payment.charged_back", "data": CHARGED_BACK}), "payment.charged_back"),
        (orjson.dumps({"type": "payment.charged_back", "data": GOOD}), "unknown"),
        (orjson.dumps({"type": "payment.captured", "data": GOOD | {"amount": "4990"}}), "unknown"),
        (orjson.dumps({"type": "payment.captured"}), "unknown"),
        (b"not json", "unknown"),
        (b"", "unknown"),
    ],
)
def test_a_signed_webhook_is_an_event_even_when_it_makes_no_sense(body: bytes, kind: str) -> None:
    gateway: Gateway = SandboxGateway("http://none.invalid", KEYS)
    event = gateway.read_webhook(sign(KEYS, "evt_1", body, NOW), body, NOW)
    assert (event.event_id, event.kind, event.raw) == ("evt_1", kind, body)
    assert (event.amount == PRICE) == (kind != "unknown")
    assert event.chargeback_ref == ("sbc_1" if kind == "payment.charged_back" else "")
    with pytest.raises(WebhookSignatureInvalid):
        gateway.read_webhook(sign(KEYS, "evt_1", body, NOW), body + b" ", NOW)
