"""What a bench found, as it is kept: one JSON document a bench, no machine's name or path in it.

    {bench, question, unit, quick, at, commit, command, versions, machine, seed, rounds, dropped,
     contenders: {name: {cpu_us: [per unit, by round], per_second: [...], roles: {role: [...]}, ...}},
     ratios: [{name, target, median, low, high, verdict, rounds, note}],
     curves: [{name, x, y, points: {series: [[x, y, low, high], ...]}}],
     notes: [...], audit: {...}}

Figures of a dropped block are null, so that lists of one round stay side by side.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from bench.harness.stats import Interval, Target, Verdict, judge_count


@dataclass(frozen=True, slots=True)
class Ratio:
    """One line of the answer. `target` is text (`≥ 0.8`) or empty; the figures may be absent.

    `rounds` says how many pairs of blocks it rests on; what was counted rests on none.
    """

    name: str
    target: str
    median: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    rounds: int
    note: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        target: Target | None,
        interval: Interval,
        verdict: Verdict,
        rounds: int,
        note: str = "",
    ) -> Ratio:
        low, high = sorted((interval.low, interval.high))
        return cls(
            name,
            str(target or ""),
            _rounded(interval.median),
            _rounded(low),
            _rounded(high),
            verdict,
            rounds,
            note,
        )

    @classmethod
    def counted(cls, name: str, target: Target | None, value: float, note: str = "") -> Ratio:
        """A figure that was counted, not timed: commands, bytes, fsyncs."""
        interval = Interval(value, value, value)
        return cls.of(name, target, interval, judge_count(value, target), 0, note)

    @classmethod
    def unmeasured(cls, name: str, target: Target | None, note: str) -> Ratio:
        """Every block it needs was dropped, or a contender is missing."""
        verdict: Verdict = "inconclusive" if target else "for information"
        return cls(name, str(target or ""), None, None, None, verdict, 0, note or "not measured")


@dataclass(frozen=True, slots=True)
class Curve:
    """Figures over an axis, to be drawn: points are (x, y, low, high)."""

    name: str
    x: str
    y: str
    points: Mapping[str, list[tuple[float, float, float, float]]]
    log_x: bool = True
    log_y: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """One bench's answer."""

    bench: str
    question: str
    unit: str
    quick: bool
    at: str
    commit: str
    command: str
    versions: Mapping[str, str]
    machine: Mapping[str, object]
    seed: int
    rounds: int
    dropped: int
    contenders: Mapping[str, Mapping[str, Any]]
    ratios: list[Ratio]
    curves: list[Curve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    audit: Mapping[str, Any] = field(default_factory=dict)

    @property
    def promises_kept(self) -> bool:
        """Whether every contender's own count is in order."""
        return all(entry.get("ok", False) for entry in self.audit.values())

    def write(self, folder: Path) -> Path:
        """Keep it as `<folder>/<bench>.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.bench}.json"
        text = orjson.dumps(dataclasses.asdict(self), option=orjson.OPT_INDENT_2).decode()
        # A list of figures, a ratio, a point of a curve: one line each, so that a difference can be read.
        text = _FLAT.sub(lambda match: " ".join(match.group().split()), text)
        path.write_text(text + "\n")
        return path


def read_result(content: bytes) -> Result:
    """A result as it was kept. Raises TypeError or ValueError on another shape."""
    fields = orjson.loads(content)
    fields["ratios"] = [Ratio(**ratio) for ratio in fields["ratios"]]
    fields["curves"] = [Curve(**curve) for curve in fields["curves"]]
    return Result(**fields)


#: Lists and objects without others inside; a bracket within a text keeps its line breaks, which is as good.
_FLAT: Final = re.compile(r"[\[{]\s[^\[\]{}]*[\]}]")


def _rounded(value: float) -> float | None:
    """Four significant digits: more would be decoration."""
    if not math.isfinite(value):
        return None
    return float(f"{value:.4g}")
