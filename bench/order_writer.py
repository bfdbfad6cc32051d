"""How near is the order writer to raw COPY?

A backlog of orders, two seats each, lies on the logs; how fast does PostgreSQL have them? Each order is six
rows in four tables with all their indexes, foreign keys and checks. The unit is one row.

The floor is asyncpg's `copy_records_to_table` of the very same rows, prepared beforehand, into the same
empty tables: in transactions as large as the writer's largest, and once all in one. The floor reads
nothing, decodes nothing, could not be repeated after a crash and tells nobody. Peers are what writers are
usually made of: `executemany` in transactions of a thousand orders, and one transaction per order.

Ours is the whole writer: it reads the logs, decodes, writes, acknowledges and announces. Writer and
contenders run in this process on the measured core, PostgreSQL and Valkey on the others; CPU counts
all of them. After each block the rows are counted, and no seat may have two owners.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from bench.harness import Harness, Result, Sample, at_least, cpu, main
from bench.harness.machine import descendants, pin
from checkout import OrderLog, OrderWriter, WriterStore
from checkout.domain import Order, OrderLine
from checkout.entries import Claim, encode
from checkout.log_entries import LogEntry
from checkout.schemas import order_bytes
from checkout.writer.batch import Batch, Item
from kernel import limits
from kernel.clock import SystemClock, from_ms, to_ms
from kernel.ids import new_hold_id, new_id, new_showtime_id, order_id_of, partition_of
from kernel.money import Money
from reservation import log_key
from runtime import heap
from runtime.migrations import migrate
from runtime.postgres import Database
from runtime.redis_link import Nodes, ScriptRunner, connect

QUESTION: Final = "How near is the order writer to raw COPY?"
OURS: Final = "ours"
SAME: Final = "COPY, same batches"
WHOLE: Final = "COPY, all in one"
MANY: Final = "executemany"
SINGLE: Final = "a transaction per order"
MANY_ORDERS: Final = 1_000
ROWS_PER_ORDER: Final = 6
PRICE: Final = 4990
PAIRS_PER_HALL: Final = 1_000
TABLES: Final = {
    "orders": ("order_id", "showtime_id", "account_id", "epoch", "state", "currency", "total", "pay_by"),
    "order_lines": ("order_id", "seat_index", "label", "area_id", "amount"),
    "seat_claims": ("order_id", "showtime_id", "seat_index", "state"),
    "idempotency_keys": ("account_id", "key", "fingerprint", "status", "body"),
}

Rows = Sequence[Sequence[tuple[object, ...]]]


def backlog(orders: int, seed: int) -> list[Claim]:
    """Claims of many halls, mixed as they come in a rush."""
    dice = random.Random(seed)
    pay_by = from_ms(to_ms(datetime.now(UTC) + timedelta(minutes=15)))
    halls = [new_showtime_id() for _ in range(-(-orders // PAIRS_PER_HALL))]
    places = [(hall, pair) for hall in halls for pair in range(PAIRS_PER_HALL)][:orders]
    dice.shuffle(places)
    return [_claim(hall, pair, pay_by, dice) for hall, pair in places]


def _claim(showtime_id: str, pair: int, pay_by: datetime, dice: random.Random) -> Claim:
    order_id, account_id = order_id_of(new_hold_id(showtime_id)), new_id("acc")
    seats = [
        (seat, f"{seat // 40 + 1}-{seat % 40 + 1}", "are_stalls", PRICE) for seat in (2 * pair, 2 * pair + 1)
    ]
    total = Money(2 * PRICE, "CNY")
    lines = tuple(OrderLine(*seat) for seat in seats)
    order = Order(order_id, showtime_id, account_id, "pending_payment", total, pay_by, lines)
    return Claim(
        order_id=order_id,
        showtime_id=showtime_id,
        account_id=account_id,
        epoch=1,
        currency="CNY",
        total=total.amount,
        pay_by_ms=to_ms(pay_by),
        seats=seats,
        request_key=f"{dice.getrandbits(128):032x}",
        fingerprint=f"{dice.getrandbits(128):032x}",
        answer=order_bytes(order).decode(),
    )


def rows_of(claims: Sequence[Claim]) -> Rows:
    """The rows of claims, table by table, as the writer lays them out."""
    batch = Batch.of(Item(LogEntry(0, "1-1", b""), claim) for claim in claims)
    return batch.orders, batch.lines, batch.seats, batch.answers


class _EndingLog(OrderLog):
    """A log that says when so many entries are settled."""

    def __init__(self, scripts: ScriptRunner, reader: Any, entries: int) -> None:
        super().__init__(scripts, reader, consumer="writer-1")
        self._left = entries
        self.over = asyncio.Event()

    async def settle(
        self, entries: Sequence[LogEntry], committed: Sequence[str], refused: Sequence[str]
    ) -> None:
        await super().settle(entries, committed, refused)
        self._left -= len(entries)
        if self._left <= 0:
            self.over.set()


class Bench:
    """The contenders on one pair of engines."""

    def __init__(self, harness: Harness, valkey: Any, postgres: Any, claims: Sequence[Claim]) -> None:
        self._harness = harness
        self._valkey = valkey
        self._postgres = postgres
        self._claims = claims
        self._redis = connect(valkey.url)
        self._nodes = Nodes(valkey.url)
        self._reader = connect(valkey.url, pool_max=2, socket_timeout_s=None)
        self._database = Database(postgres.url)
        self.audit: dict[str, dict[str, Any]] = {}

    async def open(self) -> None:
        self._connection = await asyncpg.connect(self._postgres.url)
        self._admin = await asyncpg.connect(self._postgres.admin_url)

    async def close(self) -> None:
        await self._connection.close()
        await self._admin.close()
        await self._database.close()
        await self._redis.aclose()
        await self._nodes.aclose()
        await self._reader.aclose()

    # Contenders

    async def ours(self) -> Sample:
        await self._clear()
        await self._feed()
        log = _EndingLog(ScriptRunner(self._nodes, {}), self._reader, len(self._claims))
        writer = OrderWriter(log, WriterStore(self._database), SystemClock())
        with self._meter() as meter:
            running = asyncio.create_task(writer.run())
            await log.over.wait()
        running.cancel()
        await asyncio.wait([running])
        sample = meter.sample(ROWS_PER_ORDER * len(self._claims), batches=float(writer.counts.batches))
        return await self._audited(OURS, self._claims, sample)

    def copy(self, name: str, orders: int) -> Callable[[], Awaitable[Sample]]:
        """COPY in transactions of so many orders."""

        async def write(rows: Rows) -> None:
            for (table, columns), records in zip(TABLES.items(), rows, strict=True):
                await self._connection.copy_records_to_table(
                    table, schema_name="checkout", columns=columns, records=records
                )

        return lambda: self._transactions(name, self._claims, orders, write)

    def inserts(self, name: str, claims: Sequence[Claim], orders: int) -> Callable[[], Awaitable[Sample]]:
        """A statement per row, in transactions of so many orders."""
        statements = [
            f"INSERT INTO checkout.{table} ({', '.join(columns)})"  # noqa: S608 (names of our own)
            f" VALUES ({', '.join(f'${number}' for number in range(1, len(columns) + 1))})"
            for table, columns in TABLES.items()
        ]

        async def write(rows: Rows) -> None:
            for statement, records in zip(statements, rows, strict=True):
                await self._connection.executemany(statement, records)

        return lambda: self._transactions(name, claims, orders, write)

    async def _transactions(
        self, name: str, claims: Sequence[Claim], orders: int, write: Callable[[Rows], Awaitable[None]]
    ) -> Sample:
        await self._clear()
        batches = [rows_of(claims[at : at + orders]) for at in range(0, len(claims), orders)]
        with self._meter() as meter:
            for rows in batches:
                async with self._connection.transaction():
                    await write(rows)
        sample = meter.sample(ROWS_PER_ORDER * len(claims), batches=float(len(batches)))
        return await self._audited(name, claims, sample)

    # Around them

    def _meter(self) -> Any:
        return self._harness.meter(
            {
                "writer": [os.getpid()],
                "postgres": lambda: descendants(self._postgres.pid),
                "redis": [self._valkey.pid],
            }
        )

    async def _clear(self) -> None:
        await self._admin.execute("SET session_replication_role = replica")  # the ledger forbids it else
        await self._admin.execute("TRUNCATE checkout.orders, checkout.idempotency_keys CASCADE")
        await self._admin.execute("CHECKPOINT")
        await self._redis.flushall()

    async def _feed(self) -> None:
        for at in range(0, len(self._claims), 2_000):
            pipeline = self._redis.pipeline(transaction=False)
            for claim in self._claims[at : at + 2_000]:
                pipeline.xadd(log_key(partition_of(claim.showtime_id)), {"data": encode(claim)})
            await pipeline.execute()

    async def _audited(self, name: str, claims: Sequence[Claim], sample: Sample) -> Sample:
        counted = {
            table: await self._connection.fetchval(f"SELECT count(*) FROM checkout.{table}")  # noqa: S608
            for table in TABLES
        }
        seats = await self._connection.fetchval(
            "SELECT count(DISTINCT (showtime_id, seat_index)) FROM checkout.seat_claims"
        )
        amount = await self._connection.fetchval("SELECT sum(amount) FROM checkout.order_lines")
        expected = len(claims)
        ok = (
            counted["orders"] == counted["idempotency_keys"] == expected
            and counted["order_lines"] == counted["seat_claims"] == seats == 2 * expected
            and amount == 2 * PRICE * expected
        )
        before = self.audit.get(name, {"ok": True})
        self.audit[name] = {"ok": ok and before["ok"], "rows": counted}
        return sample


def _time_per_row(sample: Sample) -> float:
    """As `seconds_per_unit`, but nobody generates here: PostgreSQL's cores are meant to be full."""
    return sample.seconds / sample.units


async def run(harness: Harness) -> Result:
    valkey, postgres = await harness.valkey(), await harness.postgres()
    await migrate(postgres.url)
    claims = backlog(4_000 if harness.options.quick else 24_000, harness.options.seed)
    heap.settle()
    bench = Bench(harness, valkey, postgres, claims)
    await bench.open()
    pin(os.getpid(), harness.cores.measured)
    try:
        record = await harness.in_turns(
            {
                OURS: bench.ours,
                SAME: bench.copy(SAME, limits.writer_batch_entries_max),
                WHOLE: bench.copy(WHOLE, len(claims)),
                MANY: bench.inserts(MANY, claims[: len(claims) // 2], MANY_ORDERS),
                SINGLE: bench.inserts(SINGLE, claims[: len(claims) // 20], 1),
            },
            twice=OURS,
        )
    finally:
        pin(os.getpid(), harness.cores.others)
        await bench.close()
    everything = cpu("writer", "postgres", "redis")
    ratios = [
        record.ratio(
            "rows/s ÷ COPY in the same batches", SAME, OURS, of=_time_per_row, target=at_least(0.60)
        ),
        record.ratio("rows/s ÷ COPY all in one", WHOLE, OURS, of=_time_per_row, target=at_least(0.60)),
        record.ratio("rows/s ÷ executemany", MANY, OURS, of=_time_per_row),
        record.ratio("rows/s ÷ a transaction per order", SINGLE, OURS, of=_time_per_row),
        record.ratio("CPU of all per row: COPY in the same batches ÷ ours", SAME, OURS, of=everything),
        record.ratio("CPU of all per row: executemany ÷ ours", MANY, OURS, of=everything),
        record.ratio("CPU of all per row: a transaction per order ÷ ours", SINGLE, OURS, of=everything),
        record.control_ratio(_time_per_row, "time per row"),
    ]
    return harness.result(
        "order_writer",
        QUESTION,
        "row",
        record,
        ratios,
        notes=[
            "Four of the six rows of an order are checked against it by a foreign key, two of them also by "
            "the index that lets a seat have one owner: most of PostgreSQL's time, ours and the floor's.",
            "Ours also reads, decodes, acknowledges and announces; it does so while PostgreSQL works, which "
            "costs CPU and hardly any time.",
            "Durable everywhere: fsync, full pages, synchronous commit.",
        ],
        audit=bench.audit,
    )


if __name__ == "__main__":
    main(run)
