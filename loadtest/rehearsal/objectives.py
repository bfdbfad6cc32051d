"""Objectives: what a rehearsal wants to see, as a table, and whether it saw it.

A time in milliseconds means nothing on a machine that also makes the crowd. So a time is bounded by no-ops
that are asked as the thing itself is: beside one in four requests of that kind, at the same instant, by the
same person, through the same client. So many times their percentile, plus a fixed allowance for the work
there is. Bounds in plain milliseconds are for a crowd that comes from machines of its own.

Refused: no-ops asked at a steady rate beside the crowd. Two hundred holds asked within a quarter of a second
wait for each other, in the crowd's client and before the worker's door, and so would anything else asked in
that instant; forty no-ops a second see next to nothing of it. They bound what is asked at a steady rate.

An objective nothing was measured for is missed and says so: else a misspelt name, a no-op that died or a
rehearsal too short to judge anything would all look like a pass. So a table asks only for what its scenario
contains.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from loadtest.rehearsal.meter import Meter, noop_beside, percentile
from loadtest.rehearsal.plan import SCENARIOS

BUILT_IN: Final = Path(__file__).with_name("objectives.toml")
#: The counts of a whole run there are, by name.
FACTS: Final = frozenset(
    {
        "requests",
        "crowd_late_s",
        "unexpected_answers",
        "unanswered",
        "told_to_wait_percent",
        "holds_granted",
        "holds_expired",
        "holds_cut_short",
        "orders",
        "orders_confirmed",
        "orders_given_back",
        "orders_read_back",
        "seats",
        "seats_sold",
        "seats_still_held",
        "seats_without_owner",
        "memory_growth_percent",
    }
)
_NOTHING_LACKS: Final[Mapping[str, str]] = {}


class BadObjectives(ValueError):
    """The file of objectives cannot be used; the message says why."""


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the table."""

    name: str
    fact: str = ""
    percentile: float = 0.0
    of: str = ""
    answer: str = ""
    stage: str = ""
    at_most: float | None = None
    at_least: float | None = None
    noops: float = 0.0
    plus_ms: float = 0.0

    def __post_init__(self) -> None:
        if bool(self.fact) == bool(self.of and 0 < self.percentile <= 100):
            raise ValueError(f"{self.name}: name a fact, or a percentile of a kind of request")
        if self.fact and self.fact not in FACTS:
            raise ValueError(
                f"{self.name}: no fact is called {self.fact}; there are {', '.join(sorted(FACTS))}"
            )
        bounds = [self.at_most is not None, self.at_least is not None, self.noops > 0]
        if sum(bounds) != 1 or (self.fact and self.noops):
            raise ValueError(f"{self.name}: give one bound, at_most, at_least or (for a percentile) noops")


@dataclass(frozen=True, slots=True)
class Judged:
    """An objective, what was seen and what was allowed.

    `value` is None where nothing was measured, and `found` says the value, or why there is none.
    """

    name: str
    value: float | None
    found: str
    bound: str
    met: bool


def read_objectives(file: Path, scenario: str) -> list[Objective]:
    """The table of a scenario, with what is wanted of every one.

    Raises BadObjectives.
    """
    try:
        tables = msgspec.convert(tomllib.loads(file.read_text()), type=dict[str, list[Objective]])
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadObjectives(f"{file}: {error}") from None
    if unknown := sorted(tables.keys() - {"every", *SCENARIOS}):
        raise BadObjectives(f"{file}: no scenario is called {', '.join(unknown)}")
    found = tables.get("every", []) + tables.get(scenario, [])
    if not found:
        raise BadObjectives(f"{file}: no objectives for {scenario}; it has {', '.join(tables)}")
    return found


def bounded_by_noops(objectives: Sequence[Objective]) -> tuple[str, ...]:
    """The kinds of requests beside which no-ops are to be asked."""
    return tuple(sorted({objective.of for objective in objectives if objective.noops}))


def judge(
    objectives: Sequence[Objective],
    meter: Meter,
    facts: Mapping[str, float],
    lacking: Mapping[str, str] = _NOTHING_LACKS,
) -> list[Judged]:
    """Each objective against what was measured; `lacking` says why facts are missing, by name."""
    return [_judge(objective, meter, facts, lacking) for objective in objectives]


def _judge(
    objective: Objective, meter: Meter, facts: Mapping[str, float], lacking: Mapping[str, str]
) -> Judged:
    name, most, least = objective.name, objective.at_most, objective.at_least
    if objective.fact:
        value = facts.get(objective.fact)
    else:
        buckets = meter.select(objective.of, objective.answer, objective.stage)
        value = percentile(buckets, objective.percentile)
    found = lacking.get(objective.fact, "nothing measured") if value is None else f"{value:g}"
    if objective.noops:
        # One that failed, or took until patience ended, is no measure of anything.
        noops = meter.select(noop_beside(objective.of), "200", objective.stage)
        noop = percentile(noops, objective.percentile)
        if noop is None:
            return Judged(name, value, found, "no no-op was answered", met=False)
        most = round(objective.noops * noop + objective.plus_ms, 1)
    bound = f"at most {most:g}" if most is not None else f"at least {least:g}"
    met = value is not None and (most is None or value <= most) and (least is None or value >= least)
    return Judged(name, value, found, bound, met)
