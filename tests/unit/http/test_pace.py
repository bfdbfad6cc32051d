"""Whoever asks for much and takes nothing is hung up on, and a slow line is waited for (promise P18).

Goal: an answer nobody takes costs its place for a stretch of time and no longer. Method: the real server with
short stretches, an answer larger than any kernel keeps for a reader, and readers on sockets of their own. In
the control stretches are long, and the place stays taken.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvloop

from runtime.http import pace
from runtime.http.places import Places
from tests.unit.http.conftest import Site, serve, until

LARGE = b'"' + b"x" * 16_000_000 + b'"'
ASK = b"GET /api/v1/showtimes/sho_0123456789/layout HTTP/1.1\r\nHost: x\r\n"
LAST = b"Connection: close\r\n\r\n"
STRETCH_S = 0.3


@asynccontextmanager
async def site_with(places: Places) -> AsyncIterator[Site]:
    async with serve(places=places, used=False) as site:
        site.cinema.layout = LARGE
        yield site


@asynccontextmanager
async def reader_of(site: Site, ending: bytes, *, asks: bool = True) -> AsyncIterator[socket.socket]:
    """Somebody who has asked, or will."""
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    link.setblocking(False)
    try:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(link, (site.host, site.port))
        if asks:
            await loop.sock_sendall(link, ASK + ending)
        yield link
    finally:
        link.close()


def our_side(site: Site) -> asyncio.Transport:
    """Of the only connection; from now on the kernel keeps little for its reader."""
    (connection,) = site.server.connections
    transport: asyncio.Transport = connection.transport
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    return transport


def somebody_waits(places: Places) -> bool:
    return places._taken == 1


@pytest.mark.parametrize("ending", [b"\r\n", LAST], ids=["stays", "closes"])
@pytest.mark.parametrize("requests", [1, 4], ids=["first", "later"])
async def test_who_takes_nothing_of_an_answer_is_cut_and_leaves_its_place(
    monkeypatch: pytest.MonkeyPatch, ending: bytes, requests: int
) -> None:
    """Also on a connection that was used before, whose answers are written another way."""
    monkeypatch.setattr(pace, "STRETCH_S", STRETCH_S)
    places = Places()
    async with site_with(places) as site:
        site.cinema.layout = b"[]"
        async with reader_of(site, b"\r\n") as link:
            loop = asyncio.get_running_loop()
            for _ in range(requests - 1):
                assert await loop.sock_recv(link, 4_096)
                await loop.sock_sendall(link, ASK + b"\r\n")
            assert await loop.sock_recv(link, 4_096)
            site.cinema.layout = LARGE
            await loop.sock_sendall(link, ASK + ending)
            await until(lambda: places._taken == 0)
        assert await site.counted("http_deaf_connections") == 1


async def test_the_control_without_a_pace_it_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "STRETCH_S", 3_600.0)
    places = Places()
    async with site_with(places) as site, reader_of(site, b"\r\n"):
        await until(lambda: somebody_waits(places))
        await asyncio.sleep(5 * STRETCH_S)
        assert somebody_waits(places)


@pytest.mark.parametrize(
    "ending", [LAST, b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"], ids=["", "upgrade"]
)
async def test_r16_who_takes_nothing_of_a_small_last_answer_leaves_its_place_too(
    monkeypatch: pytest.MonkeyPatch, ending: bytes
) -> None:
    """What waits is too little for the transport to say that nobody reads."""
    monkeypatch.setattr(pace, "STRETCH_S", 4 * STRETCH_S)
    places = Places()
    async with site_with(places) as site:
        site.cinema.layout = b'"' + b"x" * 50_000 + b'"'
        async with reader_of(site, b"\r\n", asks=False) as link:
            await until(lambda: len(site.server.connections) == 1)
            transport = our_side(site)
            await asyncio.get_running_loop().sock_sendall(link, ASK + ending)
            await until(transport.is_closing)
            assert 0 < transport.get_write_buffer_size() < 64 * 1024
            await until(lambda: places._taken == 0)
        assert await site.counted("http_deaf_connections") == 1


async def test_r16_the_control_without_a_pace_a_small_last_answer_keeps_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "STRETCH_S", 3_600.0)
    places = Places()
    async with site_with(places) as site:
        site.cinema.layout = b'"' + b"x" * 50_000 + b'"'
        async with reader_of(site, b"\r\n", asks=False) as link:
            await until(lambda: len(site.server.connections) == 1)
            our_side(site)
            await asyncio.get_running_loop().sock_sendall(link, ASK + LAST)
            await asyncio.sleep(5 * STRETCH_S)
            assert somebody_waits(places)


@pytest.mark.parametrize("requests", [1, 4], ids=["first", "later"])
async def test_r16_who_leaves_the_last_of_a_large_answer_is_cut(
    monkeypatch: pytest.MonkeyPatch, requests: int
) -> None:
    """The transport says that there is room again while the end of the answer still waits."""
    monkeypatch.setattr(pace, "STRETCH_S", 4 * STRETCH_S)
    places, loop = Places(), asyncio.get_running_loop()
    async with site_with(places) as site:
        site.cinema.layout = b"[]"
        async with reader_of(site, b"\r\n") as link:
            for _ in range(requests - 1):
                assert await loop.sock_recv(link, 4_096)
                await loop.sock_sendall(link, ASK + b"\r\n")
            assert await loop.sock_recv(link, 4_096)
            transport = our_side(site)
            transport.set_write_buffer_limits(high=64 * 1024, low=60_000)
            site.cinema.layout = b'"' + b"x" * 200_000 + b'"'
            site.server.drain()  # type: ignore[attr-defined]
            await loop.sock_sendall(link, ASK + b"\r\n")
            await until(lambda: transport.get_write_buffer_size() > 64 * 1024)
            while transport.get_write_buffer_size() > 60_000:
                assert await loop.sock_recv(link, 2_048)
            assert transport.get_write_buffer_size() > 0
            await until(lambda: places._taken == 0)
        assert places._deaf == 1


async def test_a_slow_line_gets_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "STRETCH_S", STRETCH_S)
    places, taken = Places(), 0
    loop = asyncio.get_running_loop()
    async with site_with(places) as site, reader_of(site, LAST) as link:
        began_s = loop.time()
        while piece := await loop.sock_recv(link, 400_000):
            taken += len(piece)
            if loop.time() - began_s < 3 * STRETCH_S:
                await asyncio.sleep(0.01)
        assert taken > len(LARGE)
        assert loop.time() - began_s > 2 * STRETCH_S, "or it was no slow line"
        assert await site.counted("http_deaf_connections") == 0


def test_on_the_loop_of_processes_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test_r16_who_takes_nothing_of_a_small_last_answer_leaves_its_place_too(monkeypatch, LAST))
        for requests in (1, 4):
            runner.run(test_r16_who_leaves_the_last_of_a_large_answer_is_cut(monkeypatch, requests))
