"""What a rehearsal leaves behind for people and programs: `summary.txt` and `results.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from loadtest.rehearsal.meter import NOT_TIMES, Meter, noop_beside, percentile
from loadtest.rehearsal.plan import Plan
from loadtest.rehearsal.shapes import BEFORE
from loadtest.rehearsal.verdict import Verdict

_SHOWN_MAX: Final = 20
_PERCENTS: Final = (50, 95, 99, 100)
_BY_STAGE: Final = ("hold", "seats", "order")


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What Locust itself reached on the no-op route, before the crowd came."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Report:
    """Everything that is said at the end."""

    plan: Plan
    shape: str
    command: str
    ceiling: Ceiling
    meter: Meter
    facts: Mapping[str, float]
    verdict: Verdict

    def write(self, folder: Path) -> None:
        """Leave both files."""
        (folder / "summary.txt").write_text(self.text())
        (folder / "results.json").write_bytes(
            msgspec.json.format(msgspec.json.encode(self.document(), enc_hook=str), indent=2)
        )

    def document(self) -> dict[str, Any]:
        """The content of `results.json`; times are milliseconds."""
        return {
            "scenario": self.plan.scenario,
            "shape": self.shape,
            "users": self.plan.users,
            "processes": self.plan.processes,
            "seed": self.plan.seed,
            "command": self.command,
            "showtimes": self.plan.showtimes,
            "ceiling": asdict(self.ceiling),
            "facts": dict(self.facts),
            "complaints": dict(self.meter.complaints.most_common()),
            "times_ms": {
                kind: {
                    stage or "whole": {**_times(self.meter, kind, stage), "answers": self._rate(kind, stage)}
                    for stage in ("", *self._stages)
                }
                for kind in self.meter.kinds()
                if kind not in NOT_TIMES
            },
            "answers": {kind: self.meter.labels(kind) for kind in self.meter.kinds()},
            "objectives": [asdict(one) for one in self.verdict.judged],
            "broken": self.verdict.broken,
            "unproven": self.verdict.unproven,
            "exit_code": self.verdict.exit_code,
            "verdict": self.verdict.sentence,
        }

    @property
    def _stages(self) -> list[str]:
        return [BEFORE, *(name for name, _ in self.plan.timetable.stages)]

    def _rate(self, kind: str, stage: str) -> int:
        return self.meter.select(kind, stage=stage).total()

    def text(self) -> str:
        """The content of `summary.txt`."""
        plan, ceiling = self.plan, self.ceiling
        lines = [
            f"{plan.scenario}, {plan.users} users, shape {self.shape}, {plan.processes} Locust processes, "
            f"seed {plan.seed}",
            f"again: {self.command}",
            "",
            f"Locust's own ceiling on the no-op route: {ceiling.requests_per_s:,.0f} requests/s "
            f"(p50 {ceiling.p50_ms:g} ms, p99 {ceiling.p99_ms:g} ms)",
            "",
            f"{'whole run':<18}{'answers':>9}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}   answers by kind",
        ]
        for kind in self.meter.kinds():
            if kind not in NOT_TIMES:
                answers = ", ".join(f"{label} ×{count}" for label, count in self.meter.labels(kind).items())
                lines.append(self._line(kind, kind, "") + f"   {answers}")
        for stage in self._stages:
            rows = [kind for kind in _BY_STAGE if self._rate(kind, stage)]
            if rows:
                lines += ["", f"stage {stage}"]
                for kind in rows:
                    lines.append(self._line(f"  {kind}", kind, stage))
                    if self._rate(noop_beside(kind), stage):
                        lines.append(self._line(f"  {noop_beside(kind)}", noop_beside(kind), stage))
        lines += ["", "facts", *(f"  {name:<28}{value:g}" for name, value in self.facts.items())]
        lines += ["", "objectives"]
        for one in self.verdict.judged:
            lines.append(f"  {'met' if one.met else 'MISSED':<11}{one.name}: {one.found}, {one.bound}")
        for title, found in (
            ("broken promises", self.verdict.broken),
            ("not proven", self.verdict.unproven),
            ("outside the contract", [f"{what} ×{n}" for what, n in self.meter.complaints.most_common()]),
        ):
            if found:
                more = [f"  and {len(found) - _SHOWN_MAX} more"] if len(found) > _SHOWN_MAX else []
                lines += ["", title, *(f"  {one}" for one in found[:_SHOWN_MAX]), *more]
        return "\n".join([*lines, "", self.verdict.sentence, ""])

    def _line(self, title: str, kind: str, stage: str) -> str:
        times = "".join(f"{time:>9g}" for time in _times(self.meter, kind, stage).values())
        return f"{title:<18}{self._rate(kind, stage):>9}{times}"


def _times(meter: Meter, kind: str, stage: str) -> dict[str, float]:
    """Percentiles in milliseconds; empty where nothing was asked."""
    buckets = meter.select(kind, stage=stage)
    found = {f"p{percent}": percentile(buckets, percent) for percent in _PERCENTS}
    return {name: value for name, value in found.items() if value is not None}
