"""Goal: what only the primary has is never told, and never made visible by us.

Method: a real PostgreSQL whose `synchronous_standby_names` names a ghost, so every commit waits for ever.
It is written to, given up in each way there is to give up, and watched from outside: whether the row can be
seen, and who still waits. The controls put back what asyncpg does by itself: the row can be seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from checkout import WriterStore, store
from checkout.log_entries import LogEntry
from checkout.store import CheckoutStore
from checkout.writer.batch import Batch, Item
from kernel.errors import PersistenceUnavailable
from kernel.ids import new_showtime_id
from runtime import postgres
from runtime.migrations import migrate
from runtime.postgres import Database
from runtime.queries import load_queries
from tests.support.engines import postgres_engine_in
from tests.support.shop import claim_of, until

WRITE = "INSERT INTO public.told VALUES (1)"


@dataclass
class Ghostly:
    """A primary without its standby, and somebody who watches it."""

    url: str
    watching: asyncpg.Connection[asyncpg.Record]

    async def seen(self, table: str = "public.told") -> int:
        """How many rows everybody can see."""
        return int(await self.watching.fetchval(f"SELECT count(*) FROM {table}"))

    async def waiting(self) -> list[int]:
        """The backends whose commit waits for the standby."""
        found = await self.watching.fetch("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        return [row["pid"] for row in found]

    async def let_go(self) -> None:
        """The standby is there, or nobody asks for it any more: what waits goes on."""
        await self._name("")

    async def haunt(self) -> None:
        await self._name("ghost")

    async def _name(self, standby: str) -> None:
        await self.watching.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{standby}'")
        await self.watching.execute("SELECT pg_reload_conf()")
        named = "SELECT current_setting('synchronous_standby_names') = $1"
        await until(lambda: self.watching.fetchval(named, standby))


@pytest_asyncio.fixture
async def ghostly(postgres_dir: Path) -> AsyncIterator[Ghostly]:
    engine = postgres_engine_in(postgres_dir, dies_with_us=True)
    await engine.start()
    await migrate(engine.url)
    watching = await asyncpg.connect(engine.admin_url)
    await watching.execute("CREATE TABLE public.told (number int); GRANT ALL ON public.told TO PUBLIC")
    ghostly = Ghostly(engine.url, watching)
    await ghostly.haunt()
    try:
        yield ghostly
    finally:
        await ghostly.let_go()
        await watching.close()
        await engine.stop()


@pytest_asyncio.fixture
async def database(ghostly: Ghostly) -> AsyncIterator[Database]:
    database = Database(ghostly.url, command_timeout_s=1.0)
    await database.fetchval("SELECT 1")
    yield database
    await database.close()


async def _statement(database: Database) -> None:
    await database.execute(WRITE)


async def _transaction(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(WRITE)


async def _many(database: Database) -> None:
    await database.executemany("INSERT INTO public.told VALUES ($1)", [(1,)])


async def _gone_away(database: Database) -> None:
    """A caller who does not wait for the deadline."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            await _transaction(database)
    raise PersistenceUnavailable


ways = pytest.mark.parametrize(
    "way", [_statement, _transaction, _many, _gone_away], ids=lambda way: way.__name__
)


@ways
async def test_a_commit_given_up_stays_unseen_until_the_standby_has_it(
    ghostly: Ghostly, database: Database, way: Callable[[Database], Awaitable[None]]
) -> None:
    with pytest.raises(PersistenceUnavailable):
        await way(database)
    assert await ghostly.seen() == 0
    assert len(await ghostly.waiting()) == 1
    assert database.abandoned == 1
    await ghostly.let_go()
    await until(ghostly.seen)
    assert await ghostly.waiting() == []
    assert await database.fetchval("SELECT count(*) FROM public.told") == 1


@ways
async def test_control_a_cancel_request_makes_everybody_see_what_the_standby_has_not(
    ghostly: Ghostly,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[[Database], Awaitable[None]],
) -> None:
    asyncpgs = asyncpg.Connection._cancel_current_command
    monkeypatch.setattr(postgres._Connection, "_cancel_current_command", asyncpgs)
    with pytest.raises(PersistenceUnavailable):
        await way(database)
    await until(ghostly.seen)
    assert await ghostly.waiting() == []


async def test_a_batch_of_the_order_writer_is_unseen_however_often_it_is_tried(
    ghostly: Ghostly, database: Database
) -> None:
    """The second try waits for the first one's locks; then the standby comes, and the order is there."""
    claim = claim_of(new_showtime_id(), 1, 2)
    batch = Batch.of([Item(LogEntry(1, "5-1", b""), claim)])
    writer = WriterStore(database)
    for _ in range(2):
        with pytest.raises(PersistenceUnavailable):
            await writer.write(batch)
    assert await ghostly.seen("checkout.orders") == 0
    await ghostly.let_go()
    await writer.write(batch)
    assert await ghostly.seen("checkout.orders") == 1


async def test_a_wait_that_somebody_else_cut_short_is_no_success(
    ghostly: Ghostly, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(PersistenceUnavailable):
        await _cut_short(ghostly, database)
    assert await ghostly.seen() == 1
    assert database.only_here == 1
    assert "committed locally" in caplog.text


async def test_control_whoever_does_not_listen_is_told_of_a_success(
    ghostly: Ghostly, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncpgs = asyncpg.Connection._process_log_message
    monkeypatch.setattr(postgres._Connection, "_process_log_message", asyncpgs)
    await _cut_short(ghostly, database)
    assert await ghostly.seen() == 1


async def _cut_short(ghostly: Ghostly, database: Database) -> None:
    """An operator cancels whoever waits for the standby."""
    writing = asyncio.create_task(database.execute(WRITE))
    await until(ghostly.waiting)
    for pid in await ghostly.waiting():
        await ghostly.watching.execute("SELECT pg_cancel_backend($1)", pid)
    await writing


async def test_a_buyer_is_not_told_of_an_order_that_only_the_primary_has(
    ghostly: Ghostly, database: Database
) -> None:
    """It can be seen here, since somebody cut its commit's wait short; a plain look would believe it."""
    claim = claim_of(new_showtime_id(), 1)
    writing = asyncio.create_task(
        WriterStore(database).write(Batch.of([Item(LogEntry(1, "5-1", b""), claim)]))
    )
    await until(ghostly.waiting)
    for pid in await ghostly.waiting():
        await ghostly.watching.execute("SELECT pg_cancel_backend($1)", pid)
    with pytest.raises(PersistenceUnavailable):
        await writing
    assert await ghostly.seen("checkout.orders") == 1
    looks = CheckoutStore(database)
    with pytest.raises(PersistenceUnavailable):
        await looks.order_states([claim.order_id])
    await ghostly.let_go()
    assert (await looks.order_states([claim.order_id]))[claim.order_id][0] == "pending_payment"


async def test_a_look_leaves_a_mark_only_where_there_is_a_standby(
    ghostly: Ghostly, database: Database
) -> None:
    """Whoever writes gets a number; a transaction that only read has none."""
    await ghostly.let_go()
    claim = claim_of(new_showtime_id(), 1)
    await WriterStore(database).write(Batch.of([Item(LogEntry(1, "5-1", b""), claim)]))
    assert not await _look_writes(database, claim.order_id)
    await ghostly.haunt()
    await until(lambda: _look_writes(database, claim.order_id))


async def _look_writes(database: Database, order_id: str) -> bool:
    """Whether looking at the order's state writes; undone, so that nobody waits."""
    async with database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        (row,) = await connection.fetch(load_queries(store.__file__)["order_states"], [order_id])
        assert row["order_id"] == order_id
        number = await connection.fetchval("SELECT pg_current_xact_id_if_assigned()::text")
        await transaction.rollback()
    return number is not None
