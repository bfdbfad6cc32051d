"""A request that asks for another protocol is the last of its connection (rows B13, S15).

Goal: nothing is upgraded, and nothing behind a request to upgrade is read as a request, since it may be the
other protocol, or the rest of a message whose beginning was thrown away. Method: such a request with one for
a telltale address behind it, in one packet and in pieces, on connections of every age. The controls are a
field that asks for nothing, behind which the telltale is reached, and aiohttp's parser left to itself
(`web.AppRunner` alone): it loses what came in the same packet, and runs the body of a lost request as one.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import pytest

from tests.unit.http.conftest import HOLDS, Site, reply_of, serve, until
from tests.unit.http.test_overload import Door
from tests.unit.http.test_smuggling import BEFORE, GOOD, SMUGGLED, TELLTALE, said_to

PROTOCOLS = [b"h2c", b"foo", b"websocket", b"WebSocket", b"TLS/1.0, HTTP/1.1"]
LOST_BY_AIOHTTP = [b"h2c", b"foo"]


def asking_for(protocol: bytes, first: bytes = b"GET /livez HTTP/1.1", *fields: bytes) -> bytes:
    return b"\r\n".join(
        [first, b"Host: x", b"Connection: Upgrade", b"Upgrade: " + protocol, *fields, b"", b""]
    )


def post_asking_for(protocol: bytes, body: bytes) -> bytes:
    """A request to upgrade that has a body, up to where that begins."""
    fields = (b"Content-Type: application/json", b"Content-Length: %d" % len(body))
    return asking_for(protocol, b"POST /api/v1/notes HTTP/1.1", *fields)


async def said_to_pieces(site: Site, *pieces: bytes, before: int = 0) -> bytes:
    """What is said to these, behind so many good requests, until the connection ends, also if it breaks."""
    reader, writer = await asyncio.open_connection(site.host, site.port)
    for _ in range(before):
        writer.write(GOOD)
        await reader.readuntil(b'{"status":"alive"}')
    said = b""

    async def listen() -> None:
        nonlocal said
        with suppress(ConnectionError):  # we may write to what is closed
            while piece := await reader.read(65_536):
                said += piece

    listening = asyncio.create_task(listen())
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.01)
    await asyncio.wait_for(listening, 10)
    writer.close()
    return said


def is_the_end(raw: bytes, answers: int = 1) -> bool:
    """Whether there were so many answers, the last of which said that it is, and no telltale among them."""
    last = raw.rpartition(b"HTTP/1.1 ")[2]
    return raw.count(b"HTTP/1.1 ") == answers and b"Connection: close\r\n" in last and b"smuggled" not in raw


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_s15_what_stands_behind_a_request_to_upgrade_is_not_read(
    site: Site, protocol: bytes, before: int
) -> None:
    raw, ended = await said_to(site, asking_for(protocol) + SMUGGLED, before)
    assert ended
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert is_the_end(raw)


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_s15_nor_is_the_body_of_what_was_thrown_away_behind_it(
    site: Site, protocol: bytes, before: int
) -> None:
    """The body comes in a packet of its own, and is a request."""
    behind = TELLTALE + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED)
    raw = await said_to_pieces(site, asking_for(protocol) + behind, SMUGGLED, SMUGGLED, before=before)
    assert is_the_end(raw)


@pytest.mark.parametrize("protocol", LOST_BY_AIOHTTP)
async def test_s15_the_control_aiohttp_alone_runs_that_body_as_a_request(protocol: bytes) -> None:
    async with serve(stock=True, used=False) as site:
        behind = TELLTALE + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED)
        last = GOOD.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n")
        raw = await site.raw(asking_for(protocol) + behind, SMUGGLED, last, pause_s=0.02)
    assert re.findall(rb"HTTP/1.1 (\d+)", raw) == [b"200", b"200", b"200"]
    assert b"smuggled" in raw


async def test_s15_the_control_aiohttp_alone_goes_on_reading_behind_a_websocket() -> None:
    async with serve(stock=True, used=False) as site:
        last = GOOD.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n")
        raw = await site.raw(asking_for(b"websocket") + SMUGGLED + last)
    assert raw.count(b"HTTP/1.1 200 ") == 3
    assert b"smuggled" in raw


@pytest.mark.parametrize("field", [b"Upgrade: h2c", b"Connection: Upgrade"])
async def test_the_control_half_a_wish_to_upgrade_is_none(site: Site, field: bytes) -> None:
    plain = GOOD.replace(b"Host: x\r\n", b"Host: x\r\n" + field + b"\r\n")
    last = SMUGGLED.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n")
    raw = await site.raw(plain + last)
    assert raw.count(b"HTTP/1.1 200 ") == 2
    assert b"smuggled" in raw


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_s15_a_body_of_its_own_is_read_to_its_end_and_no_further(
    site: Site, protocol: bytes, before: int
) -> None:
    body = b'{"text":"mine"}'
    head = post_asking_for(protocol, body)
    for pieces in (
        (head + body + SMUGGLED,),
        (head, body + SMUGGLED),
        (head[:40], head[40:] + body[:5], body[5:] + SMUGGLED[:30], SMUGGLED[30:]),
    ):
        raw = await said_to_pieces(site, *pieces, before=before)
        assert is_the_end(raw)
        assert b'"text":"mine"' in raw


@pytest.mark.parametrize("others", [1, 2, 31, 32, 40])
@pytest.mark.parametrize("protocol", PROTOCOLS[:3])
async def test_s15_what_stands_before_it_in_the_same_packet_is_answered(
    site: Site, protocol: bytes, others: int
) -> None:
    """Also when it is the last one aiohttp's parser reads ahead."""
    raw = await said_to_pieces(site, GOOD * others + asking_for(protocol) + SMUGGLED, SMUGGLED)
    assert is_the_end(raw, others + 1)


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("protocol", PROTOCOLS[:3])
async def test_s15_what_comes_while_it_is_answered_is_not_read_either(
    site: Site, protocol: bytes, before: int
) -> None:
    site.cinema.may_finish.clear()
    body = b'{"seats":["A-1"]}'
    hold = asking_for(
        protocol,
        f"POST {HOLDS} HTTP/1.1".encode(),
        b"Authorization: Bearer good-a",
        b"Idempotency-Key: k",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
    )
    reader, writer = await asyncio.open_connection(site.host, site.port)
    for _ in range(before):
        writer.write(GOOD)
        await reader.readuntil(b'{"status":"alive"}')
    writer.write(hold + body + SMUGGLED)
    await until(lambda: bool(site.cinema.holds))
    (ours,) = (one for one in site.server.connections if one._current_request is not None)
    read = ours._request_count
    for piece in (SMUGGLED, SMUGGLED[:30], SMUGGLED[30:]):
        writer.write(piece)
        await asyncio.sleep(0.01)
    site.cinema.may_finish.set()
    raw = await reader.read()
    writer.close()
    assert raw.startswith(b"HTTP/1.1 201 ")
    assert is_the_end(raw)
    assert ours._request_count == read, "and not only unanswered"


async def test_s15_nothing_behind_a_request_for_a_tunnel_is_read(site: Site) -> None:
    tunnel = b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere\r\nContent-Length: %d\r\n\r\n" % len(
        SMUGGLED
    )
    for pieces in ((tunnel + SMUGGLED,), (tunnel, SMUGGLED)):
        assert is_the_end(await said_to_pieces(site, *pieces))


@pytest.mark.parametrize("others", [0, 1])
async def test_s15_a_request_to_upgrade_that_is_turned_away_is_the_last_one_too(others: int) -> None:
    async with serve(admission=Door(), used=False) as site:
        wish = asking_for(b"h2c", b"GET / HTTP/1.1")
        raw = await said_to_pieces(site, GOOD * others + wish + SMUGGLED, SMUGGLED, before=1)
    assert is_the_end(raw, 1 + others)
    reply_of(raw[raw.rindex(b"HTTP/1.1 ") :]).is_problem("overloaded")
