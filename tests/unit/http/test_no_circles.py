"""Goal: a connection that ends, in whichever way, is freed there and then and leaves the collector nothing.

A circle costs nothing until the collector comes for it, and then everybody waits: when it came for what a
thousand slow senders had left, that was a standstill of two hundred milliseconds. Method: connections that
end in every way there is, the collector off meanwhile, and then what it finds of the kinds a connection is
made of. The control is one that is made to know itself.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.http import RawRequestMessage

from runtime.http import EventStream, connection, pace, reading, shedding
from runtime.http.connection import Protocol
from runtime.http.incoming import Request
from runtime.http.places import Place
from runtime.http.turns import Turns
from tests.unit.http.cinema import OUTCOMES, SeatTaken
from tests.unit.http.conftest import HOLDS, Site, serve, until
from tests.unit.http.test_overload import Door

KINDS = (
    Protocol,
    Turns,
    Request,
    web.BaseRequest,
    RawRequestMessage,
    aiohttp.StreamReader,
    EventStream,
    Place,
    SeatTaken,
    asyncio.CancelledError,
)
TIMES = 5
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HEAD_BEGUN = GET[:-2]
TINY = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n"
LAYOUT = b"GET /api/v1/showtimes/sho_0123456789/layout HTTP/1.1\r\nHost: x\r\n\r\n"
WATCH = (
    b"GET /api/v1/showtimes/sho_0123456789/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
)
CHUNKED = (
    b"POST /api/v1/notes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def hold(*labels: str, length: int | None = None) -> bytes:
    body = json.dumps({"seats": labels}).encode()
    head = (
        f"POST {HOLDS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good-acc_1\r\n"
        f"Idempotency-Key: k-{labels[0]}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length or len(body)}\r\n\r\n"
    )
    return head.encode() + body


#: What is sent, piece by piece with a moment between, before the caller goes or waits to be hung up on.
WAYS: dict[str, Sequence[bytes]] = {
    "nothing": (),
    "half a head": (HEAD_BEGUN,),
    "a head in pieces": (GET[:9], GET[9:20], GET[20:]),
    "half a body": (hold("1", length=500),),
    "half a body behind others": (GET, GET, GET, hold("1", length=500)),
    "a body in pieces": (hold("1")[:-4], hold("1")[-4:]),
    "half of a body in chunks": (CHUNKED + b"c\r\n{",),
    "a body in chunks": (CHUNKED, b'c\r\n{"text":"x"}\r\n0\r\n\r\n'),
    "one request": (GET,),
    "many requests": (GET,) * 5,
    "many at once": (GET * 5,),
    "the last one": (GET, GET, GET, LAST),
    "no HTTP": (b"hello\r\n\r\n",),
    "no HTTP behind others": (GET, GET, GET, b"hello\r\n\r\n"),
    "too large": (GET, GET, GET, b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n"),
    "no such place": (GET, GET, GET, b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"),
    "to upgrade": (UPGRADE % b"h2c" + GET, GET),
    "to upgrade behind others": (GET, GET, GET, UPGRADE % b"websocket" + GET, GET),
    "to upgrade with half a body": (
        hold("1", length=500).replace(b"Host: x", b"Host: x\r\nConnection: Upgrade\r\nUpgrade: foo"),
    ),
    "a viewer": (WATCH,),
    "a viewer behind others": (GET, GET, GET, WATCH),
    **{f"a hold that is {name}": (GET, GET, GET, hold(name)) for name in ("fine", *OUTCOMES)},
    **{f"a first hold that is {name}": (hold(name),) for name in ("fine", "taken", "broken")},
}


@pytest.fixture(scope="module", autouse=True)
def _nothing_old_to_look_at() -> Iterator[None]:
    """What was there before is not walked a hundred times."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@contextmanager
def saved() -> Iterator[list[Any]]:
    """What the collector would have freed of what is made inside."""
    gc.collect()
    gc.disable()
    found: list[Any] = []
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += [one for one in gc.garbage if isinstance(one, KINDS)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def come_and_go(site: Site, pieces: Sequence[bytes], *, waits: bool) -> None:
    reader, writer = await asyncio.open_connection(site.host, site.port)
    with suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)
        if waits:
            await reader.read()
    writer.transport.abort()  # what was not read yet is never read
    with suppress(ConnectionError):
        await writer.wait_closed()


async def circles(
    site: Site, pieces: Sequence[bytes], *, waits: bool = False, answered: bool = True
) -> Counter[str]:
    """What such connections leave behind, by kind."""
    others = len(site.server.connections)

    async def come(times: int) -> None:
        if not answered:
            site.cinema.may_finish.clear()
        await asyncio.gather(*(come_and_go(site, pieces, waits=waits) for _ in range(times)))
        site.cinema.may_finish.set()
        await until(lambda: len(site.server.connections) <= others)
        await asyncio.sleep(0.02)

    await come(1)  # what is made once is made
    with saved() as found:
        await come(TIMES)
    return Counter(type(one).__name__ for one in found)


@pytest.mark.parametrize("way", WAYS)
async def test_a_connection_whose_caller_goes_leaves_the_collector_nothing(site: Site, way: str) -> None:
    assert await circles(site, WAYS[way]) == {}


@pytest.mark.parametrize("way", [way for way in WAYS if not ("viewer" in way or "hold" in way)])
async def test_a_connection_that_is_hung_up_on_leaves_the_collector_nothing(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BODY_HEAD_START_S", 0.1)
    monkeypatch.setitem(connection.CONNECTION_OPTIONS, "keepalive_timeout", 0.1)
    monkeypatch.setitem(connection.CONNECTION_OPTIONS, "lingering_time", 0.1)
    async with serve(header_deadline_s=0.1) as site:
        assert await circles(site, WAYS[way], waits=True) == {}


@pytest.mark.parametrize("before", [(), (GET, GET, GET)], ids=["first", "later"])
async def test_a_caller_who_goes_before_the_answer_leaves_the_collector_nothing(
    site: Site, before: Sequence[bytes]
) -> None:
    assert await circles(site, (*before, hold("1")), answered=False) == {}


@pytest.mark.parametrize("asked", [(LAYOUT,), (LAYOUT * 8,), (GET, GET, GET, LAYOUT, LAYOUT)])
async def test_a_caller_who_reads_nothing_leaves_the_collector_nothing(
    site: Site, asked: Sequence[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever goes first: the caller, or the process that has waited long enough."""
    site.cinema.layout = b"[" + b" " * 8_000_000 + b"]"
    assert await circles(site, asked) == {}
    monkeypatch.setattr(pace, "STRETCH_S", 0.1)
    assert await circles(site, (*asked, *[b""] * 20)) == {}


@pytest.mark.parametrize(
    "asked", [(TINY * 2_000,), (GET + TINY * 2_000,), (GET, GET, GET, TINY * 40, GET + TINY)]
)
async def test_a_caller_who_is_turned_away_leaves_the_collector_nothing(
    asked: Sequence[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether he goes before the moment is over or after it."""
    async with serve(admission=Door()) as site:
        assert await circles(site, asked) == {}
        monkeypatch.setattr(shedding, "SHED_PAUSE_S", (0.0, 0.0))
        assert await circles(site, (*asked, *[b""] * 20)) == {}


async def test_a_caller_whose_refusals_wait_for_him_leaves_the_collector_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More of them than the kernel takes: the next one waits for the writer, and then for nobody."""
    monkeypatch.setattr(shedding, "SHED_PAUSE_S", (0.0, 0.0))
    made, drain, waited = Protocol.connection_made, Protocol._drain_helper, 0

    def made_with_little_room(self: Protocol, transport: Any) -> None:
        made(self, transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)

    async def drain_and_count(self: Protocol) -> None:
        nonlocal waited
        waited += self.writing_paused
        await drain(self)

    monkeypatch.setattr(Protocol, "connection_made", made_with_little_room)
    monkeypatch.setattr(Protocol, "_drain_helper", drain_and_count)
    async with serve(admission=Door()) as site:
        assert await circles(site, ((GET + TINY * 15) * 200, *[b""] * 40)) == {}
    assert waited


async def test_the_control_a_connection_that_knows_itself_is_found(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Protocol.connection_lost

    def knows_itself(self: Protocol, exc: BaseException | None) -> None:
        lost(self, exc)
        self._body_of = self

    monkeypatch.setattr(Protocol, "connection_lost", knows_itself)
    assert (await circles(site, (GET,)))["Protocol"] == TIMES
