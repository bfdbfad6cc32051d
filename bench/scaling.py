"""How does the cost of a hold grow: with the party, the hall, the connections, the showtimes, the viewers?

For each axis the CPU of a hold (or of an update of the live map, for viewers) at points that are far apart,
in shuffled rounds as everywhere. The slope is the exponent b of cost ~ xᵇ, fitted on logarithms round by
round, with a bootstrap interval: 0 is flat, 1 is in proportion. What is expected stands beside it in the
notes. The stock stack stands beside ours on the axis where the designs part: connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import aiohttp

from bench import contenders
from bench.contenders import Contender, OurHolds, PeerHolds, requests_for
from bench.harness import (
    Curve,
    Harness,
    Ours,
    Ratio,
    Record,
    Result,
    Sample,
    Target,
    at_most,
    bootstrap,
    cpu,
    hall,
    main,
    slope,
)
from bench.harness.stats import judge_slope
from kernel.ids import new_hold_id
from reservation import OrphanRule

QUESTION = "How does the cost of a hold grow?"
OURS, STOCK = "ours", "aiohttp + redis-py, our script"
SECONDS: Final = 0.5
ROUNDS: Final = 8
UPDATES_PER_S: Final = 10
_HALL: Final = (500, 20)
_SMALL_HALL: Final = (50, 20)


@dataclass(frozen=True, slots=True)
class Axis:
    """What is varied, over which values, for whom, and what is expected of it."""

    values: Sequence[int]
    series: Sequence[str]
    y: str
    expected: str
    target: Target | None = None


AXES: Final[Mapping[str, Axis]] = {
    "seats of the party": Axis((1, 2, 4, 8, 10), (OURS,), "CPU per hold, µs", "a base and a little per seat"),
    "seats of the hall": Axis(
        (100, 1_000, 10_000, 60_000),
        (OURS,),
        "CPU per hold, µs",
        "flat: only touched bytes are read",
        at_most(0.03),
    ),
    "connections": Axis(
        (1, 8, 64, 512),
        (OURS, STOCK),
        "CPU per hold, µs",
        "falls, as more commands share a write, then flat",
        at_most(0.0),
    ),
    "showtimes on sale at once": Axis(
        (1, 10, 100, 1_000),
        (OURS,),
        "CPU per hold, µs",
        "nearly flat; every watched map is read by time",
        at_most(0.15),
    ),
    "viewers": Axis(
        (100, 500, 2_000, 5_000),
        (OURS,),
        "CPU of the worker per event and viewer, µs",
        "falls to what one send costs, as the fixed part (reads by time) is shared by more",
        at_most(0.0),
    ),
}


@dataclass(frozen=True, slots=True)
class Point:
    """One block: a value on an axis, for one contender."""

    axis: str
    series: str
    value: int

    def __str__(self) -> str:
        return f"{self.axis} {self.value:,}, {self.series}"


class Crowd:
    """Everything the points need, started once."""

    def __init__(self, harness: Harness, ours: Ours) -> None:
        self.harness = harness
        self.ours = ours
        self.holders: dict[tuple[tuple[int, int], OrphanRule], OurHolds] = {}
        self.watched = OurHolds(ours, hall(125, 20), [])
        self.stock: PeerHolds

    async def start(self) -> Crowd:
        self.generator = await self.harness.generator()
        self.viewers = await self.harness.viewers()
        self.stock = await contenders.stock(self.harness, self.ours)
        self.tokens = await self.ours.tokens(contenders.FANS)
        return self

    def holder(self, shape: tuple[int, int] = _HALL, rule: OrphanRule = "lenient") -> OurHolds:
        """The product selling a hall of that shape under that rule."""
        if (shape, rule) not in self.holders:
            self.holders[shape, rule] = OurHolds(self.ours, hall(*shape), self.tokens, rule)
        return self.holders[shape, rule]

    async def block(self, point: Point) -> Sample:
        """The block of a point."""
        match point.axis:
            case "seats of the party":
                # Somebody alone leaves somebody alone: the orphan rule is off on this axis.
                return await self._holds(self.holder(rule="off"), party=point.value)
            case "seats of the hall":
                shapes = {100: (5, 20), 1_000: _SMALL_HALL, 10_000: _HALL, 60_000: (3_000, 20)}
                return await self._holds(self.holder(shapes[point.value]))
            case "connections":
                contender: Contender = self.holder() if point.series == OURS else self.stock
                return await self._holds(contender, connections=point.value)
            case "showtimes on sale at once":
                return await self._holds(self.holder(_SMALL_HALL), showtimes=point.value)
            case _:
                return await self._updates(point.value)

    async def _holds(
        self, contender: Contender, *, party: int = 2, connections: int = 64, showtimes: int = 1
    ) -> Sample:
        seconds = self.harness.options.seconds_of(SECONDS)
        requests = await requests_for(
            self.harness, contender, int(20_000 * seconds), party, showtimes=showtimes
        )
        if showtimes > 1:
            await self._visit(contender.tally.showtime_ids[-showtimes:])
        meter = self.harness.meter(contender.roles())
        load = await self.generator.closed(
            contender.port, requests, connections=connections, seconds=seconds, meter=meter
        )
        requests.path.unlink()
        granted = load.of(201)
        contender.tally.seats += party * (granted + load.warmed.get("201", 0))
        if granted < load.done:
            raise RuntimeError(f"{contender.name} refused what was free: {dict(load.statuses)}")
        return meter.sample(granted, load.seconds)

    async def _visit(self, showtime_ids: Sequence[str]) -> None:
        """Look at each once, so that its terms are known: what a first visit costs is not asked here."""
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.ours.port}") as session:
            for showtime_id in showtime_ids:
                async with session.get(f"/api/v1/showtimes/{showtime_id}/seats") as answer:
                    await answer.read()

    async def _updates(self, viewers: int) -> Sample:
        updates = 5 if self.harness.options.quick else 20
        (showtime_id,) = await self.watched.showtimes(1)
        await self.viewers.come(self.ours.port, f"/api/v1/showtimes/{showtime_id}/events", viewers)
        before = (await self.viewers.counts())["events"]
        meter = self.harness.meter({"worker": self.watched.worker_pids})
        with meter:
            for number in range(updates):
                pair = (2 * number, 2 * number + 1)
                await self.ours.platform.inventory.hold(
                    showtime_id, new_hold_id(showtime_id), f"acc_{number:026d}", pair, ttl_ms=480_000
                )
                await asyncio.sleep(1 / UPDATES_PER_S)
            await asyncio.sleep(0.2)  # what is conflated now is still sent
        self.watched.tally.seats += 2 * updates
        heard = await self.viewers.counts()
        await self.viewers.go()
        if heard["lost"] or heard["events"] - before < viewers:
            raise RuntimeError(f"{viewers} viewers heard {heard} of {updates} updates")
        await asyncio.sleep(0.2)  # the worker notices that they are gone
        return meter.sample(heard["events"] - before)

    async def audit(self) -> dict[str, dict[str, Any]]:
        """Of everybody who sold or was sold from."""
        audits = {STOCK: await self.stock.audit()}
        whole = OurHolds(self.ours, hall(1, 2), [])
        for one in [*self.holders.values(), self.watched]:
            whole.tally.seats += one.tally.seats
            whole.tally.showtime_ids += one.tally.showtime_ids
        return {OURS: await whole.audit(), **audits}


async def run(harness: Harness) -> Result:
    crowd = await Crowd(harness, await harness.ours()).start()
    points = [
        Point(name, series, value)
        for name, axis in AXES.items()
        for series in axis.series
        for value in (axis.values[:: len(axis.values) - 1] if harness.options.quick else axis.values)
    ]
    blocks: dict[str, Callable[[], Awaitable[Sample]]] = {
        str(point): partial(crowd.block, point) for point in points
    }
    twice = next(str(point) for point in points if point.axis == "seats of the party" and point.value != 2)
    record = await harness.in_turns(blocks, twice=twice, rounds=ROUNDS)
    ratios = [
        slope_of(record, name, series, axis, points) for name, axis in AXES.items() for series in axis.series
    ]
    ratios.append(record.control_ratio(cpu(), "CPU of all processes"))
    return harness.result(
        "scaling",
        QUESTION,
        "hold",
        record,
        ratios,
        curves=[curve_of(record, name, axis, points) for name, axis in AXES.items()],
        notes=[f"Expected over {name}: {axis.expected}." for name, axis in AXES.items()],
        audit=await crowd.audit(),
    )


def slope_of(record: Record, name: str, series: str, axis: Axis, points: Sequence[Point]) -> Ratio:
    """The exponent of an axis, from the slope of each round that has all its points."""
    row = [point for point in points if point.axis == name and point.series == series]
    slopes = []
    for number in range(record.rounds):
        samples = [record.samples[str(point)][number] for point in row]
        costs = [
            (float(point.value), sample.cpu_per_unit())
            for point, sample in zip(row, samples, strict=True)
            if sample is not None
        ]
        if len(costs) == len(row):
            slopes.append(slope(costs))
    title = f"slope over {name}, {series}"
    target = axis.target if series == OURS else None
    if not slopes:
        return Ratio.unmeasured(title, target, axis.expected)
    interval = bootstrap(slopes)
    verdict = judge_slope(interval, target, rounds=len(slopes), control=record.control(cpu()))
    return Ratio.of(title, target, interval, verdict, len(slopes), axis.expected)


def curve_of(record: Record, name: str, axis: Axis, points: Sequence[Point]) -> Curve:
    """The points of an axis, to be drawn."""
    drawn: dict[str, list[tuple[float, float, float, float]]] = {series: [] for series in axis.series}
    for point in points:
        kept = record.kept(str(point)) if point.axis == name else []
        if kept:
            interval = bootstrap([sample.cpu_per_unit() for sample in kept])
            median, low, high = (
                float(f"{value:.4g}") for value in (interval.median, interval.low, interval.high)
            )
            drawn[point.series].append((float(point.value), median, low, high))
    return Curve(name=name, x=name, y=axis.y, points=drawn)


if __name__ == "__main__":
    main(run)
