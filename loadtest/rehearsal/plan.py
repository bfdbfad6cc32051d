"""What is rehearsed: the scenarios there are, and the plan of one run that every process reads.

A scenario says who comes and on what terms seats are sold; a plan is one run of it, down to the seed. What
each person wants follows from the seed, the person's number and the visit's number, whichever process it
runs in, so a printed seed makes the same people again. What happens to them is the race's business.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from loadtest.rehearsal.shapes import Timetable

#: Names the plan's file to Locust's processes.
PLAN_VARIABLE: Final = "REHEARSAL_PLAN"

#: How large parties are, as cinemas count them; five and more share the rest.
PARTIES: Final = {1: 22, 2: 53, 3: 12, 4: 8, 5: 3, 6: 2}

#: One in so many requests of a kind that is bounded by no-ops has a no-op beside it.
NOOP_EVERY: Final = 4

_PICKS_BY_NAME: Final = 0.6  # the rest presses "best available"
_SEATS_IN_ROW: Final = 40
_AISLES: Final = (8, 32)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who comes, and what is sold.

    `mix` weighs kinds of people (classes of `people`); `seats_per_user` makes the hall scarce or roomy;
    `hold_ttl_ms` and `claim_ttl_ms` are short, so that hesitating shows within a rehearsal. `returns` is the
    share of buyers who give back; `opens` says whether the sale opens while the crowd is watching.
    """

    name: str
    purpose: str
    mix: dict[str, int]
    shape: str
    duration_s: float
    showtimes: int
    seats_per_user: float
    seats_min: int
    hold_ttl_ms: int
    claim_ttl_ms: int
    returns: float = 0.0
    opens: bool = False
    seats_per_buyer: int = 1_000

    def seats_for(self, users: int) -> int:
        """How many seats each showtime has."""
        return min(60_000, max(self.seats_min, round(users * self.seats_per_user / self.showtimes)))


_PRESALE_MIX: Final = {"Fan": 55, "Refresher": 22, "Hesitant": 8, "Decliner": 8, "Bot": 7}
_ORDINARY_MIX: Final = {"Browser": 60, "CalmBuyer": 40}

SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "presale",
            "one scarce showtime opens at an instant everybody knows",
            _PRESALE_MIX,
            shape="herd",
            duration_s=60,
            showtimes=1,
            seats_per_user=0.75,
            seats_min=60,
            hold_ttl_ms=10_000,
            claim_ttl_ms=25_000,
            opens=True,
            seats_per_buyer=10,
        ),
        Scenario(
            "ordinary-day",
            "people browse, some buy, some give back",
            _ORDINARY_MIX,
            shape="recorded",
            duration_s=120,
            showtimes=4,
            seats_per_user=4.0,
            seats_min=120,
            hold_ttl_ms=60_000,
            claim_ttl_ms=60_000,
            returns=0.15,
        ),
        Scenario(
            "soak",
            "both, for long, with what is bought mostly given back, and the processes' resources sampled",
            {**_PRESALE_MIX, **_ORDINARY_MIX},
            shape="ramp",
            duration_s=3_600,
            showtimes=2,
            seats_per_user=2.0,
            seats_min=200,
            hold_ttl_ms=15_000,
            claim_ttl_ms=30_000,
            returns=0.8,
        ),
    )
}


class Plan(msgspec.Struct, frozen=True):
    """One run, as Locust's processes are told."""

    run_id: str
    scenario: str
    seed: int
    users: int
    processes: int
    mix: dict[str, int]
    returns: float
    showtimes: tuple[str, ...]
    tokens_file: str
    folder: str
    opens_at_s: float
    timetable: Timetable
    noops_beside: tuple[str, ...] = ()  # the kinds of requests whose times no-ops bound

    def write(self, file: Path) -> None:
        """Leave it for Locust's processes."""
        file.write_bytes(msgspec.json.encode(self))

    @classmethod
    def read(cls, file: Path) -> Plan:
        """What `write` left."""
        return msgspec.json.decode(file.read_bytes(), type=cls)


@dataclass(frozen=True, slots=True)
class Wants:
    """What a person comes for on one visit; `rng` draws whatever is still to be decided."""

    showtime_id: str
    party: int
    by_name: bool
    rng: random.Random


def draw_wants(seed: int, person: int, visit: int, showtimes: Sequence[str]) -> Wants:
    """The same for the same numbers, in whichever process."""
    rng = random.Random(f"{seed}/{person}/{visit}")
    (party,) = rng.choices(tuple(PARTIES), tuple(PARTIES.values()))
    return Wants(rng.choice(showtimes), party, rng.random() < _PICKS_BY_NAME, rng)


def hall_csv(seats: int) -> str:
    """A hall of exactly so many seats as a CSV grid: rows of forty, two aisles, the rest in the last row."""
    rows = []
    for row, first in enumerate(range(0, seats, _SEATS_IN_ROW), start=1):
        cells: list[str] = []
        for number in range(1, min(_SEATS_IN_ROW, seats - first) + 1):
            cells.append(f"{row}-{number}")
            if number in _AISLES:
                cells.append("")
        rows.append(",".join(cells))
    return "\n".join(rows)
