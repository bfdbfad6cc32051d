"""Bytes that are no requests, or never become one, sent to the real thing (B11 to B14, B57, S15, S16).

Goal: what the tests of the HTTP layer show of a server in their own process holds for processes as they are
started: on their loop, with the parser they are built with, behind a listener they inherited. Whatever could
be read in two ways is one refusal and the end, and who only drips is ended while others are served. Method:
raw sockets. Behind each piece stands a request that would let go of a real hold, with the token of its owner;
the hold must still be there afterwards. The control is that request behind a good one, where the hold goes.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import pytest
import pytest_asyncio

from runtime.http.messages import HEADER_BYTES_MAX, HEADERS_BYTES_MAX, REQUEST_LINE_BYTES_MAX
from tests.support.contract import refused
from tests.support.service import Answer, Fan, Service
from tests.unit.http.test_smuggling import CHUNKS, CORPUS, post

FILMS: Final = b"GET /api/v1/films?limit=1 HTTP/1.1\r\nHost: x\r\n"
LAST: Final = b"Connection: close\r\n\r\n"
ACCOUNTS: Final = b"POST /api/v1/accounts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
#: Of the first requests of a connection, and of one that has been used: they are not read by the same reader.
BEFORE: Final = {"first": 0, "fourth": 3}
MOST_S: Final = 60.0  # far more than any deadline of the service


@dataclass(frozen=True)
class Held:
    """A hold, and the request that lets go of it."""

    fan: Fan
    hold_id: str
    letting_go: bytes

    async def is_still_there(self) -> bool:
        return (await self.fan.call("GET", f"/holds/{self.hold_id}")).status == 200


async def a_hold(service: Service) -> Held:
    (fan,) = await service.fans(1)
    hold = await fan.hold(await service.add_showtime(), "D5", "D6")
    assert hold.status == 201, hold.body
    hold_id = hold.body["hold_id"]
    head = f"DELETE /api/v1/holds/{hold_id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {fan.token}\r\n"
    return Held(fan, hold_id, head.encode())


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def held(service: Service) -> AsyncIterator[Held]:
    yield await a_hold(service)


async def said_to(service: Service, data: bytes, before: int = 0, later: bytes = b"") -> bytes:
    """What is said to these bytes behind so many good requests, until the service ends the connection.

    What comes later comes in a packet of its own, when the first answer has begun.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    try:
        for _ in range(before):
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b'{"status":"alive"}')
        writer.write(data)
        said = b""
        if later:
            said = await reader.readuntil(b"\r\n\r\n")
            writer.write(later)
        with suppress(ConnectionError):  # where that was written to what is closed
            while piece := await asyncio.wait_for(reader.read(65_536), MOST_S):
                said += piece
        return said
    except ConnectionError:
        return b""
    finally:
        writer.close()


def answers_in(raw: bytes) -> list[Answer]:
    """Every answer of a connection, read to its end."""
    found = []
    while raw:
        head, _, rest = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers.get("Content-Length", 0))
        body: Any = rest[:length]
        if "json" in headers.get("Content-Type", ""):
            body = json.loads(body)
        found.append(Answer(int(status.split()[1]), body, headers))
        raw = rest[length:]
    return found


async def the_one_refusal(service: Service, data: bytes, status: int, code: str) -> None:
    (answer,) = answers_in(await said_to(service, data))
    refused(answer, status, code)


@pytest.mark.parametrize("length", [REQUEST_LINE_BYTES_MAX + 1, 60_000])
async def test_b11_a_request_line_has_an_end(service: Service, held: Held, length: int) -> None:
    data = b"GET /" + b"a" * length + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    await the_one_refusal(service, data + held.letting_go + LAST, 414, "uri_too_long")
    assert await held.is_still_there()


@pytest.mark.parametrize(
    "fields",
    [
        b"X-Large: " + b"a" * (HEADER_BYTES_MAX + 1) + b"\r\n",
        b"".join(b"X-%d: a\r\n" % n for n in range(129)),
    ],
    ids=["large", "many"],
)
async def test_b12_headers_and_trailers_have_a_size_and_a_number(
    service: Service, held: Held, fields: bytes
) -> None:
    behind = held.letting_go + LAST
    await the_one_refusal(service, FILMS + fields + b"\r\n" + behind, 431, "headers_too_large")
    in_chunks = ACCOUNTS + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    await the_one_refusal(service, in_chunks + fields + b"\r\n" + behind, 431, "headers_too_large")
    assert await held.is_still_there()


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
async def test_b12_a_head_has_a_size_as_a_whole(service: Service, held: Held, before: int) -> None:
    """No header of it is too large, and they are not too many."""
    fields = b"".join(b"X-%d: %b\r\n" % (n, b"a" * 8_000) for n in range(HEADERS_BYTES_MAX // 8_000 + 1))
    raw = await said_to(service, FILMS + fields + b"\r\n" + held.letting_go + LAST, before)
    (answer,) = answers_in(raw)
    refused(answer, 431, "headers_too_large")
    assert await held.is_still_there()


async def those_not_refused(
    service: Service, corpus: Mapping[str, bytes], held: Held, before: int, statuses: Iterable[int]
) -> dict[str, bytes]:
    """What is said to each, where it is not one refusal and the end."""
    behind = held.letting_go + LAST
    said = await asyncio.gather(*(said_to(service, data + behind, before) for data in corpus.values()))
    return {
        what: raw
        for what, raw in zip(corpus, said, strict=True)
        if [answer.status for answer in answers_in(raw)] not in [[status] for status in statuses]
    }


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
async def test_b13_what_could_be_read_in_two_ways_is_refused_and_the_end(
    service: Service, held: Held, before: int
) -> None:
    assert await those_not_refused(service, CORPUS, held, before, [400]) == {}
    assert await held.is_still_there()


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
async def test_b13_broken_chunks_end_the_connection(service: Service, held: Held, before: int) -> None:
    """Nobody needs the body, since the address is nowhere; it must not become a request all the same."""
    broken = {what: post(b"Transfer-Encoding: chunked", body=body) for what, body in CHUNKS.items()}
    assert await those_not_refused(service, broken, held, before, [400, 404]) == {}
    assert await held.is_still_there()


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("protocol", [b"h2c", b"foo", b"websocket"])
async def test_s15_nothing_behind_a_request_to_upgrade_is_read(
    service: Service, held: Held, protocol: bytes, before: int
) -> None:
    """Neither in the same packet nor in the next, which a parser left to itself takes for a request."""
    wish = FILMS + b"Connection: Upgrade\r\nUpgrade: %b\r\n\r\n" % protocol
    smuggled = held.letting_go + LAST
    thrown_away = ACCOUNTS + b"Content-Length: %d\r\n\r\n" % len(smuggled)
    for behind, later in ((smuggled, b""), (thrown_away, smuggled)):
        (answer,) = answers_in(await said_to(service, wish + behind, before, later))
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert await held.is_still_there()


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
async def test_the_control_behind_a_good_request_the_hold_is_let_go(service: Service, before: int) -> None:
    held = await a_hold(service)
    raw = await said_to(service, FILMS + b"\r\n" + held.letting_go + LAST, before)
    assert [answer.status for answer in answers_in(raw)] == [200, 204]
    assert not await held.is_still_there()


async def dripped_to(service: Service, beginning: bytes, drop: bytes) -> bytes:
    """What is said to who goes on a byte at a time, or not at all, until the service ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(beginning)
    end = asyncio.create_task(reader.read())
    try:
        async with asyncio.timeout(MOST_S):
            while not end.done():
                writer.write(drop)
                await asyncio.wait([end], timeout=0.5)
            return await end
    except ConnectionError:
        return b""
    finally:
        writer.close()


SLOW: Final = {
    "silence": (b"", b""),
    "half a header": (FILMS + b"X-Slow: ", b""),
    "a header that drips": (FILMS + b"X-Slow: ", b"a"),
    "a request line that drips": (b"GET /", b"a"),
    "half a body": (ACCOUNTS + b'Content-Length: 60000\r\n\r\n{"', b""),
    "a body that drips": (ACCOUNTS + b'Content-Length: 60000\r\n\r\n{"', b"a"),
    "chunks that drip": (ACCOUNTS + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
}


async def test_b14_who_only_drips_is_ended_while_others_are_served(service: Service, held: Held) -> None:
    dripping = [asyncio.create_task(dripped_to(service, *slow)) for slow in SLOW.values()]
    served = 0
    while not all(task.done() for task in dripping):
        assert (await service.request("GET", "/films?limit=1")).status == 200
        served += 1
        await asyncio.sleep(0.2)
    assert served > 1
    for what, task in zip(SLOW, dripping, strict=True):
        answers = answers_in(await task)
        if "body" in what or "chunks" in what:  # a whole header came: somebody has asked, and is told
            (answer,) = answers
            refused(answer, 408, "request_timeout")
            assert answer.headers["Connection"] == "close"
        else:
            assert answers == [], what


async def test_b57_pipelined_requests_are_answered_in_their_order(service: Service) -> None:
    names = [b"n%d" % number for number in range(1_000)]
    asked = b"".join(FILMS + b"X-Request-ID: %b\r\n\r\n" % name for name in names[:-1])
    raw = await said_to(service, asked + FILMS + b"X-Request-ID: %b\r\n" % names[-1] + LAST)
    assert re.findall(rb"\r\nX-Request-ID: (n\d+)\r\n", raw) == names
    assert {answer.status for answer in answers_in(raw)} == {200}
