"""Holds at planned instants: a block of them for any contender, and which blocks mean nothing.

Shared by the benches that ask how long somebody waits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

from bench.contenders import Contender, OurHolds, requests_for
from bench.harness import Generator, Harness, Load, Ours, Ratio, Record, Sample, extra
from bench.peers.scripts import seats_taken

P50: Final = "p50_us"
P99: Final = "p99_us"
P999: Final = "p999_us"
_QUANTILES: Final = {P50: "p50", P99: "p99", P999: "p99.9"}


async def open_block(
    harness: Harness,
    generator: Generator,
    contender: Contender,
    *,
    rate: float,
    seconds: float,
    connections: int,
    seed: int,
    all_granted: bool = True,
) -> Sample:
    """Hold two free seats at this rate.

    Raises RuntimeError when one was refused: what waits for a refusal is another question. Without
    `all_granted` the share of those planned that were not granted stands in the sample as `not_granted`.
    """
    requests = await requests_for(harness, contender, int(rate * seconds * 1.05) + 500, 2)
    meter = harness.meter({"worker": contender.worker_pids})
    load = await generator.open(
        contender.port,
        requests,
        rate=rate,
        seconds=seconds,
        connections=connections,
        seed=seed,
        punctual=True,
        meter=meter,
    )
    granted = load.of(201)
    if all_granted and granted < load.done:
        raise RuntimeError(f"{contender.name} answered {dict(load.statuses)}")
    contender.tally.seats += 2 * granted
    requests.path.unlink()
    not_granted = 1 - granted / load.planned
    return meter.sample(max(1, load.done), load.seconds, **latencies(load), not_granted=not_granted)


def in_ms(record: Record, names: Iterable[str], *quantiles: str) -> Iterator[Ratio]:
    """How long people waited, for reading: the median over the blocks of each contender that has some."""
    for name in names:
        for key in quantiles if record.kept(name) else ():
            waited_ms = round(record.median(name, extra(key)) / 1_000, 2)
            yield Ratio.counted(f"{name}, {_QUANTILES[key]} in ms", None, waited_ms)


def latencies(load: Load) -> dict[str, float]:
    """What a sample of such a block says beside its CPU; nobody answered: it took for ever."""
    return {
        P50: load.latency_us.get("p50", math.inf),
        P99: load.latency_us.get("p99", math.inf),
        P999: load.latency_us.get("p999", math.inf),
        "lag_p99_us": load.lag_us["p99"],
        "unanswered": load.unanswered,
        "late": float(load.late),
    }


def leave_out_late(record: Record) -> int:
    """Take out the blocks in which the generator itself was late; the answer says how many."""
    void = 0
    for samples in record.samples.values():
        for place, sample in enumerate(samples):
            if sample is not None and sample.extra["late"]:
                samples[place] = None
                void += 1
    return void


async def audit_of_some_unheard(ours: Ours, mine: OurHolds, seats_unheard_max: int) -> dict[str, Any]:
    """What `seatrush audit` says, and whether the seats taken are those granted, heard of or not."""
    report = await ours.audit()
    taken = await seats_taken(ours.redis_url, mine.tally.showtime_ids)
    granted = mine.tally.seats
    return {
        "ok": report["ok"] and granted <= taken <= granted + seats_unheard_max,
        "broken": report["broken"],
        "seats_granted": granted,
        "seats_taken": taken,
    }
