"""Goal: the platform works behind a pgbouncer that gives a server connection away after each transaction.

Method: a real pgbouncer (Debian's, or the one `TEST_PGBOUNCER` names; skipped where there is none) with far
fewer connections to PostgreSQL than it has clients, the platform with every role behind it, and the audit.
The control leaves the cache of prepared statements on, which belong to a connection that somebody else has.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from entrypoints.audit import run_audit
from kernel.errors import PersistenceUnavailable
from runtime.engines import PostgresEngine, free_port
from runtime.migrations import migrate
from runtime.postgres import Database
from tests.support.engines import DatabaseMaker, temporary_data_dir, with_database
from tests.support.platform import migrated, run_platform
from tests.support.shop import until

PROGRAM = os.environ.get("TEST_PGBOUNCER") or shutil.which(
    "pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin"
)
CONNECTIONS = 3

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no pgbouncer here")


@pytest.fixture
def bouncer(postgres_engine: PostgresEngine) -> Iterator[str]:
    """The address of a pgbouncer before the PostgreSQL of the session; any database."""
    assert PROGRAM is not None
    account = postgres_engine.lodging.account
    port = free_port()
    with temporary_data_dir() as folder:
        folder.mkdir()
        folder.chmod(0o755)
        (folder / "users").write_text('"seatrush" ""\n')
        (folder / "ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={postgres_engine.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {folder / 'users'}\n"
            f"pool_mode = transaction\ndefault_pool_size = {CONNECTIONS}\nmax_client_conn = 200\n"
        )
        log = (folder / "log").open("wb")
        user = account.uid if account else None
        with (
            log,
            subprocess.Popen([PROGRAM, str(folder / "ini")], stdout=log, stderr=log, user=user) as process,
        ):
            try:
                yield f"postgresql://seatrush@127.0.0.1:{port}/seatrush"
            finally:
                process.terminate()


async def _answers(url: str) -> None:
    async def asked() -> bool:
        try:
            await (await asyncpg.connect(url, statement_cache_size=0)).close()
        except OSError:
            return False
        return True

    await until(asked)


@pytest.mark.timeout(180)
async def test_the_platform_sells_behind_a_pgbouncer_that_pools_transactions(
    bouncer: str,
    make_database: DatabaseMaker,
    postgres_engine: PostgresEngine,
    valkey_url: str,
    tmp_path: Path,
) -> None:
    url = with_database(bouncer, (await make_database()).rpartition("/")[2])
    await _answers(url)
    assert await migrate(url)
    roles = ("writer", "completers", "reaper")
    async with run_platform(valkey_url, url, tmp_path, roles=roles, statement_cache=0) as running:
        showtime_id = await running.add_showtime()
        fans = await running.fans(30)
        await asyncio.gather(
            *(fan.buy(showtime_id, f"{row}{seat}") for fan, (row, seat) in zip(fans, _seats(), strict=False))
        )
        rebuilt = await running.platform.rebuilder.rebuild("under a lock of one transaction")
        assert rebuilt.seats_owned == 30
        report = await run_audit(running.platform)
        assert report.ok, [check for check in report.checks if not check.ok]
    connection = await asyncpg.connect(postgres_engine.url)
    name = url.rpartition("/")[2]
    backends = await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = $1", name)
    await connection.close()
    assert 0 < backends <= CONNECTIONS


def _seats() -> Iterator[tuple[str, int]]:
    yield from ((row, seat) for row in "ABCDEFGH" for seat in range(1, 13) if seat not in {4, 9})


async def test_control_with_prepared_statements_kept_questions_fail_behind_it(
    bouncer: str, make_database: DatabaseMaker
) -> None:
    url = with_database(bouncer, (await make_database(migrated)).rpartition("/")[2])
    await _answers(url)
    databases = [Database(url, statement_cache=256) for _ in range(CONNECTIONS * 4)]

    async def asks(database: Database) -> None:
        for number in range(50):
            async with database.transaction() as connection:
                await connection.fetchval("SELECT $1::int", number)

    answers = await asyncio.gather(*(asks(database) for database in databases), return_exceptions=True)
    for database in databases:
        await database.close()
    strange = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
    assert any(isinstance(answer, strange) for answer in answers), answers


async def test_behind_it_too_a_transaction_that_says_nothing_any_more_ends(
    bouncer: str, make_database: DatabaseMaker
) -> None:
    """Whoever's connection it was before; and who has it next does not inherit it."""
    url = with_database(bouncer, (await make_database()).rpartition("/")[2])
    await _answers(url)
    databases = [Database(url, statement_cache=0) for _ in range(CONNECTIONS * 4)]
    asked = "SELECT current_setting('idle_in_transaction_session_timeout')"

    async def told(database: Database) -> str:
        async with database.transaction() as connection:
            return str(await connection.fetchval(asked))

    assert {*await asyncio.gather(*map(told, databases))} == {"15s"}
    assert {*await asyncio.gather(*(database.fetchval(asked) for database in databases))} == {"0"}
    short = Database(url, statement_cache=0, transaction_idle_s=0.2)

    async def fall_silent() -> None:
        async with short.transaction() as connection:
            await asyncio.sleep(1.0)
            await connection.fetchval(asked)

    with pytest.raises(PersistenceUnavailable):
        await fall_silent()
    for database in (short, *databases):
        await database.close()
