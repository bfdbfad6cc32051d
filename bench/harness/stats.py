"""From numbers to a judgement: medians, bootstrap intervals, slopes, verdicts.

One rule carries the rest: **the worse end of the interval is judged**, not the middle. A target "at least
0.80" is met when even the low end of the 95 % interval reaches 0.80. And where the same contender measured
twice (the A/A control) does not agree with itself within 5 %, or too few rounds are left, nothing is
judged at all: the answer is "inconclusive", whatever the median says.

The bootstrap draws rounds with replacement, by a fixed seed: the same samples give the same interval.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Verdict = Literal["met", "missed", "inconclusive", "for information"]
Direction = Literal["at least", "at most"]

CONTROL_WIDTH_MAX: Final = 0.05  # of the A/A control, either way
ROUNDS_MIN: Final = 5  # fewer pairs say nothing about the spread
_DRAWS: Final = 4_000


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be reached."""

    direction: Direction
    bound: float

    def holds(self, low: float, high: float) -> bool:
        """Whether the worse end of an interval reaches it."""
        return low >= self.bound if self.direction == "at least" else high <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.direction == 'at least' else '≤'} {self.bound:.3g}"


def at_least(bound: float) -> Target:
    return Target("at least", bound)


def at_most(bound: float) -> Target:
    return Target("at most", bound)


@dataclass(frozen=True, slots=True)
class Interval:
    """A median with its 95 % interval."""

    median: float
    low: float
    high: float


def bootstrap(
    values: Sequence[float], statistic: Callable[[Sequence[float]], float] = statistics.median, seed: int = 1
) -> Interval:
    """The statistic of the values with its 95 % bootstrap interval.

    Raises ValueError without values.
    """
    if not values:
        raise ValueError("no values, no interval")
    draw = random.Random(seed)
    found = sorted(statistic(draw.choices(values, k=len(values))) for _ in range(_DRAWS))
    return Interval(statistic(values), quantile(found, 0.025), quantile(found, 0.975))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which that share of the ordered values lies (nearest rank)."""
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The exponent b of y ~ x^b, by least squares on logarithms: 0 is flat, 1 is in proportion."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    mean_x = statistics.fmean(x for x, _ in logs)
    mean_y = statistics.fmean(y for _, y in logs)
    spread = sum((x - mean_x) ** 2 for x, _ in logs)
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / spread


def judge(
    interval: Interval, target: Target | None, *, rounds: int, control: Interval | None, counted: bool = False
) -> Verdict:
    """The verdict on an interval.

    A counted figure (commands, bytes) does not move with the load of the machine: it needs neither a
    control nor many rounds.
    """
    if target is None:
        return "for information"
    if not counted:
        if rounds < ROUNDS_MIN or control is None:
            return "inconclusive"
        if control.low < 1 - CONTROL_WIDTH_MAX or control.high > 1 + CONTROL_WIDTH_MAX:
            return "inconclusive"
    return "met" if target.holds(interval.low, interval.high) else "missed"
