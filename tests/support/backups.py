"""A database that sells, its backups, and the same database again from them.

`selling` is a real PostgreSQL with the platform's tables and one more, `told`, whose rows stand for what
clients were told is kept: `tell` writes one a commit and answers the numbers that were acknowledged.
`restored` makes a database of a backup folder and runs it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from runtime import backups
from runtime.backups import Receiving, Source
from runtime.engines import PostgresEngine
from runtime.migrations import migrate
from runtime.postgres import Database
from tests.support.engines import postgres_engine_in, temporary_data_dir


@dataclass
class Selling:
    """A primary, and what its clients were told."""

    engine: PostgresEngine
    data_dir: Path
    folder: Path
    acknowledged: set[int] = field(default_factory=set)
    _next: int = 0

    @property
    def source(self) -> Source:
        source = backups.of_instance(self.data_dir)
        assert source is not None
        return source

    async def tell(self, count: int, *, at_once: int = 8, within_s: float = 5.0) -> set[int]:
        """Commit so many rows, each by itself; those whose commit was acknowledged."""
        database = Database(self.engine.url, pool_max=at_once, command_timeout_s=within_s)
        done: set[int] = set()
        numbers = iter(range(self._next, self._next + count))
        self._next += count

        async def one_after_the_other() -> None:
            for number in numbers:
                with suppress(Exception):
                    await database.execute("INSERT INTO public.told VALUES ($1)", number)
                    done.add(number)
                    self.acknowledged.add(number)

        try:
            await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
        finally:
            await database.close()
        return done

    async def ask(self, question: str, *arguments: object) -> Any:
        return await ask(self.engine.admin_url, question, *arguments)

    async def perish(self) -> None:
        """kill -9 of every process of it, at once; its folder is for nobody any more."""
        assert self.engine.pid is not None
        family = [psutil.Process(self.engine.pid), *psutil.Process(self.engine.pid).children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        await self.engine.stop()


async def ask(url: str, question: str, *arguments: object) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(question, *arguments)
    finally:
        await connection.close()


@asynccontextmanager
async def selling_in(data_dir: Path, folder: Path, **parameters: Any) -> AsyncIterator[Selling]:
    """A migrated primary on this data folder, whose backups go to `folder`."""
    # Where its memory is kept among its files, a server that perishes leaves none of it behind.
    options = {"dynamic_shared_memory_type": "mmap"}
    engine = postgres_engine_in(data_dir, dies_with_us=True, options=options, **parameters)
    await engine.start()
    try:
        await migrate(engine.url)
        connection = await asyncpg.connect(engine.url)
        await connection.execute("CREATE TABLE public.told (number int PRIMARY KEY)")
        await connection.close()
        yield Selling(engine, data_dir, folder)
    finally:
        await engine.stop()


@dataclass
class Follower:
    """Somebody who receives the log, as a task."""

    task: asyncio.Task[None]
    seen: list[Receiving] = field(default_factory=list)

    async def until(self, state: str, sync_state: str | None = None, within_s: float = 30.0) -> Receiving:
        """Wait for a look that finds it so."""
        deadline_s = time.monotonic() + within_s
        while not (
            self.seen and self.seen[-1].state == state and sync_state in (None, self.seen[-1].sync_state)
        ):
            assert time.monotonic() < deadline_s, self.seen[-3:]
            if self.task.done():
                self.task.result()
            await asyncio.sleep(0.02)
        return self.seen[-1]

    def receivers(self) -> list[psutil.Process]:
        """The processes that receive for us."""
        ours = psutil.Process(os.getpid()).children()
        return [process for process in ours if process.name() == "pg_receivewal"]


@asynccontextmanager
async def following(
    selling: Selling, *, synchronous: bool, state: str = "streaming"
) -> AsyncIterator[Follower]:
    """The log of it received meanwhile; commits wait from the first moment they can, where they shall."""
    at_once = asyncio.Event()
    at_once.set()
    seen: list[Receiving] = []
    task = asyncio.create_task(
        backups.follow(
            lambda: backups.of_instance(selling.data_dir),
            selling.folder,
            wait_for_us=at_once if synchronous else None,
            told=seen.append,
        )
    )
    follower = Follower(task, seen)
    try:
        sync_state = "sync" if synchronous else "async"
        await follower.until(state, sync_state if state == "streaming" else None)
        yield follower
    finally:
        task.cancel()
        await asyncio.wait([task])


async def nothing_to_mark(_: str) -> None:
    """For restores whose gate nobody asks about."""


@asynccontextmanager
async def restored(folder: Path, **parameters: Any) -> AsyncIterator[tuple[PostgresEngine, backups.Restored]]:
    """The database of a backup folder, running in a data folder of its own."""
    with temporary_data_dir() as data_dir:
        done = await backups.restore(
            folder, data_dir=data_dir, **{"before_opening": nothing_to_mark, **parameters}
        )
        engine = postgres_engine_in(data_dir, dies_with_us=True)
        await engine.start()
        try:
            yield engine, done
        finally:
            await engine.stop()


async def told_in(engine: PostgresEngine) -> set[int]:
    """What a database knows of what clients were told."""
    connection = await asyncpg.connect(engine.url)
    try:
        return {row["number"] for row in await connection.fetch("SELECT number FROM public.told")}
    finally:
        await connection.close()
