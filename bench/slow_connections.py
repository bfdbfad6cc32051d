"""How much longer does a fan wait for a hold while 2,000 others take their time?

Open loop at half of the product's own maximum (which a closed loop finds), latency counted from the planned
instant; with and without 2,000 connections that are slow on purpose, five hundred of each kind: the head of a
request a byte a second, a body a byte a second, nothing at all, and large answers that nobody reads
(`bench.harness.dawdling`). Each comes from an address of its own dozen and comes back when it is hung up on.
Before a block begins they have been there for as long as the first of them are suffered, so that what hanging
up and taking in again costs is in it.

The floor is the product itself without them, so the target is a ratio of two blocks of one round. The
instance is its own: it is told that the generator's address is that of a proxy, which has no limit, so the
slow ones, and they alone, are callers with an address.

The generator goes before the engines and the slow ones' process it shares a core with; a block in which it
was late by more than a millisecond at p99 is void.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

import orjson

from bench.contenders import OurHolds, block
from bench.harness import Harness, Ratio, Result, Sample, at_least, at_most, cpu, extra, main, render
from bench.harness.machine import peak_memory_bytes
from bench.open_loop import P50, P99, audit_of_some_unheard, in_ms, leave_out_late, open_block
from runtime.http.connection import HEADER_DEADLINE_S

QUESTION: Final = "How much longer does a fan wait for a hold while 2,000 others take their time?"
ALONE: Final = "alone"
BESIDE: Final = "beside slow ones"
KINDS: Final = ("head", "body", "silent", "unread")
SLOW: Final = 2_000
SLOW_QUICK: Final = 200
SHARE: Final = 0.5
CONNECTIONS: Final = 512
#: Of those that should be there: some are always on their way back.
THERE_MIN: Final = 0.9
#: Whoever is not answered at all is in no percentile.
NOT_GRANTED_MAX: Final = 0.001
MEMORY_MIB_MAX: Final = 512
_BODY_BYTES: Final = 2_000


async def run(harness: Harness) -> Result:
    quick = harness.options.quick
    ours = await harness.start_ours(SEATRUSH_TRUSTED_PROXIES="127.0.0.1")
    mine = await OurHolds.of(ours)
    generator, dawdlers = await harness.generator(), await harness.dawdlers()
    seconds = harness.options.seconds_of(1.0)
    seeds = random.Random(harness.options.seed)
    slow = SLOW_QUICK if quick else SLOW
    kinds = dict.fromkeys(KINDS, slow // len(KINDS))
    texts = await _texts(mine)
    found, _ = await block(harness, generator, mine, connections=CONNECTIONS, seconds=seconds)
    rate = SHARE * found.per_second
    harness.say(f"ours: {found.per_second:,.0f}/s at most")
    there: list[int] = []
    hung_up: list[int] = []

    unheard: list[float] = []

    async def alone() -> Sample:
        sample = await open_block(
            harness,
            generator,
            mine,
            rate=rate,
            seconds=seconds,
            connections=CONNECTIONS,
            seed=seeds.randrange(2**32),
            all_granted=False,
        )
        unheard.append(sample.extra["unanswered"])
        return sample

    async def beside() -> Sample:
        began_s = time.perf_counter()
        await dawdlers.come(mine.port, kinds, texts)
        try:
            suffered_s = 0.5 if quick else HEADER_DEADLINE_S
            await asyncio.sleep(max(0.0, began_s + suffered_s - time.perf_counter()))
            sample = await alone()
            counts = await dawdlers.counts()
        finally:
            await dawdlers.go()
        there.append(sum(counts["here"].values()))
        hung_up.append(sum(counts["hung_up"].values()))
        return sample

    record = await harness.in_turns({ALONE: alone, BESIDE: beside}, twice=ALONE, rounds=16)
    void = leave_out_late(record)
    p99, memory_mib = extra(P99), peak_memory_bytes(mine.worker_pids[0]) / 2**20
    ratios = [
        record.ratio(
            f"p99 beside {SLOW:,} slow connections ÷ without them", BESIDE, ALONE, of=p99, target=at_most(2)
        ),
        Ratio.counted(
            "share of the others' holds that was not granted",
            at_most(NOT_GRANTED_MAX),
            round(record.median(BESIDE, extra("not_granted")), 4),
        ),
        Ratio.counted(
            "slow connections that were there, at the least", at_least(THERE_MIN * slow), min(there)
        ),
        Ratio.counted("slow connections hung up on in a block, at the least", None, min(hung_up)),
        Ratio.counted("the worker's memory at its most, MiB", at_most(MEMORY_MIB_MAX), round(memory_mib)),
        record.ratio("CPU of the worker for a hold beside them ÷ without", BESIDE, ALONE, of=cpu("worker")),
        *in_ms(record, (ALONE, BESIDE), P50, P99),
        record.control_ratio(p99, "p99"),
    ]
    return harness.result(
        "slow_connections",
        QUESTION,
        "hold",
        record,
        ratios,
        notes=[
            f"Own maximum, by a closed loop over {CONNECTIONS} connections: {found.per_second:,.0f}/s; asked "
            f"at {SHARE:.0%} of it, beside {slow:,} slow connections.",
            f"Blocks left out because the generator was late: {void}.",
        ],
        audit={"ours": await audit_of_some_unheard(ours, mine, 2 * int(sum(unheard)))},
    )


async def _texts(mine: OurHolds) -> dict[str, bytes]:
    """What the slow ones ask; more than any of them has the time to send."""
    (showtime_id,) = await mine.showtimes(1)
    path = f"/api/v1/showtimes/{showtime_id}"
    hold = mine.render(showtime_id, ["1-1", "1-2"])
    head, _, _ = hold.partition(b"\r\n\r\n")
    padded = orjson.dumps({"seats": ["1-1", "1-2"], "padding": "x" * _BODY_BYTES})
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    whole = b"\r\n".join([*lines, b"Content-Length: %d" % len(padded)]) + b"\r\n\r\n" + padded
    return {
        "head": render("GET", f"{path}/seats", headers={"X-Padding": "x" * _BODY_BYTES}),
        "body": whole,
        "unread": render("GET", f"{path}/layout"),
    }


if __name__ == "__main__":
    main(run)
