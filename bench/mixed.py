"""How many holds are left when 5,000 people watch the map?

Closed-loop holds of two free seats on one worker, without viewers and with 5,000 live connections (SSE) to
the same worker, whose map changes about once a second. The viewers look at a hall of their own, so that how
often it changes is set here and not by the load; the worker writes every change to every viewer between the
holds it answers. What is judged is holds per worker second: CPU of the worker per hold, with and without.
How many events the viewers got is counted by them.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from bench.contenders import OurHolds, block
from bench.harness import Harness, Ratio, Result, Sample, at_least, cpu, hall, main, seconds_per_unit
from bench.peers.scripts import seats_taken
from kernel.ids import new_hold_id

QUESTION = "How many holds are left when 5,000 people watch the map?"
ALONE, WATCHED = "without viewers", "with 5,000 viewers"


async def run(harness: Harness) -> Result:
    ours = await harness.ours()
    mine = await OurHolds.of(ours)
    watched = OurHolds(ours, hall(125, 20), [])
    generator = await harness.generator()
    viewers = await harness.viewers()
    count = 500 if harness.options.quick else 5_000
    seconds = max(1.2, harness.options.seconds_of(3.0))

    async def change(showtime_id: str, over: asyncio.Event) -> None:
        """A hold a second, straight in Redis: somebody else's."""
        for first in range(0, watched.layout.seat_count, 2):
            await ours.platform.inventory.hold(
                showtime_id, new_hold_id(showtime_id), f"acc_{first:026d}", (first, first + 1), ttl_ms=480_000
            )
            watched.tally.seats += 2
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), 1.0)
                return

    async def with_viewers() -> Sample:
        (showtime_id,) = await watched.showtimes(1)
        await viewers.come(ours.port, f"/api/v1/showtimes/{showtime_id}/events", count)
        over = asyncio.Event()
        changing = asyncio.create_task(change(showtime_id, over))
        before = await viewers.counts()
        try:
            sample, _ = await block(harness, generator, mine, seconds=seconds)
            after = await viewers.counts()
        finally:
            over.set()
            await changing
            await viewers.go()
        if after["lost"]:
            raise RuntimeError(f"{after['lost']} viewers were cut off")
        await asyncio.sleep(0.3)  # the worker notices that they are gone
        events = (after["events"] - before["events"]) / count
        return Sample(
            **{
                **{name: getattr(sample, name) for name in Sample.__slots__},
                "extra": {"events_per_viewer": events},
            }
        )

    async def alone() -> Sample:
        sample, _ = await block(harness, generator, mine, seconds=seconds)
        return sample

    record = await harness.in_turns({ALONE: alone, WATCHED: with_viewers}, twice=ALONE, rounds=8)
    worker = cpu("worker")
    ratios = [
        record.ratio("holds kept, CPU of the worker", ALONE, WATCHED, of=worker, target=at_least(0.93)),
        record.ratio("holds kept, throughput", ALONE, WATCHED, of=seconds_per_unit),
        record.control_ratio(worker, "CPU of the worker"),
    ]
    kept = record.kept(WATCHED)
    if kept:
        per_second = [sample.extra["events_per_viewer"] / sample.seconds for sample in kept]
        ratios.append(
            Ratio.counted("events per viewer and second", None, round(sum(per_second) / len(per_second), 2))
        )
    watched_audit = await seats_taken(ours.redis_url, watched.tally.showtime_ids)
    return harness.result(
        "mixed",
        QUESTION,
        "hold",
        record,
        ratios,
        notes=[f"{count:,} viewers on one machine with everything else; they share the generator's cores."],
        audit={"ours": await mine.audit(), "watched hall": watched.tally.against(watched_audit)},
    )


if __name__ == "__main__":
    main(run)
