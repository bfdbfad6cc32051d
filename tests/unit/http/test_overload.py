"""Overload: what would wait too long is turned away unread, cheaply, and nothing else is.

Goal: a full queue costs a refusal and no work, only a queue that stays full is called full, and waiting for
somebody else (a commit, a stream) is not waiting for the loop. Method: the queue's own arithmetic on a clock
that is set by hand, then a real server whose queue is declared full or empty, spoken to in bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from runtime.http import shedding
from runtime.http.admission import Admission
from tests.support.strict_client import StrictClient
from tests.unit.http.cinema import Hold, HoldRequest
from tests.unit.http.conftest import HOLDS, Site, reply_of, serve, until

BODY = b'{"seats":["A-1"]}'
HEAD = (
    f"POST {HOLDS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(BODY)}\r\n\r\n"
).encode()
GET = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def pass_ms(self, ms: float) -> None:
        self.now += ms / 1000


async def _turns(admission: Admission, clock: Clock, *lengths_ms: float, arrivals: int = 10) -> list[int]:
    """How many of so many arrivals each turn of these lengths admitted."""
    admitted = []
    for length_ms in lengths_ms:
        served = 0
        for _ in range(arrivals):
            if admission.is_full():
                admission.turned_away()
            else:
                admission.arrived()
                served += 1
        admitted.append(served)
        clock.pass_ms(length_ms)
        await asyncio.sleep(0)
    return admitted


async def test_a_burst_is_served_and_a_standing_queue_is_not() -> None:
    clock = Clock()
    admission = Admission(wait_ms_max=50, burst_ms=500, clock=clock)
    assert await _turns(admission, clock, *[100] * 6) == [10] * 6, "for half a second"
    assert (await _turns(admission, clock, *[100] * 3))[-1] == 5, "what fits into half of a turn"


async def test_what_is_admitted_follows_what_a_turn_can_hold() -> None:
    clock = Clock()
    admission = Admission(wait_ms_max=50, burst_ms=500, clock=clock)
    await _turns(admission, clock, *[100] * 12)
    fewer = (await _turns(admission, clock, *[200] * 3))[-1]
    more = (await _turns(admission, clock, *[40] * 6))[-1]
    assert fewer < 5
    assert more > fewer


async def test_somebody_is_always_served() -> None:
    clock = Clock()
    admission = Admission(wait_ms_max=50, burst_ms=500, clock=clock)
    assert min(await _turns(admission, clock, *[5_000] * 20)) >= 1


async def test_half_a_second_in_which_nobody_was_turned_away_ends_the_overload() -> None:
    clock = Clock()
    admission = Admission(wait_ms_max=50, burst_ms=500, clock=clock)
    await _turns(admission, clock, *[100] * 12)
    assert await _turns(admission, clock, *[40] * 15, arrivals=1) == [1] * 15
    assert await _turns(admission, clock, *[100] * 5, arrivals=100) == [100] * 5


async def test_an_overload_is_over_also_when_nobody_came_to_hear_of_it() -> None:
    clock = Clock()
    admission = Admission(wait_ms_max=50, burst_ms=500, clock=clock)
    assert (await _turns(admission, clock, *[100] * 12))[-1] < 10
    for _ in range(4):
        await asyncio.sleep(0)  # nothing to do, and no turn is taken
    clock.pass_ms(60_000)
    assert await _turns(admission, clock, *[1] * 3, arrivals=200) == [200] * 3


async def test_two_hiccups_far_apart_are_no_overload() -> None:
    clock = Clock()
    admission = Admission(wait_ms_max=50, burst_ms=500, clock=clock)
    for _ in range(5):
        assert await _turns(admission, clock, 400, *[1] * 510) == [10] * 511


async def test_what_has_begun_is_not_waiting_however_long_it_takes() -> None:
    """An order waits 1.5 s for its commit while the loop has other things to do, quickly."""
    clock = Clock()
    admission = Admission(wait_ms_max=50, burst_ms=500, clock=clock)
    await _turns(admission, clock, 1, 1, 1, 1)
    clock.pass_ms(1_500)
    assert await _turns(admission, clock, *[1] * 3) == [10] * 3


async def test_while_there_is_nothing_to_do_nothing_is_done() -> None:
    clock = Clock()
    admission = Admission(clock=clock)
    await _turns(admission, clock, 1)
    looks = 0

    def counting() -> float:
        nonlocal looks
        looks += 1
        return clock.now

    admission._clock = counting
    for _ in range(20):
        await asyncio.sleep(0)
    assert looks < 5


class Door(Admission):
    """A queue that is as full as the test says."""

    def __init__(self, *, full: bool = True) -> None:
        super().__init__()
        self.full = full

    def is_full(self) -> bool:
        return self.full


@asynccontextmanager
async def _site(door: Door) -> AsyncIterator[Site]:
    async with serve(admission=door) as site:
        yield site


async def _conversation(site: Site, *parts: bytes, answers: int, pause_s: float = 0.02) -> bytes:
    """What the server says to these bytes, on one connection that had one good answer before."""
    reader, writer = await asyncio.open_connection(site.host, site.port)
    writer.write(GET % b"/livez")
    await reader.readuntil(b'{"status":"alive"}')
    for part in parts:
        writer.write(part)
        await asyncio.sleep(pause_s)
    said = b""
    with suppress(asyncio.IncompleteReadError):
        for _ in range(answers):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            said += head + await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()
    return said


async def _metric(site: Site, line: str) -> bool:
    return line in (await site.call("GET", "/metrics")).body.decode()


async def test_a_request_is_turned_away_before_its_token_or_body_is_looked_at() -> None:
    async with _site(Door()) as site:
        said = await _conversation(site, HEAD + b"x" * len(BODY), answers=1)
        problem = reply_of(said).is_problem("overloaded")
        assert problem["instance"] == HOLDS
        assert 1_000 <= problem["retry_after_ms"] <= 5_000
        assert b"Connection: close" not in said
        assert site.cinema.holds == []
        assert await _metric(site, "http_shed_requests_total{process=")


async def test_the_control_with_room_the_same_request_is_looked_at() -> None:
    async with _site(Door(full=False)) as site:
        said = await _conversation(site, HEAD + b"x" * len(BODY), answers=1)
        reply_of(said).is_problem("not_authenticated")


@pytest.mark.parametrize("path", [b"/livez", b"/readyz", b"/readyz?verbose", b"/metrics"])
async def test_probes_are_answered_however_full_it_is(path: bytes) -> None:
    async with _site(Door()) as site:
        assert (await _conversation(site, GET % path, answers=1)).startswith(b"HTTP/1.1 200 ")


async def test_a_request_that_is_not_whole_yet_is_turned_away_the_long_way() -> None:
    async with _site(Door()) as site:
        said = await _conversation(site, HEAD + BODY[:4], BODY[4:], answers=1)
        reply_of(said).is_problem("overloaded")
        assert site.cinema.holds == []


async def test_requests_sent_in_one_go_are_each_answered_in_their_order() -> None:
    async with _site(Door()) as site:
        said = await _conversation(
            site, HEAD + BODY + HEAD + BODY + GET % b"/livez" + GET % b"/metrics", answers=4
        )
        statuses = [part[:3] for part in said.split(b"HTTP/1.1 ")[1:]]
        assert statuses == [b"503", b"503", b"200", b"200"]


async def test_more_requests_than_the_queue_takes_are_each_turned_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shedding, "SHED_PAUSE_S", (0.01, 0.01))
    async with _site(Door()) as site:
        said = await _conversation(site, GET % b"/api/v1/films" * 200, answers=200)
        assert said.count(b"HTTP/1.1 503 ") == 200


async def test_whoever_was_turned_away_is_not_read_for_a_moment_and_then_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shedding, "SHED_PAUSE_S", (0.3, 0.3))
    door = Door()
    async with _site(door) as site:
        reader, writer = await asyncio.open_connection(site.host, site.port)
        writer.write(GET % b"/livez")
        await reader.readuntil(b'{"status":"alive"}')
        for _ in range(50):
            writer.write(HEAD + BODY)
            await asyncio.sleep(0.002)
        first = await reader.read(65_536)
        assert first.count(b"HTTP/1.1 503") == 1
        assert door.shed == 1, "forty-nine others cost nothing yet"
        door.full = False
        rest = b""
        while rest.count(b"HTTP/1.1 401") < 49:
            rest += await asyncio.wait_for(reader.read(65_536), 5)
        writer.close()
        await writer.wait_closed()


async def test_one_who_wants_the_connection_closed_gets_that_too() -> None:
    async with _site(Door()) as site:
        closing = HEAD.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n")
        said = await _conversation(site, closing + BODY, answers=2)
        assert said.count(b"HTTP/1.1 ") == 1
        assert b"Connection: close" in said


@pytest.mark.parametrize(("wait_ms_max", "sheds"), [(50, True), (60_000, False)], ids=["", "control"])
async def test_a_loop_with_more_to_do_than_it_can_notices_and_goes_on_serving(
    wait_ms_max: int, sheds: bool
) -> None:
    """The real queue: fifty who ask without pause, of whom each costs the loop ten milliseconds."""
    admission = Admission(wait_ms_max=wait_ms_max, burst_ms=100)
    statuses: Counter[int] = Counter()
    over = False

    async def ask(port: int, name: str) -> None:
        client = StrictClient(port)
        headers = {"Authorization": f"Bearer good-{name}"}
        while not over:
            headers["Idempotency-Key"] = f"{name}-{sum(statuses.values())}"
            reply = await client.call("POST", HOLDS, {"seats": ["A-1"]}, headers)
            statuses[reply.status] += 1
        client.close()

    async with serve(admission=admission) as site:
        quick = site.cinema.hold

        async def slow(account_id: str, showtime_id: str, wish: HoldRequest) -> Hold:
            time.sleep(0.01)  # noqa: ASYNC251 (that is the point)
            return await quick(account_id, showtime_id, wish)

        site.cinema.hold = slow  # type: ignore[method-assign]
        asking = [asyncio.create_task(ask(site.port, f"fan-{number}")) for number in range(50)]
        await until(lambda: statuses[201] >= 150)
        served = statuses[201]
        if sheds:
            await until(lambda: statuses[503] > 0)
        await until(lambda: statuses[201] > served + 20)
        over = True
        await asyncio.gather(*asking)
    assert statuses.keys() == ({201, 503} if sheds else {201})
    assert admission.shed == statuses[503]
