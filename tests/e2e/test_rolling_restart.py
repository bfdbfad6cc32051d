"""API processes are replaced while people use them.

Goal: `seatrush restart` fails no request, resets no connection and loses no viewer, with one process and with
two; a successor that does not come up changes nothing. Method: an instance of the test's own, clients that
forgive nothing (`tests.support.strict_client`) on kept and on fresh connections, buyers who hold and give
back, viewers who check that no version is missing, through three restarts. The control replaces processes
the usual way, each with a listener of its own and aiohttp's own shutdown, before the same crowd.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from runtime.engines import free_port
from runtime.paths import ROOT
from tests.support.service import Service, running_service
from tests.support.strict_client import Crowd, StrictClient, read_head
from tests.support.strict_people import Viewer, hold_and_give_back, look

RESTARTS = 3
SEATS = [f"{row}{seat}" for row in "ABCDEFGH" for seat in (1, 2, 3)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def alone() -> AsyncIterator[Service]:
    """An instance with one API process, which the tests of this module replace and kill."""
    async with running_service("--no-demo") as service:
        yield service


@asynccontextmanager
async def _crowd(service: Service, port: int, viewers: int = 0) -> AsyncIterator[tuple[Crowd, list[Viewer]]]:
    """Twenty-six people and some viewers at their business, a second longer than what happens inside."""
    showtime_id = await service.add_showtime(orphan_rule="off")
    fans = await service.fans(8)
    crowd = Crowd()
    watching = [Viewer(port, showtime_id) for _ in range(viewers)]
    people = [
        *(look(crowd, port, showtime_id, keeps_alive=True, every_s=0.01) for _ in range(8)),
        *(look(crowd, port, showtime_id, keeps_alive=True, every_s=1.3) for _ in range(4)),
        *(look(crowd, port, showtime_id, keeps_alive=False, every_s=0.01) for _ in range(6)),
        *(
            hold_and_give_back(crowd, port, showtime_id, fan.token, seat, every_s=0.02)
            for fan, seat in zip(fans, SEATS, strict=False)
        ),
    ]
    tasks = [asyncio.create_task(one) for one in people]
    sitting = [asyncio.create_task(viewer.watch(crowd)) for viewer in watching]
    await asyncio.sleep(1.0)
    yield crowd, watching
    await asyncio.sleep(1.0)
    crowd.over = True
    await asyncio.gather(*tasks)
    for task in sitting:
        task.cancel()
    await asyncio.gather(*sitting, return_exceptions=True)


async def _restart_three_times(service: Service, workers: int) -> None:
    async with _crowd(service, service.port, viewers=6) as (crowd, viewers):
        served_by = [set(service.file.children["api"])]
        for _ in range(RESTARTS):
            done = await asyncio.to_thread(service.json, "restart")
            assert (done["ok"], len(done["replaced"])) == (True, workers)
            served_by.append(set(service.file.children["api"]))
            assert {one["new_pid"] for one in done["replaced"]} == served_by[-1]
    assert crowd.failures == []
    assert min(crowd.answers[name] for name in ("look", "look once", "hold", "give back")) > 50
    assert len(set.union(*served_by)) == workers * (RESTARTS + 1), "every process was replaced each time"
    for viewer in viewers:
        assert viewer.goodbyes >= RESTARTS, "each process that was replaced said goodbye"
        assert viewer.sittings == viewer.goodbyes + 1
    assert crowd.answers["delta"] > 0


@pytest.mark.timeout(240)
async def test_three_restarts_of_one_process_fail_no_request_and_lose_no_viewer(alone: Service) -> None:
    await _restart_three_times(alone, workers=1)


@pytest.mark.timeout(240)
async def test_three_restarts_of_two_processes_fail_no_request_and_lose_no_viewer() -> None:
    async with running_service("--no-demo", SEATRUSH_API_WORKERS="2") as service:
        await _restart_three_times(service, workers=2)


@pytest.mark.timeout(120)
async def test_replaced_the_usual_way_the_same_crowd_does_meet_failures(service: Service) -> None:
    """The control. Each replacement is a chance; on a calm machine it may take more than a few."""
    port = free_port()
    async with _naive(service, port) as replace, _crowd(service, port) as (crowd, _):
        for _ in range(10 * RESTARTS):
            await replace()
            await asyncio.sleep(0.2)
            if crowd.failures:
                break
    assert crowd.failures


@asynccontextmanager
async def _naive(service: Service, port: int) -> AsyncIterator[Any]:
    """A worker run in the usual way, and how to replace it."""

    async def start() -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.naive_worker", str(port)),
            env=service.environment,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        return process

    now = await start()

    async def replace() -> None:
        nonlocal now
        old, now = now, await start()
        old.terminate()
        await old.wait()

    try:
        yield replace
    finally:
        now.terminate()
        await now.wait()


@pytest.mark.timeout(120)
async def test_a_successor_that_does_not_come_up_changes_nothing(alone: Service) -> None:
    before = alone.file.children["api"]
    keys = [path for path in (alone.data_dir / "keys").rglob("*") if path.is_file()]
    assert keys
    for path in keys:
        path.rename(path.with_suffix(".away"))
        path.write_text("no key at all\n")
    failed = await asyncio.to_thread(alone.run, "restart", check=False)
    assert failed.returncode == 1
    assert "what ran before goes on" in failed.stderr
    assert alone.file.children["api"] == before
    assert (await alone.request("GET", "//livez")).status == 200
    for path in keys:
        path.with_suffix(".away").replace(path)
    done = await asyncio.to_thread(alone.json, "restart")
    assert done["replaced"][0]["old_pid"] == before[0]


@pytest.mark.timeout(120)
async def test_a_restart_that_had_to_kill_a_process_says_so_and_is_no_success(alone: Service) -> None:
    """A process that is stopped can neither accept a signal nor finish what it has begun."""
    (stuck,) = alone.file.children["api"]
    os.kill(stuck, signal.SIGSTOP)
    said = await asyncio.to_thread(alone.run, "restart", "--json", check=False)
    done = json.loads(said.stdout)
    assert (said.returncode, done["ok"]) == (1, False)
    assert [(one["old_pid"], one["killed"]) for one in done["replaced"]] == [(stuck, True)]
    assert f"did not finish in time and was killed: {stuck}" in said.stderr
    done = await asyncio.to_thread(alone.json, "restart")
    assert (done["ok"], [one["killed"] for one in done["replaced"]]) == (True, [False])


async def test_where_nothing_runs_there_is_nothing_to_restart(service: Service) -> None:
    said = service.run("restart", check=False, SEATRUSH_DATA_DIR=str(service.data_dir / "nowhere"))
    assert (said.returncode, said.stdout) == (69, "")


@pytest.mark.timeout(120)
async def test_who_waits_to_be_accepted_by_a_process_that_is_killed_is_served_by_the_next(
    alone: Service,
) -> None:
    (pid,) = alone.file.children["api"]
    os.kill(pid, signal.SIGSTOP)
    clients = [StrictClient(alone.port) for _ in range(20)]
    readers = [await client.send("GET", "/livez") for client in clients]
    os.kill(pid, signal.SIGKILL)
    heads = await asyncio.gather(*(read_head(reader) for reader in readers))
    assert [head.status for head in heads] == [200] * 20
    assert alone.file.children["api"] != [pid]
    for client in clients:
        client.close()
