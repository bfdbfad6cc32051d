"""Connections: what arrives slowly, endlessly or as garbage ends soon (rows B11 to B14, B57; rule R16)."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import tracemalloc

import pytest

from runtime.http import reading
from runtime.http.connection import HEADER_DEADLINE_SPREAD
from runtime.http.messages import HEADER_BYTES_MAX, REQUEST_LINE_BYTES_MAX
from runtime.http.switchboard import Switchboard
from tests.unit.http.conftest import Site, reply_of, serve, until

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


BODY_IN_CHUNKS = POST + b'Transfer-Encoding: chunked\r\n\r\nc\r\n{"text":"x"}\r\n0\r\n'


@pytest.mark.parametrize(
    "trailers",
    [
        b"X-Large: " + b"a" * (HEADER_BYTES_MAX + 1) + b"\r\n",
        b"".join(b"X-%d: a\r\n" % n for n in range(200)),
    ],
    ids=["large", "many"],
)
async def test_b12_what_stands_behind_a_body_has_a_size_and_a_number(site: Site, trailers: bytes) -> None:
    raw = await site.raw(BODY_IN_CHUNKS + trailers + b"\r\n" + GET + b"\r\n")
    assert raw.count(b"HTTP/1.1 ") == 1, "and what comes after it is no request"
    reply_of(raw).is_problem("headers_too_large")


async def test_b12_the_control_a_short_trailer_is_passed_over(site: Site) -> None:
    raw = await site.raw(BODY_IN_CHUNKS + b"X: a\r\n\r\n" + GET + b"Connection: close\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", raw) == [b"200", b"200"]


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


async def test_b14_a_crowd_that_came_at_one_instant_is_not_hung_up_on_at_one_instant() -> None:
    """Hanging up on thousands in one turn of the loop would keep everybody else waiting."""
    loop = asyncio.get_running_loop()
    async with serve(header_deadline_s=60.0, used=False) as site:
        began_s = loop.time()
        crowd = [await asyncio.open_connection(site.host, site.port) for _ in range(100)]
        await until(lambda: len(site.server.connections) == 100)
        ended_s = loop.time()
        deadlines_s = sorted(one._header_timer.when() for one in site.server.connections)
        for _, writer in crowd:
            writer.close()
    assert deadlines_s[0] >= began_s + 60.0
    assert deadlines_s[-1] <= ended_s + 60.0 * (1 + HEADER_DEADLINE_SPREAD)
    at_once = max(sum(at <= one < at + 3.0 for one in deadlines_s) for at in deadlines_s)
    assert at_once < 40, "a tenth of the time on top should see a tenth of them, give or take"


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


WHOLE = GET + b"\r\n"
BEGUN = GET + b"X-Slow: "


async def bytes_dripped(site: Site, *before: bytes, most: int = 100) -> int:
    """How many bytes of a header that does not end the server lets drip, one by one, behind these."""
    reader, writer = await asyncio.open_connection(site.host, site.port)
    for piece in before:
        writer.write(piece)
        for _ in range(piece.count(b"\r\n\r\n")):
            await reader.readuntil(b'{"status":"alive"}')
    end = asyncio.create_task(reader.read())
    count = 0
    while not end.done() and count < most:
        writer.write(b"a")
        count += 1
        await asyncio.sleep(0.02)
    end.cancel()
    writer.close()
    return count


@pytest.mark.parametrize("used", [0, 1, 2, 3, 6])
async def test_b14_a_header_that_drips_ends_with_its_deadline_on_any_request(used: int) -> None:
    async with serve(header_deadline_s=0.2) as site:
        assert await bytes_dripped(site, *[WHOLE] * used, BEGUN) < 50


async def test_b14_a_header_that_began_behind_another_request_has_its_deadline_too() -> None:
    async with serve(header_deadline_s=0.2) as site:
        assert await bytes_dripped(site, WHOLE + BEGUN) < 50
        assert await bytes_dripped(site, WHOLE, WHOLE + WHOLE, WHOLE + BEGUN) < 50


@pytest.mark.parametrize("used", [1, 3])
async def test_b14_the_control_with_more_time_the_same_header_goes_on_dripping(used: int) -> None:
    async with serve(header_deadline_s=60.0) as site:
        assert await bytes_dripped(site, *[WHOLE] * used, BEGUN) == 100


@pytest.mark.parametrize("used", [1, 3])
async def test_b14_each_header_has_the_whole_of_its_time(used: int) -> None:
    """A header in time leaves nothing running that would end the connection later."""
    async with serve(header_deadline_s=0.3) as site:
        slow = [piece for _ in range(4) for piece in (GET[:9], GET[9:] + b"\r\n")]
        raw = await site.raw(*[WHOLE] * used, *slow, GET + b"Connection: close\r\n\r\n", pause_s=0.1)
        assert raw.count(b'{"status":"alive"}') == used + 5


async def test_b14_a_body_must_keep_a_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BODY_HEAD_START_S", 0.1)
    async with serve(body_deadline_s=60.0) as site:
        head = POST + b"Content-Length: 4000\r\n\r\n"
        reply = reply_of(await site.raw(head, *[b'{"text":"'] * 2, pause_s=0.02))
        reply.is_problem("request_timeout")


async def test_b14_the_control_who_keeps_the_pace_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BODY_HEAD_START_S", 0.5)
    body = b'{"text":"a"}'.ljust(8_000)  # what is here buys two seconds
    head = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with serve(body_deadline_s=60.0) as site:
        pieces = (body[start : start + 1_600] for start in range(0, 8_000, 1_600))
        raw = await site.raw(head, *pieces, pause_s=0.15)
    assert reply_of(raw).status == 200


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


async def test_b57_ten_thousand_pipelined_requests_are_served_in_order_and_in_bounded_memory(
    either_site: Site,
) -> None:
    names = [b"n%d" % number for number in range(10_000)]
    asked = b"".join(GET + b"X-Request-ID: %b\r\n\r\n" % name for name in names)
    last = GET + b"Connection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection(either_site.host, either_site.port)

    async def send() -> None:
        for start in range(0, len(asked), 16_384):
            writer.write(asked[start : start + 16_384])
            await writer.drain()
        writer.write(last)

    tracemalloc.start()
    try:
        sending = asyncio.create_task(send())
        said = re.compile(rb"X-Request-ID: (n\d+)")
        told: list[bytes] = []
        rest = b""
        while piece := await asyncio.wait_for(reader.read(65_536), 30):
            *whole, rest = (rest + piece).split(b"\r\n")
            told += [found[1] for line in whole if (found := said.fullmatch(line))]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        writer.close()
    await sending
    assert told == names
    assert peak < 8 * 1024 * 1024, "and the requests alone are half a megabyte, with what is made of them"


async def test_b57_who_does_not_read_the_answers_is_not_served_on(either_site: Site) -> None:
    """Answers that nobody takes would fill our memory; so the next request waits until they are taken."""
    many = 5_000
    _, writer = await asyncio.open_connection(either_site.host, either_site.port, limit=1_024)
    writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * many)
    before, served = -1.0, 0.0
    while served != before:
        await asyncio.sleep(0.3)
        before, served = served, await either_site.counted("http_requests", operation="get_openapi_document")
    writer.transport.abort()
    assert 0 < served < many / 2


@pytest.mark.parametrize(
    "value", ["bytes=0-0", "bytes=-1", "bytes=" + ",".join(f"{n}-{n}" for n in range(500)), "x=1"]
)
async def test_b56_a_range_is_not_looked_at(site: Site, value: str) -> None:
    path = "/api/v1/showtimes/sho_0123456789/layout"
    whole = await site.call("GET", path)
    part = await site.call("GET", path, headers={"Range": value, "If-Range": "Wed, 21 Oct 2015 07:28:00 GMT"})
    assert (part.status, part.body) == (200, whole.body)
    assert "Content-Range" not in part.headers


async def test_b56_ten_thousand_parts_are_one_body_of_the_wrong_kind(either_site: Site) -> None:
    parts = b"".join(b"--b\r\n\r\n" for _ in range(6_000)) + b"--b--"
    reply = await either_site.note(parts, **{"Content-Type": "multipart/form-data; boundary=b"})
    reply.is_problem("unsupported_media_type")
    reply = await either_site.note(parts * 2, **{"Content-Type": "multipart/form-data; boundary=b"})
    reply.is_problem("payload_too_large")


async def test_a_refused_body_does_not_become_the_next_request(either_site: Site) -> None:
    smuggled = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    raw = await either_site.raw(
        b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(smuggled), smuggled),
        GET + b"Connection: close\r\n\r\n",
    )
    assert raw.count(b"HTTP/1.1 ") == 2
    assert raw.endswith(b'{"status":"alive"}')


async def test_what_breaks_outside_of_every_endpoint_is_told_to_us_and_not_to_the_caller(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def find(*_: object) -> None:
        raise LookupError("the secret of the house")

    monkeypatch.setattr(Switchboard, "find", find)
    raw = await site.raw(GET + b"\r\n")
    reply_of(raw).is_problem("internal_error")
    assert b"secret" not in raw
    assert "LookupError: the secret of the house" in caplog.text
