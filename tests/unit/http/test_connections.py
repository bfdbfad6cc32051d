"""Connections: what arrives slowly, endlessly or as garbage ends soon (rows B11 to B14, B57; rule R16)."""

from __future__ import annotations

import logging
import re
import time

import pytest

from runtime.http.connection import HEADER_BYTES_MAX, REQUEST_LINE_BYTES_MAX
from tests.unit.http.conftest import Site, reply_of, serve

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /api/v1/notes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("length", [REQUEST_LINE_BYTES_MAX + 1, 60_000])
async def test_b11_a_request_line_has_an_end(site: Site, length: int) -> None:
    raw = await site.raw(b"GET /" + b"a" * length + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    reply_of(raw).is_problem("uri_too_long")


@pytest.mark.parametrize(
    "headers",
    [
        b"X-Large: " + b"a" * (HEADER_BYTES_MAX + 1) + b"\r\n",
        b"".join(b"X-%d: a\r\n" % n for n in range(200)),
    ],
)
async def test_b12_headers_have_a_size_and_a_number(site: Site, headers: bytes) -> None:
    reply_of(await site.raw(GET + headers + b"\r\n")).is_problem("headers_too_large")


@pytest.mark.parametrize(
    "request_bytes",
    [
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        POST + b"Content-Length: +2\r\n\r\n{}",
        GET + b"X: a\r\n b\r\n\r\n",
        GET + b"X: a\x00b\r\n\r\n",
        GET + b"Host: y\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
    ],
)
async def test_b13_what_is_not_http_is_refused_quietly(
    site: Site, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        raw = await site.raw(request_bytes)
    reply_of(raw).is_problem("bad_request")
    assert caplog.text == ""
    assert await site.counted("http_requests", operation="unreadable", status="400") == 1


async def test_b13_a_body_of_broken_chunks_ends_with_the_deadline() -> None:
    """aiohttp notices the bad chunk and does not tell the reader of the body, so the deadline does."""
    async with serve(body_deadline_s=0.1) as site:
        raw = await site.raw(POST + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n{}\r\n", pause_s=0.02)
    reply_of(raw).is_problem("request_timeout")


@pytest.mark.parametrize("beginning", [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_b14_who_sends_no_header_is_disconnected(beginning: bytes) -> None:
    async with serve(header_deadline_s=0.2) as site:
        began = time.monotonic()
        assert await site.raw(beginning) == b""
        assert time.monotonic() - began < 2


async def test_b14_a_header_that_came_may_be_answered_later() -> None:
    """The control: the deadline is for the header, not for the connection."""
    async with serve(header_deadline_s=0.05) as site:
        raw = await site.raw(GET + b"\r\n", GET + b"Connection: close\r\n\r\n", pause_s=0.15)
        assert raw.count(b'{"status":"alive"}') == 2


async def test_b14_a_body_must_arrive_in_time() -> None:
    async with serve(body_deadline_s=0.1) as site:
        reply = reply_of(await site.raw(POST + b"Content-Length: 12\r\n\r\n", b'{"te'))
        reply.is_problem("request_timeout")
        assert reply.headers["Connection"] == "close"


async def test_a_body_may_come_in_pieces(either_site: Site) -> None:
    raw = await either_site.raw(
        POST + b"Connection: close\r\nContent-Length: 12\r\n\r\n", b'{"te', b'xt":"', b'a"}', pause_s=0.02
    )
    assert reply_of(raw).json == {"text": "a", "labels": {}, "stars": 0}


async def test_a_large_body_is_invited_only_when_it_is_wanted(either_site: Site) -> None:
    expecting = POST + b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: 12\r\n\r\n"
    raw = await either_site.raw(expecting, b'{"text":"a"}', pause_s=0.05)
    assert raw.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    unwanted = expecting.replace(b"/api/v1/notes", b"/api/v1/holds/h/extension")
    assert (await either_site.raw(unwanted, pause_s=0.05)).startswith(b"HTTP/1.1 401")


async def test_b57_pipelined_requests_are_answered_in_order(either_site: Site) -> None:
    paths = [b"/livez", b"/nowhere"] * 20
    raw = await either_site.raw(
        b"".join(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in paths),
        GET + b"Connection: close\r\n\r\n",
    )
    assert re.findall(rb"HTTP/1.1 (\d+)", raw) == [b"200", b"404"] * 20 + [b"200"]


async def test_a_refused_body_does_not_become_the_next_request(either_site: Site) -> None:
    smuggled = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    raw = await either_site.raw(
        b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(smuggled), smuggled),
        GET + b"Connection: close\r\n\r\n",
    )
    assert raw.count(b"HTTP/1.1 ") == 2
    assert raw.endswith(b'{"status":"alive"}')
