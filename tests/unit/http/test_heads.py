"""Heads: large as a whole they are refused, and no field of one is worked on beyond its use (rows B9, B12).

Goal: what aiohttp's parser takes part by part, up to a megabyte of headers, is neither joined, taken apart
nor remembered by us. Method: heads of exactly so many bytes, on a real server. The controls are the same
heads where the limit is another one.
"""

from __future__ import annotations

import asyncio
from typing import Final

import pytest
from aiohttp.test_utils import make_mocked_request

from runtime.http import connection, messages, negotiation
from runtime.http.incoming import Request
from runtime.http.messages import (
    HEAD_BYTES_MAX,
    HEADER_BYTES_MAX,
    HEADERS_BYTES_MAX,
    HEADERS_MAX,
    REQUEST_LINE_BYTES_MAX,
    has_unread,
)
from tests.unit.http.conftest import HOLDS, Site, reply_of, until

LIVEZ: Final = b"GET /livez HTTP/1.1\r\n"
GOOD: Final = LIVEZ + b"Host: x\r\n\r\n"
LAST: Final = (b"Connection", b"close")
HOLD: Final = f"POST {HOLDS} HTTP/1.1\r\n".encode()
HOLD_BODY: Final = b'{"seats":["7-12"]}'
HOLD_FIELDS: Final = (
    (b"Authorization", b"Bearer good-acc_1"),
    (b"Idempotency-Key", b"k1"),
    (b"Content-Type", b"application/json"),
    (b"Content-Length", b"%d" % len(HOLD_BODY)),
)
HELD: Final = HOLD + b"".join(b"%b: %b\r\n" % field for field in HOLD_FIELDS) + b"Host: x\r\n\r\n" + HOLD_BODY
NEVER: Final = "text/html,"


def head(first: bytes, size: int, *fields: tuple[bytes, bytes]) -> bytes:
    """A head with these fields and others, of so many bytes of names and values in all."""
    named = [(b"Host", b"x"), *fields]
    left = size - sum(len(name) + len(value) for name, value in named)
    while left > 0:
        piece = min(left, HEADER_BYTES_MAX - 100)
        named.append((b"X", b"a" * (piece - 1)))
        left -= piece
    lines = b"".join(b"%b: %b\r\n" % field for field in named)
    assert sum(len(name) + len(value) for name, value in named) == size
    return first + lines + b"\r\n"


def in_pieces(whole: bytes) -> list[bytes]:
    return [whole[at : at + 8_000] for at in range(0, len(whole), 8_000)]


def endless(size: int) -> list[bytes]:
    """So many bytes of a head whose end is still to come, in pieces."""
    return in_pieces(head(LIVEZ, 3 * size)[:size])


@pytest.mark.parametrize("size", [HEADERS_BYTES_MAX + 1, 120 * 8_000])
@pytest.mark.parametrize("before", [0, 3], ids=["first", "fourth"])
async def test_b12_a_head_has_a_size_as_a_whole(either_site: Site, before: int, size: int) -> None:
    raw = await either_site.raw(*[GOOD] * before, head(LIVEZ, size), pause_s=0.02)
    *served, refused = raw.split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in served] == [b"200"] * before
    reply = reply_of(b"HTTP/1.1 " + refused)
    reply.is_problem("headers_too_large")
    assert reply.headers["Connection"] == "close"


async def test_b12_what_stands_behind_a_head_too_large_is_no_request(either_site: Site) -> None:
    raw = await either_site.raw(head(LIVEZ, HEADERS_BYTES_MAX + 1) + GOOD)
    assert raw.count(b"HTTP/1.1 ") == 1


async def test_b12_the_size_of_a_head_is_exact(either_site: Site) -> None:
    raw = await either_site.raw(head(LIVEZ, HEADERS_BYTES_MAX, LAST))
    assert reply_of(raw).status == 200


async def test_b12_the_control_with_a_larger_limit_the_same_head_is_served(
    either_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "HEADERS_BYTES_MAX", 2 * HEADERS_BYTES_MAX)
    raw = await either_site.raw(head(LIVEZ, HEADERS_BYTES_MAX + 1, LAST))
    assert reply_of(raw).status == 200


@pytest.mark.parametrize(
    "before", [[], [GOOD] * 3, [GOOD * 3], [HELD]], ids=["first", "fourth", "at once", "behind a body"]
)
async def test_b12_a_head_that_does_not_end_is_refused_where_it_grows_too_large(
    site: Site, before: list[bytes]
) -> None:
    raw = await site.raw(*before, *endless(HEAD_BYTES_MAX + 1), pause_s=0.02)
    *served, refused = raw.split(b"HTTP/1.1 ")[1:]
    assert {answer[:3] for answer in served} <= {b"200", b"201"}
    assert len(served) == b"".join(before).count(b"\r\n\r\n")
    reply = reply_of(b"HTTP/1.1 " + refused)
    reply.is_problem("headers_too_large")
    assert reply.headers["Connection"] == "close"


async def test_b12_what_comes_behind_a_head_that_was_refused_is_not_read(site: Site) -> None:
    raw = await site.raw(*endless(HEAD_BYTES_MAX + 1), b"\r\n\r\n" + GOOD, GOOD, pause_s=0.02)
    assert raw.count(b"HTTP/1.1 ") == 1
    reply_of(raw).is_problem("headers_too_large")


async def test_b12_behind_what_takes_its_time_no_head_grows_on(site: Site) -> None:
    site.cinema.may_finish.clear()
    reader, writer = await asyncio.open_connection(site.host, site.port)
    writer.write(HELD)
    await until(lambda: bool(site.cinema.holds))
    (ours,) = (one for one in site.server.connections if one._current_request is not None)
    for piece in endless(4 * HEAD_BYTES_MAX):
        writer.write(piece)
        await asyncio.sleep(0.01)
    await until(lambda: not has_unread(ours.transport))
    kept = ours._head_bytes, len(ours._messages)
    site.cinema.may_finish.set()
    *_, held, refused = (await reader.read()).split(b"HTTP/1.1 ")
    writer.close()
    assert held.startswith(b"201 ")
    reply_of(b"HTTP/1.1 " + refused).is_problem("headers_too_large")
    assert HEAD_BYTES_MAX < kept[0] < 2 * HEAD_BYTES_MAX, "read on after it was refused"
    assert kept[1] == 1


@pytest.mark.parametrize(("grows_to", "status"), [(HEAD_BYTES_MAX, 431), (2 * HEAD_BYTES_MAX, 200)])
async def test_b12_the_control_only_where_it_may_grow_a_head_is_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch, grows_to: int, status: int
) -> None:
    monkeypatch.setattr(messages, "HEADERS_BYTES_MAX", 2 * HEADERS_BYTES_MAX)
    monkeypatch.setattr(connection, "HEAD_BYTES_MAX", grows_to)
    pieces = in_pieces(head(LIVEZ, HEAD_BYTES_MAX + 10_000, LAST))
    assert reply_of(await site.raw(*pieces, pause_s=0.02)).status == status


async def test_b12_the_largest_head_there_is_may_come_in_pieces(either_site: Site) -> None:
    line = b"GET /" + b"a" * (REQUEST_LINE_BYTES_MAX - 100) + b" HTTP/1.1\r\n"
    pieces = in_pieces(head(line, HEADERS_BYTES_MAX, LAST))
    reply_of(await either_site.raw(*pieces, pause_s=0.02)).is_problem("not_found")


@pytest.mark.parametrize(
    "first",
    [
        b"GET /nowhere HTTP/1.1\r\n",
        b"GET /api/v1/showtimes/sho_0123456789/events HTTP/1.1\r\n",
        HOLD,
    ],
    ids=["nowhere", "a stream", "a hold"],
)
async def test_b12_wherever_it_goes_nothing_is_done_for_a_head_too_large(
    either_site: Site, first: bytes
) -> None:
    sent = head(first, HEADERS_BYTES_MAX + 1, *(HOLD_FIELDS if first is HOLD else ()))
    raw = await either_site.raw(sent + (HOLD_BODY if first is HOLD else b""))
    reply_of(raw).is_problem("headers_too_large")
    assert not either_site.cinema.viewers
    assert not either_site.cinema.holds


async def test_b12_the_control_the_largest_head_there_is_holds_seats(either_site: Site) -> None:
    raw = await either_site.raw(head(HOLD, HEADERS_BYTES_MAX, *HOLD_FIELDS, LAST) + HOLD_BODY)
    assert reply_of(raw).status == 201


def test_b12_the_fields_of_a_head_too_large_are_not_even_joined() -> None:
    """A hundred of one name, joined one by one, would be copied a hundred times."""

    def read(value: str) -> Request:
        headers = [("X-Request-ID", "r"), *[("X", value)] * (HEADERS_MAX - 1)]
        return Request.of(make_mocked_request("GET", "/livez", headers=headers))

    assert read("a" * 100).fields["x"].count("a" * 100) == HEADERS_MAX - 1
    unread = read("a" * HEADER_BYTES_MAX)
    assert (unread.method, unread.path, unread.fields) == ("GET", "/livez", {})


async def test_b9_an_accept_header_too_long_is_neither_read_nor_remembered(either_site: Site) -> None:
    remembered = negotiation._leaves_room.cache_info()
    accept = NEVER * (negotiation.FIELD_LENGTH_MAX // len(NEVER) + 1)
    for number in range(3):
        reply = await either_site.call("GET", "/livez", headers={"Accept": accept + str(number)})
        assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    assert negotiation._leaves_room.cache_info() == remembered


async def test_b9_the_control_one_of_the_greatest_length_is_read(either_site: Site) -> None:
    accept = (NEVER * negotiation.FIELD_LENGTH_MAX)[: negotiation.FIELD_LENGTH_MAX]
    negotiation._leaves_room.cache_clear()
    (await either_site.call("GET", "/livez", headers={"Accept": accept})).is_problem("not_acceptable")
    assert negotiation._leaves_room.cache_info().currsize == 1


async def test_b8_a_content_type_too_long_is_not_read_and_is_not_json(site: Site) -> None:
    remembered = negotiation._says_json.cache_info()
    content_type = "application/json;" + " " * negotiation.FIELD_LENGTH_MAX
    reply = await site.note(b'{"text":"x"}', **{"Content-Type": content_type + "a=b"})
    reply.is_problem("unsupported_media_type")
    assert negotiation._says_json.cache_info() == remembered


async def test_b8_the_control_one_of_the_greatest_length_is_read(site: Site) -> None:
    content_type = "application/json;".ljust(negotiation.FIELD_LENGTH_MAX - 3) + "a=b"
    assert (await site.note(b'{"text":"x"}', **{"Content-Type": content_type})).status == 200


@pytest.mark.parametrize("pause_s", [0.0, 0.05], ids=["whole", "the body later"])
@pytest.mark.parametrize("zeros", [1, 8_000])
async def test_b13_a_length_behind_any_number_of_zeros_is_that_length(
    either_site: Site, zeros: int, pause_s: float
) -> None:
    """The parser takes them; Python counts with no more than 4,300 digits unless it is told to."""
    fields = (*HOLD_FIELDS[:-1], (b"Content-Length", b"0" * zeros + b"%d" % len(HOLD_BODY)), LAST)
    sent = HOLD + b"".join(b"%b: %b\r\n" % field for field in ((b"Host", b"x"), *fields)) + b"\r\n"
    pieces = (sent, HOLD_BODY) if pause_s else (sent + HOLD_BODY,)
    assert reply_of(await either_site.raw(*pieces, pause_s=pause_s)).status == 201
    assert await either_site.counted("http_unhandled_exceptions") == 0
