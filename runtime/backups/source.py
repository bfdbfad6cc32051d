"""The server that is backed up: where it is, who we are there, and what it says of itself.

An instance of `seatrush up` is met over its private socket, as its superuser: the role the platform sells as
may not replicate, on purpose. Where the socket is stands in the server's own `postmaster.pid`. Any other
server is met at an address, as a role that may replicate.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import asyncpg

from runtime.backups.errors import BackupError
from runtime.engines.lodging import postgres_base
from runtime.engines.postgres import ADMIN, DATABASE, ROLE
from runtime.postgres import WEATHER

_WITHIN_S: Final = 10.0
VERSION_MIN: Final = 150_000
#: What of our environment PostgreSQL's programs may know: their settings, and where their files are.
_PASSED_ON: Final = re.compile(r"^(PG[A-Z]+|HOME)$")


@dataclass(frozen=True, slots=True)
class Source:
    """A server: its address for us (`url`), and the role and database whose promises are kept in it."""

    url: str
    instance: bool
    role: str
    database: str
    keys: Path | None = None

    @property
    def address(self) -> str:
        """The address for PostgreSQL's programs, without a password."""
        parts = urlsplit(self.url)
        who, at, where = parts.netloc.rpartition("@")
        options = [one for one in parse_qsl(parts.query, keep_blank_values=True) if one[0] != "password"]
        netloc, query = f"{who.partition(':')[0]}{at}{where}", urlencode(options, quote_via=quote)
        return parts._replace(netloc=netloc, query=query).geturl()

    def environment(self, **more: str) -> Mapping[str, str]:
        """What PostgreSQL's programs need beside the address."""
        passed_on = {name: value for name, value in os.environ.items() if _PASSED_ON.match(name)}
        kept: dict[str, str] = {} if self.instance else passed_on
        parts = urlsplit(self.url)
        password = unquote(parts.netloc.rpartition("@")[0].partition(":")[2])
        password = password or dict(parse_qsl(parts.query)).get("password", "")
        if password:
            kept["PGPASSWORD"] = password
        return {**kept, **more}


def of_instance(data_dir: Path) -> Source | None:
    """The PostgreSQL that an instance of `seatrush up` runs on this data folder; None when none does."""
    home = postgres_base(data_dir) / "postgres"
    try:
        lines = (home / "postmaster.pid").read_text().splitlines()
        port, sockets = int(lines[3]), lines[4].strip()
    except (OSError, ValueError, IndexError):
        return None
    url = f"postgresql://{ADMIN}@/{DATABASE}?host={quote(sockets, safe='')}&port={port}"
    keys = data_dir / "keys"
    return Source(url, True, ROLE, DATABASE, keys if keys.is_dir() else None)


def of_address(url: str, *, sells_as: str | None = None) -> Source:
    """The server at an address. `sells_as` is the address the platform uses, where that is another role."""
    parts = urlsplit(sells_as or url)
    role = unquote(parts.netloc.rpartition("@")[0].partition(":")[0])
    database = unquote(parts.path.removeprefix("/"))
    role = role or os.environ.get("PGUSER", "") or _me()
    return Source(url, False, role, database or os.environ.get("PGDATABASE", "") or role)


def _me() -> str:
    return os.environ.get("USER", "postgres")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says of itself. `at` is its own clock then; `bytes` is None where it may not be asked."""

    at: datetime
    system: str
    timeline: int
    version: str
    major: int
    segment_bytes: int
    bytes: int | None
    waits_for: str
    migrations: Mapping[int, str]


@asynccontextmanager
async def asking(source: Source) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A connection to the server. Raises BackupError (`server_away`)."""
    try:
        connection = await asyncpg.connect(
            source.url, timeout=_WITHIN_S, command_timeout=_WITHIN_S, statement_cache_size=0
        )
    except (ValueError, *WEATHER) as error:
        raise BackupError("server_away", f"PostgreSQL cannot be asked: {_words(error)}") from error
    try:
        yield connection
    except WEATHER as error:
        raise BackupError("server_away", f"PostgreSQL ended the talk: {_words(error)}") from error
    finally:
        connection.terminate()


async def facts_of(source: Source) -> Facts:
    """Ask a server whether and how it can be backed up.

    Raises BackupError: `server_away`, or `server_refuses` with what would help.
    """
    async with asking(source) as connection:
        row = await connection.fetchrow(
            "SELECT clock_timestamp() AS at,"
            " (SELECT system_identifier::text FROM pg_control_system()) AS system,"
            " CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END"
            "  AS timeline,"
            " current_setting('server_version') AS version,"
            " current_setting('server_version_num')::int AS version_number,"
            " (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size') AS segment_bytes,"
            " current_setting('wal_level') AS wal_level, current_setting('max_wal_senders')::int AS senders,"
            " pg_is_in_recovery() AS in_recovery,"
            " current_setting('synchronous_standby_names') AS waits_for,"
            " (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user)"
            "  AS may_replicate,"
            " pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS may_look,"
            " (SELECT count(*) FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global'))"
            "  AS tablespaces, current_user AS me"
        )
        assert row is not None, "a question without FROM has one answer"
        migrations: dict[int, str] | None = {}
        try:
            if await connection.fetchval("SELECT to_regclass('seatrush.migrations')") is not None:
                ran = await connection.fetch("SELECT version, checksum FROM seatrush.migrations")
                migrations = {one["version"]: one["checksum"] for one in ran}
        except asyncpg.InsufficientPrivilegeError:
            migrations = None
        try:
            size = await connection.fetchval("SELECT sum(pg_database_size(oid))::bigint FROM pg_database")
        except asyncpg.InsufficientPrivilegeError:
            size = None
    refusals = (
        (row["version_number"] < VERSION_MIN, f"it is PostgreSQL {row['version']}; 15 or newer is needed"),
        (row["in_recovery"], "it is a standby; name the primary"),
        (
            not row["may_replicate"],
            f"role {row['me']} may not replicate: ALTER ROLE {row['me']} REPLICATION, or name another role "
            "in SEATRUSH_BACKUP_URL",
        ),
        (
            not row["may_look"],
            f"role {row['me']} is not told how far a receiver is: GRANT pg_read_all_stats TO {row['me']}",
        ),
        (
            migrations is None,
            f"role {row['me']} may not read which migrations ran: GRANT USAGE ON SCHEMA seatrush TO "
            f"{row['me']}; GRANT SELECT ON seatrush.migrations TO {row['me']}",
        ),
        (
            row["wal_level"] == "minimal" or not row["senders"],
            "set wal_level to replica and max_wal_senders to 10, and restart it",
        ),
        (row["tablespaces"] > 0, "it has tablespaces outside its data folder, which are not backed up here"),
    )
    refusal = next((why for refused, why in refusals if refused), None)
    if refusal:
        raise BackupError("server_refuses", f"this server cannot be backed up: {refusal}")
    assert migrations is not None, "refused above"
    return Facts(
        at=row["at"],
        system=row["system"],
        timeline=int(row["timeline"], 16),
        version=row["version"],
        major=row["version_number"] // 10_000,
        segment_bytes=row["segment_bytes"],
        bytes=size,
        waits_for=row["waits_for"],
        migrations=migrations,
    )


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
