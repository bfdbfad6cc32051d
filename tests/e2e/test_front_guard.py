"""The door of the real thing: its settings reach it, and slow ones keep nobody out (R16, S17, P18).

Goal: what the tests of the HTTP layer show of places holds for processes as they are started, on their loop
and behind their settings. Method: an instance with few places, and connections that only sit there, from an
address of their own; everything is counted, on both sides.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest_asyncio

from tests.support.service import Service, running_service

PLACES: Final = 48
PER_ADDRESS: Final = 16
SITTING: Final = "127.0.0.2"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded() -> AsyncIterator[Service]:
    async with running_service(
        "--no-demo",
        SEATRUSH_CONNECTIONS_MAX=str(PLACES),
        SEATRUSH_CONNECTIONS_PER_ADDRESS_MAX=str(PER_ADDRESS),
        SEATRUSH_TRUSTED_PROXIES="127.0.0.1, 10.0.0.0/8",
    ) as service:
        yield service


@asynccontextmanager
async def sitting(
    service: Service, count: int, address: str
) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """So many connections that say nothing by themselves."""
    made = [
        await asyncio.open_connection("127.0.0.1", service.port, local_addr=(address, 0))
        for _ in range(count)
    ]
    try:
        yield made
    finally:
        for _, writer in made:
            writer.close()


async def asked(service: Service, address: str) -> bytes:
    """The first line of an answer, to a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port, local_addr=(address, 0))
    writer.write(b"GET /api/v1/films HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    said = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return said.partition(b"\r\n")[0]


def counted(service: Service, name: str, label: str = "") -> float:
    return sum(
        float(value) for value in re.findall(rf"^{name}\{{{label}.*\}} (\S+)$", service.measured(), re.M)
    )


async def test_an_address_has_its_places_and_a_named_proxy_has_no_limit(guarded: Service) -> None:
    refused = counted(guarded, "http_refused_connections_total", 'of="address"')
    async with sitting(guarded, PER_ADDRESS, SITTING):
        assert await asked(guarded, SITTING) == b"HTTP/1.1 503 Service Unavailable"
        assert await asked(guarded, "127.0.0.3") == b"HTTP/1.1 200 OK"
        assert counted(guarded, "http_refused_connections_total", 'of="address"') == refused + 1
    async with sitting(guarded, PER_ADDRESS + 4, "127.0.0.1"):
        assert await asked(guarded, "127.0.0.1") == b"HTTP/1.1 200 OK"


async def test_r16_live_views_are_among_the_connections_of_their_address(guarded: Service) -> None:
    showtime_id = await guarded.add_showtime()
    path = f"/api/v1/showtimes/{showtime_id}/events".encode()
    watch = b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
    views = counted(guarded, "http_live_views")
    async with sitting(guarded, PER_ADDRESS, SITTING) as made:
        for reader, writer in made:
            writer.write(watch)
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 200 ")
        assert counted(guarded, "http_live_views") == views + PER_ADDRESS
        assert await asked(guarded, SITTING) == b"HTTP/1.1 503 Service Unavailable"
        assert await asked(guarded, "127.0.0.3") == b"HTTP/1.1 200 OK"
    async with asyncio.timeout(10):
        while counted(guarded, "http_live_views") > views:  # noqa: ASYNC110 (it is another process)
            await asyncio.sleep(0.1)
    assert await asked(guarded, SITTING) == b"HTTP/1.1 200 OK"


async def test_p18_a_crowd_that_only_sits_there_keeps_nobody_out(guarded: Service) -> None:
    evicted = counted(guarded, "http_evicted_connections_total")
    async with sitting(guarded, 2 * PLACES, "127.0.0.1"):
        await asyncio.sleep(1.1)  # then they are no longer new
        for _ in range(20):
            assert await asked(guarded, "127.0.0.1") == b"HTTP/1.1 200 OK"
        assert counted(guarded, "http_evicted_connections_total") > evicted
        assert guarded.is_ready(), "and probes come in as well"


async def test_s4_guesses_are_counted_by_what_the_proxy_says_and_not_by_what_the_guesser_says(
    guarded: Service,
) -> None:
    statuses = []
    for number in range(140):
        answer = await guarded.request(
            "POST",
            "/sessions",
            json_body={"login": f"fan{number}@example.com", "password": "a wrong guess"},
            headers={"X-Forwarded-For": f"198.51.100.{number}, 203.0.113.77, 10.1.1.1"},
        )
        statuses.append(answer.status)
    assert statuses[:100] == [401] * 100
    assert 429 in statuses[100:]
