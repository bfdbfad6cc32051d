"""What does a look at a seat map cost while the seats go?

A hall of 2,500 seats, 64 readers that ask again as soon as they are answered, and 2,000 holds a second on
the very same worker, at planned instants, spread over a few such halls so that they last: the map that is
looked at changes many times between two ticks. The floor is aiohttp answering a body of the same size made
beforehand, with 2,000 no-op POSTs a second beside it: what serving bytes costs in this house.

A block has two parts: the holds (or no-ops) alone, then the same with readers. What the first part cost per
second is taken off the second, and the rest divided by the reads. Redis commands per read are the slope
between one reader and 64 in as many seconds: what is read by time does not grow with readers.

How old an answer may be is asked by somebody else's hold: one taken behind the worker's back, straight in
Redis, and looked for over HTTP until it shows.
"""

from __future__ import annotations

import asyncio
import random
import time
from base64 import b64decode
from typing import Final

import aiohttp
import orjson

from bench import contenders
from bench.harness import (
    Generator,
    Harness,
    Meter,
    Ours,
    Ratio,
    Result,
    Sample,
    at_least,
    at_most,
    extra,
    hall,
    main,
    parties,
    render,
)
from bench.harness.meter import Pids
from bench.harness.stats import quantile
from bench.worker_commands import commands_sent
from kernel.ids import new_hold_id
from reservation import plane_of

QUESTION = "What does a look at a seat map cost while the seats go?"
FLOOR = "static body of the same size"
HOLDS_PER_S: Final = 2_000
LOOKS: Final = 200
PER_READ = "cpu_us_per_read"


class Looking:
    """Reads of one address while holds arrive at planned instants at another."""

    def __init__(self, harness: Harness, readers: Generator, holders: Generator) -> None:
        self._harness = harness
        self._readers = readers
        self._holders = holders
        self.seconds = harness.options.seconds_of(1.0)

    @property
    def holds(self) -> int:
        """How many requests a part of a block needs at most."""
        return int(HOLDS_PER_S * self.seconds * 1.2) + 200

    async def block(
        self, port: int, pids: Pids, look: bytes, holds: list[bytes], connections: int
    ) -> tuple[Sample, int]:
        """Holds alone, then with readers: the sample is of the second part, its extra the CPU of a read.

        The number is of holds granted in both.
        """
        alone = self._harness.meter({"worker": pids})
        granted = await self._hold(port, holds[: self.holds], alone)
        beside = alone.sample(1)
        together = self._harness.meter({"worker": pids})
        holding = asyncio.create_task(self._hold(port, holds[self.holds :], None))
        await asyncio.sleep(0.05)
        load = await self._readers.closed(
            port,
            self._harness.requests([look] * 1_000),
            connections=connections,
            seconds=self.seconds * 0.9,
            repeat=True,
            meter=together,
        )
        granted += await holding
        whole = together.sample(load.of(200), load.seconds)
        per_read = whole.cpu_us["worker"] - beside.cpu_us["worker"] / beside.seconds * load.seconds
        return together.sample(load.of(200), load.seconds, **{PER_READ: per_read / load.of(200)}), granted

    async def _hold(self, port: int, holds: list[bytes], meter: Meter | None) -> int:
        load = await self._holders.open(
            port,
            self._harness.requests(holds),
            rate=HOLDS_PER_S,
            seconds=self.seconds,
            seed=self._harness.options.seed,
            connections=64,
            meter=meter,
        )
        if load.of(201) < load.planned:
            raise RuntimeError(f"holds were answered {dict(load.statuses)}")
        return load.of(201)


async def run(harness: Harness) -> Result:
    ours = await harness.ours()
    mine = await contenders.OurHolds.of(ours, hall(125, 20))
    looking = Looking(harness, await harness.generator(), await harness.generator())
    size = len(await _body(ours, (await mine.showtimes(1))[0]))
    port, static = await harness.peer("no_op", SIZE=str(size))
    nothing = [render("POST", "/hold", body=b'{"seats":["12-41","12-42"]}')] * (2 * looking.holds)
    sent_for: dict[int, tuple[int, int]] = {}

    async def look(connections: int) -> Sample:
        pairs = parties(mine.layout, 2)
        ids = await mine.showtimes(-(-2 * looking.holds // len(pairs)))
        places = [(one, pair) for one in ids for pair in pairs]
        random.Random(harness.options.seed).shuffle(places)
        holds = [mine.render(*place) for place in places]
        request = render("GET", f"/api/v1/showtimes/{ids[0]}/seats")
        before = await commands_sent(ours.port, mine.worker_pids)
        sample, granted = await looking.block(ours.port, mine.worker_pids, request, holds, connections)
        sent = await commands_sent(ours.port, mine.worker_pids) - before
        mine.tally.seats += 2 * granted
        sent_for[connections] = sent - granted, sample.units
        return sample

    async def floor() -> Sample:
        sample, _ = await looking.block(port, [static.pid], render("GET", "/static"), nothing, 64)
        return sample

    record = await harness.in_turns(
        {"ours": lambda: look(64), "ours, one reader": lambda: look(1), FLOOR: floor}
    )
    few, many = sent_for[1], sent_for[64]
    per_read = (many[0] - few[0]) / max(1, many[1] - few[1])
    staleness = await _staleness_ms(ours, mine)
    ratios = [
        record.ratio("map read ÷ static body", FLOOR, "ours", of=extra(PER_READ), target=at_least(0.95)),
        Ratio.counted(
            "Redis commands per read",
            at_most(0),
            max(0.0, round(per_read, 3)),
            f"besides the holds' own: {few[0]:,} for {few[1]:,} reads, {many[0]:,} for {many[1]:,}",
        ),
        Ratio.counted("somebody else's hold shows after, ms (p50)", None, quantile(staleness, 0.50)),
        Ratio.counted("somebody else's hold shows after, ms (p99)", None, quantile(staleness, 0.99)),
        record.control_ratio(extra(PER_READ), "CPU per read"),
    ]
    return harness.result(
        "map_reads",
        QUESTION,
        "read, with the holds beside it",
        record,
        ratios,
        notes=[f"The body has {size:,} bytes; ours sends an ETag and Cache-Control besides."],
        audit={"ours": await mine.audit()},
    )


async def _body(ours: Ours, showtime_id: str) -> bytes:
    url = f"http://127.0.0.1:{ours.port}/api/v1/showtimes/{showtime_id}/seats"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.read()


async def _staleness_ms(ours: Ours, mine: contenders.OurHolds) -> list[float]:
    """How long holds of another process take to show, one after the other, ordered."""
    (showtime_id,) = await mine.showtimes(1)
    url = f"http://127.0.0.1:{ours.port}/api/v1/showtimes/{showtime_id}/seats"
    found = []
    async with aiohttp.ClientSession() as session:
        for seat in range(LOOKS):
            await ours.platform.inventory.hold(
                showtime_id, new_hold_id(showtime_id), f"acc_{seat:026d}", [seat], ttl_ms=480_000
            )
            began = time.perf_counter()
            wanted = plane_of([seat], mine.layout.seat_count)
            while True:
                async with session.get(url) as answer:
                    taken = b64decode(orjson.loads(await answer.read())["taken"])
                if any(one & other for one, other in zip(taken, wanted, strict=True)):
                    break
            found.append(round((time.perf_counter() - began) * 1_000, 2))
    mine.tally.seats += LOOKS
    return sorted(found)


if __name__ == "__main__":
    main(run)
