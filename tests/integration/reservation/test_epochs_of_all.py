"""Goal: what a rebuild loads for one partition fits no older map of another.

Method: partitions on one server that were made anew a different number of times, raised together as they are
when it comes back with older data. The control is the simplest rule: one above the partition's own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from kernel.ids import PARTITIONS
from reservation import ReservationStore
from runtime.migrations import load_migrations, migrate
from runtime.postgres import Database
from tests.support.engines import DatabaseMaker


async def _migrated(url: str) -> None:
    await migrate(url, load_migrations())


@pytest_asyncio.fixture
async def database(make_database: DatabaseMaker) -> AsyncIterator[Database]:
    database = Database(await make_database(_migrated), pool_max=2)
    yield database
    await database.close()


async def _epochs(database: Database) -> dict[int, int]:
    rows = await database.fetch("SELECT partition, epoch FROM reservation.epochs")
    return {row["partition"]: row["epoch"] for row in rows}


async def test_a_new_epoch_is_the_old_one_of_no_partition(database: Database) -> None:
    store = ReservationStore(database)
    await store.raise_epochs(dict.fromkeys(range(PARTITIONS), 0), "the first")
    await store.raise_epochs({9: 0}, "this one was damaged")
    old = await _epochs(database)
    one_above_its_own = {epoch + 1 for epoch in old.values()}
    assert one_above_its_own & {*old.values()}, "the control"

    raised = await store.raise_epochs(dict.fromkeys(old, 0), "the server came back with older data")

    assert not {*raised.values()} & {*old.values()}


async def test_a_new_epoch_is_above_what_any_of_the_data_has_seen(database: Database) -> None:
    """Of a database that was set back; what one partition has seen is loaded for none."""
    raised = await ReservationStore(database).raise_epochs({0: 0, 1: 41}, "a database that was set back")
    assert raised == {0: 42, 1: 42}
