"""What is broken when: drawn from a seed, so the same faults strike the same plan again.

Faults come in pairs, one pair a slot. The second begins while the first is still there or just healing: what
one fault alone does has a test each; what nobody thought of is a writer that dies while the seat maps are
being made anew. Both kinds of a pair come from a shuffled deck that is dealt to its end before a kind comes
again, so a short run meets many kinds and a long one each of them as often.

A plan fixes kinds, instants and lengths, and the dice each fault throws (which connection, which process).
What the race between crowd and fault makes of it is not fixed: a replay finds a timing bug again by being
repeated, not by being exact.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

WARM_UP_S: Final = 2.0
SLOT_S: Final = 5.0
#: How long after the first the second of a pair begins, at most.
_APART_S_MAX: Final = 1.5
#: The shortest run there is: a warm-up and one slot.
SECONDS_MIN: Final = WARM_UP_S + SLOT_S


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault at one time; `at_s` after the crowd began, `dice` seeds what it chooses by lot."""

    kind: str
    at_s: float
    lasts_s: float
    dice: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What one round breaks, in order of time."""

    seed: int
    seconds: float
    strikes: tuple[Strike, ...]

    @property
    def pairs(self) -> list[tuple[Strike, Strike]]:
        """Those that were dealt together."""
        return list(pairwise(self.strikes))[::2]


def draw_plan(seed: int, seconds: float, lengths: Mapping[str, tuple[float, float]]) -> Plan:
    """A plan over these kinds, each with the shortest and the longest it lasts, in seconds.

    With a single kind a pair is that kind twice.
    """
    assert lengths, "a plan needs something to break"
    assert seconds >= SECONDS_MIN, "a plan needs time for a pair"
    rng = random.Random(f"chaos/{seed}")  # noqa: S311 (a draw to repeat, not to keep secret)
    deck = _dealt(sorted(lengths), rng)
    strikes = []
    for slot in range(int((seconds - WARM_UP_S) / SLOT_S)):
        begins_s = WARM_UP_S + SLOT_S * slot + rng.uniform(0.0, 0.5)
        for at_s in (begins_s, begins_s + rng.uniform(0.0, _APART_S_MAX)):
            kind = next(deck)
            lasts_s = rng.uniform(*lengths[kind])
            strikes.append(Strike(kind, round(at_s, 3), round(lasts_s, 3), rng.getrandbits(32)))
    return Plan(seed, seconds, tuple(strikes))


def _dealt(kinds: Sequence[str], rng: random.Random) -> Iterator[str]:
    while True:
        yield from rng.sample(kinds, len(kinds))
