"""A cluster of three primaries with a replica each, and the whole platform on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from kernel.ids import partition_of
from reservation import log_key
from runtime.redis_link.slots import SLOTS, slot_of
from tests.support.cluster import PRIMARIES, Cluster, running_cluster
from tests.support.engines import DatabaseMaker
from tests.support.platform import RunningPlatform, migrated, run_platform

ROLES = ("writer", "completers", "reaper")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster() -> AsyncIterator[Cluster]:
    """One for all tests of a module."""
    async with running_cluster(replicas=True) as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="session")
async def running(
    cluster: Cluster, make_database: DatabaseMaker, tmp_path: Path
) -> AsyncIterator[RunningPlatform]:
    """The platform on the emptied cluster, every role at work."""
    database = await make_database(migrated)
    async with run_platform(cluster.url, database, tmp_path, roles=ROLES) as started:
        yield started


def primary_of(showtime_id: str) -> int:
    """The number of the primary that had a showtime's slot when the cluster was made."""
    return slot_of(log_key(partition_of(showtime_id))) * PRIMARIES // SLOTS


async def a_showtime_on(running: RunningPlatform, number: int, hall: str) -> str:
    """A showtime whose seats a primary has."""
    while primary_of(showtime_id := await running.add_showtime(hall)) != number:
        pass
    return showtime_id
