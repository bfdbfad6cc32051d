"""Generators ask what they were told to, count what came back, and do not forgive a stall."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from bench.harness.generator import content_length, planned
from bench.harness.load import Generator
from bench.harness.requests import Requests, read_requests, render
from tests.unit.bench.tiny_server import TinyServer

Kept = Callable[[Iterable[bytes]], Requests]


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    numbers = itertools.count()
    return lambda requests: Requests.write(tmp_path / f"requests-{next(numbers)}", requests)


def asks(count: int, path: str = "/201") -> list[bytes]:
    return [render("POST", f"{path}?{number}", body=b'{"a":1}') for number in range(count)]


def test_requests_are_kept_as_they_are(kept: Kept) -> None:
    requests = [render("GET", "/x"), render("POST", "/y", headers={"K": "v"}, body=b"\0\r\n\r\n"), b""]
    assert read_requests(kept(requests).path) == requests
    assert requests[1] == (
        b"POST /y HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: 5\r\n"
        b"K: v\r\n\r\n\0\r\n\r\n"
    )


@pytest.mark.parametrize(
    "style", [{}, {"byte_by_byte": True}, {"lower_case": True}, {"size": 200_000}, {"size": 0}]
)
async def test_a_closed_loop_sends_every_request_once_and_hears_every_answer(
    kept: Kept, style: dict[str, int]
) -> None:
    server = TinyServer(**style)  # type: ignore[arg-type]
    async with server.running() as port, Generator() as generator:
        load = await generator.closed(port, kept(asks(300)), connections=7, seconds=30, warm_up=50)
    assert (load.done, load.statuses, load.warmed, load.failed) == (250, {"201": 250}, {"201": 50}, 0)
    assert all(server.asked[f"/201?{number}"] == 1 for number in range(300))
    assert server.connections == 7
    assert server.open_most <= 7


async def test_answers_are_counted_by_status(kept: Kept) -> None:
    server = TinyServer()
    requests = kept([*asks(30, "/201"), *asks(20, "/409"), *asks(10, "/503")])
    async with server.running() as port, Generator() as generator:
        load = await generator.closed(port, requests, connections=3, seconds=30, warm_up=0)
    assert load.statuses == {"201": 30, "409": 20, "503": 10}
    assert load.of(201, 409) == 50


async def test_reads_begin_again_until_the_time_is_over(kept: Kept) -> None:
    server = TinyServer()
    async with server.running() as port, Generator() as generator:
        load = await generator.closed(port, kept(asks(5)), connections=2, seconds=0.3, repeat=True)
    assert load.done > 50
    assert sum(server.asked.values()) >= load.done
    assert len(server.asked) == 5


async def test_one_generator_serves_many_blocks(kept: Kept) -> None:
    server = TinyServer()
    async with server.running() as port, Generator() as generator:
        for _ in range(3):
            load = await generator.closed(port, kept(asks(40)), connections=4, seconds=30, warm_up=0)
            assert load.done == 40
    assert server.connections == 12


def test_arrivals_are_poisson_and_the_seed_decides_them() -> None:
    instants = planned(rate=1_000, seconds=20, seed=9)
    assert instants == planned(rate=1_000, seconds=20, seed=9)
    assert instants != planned(rate=1_000, seconds=20, seed=10)
    assert list(instants) == sorted(instants)
    gaps = [later - earlier for earlier, later in itertools.pairwise(instants)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(0.001, rel=0.05)
    # Of an exponential distribution, a share of 1/e is longer than the mean: regular arrivals have half.
    assert sum(gap > mean for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.02)


async def test_an_open_loop_asks_as_often_as_planned_whatever_the_answers(kept: Kept) -> None:
    server = TinyServer()
    async with server.running() as port, Generator() as generator:
        load = await generator.open(port, kept(asks(10)), rate=400, seconds=0.5, seed=3, connections=16)
    plan = planned(400, 0.5, 3)
    assert load.planned == load.done == len(plan) == sum(server.asked.values())
    assert load.unanswered == 0
    assert sum(one["planned"] for one in load.slices) == len(plan)
    assert sum(sum(one["statuses"].values()) for one in load.slices) == len(plan)
    assert load.lag_us["p50"] > 0


STALL_US = 500_000


async def test_a_stall_is_paid_for_by_everybody_who_would_have_come(kept: Kept) -> None:
    server = TinyServer(stall_at=100, stall_s=STALL_US / 1e6)
    async with server.running() as port, Generator() as generator:
        seen = await generator.open(port, kept(asks(10)), rate=400, seconds=1.2, seed=3, connections=8)
    assert seen.unanswered == 0
    assert seen.latency_us["p90"] > STALL_US / 4, "two fifths of all arrivals fell into the stall"
    assert seen.waited_for_a_connection > 50, "they came although every connection was busy"


async def test_a_refusal_is_timed_from_when_it_was_asked_for_and_a_grant_is_none(kept: Kept) -> None:
    server = TinyServer(stall_at=100, stall_s=STALL_US / 1e6)
    async with server.running() as port, Generator() as generator:
        refused = await generator.open(
            port, kept(asks(10, "/503")), rate=400, seconds=1.2, seed=3, connections=8
        )
        granted = await generator.open(port, kept(asks(10)), rate=400, seconds=0.2, seed=3, connections=8)
    assert refused.of(503) == refused.done
    assert refused.refused_us["max"] >= STALL_US, "those on their way when it stalled"
    assert refused.refused_us["p90"] < refused.latency_us["p90"], "who had no connection had not asked yet"
    assert granted.refused_us.get("max") is None


async def test_control_a_closed_loop_hardly_notices_the_same_stall(kept: Kept) -> None:
    server = TinyServer(stall_at=100, stall_s=STALL_US / 1e6)
    async with server.running() as port, Generator() as generator:
        seen = await generator.closed(port, kept(asks(480)), connections=8, seconds=30, warm_up=0)
    assert seen.latency_us["max"] >= STALL_US
    assert seen.latency_us["p90"] < STALL_US / 4, "the eight that were asked paid; nobody else came"


async def test_a_lost_connection_is_a_failure_and_not_a_hang(kept: Kept) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Generator() as generator:
        load = await generator.closed(port, kept(asks(50)), connections=4, seconds=5, warm_up=0)
    server.close()
    assert (load.done, load.failed) == (0, 4)


@pytest.mark.parametrize(
    ("head", "length"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nA: b", 12),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 7", 7),
        (b"HTTP/1.1 304 Not Modified\r\nETag: x", 0),
    ],
)
def test_the_length_of_a_body_is_read_from_its_head(head: bytes, length: int) -> None:
    data = head + b"\r\n\r\n" + b"x" * length
    assert content_length(data, data.index(b"\r\n\r\n")) == length
