"""The history of the schema: from nothing to now, and never twice.

Goal: any database is brought to the newest version by whoever comes first, an edited or a newer history is
refused before anything is touched, and `migrations/schema.sql` is what the history comes to. Method: real
databases; made-up histories where the real one cannot go wrong.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from entrypoints import schema_dump
from kernel.errors import PersistenceUnavailable
from runtime import migrations
from runtime.engines import PostgresEngine
from runtime.migrations import Migration, MigrationRefused, load_migrations, migrate
from runtime.paths import MIGRATIONS_DIR
from runtime.postgres import Database
from tests.support.engines import DatabaseMaker, with_database
from tests.support.platform import migrated

HISTORY = [
    Migration(1, "0001_pre_try_create", "CREATE SCHEMA try; CREATE TABLE try.things (thing int);"),
    Migration(2, "0002_pre_try_fill", "INSERT INTO try.things VALUES (1), (2);"),
    Migration(3, "0003_post_try_name", "ALTER TABLE try.things ADD COLUMN name text;"),
]


async def _fetch(url: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


async def _schema(engine: PostgresEngine, url: str) -> str:
    return await asyncio.to_thread(schema_dump.dump, url, engine.lodging.programs)


async def test_from_nothing_to_the_newest_version(make_database: DatabaseMaker) -> None:
    url = await make_database()
    names = [migration.name for migration in load_migrations()]
    assert await migrate(url) == names
    rows = await _fetch(url, "SELECT version, name, checksum FROM seatrush.migrations ORDER BY version")
    assert [row["name"] for row in rows] == names
    assert [row["checksum"] for row in rows] == [migration.checksum for migration in load_migrations()]


async def test_the_second_time_nothing_changes(
    make_database: DatabaseMaker, postgres_engine: PostgresEngine
) -> None:
    url = await make_database(migrated)
    before = await _schema(postgres_engine, url), await _fetch(url, "SELECT * FROM seatrush.migrations")
    assert await migrate(url) == []
    assert (
        await _schema(postgres_engine, url),
        await _fetch(url, "SELECT * FROM seatrush.migrations"),
    ) == before


async def test_the_history_comes_to_the_schema_that_is_committed(
    make_database: DatabaseMaker, postgres_engine: PostgresEngine
) -> None:
    replayed = await _schema(postgres_engine, await make_database(migrated))
    committed = (MIGRATIONS_DIR / "schema.sql").read_text()
    assert replayed == committed, "the schema has changed: run `make schema` and commit what it writes"


async def test_the_committed_schema_makes_the_schema(
    make_database: DatabaseMaker, postgres_engine: PostgresEngine
) -> None:
    url = await make_database()
    connection = await asyncpg.connect(url)
    await connection.execute((MIGRATIONS_DIR / "schema.sql").read_text())
    await connection.close()
    assert await _schema(postgres_engine, url) == (MIGRATIONS_DIR / "schema.sql").read_text()


async def test_what_is_new_runs_and_what_ran_does_not(make_database: DatabaseMaker) -> None:
    url = await make_database()
    assert await migrate(url, HISTORY[:2]) == [each.name for each in HISTORY[:2]]
    assert await migrate(url, HISTORY) == [HISTORY[2].name]
    assert len(await _fetch(url, "SELECT thing, name FROM try.things")) == 2


async def test_a_file_edited_after_it_ran_is_refused(make_database: DatabaseMaker) -> None:
    url = await make_database()
    await migrate(url, HISTORY[:2])
    edited = [HISTORY[0], dataclasses.replace(HISTORY[1], sql="DROP TABLE try.things;"), HISTORY[2]]
    with pytest.raises(MigrationRefused, match="0002_pre_try_fill was edited after it ran"):
        await migrate(url, edited)
    assert len(await _fetch(url, "SELECT * FROM try.things")) == 2
    assert len(await _fetch(url, "SELECT * FROM seatrush.migrations")) == 2


@pytest.mark.parametrize("known", [2, 1])
async def test_a_database_newer_than_the_code_is_refused(make_database: DatabaseMaker, known: int) -> None:
    url = await make_database()
    await migrate(url, HISTORY)
    with pytest.raises(MigrationRefused, match="which this code does not know"):
        await migrate(url, HISTORY[:known])


async def test_a_file_that_fails_leaves_nothing_of_itself(make_database: DatabaseMaker) -> None:
    url = await make_database()
    broken = Migration(3, "0003_pre_try_break", "CREATE TABLE try.half (a int); SELECT 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(url, [*HISTORY[:2], broken])
    tables = await _fetch(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'try'")
    assert [row["tablename"] for row in tables] == ["things"]
    assert await migrate(url, HISTORY) == [HISTORY[2].name]


async def test_runners_that_start_at_once_run_everything_once(make_database: DatabaseMaker) -> None:
    url = await make_database()
    ran = await asyncio.gather(*(migrate(url, HISTORY) for _ in range(6)))
    assert sorted(name for names in ran for name in names) == [each.name for each in HISTORY]
    assert len(await _fetch(url, "SELECT * FROM try.things")) == 2


async def test_control_without_the_lock_two_runners_collide(make_database: DatabaseMaker) -> None:
    url = await make_database()
    both_looked = asyncio.Barrier(2)

    async def run_unlocked() -> None:
        connection = await asyncpg.connect(url)
        try:
            assert not await connection.fetchval("SELECT to_regclass('try.things') IS NOT NULL")
            await both_looked.wait()
            await connection.execute(HISTORY[0].sql)
        finally:
            await connection.close()

    outcomes = await asyncio.gather(run_unlocked(), run_unlocked(), return_exceptions=True)
    collisions = (asyncpg.DuplicateSchemaError, asyncpg.UniqueViolationError)
    assert len([each for each in outcomes if isinstance(each, collisions)]) == 1


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks are waited for as briefly as a test likes."""
    monkeypatch.setattr(migrations, "LOCK_WITHIN", "100ms")
    monkeypatch.setattr(migrations, "_LOCK_PAUSE_S", 0.05)


async def test_a_table_somebody_holds_is_waited_for_in_several_short_tries(
    make_database: DatabaseMaker, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    url = await make_database()
    await migrate(url, HISTORY[:2])
    holder = await asyncpg.connect(url)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE try.things IN ACCESS SHARE MODE")
            with pytest.raises(PersistenceUnavailable, match=HISTORY[2].name):
                await migrate(url, HISTORY)
        assert caplog.text.count("waits for others") == migrations.LOCK_TRIES - 1
        assert await migrate(url, HISTORY) == [HISTORY[2].name]
    finally:
        await holder.close()


@pytest.fixture
def runs_only_after(make_database: DatabaseMaker, impatient: None) -> Callable[[str], Awaitable[None]]:
    """What is new waits while somebody's transaction has done this, and runs when that is over."""

    async def wait_and_run(statement: str) -> None:
        url = await make_database()
        await migrate(url, HISTORY[:2])
        somebody = await asyncpg.connect(url)
        async with somebody.transaction():
            await somebody.execute(statement)
            running = asyncio.create_task(migrate(url, HISTORY))
            await asyncio.sleep(0.5)
            assert not running.done()
        assert await running == [HISTORY[2].name]
        await somebody.close()

    return wait_and_run


async def test_one_that_meets_a_reader_runs_when_he_has_gone(
    runs_only_after: Callable[[str], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_TRIES", 100)
    await runs_only_after("LOCK TABLE try.things IN ACCESS SHARE MODE")


async def test_a_second_runner_waits_however_long_the_first_one_takes(
    runs_only_after: Callable[[str], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_TRIES", 1)
    await runs_only_after("SELECT one FROM seatrush.migration_lock FOR UPDATE")


async def test_where_nothing_is_to_do_nothing_is_written(make_database: DatabaseMaker) -> None:
    """A commit that wrote would wait for a standby that is away, and the whole start with it."""
    url = await make_database()
    await migrate(url, HISTORY[:2])
    for_readers = f"{url}?default_transaction_read_only=on"
    assert await migrate(for_readers, HISTORY[:2]) == []
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await migrate(for_readers, HISTORY)


async def test_a_server_that_does_not_let_us_in_is_a_server_that_is_away(
    make_database: DatabaseMaker,
) -> None:
    elsewhere = with_database(await make_database(), "nowhere")
    for url in (elsewhere, "postgresql://nobody@127.0.0.1:1/nothing"):
        with pytest.raises(PersistenceUnavailable):
            await migrate(url)
        database = Database(url)
        with pytest.raises(PersistenceUnavailable):
            await database.fetchval("SELECT 1")
        await database.close()


def _files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_text("SELECT 1;")
    return folder


def test_a_gap_in_the_numbers_is_refused(tmp_path: Path) -> None:
    folder = _files(tmp_path, "0001_pre_a_create.sql", "0003_pre_a_change.sql")
    with pytest.raises(MigrationRefused, match="1, 2, 3"):
        load_migrations(folder)


def test_a_number_given_twice_is_refused(tmp_path: Path) -> None:
    folder = _files(tmp_path, "0001_pre_a_create.sql", "0001_pre_b_create.sql")
    with pytest.raises(MigrationRefused, match="1, 2, 3"):
        load_migrations(folder)


@pytest.mark.parametrize(
    "name",
    ["1_pre_a.sql", "0001_a_create.sql", "0001_pre_.sql", "0001_during_a_create.sql", "0001_pre_A.sql"],
)
def test_a_name_of_another_form_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MigrationRefused, match="not a migration's name"):
        load_migrations(_files(tmp_path, name))


def test_the_generated_schema_is_no_migration(tmp_path: Path) -> None:
    assert [
        each.version for each in load_migrations(_files(tmp_path, "0001_pre_a_create.sql", "schema.sql"))
    ] == [1]


async def test_a_file_may_ask_for_more_time_with_a_reason(make_database: DatabaseMaker) -> None:
    url = await make_database()
    await migrate(url, HISTORY[:1])
    reason = "-- statement_timeout: 7min, because it reads every ticket\n"
    sql = "CREATE TABLE try.said AS SELECT current_setting('statement_timeout') AS timeout;"
    plain = Migration(2, "0002_pre_try_plain", sql.replace("said", "plain"))
    await migrate(url, [HISTORY[0], plain, Migration(3, "0003_pre_try_slow", reason + sql)])
    assert (await _fetch(url, "SELECT timeout FROM try.plain"))[0]["timeout"] == "5s"
    assert (await _fetch(url, "SELECT timeout FROM try.said"))[0]["timeout"] == "7min"
