"""Under overload nothing begins that was not asked about, and refusals have an end, too (rows B57, B58; R15).

Goal: whatever stands before it, a request is refused while the queue is full, a probe alone excepted; however
much somebody sends, a few dozen refusals a moment are all it brings; and none are written that nobody takes.
Method: a real server whose queue is declared full or empty, and callers who send many requests in one packet.
The controls have room.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE

from runtime.http import pace, shedding
from runtime.http.connection import Protocol
from runtime.http.places import Places
from tests.unit.http.conftest import HOLDS, Site, deaf, serve, until
from tests.unit.http.test_overload import Door

PROBE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
TINY = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
ROOM_BYTES = 64 * 1024  # what transports take before they say that nobody reads


def hold(key: str) -> bytes:
    body = b'{"seats":["A-1"]}'
    head = (
        f"POST {HOLDS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good-acc_1\r\nIdempotency-Key: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Caller:
    """One end of a connection, on which some good answers were given before."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.say = writer.write
        self.close = writer.close

    async def statuses(self, count: int) -> list[int]:
        found: list[int] = []
        while len(found) < count:
            head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            assert length is not None
            await self._reader.readexactly(int(length[1]))
            found.append(int(head.split()[1]))
        return found


@asynccontextmanager
async def calling(site: Site, before: int = 0) -> AsyncIterator[Caller]:
    caller = Caller(*await asyncio.open_connection(site.host, site.port))
    try:
        for _ in range(before):
            caller.say(PROBE)
            assert await caller.statuses(1) == [200]
        yield caller
    finally:
        caller.close()


@pytest.mark.parametrize("before", [0, 3], ids=["first", "later"])
@pytest.mark.parametrize("is_full", [True, False], ids=["", "control"])
async def test_b58_what_stands_behind_a_probe_is_turned_away_like_all_else(
    is_full: bool, before: int
) -> None:
    async with serve(admission=Door(full=is_full), used=False) as site, calling(site, before) as caller:
        caller.say(PROBE + hold("a") + PROBE + hold("b") + hold("c"))
        status = 503 if is_full else 201
        assert await caller.statuses(5) == [200, status, 200, status, status]
        assert len(site.cinema.holds) == (0 if is_full else 3)


@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_b58_the_first_request_of_a_connection_is_turned_away_unread(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is there before aiohttp's side of the connection has begun."""
    read = 0
    long_way = Protocol._refuse_the_long_way

    async def read_and_refuse(self: Protocol, request: Any) -> Any:
        nonlocal read
        read += 1
        return await long_way(self, request)

    monkeypatch.setattr(Protocol, "_refuse_the_long_way", read_and_refuse)

    async def come(port: int) -> int:
        with socket.create_connection(("127.0.0.1", port)) as link:
            link.sendall(TINY)  # before we look at the newcomer
            link.setblocking(False)
            said = await asyncio.get_running_loop().sock_recv(link, 4_096)
            return int(said.split()[1])

    async def come_all() -> None:
        async with serve(admission=Door(), used=False) as site:
            assert await asyncio.gather(*(come(site.port) for _ in range(50))) == [503] * 50

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(come_all())
    assert read == 0


@pytest.mark.parametrize("before", [0, 3], ids=["first", "later"])
@pytest.mark.parametrize("becomes_full", [True, False], ids=["", "control"])
async def test_b58_what_came_behind_a_running_request_is_asked_about_in_its_turn(
    becomes_full: bool, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shedding, "SHED_PAUSE_S", (0.001, 0.001))
    door = Door(full=False)
    async with serve(admission=door, used=False) as site, calling(site, before) as caller:
        site.cinema.may_finish.clear()
        caller.say(hold("a"))
        await until(lambda: len(site.cinema.holds) == 1)
        for number in range(300):
            caller.say(hold(f"b{number}"))
        await asyncio.sleep(0.02)
        door.full = becomes_full
        site.cinema.may_finish.set()
        assert await caller.statuses(301) == [201] + [503 if becomes_full else 201] * 300
        assert len(site.cinema.holds) == (1 if becomes_full else 301)
        assert door.shed == (300 if becomes_full else 0)


async def test_b58_half_a_body_behind_others_is_turned_away_in_its_turn() -> None:
    async with serve(admission=Door(), used=False) as site, calling(site) as caller:
        caller.say(PROBE + hold("a")[:-4])
        assert await caller.statuses(2) == [200, 503]
        caller.say(b'-1"]}'[-4:] + PROBE)
        assert await caller.statuses(1) == [200]
        assert site.cinema.holds == []


async def test_b58_what_was_let_in_is_not_asked_about_again() -> None:
    """Between being read and being begun the queue may fill, with those who were let in as well."""

    class Closing(Door):
        def arrived(self) -> None:
            super().arrived()
            self.full = True

    async with serve(admission=Closing(full=False), used=False) as site, calling(site) as caller:
        caller.say(hold("a") + hold("b"))
        assert await caller.statuses(2) == [201, 503]


@pytest.mark.parametrize("is_full", [True, False], ids=["", "control"])
async def test_b58_a_plain_request_on_a_used_connection_is_turned_away_too(is_full: bool) -> None:
    """Where it would be answered at once."""
    door = Door(full=False)
    async with serve(admission=door, used=False) as site, calling(site, 4) as caller:
        door.full = is_full
        caller.say(hold("a"))
        assert await caller.statuses(1) == [503 if is_full else 201]
        assert len(site.cinema.holds) == (0 if is_full else 1)


async def test_b58_what_is_served_in_its_turn_is_counted_and_probes_are_too() -> None:
    class Counted(Door):
        arrivals = 0

        def arrived(self) -> None:
            super().arrived()
            self.arrivals += 1

    door = Counted(full=False)
    async with serve(admission=door, used=False) as site, calling(site) as caller:
        caller.say(hold("a") + PROBE + hold("b"))
        assert await caller.statuses(3) == [201, 200, 201]
    assert door.arrivals == 3


async def test_b58_a_large_body_of_one_turned_away_keeps_nothing_up_that_comes_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is read to its end; one that nobody reads is held back when the parser has kept enough of it."""
    monkeypatch.setattr(shedding, "SHED_PAUSE_S", (0.0, 0.0))
    async with serve(admission=Door(), used=False) as site, calling(site, 1) as caller:
        caller.say(b"POST /api/v1/notes HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        await asyncio.sleep(0.02)
        caller.say(b"x" * 1_000_000 + PROBE)
        assert await caller.statuses(2) == [503, 200]


async def test_what_is_no_http_is_told_so_also_when_there_is_no_time() -> None:
    door = Door(full=False)
    async with serve(admission=door, used=False) as site, calling(site) as caller:
        site.cinema.may_finish.clear()
        caller.say(hold("a"))
        await until(lambda: len(site.cinema.holds) == 1)
        door.full = True
        for piece in (TINY, b"hello\r\n\r\n"):
            caller.say(piece)
            await asyncio.sleep(0.02)
        site.cinema.may_finish.set()
        assert await caller.statuses(3) == [201, 503, 400]


@pytest.mark.parametrize("times", [1, 20])
async def test_b57_whoever_was_turned_away_in_turn_is_not_read_for_a_moment_either(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor by aiohttp, which reads on when it has answered half of what it had read."""
    monkeypatch.setattr(shedding, "SHED_PAUSE_S", (3_600.0, 3_600.0))
    door = Door()
    async with serve(admission=door, used=False) as site, calling(site) as caller:
        caller.say((PROBE + TINY) * times)
        assert await caller.statuses(2 * times) == [200, 503] * times
        caller.say(TINY)
        await asyncio.sleep(0.1)
        assert door.shed == times


class Counting(Door):
    """A full queue that counts how many are turned away in one turn of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._in_this_turn = 0

    def turned_away(self) -> None:
        super().turned_away()
        if not self._in_this_turn:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._in_this_turn += 1

    def _next_turn(self) -> None:
        self.most = max(self.most, self._in_this_turn)
        self._in_this_turn = 0


@pytest.mark.parametrize("first", [b"", PROBE], ids=["at once", "in their turn"])
async def test_b57_of_ten_thousand_in_one_go_a_few_dozen_are_refused_a_moment(
    first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shedding, "SHED_PAUSE_S", (0.05, 0.05))
    door, moments = Counting(), 5
    broken: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))
    try:
        async with serve(admission=door, used=False) as site, calling(site, 1) as caller:
            began_s = asyncio.get_running_loop().time()
            caller.say(TINY)
            assert await caller.statuses(1) == [503]
            caller.say(first + TINY * 10_000)  # it is read in one go, when the moment is over
            await until(lambda: door.shed > moments * MAX_MSG_QUEUE_SIZE)
            assert asyncio.get_running_loop().time() - began_s > (moments - 1) * 0.05
    finally:
        asyncio.get_running_loop().set_exception_handler(None)
    assert door.most <= MAX_MSG_QUEUE_SIZE
    assert broken == []


@pytest.mark.parametrize("first", [b"", PROBE], ids=["at once", "in their turn"])
async def test_b57_each_of_many_in_one_go_is_refused_in_the_end(
    first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shedding, "SHED_PAUSE_S", (0.0, 0.0))
    async with serve(admission=Door(), used=False) as site, calling(site) as caller:
        caller.say(first + TINY * 5_000 + PROBE)
        assert await caller.statuses(5_000 + bool(first) + 1) == [200] * bool(first) + [503] * 5_000 + [200]
        caller.say(TINY)
        assert await caller.statuses(1) == [503], "and it is read on"


def unsent(connection: Protocol) -> int:
    return connection.transport.get_write_buffer_size() if connection.transport is not None else 0


async def statuses_on(link: socket.socket, count: int) -> Sequence[bytes]:
    """What was said, read to the last of so many answers."""
    loop, said = asyncio.get_running_loop(), b""
    async with asyncio.timeout(20):
        while said.count(b"HTTP/1.1 ") < count or not said.endswith(b"}"):
            piece = await loop.sock_recv(link, 65_536)
            assert piece
            said += piece
    return re.findall(rb"HTTP/1\.1 (\d+)", said)


MANY = {"at once": TINY * 2_000, "in their turn": (PROBE + TINY * 15) * 125}


@pytest.mark.parametrize("asked", MANY.values(), ids=MANY)
async def test_b57_who_takes_no_refusal_is_refused_no_more_and_hears_the_rest_later(
    asked: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shedding, "SHED_PAUSE_S", (0.0, 0.0))
    pause, shed = Protocol.pause_writing, 0

    def pause_and_look(self: Protocol) -> None:
        nonlocal shed
        shed = self._admission.shed  # the one that is being written is counted in a moment
        pause(self)

    monkeypatch.setattr(Protocol, "pause_writing", pause_and_look)
    async with serve(admission=Door(), used=False) as site, deaf(site, asked) as (link, ours):
        await until(lambda: ours.writing_paused)
        await asyncio.sleep(0.2)
        await until(lambda: ours.writing_paused)
        assert ours._admission.shed <= shed + 1 < 1_000
        assert unsent(ours) < ROOM_BYTES + 1_024
        said = await statuses_on(link, asked.count(b"GET"))
        assert said == [
            b"503" if line[4:6] == b"/ " else b"200" for line in asked.split(b"\r\n")[::3] if line
        ]


async def test_b57_room_for_another_refusal_does_not_end_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shedding, "SHED_PAUSE_S", (3_600.0, 3_600.0))
    door = Door()
    async with serve(admission=door, used=False) as site, deaf(site) as (link, ours):
        assert ours.transport is not None
        ours.transport.set_write_buffer_limits(high=1_024)
        await asyncio.get_running_loop().sock_sendall(link, TINY * 2 * MAX_MSG_QUEUE_SIZE)
        await until(lambda: ours.writing_paused)
        refused = door.shed
        assert refused < MAX_MSG_QUEUE_SIZE, "or nothing waits for room"
        await statuses_on(link, refused)
        await asyncio.sleep(0.1)
        assert not ours.writing_paused
        assert door.shed == refused


@pytest.mark.parametrize("first", [b"", PROBE], ids=["at once", "in their turn"])
async def test_b57_who_goes_on_asking_and_takes_no_refusal_is_cut(
    first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shedding, "SHED_PAUSE_S", (0.0, 0.0))
    monkeypatch.setattr(pace, "STRETCH_S", 0.3)
    places, peak = Places(), 0
    loop = asyncio.get_running_loop()
    async with serve(admission=Door(), places=places, used=False) as site, deaf(site, first) as (link, ours):

        async def ask_on() -> None:
            while True:
                await loop.sock_sendall(link, TINY * 1_000)

        asking = asyncio.create_task(ask_on())
        async with asyncio.timeout(10):
            while places._taken:
                peak = max(peak, unsent(ours))
                await asyncio.sleep(0.001)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert await site.counted("http_deaf_connections") == 1
    assert peak < ROOM_BYTES + 1_024


async def test_who_hangs_up_on_refusals_that_wait_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shedding, "SHED_PAUSE_S", (0.0, 0.0))
    places = Places()
    async with serve(admission=Door(), places=places, used=False) as site:
        for first in (b"", PROBE):
            async with deaf(site, first + TINY * 2_000) as (_, ours):
                await until(lambda ours=ours: ours.writing_paused)  # type: ignore[misc]
            await until(lambda: places._taken == 0)


async def test_when_the_time_has_come_what_was_held_back_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """The overload may end before the moment does."""
    monkeypatch.setattr(shedding, "SHED_PAUSE_S", (0.1, 0.1))
    door = Door()
    async with serve(admission=door, used=False) as site, calling(site) as caller:
        caller.say(TINY * MAX_MSG_QUEUE_SIZE + b"".join(hold(f"a{number}") for number in range(40)))
        assert await caller.statuses(MAX_MSG_QUEUE_SIZE) == [503] * MAX_MSG_QUEUE_SIZE
        door.full = False
        assert await caller.statuses(40) == [201] * 40


def test_on_the_loop_of_processes_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for first in (b"", PROBE):
            runner.run(test_b57_each_of_many_in_one_go_is_refused_in_the_end(first, monkeypatch))
            runner.run(test_b57_who_goes_on_asking_and_takes_no_refusal_is_cut(first, monkeypatch))
        for asked in MANY.values():
            runner.run(
                test_b57_who_takes_no_refusal_is_refused_no_more_and_hears_the_rest_later(asked, monkeypatch)
            )
        runner.run(test_b58_what_stands_behind_a_probe_is_turned_away_like_all_else(True, 3))
