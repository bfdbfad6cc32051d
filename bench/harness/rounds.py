"""Contenders in turns: rounds of blocks in shuffled order, paired by round.

A machine drifts; so does whatever shares it. Contenders therefore take turns in blocks of about a second,
in an order that a printed seed shuffles anew every round, and are compared within a round: what slowed the
whole round cancels out. Many short rounds and not a few long ones: what disturbs us lasts seconds, so a
block twice as long is hardly calmer, while twice as many pairs make the interval narrower. One contender,
usually ours, runs twice per round under two names: the A/A control. By as much as it does not agree with
itself nothing else is believed.

Before every block a canary sings: fixed arithmetic whose CPU time tells how fast the machine is just now. A
round counts for a pair of contenders when the machine was as fast for the one as for the other, within a
tenth. A canary is held against the best one of its own contender, because some are never idle: five
thousand viewers share the core with theirs. A block of which the host stole more than a fiftieth is dropped
for everybody. Both look at the machine only, never at the figure, and nothing is run again to replace what
is left out: that would be asking until the answer pleases.

Refused: dropping a block whose canary is off the median of all. A shared machine has two speeds, by what
its neighbour does; then the median lies between them and nothing is left, or in the one and half the rounds
go, though in most of them both blocks met the same machine.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from bench.harness.meter import Sample
from bench.harness.result import Ratio
from bench.harness.stats import Interval, Target, bootstrap, judge

Block = Callable[[], Awaitable[Sample]]
Metric = Callable[[Sample], float]

AGAIN: Final = " again"
CANARIES_APART_MAX: Final = 0.10
STOLEN_MAX: Final = 0.02


def cpu(*roles: str) -> Metric:
    """CPU microseconds per unit, of these roles or of all."""
    return lambda sample: sample.cpu_per_unit(*roles)


def seconds_per_unit(sample: Sample) -> float:
    """Time per unit: the inverse of throughput, so that it divides the same way as a cost."""
    return sample.seconds / sample.units


def extra(name: str) -> Metric:
    """A figure the bench itself put into the sample."""
    return lambda sample: sample.extra[name]


@dataclass
class Record:
    """Samples by contender and round; None where the host stole too much of a block."""

    seed: int
    rounds: int
    twice: str | None
    samples: dict[str, list[Sample | None]] = field(default_factory=dict)
    dropped: int = 0

    def kept(self, name: str) -> list[Sample]:
        """What there is of a contender."""
        return [sample for sample in self.samples[name] if sample is not None]

    def pairs(self, numerator: str, denominator: str, of: Metric) -> list[float]:
        """Ratios of the rounds in which both blocks met the same machine."""
        best_ms, other_best_ms = self._best_canary_ms(numerator), self._best_canary_ms(denominator)
        return [
            of(one) / of(other)
            for one, other in zip(self.samples[numerator], self.samples[denominator], strict=True)
            if one is not None
            and other is not None
            and _are_alike(one.canary_ms / best_ms, other.canary_ms / other_best_ms)
        ]

    def control(self, of: Metric) -> Interval | None:
        """How far the contender that ran twice agrees with itself."""
        if self.twice is None:
            return None
        pairs = self.pairs(self.twice + AGAIN, self.twice, of)
        return bootstrap(pairs) if pairs else None

    def ratio(
        self,
        name: str,
        numerator: str,
        denominator: str,
        *,
        of: Metric,
        target: Target | None = None,
        note: str = "",
    ) -> Ratio:
        """The ratio of two contenders' costs, judged.

        For "ours ÷ floor" in the sense of throughput put the floor's cost on top.
        """
        pairs = self.pairs(numerator, denominator, of)
        if not pairs:
            return Ratio.unmeasured(name, target, note)
        interval = bootstrap(pairs)
        verdict = judge(interval, target, rounds=len(pairs), control=self.control(of))
        if of is seconds_per_unit and target is not None and self._is_generator_bound(numerator, denominator):
            verdict, note = "inconclusive", f"{note} The generator was the bottleneck.".strip()
        return Ratio.of(name, target, interval, verdict, len(pairs), note)

    def control_ratio(self, of: Metric, what: str) -> Ratio:
        """The control as a row of its own. Raises ValueError without one."""
        assert self.twice is not None
        pairs = self.pairs(self.twice + AGAIN, self.twice, of)
        name = f"A/A control: {self.twice} ÷ itself, {what}"
        if not pairs:
            return Ratio.unmeasured(name, None, "")
        return Ratio.of(name, None, bootstrap(pairs), "for information", len(pairs), "")

    def median(self, name: str, of: Metric) -> float:
        """A contender's median figure; nan when nothing is left of it."""
        kept = self.kept(name)
        return statistics.median(of(sample) for sample in kept) if kept else float("nan")

    def _best_canary_ms(self, name: str) -> float:
        return min((sample.canary_ms for sample in self.kept(name)), default=1.0)

    def _is_generator_bound(self, *names: str) -> bool:
        for name in names:
            kept = self.kept(name)
            if sum(sample.generator_bound for sample in kept) * 2 > len(kept):
                return True
        return False


async def in_turns(
    blocks: Mapping[str, Block],
    *,
    rounds: int,
    seed: int,
    twice: str | None,
    drop: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> Record:
    """Run every block once per round, in shuffled order; then, unless told not to, drop what was spoiled."""
    names = [*blocks]
    runs: dict[str, Block] = dict(blocks)
    if twice is not None:
        names.append(twice + AGAIN)
        runs[twice + AGAIN] = blocks[twice]
    record = Record(seed, rounds, twice, {name: [] for name in names})
    order = random.Random(seed)
    for number in range(rounds):
        for name in order.sample(names, len(names)):
            sample = await runs[name]()
            record.samples[name].append(sample)
            say(
                f"round {number + 1}/{rounds}  {name}: {sample.cpu_per_unit():,.1f} µs of CPU, "
                f"{sample.per_second:,.0f}/s"
            )
    if drop:
        drop_stolen(record)
    return record


def drop_stolen(record: Record) -> None:
    """Take out the blocks the host stole from."""
    for samples in record.samples.values():
        for place, sample in enumerate(samples):
            if sample is not None and sample.stolen > STOLEN_MAX:
                samples[place] = None
                record.dropped += 1


def _are_alike(one: float, other: float) -> bool:
    slow, fast = max(one, other), min(one, other)
    return slow <= fast * (1 + CANARIES_APART_MAX)
