"""`seatrush doctor`: is this installation fit to sell?

Each check is one sentence about what is, and one about what would help. The stores are judged as by every
process that sells (`entrypoints.fitness`); what is only advice, and the machine, come on top. It changes
nothing, so it may be run against production at any time. It names both addresses first, so that anyone can
look inside.
"""

from __future__ import annotations

import asyncio
import re
import resource
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from entrypoints.finding import reachable
from entrypoints.fitness import Check, found, judge_postgres, judge_seat_store
from runtime.engines import (
    ProbeFailed,
    port_is_free,
    postgres_base,
    probe_postgres,
    probe_seat_store,
)

OPEN_FILES_MIN: Final = 4_096  # a rush keeps thousands of live-update connections open
FREE_DISK_BYTES_MIN: Final = 1024**3  # PostgreSQL alone may keep 2 GB of log in a rush
_PASSWORD_OPTION: Final = re.compile(r"((?:^|&)(?:sentinel_)?password=)[^&]*")
_NOT_RUNNING: Final = "start it with `seatrush up`, or set {variable}"


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
        return [found("redis_address", False, "none", _NOT_RUNNING.format(variable="REDIS_URL"))]
    address = Check("redis_address", True, without_password(url))
    try:
        nodes = await probe_seat_store(url)
    except ProbeFailed as error:
        return [address, found("redis_answers", False, str(error), "see whether it runs and may be reached")]
    return [address, *judge_seat_store(nodes)]


async def check_postgres(url: str | None) -> list[Check]:
    """The order store."""
    if url is None:
        return [found("postgres_address", False, "none", _NOT_RUNNING.format(variable="DATABASE_URL"))]
    address = Check("postgres_address", True, without_password(url))
    try:
        facts = await probe_postgres(url)
    except ProbeFailed as error:
        hint = "see whether it runs and may be reached"
        return [address, found("postgres_answers", False, str(error), hint)]
    return [address, *judge_postgres(facts)]


def check_machine(data_dir: Path) -> Iterator[Check]:
    """This machine: open files and disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    yield found(
        "open_files",
        hard == unlimited or hard >= OPEN_FILES_MIN,
        f"{_limit(soft)} now, {_limit(hard)} at most (`seatrush up` raises it)",
        f"allow {OPEN_FILES_MIN} or more (ulimit -Hn)",
    )
    free, folder = min((_free_bytes(folder), folder) for folder in (data_dir, postgres_base(data_dir)))
    yield found(
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
    query = _PASSWORD_OPTION.sub(r"\1***", parts.query)
    netloc = parts.netloc.replace(f":{parts.password}@", ":***@", 1) if parts.password else parts.netloc
    return parts._replace(netloc=netloc, query=query).geturl()


def _free_bytes(folder: Path) -> int:
    existing = (place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(next(existing)).free


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((reachable(host), port), timeout=1.0):
            return True
    except OSError:
        return False
