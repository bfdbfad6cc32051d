"""Picking the best seats of a hall from which others are picking in the same millisecond.

A crowd that leaves the choice to us sees the same picture and would be given the same seats: all but one
of any two lose, search again and meet once more. So nobody here is given what somebody here is asking for
(`passing_over`), and the crowd of one worker spreads over the hall as if its buyers had come one after
the other. Workers do not know each other's questions: who loses to another one's buyer steps aside by his
seed, further each time.

Refused alternative: searching on the server, where nobody can be quicker. A search is more work than the
hold it is for, and the server is the one thing all workers share.
"""

from __future__ import annotations

from dataclasses import dataclass

from reservation.halls import Showtime
from reservation.seating import Pick, best_available


@dataclass(frozen=True, slots=True)
class BestAvailable:
    """A wish for seats, not their names."""

    count: int
    area_id: str | None = None
    accessible: int = 0


def passing_over(taken: bytes, asked_for: int) -> bytes:
    """A plane of taken seats with those that are being asked for (a plane as an integer) among them."""
    return (int.from_bytes(taken) | asked_for).to_bytes(len(taken)) if asked_for else taken


def pick_seats(showtime: Showtime, taken: bytes, wish: BestAvailable, seed: int, losses: int) -> Pick | None:
    """The best seats; after lost races, by seed one of the next best of the same stage.

    Whoever lost meets everybody else who lost on the very next best block; stepping aside by seed, a
    little further each time, costs a seat pitch and saves the next race.
    """
    best: Pick | None = None
    passed: frozenset[int] = frozenset()
    for _ in range(1 + seed % (1 + 3 * losses)):
        pick = best_available(
            showtime.hall.plan,
            taken,
            wish.count,
            area_id=wish.area_id,
            accessible=wish.accessible,
            seed=seed,
            exclude=passed,
        )
        if pick is None or (best is not None and pick.stage > best.stage):
            break
        best, passed = pick, passed | set(pick.seats)
    return best
