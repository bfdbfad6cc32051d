"""Objectives: what a rehearsal wants to see, as a table, and whether it saw it.

A time in milliseconds means nothing on a machine that also makes the crowd. So a time is bounded by a no-op
that is asked beside everything else, from the same processes, through the same client, in the same seconds:
so many times the no-op's percentile, plus a fixed allowance for the work there is. Bounds in plain
milliseconds are for a crowd that comes from machines of its own.

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

from loadtest.rehearsal.meter import Meter, percentile
from loadtest.rehearsal.plan import SCENARIOS

BUILT_IN: Final = Path(__file__).with_name("objectives.toml")
NOOP: Final = "noop"
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
        noop = percentile(meter.select(NOOP, stage=objective.stage), objective.percentile)
        if noop is None:
            return Judged(name, value, found, "no no-op was answered", met=False)
        most = round(objective.noops * noop + objective.plus_ms, 1)
    bound = f"at most {most:g}" if most is not None else f"at least {least:g}"
    met = value is not None and (most is None or value <= most) and (least is None or value >= least)
    return Judged(name, value, found, bound, met)
