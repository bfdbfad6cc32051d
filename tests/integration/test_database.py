"""Goal: a connection stays in hand between statements, and nobody notices but the CPU.

Method: a real PostgreSQL and real troubles: a backend that is ended while nobody uses it, a caller that is
cancelled in the middle of a statement, a transaction that fails, more callers than connections. What the pool
is asked is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from kernel.errors import PersistenceUnavailable
from runtime import postgres
from runtime.postgres import Database, DivisionByZero
from tests.support.engines import DatabaseMaker
from tests.support.shop import until

WHO = "SELECT pg_backend_pid()"
_OURS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"


async def gone(watching: asyncpg.Connection) -> None:
    """Wait until nobody else is connected to this database."""
    others = (
        "SELECT count(*) = 0 FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await until(lambda: watching.fetchval(others))


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A line for each time a pool is asked for a connection."""
    asked: list[object] = []
    acquire = asyncpg.Pool.acquire

    def note(pool: asyncpg.Pool, *, timeout: float | None = None) -> Any:
        asked.append(pool)
        return acquire(pool, timeout=timeout)

    monkeypatch.setattr(asyncpg.Pool, "acquire", note)
    return asked


@pytest_asyncio.fixture
async def url(make_database: DatabaseMaker) -> str:
    return await make_database()


@pytest_asyncio.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database(url, pool_max=1, acquire_timeout_s=5.0)
    yield database
    await database.close()


async def test_statements_one_after_the_other_ask_the_pool_once(
    database: Database, lent: list[object]
) -> None:
    pids = {await database.fetchval(WHO) for _ in range(20)}
    async with database.transaction() as connection:
        pids.add(await connection.fetchval(WHO))
    assert len(pids) == 1
    assert len(lent) == 1


async def test_more_callers_than_connections_all_get_their_turn(database: Database) -> None:
    async def ask() -> list[int]:
        return [await database.fetchval(WHO) for _ in range(20)]

    async with asyncio.timeout(10):
        answers = await asyncio.gather(*(ask() for _ in range(5)))
    assert {pid for pids in answers for pid in pids} == {await database.fetchval(WHO)}


async def test_who_keeps_what_others_wait_for_starves_them(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a connection that never goes back while somebody waits at the pool."""
    database = Database(url, pool_max=1, acquire_timeout_s=0.3)
    monkeypatch.setattr(Database, "_waiting", property(lambda _: 0, lambda *_: None), raising=False)

    async def hold() -> None:
        async with database.connection():
            await asyncio.sleep(0.05)

    with pytest.raises(PersistenceUnavailable):
        await asyncio.gather(hold(), hold())
    await database.close()


async def test_a_backend_that_ended_while_nobody_used_it_is_replaced_unnoticed(
    url: str, database: Database, lent: list[object]
) -> None:
    before = await database.fetchval(WHO)
    other = await asyncpg.connect(url)
    await other.execute("SELECT pg_terminate_backend($1)", before)
    await gone(other)
    await other.close()
    await asyncio.sleep(0.05)  # until its farewell has arrived here
    assert await database.fetchval(WHO) != before
    assert len(lent) == 2


async def test_a_caller_cancelled_in_the_middle_leaves_a_connection_that_works(database: Database) -> None:
    await database.fetchval(WHO)
    asking = asyncio.create_task(database.fetchval("SELECT pg_sleep(30)"))
    await asyncio.sleep(0.1)
    asking.cancel()
    await asyncio.wait([asking])
    async with asyncio.timeout(5):
        assert await database.fetchval("SELECT 7") == 7


async def test_what_failed_in_a_transaction_leaves_none_open(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as connection:
            await connection.execute("CREATE TABLE half_done ()")
            await connection.fetchval("SELECT 1 / $1::int", 0)

    with pytest.raises(DivisionByZero):
        await fail()
    assert await database.fetchval("SELECT to_regclass('half_done')") is None


async def test_a_transaction_somebody_forgot_is_not_handed_on(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("BEGIN; CREATE TABLE forgotten ()")
    assert await database.fetchval("SELECT to_regclass('forgotten')") is None


async def test_a_connection_long_unused_is_not_trusted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await database.fetchval(WHO)
    monkeypatch.setattr(postgres, "_IDLE_MAX_S", 0.0)
    assert await database.fetchval(WHO) != before


async def _connections_after_a_rush(url: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Open in a process that needed four at once, and then one at a time for longer than any may lie idle."""
    monkeypatch.setattr(postgres, "_IDLE_MAX_S", 0.2)
    database = Database(url, pool_max=4)
    try:
        await asyncio.gather(*(database.fetchval("SELECT pg_sleep(0.05)") for _ in range(4)))
        assert await database.fetchval(_OURS) == 4
        for _ in range(10):
            await asyncio.sleep(0.05)
            await database.fetchval(WHO)
        await asyncio.sleep(0.05)  # a backend needs a moment to go
        return int(await database.fetchval(_OURS))
    finally:
        await database.close()


async def test_a_process_that_is_quiet_again_gives_its_connections_back(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await _connections_after_a_rush(url, monkeypatch) == 1


async def test_without_looking_at_the_others_it_would_keep_all_it_ever_had(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_away(_: Database, __: asyncpg.Pool) -> None:
        """The control."""

    monkeypatch.setattr(Database, "_end_unused", look_away)
    assert await _connections_after_a_rush(url, monkeypatch) == 4


async def test_nothing_is_left_open_when_it_closes(url: str) -> None:
    database = Database(url, pool_max=3)
    await asyncio.gather(*(database.fetchval("SELECT pg_sleep(0.05)") for _ in range(3)))
    await database.close()
    other = await asyncpg.connect(url)
    await gone(other)
    await other.close()


async def test_whoever_is_cancelled_in_a_transaction_stays_cancelled(database: Database) -> None:
    """Its connection is ended, so there is nothing to say ROLLBACK on."""

    async def write() -> None:
        async with database.transaction() as connection:
            await connection.fetchval("SELECT pg_sleep(30)")

    assert await _ended_by_a_cancel(write()) == "cancelled"
    assert database.abandoned == 1
    assert await database.fetchval("SELECT 7") == 7


async def test_control_asyncpgs_way_of_leaving_makes_a_refusal_of_it(database: Database) -> None:
    async def write() -> None:
        async with database.connection() as connection, connection.transaction():
            await connection.fetchval("SELECT pg_sleep(30)")

    assert await _ended_by_a_cancel(write()) == "PersistenceUnavailable"


async def _ended_by_a_cancel(work: Coroutine[Any, Any, None]) -> str:
    task = asyncio.create_task(work)
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.wait([task])
    return "cancelled" if task.cancelled() else type(task.exception()).__name__


async def test_a_statement_nobody_waits_for_leaves_the_queue_for_a_lock(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside it, as the control, one whose backend does not look whether its client is there."""
    locking, watching = await asyncpg.connect(url), await asyncpg.connect(url)
    await locking.execute("CREATE TABLE locked ()")
    waits = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async def waiting() -> set[int]:
        return {row["pid"] for row in await watching.fetch(waits)}

    async def one_has_left() -> bool:
        return len(await waiting()) < 2

    async with locking.transaction():
        await locking.execute("LOCK TABLE locked")
        looks = Database(url, command_timeout_s=0.5)
        looking = await looks.fetchval(WHO)
        monkeypatch.setattr(postgres, "_LOOKS_FOR_US_EVERY", "SELECT 1")
        is_blind = Database(url, command_timeout_s=0.5)
        blind = await is_blind.fetchval(WHO)
        for database in (is_blind, looks):
            with pytest.raises(PersistenceUnavailable):
                await database.execute("INSERT INTO locked DEFAULT VALUES")
        assert await waiting() == {blind, looking}
        await until(one_has_left, within_s=30)
        assert await waiting() == {blind}
    for database in (is_blind, looks):
        await database.close()
    await locking.close()
    await watching.close()
