"""`seatrush rush`: a crowd from a process of its own against `seatrush up`, and what its exit code says.

Goal: a small hall sells out to the last wheelchair place and the report says so; Ctrl-C ends a rush in
good order; and when the service really oversells, the rush notices. Method: a real instance. One control
takes both guards away: the index that makes PostgreSQL the arbiter is dropped, and Redis is made to
forget sold seats again and again. Another holds by read-then-write: PostgreSQL keeps every sale single, so
only the history of what fans were told can tell. Without that, the same rush ends well.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from entrypoints.audit.findings import CHECKS_OF_A_HISTORY
from entrypoints.rush import rehearse
from loadtest.histories import Judgement, judge, load
from loadtest.rush import RushPlan
from reservation import keys_of
from runtime.paths import ROOT
from tests.support.controls import read_then_write
from tests.support.service import Service, connected, started

HALL = "\n".join(
    (
        "A1,A2,A3,,A4,A5+,A6",
        "B1,B2,B3,,B4,B5,B6",
        "C1,C2,C3,,C4,C5,C6",
        "D1,D2,D3,,D4,D5,D6",
    )
)
PROMISED = {"seats", "sold", "holds", "conflicts", "orders_confirmed", "seconds", "audit"}


@pytest.fixture(scope="module")
def up() -> Iterator[Service]:
    """An instance that only rushes use."""
    with started("--no-demo") as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(up: Service) -> AsyncIterator[Service]:
    async with connected(up):
        yield up


@pytest.fixture
def hall(tmp_path: Path) -> Path:
    file = tmp_path / "hall.csv"
    file.write_text(HALL)
    return file


def rush(service: Service, *words: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, report and progress of a rush."""
    done = service.run("rush", *words, "--json", check=False)
    return done.returncode, json.loads(done.stdout), done.stderr


def test_two_hundred_fans_sell_out_a_small_hall(up: Service, hall: Path, tmp_path: Path) -> None:
    kept = tmp_path / "history.ndjson"
    words = ("--layout", str(hall), "--fans", "200", "--pay-rate", "0.8", "--history", str(kept))
    exit_code, report, progress = rush(up, *words)
    assert exit_code == 0, report
    assert report.keys() >= PROMISED
    assert (report["seats"], report["sold"], report["seats_left"]) == (24, 24, 0)
    assert report["audit"] == {"ok": True, "broken": []}
    assert report["verdict"]["ok"]
    assert report["verdict"]["read"] == report["orders_confirmed"] == report["orders_placed"]
    assert report["holds"] >= report["orders_confirmed"]
    assert report["conflicts"] == report["by_status"]["hold"].get("409 seat_taken", 0)
    assert 0 < report["seconds"] < 60
    assert "seats left 0/24" in progress.splitlines()[-1]
    operations = load(kept)
    told = Counter(one.what for one in operations if one.answered_s is not None)
    assert told["hold"] == report["holds"]
    assert told["claim"] == told["sell"] == report["orders_confirmed"]
    assert len(operations) == report["verdict"]["operations"]
    assert judge(operations) == Judgement(24, len(operations))


async def test_a_showtime_that_is_on_sale_is_sold_on_from_where_it_stands(running: Service) -> None:
    showtime_id = await running.add_showtime(HALL)
    (fan,) = await running.fans(1)
    await fan.buy(showtime_id, "B1", "B2", "B3")
    words = ("--showtime", showtime_id, "--fans", "60", "--party", "1,2")
    exit_code, report, _ = await asyncio.to_thread(rush, running, *words)
    assert exit_code == 0, report
    assert (report["showtime_id"], report["seats"], report["sold"]) == (showtime_id, 24, 24)


def test_too_few_fans_are_no_failure_and_the_table_is_for_people(up: Service, hall: Path) -> None:
    done = up.run("rush", "--layout", str(hall), "--fans", "2", "--party", "2", check=False)
    assert done.returncode == 0
    assert "4 of 24" in done.stdout
    assert "closed-loop" in done.stdout


def test_a_showtime_nobody_knows_is_a_failure(up: Service) -> None:
    done = up.run("rush", "--showtime", "sho_0000000000", "--fans", "5", check=False)
    assert done.returncode == 1
    assert "sho_0000000000" in done.stderr


async def test_ctrl_c_ends_a_rush_with_what_is_known(running: Service) -> None:
    showtime_id = await running.add_showtime(HALL)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "entrypoints.cli", "rush", "--showtime", showtime_id, "--fans", "5000"),
        "--json",
        env=running.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    assert b"seats left" in await process.stderr.readline()
    process.send_signal(2)
    output, _ = await process.communicate()
    report = json.loads(output)
    assert process.returncode == 130
    assert report["interrupted"]
    assert report["audit"]["ok"]
    assert report["verdict"]["read"] == report["orders_placed"]


BIG_HALL = "\n".join(",".join(f"{row}-{seat}" for seat in range(1, 21)) for row in range(1, 16))


async def _rush_under_way(
    running: Service, showtime_id: str, *options: str
) -> tuple[asyncio.subprocess.Process, asyncio.Task[tuple[bytes, bytes]]]:
    """A rush that has sold a third of its seats, and what it will have said when it has ended."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "entrypoints.cli", "rush", "--showtime", showtime_id, "--fans", "1500"),
        *options,
        "--json",
        env=running.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    ended = asyncio.create_task(process.communicate())
    while (await running.seats(showtime_id))["seats_left"] > 200:
        assert not ended.done()
        await asyncio.sleep(0.02)
    return process, ended


@pytest.mark.timeout(180)
async def test_the_order_writer_killed_in_the_middle_of_a_rush_loses_nothing(running: Service) -> None:
    showtime_id = await running.add_showtime(BIG_HALL)
    first = running.file.children["order-writer"]
    process, ended = await _rush_under_way(running, showtime_id)
    for _ in range(2):  # and once more, as soon as the next one is at work
        os.kill(running.file.children["order-writer"][0], signal.SIGKILL)
        await asyncio.sleep(1.5)
    output, _ = await ended
    report = json.loads(output)
    assert process.returncode == 0, report
    assert (report["sold"], report["verdict"]["ok"], report["audit"]["ok"]) == (300, True, True)
    assert running.file.children["order-writer"] != first
    assert running.json("audit")["ok"]


@pytest.mark.timeout(180)
async def test_redis_killed_in_the_middle_of_a_rush_may_lose_holds_and_the_history_says_so(
    running: Service, tmp_path: Path
) -> None:
    showtime_id, kept = await running.add_showtime(BIG_HALL), tmp_path / "history.ndjson"
    _, ended = await _rush_under_way(running, showtime_id, "--history", str(kept))
    os.kill(running.file.children["valkey"][0], signal.SIGKILL)
    output, _ = await ended
    report = json.loads(output)
    assert report["verdict"]["ok"], report
    assert (report["verdict"]["undecided"], report["audit"]["ok"]) == ([], True)
    operations = load(kept)
    assert [one.what for one in operations].count("lost") == 1
    told = running.json("audit", "--history", str(kept))
    assert told["ok"]
    assert [check["name"] for check in told["checks"]][-2:] == list(CHECKS_OF_A_HISTORY)


@pytest.mark.timeout(180)
async def test_a_service_that_sells_a_seat_twice_is_found_out() -> None:
    with started("--no-demo") as service:
        async with connected(service):
            showtime_id = await service.add_showtime(HALL, seats_per_buyer=1_000)
            assert service.platform is not None
            for index in ("seat_claims_one_owner", "tickets_one_per_seat"):
                await service.platform.database.execute(f"DROP INDEX checkout.{index}")
            forgetting = asyncio.create_task(_forget_sold_seats(service, showtime_id))
            exit_code, report, _ = await asyncio.to_thread(
                rush, service, "--showtime", showtime_id, "--fans", "150"
            )
            forgetting.cancel()
    assert exit_code == 3
    assert report["verdict"]["sold_twice"]
    assert not report["audit"]["ok"]


async def test_seats_held_twice_are_found_out_by_what_fans_were_told(running: Service) -> None:
    showtime_id = await running.add_showtime(BIG_HALL)
    assert running.platform is not None
    with read_then_write(running) as url:
        report = await rehearse(running.platform, url, RushPlan(400, seed=5), showtime_id, None, board=False)
    assert report.verdict.sold_twice == []
    assert report.verdict.impossible
    assert {line.split(" of sho_")[0] for line in report.verdict.impossible} <= set(_labels(BIG_HALL))
    assert report.exit_code == 3


def _labels(hall: str) -> list[str]:
    return hall.replace("\n", ",").split(",")


async def _forget_sold_seats(service: Service, showtime_id: str) -> None:
    """Put the first sold seats back on sale in Redis alone, three times each."""
    assert service.redis is not None
    keys, redis = keys_of(showtime_id), service.redis
    for _ in range(3):
        for seat in range(6):
            await _sold(service, keys.sold, seat)
            pipeline = redis.pipeline(transaction=True)
            pipeline.setbit(keys.sold, seat, 0)
            pipeline.setbit(keys.taken, seat, 0)
            pipeline.hincrby(keys.showtime, "version", 1)
            await pipeline.execute()


async def _sold(service: Service, plane: str, seat: int) -> None:
    assert service.redis is not None
    deadline = time.monotonic() + 60
    while not await service.redis.getbit(plane, seat):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
