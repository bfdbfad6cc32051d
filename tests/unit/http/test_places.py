"""Connections have places, and who only sits there gives way (rule R16, promise P18, row B14).

Goal: neither one caller nor a crowd of slow ones can keep others out, who is one too many is told so and
counted, whoever watches is connected like all others, and no proxy is a caller. Method: a real server with
few places, and connections that do nothing, or watch, counted. The controls are the same server without the
limit, and without giving way.
"""

from __future__ import annotations

import asyncio
import re
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from runtime.http import frame, sse
from runtime.http.places import Places, that_fit
from runtime.peers import Peer, Proxies
from tests.unit.http.conftest import Site, deaf, reply_of, serve, until

GET = b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n"
LAST = b"Connection: close\r\n"
EVENTS = b"/api/v1/showtimes/sho_0123456789/events"
OTHER = "127.0.0.2"  # of this machine, too


class Visitor:
    """A connection that does what the test says."""

    def __init__(self, caller: str | None = None, *, has_asked: bool = False) -> None:
        self.peer = Peer(caller)
        self.has_asked = has_asked
        self.closed = False

    def force_close(self) -> None:
        self.closed = True


@asynccontextmanager
async def sitting(site: Site, count: int, *, address: str = "127.0.0.1") -> AsyncIterator[list[Any]]:
    """So many connections that say nothing."""
    made = [
        await asyncio.open_connection(site.host, site.port, local_addr=(address, 0)) for _ in range(count)
    ]
    await asyncio.sleep(0.02)
    try:
        yield made
    finally:
        for _, writer in made:
            writer.close()


@asynccontextmanager
async def watching(
    site: Site, count: int, *, address: str = "127.0.0.1"
) -> AsyncIterator[list[tuple[bytes, asyncio.StreamReader]]]:
    """So many who ask for a live view: the heads they were answered with, and what follows."""
    asked = []
    writers = []
    try:
        for _ in range(count):
            reader, writer = await asyncio.open_connection(site.host, site.port, local_addr=(address, 0))
            writers.append(writer)
            writer.write(GET % (EVENTS, b""))
            asked.append((await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5), reader))
        yield asked
    finally:
        for writer in writers:
            writer.close()


def opened(asked: list[tuple[bytes, asyncio.StreamReader]]) -> int:
    """How many of them watch."""
    return sum(head.startswith(b"HTTP/1.1 200 ") for head, _ in asked)


async def ask(site: Site, path: bytes = b"/api/v1/films?cinema_id=c", *, address: str = "127.0.0.1") -> bytes:
    """The answer to one request on a connection of its own."""
    reader, writer = await asyncio.open_connection(site.host, site.port, local_addr=(address, 0))
    writer.write(GET % (path, LAST))
    said = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return said


def few(**options: Any) -> Places:
    usual = {"connections_max": 8, "per_address_max": 4, "surplus_max": 64, "silent_s_min": 60.0}
    return Places(**{**usual, **options})


async def test_a_caller_has_so_many_connections_and_others_have_theirs() -> None:
    places = few(proxies=Proxies("none"))
    async with serve(places=places, used=False) as site, sitting(site, 4):
        refused = reply_of(await ask(site))
        refused.is_problem("overloaded")
        assert refused.headers["Connection"] == "close"
        assert places.refused == {"address": 1, "process": 0}
        assert (await ask(site, address=OTHER)).startswith(b"HTTP/1.1 200 ")


async def test_who_leaves_makes_room() -> None:
    places = few(proxies=Proxies("none"))
    async with serve(places=places, used=False) as site:
        for _ in range(20):
            async with sitting(site, 3):
                assert (await ask(site)).startswith(b"HTTP/1.1 200 ")
            await until(lambda: places._taken == 0)
    assert places.refused == {"address": 0, "process": 0}


@pytest.mark.parametrize("named", [None, "127.0.0.0/8"], ids=["unnamed", "named"])
async def test_a_proxy_has_no_limit_of_its_own(named: str | None) -> None:
    places = few(proxies=Proxies(named))
    async with serve(places=places, used=False) as site, sitting(site, 7):
        assert (await ask(site)).startswith(b"HTTP/1.1 200 ")


async def test_a_process_has_so_many_connections() -> None:
    places = few()
    async with serve(places=places, used=False) as site, sitting(site, 8):
        reply_of(await ask(site)).is_problem("overloaded")
        assert places.refused == {"address": 0, "process": 1}
        page = (await ask(site, b"/metrics")).partition(b"\r\n\r\n")[2].decode()
        refused = r'^http_refused_connections_total\{of="process",.*\} 2\.0$'
        assert re.search(refused, page, re.MULTILINE), "the look itself is the second"


async def test_the_control_without_the_limit_everybody_comes_in() -> None:
    places = few(connections_max=1_000, per_address_max=1_000, proxies=Proxies("none"))
    async with serve(places=places, used=False) as site, sitting(site, 40):
        assert (await ask(site)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", [b"/livez", b"/readyz", b"/metrics"])
async def test_probes_come_in_past_every_limit_with_one_request(path: bytes) -> None:
    places = few()
    async with serve(places=places, used=False) as site, sitting(site, 8):
        reader, writer = await asyncio.open_connection(site.host, site.port)
        writer.write(GET % (path, b""))
        said = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert said.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close\r\n" in said
        assert (await ask(site, path)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "data",
    [
        GET % (b"/livez", b"") + GET % (b"/api/v1/films", b""),
        b"GET /livez HTTP/1.1\r\nX-Slow: ",
        GET % (b"/api/v1/films?/livez", b""),
        b"POST /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        GET % (b"/livez", b"Content-Length: 9\r\n"),
        GET % (b"/livez", b"X: a\r\ncontent-length:9\r\n"),
        GET % (b"/livez", b"Transfer-Encoding: chunked\r\n"),
        GET % (b"/livez", b"Expect: 100-continue\r\n"),
    ],
)
async def test_b14_nothing_else_comes_in_as_a_probe(data: bytes) -> None:
    """One that announces more than a head would sit there until that came."""
    places = few()
    async with serve(places=places, used=False) as site, sitting(site, 8):
        reply_of(await site.raw(data)).is_problem("overloaded")


async def test_r16_a_probe_past_the_limits_is_one_too_many_until_it_is_gone() -> None:
    may_answer = asyncio.Event()

    async def slow() -> float:
        await may_answer.wait()
        return 0.0

    places = few(surplus_max=3)
    checks = {"redis": slow}
    async with (
        serve(places=places, checks=checks, used=False) as site,
        sitting(site, 8),
        sitting(site, 3) as ill,
    ):
        for _, writer in ill:
            writer.write(GET % (b"/readyz", b""))
        await until(lambda: len(site.server.connections) == 8 + 3)
        assert (places._surplus, places.may_wait()) == (3, False)
        one_more, writer = await asyncio.open_connection(site.host, site.port)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(one_more.readexactly(1), 5)
        writer.close()
        may_answer.set()
        for reader, _ in ill:
            assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 200 ")
        await until(lambda: places._surplus == 0)
        assert (await ask(site, b"/livez")).startswith(b"HTTP/1.1 200 ")


async def test_r16_live_views_have_their_places_among_those_of_their_address() -> None:
    places = few(per_address_max=2, proxies=Proxies("none"))
    async with serve(places=places, used=False) as site:
        async with watching(site, 20) as asked:
            assert opened(asked) == len(site.cinema.viewers) == 2
            assert places.refused == {"address": 18, "process": 0}
            reply_of(await ask(site)).is_problem("overloaded")
            assert (await ask(site, address=OTHER)).startswith(b"HTTP/1.1 200 ")
        await until(lambda: places._taken == 0)
        assert (places.views, places._of, places._silent) == (0, {}, {})
        assert (await ask(site)).startswith(b"HTTP/1.1 200 ")


async def test_r16_live_views_have_half_of_the_places_and_who_asks_the_others() -> None:
    places = few()
    async with serve(places=places, used=False) as site, watching(site, 4) as asked:
        assert opened(asked) == 4
        async with watching(site, 1) as one_more:
            head, reader = one_more[0]
            length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
            reply_of(head + await reader.readexactly(length)).is_problem("overloaded")
        for _ in range(4):
            assert (await ask(site)).startswith(b"HTTP/1.1 200 ")
        page = (await ask(site, b"/metrics")).partition(b"\r\n\r\n")[2].decode()
        assert re.search(r"^http_live_views\{.*\} 4\.0$", page, re.MULTILINE)
        assert re.search(r"^http_connections\{.*\} [5-9]\.0$", page, re.MULTILINE), "and the look itself"


async def test_the_control_without_the_limit_everybody_watches() -> None:
    places = few(connections_max=1_000, per_address_max=1_000, proxies=Proxies("none"))
    async with serve(places=places, used=False) as site, watching(site, 20) as asked:
        assert opened(asked) == places.views == places._taken == 20


async def test_r16_a_live_view_gives_way_to_nobody_and_nothing_else_is_kept_of_its_connection() -> None:
    places = few(silent_s_min=0.0)
    async with serve(places=places, used=False) as site, watching(site, 3) as asked:
        assert places._silent == {}
        assert len(site.server.connections) == 0
        async with sitting(site, 16):
            assert places.evicted >= 11
            for viewer in site.cinema.viewers:
                assert viewer.send(frame(b"still here"))
            for _, reader in asked:
                await asyncio.wait_for(reader.readuntil(b"still here"), 5)


@pytest.mark.parametrize("field", [b"", b"Last-Event-ID: broken\r\n"], ids=["opened", "broken"])
async def test_r16_a_view_that_has_ended_and_is_not_taken_leaves_its_place(
    field: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reader has taken nothing since the answer before it, so the end of it waits, too."""
    monkeypatch.setattr(sse, "KERNEL_BYTES", 4_096)
    places = Places()
    asked = GET % (EVENTS.replace(b"events", b"layout"), b"") + GET % (EVENTS, field)
    async with serve(places=places, used=False) as site:
        site.cinema.layout = b'"' + b"x" * 50_000 + b'"'
        async with deaf(site, asked):
            await until(lambda: places.views == 1)
            for viewer in list(site.cinema.viewers):
                assert not viewer.has_room
                viewer.close()
            await until(lambda: places._taken == 0)


async def test_p18_who_has_not_asked_gives_way_to_who_comes() -> None:
    """Twice as many slow ones as there are places, and everybody else is served."""
    places = few(silent_s_min=0.0)
    async with serve(places=places, used=False) as site, sitting(site, 16) as slow:
        for _, writer in slow[8:]:
            writer.write(b"GET /livez HTTP/1.1\r\nX-Slow: ")
        for _ in range(8):
            assert (await ask(site)).startswith(b"HTTP/1.1 200 ")
        assert places.evicted >= 9, "eight when the second half came, and one for the first to ask"
        assert places.refused == {"address": 0, "process": 0}
        oldest, _ = slow[0]
        assert await asyncio.wait_for(oldest.read(), 5) == b""


async def test_p18_the_control_where_nobody_gives_way_the_slow_keep_all_others_out() -> None:
    places = few()
    async with serve(places=places, used=False) as site, sitting(site, 16):
        for _ in range(8):
            reply_of(await ask(site)).is_problem("overloaded")


async def test_who_has_asked_keeps_the_place() -> None:
    places = few(silent_s_min=0.0)
    async with serve(places=places, used=False) as site, sitting(site, 8) as people:
        for reader, writer in people:
            writer.write(GET % (b"/livez", b""))
            await reader.readuntil(b'{"status":"alive"}')
        reply_of(await ask(site)).is_problem("overloaded")
        reader, writer = people[0]
        writer.write(GET % (b"/livez", b""))
        await reader.readuntil(b'{"status":"alive"}')


async def test_who_is_one_too_many_and_says_nothing_is_gone_soon() -> None:
    places = few(surplus_s=0.05)
    async with serve(places=places, used=False) as site, sitting(site, 8):
        reader, writer = await asyncio.open_connection(site.host, site.port)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 5)
        writer.close()


async def test_those_who_wait_to_hear_that_they_are_too_many_are_not_too_many() -> None:
    places = few(surplus_max=3)
    async with serve(places=places, used=False) as site, sitting(site, 8), sitting(site, 3):
        reader, writer = await asyncio.open_connection(site.host, site.port)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 5)
        writer.close()
        assert places.refused["process"] == 4


def test_on_the_loop_of_processes_it_is_the_same() -> None:
    uvloop.run(test_a_process_has_so_many_connections())
    uvloop.run(test_probes_come_in_past_every_limit_with_one_request(b"/livez"))
    uvloop.run(test_p18_who_has_not_asked_gives_way_to_who_comes())
    uvloop.run(test_those_who_wait_to_hear_that_they_are_too_many_are_not_too_many())
    uvloop.run(test_r16_a_probe_past_the_limits_is_one_too_many_until_it_is_gone())
    uvloop.run(test_r16_live_views_have_their_places_among_those_of_their_address())
    uvloop.run(test_r16_a_live_view_gives_way_to_nobody_and_nothing_else_is_kept_of_its_connection())


def test_who_came_a_moment_ago_is_spared() -> None:
    now = 0.0
    places = Places(connections_max=2, silent_s_min=1.0, clock=lambda: now)
    first, second, third = Visitor(), Visitor(), Visitor()
    assert places.take(first) is not None
    now = 0.9
    assert places.take(second) is not None
    assert places.take(third) is None
    now = 1.0
    assert places.take(third) is not None
    assert (first.closed, second.closed) == (True, False)


def test_nothing_is_kept_of_those_who_left() -> None:
    places = Places()
    visitors = [Visitor(f"caller {number % 50}", has_asked=number % 2 == 0) for number in range(1_000)]
    taken = [place for visitor in visitors if (place := places.take(visitor)) is not None]
    assert len(taken) == 1_000
    for place in taken[::3]:
        place.keep_for_a_view()
    for place in taken:
        place.leave()
    assert (places._taken, places._of, places._silent, places.views) == (0, {}, {}, 0)


def test_there_are_no_more_places_than_files() -> None:
    assert that_fit(1) == 1
    assert that_fit(10**9) < 10**9


@pytest.mark.parametrize("files", [300, 1_024, 4_096, 5_376, 6_000, 20_000, 1_000_000])
def test_r16_those_who_are_refused_have_files_too(files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    for wanted in (1, 100, 20_000, 10**9):
        connections = that_fit(wanted)
        surplus = Places(connections_max=connections)._surplus_max
        assert 1 <= connections <= wanted
        assert connections + surplus + 40 <= files, "and something else is open, too"
    assert that_fit(10**9) > files / 10
