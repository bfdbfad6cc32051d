"""Bytes that two readers might cut into requests differently are one refusal, and the end (rows B13, S15).

Goal: whatever stands behind such bytes is never read as a request, neither on a connection that is read the
quick way nor on one that is still aiohttp's. Method: each piece of the corpus is sent alone and behind good
requests, always with a request for a telltale address behind it; that address must never be reached. The
control is that request behind a good one, where it is reached.
"""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from tests.unit.http.conftest import HOLDS, Site

GOOD: Final = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
TELLTALE: Final = b"POST /api/v1/notes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
TELLTALE_BODY: Final = b'{"text":"smuggled"}'
SMUGGLED: Final = TELLTALE + b"Content-Length: %d\r\n\r\n%b" % (len(TELLTALE_BODY), TELLTALE_BODY)


def post(*fields: bytes, body: bytes = b"", first: bytes = b"POST /nowhere HTTP/1.1") -> bytes:
    return b"\r\n".join([first, b"Host: x", *fields, b"", b""]) + body


#: Each ends a message for some readers where it goes on for others.
CORPUS: Final = {
    "a length and chunks": post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "chunks and a length": post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
    "two lengths": post(b"Content-Length: 0", b"Content-Length: %d" % len(SMUGGLED)),
    "two lengths the other way": post(b"Content-Length: %d" % len(SMUGGLED), b"Content-Length: 0"),
    "two lengths in one": post(b"Content-Length: 0, %d" % len(SMUGGLED)),
    "a length with a plus": post(b"Content-Length: +0"),
    "a length with a minus": post(b"Content-Length: -1"),
    "a length in hexadecimal": post(b"Content-Length: 0x0"),
    "a length with an underscore": post(b"Content-Length: 1_0"),
    "a length in other digits": post("Content-Length: \u0661".encode()),
    "a length of words": post(b"Content-Length: zero"),
    "a length with a space inside": post(b"Content-Length: 1 0"),
    "a length too long to be one": post(b"Content-Length: " + b"9" * 30),
    "an empty length": post(b"Content-Length:"),
    "a space before the colon": post(b"Content-Length : 5"),
    "a tab before the colon": post(b"Transfer-Encoding\t: chunked", body=b"0\r\n\r\n"),
    "a space before the name": post(b"X: a", b" Content-Length: 5"),
    "a folded length": post(b"Content-Length:", b" 5"),
    "a folded field": post(b"X: a", b" b"),
    "a field folded with a tab": post(b"X: a", b"\tb"),
    "no name": post(b": a"),
    "no colon": post(b"Content-Length"),
    "an unknown coding": post(b"Transfer-Encoding: chunkedx", body=b"0\r\n\r\n"),
    "chunked is not last": post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    "chunked in quotes": post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"),
    "chunked twice": post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
    "chunked in two fields": post(
        b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"
    ),
    "chunked behind a control": post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
    "chunks for 1.0": post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n", first=b"POST /nowhere HTTP/1.0"),
    "NUL in a value": post(b"X: a\x00b"),
    "NUL in a name": post(b"X\x00: a"),
    "a bare CR in a value": post(b"X: a\rContent-Length: 5"),
    "a bare LF for a line": post(b"X: a\nContent-Length: 5"),
    "a bare LF for the end": b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 0\n\n",
    "bare LF everywhere": b"POST /nowhere HTTP/1.1\nHost: x\nContent-Length: 0\n\n",
    "two hosts": post(b"Host: y"),
    "no host": b"POST /nowhere HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "a version that is none": post(first=b"POST /nowhere HTTP/1.a"),
    "a version of tomorrow": post(first=b"POST /nowhere HTTP/3.0"),
    "no version": post(first=b"POST /nowhere"),
    "a tab for a space": post(first=b"POST\t/nowhere HTTP/1.1"),
    "a space in the address": post(first=b"POST /no where HTTP/1.1"),
    "a method with a bracket": post(first=b"PO(ST /nowhere HTTP/1.1"),
    "a letter that is no ASCII in a name": post("X-\u00e9: a".encode()),
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "the start of a handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}
#: The head is good, and the body's parts are not: the request may have its answer, what follows must not.
CHUNKS: Final = {
    "a size that is none": b"zz\r\n{}\r\n0\r\n\r\n",
    "a size with a plus": b"+2\r\n{}\r\n0\r\n\r\n",
    "a size with a minus": b"-2\r\n{}\r\n0\r\n\r\n",
    "a size with 0x": b"0x2\r\n{}\r\n0\r\n\r\n",
    "a size with an underscore": b"1_0\r\n{}\r\n0\r\n\r\n",
    "an endless size": b"f" * 40 + b"\r\n{}\r\n0\r\n\r\n",
    "an empty size": b"\r\n{}\r\n0\r\n\r\n",
    "a size ended by LF": b"2\n{}\r\n0\r\n\r\n",
    "a chunk longer than it says": b"1\r\n{}\r\n0\r\n\r\n",
    "a chunk ended by LF": b"2\r\n{}\n0\r\n\r\n",
    "LF in an extension": b"2;a=\nb\r\n{}\r\n0\r\n\r\n",
    "a NUL in a trailer": b"2\r\n{}\r\n0\r\nX: \x00\r\n\r\n",
}

#: How many good requests stand before. The first two of a connection are read by aiohttp, later ones are not.
BEFORE: Final = {"first": 0, "second": 1, "fourth": 3, "tenth": 9}


async def said_to(site: Site, data: bytes, before: int) -> tuple[bytes, bool]:
    """What is said to these bytes behind so many good requests, and whether the connection ended with it."""
    reader, writer = await asyncio.open_connection(site.host, site.port)
    try:
        for _ in range(before):
            writer.write(GOOD)
            await reader.readuntil(b'{"status":"alive"}')
        writer.write(data)
        return await asyncio.wait_for(reader.read(), 5), True
    except TimeoutError:
        return b"", False
    except ConnectionError:
        return b"", True
    finally:
        writer.close()


async def those_not_refused(
    site: Site, corpus: dict[str, bytes], before: int, *begins: bytes
) -> dict[str, bytes]:
    """What is said to each, where it is not one refusal and the end."""
    answers = await asyncio.gather(*(said_to(site, data + SMUGGLED, before) for data in corpus.values()))
    return {
        what: raw
        for what, (raw, ended) in zip(corpus, answers, strict=True)
        if not (ended and raw.startswith(begins) and raw.count(b"HTTP/1.1 ") == 1 and b"smuggled" not in raw)
    }


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
async def test_b13_what_could_be_read_in_two_ways_is_refused_and_the_end(site: Site, before: int) -> None:
    assert await those_not_refused(site, CORPUS, before, b"HTTP/1.1 400 ") == {}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
async def test_b13_broken_chunks_end_the_connection(site: Site, before: int) -> None:
    """Nobody needs the body, since the address is nowhere; it must not become a request all the same."""
    broken = {what: post(b"Transfer-Encoding: chunked", body=body) for what, body in CHUNKS.items()}
    said = await those_not_refused(site, broken, before, b"HTTP/1.1 400 ", b"HTTP/1.1 404 ")
    assert said == {}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
async def test_the_control_behind_a_good_request_the_telltale_is_reached(site: Site, before: int) -> None:
    last = SMUGGLED.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n")
    raw, ended = await said_to(site, post(b"Content-Length: 0") + last, before)
    assert ended
    assert raw.count(b"HTTP/1.1 ") == 2
    assert b"smuggled" in raw


@pytest.mark.parametrize(
    "what", ["a length and chunks", "two lengths", "a folded field", "a bare LF for a line"]
)
async def test_b13_cut_anywhere_it_stays_refused(site: Site, what: str) -> None:
    """In two packets, wherever they are cut."""
    data = CORPUS[what]
    for cut in range(1, len(data), 7):
        raw = await site.raw(GOOD, data[:cut], data[cut:] + SMUGGLED, pause_s=0.001)
        assert raw.count(b"HTTP/1.1 ") == 2
        assert b"HTTP/1.1 400 " in raw
        assert b"smuggled" not in raw


async def test_no_seat_is_held_by_what_stands_in_a_body(site: Site) -> None:
    """The classic: a whole request, with somebody's token, in the body of one that is refused."""
    body = b'{"seats":["A-1"]}'
    hold = (
        f"POST {HOLDS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good-a\r\nIdempotency-Key: k\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    broken = (post(b"Transfer-Encoding: chunked", body=body) for body in CHUNKS.values())
    await asyncio.gather(*(said_to(site, data + hold, 3) for data in (*CORPUS.values(), *broken)))
    assert site.cinema.holds == []
