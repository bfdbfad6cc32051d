"""What `seatrush audit --stop-sales` stops, on an instance of processes (rule R18).

Goal: a showtime with a spoilt seat map sells no more, by the verb or by the role that looks by itself, while
the next hall sells on; a person opens it again, and nobody else. Method: an instance of a test's own, started
with or without the role; the map is spoilt by hand; what comes of it is asked for over HTTP.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from reservation import keys_of
from runtime.paths import ROOT
from tests.support.contract import refused
from tests.support.service import Service, running_service
from tests.support.shop import until


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def running() -> AsyncIterator[Service]:
    async with running_service("--no-demo") as service:
        yield service


async def spoil(service: Service, showtime_id: str) -> None:
    """Have the map say of a free seat that it is taken; nobody has it."""
    assert service.redis is not None
    await service.redis.setbit(keys_of(showtime_id).taken, 0, 1)


async def mend(service: Service, showtime_id: str) -> None:
    assert service.redis is not None
    await service.redis.setbit(keys_of(showtime_id).taken, 0, 0)


def measured(service: Service, name: str) -> float:
    """A number of the role that looks by itself; -1 while it has not said any."""
    for family in text_string_to_metric_families(service.measured()):
        for sample in family.samples:
            if sample.name == name and sample.labels["process"].startswith("audit-"):
                return float(sample.value)
    return -1.0


async def test_the_verb_stops_what_it_finds_and_says_so_and_a_person_opens_it_again(running: Service) -> None:
    spoilt, sound = await running.add_showtime(), await running.add_showtime()
    (fan,) = await running.fans(1)
    await spoil(running, spoilt)

    looked = await asyncio.to_thread(running.run, "audit", "--json", check=False)
    assert looked.returncode == 3, looked.stderr
    assert (await fan.hold(spoilt, "A3")).status == 201, "nobody asked for a stop"

    stopped = await asyncio.to_thread(running.run, "audit", "--stop-sales", "--json", check=False)
    assert stopped.returncode == 3, stopped.stderr
    document = json.loads(stopped.stdout)
    broken = {check["name"]: check["showtimes"] for check in document["checks"] if not check["ok"]}
    assert broken == {"seat_maps_agree": [spoilt]}
    (sale,) = document["sales"]
    assert sale == {
        "showtime_id": spoilt,
        "checks": ["seat_maps_agree"],
        "outcome": "paused",
        "detail": None,
    }
    refused(await fan.hold(spoilt, "A5"), 409, "sale_not_open")
    await fan.buy(sound, "A5")

    again = await asyncio.to_thread(running.run, "audit", "--stop-sales", check=False)
    assert again.returncode == 3
    assert again.stdout.splitlines()[-1] == f"the sale of {spoilt} was not open (seat_maps_agree)"

    await mend(running, spoilt)
    clean = await asyncio.to_thread(running.run, "audit", "--stop-sales", "--json")
    assert json.loads(clean.stdout)["sales"] == []
    refused(await fan.hold(spoilt, "A5"), 409, "sale_not_open")
    await asyncio.to_thread(running.run, "sale", "open", spoilt)
    assert (await fan.hold(spoilt, "A5")).status == 201


def watch(service: Service, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "entrypoints.cli", "audit", "--every", "1", *words],
        env=service.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def ended(process: subprocess.Popen[str], number: int) -> tuple[int, str, list[dict[str, Any]]]:
    """Tell it to end; its exit code, its stdout and its log."""
    process.send_signal(number)
    out, log = await asyncio.to_thread(process.communicate, timeout=30)
    return process.returncode, out, [json.loads(line) for line in log.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_watch_that_finds_nothing_ends_with_0_and_leaves_a_line_for_each_round(
    running: Service, number: int
) -> None:
    process = watch(running)
    await until(lambda: _at_least(running, "audit_rounds_total", 2), within_s=30.0)
    code, out, log = await ended(process, number)
    assert (code, out) == (0, "")
    assert len(log) >= 2
    assert all(line["event"].startswith("every promise is kept") for line in log)
    assert {line["role"] for line in log} == {"audit"}


async def test_a_watch_that_found_something_ends_with_3_and_has_told_it_once(running: Service) -> None:
    showtime_id = await running.add_showtime()
    await spoil(running, showtime_id)
    process = watch(running, "--stop-sales", "--json")
    await until(lambda: _at_least(running, "audit_rounds_total", 1), within_s=30.0)
    await mend(running, showtime_id)
    await until(lambda: _at_least(running, "audit_rounds_total", 2), within_s=60.0)
    code, out, log = await ended(process, signal.SIGTERM)
    assert code == 3
    (told,) = out.splitlines()
    assert [sale["outcome"] for sale in json.loads(told)["sales"]] == ["paused"]
    assert [line["level"] for line in log][:3] == ["error", "error", "info"]
    assert (await running.request("GET", f"/showtimes/{showtime_id}")).body["sale"]["phase"] == "paused"


async def test_a_watch_ends_also_in_the_middle_of_a_round(running: Service) -> None:
    """It waits for a table somebody keeps to himself, and for nobody when it is told to end."""
    assert running.platform is not None
    process = watch(running)
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'checkout.tickets'::regclass"
    await until(lambda: _at_least(running, "audit_rounds_total", 1), within_s=30.0)
    async with running.platform.database.transaction() as connection:
        await connection.execute("LOCK TABLE checkout.tickets IN ACCESS EXCLUSIVE MODE")

        async def waits() -> bool:
            return bool(await connection.fetchval(waiting))

        await until(waits, within_s=30.0)
        code, _, _ = await ended(process, signal.SIGTERM)
    assert code == 0


@pytest.mark.timeout(180)
async def test_the_role_stops_by_itself_what_breaks_and_goes_on_when_postgresql_was_killed() -> None:
    async with running_service("--no-demo", "--audit-every", "1") as service:
        spoilt, sound = await service.add_showtime(), await service.add_showtime()
        (fan,) = await service.fans(1)
        await until(lambda: _at_least(service, "audit_rounds_total", 1), within_s=30.0)
        assert measured(service, "audit_last_clean_time_seconds") > 0
        rounds, role = measured(service, "audit_rounds_total"), service.file.children["audit"]
        os.kill(service.file.children["postgres"][0], signal.SIGKILL)
        await until(lambda: _at_least(service, "audit_rounds_total", rounds + 2), within_s=60.0)
        assert measured(service, "audit_promises_broken") == 0
        assert service.file.children["audit"] == role, "it waited, and did not end"

        assert (await fan.hold(spoilt, "A3")).status == 201
        await spoil(service, spoilt)
        await until(lambda: _at_least(service, "audit_sales_stopped_total", 1), within_s=60.0)
        refused(await fan.hold(spoilt, "A5"), 409, "sale_not_open")
        await fan.buy(sound, "A5")


async def _at_least(service: Service, name: str, least: float) -> bool:
    return await asyncio.to_thread(measured, service, name) >= least
