"""How long does a fan wait for a hold when the worker is busy, but not too busy?

Open loop: holds of two free seats at instants drawn beforehand (Poisson), latency counted from the
*planned* instant, so whatever stalls is paid for by everybody who would have come meanwhile. First each
contender's own maximum is found by a closed loop over as many connections; then each is asked at 70 % of
its own. The floor is the no-op POST of aiohttp at 70 % of *its* maximum, where the same queueing theory
applies to a server that does nothing. For information the no-op is also asked at the product's rate, the
stock stack at 70 % of its own, and the product at 50 and 90 %.

A block whose generator was late by more than a millisecond at p99 is void and left out. So it goes before
the engines it shares a core with, where the machine permits that.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Awaitable, Callable
from typing import Final

from bench import contenders
from bench.contenders import Contender, OurHolds, block
from bench.harness import Harness, Result, Sample, at_most, extra, main, render
from bench.open_loop import P50, P99, P999, in_ms, latencies, leave_out_late, open_block

QUESTION = "How long does a fan wait for a hold when the worker is busy?"
NO_OP = "aiohttp no-op"
STOCK = "aiohttp + redis-py, our script"
SHARE: Final = 0.70
#: Enough for everybody to ask when he wants to. A server does less over many than over a few.
CONNECTIONS: Final = 512


async def run(harness: Harness) -> Result:
    ours = await harness.ours()
    mine = await OurHolds.of(ours)
    stock = await contenders.stock(harness, ours)
    generator = await harness.generator()
    port, no_op = await harness.peer("no_op")
    nothing = harness.requests([render("POST", "/hold", body=b'{"seats":["12-41","12-42"]}')] * 2_000)
    seconds = harness.options.seconds_of(1.0)
    seeds = random.Random(harness.options.seed)

    async def no_op_most() -> float:
        load = await generator.closed(
            port, nothing, connections=CONNECTIONS, seconds=seconds / 2, repeat=True
        )
        return load.done / load.seconds

    async def most(contender: Contender) -> float:
        sample, _ = await block(harness, generator, contender, connections=CONNECTIONS, seconds=seconds / 2)
        return sample.per_second

    times = 1 if harness.options.quick else 3
    most_of = {
        "ours": statistics.median([await most(mine) for _ in range(times)]),
        STOCK: statistics.median([await most(stock) for _ in range(times)]),
        NO_OP: statistics.median([await no_op_most() for _ in range(times)]),
    }
    harness.say("  ".join(f"{name}: {rate:,.0f}/s at most" for name, rate in most_of.items()))

    async def floor(rate: float) -> Sample:
        meter = harness.meter({"worker": [no_op.pid]})
        load = await generator.open(
            port,
            nothing,
            rate=rate,
            seconds=seconds,
            connections=CONNECTIONS,
            seed=seeds.randrange(2**32),
            punctual=True,
            meter=meter,
        )
        return meter.sample(load.done, load.seconds, **latencies(load))

    async def hold(contender: Contender, rate: float) -> Sample:
        return await open_block(
            harness,
            generator,
            contender,
            rate=rate,
            seconds=seconds,
            connections=CONNECTIONS,
            seed=seeds.randrange(2**32),
        )

    our_rate = SHARE * most_of["ours"]
    blocks: dict[str, Callable[[], Awaitable[Sample]]] = {
        "ours": lambda: hold(mine, our_rate),
        NO_OP: lambda: floor(SHARE * most_of[NO_OP]),
        STOCK: lambda: hold(stock, SHARE * most_of[STOCK]),
        f"{NO_OP} at our rate": lambda: floor(our_rate),
        "ours at 50 %": lambda: hold(mine, 0.5 * most_of["ours"]),
        "ours at 90 %": lambda: hold(mine, 0.9 * most_of["ours"]),
    }
    record = await harness.in_turns(blocks)
    void = leave_out_late(record)
    p99 = extra(P99)
    ratios = [
        record.ratio(
            "p99 at 70 % of own maximum ÷ no-op's p99 there", "ours", NO_OP, of=p99, target=at_most(2)
        ),
        record.ratio("p99 ÷ no-op's p99 at our rate", "ours", f"{NO_OP} at our rate", of=p99),
        record.ratio("p99 ÷ stock's, each at 70 % of its own maximum", "ours", STOCK, of=p99),
        record.ratio("p99 at 50 % ÷ at 70 %", "ours at 50 %", "ours", of=p99),
        record.ratio("p99 at 90 % ÷ at 70 %", "ours at 90 %", "ours", of=p99),
        *in_ms(record, blocks, P50, P99, P999),
        record.control_ratio(p99, "p99"),
    ]
    return harness.result(
        "latency",
        QUESTION,
        "hold",
        record,
        ratios,
        notes=[
            f"Own maximum, by a closed loop over as many connections ({CONNECTIONS}): "
            + ", ".join(f"{name} {rate:,.0f}/s" for name, rate in most_of.items()),
            f"Blocks left out because the generator was late: {void}.",
        ],
        audit={"ours": await mine.audit(), STOCK: await stock.audit()},
    )


if __name__ == "__main__":
    main(run)
