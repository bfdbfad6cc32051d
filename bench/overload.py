"""How many seats are still held when three or five times as many fans come as can be served?

Open loop: after a second of calm a flood of holds is planned at three or five times the product's own peak
(which a closed loop finds), over thousands of connections, whatever becomes of the earlier ones. Beside it,
from before the flood until after it, steady callers on connections of their own ask at a fifth of the peak.

Goodput is what was granted to anybody while the flood lasted, against the peak: a server that spends its
time on refusals grants little. Recovery is the time after the flood until the steady callers' p99 is within
twice the calm one's, and stays there. How much was turned away stands beside it, the most memory the worker
had, and how long a refusal took from when it was asked for: telling somebody "not now" has to be quick.

The floor is the no-op POST in a closed loop, over 64 connections and over as many as the flood has: what a
server that does nothing loses when every request finds another connection's memory in the caches.

A hold may be granted to somebody who has hung up: what the store says is taken lies between what was
granted and that plus what was never answered. Generators and engines share a core; where the generator
was late, which its lag says, fewer came at a time.
"""

from __future__ import annotations

import asyncio
import statistics
from functools import partial
from typing import Any, Final

from bench.contenders import OurHolds, block, requests_for
from bench.harness import (
    Harness,
    Load,
    Ratio,
    Record,
    Result,
    Sample,
    at_least,
    at_most,
    cpu,
    extra,
    main,
    render,
)
from bench.harness.machine import forget_peak_memory, peak_memory_bytes
from bench.harness.rounds import seconds_per_unit
from bench.open_loop import audit_of_some_unheard

QUESTION = "How many seats are still held when three or five times as many fans come as can be served?"
#: The floods, and what of the peak is to be left of each.
FLOODS: Final = {3.0: 0.80, 5.0: 0.92}
REFUSAL_MS_MAX: Final = 50.0
MEMORY_MIB_MAX: Final = 512
NO_OP: Final = "aiohttp no-op"
STEADY_SHARE: Final = 0.2
CONNECTIONS: Final = 2_000
STEADY_CONNECTIONS: Final = 1_000  # enough for everybody to ask when he wants to, however long answers take
SLICE_S: Final = 0.1
CALM_S: Final = 1.0
AFTER_S: Final = 3.0
RECOVERY_S_MAX: Final = {3.0: AFTER_S, 5.0: 1.0}  # ten seconds would do for the first; nobody looks that long
BACK_TO_NORMAL: Final = 2.0


async def run(harness: Harness) -> Result:
    ours = await harness.ours()
    mine = await OurHolds.of(ours)
    flooding, steady = await harness.generator(), await harness.generator()
    peak_s, flood_s = harness.options.seconds_of(1.0), harness.options.seconds_of(4.0)

    async def peak() -> Sample:
        sample, _ = await block(harness, flooding, mine, seconds=peak_s)
        return sample

    found = [(await peak()).per_second for _ in range(1 if harness.options.quick else 3)]
    rate = statistics.median(found)
    harness.say(f"ours: {rate:,.0f}/s at most")
    port, no_op = await harness.peer("no_op")
    nothing_asked = harness.requests([render("POST", "/hold", body=b'{"seats":["12-41","12-42"]}')] * 2_000)
    steady_s = CALM_S + flood_s + AFTER_S
    unheard: list[int] = []
    for pid in mine.worker_pids:
        forget_peak_memory(pid)

    async def flood(times: float) -> Sample:
        calm_rate, flood_rate = STEADY_SHARE * rate, (times - STEADY_SHARE) * rate
        many = await requests_for(harness, mine, int(flood_rate * flood_s * 1.05) + 500, 2)
        few = await requests_for(harness, mine, int(calm_rate * steady_s * 1.05) + 500, 2)
        meter, beside = harness.meter(mine.roles()), harness.meter({})
        seed = harness.options.seed
        callers = asyncio.create_task(
            steady.open(
                mine.port,
                few,
                rate=calm_rate,
                seconds=steady_s,
                seed=seed,
                connections=STEADY_CONNECTIONS,
                slice_s=SLICE_S,
                meter=beside,
            )
        )
        while not beside.began_at_s:  # noqa: ASYNC110 (a moment; the meter knows nothing of events)
            await asyncio.sleep(0.01)
        await asyncio.sleep(CALM_S)
        storm = await flooding.open(
            mine.port,
            many,
            rate=flood_rate,
            seconds=flood_s,
            seed=seed + 1,
            connections=CONNECTIONS,
            slice_s=SLICE_S,
            leaves=True,
            meter=meter,
        )
        calm = await callers
        begins_s = meter.began_at_s - beside.began_at_s
        mine.tally.seats += 2 * (storm.of(201) + calm.of(201))
        unanswered = storm.unanswered + calm.unanswered + storm.failed + calm.failed
        unheard.append(unanswered)
        for requests in (many, few):
            requests.path.unlink()
        return meter.sample(
            storm.in_time.get("201", 0) + granted_between(calm, begins_s, begins_s + flood_s),
            flood_s,
            recovery_s=recovery_s(calm, begins_s, begins_s + flood_s),
            shed_share=storm.of(503) / max(1, storm.done),
            refusal_ms=max(one.refused_us.get("p99", 0.0) for one in (storm, calm)) / 1_000,
            unanswered=unanswered,
            lag_p99_ms=storm.lag_us["p99"] / 1_000,
        )

    async def nothing(connections: int) -> Sample:
        meter = harness.meter({"worker": [no_op.pid]})
        load = await flooding.closed(
            port, nothing_asked, connections=connections, seconds=peak_s, repeat=True, meter=meter
        )
        return meter.sample(load.done, load.seconds)

    few, many = (f"{NO_OP}, {connections:,} connections" for connections in (64, CONNECTIONS))
    blocks = {
        "peak": peak,
        **{_name(times): partial(flood, times) for times in FLOODS},
        few: lambda: nothing(64),
        many: lambda: nothing(CONNECTIONS),
    }
    record = await harness.in_turns(blocks, twice="peak", rounds=6)
    memory_mib = max(map(peak_memory_bytes, mine.worker_pids)) / 2**20
    ratios = [
        *(one for times in FLOODS for one in _figures(record, times)),
        Ratio.counted("the worker's memory at its most, MiB", at_most(MEMORY_MIB_MAX), round(memory_mib)),
        record.ratio(
            f"no-op POST over {CONNECTIONS:,} connections ÷ over 64, CPU", few, many, of=cpu("worker")
        ),
        record.control_ratio(seconds_per_unit, "holds a second"),
    ]
    return harness.result(
        "overload",
        QUESTION,
        "hold",
        record,
        ratios,
        notes=[
            f"Own peak, by a closed loop of 64 connections: {rate:,.0f}/s; a flood is so many times that "
            f"over {CONNECTIONS:,} connections for {flood_s:g} s.",
            "Nobody is turned away as long as a turn of the loop takes less than its limit: with one request "
            "a connection on its way, the number of connections bounds the queue, and everybody is answered "
            "within half a second. Who is never answered has found no connection.",
            "What bounds it is memory: a hold costs more the more of them are in flight, because each finds "
            "its connection, its coroutine and its objects cold. Tried, and kept: no look of the garbage "
            "collector at requests in flight (a third of all CPU before). Tried without gain: letting only "
            "32, 128 or 512 requests begin at a time while the rest wait as bytes.",
        ],
        audit={"ours": await audit_of_some_unheard(ours, mine, 2 * sum(unheard))},
    )


def _name(times: float) -> str:
    return f"flood of {times:g} times the peak"


def _figures(record: Record, times: float) -> list[Ratio]:
    """What one flood came to."""
    name = _name(times)
    refusal_ms = round(record.median(name, extra("refusal_ms")), 3)
    return [
        record.ratio(
            f"goodput at {times:g}× overload ÷ own peak",
            "peak",
            name,
            of=seconds_per_unit,
            target=at_least(FLOODS[times]),
        ),
        Ratio.counted(
            f"recovery after {times:g}× in seconds",
            at_most(RECOVERY_S_MAX[times]),
            round(record.median(name, extra("recovery_s")), 2),
        ),
        Ratio.counted(
            f"p99 of a refusal at {times:g}× in ms",
            at_most(REFUSAL_MS_MAX),
            refusal_ms,
            "" if refusal_ms else "nobody was refused",
        ),
        *(
            Ratio.counted(f"{what} at {times:g}×", None, round(record.median(name, extra(key)), 3))
            for what, key in (
                ("share of the flood that was turned away", "shed_share"),
                ("asked and never answered", "unanswered"),
                ("lag of the generator at p99 in ms", "lag_p99_ms"),
            )
        ),
    ]


def granted_between(load: Load, begin_s: float, end_s: float) -> int:
    """Holds granted of those planned within."""
    inside = (one for one in load.slices if begin_s <= one["at_s"] < end_s)
    return sum(one["statuses"].get("201", 0) for one in inside)


def recovery_s(load: Load, begin_s: float, end_s: float) -> float:
    """How long after `end_s` the last slow slice ended; infinite if that was the last of all.

    Slow: a p99 above twice the calm median, or anything but a hold granted.
    """
    calm = [one["latency_us"]["p99"] for one in load.slices if one["at_s"] + SLICE_S <= begin_s]
    limit_us = BACK_TO_NORMAL * statistics.median(calm)
    after = [one for one in load.slices if one["at_s"] >= end_s]
    slow = [one["at_s"] for one in after if is_slow(one, limit_us)]
    if not slow:
        return 0.0
    return float("inf") if slow[-1] == after[-1]["at_s"] else slow[-1] + SLICE_S - end_s


def is_slow(one: dict[str, Any], limit_us: float) -> bool:
    """Whether a slice is not yet back to normal."""
    answered = sum(one["statuses"].values())
    granted: int = one["statuses"].get("201", 0)
    return granted < answered or one["latency_us"].get("p99", float("inf")) > limit_us


if __name__ == "__main__":
    main(run)
