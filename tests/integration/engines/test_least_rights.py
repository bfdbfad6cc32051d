"""Goal: the users docs/operations.md makes in Redis can do their work and nothing that destroys it (R6).

Method: the very lines of the page, on a real server, under a whole purchase, a rebuild and an audit; the
server keeps a log of everything it refused, which has to stay empty. Then the same users try what they must
not. In the control one right less stops the sale.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from entrypoints.audit import run_audit
from entrypoints.audit.stopping import stop_sales
from reservation import keys_of
from runtime.engines import probe_seat_store
from runtime.paths import ROOT
from runtime.redis_link import connect
from tests.support.engines import DatabaseMaker, temporary_data_dir, valkey_engine
from tests.support.platform import RunningPlatform, migrated, run_platform

FORBIDDEN = (
    "FLUSHALL",
    "FLUSHDB",
    "KEYS *",
    "CONFIG SET appendonly no",
    "SHUTDOWN NOSAVE",
    "REPLICAOF NO ONE",
    "SCRIPT FLUSH",
    "EVAL return 0",
    "FUNCTION FLUSH",
    "MONITOR",
    "SWAPDB 0 1",
    "XGROUP DELCONSUMER log orders writer",
    "ACL SETUSER worker +@all",
)


def rights() -> dict[str, str]:
    """The rules of each user of the page, by name."""
    page = (ROOT / "docs" / "operations.md").read_text()
    found = dict(re.findall(r"^ACL SETUSER (\w+) on >\w+ (.+)$", page, re.MULTILINE))
    assert found.keys() == {"worker", "keeper"}
    return found


async def become(client: Redis, rules: str) -> None:
    """Have the platform's user be one of those; its connections stay."""
    await client.execute_command("ACL", "SETUSER", "seller", "reset", "on", ">secret", *rules.split())
    await client.execute_command("ACL", "LOG", "RESET")


async def refused(client: Redis) -> list[str]:
    """What the server did not let anybody do."""
    return [entry["object"] for entry in await client.acl_log()]


@asynccontextmanager
async def platform_of_a_seller(
    make_database: DatabaseMaker, folder: Path
) -> AsyncIterator[tuple[RunningPlatform, Redis, str]]:
    """A platform whose user of Redis may do everything to begin with, and a client that always may."""
    with temporary_data_dir() as data_dir:
        engine = valkey_engine(data_dir, dies_with_us=True)
        await engine.start()
        client = connect(engine.url)
        await client.execute_command("ACL", "SETUSER", "seller", "on", ">secret", "~*", "&*", "+@all")
        url = f"redis://seller:secret@127.0.0.1:{engine.port}/0"
        try:
            async with run_platform(url, await make_database(migrated), folder) as running:
                yield running, client, url
        finally:
            await client.aclose()
            await engine.stop()


async def test_a_worker_sells_and_a_keeper_rebuilds_with_no_more_rights_than_the_page_gives(
    make_database: DatabaseMaker, tmp_path: Path
) -> None:
    async with platform_of_a_seller(make_database, tmp_path) as (running, client, url):
        await become(client, rights()["worker"])
        showtime_id = await running.add_showtime()
        first, second = await running.fans(2)
        await first.buy(showtime_id, "A1", "A2")
        hold = await second.hold(showtime_id, "A3")
        assert hold.status == 201
        assert (await second.call("DELETE", f"/holds/{hold.body['hold_id']}")).status == 204
        assert await probe_seat_store(url)
        assert await refused(client) == []

        await become(client, rights()["keeper"])
        running.start("reaper")
        await running.platform.rebuilder.rebuild("by hand")
        await second.buy(showtime_id, "A3")
        report = await run_audit(running.platform)
        assert report.ok, [check for check in report.checks if not check.ok]
        assert await refused(client) == []


async def test_who_audits_and_stops_sales_needs_a_workers_rights(
    make_database: DatabaseMaker, tmp_path: Path
) -> None:
    async with platform_of_a_seller(make_database, tmp_path) as (running, client, _):
        showtime_id = await running.add_showtime()
        await running.redis.setbit(keys_of(showtime_id).taken, 7, 1)
        await become(client, rights()["worker"])
        (stop,) = await stop_sales(running.platform, await run_audit(running.platform))
        assert (stop.showtime_id, stop.outcome) == (showtime_id, "paused")
        assert await refused(client) == []


@pytest.mark.parametrize("user", ["worker", "keeper"])
async def test_nobody_may_destroy(make_database: DatabaseMaker, tmp_path: Path, user: str) -> None:
    async with platform_of_a_seller(make_database, tmp_path) as (_, client, url):
        await become(client, rights()[user])
        seller = connect(url)
        try:
            for words in (*FORBIDDEN, *(["SCRIPT LOAD return"] if user == "worker" else [])):
                with pytest.raises(NoPermissionError):
                    await seller.execute_command(*words.split())
        finally:
            await seller.aclose()


async def test_the_control_one_right_less_is_noticed(make_database: DatabaseMaker, tmp_path: Path) -> None:
    async with platform_of_a_seller(make_database, tmp_path) as (running, client, _):
        showtime_id = await running.add_showtime()
        (fan,) = await running.fans(1)
        await become(client, f"{rights()['worker']} -evalsha")
        assert (await fan.hold(showtime_id, "A1")).status == 503
        assert "evalsha" in await refused(client)
