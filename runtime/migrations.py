"""Migrations: plain SQL files, one linear history, forward only.

`migrations/0007_pre_checkout_add_refund_reason.sql`: *pre* runs before new code, *post* after it.
The runner takes a lock row (a table, not an advisory lock: some PostgreSQL-compatible services have no
session advisory locks), records version, name and checksum, and refuses edited files and a schema newer
than the code. Each file runs in one transaction with short lock and statement timeouts; a file that
needs more says so in its first lines: `-- statement_timeout: 5min, because …`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from kernel import limits
from kernel.errors import PersistenceUnavailable
from runtime.paths import MIGRATIONS_DIR
from runtime.postgres import WEATHER

_NAME: Final = re.compile(r"^(\d{4})_(pre|post)_([a-z0-9_]+)\.sql$")
#: How long a statement waits for a lock: whoever comes after it waits for it, too.
LOCK_WITHIN: Final = "4s"
LOCK_TRIES: Final = 5
_LOCK_PAUSE_S: Final = 1.0
_log = logging.getLogger(__name__)
_TIMEOUT: Final = re.compile(r"^-- statement_timeout: (\w+), because .+$", re.MULTILINE)


class MigrationRefused(RuntimeError):
    """The history in the database and the files in the tree do not fit."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of the history."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations(folder: Path = MIGRATIONS_DIR) -> list[Migration]:
    """Every migration in order.

    Raises MigrationRefused for a bad name or a gap in the numbering.
    """
    migrations = []
    for path in sorted(folder.glob("*.sql")):
        if path.name == "schema.sql":
            continue
        match = _NAME.match(path.name)
        if match is None:
            raise MigrationRefused(f"{path.name} is not a migration's name")
        migrations.append(Migration(int(match.group(1)), path.stem, path.read_text()))
    if [migration.version for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise MigrationRefused("migration numbers are not 1, 2, 3 …")
    return migrations


_BOOTSTRAP: Final = """
CREATE SCHEMA IF NOT EXISTS seatrush;
CREATE TABLE IF NOT EXISTS seatrush.migrations (
  version    int PRIMARY KEY,
  name       text NOT NULL,
  checksum   text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS seatrush.migration_lock (one boolean PRIMARY KEY CHECK (one));
INSERT INTO seatrush.migration_lock VALUES (true) ON CONFLICT DO NOTHING;
"""


async def migrate(url: str, migrations: Sequence[Migration] | None = None) -> list[str]:
    """Bring the database to the newest version; the answer names what ran.

    Raises MigrationRefused when a file was edited after it ran or the database is newer, and
    PersistenceUnavailable when PostgreSQL does not answer or does not let us in, or somebody keeps a table
    locked that is to be changed.
    """
    todo = load_migrations() if migrations is None else list(migrations)
    try:
        connection = await asyncpg.connect(url, statement_cache_size=0, timeout=10)
    except WEATHER as error:
        raise PersistenceUnavailable(f"PostgreSQL does not answer: {error}") from error
    ran: list[str] = []
    try:
        # Nothing is written where nothing is to do: a commit may have to wait for a standby that is away.
        if not await _is_to_do(connection, todo):
            return ran
        await _bootstrap(connection)
        ran += [one.name for one in todo if await _in_several_tries(connection, one, todo)]
    finally:
        await connection.close()
    return ran


async def _is_to_do(connection: asyncpg.Connection, todo: Sequence[Migration]) -> bool:
    is_new = await connection.fetchval("SELECT to_regclass('seatrush.migrations')") is None
    return is_new or bool(pending(await _known(connection), todo))


async def _known(connection: asyncpg.Connection) -> dict[int, str]:
    rows = await connection.fetch("SELECT version, checksum FROM seatrush.migrations")
    return {row["version"]: row["checksum"] for row in rows}


async def _in_several_tries(
    connection: asyncpg.Connection, migration: Migration, todo: Sequence[Migration]
) -> bool:
    """Run one, unless it ran; a lock that is not had is asked for again: others get theirs in between."""
    for left in reversed(range(LOCK_TRIES)):
        try:
            return await _run(connection, migration, todo)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            if not left:
                raise PersistenceUnavailable(f"{migration.name}: {error}") from error
            _log.warning("%s waits for others: %s", migration.name, error)
            await asyncio.sleep(_LOCK_PAUSE_S)
    raise AssertionError("the last try answers or raises")


async def _run(connection: asyncpg.Connection, migration: Migration, todo: Sequence[Migration]) -> bool:
    async with connection.transaction():
        # A runner that was stopped keeps the next one waiting no longer than this.
        await connection.execute(
            f"SET LOCAL idle_in_transaction_session_timeout = {limits.transaction_idle_ms_max}"
        )
        # However long another runner's migration takes.
        await connection.execute("SELECT one FROM seatrush.migration_lock FOR UPDATE")
        if migration not in pending(await _known(connection), todo):
            return False
        timeout = _TIMEOUT.search(migration.sql)
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_WITHIN}'")
        await connection.execute(f"SET LOCAL statement_timeout = '{timeout.group(1) if timeout else '5s'}'")
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO seatrush.migrations (version, name, checksum) VALUES ($1, $2, $3)",
            migration.version,
            migration.name,
            migration.checksum,
        )
        return True


async def _bootstrap(connection: asyncpg.Connection) -> None:
    try:
        await connection.execute(_BOOTSTRAP)
    except (asyncpg.UniqueViolationError, asyncpg.DuplicateObjectError, asyncpg.DuplicateTableError):
        # Two first starts met inside CREATE … IF NOT EXISTS; the other one made it.
        await connection.execute(_BOOTSTRAP)


def pending(known: Mapping[int, str], migrations: Sequence[Migration]) -> list[Migration]:
    """Those still to run; `known` are the checksums of those that ran, by version.

    Raises MigrationRefused when a file was edited after it ran or the database is newer.
    """
    ours = {migration.version: migration for migration in migrations}
    for version, checksum in known.items():
        if version not in ours:
            raise MigrationRefused(f"the database has migration {version}, which this code does not know")
        if ours[version].checksum != checksum:
            raise MigrationRefused(f"{ours[version].name} was edited after it ran")
    return [migration for migration in migrations if migration.version not in known]
