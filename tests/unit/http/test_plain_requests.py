"""What is read without a parser is read as the parser would, or not at all.

Both are laid side by side: aiohttp's own parser, strict as it is, and `read_plain`. Whatever `read_plain`
takes must be one whole request there too, with the same method, path, fields and body, that neither ends
the connection nor changes how the message is read. A reader that took more would see other requests in the
same bytes than everything before and behind it: that is how requests are smuggled.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from runtime.http.incoming import Request, read_plain
from tests.support import two_readers

BODY = b'{"seats":["7-12","7-13"]}'
HOLD = (
    b"POST /api/v1/showtimes/sho_0123456789/holds?x=1 HTTP/1.1\r\n"
    b"Host: localhost:8080\r\nUser-Agent: Mozilla/5.0 (X11; Linux)\r\nAccept: */*\r\n"
    b"Authorization: Bearer abc.def-ghi_jkl\r\nIdempotency-Key: k-1\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
LOOK = b"GET /api/v1/showtimes/sho_0123456789/seats HTTP/1.1\r\nHost: x\r\n\r\n"


def asked(*lines: str, first: str = "GET /x HTTP/1.1", body: bytes = b"") -> bytes:
    return "\r\n".join([first, "Host: x", *lines]).encode("latin-1") + b"\r\n\r\n" + body


def agree(data: bytes) -> Request | None:
    return two_readers.agree(data, asyncio.get_running_loop())


async def test_what_browsers_and_load_tests_send_is_plain() -> None:
    hold = agree(HOLD)
    assert hold is not None
    assert (hold.method, hold.path, hold.body) == ("POST", "/api/v1/showtimes/sho_0123456789/holds", BODY)
    assert hold.fields["idempotency-key"] == "k-1"
    assert agree(LOOK) is not None
    assert agree(asked("Connection: keep-alive", "Content-Length: 0")) is not None
    assert agree(asked('sec-ch-ua: "Chromium";v="156"', "cookie: a=b; c=d", "TE: trailers")) is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HOLD[:-1],
        HOLD + b"G",
        LOOK + LOOK,
        LOOK.replace(b"\r\n", b"\n"),
        b"\r\n" + LOOK,
        LOOK.replace(b"HTTP/1.1", b"HTTP/1.0"),
        LOOK.replace(b"GET", b"get"),
        LOOK.replace(b" HTTP", b"  HTTP"),
        LOOK.replace(b"/api", b"http://x/api"),
        LOOK.replace(b"/seats", b"/s\xc3\xa9ats"),
        LOOK.replace(b"/seats", b"/seats#top"),
        LOOK.replace(b"Host: x\r\n", b""),
        asked("Content-Length: 2", "Content-Length: 2", body=b"{}"),
        asked("Content-Length: 2, 2", body=b"{}"),
        asked("Content-Length: +2", body=b"{}"),
        asked("Content-Length: 0x2", body=b"{}"),
        asked("Content-Length: 3", body=b"{}"),
        asked("Content-Length: ", body=b"{}"),
        asked("Content-Length : 2", body=b"{}"),
        asked("Content-Length:2", body=b"{}"),
        asked("Content-Length: 2\t", body=b"{}"),
        asked("Content-Length: 99999999999999999999", body=b"{}"),
        asked(body=b"{}"),
        asked("Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        asked("Transfer-Encoding: chunked", "Content-Length: 5", body=b"0\r\n\r\n"),
        asked("transfer-encoding:\tchunked", body=b"0\r\n\r\n"),
        asked("Connection: close"),
        asked("Connection: keep-alive, Upgrade", "Upgrade: websocket"),
        asked("Upgrade: h2c"),
        asked("Proxy-Connection: close"),
        asked("Expect: 100-continue", "Content-Length: 2", body=b"{}"),
        asked("Content-Encoding: gzip", "Content-Length: 2", body=b"{}"),
        asked("Host: y"),
        asked("X-A: b\r\n folded"),
        asked("X-A: b "),
        asked("X-A: \x01"),
        asked("X-A: \xe9"),
        asked("X A: b"),
        asked(": b"),
        asked("X-A: b\rX-B: c"),
        asked("X-A: b\nX-B: c"),
        asked("X-Long: " + "a" * 4_096),
        asked(*(f"X-{number}: a" for number in range(65))),
        asked(first="TRACE /x HTTP/1.1"),
        asked(first="OPTIONS * HTTP/1.1"),
        asked(first="CONNECT x:443 HTTP/1.1"),
        asked(first="GET /x HTTP/1.1 "),
        asked(first="GET /x HTTP/11"),
    ],
)
async def test_what_is_not_plain_is_left_to_the_parser(data: bytes) -> None:
    assert read_plain(data) is None


_PIECES = [
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b": ", b",", b"\0", b"\x80", b"\xff", b"#", b"//", b"%00"),
    *(
        b"Content-Length: 2\r\n",
        b"Content-Length: 25\r\n",
        b"content-length:25\r\n",
        b"Connection: close\r\n",
    ),
    *(b"Transfer-Encoding: chunked\r\n", b"Upgrade: x\r\n", b"Expect: 100-continue\r\n", b"Host: y\r\n"),
    *(b"Connection: keep-alive\r\n", b"X: y\r\n", b"0\r\n\r\n", b"HTTP/1.0", b"PATCH", b"{}", LOOK),
]


async def test_whatever_is_taken_is_read_as_the_parser_reads_it() -> None:
    """Good requests, spoilt at random places; nearly all are refused, and none is read otherwise."""
    draw = random.Random(11)
    taken = 0
    for _ in range(6_000):
        data = draw.choice((HOLD, LOOK))
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            at = draw.randrange(len(data) + 1)
            match draw.randrange(4):
                case 0:
                    data = data[:at] + draw.choice(_PIECES) + data[at:]
                case 1:
                    data = data[:at] + data[at + draw.randrange(1, 4) :]
                case 2:
                    data = data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
                case _:
                    lines = data.split(b"\r\n")
                    lines.insert(draw.randrange(1, len(lines)), draw.choice(_PIECES).removesuffix(b"\r\n"))
                    data = b"\r\n".join(lines)
        taken += agree(data) is not None
    assert 300 < taken < 5_700, "too few or too many were plain for this to say anything"
