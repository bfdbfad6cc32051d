"""How an engine is set up, asked of the engine itself: ours, or a service somewhere else.

Only facts; `entrypoints.fitness` judges whether they will do, for the doctor and before anything is sold.
Everything is read from commands that managed services leave open too: INFO and not CONFIG, settings and
catalogues and not files. A clock's skew is by how much it differs from ours at least: half of the
question's round trip, the error of such a look, is taken off, or a busy moment would look like a wrong clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import copysign
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from runtime.redis_link.address import each_of, names_sentinels, parse_watched
from runtime.redis_link.sentinels import NoPrimary, asked_once

_WITHIN_S: Final = 3.0
_CHINESE_TITLE: Final = "流浪地球"


class ProbeFailed(RuntimeError):
    """The engine could not be asked; the message is what it, or the network, said."""


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """What Redis or Valkey says about itself; `fsync` is None where it may not be asked."""

    product: str
    version: str
    compatible_with: str
    eviction: str
    append_only: bool
    fsync: str | None
    clients_max: int
    clients: int
    clock_skew_s: float
    #: On a cluster, the places of its primaries.
    primaries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PostgresFacts:
    """What PostgreSQL says about itself.

    `trigrams` is None where the extension is missing; `migrations` are the checksums by version of those that
    ran, None where there never were any. `abandoned_slots`: bytes of log kept for receivers that are away.
    """

    version: str
    version_number: int
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    encoding: str
    character_type: str
    trigrams: int | None
    connections_max: int
    in_recovery: bool
    read_only: bool
    migrations: Mapping[int, str] | None
    abandoned_slots: Mapping[str, int]
    clock_skew_s: float


async def probe_redis(url: str) -> RedisFacts:
    """Ask Redis.

    Raises ProbeFailed when it does not answer.
    """
    client: Redis = Redis.from_url(
        url,
        socket_timeout=_WITHIN_S,
        socket_connect_timeout=_WITHIN_S,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    try:
        info: dict[str, Any] = await client.info()
        asked_at = time.time()
        seconds, microseconds = await client.time()
        skew_s = _skew_s(seconds + microseconds / 1e6, asked_at, time.time())
        fsync = None
        with suppress(ResponseError):
            fsync = (await client.config_get("appendfsync")).get("appendfsync")
        mode = info.get("server_mode", info.get("redis_mode"))
        primaries = await _primaries(client, url) if mode == "cluster" else ()
    except (RedisError, OSError, ValueError) as error:
        raise ProbeFailed(str(error) or type(error).__name__) from error
    finally:
        # The library closes in tasks of its own: cancelled before these begin, they would close nothing.
        await asyncio.shield(client.aclose())
    compatible_with = str(info.get("redis_version", "0"))
    return RedisFacts(
        product=str(info.get("server_name", "redis")),
        version=str(info.get("valkey_version", compatible_with)),
        compatible_with=compatible_with,
        eviction=str(info.get("maxmemory_policy", "unknown")),
        append_only=info.get("aof_enabled") == 1,
        fsync=fsync,
        clients_max=int(info.get("maxclients", 0)),
        clients=int(info.get("connected_clients", 0)),
        clock_skew_s=skew_s,
        primaries=primaries,
    )


async def probe_seat_store(url: str) -> dict[str, RedisFacts | ProbeFailed]:
    """Ask the server at an address; of a cluster every primary, of what sentinels watch the one they name.

    Answers by place (host and port; the empty string for a server that is alone). Raises ProbeFailed when no
    server at the address, or the addresses, answers.
    """
    if names_sentinels(url):
        return await _probe_watched(url)
    for seed in each_of(url):
        try:
            facts = await probe_redis(seed)
            break
        except ProbeFailed as error:
            failure = error
    else:
        raise failure
    if not facts.primaries:
        return {"": facts}
    asked = (probe_redis(_at(seed, place)) for place in facts.primaries)
    told = await asyncio.gather(*asked, return_exceptions=True)
    found: dict[str, RedisFacts | ProbeFailed] = {}
    for place, one in zip(facts.primaries, told, strict=True):
        if isinstance(one, BaseException) and not isinstance(one, ProbeFailed):
            raise one
        found[place] = one
    return found


async def _probe_watched(url: str) -> dict[str, RedisFacts | ProbeFailed]:
    try:
        watched = parse_watched(url)
        async with asked_once(watched) as sentinels:
            place = str(await sentinels.primary())
    except (NoPrimary, ValueError) as error:
        raise ProbeFailed(str(error)) from error
    return {place: await probe_redis(_at(watched.url, place))}


def _at(url: str, place: str) -> str:
    """The address of another node: in the same way, with the same password."""
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{credentials}{at}{place}").geturl()


async def _primaries(client: Redis, url: str) -> tuple[str, ...]:
    """The places of a cluster's primaries; a node without a name is the one that was asked."""
    ours = urlsplit(url).hostname or "localhost"
    places: dict[str, None] = {}
    ask: Any = client.execute_command
    for _, _, (host, port, *_), *_ in await ask("CLUSTER", "SLOTS"):
        name = ours if host in (None, "", "?") else host
        places[f"[{name}]:{port}" if ":" in name else f"{name}:{port}"] = None
    return tuple(places)


#: What the server, the way to it, or the client says no with: also that no host of the address takes writes.
_NO_ANSWER: Final = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


async def probe_postgres(url: str) -> PostgresFacts:
    """Ask PostgreSQL.

    Raises ProbeFailed when it does not answer.
    """
    try:
        connection = await asyncpg.connect(
            url, timeout=_WITHIN_S, command_timeout=_WITHIN_S, statement_cache_size=0
        )
    except (ValueError, *_NO_ANSWER) as error:
        raise ProbeFailed(str(error) or type(error).__name__) from error
    try:
        asked_at = time.time()
        now = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        skew_s = _skew_s(now, asked_at, time.time())
        row = await connection.fetchrow(
            "SELECT current_setting('server_version') AS version,"
            " current_setting('server_version_num')::int AS version_number,"
            " current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,"
            " current_setting('synchronous_commit') AS synchronous_commit,"
            " current_setting('max_connections')::int AS connections_max,"
            " pg_is_in_recovery() AS in_recovery, current_setting('transaction_read_only') AS read_only,"
            " pg_encoding_to_char(encoding) AS encoding, datctype AS character_type"
            " FROM pg_database WHERE datname = current_database()"
        )
        assert row is not None, "a connected database is in the catalogue"
        schema = await connection.fetchval(
            "SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace"
            " WHERE extname = 'pg_trgm'"
        )
        trigrams = None
        if schema is not None:
            # The schema's name comes quoted from the catalogue.
            question = f"SELECT cardinality({schema}.show_trgm($1))"
            trigrams = await connection.fetchval(question, _CHINESE_TITLE)
        migrations: dict[int, str] | None = None
        if await connection.fetchval("SELECT to_regclass('seatrush.migrations')") is not None:
            ran = await connection.fetch("SELECT version, checksum FROM seatrush.migrations")
            migrations = {row["version"]: row["checksum"] for row in ran}
        abandoned = await connection.fetch(
            "SELECT slot_name, CASE WHEN NOT pg_is_in_recovery() THEN"
            " pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint END AS bytes"
            " FROM pg_replication_slots WHERE NOT active AND NOT temporary ORDER BY slot_name"
        )
    except _NO_ANSWER as error:
        raise ProbeFailed(str(error) or type(error).__name__) from error
    finally:
        connection.terminate()
    return PostgresFacts(
        version=row["version"],
        version_number=row["version_number"],
        fsync=row["fsync"] == "on",
        full_page_writes=row["full_page_writes"] == "on",
        synchronous_commit=row["synchronous_commit"],
        encoding=row["encoding"],
        character_type=row["character_type"],
        trigrams=trigrams,
        connections_max=row["connections_max"],
        in_recovery=row["in_recovery"],
        read_only=row["read_only"] == "on",
        migrations=migrations,
        abandoned_slots={slot["slot_name"]: slot["bytes"] or 0 for slot in abandoned},
        clock_skew_s=skew_s,
    )


def _skew_s(theirs_s: float, asked_at_s: float, answered_at_s: float) -> float:
    distance_s = theirs_s - (asked_at_s + answered_at_s) / 2
    return copysign(max(0.0, abs(distance_s) - (answered_at_s - asked_at_s) / 2), distance_s)
