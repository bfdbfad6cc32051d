"""Who comes: the fans of a rush, drawn before it begins.

Everything a fan is (when it arrives, how many seats it wants, whether it will pay) follows from the seed
and its number, so the same rush can be sent again against a changed service. What happens then does not:
that is decided by the race, which is the point.

Arrivals are a spike, not a rate: at an opening half the crowd is there within a quarter of a second and
a tail follows. A constant rate would measure a quiet evening.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from kernel import limits

#: How large parties are, as cinemas count them; five and more share what is left.
_SHARES: Final = {1: 22, 2: 53, 3: 12, 4: 8}
_SHARE_OF_LARGE: Final = {5: 3, 6: 2}
_SHARE_OF_LARGEST: Final = 1

PARTIES_DEFAULT: Final = (1, 2, 3, 4, 5, 6)
_HALF_ARRIVED_S: Final = 0.25
_ALL_ARRIVED_S: Final = 2.0
_PICKS_BY_NAME: Final = 0.6  # the rest presses "best available"
_NEEDS_ACCESSIBLE: Final = 0.01
IN_FLIGHT_MAX: Final = 256  # enough that every seat is fought over; more only makes a longer queue


class BadParties(ValueError):
    """The list of party sizes is none; the message says why."""


@dataclass(frozen=True, slots=True)
class RushPlan:
    """What a rush is made of."""

    fans: int
    parties: tuple[int, ...] = PARTIES_DEFAULT
    pay_rate: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Fan:
    """One person, before the race: `party` seats are wanted, `accessible` of them wheelchair places."""

    number: int
    arrives_s: float
    party: int
    accessible: int
    picks_by_name: bool
    pays: bool
    seed: int


def parse_parties(text: str) -> tuple[int, ...]:
    """Party sizes from `1,2,3,4`; a size that stands twice comes twice as often.

    Raises BadParties.
    """
    sizes = []
    for word in text.split(","):
        if not (word.strip().isascii() and word.strip().isdecimal()):
            raise BadParties(f"{word.strip()!r} is not a party size; write sizes as in 1,2,3,4")
        size = int(word)
        if not 1 <= size <= limits.seats_per_hold_max:
            raise BadParties(f"a party has 1 to {limits.seats_per_hold_max} seats, not {size}")
        sizes.append(size)
    return tuple(sizes)


def draw_fans(plan: RushPlan) -> list[Fan]:
    """The crowd in the order it arrives."""
    shares = [_SHARES.get(size) or _SHARE_OF_LARGE.get(size, _SHARE_OF_LARGEST) for size in plan.parties]
    fans = []
    for number in range(plan.fans):
        rng = random.Random(f"{plan.seed}/{number}")  # noqa: S311 (a draw to repeat, not to keep secret)
        (party,) = rng.choices(plan.parties, shares)
        accessible = 1 if party <= 2 and rng.random() < _NEEDS_ACCESSIBLE else 0
        fans.append(
            Fan(
                number=number,
                arrives_s=min(rng.expovariate(0.693 / _HALF_ARRIVED_S), _ALL_ARRIVED_S),
                party=party,
                accessible=accessible,
                picks_by_name=not accessible and rng.random() < _PICKS_BY_NAME,
                pays=rng.random() < plan.pay_rate,
                seed=rng.getrandbits(64),
            )
        )
    fans.sort(key=lambda fan: fan.arrives_s)
    return fans
