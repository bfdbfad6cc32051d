"""Objectives: what a rehearsal wants to see, as a table, and whether it saw it.

A time in milliseconds means nothing on a machine that also makes the crowd. So a time is bounded by a no-op
that is asked beside everything else, from the same processes, through the same client, in the same seconds:
so many times the no-op's percentile, plus a fixed allowance for the work there is. Bounds in plain
milliseconds are for a crowd that comes from machines of its own.

An objective nothing was measured for is not judged and says so; `orders_confirmed` at least 1 keeps an
empty rehearsal from passing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from loadtest.rehearsal.meter import Meter, percentile

BUILT_IN: Final = Path(__file__).with_name("objectives.toml")
NOOP: Final = "noop"


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
        bounds = [self.at_most is not None, self.at_least is not None, self.noops > 0]
        if sum(bounds) != 1 or (self.fact and self.noops):
            raise ValueError(f"{self.name}: give one bound, at_most, at_least or (for a percentile) noops")


@dataclass(frozen=True, slots=True)
class Judged:
    """An objective, what was seen and what was allowed; `value` None where nothing was measured."""

    name: str
    value: float | None
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
    found = tables.get("every", []) + tables.get(scenario, [])
    if not found:
        raise BadObjectives(f"{file}: no objectives for {scenario}; it has {', '.join(tables)}")
    return found


def judge(objectives: list[Objective], meter: Meter, facts: Mapping[str, float]) -> list[Judged]:
    """Each objective against what was measured."""
    return [_judge(objective, meter, facts) for objective in objectives]


def _judge(objective: Objective, meter: Meter, facts: Mapping[str, float]) -> Judged:
    name, most, least = objective.name, objective.at_most, objective.at_least
    if objective.fact:
        value = facts.get(objective.fact)
    else:
        buckets = meter.select(objective.of, objective.answer, objective.stage)
        value = percentile(buckets, objective.percentile)
    if objective.noops:
        noop = percentile(meter.select(NOOP, stage=objective.stage), objective.percentile)
        if noop is None:
            return Judged(name, None, "no no-op was answered", met=True)
        most = round(objective.noops * noop + objective.plus_ms, 1)
    bound = f"at most {most:g}" if most is not None else f"at least {least:g}"
    if value is None:
        return Judged(name, None, bound, met=True)
    met = (most is None or value <= most) and (least is None or value >= least)
    return Judged(name, value, bound, met)
