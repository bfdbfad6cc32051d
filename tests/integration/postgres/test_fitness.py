"""Goal: nothing is sold on stores that may forget, whichever setting it is, until it is mended.

Method: one real Valkey and one real PostgreSQL, set up badly in each way there is, one at a time, and mended
again; a real standby; a clock of ours that is put forward. Then the processes: `serve` over HTTP, and the
order writer and the reaper, begun on a bad setting that is mended while they run.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest
import pytest_asyncio

from entrypoints import roles, serving
from entrypoints.console import BAD_SETTINGS
from entrypoints.fitness import DURABILITY, VITAL, Fitness
from entrypoints.platform import Addresses, Platform, platform_for
from runtime.engines import PostgresEngine, free_port, probes
from runtime.postgres import Database
from runtime.redis_link import connect
from runtime.settings import load
from tests.support.engines import DatabaseMaker, postgres_engine_in
from tests.support.platform import migrated
from tests.support.shop import until

HISTORY = "seatrush.migrations"


class Stores:
    """Both stores, set up well, and the hands that set them up badly."""

    def __init__(self, redis_url: str, database_url: str, admin_url: str) -> None:
        self.redis_url = redis_url
        self.database_url = database_url
        self._admin_url = admin_url
        self._mend: list[Callable[[], Awaitable[None]]] = []

    async def redis(self, name: str, value: str) -> None:
        """Set one setting of Redis, until it is mended."""
        client = connect(self.redis_url)
        try:
            before = (await client.config_get(name))[name]
            await client.config_set(name, value)
        finally:
            await client.aclose()
        self._mend.append(lambda: self._reset_redis(name, before))

    async def _reset_redis(self, name: str, value: str) -> None:
        client = connect(self.redis_url)
        await client.config_set(name, value)
        await client.aclose()

    async def sql(self, statement: str, mend: str) -> None:
        """Change something in the database."""
        await self._run(self.database_url, statement)
        self._mend.append(lambda: self._run(self.database_url, mend))

    async def server(self, name: str, value: str) -> None:
        """Set one setting of the whole server."""
        await self._set_server(name, f"SET {name} = {value}", value)
        self._mend.append(lambda: self._set_server(name, f"RESET {name}", "on"))

    async def _set_server(self, name: str, what: str, value: str) -> None:
        connection = await asyncpg.connect(self._admin_url)
        await connection.execute(f"ALTER SYSTEM {what}")
        await connection.execute("SELECT pg_reload_conf()")
        await until(lambda: connection.fetchval(f"SELECT current_setting('{name}') = '{value}'"))
        await connection.close()

    async def _run(self, url: str, statement: str) -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(statement)
        await connection.close()

    async def mend(self) -> None:
        while self._mend:
            await self._mend.pop()()


@pytest_asyncio.fixture(loop_scope="session")
async def stores(
    valkey_url: str, postgres_engine: PostgresEngine, make_database: DatabaseMaker
) -> AsyncIterator[Stores]:
    stores = Stores(valkey_url, await make_database(migrated), postgres_engine.admin_url)
    yield stores
    await stores.mend()


def _database(stores: Stores) -> str:
    return urlsplit(stores.database_url).path.removeprefix("/")


async def _off_for_the_database(stores: Stores) -> None:
    name = _database(stores)
    await stores.sql(
        f"ALTER DATABASE {name} SET synchronous_commit = off",
        f"ALTER DATABASE {name} RESET synchronous_commit",
    )


async def _off_for_the_role(stores: Stores) -> None:
    name = _database(stores)
    await stores.sql(
        f"ALTER ROLE seatrush IN DATABASE {name} SET synchronous_commit = off",
        f"ALTER ROLE seatrush IN DATABASE {name} RESET synchronous_commit",
    )


async def _reads_only(stores: Stores) -> None:
    name = _database(stores)
    await stores.sql(
        f"ALTER DATABASE {name} SET default_transaction_read_only = on",
        f"SET transaction_read_only = off; ALTER DATABASE {name} RESET default_transaction_read_only",
    )


async def _missing(stores: Stores) -> None:
    last = f"version = (SELECT max(version) FROM {HISTORY})"
    await stores.sql(
        f"CREATE TABLE public.kept AS SELECT * FROM {HISTORY} WHERE {last};"
        f"DELETE FROM {HISTORY} WHERE {last}",
        f"INSERT INTO {HISTORY} SELECT * FROM public.kept",
    )


async def _never_migrated(stores: Stores) -> None:
    await stores.sql("ALTER SCHEMA seatrush RENAME TO elsewhere", "ALTER SCHEMA elsewhere RENAME TO seatrush")


async def _newer(stores: Stores) -> None:
    await stores.sql(
        f"INSERT INTO {HISTORY} (version, name, checksum) VALUES (9999, '9999_post_later', '')",
        f"DELETE FROM {HISTORY} WHERE version = 9999",
    )


async def _edited(stores: Stores) -> None:
    await stores.sql(
        f"UPDATE {HISTORY} SET checksum = 'x' || checksum WHERE version = 1",
        f"UPDATE {HISTORY} SET checksum = substr(checksum, 2) WHERE version = 1",
    )


Spoil = Callable[[Stores], Awaitable[None]]

BAD: dict[str, tuple[str, Spoil, str]] = {
    "allkeys-lru": (
        "redis_eviction",
        lambda stores: stores.redis("maxmemory-policy", "allkeys-lru"),
        "an evicted seat map sells seats twice",
    ),
    "volatile-ttl": (
        "redis_eviction",
        lambda stores: stores.redis("maxmemory-policy", "volatile-ttl"),
        "maxmemory-policy volatile-ttl",
    ),
    "no append-only file": (
        "redis_append_only",
        lambda stores: stores.redis("appendonly", "no"),
        "a restart must not forget who holds what",
    ),
    "never synced": (
        "redis_append_only",
        lambda stores: stores.redis("appendfsync", "no"),
        "appendfsync no",
    ),
    "fsync off": (
        "postgres_durability",
        lambda stores: stores.server("fsync", "off"),
        "without them a confirmed booking can be lost",
    ),
    "half pages": (
        "postgres_durability",
        lambda stores: stores.server("full_page_writes", "off"),
        "full_page_writes off",
    ),
    "asynchronous for the database": ("postgres_durability", _off_for_the_database, "synchronous_commit off"),
    "asynchronous for the role": ("postgres_durability", _off_for_the_role, "synchronous_commit off"),
    "read only": ("postgres_primary", _reads_only, "read only"),
    "a migration missing": ("postgres_migrations", _missing, "run `seatrush migrate`"),
    "never migrated": ("postgres_migrations", _never_migrated, "run `seatrush migrate`"),
    "newer than the code": ("postgres_migrations", _newer, "migration 9999, which this code does not know"),
    "an edited migration": ("postgres_migrations", _edited, "was edited after it ran"),
}


@pytest.mark.parametrize("spoilt", BAD)
async def test_nothing_is_sold_while_a_setting_is_unsafe_and_selling_goes_on_once_it_is_mended(
    stores: Stores, spoilt: str, caplog: pytest.LogCaptureFixture
) -> None:
    name, spoil, sentence = BAD[spoilt]
    fitness = Fitness(stores.redis_url, stores.database_url)
    await spoil(stores)
    for _ in range(2):
        await fitness.look()
    assert [check.name for check in fitness.wrong] == [name]
    assert not fitness.fit.is_set()
    refusal = fitness.refusal()
    assert (refusal.code.name, refusal.facts["checks"]) == ("engines_unsafe", [name])
    (check,) = fitness.wrong
    assert sentence in f"{check.detail}; {check.hint}"
    assert caplog.text.count(sentence) == 1, "said once, not at every look"
    await stores.mend()
    await fitness.look()
    assert fitness.fit.is_set()
    assert not fitness.wrong


@pytest.mark.parametrize(
    ("seconds", "wrong"),
    [(3.0, ["redis_clock", "postgres_clock"]), (-3.0, ["redis_clock", "postgres_clock"]), (1.0, [])],
)
async def test_nothing_is_sold_by_clocks_that_differ(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, seconds: float, wrong: list[str]
) -> None:
    monkeypatch.setattr(probes, "time", SimpleNamespace(time=lambda: time.time() + seconds))
    fitness = Fitness(stores.redis_url, stores.database_url)
    await fitness.look()
    assert [check.name for check in fitness.wrong] == wrong


async def test_a_slow_answer_is_not_taken_for_a_wrong_clock(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds pass for us between question and answer, as when this process was stopped meanwhile."""
    passed = iter((0.0, 10.0))

    def later() -> float:
        return time.time() + next(passed)

    monkeypatch.setattr(probes, "time", SimpleNamespace(time=later))
    facts = await probes.probe_redis(stores.redis_url)
    assert abs(facts.clock_skew_s) < 0.5


async def test_where_no_host_takes_writes_what_was_found_before_stands(stores: Stores) -> None:
    """As in a switch-over: asked for a primary, the client finds none and says so itself."""
    url = f"{stores.database_url}?target_session_attrs=read-write"
    fitness = Fitness(stores.redis_url, url)
    await fitness.look()
    assert fitness.fit.is_set()
    await _reads_only(stores)
    with pytest.raises(probes.ProbeFailed):
        await probes.probe_postgres(url)
    await fitness.look()
    assert fitness.fit.is_set()


async def test_an_odd_answer_ends_no_look_and_changes_nothing(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fitness = Fitness(stores.redis_url, stores.database_url)
    await fitness.look()

    async def odd(url: str) -> Any:
        raise LookupError("odd")

    monkeypatch.setattr("entrypoints.fitness.probe_postgres", odd)
    await fitness.look()
    assert fitness.fit.is_set()
    assert "postgres cannot be looked at" in caplog.text


async def test_nothing_is_sold_on_a_standby(stores: Stores, postgres_dir: Path) -> None:
    engine = postgres_engine_in(postgres_dir, dies_with_us=True)
    (postgres_dir / "postgres" / "standby.signal").touch()
    await engine.start()
    try:
        fitness = Fitness(stores.redis_url, engine.url)
        await fitness.look()
    finally:
        await engine.stop()
    assert "postgres_primary" in [check.name for check in fitness.wrong]
    (primary,) = (check for check in fitness.wrong if check.name == "postgres_primary")
    assert primary.detail == "a standby"


def test_every_vital_check_is_in_the_table_or_has_a_test_of_its_own() -> None:
    assert {name for name, _, _ in BAD.values()} | {"redis_clock", "postgres_clock"} == VITAL


async def test_a_rehearsal_may_forget_and_nothing_else(stores: Stores) -> None:
    fitness = Fitness(stores.redis_url, stores.database_url, throwaway=True)
    for spoilt in BAD:
        name, spoil, _ = BAD[spoilt]
        if name == "postgres_migrations":
            continue
        await spoil(stores)
        await fitness.look()
        assert [check.name for check in fitness.wrong] == [name] * (name not in DURABILITY), spoilt
        await stores.mend()


@pytest.mark.parametrize(("environment", "forgiven"), [("development", True), ("production", False)])
async def test_in_production_nothing_is_forgiven(
    stores: Stores, tmp_path: Path, environment: str, forgiven: bool
) -> None:
    settings = load({"SEATRUSH_THROWAWAY_ENGINES": "true"}, data_dir=tmp_path, environment=environment)
    await stores.redis("appendonly", "no")
    platform = Platform(settings, Addresses(stores.redis_url, stores.database_url, None))
    await platform.fitness.look()
    assert platform.fitness.fit.is_set() is forgiven
    await platform.close()


async def test_code_that_runs_goes_on_when_the_next_one_has_migrated(stores: Stores) -> None:
    """In a rolling update the new migrations come first."""
    fitness = Fitness(stores.redis_url, stores.database_url)
    await fitness.look()
    await _newer(stores)
    await fitness.look()
    assert fitness.fit.is_set()
    late = Fitness(stores.redis_url, stores.database_url)
    await late.look()
    assert [check.name for check in late.wrong] == ["postgres_migrations"]


async def test_a_store_that_does_not_answer_says_nothing_of_its_settings(stores: Stores) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    fitness = Fitness(nowhere, stores.database_url)
    await fitness.look()
    assert not fitness.fit.is_set()
    assert fitness.refusal().code.name == "persistence_unavailable"
    fitness._redis_url = stores.redis_url
    await fitness.look()
    assert fitness.fit.is_set()
    fitness._redis_url = nowhere
    await fitness.look()
    assert fitness.fit.is_set(), "what was found before stands"


# The processes


@pytest_asyncio.fixture(loop_scope="session")
async def platform(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    monkeypatch.setattr(serving, "settle", lambda: None)
    monkeypatch.setattr("entrypoints.fitness.LOOK_AGAIN_S", 0.05)
    redis = connect(stores.redis_url)
    await redis.flushall()
    await redis.aclose()
    addresses = Addresses(stores.redis_url, stores.database_url, None)
    async with platform_for(load({}, data_dir=tmp_path), addresses) as made:
        await made.rebuilder.rebuild("test")
        await made.order_log.ensure_groups()
        yield made
    for heard in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(heard)


@asynccontextmanager
async def running(work: Any) -> AsyncIterator[asyncio.Task[None]]:
    """A role in a task, ended by a signal as a process is."""
    task = asyncio.create_task(work)
    try:
        yield task
        assert not task.done()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(20):
            await task


async def _register(session: aiohttp.ClientSession, email: str) -> tuple[int, Any]:
    body = {"email": email, "password": "a long enough password", "display_name": "Fan"}
    async with session.post("/api/v1/accounts", json=body) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_the_api_goes_on_answering_and_sells_nothing_until_the_setting_is_mended(
    stores: Stores, platform: Platform
) -> None:
    await stores.redis("maxmemory-policy", "allkeys-lru")
    ready = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as door:
        base = f"http://127.0.0.1:{door.getsockname()[1]}"
        async with (
            running(serving.serve(platform, door, ready=ready.set)),
            aiohttp.ClientSession(base) as session,
        ):
            status, body = await _register(session, "early@example.com")
            assert (status, body["code"], body["checks"]) == (503, "engines_unsafe", ["redis_eviction"])
            async with session.get("/api/v1/films") as answer:
                assert answer.status == 200
            async with session.get("/readyz") as answer:
                assert answer.status == 503
                assert (await answer.json(content_type=None))["down"] == ["redis"]
            assert not ready.is_set()
            await stores.mend()
            async with asyncio.timeout(20):
                await ready.wait()
            assert (await _register(session, "early@example.com"))[0] == 201
    assert await _accounts(platform.database) == 1


async def _accounts(database: Database) -> int:
    return int(await database.fetchval("SELECT count(*) FROM accounts.accounts"))


async def test_the_order_writer_begins_when_the_setting_is_mended(
    stores: Stores, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    for part, name in ((platform.order_writer, "writer"), (platform.completers, "completers")):
        monkeypatch.setattr(part, "run", _telling(begun, name, part.run))
    await _off_for_the_database(stores)
    async with running(roles.write_orders(platform)):
        await until(_looked(platform))
        assert not begun
        await stores.mend()
        await until(_has(begun, "completers", "writer"))


async def test_the_reaper_begins_when_the_setting_is_mended(
    stores: Stores, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(platform.reaper, "run", _telling(begun, "reaper", platform.reaper.run))
    await stores.redis("appendonly", "no")
    async with running(roles.reap_holds(platform)):
        await until(_looked(platform))
        assert not begun
        await stores.mend()
        await until(_has(begun, "reaper"))


def _telling(
    begun: list[str], name: str, run: Callable[[], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    async def tell() -> None:
        begun.append(name)
        await run()

    return tell


def _looked(platform: Platform) -> Callable[[], Awaitable[bool]]:
    """Whether the stores were found unfit more than once since."""
    looks: list[None] = []
    platform.fitness.heed = lambda: looks.append(None)

    async def enough() -> bool:
        return len(looks) > 1 and bool(platform.fitness.wrong)

    return enough


def _has(begun: list[str], *names: str) -> Callable[[], Awaitable[bool]]:
    async def all_of_them() -> bool:
        return sorted(begun) == list(names)

    return all_of_them


async def test_an_instance_pointed_at_unfit_servers_says_what_is_wrong_and_ends(
    stores: Stores, data_dir: Path
) -> None:
    await stores.redis("maxmemory-policy", "allkeys-lru")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SEATRUSH_")},
        "SEATRUSH_DATA_DIR": str(data_dir),
        "REDIS_URL": stores.redis_url,
        "DATABASE_URL": stores.database_url,
        "PORT": str(free_port()),
    }
    command = (sys.executable, "-m", "entrypoints.cli", "up", "--no-demo")
    ended = await asyncio.to_thread(
        lambda: subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    )
    assert ended.returncode == BAD_SETTINGS, ended.stderr
    assert "redis_eviction: maxmemory-policy allkeys-lru" in ended.stderr
    assert "an evicted seat map sells seats twice" in ended.stderr
