"""`seatrush doctor`: is this installation fit to sell?

Each check is one sentence about what is, and one about what would help. The judgements are rule R17's:
no eviction, append-only file, durable commits, clocks that agree, text that knows Chinese. It changes
nothing, so it may be run against production at any time. It names both addresses first, so that anyone
can look inside.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from runtime.engines import (
    PostgresFacts,
    ProbeFailed,
    RedisFacts,
    port_is_free,
    postgres_base,
    probe_postgres,
    probe_redis,
)

REDIS_VERSION_MIN: Final = (7, 0)  # scripts declare their flags, which older ones do not read
POSTGRES_VERSION_MIN: Final = 150_000
CLIENTS_MIN: Final = 1_000
CLOCK_SKEW_S_MAX: Final = 2.0
OPEN_FILES_MIN: Final = 4_096  # a rush keeps thousands of live-update connections open
FREE_DISK_BYTES_MIN: Final = 1024**3  # PostgreSQL alone may keep 2 GB of log in a rush
#: Values of `synchronous_commit` that wait for our own disk at least.
_DURABLE_COMMIT: Final = frozenset({"on", "local", "remote_write", "remote_apply"})
_NOT_RUNNING: Final = "start it with `seatrush up`, or set {variable}"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `hint` says what would help, and is empty when all is well."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


async def run_checks(
    *,
    redis_url: str | None,
    database_url: str | None,
    data_dir: Path,
    host: str,
    port: int,
    service_port: int | None = None,
) -> list[Check]:
    """Every check, in the order a reader wants them.

    An address is None when nothing runs and none is set; `service_port` is the port of the instance that
    runs on this data folder.
    """
    redis, postgres = await asyncio.gather(check_redis(redis_url), check_postgres(database_url))
    return [*redis, *postgres, *check_machine(data_dir), check_port(host, port, service_port)]


async def check_redis(url: str | None) -> list[Check]:
    """The seat store."""
    if url is None:
        return [_found("redis_address", False, "none", _NOT_RUNNING.format(variable="REDIS_URL"))]
    address = Check("redis_address", True, without_password(url))
    try:
        facts = await probe_redis(url)
    except ProbeFailed as error:
        return [address, _found("redis_answers", False, str(error), "see whether it runs and may be reached")]
    return [address, *judge_redis(facts)]


async def check_postgres(url: str | None) -> list[Check]:
    """The order store."""
    if url is None:
        return [_found("postgres_address", False, "none", _NOT_RUNNING.format(variable="DATABASE_URL"))]
    address = Check("postgres_address", True, without_password(url))
    try:
        facts = await probe_postgres(url)
    except ProbeFailed as error:
        hint = "see whether it runs and may be reached"
        return [address, _found("postgres_answers", False, str(error), hint)]
    return [address, *judge_postgres(facts)]


def judge_redis(facts: RedisFacts) -> Iterator[Check]:
    """Whether Redis may decide about seats."""
    yield Check("redis_answers", True, f"{facts.product} {facts.version}")
    version = tuple(int(part) for part in facts.compatible_with.split(".")[:2] if part.isdigit())
    yield _found(
        "redis_version",
        version >= REDIS_VERSION_MIN,
        f"speaks Redis {facts.compatible_with}",
        "Valkey, or Redis 7.0 or newer",
    )
    yield _found(
        "redis_eviction",
        facts.eviction == "noeviction",
        f"maxmemory-policy {facts.eviction}",
        "CONFIG SET maxmemory-policy noeviction: an evicted seat map sells seats twice",
    )
    yield _found(
        "redis_append_only",
        facts.append_only and facts.fsync in ("everysec", "always", None),
        f"appendonly {'yes' if facts.append_only else 'no'}, appendfsync {facts.fsync or 'not told'}",
        "CONFIG SET appendonly yes and appendfsync everysec: a restart must not forget who holds what",
    )
    yield _found(
        "redis_clients",
        facts.clients_max >= CLIENTS_MIN,
        f"{facts.clients} of {facts.clients_max} connections",
        f"maxclients {CLIENTS_MIN} or more, and open files to match",
    )
    yield _clock("redis_clock", facts.clock_skew_s)


def judge_postgres(facts: PostgresFacts) -> Iterator[Check]:
    """Whether "confirmed" may be said after PostgreSQL's commit."""
    yield Check("postgres_answers", True, f"PostgreSQL {facts.version}")
    yield _found(
        "postgres_version",
        facts.version_number >= POSTGRES_VERSION_MIN,
        f"version {facts.version}",
        "PostgreSQL 15 or newer",
    )
    yield _found(
        "postgres_durability",
        facts.fsync and facts.full_page_writes and facts.synchronous_commit in _DURABLE_COMMIT,
        f"fsync {_on(facts.fsync)}, full_page_writes {_on(facts.full_page_writes)}, "
        f"synchronous_commit {facts.synchronous_commit}",
        "switch all three on: without them a confirmed booking can be lost",
    )
    knows_unicode = facts.encoding == "UTF8" and facts.character_type.upper() not in ("C", "POSIX")
    trigrams = "not installed" if facts.trigrams is None else f"{facts.trigrams} for a Chinese title"
    yield _found(
        "postgres_text",
        knows_unicode and facts.trigrams != 0,
        f"{facts.encoding}, LC_CTYPE {facts.character_type}, trigrams {trigrams}",
        "create the database with LC_CTYPE C.UTF-8: otherwise search finds no Chinese title",
    )
    yield _clock("postgres_clock", facts.clock_skew_s)


def check_machine(data_dir: Path) -> Iterator[Check]:
    """This machine: open files and disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    yield _found(
        "open_files",
        hard == unlimited or hard >= OPEN_FILES_MIN,
        f"{_limit(soft)} now, {_limit(hard)} at most (`seatrush up` raises it)",
        f"allow {OPEN_FILES_MIN} or more (ulimit -Hn)",
    )
    free, folder = min((_free_bytes(folder), folder) for folder in (data_dir, postgres_base(data_dir)))
    yield _found(
        "free_disk",
        free >= FREE_DISK_BYTES_MIN,
        f"{free / 1024**3:.1f} GiB free for {folder}",
        "make room, or set SEATRUSH_DATA_DIR to a larger disk",
    )


def check_port(host: str, port: int, service_port: int | None) -> Check:
    """The API's port: free, or ours."""
    if service_port == port and _listens(host, port):
        return Check("port", True, f"{host}:{port} is served by this instance")
    if port == 0 or port_is_free(port, host):
        return Check("port", True, f"{host}:{port} is free")
    return Check("port", False, f"{host}:{port} is used by another program", "set PORT to another one")


def without_password(url: str) -> str:
    """The address as it may be shown."""
    parts = urlsplit(url)
    if not parts.password:
        return url
    return parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@", 1)).geturl()


def _free_bytes(folder: Path) -> int:
    existing = (place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(next(existing)).free


def _found(name: str, ok: bool, detail: str, hint: str) -> Check:
    return Check(name, ok, detail, "" if ok else hint)


def _clock(name: str, skew_s: float) -> Check:
    return _found(
        name,
        abs(skew_s) < CLOCK_SKEW_S_MAX,
        f"{skew_s:+.3f} s from ours",
        "have both machines keep network time",
    )


def _on(value: bool) -> str:
    return "on" if value else "off"


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


def _listens(host: str, port: int) -> bool:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (what we were told)
    try:
        with socket.create_connection((reachable, port), timeout=1.0):
            return True
    except OSError:
        return False
