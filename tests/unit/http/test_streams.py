"""Server-sent events: framed once, fanned out to everybody, and nobody slows the others down."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from runtime.http import STREAMS, Places, frame
from runtime.http.protocol import PLACES
from runtime.http.sse import BUFFER_BYTES_MAX
from tests.unit.http.conftest import Site, serve, until

EVENTS = "/api/v1/showtimes/sho_0123456789/events"
SNAPSHOT = b'id: 1\nevent: snapshot\ndata: {"version":1}\n\n'


@pytest.fixture
async def watching(site: Site) -> AsyncIterator[aiohttp.ClientResponse]:
    url = f"http://{site.host}:{site.port}{EVENTS}"
    async with site.session.get(url, headers={"Accept": "text/event-stream"}) as response:
        yield response


def test_an_event_is_framed_with_everything_it_has() -> None:
    event = frame(b'{"a":1}', event="delta", event_id="7.3")
    assert event.plain == b'id: 7.3\nevent: delta\ndata: {"a":1}\n\n'
    assert event.chunk == b"%x\r\n" % len(event.plain) + event.plain + b"\r\n"
    assert frame(b"x").plain == b"data: x\n\n"
    assert frame(b"").plain == b"data: \n\n"


def test_line_breaks_cannot_end_an_event_early() -> None:
    assert (
        frame(b"a\n\nevent: forged\r\nb\rc").plain
        == b"data: a\ndata: \ndata: event: forged\ndata: b\ndata: c\n\n"
    )


async def test_a_viewer_gets_the_snapshot_and_then_what_happens(
    site: Site, watching: aiohttp.ClientResponse
) -> None:
    assert watching.headers["Content-Type"] == "text/event-stream"
    assert watching.headers["Cache-Control"] == "no-store"
    assert await watching.content.readexactly(len(SNAPSHOT)) == SNAPSHOT
    delta = frame(b"{}", event="delta")
    (viewer,) = site.cinema.viewers
    assert viewer.send(delta)
    while (received := await watching.content.readuntil(b"\n\n")).startswith(b":"):
        pass
    assert received == delta.plain


async def test_silence_is_filled_with_heartbeats(watching: aiohttp.ClientResponse) -> None:
    await watching.content.readexactly(len(SNAPSHOT))
    assert await watching.content.readuntil(b"\n\n") == b": \n\n"


async def test_a_viewer_who_left_is_forgotten(site: Site) -> None:
    async with site.session.get(f"http://{site.host}:{site.port}{EVENTS}") as response:
        await response.content.readexactly(len(SNAPSHOT))
        (viewer,) = site.cinema.viewers
        assert site.app[PLACES].views == 1
        response.close()
    await until(lambda: not site.cinema.viewers and site.app[PLACES].views == 0)
    assert not viewer.send(frame(b"{}"))


async def test_a_viewer_who_takes_nothing_for_long_is_cut_off_and_the_others_are_not(site: Site) -> None:
    slow = socket.create_connection((site.host, site.port))
    slow.sendall(f"GET {EVENTS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await until(lambda: len(site.cinema.viewers) == 1)
    (idler,) = site.cinema.viewers
    async with site.session.get(f"http://{site.host}:{site.port}{EVENTS}") as reader:
        await until(lambda: len(site.cinema.viewers) == 2)
        _, attentive = site.cinema.viewers
        event = frame(b"x" * 60_000)
        told = 0
        while idler.send(event):
            told += 1
            assert told * 60_000 < 64 * BUFFER_BYTES_MAX, "the buffer has no bound"
        await until(lambda: site.cinema.viewers == [attentive])
        assert attentive.send(frame(b"last"))
        while b"data: last" not in await reader.content.readuntil(b"\n\n"):
            pass
    slow.close()


async def test_a_proxy_of_the_old_days_gets_the_bytes_without_chunks(site: Site) -> None:
    reader, writer = await asyncio.open_connection(site.host, site.port)
    writer.write(f"GET {EVENTS} HTTP/1.0\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"chunked" not in head
    assert await reader.readexactly(len(SNAPSHOT)) == SNAPSHOT
    writer.close()


async def test_at_shutdown_viewers_are_told_when_to_come_back() -> None:
    async with serve() as site:
        async with site.session.get(f"http://{site.host}:{site.port}{EVENTS}") as response:
            await response.content.readexactly(len(SNAPSHOT))
            site.app[STREAMS].close_all()
            rest = await response.content.read()
            assert rest.rpartition(b"retry: ")[2].strip().isdigit()
        await until(lambda: not site.cinema.viewers)
        late = await site.call("GET", EVENTS)
        assert (late.status, late.body.startswith(b"retry: ")) == (200, True)


async def test_a_process_holds_only_so_many_viewers() -> None:
    async with (
        serve(places=Places(connections_max=2)) as site,
        site.session.get(f"http://{site.host}:{site.port}{EVENTS}"),
    ):
        (await site.call("GET", EVENTS)).is_problem("overloaded")


async def test_a_view_that_cannot_be_opened_ends(site: Site) -> None:
    reply = await site.call("GET", EVENTS, headers={"Last-Event-ID": "broken"})
    assert (reply.status, reply.body) == (200, b"")
    await until(lambda: site.app[PLACES].views == 0)


async def test_before_the_stream_a_refusal_is_a_problem_like_any_other(site: Site) -> None:
    (await site.call("GET", "/api/v1/showtimes/nonsense/events")).is_problem("not_found")
    reply = await site.call("GET", EVENTS, headers={"Accept": "application/json"})
    reply.is_problem("not_acceptable")
    head = await site.call("HEAD", EVENTS)
    assert (head.status, head.headers["Allow"]) == (405, "GET")


async def test_opening_is_counted_when_it_happens(site: Site, watching: aiohttp.ClientResponse) -> None:
    metrics = (await site.call("GET", "/metrics")).body.decode()
    assert re.search(r'http_requests_total\{operation="watch_seats",[^}]*status="200"\} 1\.0', metrics)
