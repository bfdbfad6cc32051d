"""Answers that are large arrive whole, and those who do not read them cost no copy.

Goal: a hall's drawing is a megabyte and the same for everybody, so a thousand connections that ask for it
and read nothing must not cost a gigabyte. Method: real servers; for memory on uvloop, as in production,
because the loop of the standard library copies what it could not send at once. The control copies, as a
message in one piece would.
"""

from __future__ import annotations

import asyncio
import socket
import tracemalloc

import pytest
import uvloop
from aiohttp.test_utils import make_mocked_request

from runtime.http import ok, rendering
from runtime.http.incoming import Request
from runtime.http.rendering import SHARED_BYTES_MIN, render
from tests.unit.http.conftest import Site, reply_of, serve

LARGE = b'"' + b"x" * 600_000 + b'"'
ASK = b"GET /api/v1/showtimes/sho_0123456789/layout HTTP/1.1\r\nHost: x\r\n"
DEAF = 60


@pytest.mark.parametrize("body", [LARGE, b"[]"], ids=["large", "small"])
async def test_answers_of_any_size_arrive_whole_and_in_order(either_site: Site, body: bytes) -> None:
    either_site.cinema.layout = body
    for _ in range(4):
        reply = await either_site.call("GET", "/api/v1/showtimes/sho_0123456789/layout")
        assert (reply.status, reply.body) == (200, body)
    raw = await either_site.raw((ASK + b"\r\n") * 3 + ASK + b"Connection: close\r\n\r\n")
    assert raw.count(b"HTTP/1.1 200 OK\r\n") == 4
    assert raw.count(body) == 4
    assert reply_of(raw[raw.rindex(b"HTTP/1.1 200 OK") :]).body == body


async def test_a_head_has_no_body_however_large_it_would_be(either_site: Site) -> None:
    either_site.cinema.layout = LARGE
    raw = await either_site.raw(ASK.replace(b"GET", b"HEAD") + b"Connection: close\r\n\r\n")
    assert b"Content-Length: %d\r\n" % len(LARGE) in raw
    assert raw.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(("length", "is_shared"), [(SHARED_BYTES_MIN, True), (SHARED_BYTES_MIN - 1, False)])
def test_a_large_body_is_handed_on_as_it_is(length: int, is_shared: bool) -> None:
    body = b"x" * length
    request = Request.of(make_mocked_request("GET", "/"))
    response = render(ok(body), request, "application/json", "req_1")
    assert (response.shared is body) == is_shared
    assert (response.message + response.shared).endswith(b"\r\n\r\n" + body)


def _held_by_the_deaf() -> int:
    """Bytes a server on uvloop has more, after so many asked twice and read nothing."""

    async def ask() -> int:
        async with serve() as site:
            site.cinema.layout = LARGE
            assert (await site.call("GET", "/api/v1/showtimes/sho_0123456789/layout")).body == LARGE
            tracemalloc.start()
            deaf = []
            try:
                for _ in range(DEAF):
                    link = socket.socket()
                    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                    link.setblocking(False)
                    loop = asyncio.get_running_loop()
                    await loop.sock_connect(link, (site.host, site.port))
                    await loop.sock_sendall(link, (ASK + b"\r\n") * 2)
                    deaf.append(link)
                while await site.counted("http_requests", operation="get_layout") < DEAF + 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                held, _ = tracemalloc.get_traced_memory()
                return held
            finally:
                tracemalloc.stop()
                for link in deaf:
                    link.close()

    return uvloop.run(ask())


def test_those_who_ask_for_much_and_read_nothing_share_one_copy() -> None:
    assert _held_by_the_deaf() < DEAF * len(LARGE) / 4


def test_the_control_a_message_in_one_piece_is_a_copy_for_each_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rendering, "SHARED_BYTES_MIN", 10 * len(LARGE))
    assert _held_by_the_deaf() > DEAF * len(LARGE) / 2
