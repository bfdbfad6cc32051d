"""From numbers to a judgement: medians, bootstrap intervals, slopes, verdicts.

One rule carries the rest: **the worse end of the interval is judged**, not the middle. A target "at least
0.80" is met when even the low end of the 95 % interval reaches 0.80. Where the same contender measured twice
(the A/A control) does not agree with itself within 5 %, the interval is made wider by as much as it
disagrees, at both ends: what then reaches the target is met, what cannot reach it is missed, and what lies
across it is "inconclusive", whatever the median says (ADR 15). With too few rounds nothing is judged.

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

    def is_out_of_reach(self, low: float, high: float) -> bool:
        """Whether not even the better end reaches it."""
        return high < self.bound if self.direction == "at least" else low > self.bound

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


def judge(interval: Interval, target: Target | None, *, rounds: int, control: Interval | None) -> Verdict:
    """The verdict on the interval of a ratio, given what the same contender is against itself."""
    if target is None:
        return "for information"
    if rounds < ROUNDS_MIN or control is None:
        return "inconclusive"
    if is_calm(control):
        return _verdict(interval, target)
    noise = max(control.high, 1 / control.low)
    low, high = interval.low / noise, interval.high * noise
    if target.holds(low, high):
        return "met"
    return "missed" if target.is_out_of_reach(low, high) else "inconclusive"


def judge_slope(
    interval: Interval, target: Target | None, *, rounds: int, control: Interval | None
) -> Verdict:
    """The verdict on the interval of an exponent. Noise does not multiply it: a calm control, or nothing."""
    if target is None:
        return "for information"
    if rounds < ROUNDS_MIN or control is None or not is_calm(control):
        return "inconclusive"
    return _verdict(interval, target)


def judge_count(value: float, target: Target | None) -> Verdict:
    """The verdict on what was counted (commands, bytes): it does not move with the load of the machine."""
    return "for information" if target is None else _verdict(Interval(value, value, value), target)


def is_calm(control: Interval) -> bool:
    """Whether a contender agrees with itself closely enough for its figures to be taken as they are."""
    return control.low >= 1 - CONTROL_WIDTH_MAX and control.high <= 1 + CONTROL_WIDTH_MAX


def _verdict(interval: Interval, target: Target) -> Verdict:
    return "met" if target.holds(interval.low, interval.high) else "missed"
