"""Goal: whatever happens to the order writer, each entry takes effect once, and only a row is ever to blame.

Method: entries fed onto the log by hand or by whole purchases, written by real writers that are given the
same batch again and in any order, that die between two steps, that are two, that meet entries which cannot
be written, and whose servers go away and come back. One writer is a process and is killed with SIGKILL.
"Nothing changed" always means that every table of the order side is the same, row by row.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.exceptions import ResponseError

from checkout import GROUP, OrderLog, OrderWriter, WriterStore, log_redis
from checkout.entries import ENTRY_VERSION, Claim, Confirm, encode
from checkout.log_entries import LogEntry
from checkout.writer import loop
from checkout.writer.batch import Batch, Item
from kernel import limits
from kernel.errors import SeatsUnavailable
from kernel.ids import new_showtime_id, order_id_of, partition_of
from reservation import log_key
from runtime.migrations import migrate
from runtime.paths import ROOT
from runtime.postgres import Database
from runtime.redis_link import connect
from tests.support.engines import postgres_engine_in
from tests.support.proxy import Proxy
from tests.support.shop import PRICE, Shop, claim_of, feed, until


class Died(Exception):
    """The process was not there any more."""


class DyingLog(OrderLog):
    """The log of a writer that dies before it can acknowledge."""

    async def settle(
        self, entries: Sequence[LogEntry], committed: Sequence[str], refused: Sequence[str]
    ) -> None:
        raise Died


class SlowLog(OrderLog):
    """A log that takes its time to acknowledge and announce, and remembers what it did."""

    def __init__(self, shop: Shop) -> None:
        super().__init__(shop.platform.scripts, shop.platform.blocking_redis, consumer="writer-1")
        self.goes_on = asyncio.Event()
        self.announced: list[str] = []

    async def settle(
        self, entries: Sequence[LogEntry], committed: Sequence[str], refused: Sequence[str]
    ) -> None:
        await self.goes_on.wait()
        await super().settle(entries, committed, refused)
        self.announced += committed


async def run_until(
    writer: OrderWriter, reached: Callable[[], Awaitable[bool]], within_s: float = 15.0
) -> None:
    """Let a writer run until something is so."""
    task = asyncio.create_task(writer.run())
    try:
        async with asyncio.timeout(within_s):
            while not await reached():
                assert not task.done(), task.result()
                await asyncio.sleep(0.01)
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.2)


def are_orders(
    shop: Shop, order_ids: Sequence[str], state: str = "pending_payment"
) -> Callable[[], Awaitable[bool]]:
    async def reached() -> bool:
        return bool(await shop.states(order_ids) == dict.fromkeys(order_ids, state))

    return reached


async def whole_log(shop: Shop, showtime_id: str) -> list[LogEntry]:
    """Everything that lies on a showtime's partition, as the writer would read it."""
    partition = partition_of(showtime_id)
    found: Any = await shop.redis.xrange(log_key(partition))
    return [LogEntry(partition, log_id.decode(), fields[b"data"]) for log_id, fields in found]


# One entry


async def test_a_claim_becomes_order_lines_claims_and_answer_in_one_transaction(shop: Shop) -> None:
    claim = claim_of(new_showtime_id(), 3, 4, answer='{"state":"pending_payment"}')
    await feed(shop, claim)
    assert await shop.write() == 1
    order = await shop.find(claim.order_id)
    assert (order.state, order.total.amount) == ("pending_payment", 2 * PRICE)
    assert [(line.seat_index, line.label, line.amount) for line in order.lines] == [
        (3, "S3", PRICE),
        (4, "S4", PRICE),
    ]
    kept = await shop.store.find_request_key(claim.account_id, claim.request_key)
    assert (kept.status, kept.body, kept.fingerprint) == (201, claim.answer.encode(), claim.fingerprint)
    transactions = await shop.sql(
        """
        SELECT xmin::text FROM checkout.orders WHERE order_id = $1
        UNION SELECT xmin::text FROM checkout.order_lines WHERE order_id = $1
        UNION SELECT xmin::text FROM checkout.seat_claims WHERE order_id = $1 AND state = 'claimed'
        UNION SELECT xmin::text FROM checkout.idempotency_keys WHERE key = $2
        UNION SELECT xmin::text FROM checkout.writer_positions WHERE partition = $3
        """,
        claim.order_id,
        claim.request_key,
        partition_of(claim.showtime_id),
    )
    assert len(transactions) == 1


async def test_a_sale_becomes_claims_sold_tickets_and_ledger_in_one_transaction(shop: Shop) -> None:
    order_id = await shop.buy(shop.fan(), await shop.showtime(), "D5", "D6")
    transactions = await shop.sql(
        """
        SELECT xmin::text FROM checkout.orders WHERE order_id = $1 AND state = 'confirmed'
        UNION SELECT xmin::text FROM checkout.seat_claims WHERE order_id = $1 AND state = 'sold'
        UNION SELECT xmin::text FROM checkout.tickets WHERE order_id = $1 AND state = 'issued'
        UNION SELECT xmin::text FROM checkout.ledger_entries WHERE transaction_id = 'sale:' || $1
        """,
        order_id,
    )
    assert len(transactions) == 1
    await shop.sound()


# Again, and in another order


async def a_busy_evening(shop: Shop) -> str:
    """A showtime with orders in every state there is; everything of it lies on one partition's log."""
    showtime_id = await shop.showtime()
    for row in "ABC":
        await shop.order(shop.fan(), showtime_id, f"{row}1", f"{row}2")  # claimed
        await shop.buy(shop.fan(), showtime_id, f"{row}5", f"{row}6")  # sold
    fan = shop.fan()
    given_back = await shop.buy(fan, showtime_id, "H1", "H2")
    await shop.ask_back(fan, given_back)
    late = await shop.order(shop.fan(), showtime_id, "H5")
    await feed(
        shop, claim_of(showtime_id, 0, 20), Confirm(order_id=late, showtime_id=showtime_id)
    )  # refused both
    await feed(shop, b"not an entry", partition=partition_of(showtime_id))
    await shop.settle()
    assert await shop.state(given_back) == "refunded"
    return showtime_id


async def test_any_batch_any_number_of_times_in_any_order_changes_nothing(shop: Shop) -> None:
    showtime_id = await a_busy_evening(shop)
    entries = await whole_log(shop, showtime_id)
    before = await shop.tables()
    for seed in range(3):
        dice = random.Random(seed)
        again = dice.sample(entries, len(entries))
        while again:
            size = dice.randint(1, 8)
            batch, again = again[:size], again[size:]
            settled = await shop.writer().write(batch)
            assert sorted(entry.log_id for entry in settled) == sorted(entry.log_id for entry in batch)
    assert await shop.tables() == before
    await shop.sound()


async def test_a_fresh_entry_between_repeats_still_counts(shop: Shop) -> None:
    """The control: repeats change nothing because they are repeats, not because nothing is written."""
    showtime_id = await a_busy_evening(shop)
    before = await shop.tables()
    claim = claim_of(showtime_id, 70)
    await feed(shop, claim)
    await shop.writer().write(await whole_log(shop, showtime_id))
    after = await shop.tables()
    assert len(after["orders"]) == len(before["orders"]) + 1
    assert await shop.state(claim.order_id) == "pending_payment"
    await shop.write()


async def test_a_claim_that_was_refused_before_is_never_announced_as_committed(shop: Shop) -> None:
    showtime_id = await shop.showtime()
    await shop.order(shop.fan(), showtime_id, "A1")
    refused = claim_of(showtime_id, 0)
    await feed(shop, refused)
    await shop.write()
    assert await shop.state(refused.order_id) == "cancelled"
    waiting = shop.platform.commits.expect(refused.order_id)
    await shop.writer().write(await whole_log(shop, showtime_id))
    assert await shop.platform.commits.wait(waiting, 2.0) == "refused"


# A writer that dies


async def test_a_crash_after_the_commit_repeats_nothing(shop: Shop) -> None:
    claims = [claim_of(new_showtime_id(), 1, 2) for _ in range(5)]
    await feed(shop, *claims)
    log = DyingLog(shop.platform.scripts, shop.platform.blocking_redis, consumer="writer-1")
    with pytest.raises(Died):
        await shop.writer(log=log).write(await log.read(100, None))
    assert await are_orders(shop, [claim.order_id for claim in claims])()
    before = await shop.tables()
    partitions = {partition_of(claim.showtime_id) for claim in claims}
    assert sum([await shop.pending(partition) for partition in partitions]) == 5

    async def all_acknowledged() -> bool:
        return not any([await shop.pending(partition) for partition in partitions])

    await run_until(shop.writer(), all_acknowledged)
    assert await shop.tables() == before


@pytest.mark.parametrize("batches", [1, 2])
async def test_a_writer_told_to_end_still_announces_what_it_has_committed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    """One batch is being announced, and with two the next is committed and waits for its turn."""
    monkeypatch.setattr(loop, "LAST_WORDS_S", 10.0)
    log = SlowLog(shop)
    writer = shop.writer(log=log)
    claims = [claim_of(new_showtime_id(), 1) for _ in range(batches)]
    running = asyncio.create_task(writer.run())
    for number, claim in enumerate(claims, start=1):
        await feed(shop, claim)
        await until(lambda number=number: asyncio.sleep(0, writer.counts.batches == number))
    running.cancel()
    log.goes_on.set()
    await asyncio.wait([running])
    assert running.cancelled()
    assert log.announced == [claim.order_id for claim in claims]
    assert [await shop.pending(partition_of(claim.showtime_id)) for claim in claims] == [0] * batches


async def test_a_crash_after_the_read_loses_nothing(shop: Shop) -> None:
    claims = [claim_of(new_showtime_id(), 1, 2) for _ in range(5)]
    await feed(shop, *claims)
    assert len(await shop.log().read(100, None)) == 5  # and that was all this process ever did
    assert await shop.write() == 0  # nobody is given them as news any more
    await run_until(shop.writer(), are_orders(shop, [claim.order_id for claim in claims]))


async def test_what_another_slot_left_behind_is_taken_over(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CLAIM_INTERVAL_S", 0.05)
    monkeypatch.setattr(limits, "writer_claim_idle_ms", 200)
    claim = claim_of(new_showtime_id(), 1)
    await feed(shop, claim)
    assert len(await shop.log("writer-gone").read(100, None)) == 1
    assert await shop.log("writer-2").claim_abandoned(10_000, 100) == []  # it may still be working on it
    await run_until(shop.writer("writer-2"), are_orders(shop, [claim.order_id]))
    assert await shop.pending(partition_of(claim.showtime_id)) == 0


@asynccontextmanager
async def a_read_into_silence(shop: Shop) -> AsyncIterator[tuple[Proxy, OrderLog, Claim]]:
    """A log whose way back goes dead without a word as its reader waits, and a claim that went that way."""
    async with Proxy(shop.platform.addresses.redis_url) as proxy:
        reader = connect(proxy.url, socket_timeout_s=None)
        log = OrderLog(shop.platform.scripts, reader, consumer="writer-silent")
        assert await log.read(10, None) == []
        proxy.freeze()
        claim = claim_of(new_showtime_id(), 1)
        await feed(shop, claim)
        try:
            yield proxy, log, claim
        finally:
            proxy.thaw()
            await reader.aclose()


async def test_a_read_is_given_up_when_its_way_fell_silent_and_what_it_was_given_comes_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_redis, "SILENCE_S", 0.2)
    async with a_read_into_silence(shop) as (proxy, log, claim), asyncio.timeout(10):
        with pytest.raises(SeatsUnavailable):
            await log.read(10, 50)
        assert await shop.pending(partition_of(claim.showtime_id)) == 1
        proxy.thaw()
        assert await log.read(10, None) == []  # on a new connection: the late answer is nobody's
        assert proxy.dials == 2
        (entry,) = await log.claim_abandoned(0, 10)
        assert entry.data == encode(claim)
        await shop.writer("writer-silent").write([entry])
    assert await shop.state(claim.order_id) == "pending_payment"


async def test_a_read_that_may_wait_for_ever_would_wait_for_ever(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same silence, and nobody who looks at the clock."""
    monkeypatch.setattr(log_redis, "SILENCE_S", 3_600.0)
    async with a_read_into_silence(shop) as (_, log, claim):
        reading = asyncio.create_task(log.read(10, 50))
        assert not (await asyncio.wait([reading], timeout=1.0))[0]
        reading.cancel()
        await asyncio.wait([reading])
        await shop.writer("writer-silent").write(await log.claim_abandoned(0, 10))
    assert await shop.state(claim.order_id) == "pending_payment"


async def test_a_killed_writer_process_is_followed_by_one_that_finishes(shop: Shop, tmp_path: Path) -> None:
    showtime_id = new_showtime_id()
    claims = [claim_of(showtime_id, seat) for seat in range(4_000)]
    await feed(shop, *claims)
    addresses = shop.platform.addresses
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SEATRUSH_")},
        "SEATRUSH_DATA_DIR": str(tmp_path),
        "REDIS_URL": addresses.redis_url,
        "DATABASE_URL": addresses.database_url,
    }

    async def written() -> int:
        return int(await shop.one("SELECT count(*) FROM checkout.orders WHERE showtime_id = $1", showtime_id))

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "entrypoints.cli", "write-orders"),
        env=environment,
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(30):
        while not (found := await written()):
            assert process.returncode is None
            await asyncio.sleep(0.002)
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    assert 0 < found < len(claims), "it was to be killed in the middle"
    await run_until(shop.writer(), are_orders(shop, [claim.order_id for claim in claims]))
    assert await written() == len(claims)
    seats = await shop.one(
        "SELECT count(DISTINCT seat_index) FROM checkout.seat_claims WHERE showtime_id = $1", showtime_id
    )
    assert seats == len(claims)
    assert await shop.pending(partition_of(showtime_id)) == 0


# Two writers


async def test_two_writers_given_the_same_batch_write_it_once(shop: Shop) -> None:
    showtime_id = new_showtime_id()
    claims = [claim_of(showtime_id, 2 * seat, 2 * seat + 1) for seat in range(200)]
    await feed(shop, *claims)
    entries = await whole_log(shop, showtime_id)
    backwards = entries[::-1]  # so that they meet in the middle, and each holds what the other wants
    before = await shop.dead_letters()
    await asyncio.gather(shop.writer("writer-1").write(entries), shop.writer("writer-2").write(backwards))
    assert await are_orders(shop, [claim.order_id for claim in claims])()
    counted = await shop.one("SELECT count(*) FROM checkout.seat_claims WHERE showtime_id = $1", showtime_id)
    assert counted == 400
    assert await shop.dead_letters() == before
    await shop.write()


async def test_two_writers_share_the_work(shop: Shop) -> None:
    claims = [claim_of(new_showtime_id(), 1) for _ in range(200)]
    order_ids = [claim.order_id for claim in claims]
    writers = [shop.writer("writer-1"), shop.writer("writer-2")]

    async def all_there() -> bool:
        return await are_orders(shop, order_ids)()

    async def feeding() -> None:
        for at in range(0, len(claims), 10):
            await feed(shop, *claims[at : at + 10])
            await asyncio.sleep(0.005)

    await asyncio.gather(feeding(), *(run_until(writer, all_there) for writer in writers))
    assert all(writer.counts.entries for writer in writers)
    assert sum(writer.counts.entries for writer in writers) == len(claims)


async def test_a_batch_stays_bounded_however_long_the_writer_was_away(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis counts per stream, so 64 logs may answer with 64 times as much as one read asks for."""
    monkeypatch.setattr(limits, "writer_batch_entries_max", 20)
    claims = [claim_of(new_showtime_id(), 1) for _ in range(100)]
    await feed(shop, *claims)
    assert len(entries := await shop.log().read(20, None)) > 20
    writer = shop.writer()
    assert len(await writer.write(entries)) == len(entries)
    assert writer.counts.largest_batch == 20
    await shop.write()
    assert await are_orders(shop, [claim.order_id for claim in claims])()


# Entries that cannot be written


async def test_two_orders_claiming_one_seat_end_as_one_owner_and_one_refusal(shop: Shop) -> None:
    showtime_id = await shop.showtime()
    neighbours = [claim_of(showtime_id, seat) for seat in (10, 11, 12, 13)]
    first, second = claim_of(showtime_id, 5, 6), claim_of(showtime_id, 6, 7)
    before = await shop.dead_letters("seat_taken")
    await feed(shop, *neighbours[:2], first, second, *neighbours[2:])
    waiting = shop.platform.commits.expect(second.order_id)
    await shop.write()
    assert await shop.state(first.order_id) == "pending_payment"
    loser = await shop.find(second.order_id)
    assert (loser.state, loser.end_reason) == ("cancelled", "seat_taken")
    assert [line.seat_index for line in loser.lines] == [6, 7]
    assert await are_orders(shop, [claim.order_id for claim in neighbours])()
    assert await shop.platform.commits.wait(waiting, 2.0) == "refused"
    (letter,) = await shop.sql("SELECT * FROM checkout.dead_letters WHERE data = $1", encode(second))
    assert (letter["reason"], letter["kind"]) == ("seat_taken", "claim")
    assert await shop.dead_letters("seat_taken") == before + 1
    await shop.settle()
    await shop.sound()


async def test_without_the_index_both_orders_would_own_the_seat(shop: Shop) -> None:
    """The control: it is the arbiter that refuses, no check before it."""
    showtime_id = await shop.showtime()
    claims = [claim_of(showtime_id, 6), claim_of(showtime_id, 6)]
    await feed(shop, *claims)
    entries = await shop.log().read(100, None)
    async with shop.platform.database.connection() as connection, _undone(connection):
        await connection.execute("DROP INDEX checkout.seat_claims_one_owner")
        store = WriterStore(_Only(connection))
        await store.write(Batch.of(map(Item, entries, claims)))
        owners = await connection.fetchval(
            "SELECT count(*) FROM checkout.seat_claims"
            " WHERE showtime_id = $1 AND seat_index = 6 AND state = 'claimed'",
            showtime_id,
        )
        assert owners == 2
    await shop.writer().write(entries)


@asynccontextmanager
async def _undone(connection: Any) -> Any:
    """A transaction nothing is left of."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


class _Only(Database):
    """A database of one connection that is inside a transaction already."""

    def __init__(self, connection: Any) -> None:
        super().__init__("postgresql://none.invalid")
        self._one = connection

    @asynccontextmanager
    async def connection(self) -> Any:
        yield self._one


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"{}",
        b'{"kind":"gift"}',
        b"[" * 100_000,
        encode(claim_of(new_showtime_id(), 1))[:-5],
    ],
    ids=["empty", "not text", "no kind", "unknown kind", "a bomb", "cut"],
)
async def test_an_undecodable_entry_is_put_aside_and_its_batch_is_written(shop: Shop, data: bytes) -> None:
    showtime_id = new_showtime_id()
    claims = [claim_of(showtime_id, 1), claim_of(showtime_id, 2)]
    await feed(shop, claims[0], data, claims[1], partition=partition_of(showtime_id))
    await shop.write()
    assert await are_orders(shop, [claim.order_id for claim in claims])()
    (letter,) = await shop.sql(
        "SELECT * FROM checkout.dead_letters WHERE partition = $1 AND data = $2",
        partition_of(showtime_id),
        data,
    )
    assert (letter["reason"], letter["kind"]) == ("undecodable", "unknown")
    assert await shop.pending(partition_of(showtime_id)) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"seats": [(1, "A\0", "stalls", PRICE)]},
        {"seats": [(1, "A1", "stalls", PRICE), (1, "A1", "stalls", PRICE)]},
        {"request_key": "\0"},
        {"account_id": "acc_\0"},
    ],
    ids=["a letter PostgreSQL has not", "one seat twice", "a key it cannot keep", "an owner it cannot keep"],
)
async def test_an_entry_not_even_its_refusal_can_be_written_of_does_not_stop_the_writer(
    shop: Shop, fields: dict[str, Any]
) -> None:
    showtime_id = new_showtime_id()
    before, after = claim_of(showtime_id, 10), claim_of(showtime_id, 11)
    odd = claim_of(showtime_id, 1, **fields)
    await feed(shop, before, odd, after)
    async with asyncio.timeout(10):
        await shop.write()
    assert await are_orders(shop, [before.order_id, after.order_id])()
    (letter,) = await shop.sql("SELECT * FROM checkout.dead_letters WHERE data = $1", encode(odd))
    assert letter["kind"] == "claim"
    assert await shop.pending(partition_of(showtime_id)) == 0


async def test_a_sale_of_an_unknown_or_unpaid_order_is_put_aside_and_changes_nothing(shop: Shop) -> None:
    showtime_id = await shop.showtime()
    unpaid = await shop.order(shop.fan(), showtime_id, "A1")
    unknown = order_id_of(f"hld_{showtime_id[4:]}{'0' * 16}")
    before = await shop.dead_letters("invalid_state")
    claim = claim_of(showtime_id, 50)
    await feed(
        shop,
        Confirm(order_id=unknown, showtime_id=showtime_id),
        claim,
        Confirm(order_id=unpaid, showtime_id=showtime_id),
    )
    await shop.write()
    assert await shop.dead_letters("invalid_state") == before + 2
    assert await shop.state(unpaid) == "pending_payment"
    assert await shop.store.find_order(unknown) is None
    assert await shop.state(claim.order_id) == "pending_payment"
    assert not (await shop.find(unpaid)).tickets
    await shop.sound()


async def test_an_entry_of_a_newer_version_stays_pending_for_a_newer_writer(shop: Shop) -> None:
    showtime_id = new_showtime_id()
    partition = partition_of(showtime_id)
    newer = [
        encode(claim_of(showtime_id, 1, version=ENTRY_VERSION + 1)),
        orjson.dumps({"kind": "exchange", "version": ENTRY_VERSION + 1}),
    ]
    claim = claim_of(showtime_id, 2)
    before = await shop.dead_letters()
    await feed(shop, newer[0], claim, newer[1], partition=partition)
    await shop.write()
    assert await are_orders(shop, [claim.order_id])()
    assert await shop.one("SELECT count(*) FROM checkout.orders WHERE showtime_id = $1", showtime_id) == 1
    assert await shop.dead_letters() == before
    assert await shop.pending(partition) == 2
    found = await shop.log().read_own_pending(100)
    assert [entry.data for entry in found if entry.partition == partition] == newer
    await shop.redis.xack(log_key(partition), GROUP, *[entry.log_id for entry in found])


# Servers that are away


async def test_a_connection_that_dies_in_the_middle_is_not_the_entrys_fault(shop: Shop) -> None:
    showtime_id = new_showtime_id()
    claims = [claim_of(showtime_id, seat) for seat in range(300)]
    await feed(shop, *claims)
    before = await shop.dead_letters()
    other = Database(shop.platform.addresses.database_url, pool_max=1)
    killed = 0

    async def execute_everybody() -> None:
        nonlocal killed
        for _ in range(15):
            await asyncio.sleep(0.02)
            killed += len(
                await other.fetch(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND datname = current_database()"
                    " AND pid <> pg_backend_pid()"
                )
            )

    entries = await shop.log().read(1_000, None)
    writer = shop.writer()
    executioner = asyncio.create_task(execute_everybody())
    settled = 0
    for at in range(0, len(entries), 5):
        settled += len(await writer.write(entries[at : at + 5]))
        await asyncio.sleep(0.005)
    await executioner
    await other.close()
    assert killed > 0
    assert settled == len(claims)
    assert await are_orders(shop, [claim.order_id for claim in claims])()
    assert await shop.dead_letters() == before


async def test_while_postgres_is_away_everything_waits_and_nothing_is_put_aside(
    shop: Shop, postgres_dir: Path
) -> None:
    engine = postgres_engine_in(postgres_dir, dies_with_us=True)
    await engine.start()
    await migrate(engine.url)
    database = Database(engine.url, command_timeout_s=2.0)
    writer = OrderWriter(shop.log(), WriterStore(database), shop.platform.clock)
    showtime_id = new_showtime_id()
    claims = [claim_of(showtime_id, seat) for seat in range(20)]
    await feed(shop, *claims[:10])
    await engine.stop()
    writing = asyncio.create_task(writer.write(await shop.log().read(100, None)))
    await asyncio.sleep(0.3)
    assert not writing.done()
    assert await shop.pending(partition_of(showtime_id)) == 10
    await engine.start()
    async with asyncio.timeout(20):
        assert len(await writing) == 10
    await feed(shop, *claims[10:])
    await writer.write(await shop.log().read(100, None))
    again = Database(engine.url)
    assert await again.fetchval("SELECT count(*) FROM checkout.orders") == 20
    assert await again.fetchval("SELECT count(*) FROM checkout.dead_letters") == 0
    await again.close()
    await database.close()
    await engine.stop()


async def test_a_log_that_lost_everything_is_followed_from_its_new_beginning(shop: Shop) -> None:
    lost, kept = claim_of(new_showtime_id(), 1), claim_of(new_showtime_id(), 1)
    flushed = False

    async def followed() -> bool:
        nonlocal flushed
        if not flushed:
            await asyncio.sleep(0.1)  # the writer is blocked in its read by now
            await shop.redis.flushall()
            await feed(shop, kept)  # before anybody has made the groups again
            flushed = True
        return await are_orders(shop, [kept.order_id])()

    await feed(shop, lost)
    await shop.redis.flushall()
    await run_until(shop.writer(), followed)
    assert await shop.store.find_order(lost.order_id) is None  # it was never acknowledged to anybody
    await shop.platform.rebuilder.rebuild("the test flushed it")


async def test_a_group_made_again_at_the_end_would_have_missed_an_entry(shop: Shop) -> None:
    """The control of where a lost group begins: `$` is the obvious place, and the wrong one."""
    partition = partition_of(showtime_id := new_showtime_id())
    await shop.redis.xgroup_create(log_key(partition), "control", id="$", mkstream=True)
    await shop.redis.xgroup_destroy(log_key(partition), "control")
    await feed(shop, claim := claim_of(showtime_id, 1))
    await shop.redis.xgroup_create(log_key(partition), "control", id="$")
    found: Any = await shop.redis.xreadgroup("control", "one", {log_key(partition): ">"}, count=10)
    assert not found
    await shop.redis.xgroup_destroy(log_key(partition), "control")
    await shop.write()
    assert await are_orders(shop, [claim.order_id])()


async def test_a_server_that_is_busy_is_waited_for(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CLAIM_INTERVAL_S", 0.0)
    monkeypatch.setattr(loop, "TRIM_INTERVAL_S", 0.0)
    redis = shop.redis
    claim = claim_of(new_showtime_id(), 1)
    await redis.config_set("busy-reply-threshold", 20)
    slow = asyncio.create_task(redis.eval("while true do end", 0))

    async def end_it() -> None:
        await asyncio.sleep(0.4)
        await redis.script_kill()

    ending = asyncio.create_task(end_it())
    try:
        await asyncio.sleep(0.1)
        with pytest.raises(SeatsUnavailable):  # the control: the server does say BUSY
            await shop.log().trim({0: "1-0"}, 0, 1)
        await run_until(shop.writer(), lambda: asyncio.sleep(0, slow.done()))
        await feed(shop, claim)
        await run_until(shop.writer(), are_orders(shop, [claim.order_id]))
    finally:
        await ending
        with pytest.raises(ResponseError, match="killed"):
            await slow
        await redis.config_set("busy-reply-threshold", 5_000)


async def test_upkeep_survives_the_loss_of_a_group(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CLAIM_INTERVAL_S", 0.0)
    monkeypatch.setattr(loop, "TRIM_INTERVAL_S", 0.0)
    claim = claim_of(new_showtime_id(), 1)
    await feed(shop, claim)
    await shop.write()
    await shop.redis.xgroup_destroy(log_key(partition_of(claim.showtime_id)), GROUP)
    await shop.writer()._upkeep()
    following = claim_of(claim.showtime_id, 2)
    await feed(shop, following)
    await run_until(shop.writer(), are_orders(shop, [following.order_id]))


# Positions and trimming


async def test_positions_never_go_back(shop: Shop) -> None:
    showtime_id = new_showtime_id()
    partition = partition_of(showtime_id)
    ids = await feed(shop, *(claim_of(showtime_id, seat) for seat in range(3)))
    entries = await shop.log().read(100, None)
    for entry in reversed(entries):
        await shop.writer().write([entry])
        assert (await shop.store.positions())[partition] == ids[-1]
    # Compared as numbers: as texts, 9-0 would be behind 10-0.
    await shop.sql("UPDATE checkout.writer_positions SET log_id = '9-9' WHERE partition = $1", partition)
    for log_id, expected in (("10-0", "10-0"), ("9-10", "10-0"), ("10-10", "10-10"), ("10-9", "10-10")):
        await shop.writer().write([LogEntry(partition, log_id, encode(claim_of(showtime_id, 99)))])
        assert (await shop.store.positions())[partition] == expected
    await shop.sql("DELETE FROM checkout.writer_positions WHERE partition = $1", partition)


async def _ids(shop: Shop, partition: int) -> list[str]:
    found: Any = await shop.redis.xrange(log_key(partition))
    return [log_id.decode() for log_id, _ in found]


async def test_only_what_postgres_has_and_nobody_works_on_is_trimmed(shop: Shop) -> None:
    showtime_id = new_showtime_id()
    partition = partition_of(showtime_id)
    await shop.redis.delete(log_key(partition))
    await shop.log().ensure_groups()
    ids = await feed(shop, *(claim_of(showtime_id, seat) for seat in range(6)))
    log, future_ms = shop.log(), 4_000_000_000_000
    all_ages = -1_000
    first, second, third, fourth = await log.read(4, None)  # the last two entries are news to nobody yet
    await shop.writer().write([first, fourth])  # 2 and 3 stay with somebody who works on them

    await log.trim(await shop.store.positions(), 60_000, future_ms)
    assert await _ids(shop, partition) == ids  # all of them young
    await log.trim(await shop.store.positions(), all_ages, future_ms)
    assert await _ids(shop, partition) == ids[1:]  # pending entries are never trimmed
    await shop.writer().write([second, third])
    await log.trim({partition: ids[2]}, all_ages, future_ms)
    assert await _ids(shop, partition) == ids[2:]  # not beyond PostgreSQL's position
    await log.trim({partition: f"{future_ms}-0"}, all_ages, future_ms)
    assert await _ids(shop, partition) == ids[3:]  # not what nobody was given yet, whatever position is said
    await shop.write()
    await log.trim(await shop.store.positions(), all_ages, future_ms)
    assert await _ids(shop, partition) == ids[5:]


async def test_trimming_by_length_would_lose_an_entry_nobody_was_given(shop: Shop) -> None:
    """The control: what `XADD … MAXLEN`, the usual way, does to an order log."""
    showtime_id = new_showtime_id()
    partition = partition_of(showtime_id)
    claims = [claim_of(showtime_id, seat) for seat in range(3)]
    await feed(shop, *claims)
    await shop.redis.xtrim(log_key(partition), maxlen=2, approximate=False)
    assert await shop.write() == 2
    assert await shop.store.find_order(claims[0].order_id) is None


async def test_the_writer_trims_what_is_old_also_after_a_restart(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    showtime_id = new_showtime_id()
    partition = partition_of(showtime_id)
    await feed(shop, *(claim_of(showtime_id, seat) for seat in range(5)))
    await shop.write()
    monkeypatch.setattr(loop, "TRIM_INTERVAL_S", 0.0)
    monkeypatch.setattr(limits, "log_retention_ms", -1_000)

    async def trimmed() -> bool:
        return len(await _ids(shop, partition)) == 1

    await run_until(shop.writer(), trimmed)  # a writer that has never written to this partition
