"""Goal: however a batch is written, it means the same, and costs no more trips for carrying more.

Method: the same entries through COPY and through the statement into databases of their own, compared row
by row; trips counted on the connection and commands on the server; a PostgreSQL that is held still by a
lock, to see what the writer does meanwhile, and what is said of how far it is behind.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from checkout import GROUP, LogLag, OrderLog, OrderWriter, WriterStore
from checkout.entries import Claim, Confirm
from checkout.log_entries import LogEntry
from checkout.writer.batch import Batch, Item
from checkout.writer.counts import WriterCounts
from checkout.writer.intake import Intake
from checkout.writer.store import COPY_ORDERS_MIN, Aside, EntryRefused
from kernel import limits
from kernel.ids import PARTITIONS, new_showtime_id, partition_of
from reservation import log_key
from runtime.postgres import Database, UniqueViolation
from tests.support.engines import DatabaseMaker
from tests.support.shop import Shop, claim_of, feed, migrated, until

NEVER = 1_000_000

both_ways = pytest.mark.parametrize("copy_orders_min", [1, NEVER], ids=["COPY", "statement"])


def batch_of(claims: Sequence[Claim], confirms: Sequence[Claim] = ()) -> Batch:
    """A batch as it would come from one log."""
    messages = [*claims, *(Confirm(order_id=one.order_id, showtime_id=one.showtime_id) for one in confirms)]
    return Batch.of(
        Item(LogEntry(7, f"{number}-0", b""), message) for number, message in enumerate(messages, 1)
    )


async def pay(database: Database, claims: Sequence[Claim]) -> None:
    statement = "UPDATE checkout.orders SET state = 'paid', paid_at = now() WHERE order_id = ANY ($1::text[])"
    await database.execute(statement, [claim.order_id for claim in claims])


async def rows_of(database: Database) -> dict[str, list[str]]:
    """Every table the writer writes, without the instants of writing."""
    found = {}
    for table in ("orders", "order_lines", "seat_claims", "tickets", "ledger_entries", "idempotency_keys"):
        clockless = "to_jsonb(t) - '{created_at,paid_at,confirmed_at,issued_at,posted_at}'::text[]"
        rows = await database.fetch(f"SELECT ({clockless})::text AS row FROM checkout.{table} t ORDER BY 1")
        found[table] = [row["row"] for row in rows]
    return found


class Counting(Database):
    """A database that counts the trips made to it."""

    def __init__(self, url: str) -> None:
        super().__init__(url, pool_max=1)
        self.trips: Counter[str] = Counter()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        async with super().connection() as connection:
            yield _CountingConnection(connection, self.trips)


class _CountingConnection:
    def __init__(self, connection: Any, trips: Counter[str]) -> None:
        self._connection = connection
        self._trips = trips

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._connection, name)
        if name in {"fetch", "fetchrow", "fetchval", "execute", "copy_records_to_table"}:
            self._trips[name] += 1
        return attribute


# Two ways, one meaning


async def test_copied_or_inserted_the_rows_are_the_same(make_database: DatabaseMaker) -> None:
    showtime_id = new_showtime_id()
    claims = [claim_of(showtime_id, 2 * number, 2 * number + 1, answer="{…}") for number in range(150)]
    written = []
    for copy_orders_min, statement_cache in ((1, 256), (1, 0), (NEVER, 256)):  # 0: as behind a pgbouncer
        database = Database(await make_database(migrated), statement_cache=statement_cache)
        store = WriterStore(database, copy_orders_min=copy_orders_min)
        await store.write(batch_of(claims))
        await pay(database, claims[::3])
        await store.write(batch_of([], claims[::3]))
        written.append(await rows_of(database))
        await database.close()
    copied, copied_unprepared, inserted = written
    assert copied == copied_unprepared == inserted
    counted = {table: len(rows) for table, rows in copied.items()}
    assert counted == {
        "orders": 150,
        "order_lines": 300,
        "seat_claims": 300,
        "tickets": 100,
        "ledger_entries": 100,
        "idempotency_keys": 150,
    }


async def test_a_batch_makes_the_same_trips_however_much_it_carries(make_database: DatabaseMaker) -> None:
    database = Counting(await make_database(migrated))
    store = WriterStore(database)

    async def trips(orders: int) -> Counter[str]:
        claims = [claim_of(new_showtime_id(), 1, 2, 3) for _ in range(orders)]
        await store.write(batch_of(claims))
        await pay(database, claims)
        database.trips.clear()
        news = [claim_of(new_showtime_id(), 1, 2, 3) for _ in range(orders)]
        await store.write(batch_of(news, claims))
        return Counter(database.trips)

    # Its beginning and its end are said; confirmations and positions come last.
    large = {"execute": 2, "copy_records_to_table": 4, "fetchrow": 1}
    assert await trips(1) == await trips(COPY_ORDERS_MIN - 1) == {"fetchrow": 1}
    assert await trips(COPY_ORDERS_MIN) == await trips(1_000) == large
    await database.close()


# COPY knows no "skip"


async def test_a_large_batch_with_repeats_in_it_writes_what_is_news_and_nothing_else(
    make_database: DatabaseMaker,
) -> None:
    database = Database(await make_database(migrated))
    store = WriterStore(database)
    claims = [claim_of(new_showtime_id(), 1, 2) for _ in range(3 * COPY_ORDERS_MIN)]
    known, news = claims[:COPY_ORDERS_MIN], claims[COPY_ORDERS_MIN:]
    await store.write(batch_of(known))
    stamps = await database.fetch("SELECT order_id, created_at FROM checkout.orders ORDER BY 1")
    assert await store.write(batch_of(claims)) == Aside()
    assert await database.fetchval("SELECT count(*) FROM checkout.orders") == len(claims)
    assert await database.fetchval("SELECT count(*) FROM checkout.seat_claims") == 2 * len(claims)
    again = await database.fetch(
        "SELECT order_id, created_at FROM checkout.orders WHERE order_id = ANY ($1::text[]) ORDER BY 1",
        [claim.order_id for claim in known],
    )
    assert again == stamps
    assert await store.write(batch_of([*known, *news])) == Aside()
    assert await database.fetchval("SELECT count(*) FROM checkout.orders") == len(claims)
    await database.close()


async def test_copy_alone_would_refuse_them_all(make_database: DatabaseMaker) -> None:
    """The control: what a batch meets that is copied without the statement behind it."""
    database = Database(await make_database(migrated))
    store = WriterStore(database)
    claims = [claim_of(new_showtime_id(), 1, 2) for _ in range(COPY_ORDERS_MIN)]
    await store.write(batch_of(claims[:1]))
    with pytest.raises(UniqueViolation):
        await store._write(batch_of(claims), store._copy_claims)
    assert await database.fetchval("SELECT count(*) FROM checkout.orders") == 1
    await database.close()


@both_ways
async def test_one_order_claimed_twice_in_a_batch_keeps_the_first_and_refuses_the_other(
    make_database: DatabaseMaker, copy_orders_min: int
) -> None:
    """A hold key used again after its order ended makes the same order id with another deadline."""
    database = Database(await make_database(migrated))
    store = WriterStore(database, copy_orders_min=copy_orders_min)
    first = claim_of(new_showtime_id(), 1)
    other = claim_of(first.showtime_id, 2, order_id=first.order_id, pay_in_s=1_000)
    with pytest.raises(EntryRefused, match="hold_key_reused"):
        await store.write(batch_of([first, other]))
    assert await database.fetchval("SELECT count(*) FROM checkout.orders") == 0
    assert await store.write(batch_of([first, first])) == Aside()
    assert await database.fetchval("SELECT count(*) FROM checkout.order_lines") == 1
    await database.close()


async def test_one_taken_seat_in_a_large_batch_costs_one_order_and_few_transactions(shop: Shop) -> None:
    showtime_id = new_showtime_id()
    owner = claim_of(showtime_id, 500)
    await feed(shop, owner)
    await shop.write()
    claims = [claim_of(showtime_id, seat) for seat in range(1_000)]
    await feed(shop, *claims)
    written: list[int] = []
    writer = shop.writer()
    write = writer._store.write

    async def count(batch: Batch) -> Aside:
        written.append(len(batch.orders))
        return await write(batch)

    writer._store.write = count  # type: ignore[method-assign]
    entries = await shop.log().read(1_000, None)
    assert len(await writer.write(entries)) == 1_000
    states = await shop.states([claim.order_id for claim in claims])
    assert Counter(states.values()) == {"pending_payment": 999, "cancelled": 1}
    assert states[claims[500].order_id] == "cancelled"
    assert len(written) <= 1 + 2 * 10  # two halves on each of ten levels


# From the logs


class CountedLog(OrderLog):
    """A log that notes what it was asked for and how much it answered."""

    def __init__(self, shop: Shop) -> None:
        super().__init__(shop.platform.scripts, shop.platform.blocking_redis, consumer="writer-1")
        self.answers: list[int] = []

    async def read(self, count: int, block_ms: int | None) -> list[LogEntry]:
        entries = await super().read(count, block_ms)
        self.answers.append(len(entries))
        return entries


def one_in_each_partition() -> dict[int, str]:
    """A showtime for every log."""
    found: dict[int, str] = {}
    while len(found) < PARTITIONS:
        showtime_id = new_showtime_id()
        found.setdefault(partition_of(showtime_id), showtime_id)
    return found


async def test_a_writer_that_was_away_is_never_answered_more_than_a_batch(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "writer_batch_entries_max", 2 * PARTITIONS)
    for showtime_id in one_in_each_partition().values():
        await feed(shop, *(claim_of(showtime_id, seat) for seat in range(6)))
    log = CountedLog(shop)
    intake = Intake(log, WriterCounts())
    taken: list[LogEntry] = []
    while len(taken) < 6 * PARTITIONS:
        taken += [entry for load in await intake.news() for entry in load.entries]
    assert log.answers == [2 * PARTITIONS] * 3
    everything = await shop.log().read_own_pending(100)
    assert len(everything) == len(taken)
    await shop.writer().write(everything)


async def test_asking_each_log_for_a_whole_batch_would_be_answered_with_sixty_four(shop: Shop) -> None:
    """The control: Redis counts per log."""
    for showtime_id in one_in_each_partition().values():
        await feed(shop, *(claim_of(showtime_id, seat) for seat in range(3)))
    assert len(await shop.log().read(3, None)) == 3 * PARTITIONS
    await shop.writer().write(await shop.log().read_own_pending(100))


async def test_one_hot_showtime_gets_whole_batches_from_the_second_read_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "writer_batch_entries_max", 2 * PARTITIONS)
    showtime_id = new_showtime_id()
    await feed(shop, *(claim_of(showtime_id, seat) for seat in range(2 + 3 * 2 * PARTITIONS)))
    log = CountedLog(shop)
    intake = Intake(log, WriterCounts())
    for _ in range(4):
        await intake.news()
    assert log.answers == [2, 2 * PARTITIONS, 2 * PARTITIONS, 2 * PARTITIONS]
    await shop.writer().write(await shop.log().read_own_pending(1_000))


class SlowStore(WriterStore):
    """A store whose commits wait for leave."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.begun = asyncio.Semaphore(0)
        self.leave = asyncio.Semaphore(0)

    async def write(self, batch: Batch) -> set[str]:
        self.begun.release()
        await self.leave.acquire()
        return await super().write(batch)


@asynccontextmanager
async def writing(
    shop: Shop, log: OrderLog, store: WriterStore, kind: type[OrderWriter] = OrderWriter
) -> AsyncIterator[OrderWriter]:
    writer = kind(log, store, shop.platform.clock)
    running = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        while not running.done():
            running.cancel()
            await asyncio.wait([running], timeout=0.2)


async def test_under_a_backlog_the_next_batch_is_read_while_postgres_commits(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "writer_batch_entries_max", PARTITIONS)
    showtime_id = new_showtime_id()
    claims = [claim_of(showtime_id, seat) for seat in range(1 + 3 * PARTITIONS)]
    await feed(shop, *claims)
    log, store = CountedLog(shop), SlowStore(shop.platform.database)
    async with writing(shop, log, store) as writer, asyncio.timeout(10):
        for nth_batch in range(1, 4):
            await store.begun.acquire()
            await until(lambda reads=nth_batch + 1: _has(len(log.answers) == reads))  # type: ignore[misc]
            assert writer.counts.batches == nth_batch - 1
            store.leave.release()
        store.leave.release()
        await until(lambda: _has(writer.counts.entries == len(claims)))
    assert log.answers[:4] == [1, *[PARTITIONS] * 3]


async def batches_of_a_steady_stream(shop: Shop, kind: type[OrderWriter]) -> list[int]:
    """One order, and twenty more one after the other while PostgreSQL commits it; what reads brought."""
    showtime_id = new_showtime_id()
    claims = [claim_of(showtime_id, seat) for seat in range(21)]
    log, store = CountedLog(shop), SlowStore(shop.platform.database)
    async with writing(shop, log, store, kind) as writer, asyncio.timeout(10):
        await feed(shop, claims[0])
        await store.begun.acquire()
        for claim in claims[1:]:
            await feed(shop, claim)
            await asyncio.sleep(0.002)  # longer than a blocked read takes to notice
        for _ in claims:
            store.leave.release()
        await until(lambda: _has(writer.counts.entries == len(claims)))
        assert writer.counts.batches == sum(count > 0 for count in log.answers)
    return [count for count in log.answers if count]


async def test_without_a_backlog_entries_gather_while_postgres_commits_and_become_one_batch(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "writer_rest_ms", 0)
    assert await batches_of_a_steady_stream(shop, OrderWriter) == [1, 20]


async def test_a_read_that_always_goes_ahead_would_make_a_batch_of_the_first_arrival(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the obvious pipeline, with a read in flight whatever happens."""
    monkeypatch.setattr(limits, "writer_rest_ms", 0)

    class Hasty(OrderWriter):
        async def run(self) -> None:
            await self._log.ensure_groups()
            reading = asyncio.create_task(self._intake.news())
            try:
                while True:
                    loads = await reading
                    reading = asyncio.create_task(self._intake.news())
                    await self._write_all(loads)
            finally:
                reading.cancel()
                await asyncio.wait([reading])

    assert len(await batches_of_a_steady_stream(shop, Hasty)) > 2


async def batches_of_a_trickle(shop: Shop) -> list[int]:
    """Twenty-one orders, each after the one before is on its log; what reads brought."""
    showtime_id = new_showtime_id()
    log, store = CountedLog(shop), WriterStore(shop.platform.database)
    async with writing(shop, log, store) as writer:
        await feed(shop, claim_of(showtime_id, 0))
        await until(lambda: _has(writer.counts.entries == 1))
        for seat in range(1, 21):
            await feed(shop, claim_of(showtime_id, seat))
            await asyncio.sleep(0.005)
        await until(lambda: _has(writer.counts.entries == 21))
    return [count for count in log.answers if count]


async def test_orders_that_trickle_in_become_one_batch(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "writer_rest_ms", 1_500)
    assert await batches_of_a_trickle(shop) == [1, 20]


async def test_without_a_rest_nearly_each_of_them_is_a_batch(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    monkeypatch.setattr(limits, "writer_rest_ms", 0)
    assert len(await batches_of_a_trickle(shop)) > 5


async def test_neither_a_lone_order_nor_a_backlog_waits_for_the_rest(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "writer_rest_ms", 3_600_000)
    monkeypatch.setattr(limits, "writer_batch_entries_max", PARTITIONS)
    showtime_id = new_showtime_id()
    await feed(shop, *(claim_of(showtime_id, seat) for seat in range(1 + 3 * PARTITIONS)))
    async with writing(shop, shop.log(), WriterStore(shop.platform.database)) as writer:
        await until(lambda: _has(writer.counts.entries == 1 + 3 * PARTITIONS))
    await feed(shop, claim_of(showtime_id, 500))
    async with writing(shop, shop.log(), WriterStore(shop.platform.database)) as writer:
        await until(lambda: _has(writer.counts.entries == 1))


async def _has(condition: bool) -> bool:
    return condition


async def test_a_batch_is_settled_with_one_command_a_log_and_one_announcement(shop: Shop) -> None:
    showtimes = list(one_in_each_partition().values())[:3]
    claims = [claim_of(showtime_id, seat) for showtime_id in showtimes for seat in range(100)]
    await feed(shop, *claims)
    entries = await shop.log().read(1_000, None)
    waiting = [shop.platform.commits.expect(claim.order_id) for claim in claims[::50]]
    await shop.redis.config_resetstat()
    await shop.writer().write(entries)
    stats: Any = await shop.redis.info("commandstats")
    assert stats["cmdstat_xack"]["calls"] == 3
    assert stats["cmdstat_publish"]["calls"] == 1
    assert [await shop.platform.commits.wait(one, 2.0) for one in waiting] == ["committed"] * 6


# How far behind


@asynccontextmanager
async def held_still(shop: Shop) -> AsyncIterator[None]:
    """Nobody can write an order meanwhile."""
    connection = await asyncpg.connect(shop.platform.addresses.database_url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE checkout.orders IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def test_the_lag_rises_while_the_writer_is_held_still_and_falls_to_nothing_after(shop: Shop) -> None:
    lag = LogLag(shop.log())
    ages = []

    async def entries_behind() -> int:
        await lag.look()
        assert lag.seen is not None
        ages.append(lag.seen.oldest_ms)
        return lag.seen.entries

    assert await entries_behind() == 0
    assert ages == [0]
    showtimes = [new_showtime_id() for _ in range(5)]
    async with writing(shop, shop.log(), WriterStore(shop.platform.database)):
        async with held_still(shop):
            for behind, showtime_id in enumerate(showtimes, 1):
                await feed(shop, claim_of(showtime_id, 1))
                await asyncio.sleep(0.005)
                assert await entries_behind() == behind  # whether it was read already or not
        rising = ages[1:]
        assert rising == sorted(rising)
        assert rising[-1] >= 5
        await until(lambda: _is_nothing(entries_behind))
    assert ages[-1] == 0


async def _is_nothing(count: Callable[[], Any]) -> bool:
    return bool(await count() == 0)


async def test_what_waits_has_an_age_also_after_redis_clock_leapt_and_came_back(shop: Shop) -> None:
    showtime_id = new_showtime_id()
    key = log_key(partition_of(showtime_id))
    seconds, _ = await shop.redis.time()
    await shop.redis.xadd(key, {"data": b""}, id=f"{(seconds + 3_600) * 1_000}-0")
    await shop.log().settle(await shop.log().read(10, None), [], [])
    await feed(shop, claim_of(showtime_id, 1))
    lag = LogLag(shop.log())
    await lag.look()
    await asyncio.sleep(0.1)
    await lag.look()
    assert lag.seen is not None
    assert lag.seen.oldest_ms >= 100
    assert (await shop.log().backlog()).oldest_ms == 0, "the control: by its id it is not there yet"
    await shop.redis.delete(key)
    await shop.log().ensure_groups()
    await lag.look()
    assert lag.seen.oldest_ms == 0


async def test_what_a_dead_slot_took_with_it_counts_as_behind(shop: Shop) -> None:
    claim = claim_of(new_showtime_id(), 1)
    await feed(shop, claim)
    await shop.log("writer-gone").read(10, None)
    assert (await shop.log().backlog()).entries == 1
    await shop.writer().write(await shop.log("writer-gone").read_own_pending(10))
    assert (await shop.log().backlog()).entries == 0


async def test_a_trimmed_log_and_one_that_is_gone_are_not_behind(shop: Shop) -> None:
    showtime_id = new_showtime_id()
    partition = partition_of(showtime_id)
    await feed(shop, *(claim_of(showtime_id, seat) for seat in range(5)))
    await shop.write()
    await shop.log().trim(await shop.store.positions(), -1_000, 4_000_000_000_000)
    assert (await shop.log().backlog()).entries == 0
    await feed(shop, *(claim_of(showtime_id, seat) for seat in range(10, 13)))
    assert (await shop.log().backlog()).entries == 3
    first, *_ = await shop.redis.xrange(log_key(partition), min="-", max="+", count=2)
    await shop.redis.xdel(log_key(partition), first[0])  # now the server has lost count
    await shop.write()
    assert (await shop.log().backlog()).entries == 0
    await shop.redis.xgroup_destroy(log_key(partition), GROUP)
    assert (await shop.log().backlog()).entries == 0
    await shop.log().ensure_groups()
    await shop.write()


async def test_nothing_is_said_of_the_lag_while_redis_is_away(shop: Shop) -> None:
    lag = LogLag(shop.log())
    await lag.look()
    assert {reading.name for reading in lag.readings()} == {
        "order_log_entries_behind",
        "order_log_oldest_entry_age_seconds",
    }
    await shop.redis.config_set("busy-reply-threshold", 20)
    slow = asyncio.create_task(shop.redis.eval("while true do end", 0))
    await asyncio.sleep(0.1)
    await lag.look()
    assert list(lag.readings()) == []
    await shop.redis.script_kill()
    with pytest.raises(Exception, match="killed"):
        await slow
    await shop.redis.config_set("busy-reply-threshold", 5_000)


async def test_the_writer_counts_what_it_did_and_where_the_time_went(shop: Shop) -> None:
    claims = [claim_of(new_showtime_id(), 1) for _ in range(3)]
    await feed(shop, *claims)
    await feed(shop, b"not an entry", partition=3)
    writer = shop.writer()
    await writer.write(await shop.log().read(100, None))
    readings = {reading.name: reading for reading in writer.counts.readings()}
    ends = {sample.labels[0]: sample.value for sample in readings["order_writer_entries"].samples}
    assert ends == {"claim": 3, "confirm": 0, "put_aside": 1}
    (sizes,) = readings["order_writer_batch_entries"].samples
    assert (sum(sizes.counts), sizes.value) == (1, 4)
    phases = {
        sample.labels[0]: sum(sample.counts) for sample in readings["order_writer_phase_seconds"].samples
    }
    assert phases == {"read": 0, "decode": 1, "write": 1, "acknowledge": 1}
