"""How long is nothing sold when Redis has lost a million seats, and does the rebuild hold the server up?

Sixteen stadia of 62,500 seats, all sold, two by two, each pair to a buyer of its own and in the order of a
rush (the rows of a hall lie all over the tables): the dearest million seats there is, because every one of
them has an owner. Redis is emptied, and the rebuild runs in this process, as it does in the reaper's. What is
timed is all of it, from the epoch to the last partition that is open.

The other figure is how long the server was busy with one command of it (its own slow log): so long the
command of anybody else waits, at a node where other showtimes go on. There is no floor and no peer: a time is
promised, and beside it stands the CPU that each process took.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any, Final

import asyncpg

from bench.harness import Harness, Ratio, Result, Sample, at_most, bootstrap, main
from bench.harness.machine import descendants
from checkout import CheckoutStore, OrderLog, owners, set_back
from kernel.ids import new_hold_id, new_id, new_showtime_id, order_id_of
from reservation import OwnersOf, Possession, Rebuilder, RedisInventory, ReservationStore
from runtime import heap
from runtime.migrations import migrate
from runtime.postgres import Database
from runtime.redis_link import Nodes, ScriptRunner, connect

QUESTION: Final = (
    "How long is nothing sold when Redis has lost a million seats, and does the rebuild hold the server up?"
)
OURS: Final = "ours"
HALLS: Final = 16
SEATS: Final = 62_500
ORDERS_PER_COPY: Final = 50_000
NOTED_FROM_US: Final = 500
_ORDERS: Final = ("order_id", "showtime_id", "account_id", "epoch", "state", "currency", "total", "pay_by")
_CLAIMS: Final = ("order_id", "showtime_id", "seat_index", "state")


async def sell_out(url: str, seats: int, seed: int) -> int:
    """Put the halls on sale and sell every seat; the answer is how many there are."""
    halls = [new_showtime_id() for _ in range(HALLS)]
    pairs = [(hall, seat) for hall in halls for seat in range(0, seats, 2)]
    random.Random(seed).shuffle(pairs)
    pay_by = datetime.now(UTC) + timedelta(days=1)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "INSERT INTO reservation.layouts VALUES ('lay_stadium', 'Stadium', $1, '{}')", seats
        )
        await connection.execute(
            "INSERT INTO reservation.inventories "
            "(showtime_id, layout_id, opens_at, buyer_seats_max, orphan_rule) "
            "SELECT hall, 'lay_stadium', now(), 10, 'off' FROM unnest($1::text[]) AS hall",
            halls,
        )
        for at in range(0, len(pairs), ORDERS_PER_COPY):
            orders, claims = [], []
            for hall, seat in pairs[at : at + ORDERS_PER_COPY]:
                order_id = order_id_of(new_hold_id(hall))
                orders.append((order_id, hall, new_id("acc"), 1, "pending_payment", "CNY", 9_980, pay_by))
                claims += [(order_id, hall, seat, "claimed"), (order_id, hall, seat + 1, "claimed")]
            for table, columns, rows in (("orders", _ORDERS, orders), ("seat_claims", _CLAIMS, claims)):
                await connection.copy_records_to_table(
                    table, schema_name="checkout", columns=columns, records=rows
                )
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
    return HALLS * seats


@dataclass
class Phases:
    """Seconds within calls, by what was called; calls that overlap count twice."""

    seconds: dict[str, float] = field(default_factory=dict)

    def timed(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def timing(*words: Any, **more: Any) -> Any:
            began = perf_counter()
            try:
                return await call(*words, **more)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - began

        return timing


async def run(harness: Harness) -> Result:
    valkey, postgres = await harness.valkey(), await harness.postgres()
    await migrate(postgres.url)
    harness.say("selling out")
    seats = await sell_out(postgres.url, 1_000 if harness.options.quick else SEATS, harness.options.seed)
    redis, nodes, database = connect(valkey.url), Nodes(valkey.url), Database(postgres.url)
    await redis.config_set("slowlog-log-slower-than", NOTED_FROM_US)
    await redis.config_set("slowlog-max-len", 100_000)
    scripts, store = ScriptRunner(nodes), CheckoutStore(database)
    log = OrderLog(scripts, redis, consumer="nobody")
    inventory: Any = RedisInventory(scripts)
    restore = inventory.restore
    heap.settle()
    audit: dict[str, Any] = {"ok": True, "rebuilds": 0}
    longest_ms: list[float] = []

    async def lacking() -> Sequence[int]:
        return await set_back(store, log)

    async def rebuild() -> Sample:
        phases = Phases()

        async def asked(epochs: Mapping[int, int]) -> OwnersOf:
            ask: Callable[[Sequence[str]], Awaitable[Mapping[str, Sequence[Possession]]]] = await owners(
                store, log, epochs
            )
            return phases.timed("owners", ask)

        inventory.restore = phases.timed("restoring", restore)
        rebuilder = Rebuilder(
            ReservationStore(database), inventory, scripts, phases.timed("log", asked), lacking
        )
        await redis.flushall()
        await redis.slowlog_reset()
        meter = harness.meter(
            {
                "rebuild": [os.getpid()],
                "redis": [valkey.pid],
                "postgres": lambda: descendants(postgres.pid),
            }
        )
        with meter:
            rebuilt = await rebuilder.rebuild("bench")
        slow = await redis.slowlog_get(100_000)
        longest_ms.append(max((one["duration"] / 1_000 for one in slow), default=NOTED_FROM_US / 1_000))
        sold = sum([await redis.bitcount(key) async for key in redis.scan_iter("*:sold:*")])
        audit["ok"] &= rebuilt.seats_owned == sold == seats and await rebuilder.gate_is_open()
        audit["rebuilds"] += 1
        sample = meter.sample(seats, **{f"{name}_s": spent for name, spent in phases.seconds.items()})
        shown = ", ".join(f"{name} {spent:.2f} s" for name, spent in phases.seconds.items())
        cpu = ", ".join(f"{role} {spent / 1e6:.2f} s" for role, spent in sample.cpu_us.items())
        harness.say(f"{sample.seconds:.2f} s ({shown}; side by side); CPU: {cpu}; {longest_ms[-1]:.1f} ms")
        return sample

    try:
        record = await harness.in_turns({OURS: rebuild}, twice=None, rounds=3)
    finally:
        await database.close()
        await nodes.aclose()
        await redis.aclose()
    kept = record.kept(OURS)
    ratios = [
        _longest("seconds until every seat is on sale again", 10.0, [one.seconds for one in kept]),
        _longest("longest time the server is busy with one command, ms", 5.0, longest_ms),
        *(
            Ratio.of(
                f"CPU seconds: {role}",
                None,
                bootstrap([one.cpu_us[role] / 1e6 for one in kept]),
                "for information",
                len(kept),
            )
            for role in ("rebuild", "redis", "postgres")
            if kept
        ),
    ]
    return harness.result(
        "rebuild",
        QUESTION,
        "seat",
        record,
        ratios,
        notes=[
            f"{HALLS} halls, {seats:,} seats, all sold two by two, each pair to a buyer of its own.",
            "PostgreSQL, the rebuild's process and Redis work at once; with two cores they share them. Most "
            "of the process's time is reading rows and packing records.",
        ],
        audit={OURS: audit},
    )


def _longest(name: str, bound: float, values: Sequence[float]) -> Ratio:
    """A time that is promised: the longest of all rounds counts, without an interval."""
    if not values:
        return Ratio.unmeasured(name, at_most(bound), "")
    return Ratio.counted(name, at_most(bound), max(values), "the longest of all rounds")


if __name__ == "__main__":
    main(run)
