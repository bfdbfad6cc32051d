"""Goal: a process that stands still in the middle of a transaction keeps nobody else out for long.

Method: real processes that stop themselves (SIGSTOP, as a paused machine would) between two statements: a
writer that has copied a batch, a rebuild that has its lock, a runner of migrations that has its row. To
PostgreSQL a lost host looks the same. How long it hears nothing is shorter here than in the product, where
that is a test's own; the controls hear nothing for ever, and get in as soon as the process is killed.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from checkout import WriterStore
from checkout.log_entries import LogEntry
from checkout.writer.batch import Batch, Item
from kernel import limits
from kernel.errors import PersistenceUnavailable
from kernel.ids import new_showtime_id
from reservation.store import ReservationStore
from runtime.migrations import load_migrations, migrate
from runtime.paths import ROOT
from runtime.postgres import Database
from tests.support.engines import DatabaseMaker
from tests.support.shop import claim_of, migrated

#: Of silence, until PostgreSQL takes a process for gone; and never, within a test.
SOON_S: Final = 1.0
NEVER_S: Final = 3_600.0
#: Generous: what is over in two seconds on a machine with nothing else to do.
PATIENCE_S: Final = 30.0

#: Stands still between COPY and the last statement of its batch.
WRITER: Final = """
import asyncio, os, pickle, signal, sys
from checkout import WriterStore
from runtime.postgres import Database

class Frozen(WriterStore):
    async def _write_some(self, connection, batch):
        print("frozen", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
        return await super()._write_some(connection, batch)

with open(sys.argv[3], "rb") as file:
    batch = pickle.load(file)
database = Database(sys.argv[1], transaction_idle_s=float(sys.argv[2]))
asyncio.run(Frozen(database, copy_orders_min=1).write(batch))
"""

REBUILDER: Final = """
import asyncio, os, signal, sys
from reservation.store import ReservationStore
from runtime.postgres import Database

async def main():
    database = Database(sys.argv[1], transaction_idle_s=float(sys.argv[2]))
    async with ReservationStore(database).rebuild_lock():
        print("frozen", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)

asyncio.run(main())
"""

MIGRATOR: Final = """
import asyncio, os, signal, sys
from kernel import limits
from runtime import migrations

def frozen(known, todo, looked=[]):
    if known and len(known) == len(todo) - 1:
        looked.append(known)
    if len(looked) == 2:  # the second look is the one under the lock
        print("frozen", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
    return pending(known, todo)

limits.transaction_idle_ms_max = round(float(sys.argv[2]) * 1000)
pending, migrations.pending = migrations.pending, frozen
asyncio.run(migrations.migrate(sys.argv[1]))
"""


@contextmanager
def frozen(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that has stopped itself; killed in the end, if it was not before."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "frozen\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def batch() -> Batch:
    """Claims nobody has written yet."""
    claims = [claim_of(new_showtime_id(), seat) for seat in range(3)]
    return Batch.of(Item(LogEntry(7, f"{number}-0", b""), claim) for number, claim in enumerate(claims, 1))


@pytest.fixture
def kept(batch: Batch, tmp_path: Path) -> str:
    """A file with the batch, for a process of its own."""
    (tmp_path / "batch").write_bytes(pickle.dumps(batch))
    return str(tmp_path / "batch")


@pytest_asyncio.fixture
async def database(make_database: DatabaseMaker) -> AsyncIterator[Database]:
    database = Database(await make_database(migrated), command_timeout_s=3.0)
    yield database
    await database.close()


async def test_the_next_writer_is_not_kept_out_by_one_that_stands_still(
    database: Database, batch: Batch, kept: str
) -> None:
    with frozen(WRITER, database._url, str(SOON_S), kept):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    await WriterStore(database).write(batch)
                    break
                except PersistenceUnavailable:
                    await asyncio.sleep(0.1)
    assert await database.fetchval("SELECT count(*) FROM checkout.orders") == 3


async def test_control_a_writer_that_is_heard_of_no_more_keeps_the_next_one_out(
    database: Database, batch: Batch, kept: str
) -> None:
    with frozen(WRITER, database._url, str(NEVER_S), kept) as process:
        with pytest.raises(PersistenceUnavailable):
            await WriterStore(database).write(batch)
        process.kill()
        process.wait()
        await WriterStore(database).write(batch)
    assert await database.fetchval("SELECT count(*) FROM checkout.orders") == 3


async def _gets_the_lock(database: Database, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s), ReservationStore(database).rebuild_lock():
            return True
    except TimeoutError:
        return False


async def test_the_next_rebuild_is_not_kept_out_by_one_that_stands_still(database: Database) -> None:
    with frozen(REBUILDER, database._url, str(SOON_S)):
        assert await _gets_the_lock(database, PATIENCE_S)


async def test_control_a_rebuild_that_is_heard_of_no_more_keeps_the_next_one_out(database: Database) -> None:
    with frozen(REBUILDER, database._url, str(NEVER_S)) as process:
        assert not await _gets_the_lock(database, 3 * SOON_S)
        process.kill()
        process.wait()
        assert await _gets_the_lock(database, PATIENCE_S)


async def _all_but_the_last_migration(url: str) -> None:
    await migrate(url, load_migrations()[:-1])


async def test_the_next_runner_of_migrations_is_not_kept_out_by_one_that_stands_still(
    make_database: DatabaseMaker,
) -> None:
    url = await make_database()
    await _all_but_the_last_migration(url)
    with frozen(MIGRATOR, url, str(SOON_S)):
        async with asyncio.timeout(PATIENCE_S):
            assert await migrate(url) == [load_migrations()[-1].name]


async def test_control_a_runner_that_is_heard_of_no_more_keeps_the_next_one_out(
    make_database: DatabaseMaker,
) -> None:
    url = await make_database()
    await _all_but_the_last_migration(url)
    with frozen(MIGRATOR, url, str(NEVER_S)) as process:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3 * SOON_S):
                await migrate(url)
        process.kill()
        process.wait()
        assert await migrate(url) == [load_migrations()[-1].name]


async def test_whoever_stood_still_too_long_hears_that_his_work_is_not_done(
    make_database: DatabaseMaker,
) -> None:
    database = Database(await make_database(), transaction_idle_s=0.2)

    async def stand_still() -> None:
        async with database.transaction() as connection:
            await connection.execute("CREATE TABLE half_done ()")
            time.sleep(SOON_S)  # noqa: ASYNC251 (the process stands still, and its loop with it)
            await connection.execute("SELECT 1")

    with pytest.raises(PersistenceUnavailable):
        await stand_still()
    assert await database.fetchval("SELECT to_regclass('half_done')") is None
    await database.close()


async def test_a_transaction_may_be_silent_for_longer_than_a_statement_may_take(database: Database) -> None:
    """And who is not in one, for as long as he likes."""
    asked = "SELECT setting::int FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'"
    usual = Database(database._url)
    async with usual.transaction() as connection:
        assert await connection.fetchval(asked) == limits.transaction_idle_ms_max
    async with usual.transaction(snapshot=True) as connection:
        assert await connection.fetchval(asked) == limits.transaction_idle_ms_max
        assert await connection.fetchval("SHOW transaction_isolation") == "repeatable read"
        assert await connection.fetchval("SHOW transaction_read_only") == "on"
    assert limits.transaction_idle_ms_max > usual._command_timeout_s * 1000
    assert await usual.fetchval(asked) == 0
    await usual.close()


async def test_a_host_that_is_lost_is_missed_within_half_a_minute(database: Database) -> None:
    rows = await database.fetch(
        "SELECT name, setting::int FROM pg_settings WHERE name LIKE 'tcp_keepalives_%'"
    )
    kept = {row["name"].removeprefix("tcp_keepalives_"): row["setting"] for row in rows}
    assert 0 < kept["idle"] + kept["interval"] * kept["count"] < 30
