"""A primary and its standby: two real servers on this machine, one the copy of the other.

`pair` starts both; the platform reaches them at one address that names both and wants the one that takes
writes. `cut` ends what flows between them, as a partition does; `fail_over` kills the primary with -9 and
promotes the standby.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from runtime import backups
from runtime.backups.programs import programs_of
from runtime.engines import PostgresEngine, make_data_dir
from runtime.engines.lodging import account_in, give
from tests.support.engines import postgres_engine_in
from tests.support.shop import until

NAME = "standby"


@dataclass
class Pair:
    """Both servers."""

    primary: PostgresEngine
    standby: PostgresEngine

    @property
    def url(self) -> str:
        """One address for whichever of the two takes writes."""
        hosts = ",".join(f"127.0.0.1:{engine.port}" for engine in (self.primary, self.standby))
        return f"postgresql://seatrush@{hosts}/seatrush?target_session_attrs=read-write"

    async def cut(self) -> None:
        """Nothing reaches the standby any more."""
        await ask(self.standby, "ALTER SYSTEM SET primary_conninfo = ''")
        await ask(self.standby, "SELECT pg_reload_conf()")
        await until(lambda: ask(self.primary, "SELECT count(*) = 0 FROM pg_stat_replication"), within_s=20)

    async def fail_over(self) -> None:
        """The primary is gone for good, and the standby takes its place."""
        assert self.primary.pid is not None
        head = psutil.Process(self.primary.pid)
        for process in [head, *head.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        assert await ask(self.standby, "SELECT pg_promote()")


async def ask(engine: PostgresEngine, question: str) -> Any:
    """One answer, as the superuser."""
    connection = await asyncpg.connect(engine.admin_url)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


@asynccontextmanager
async def pair(primary_dir: Path, standby_dir: Path, *, synchronous: bool) -> AsyncIterator[Pair]:
    """A primary, and a standby that has all of it; with `synchronous`, commits wait for it."""
    tidy = {"dynamic_shared_memory_type": "mmap"}  # what a killed server leaves is among its files
    primary = postgres_engine_in(primary_dir, dies_with_us=True, options=tidy)
    standby = postgres_engine_in(standby_dir, dies_with_us=True, options={**tidy, "cluster_name": NAME})
    await primary.start()
    try:
        _copy(primary_dir, standby_dir)
        await standby.start()
        streaming = f"SELECT count(*) = 1 FROM pg_stat_replication WHERE application_name = '{NAME}'"
        await until(lambda: ask(primary, f"{streaming} AND state = 'streaming'"), within_s=20)
        if synchronous:
            await ask(primary, f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'")
            await ask(primary, "SELECT pg_reload_conf()")
            await until(lambda: ask(primary, f"{streaming} AND sync_state = 'sync'"), within_s=20)
        yield Pair(primary, standby)
    finally:
        await standby.stop()
        await primary.stop()


def _copy(primary_dir: Path, standby_dir: Path) -> None:
    """What `pg_basebackup --write-recovery-conf` makes, given to the server's user."""
    source = backups.of_instance(primary_dir)
    assert source is not None
    make_data_dir(standby_dir)
    home = standby_dir / "postgres"
    programs = programs_of(int((primary_dir / "postgres" / "PG_VERSION").read_text()))
    argv = [programs / "pg_basebackup", f"--dbname={source.address}", f"--pgdata={home}"]
    subprocess.run([*argv, "--write-recovery-conf", "--checkpoint=fast"], check=True, capture_output=True)
    account = account_in(standby_dir) if os.geteuid() == 0 else None
    for place in [home, *home.rglob("*")]:
        give(place, account)
