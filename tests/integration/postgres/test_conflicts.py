"""Goal: a deadlock or a serialization failure is nobody's fault and nobody's 500: the work is done again.

Method: a real PostgreSQL. Two transactions take two rows in opposite orders and meet in the middle; a
statement waits for a row that is changed under it; another raises 40001 whenever asked. What was written
is read, tries are counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from kernel.errors import PersistenceUnavailable
from runtime.postgres import CONFLICT_RETRIES_MAX, Database, attempt
from tests.support.engines import DatabaseMaker
from tests.support.shop import until

ADD = "UPDATE public.counted SET value = value + 1 WHERE name = $1"


@pytest_asyncio.fixture
async def url(make_database: DatabaseMaker) -> str:
    url = await make_database()
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE public.counted (name text PRIMARY KEY, value int NOT NULL)")
    await connection.execute("INSERT INTO public.counted VALUES ('left', 0), ('right', 0)")
    await connection.close()
    return url


@pytest_asyncio.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    yield database
    await database.close()


class Crossing:
    """Two who each want what the other has: they meet after the first step, the first time they come."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._met = asyncio.Barrier(2)
        self.tries = 0

    async def cross(self, first: str, second: str) -> None:
        async with self._database.transaction() as connection:
            self.tries += 1
            meets = self.tries <= 2
            await connection.execute(ADD, first)
            if meets:
                await self._met.wait()
            await connection.execute(ADD, second)


async def _values(database: Database) -> dict[str, int]:
    return {row["name"]: row["value"] for row in await database.fetch("SELECT * FROM public.counted")}


async def test_two_in_a_deadlock_both_get_through_and_neither_twice(database: Database) -> None:
    crossing = Crossing(database)
    await asyncio.gather(
        attempt(lambda: crossing.cross("left", "right")), attempt(lambda: crossing.cross("right", "left"))
    )
    assert await _values(database) == {"left": 2, "right": 2}
    assert database.conflicts >= 1, "on a busy machine they may meet again"
    assert crossing.tries == 2 + database.conflicts


async def test_control_without_another_attempt_one_of_the_two_is_refused_with_a_code(
    database: Database,
) -> None:
    crossing = Crossing(database)
    ended = await asyncio.gather(
        crossing.cross("left", "right"), crossing.cross("right", "left"), return_exceptions=True
    )
    (refused,) = (one for one in ended if one is not None)
    assert isinstance(refused, PersistenceUnavailable)
    assert (refused.code.http_status, refused.code.name) == (503, "persistence_unavailable")
    assert isinstance(refused.__cause__, asyncpg.DeadlockDetectedError)
    assert await _values(database) == {"left": 1, "right": 1}


async def test_a_statement_whose_row_was_changed_under_it_is_done_again(url: str, database: Database) -> None:
    """PostgreSQL refuses it where the database asks for more than READ COMMITTED."""
    other, watching = await asyncpg.connect(url), await asyncpg.connect(url)
    name = await other.fetchval("SELECT current_database()")
    await other.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    async with other.transaction():
        await other.execute(ADD, "left")
        waiting = asyncio.create_task(database.execute(ADD, "left"))
        locked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1"
        await until(lambda: watching.fetchval(locked, name))
    assert await waiting == "UPDATE 1"
    assert (await _values(database))["left"] == 2
    assert database.conflicts == 1
    await other.close()
    await watching.close()


async def test_whoever_always_loses_is_refused_after_three_more_tries(database: Database) -> None:
    with pytest.raises(PersistenceUnavailable) as refused:
        await database.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")
    assert isinstance(refused.value.__cause__, asyncpg.SerializationError)
    assert database.conflicts == 1 + CONFLICT_RETRIES_MAX


async def test_what_is_no_conflict_is_not_tried_again(database: Database) -> None:
    tries = 0

    async def away() -> None:
        nonlocal tries
        tries += 1
        raise PersistenceUnavailable

    with pytest.raises(PersistenceUnavailable):
        await attempt(away)
    assert tries == 1
