"""What a fan is told who did not get his seats: the facts of a refusal, and what he could have instead.

Losers are nearly all of a rush, and thousands of them want the same few seats. So what one is told is kept
with the replica it was made from and told to the next as long as it is true: as long as the wanted seats
stand as they stood, the offers are free and still leave nobody alone, and nobody gave seats back that are
nearer than the offers are. All that is one mask of the seats it rests on (`seating.truth_rests_on` and
`search_rests_on`), so a loser costs a look-up and one comparison of integers. Nobody is told of better seats
he could have had all along: what is sold far away, or beside an offer but not so that it matters, is no
reason to search again. And when an offer is sold, which in a launch happens all the time, the next nearest
takes its place: a search brings home a few more offers than are told, and those that still stand are told
before anybody searches again. The answer then rests on the map of now, so an offer given back is told again.

Kept answers are bounded by `KEPT_MAX` a showtime, in large halls by `KEPT_BYTES_MAX`, and go all at once
when that is reached: what is asked for often is back at once. Those of all showtimes of a worker are bounded
together (`reservation.live`), for which each replica says about how much room its own take.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from kernel import limits
from kernel.clock import from_ms, rfc3339
from kernel.errors import Facts, SeatRushError
from reservation import errors
from reservation.domain import bytes_for
from reservation.halls import Showtime
from reservation.packing import count_seats, has_seat, mask_of
from reservation.ports import Refused
from reservation.replica import Replica
from reservation.seating import (
    EVERYTHING,
    Pick,
    alternatives,
    is_together,
    judge_orphans,
    search_rests_on,
    standing,
    to_plane,
    truth_rests_on,
)

KEPT_MAX: Final = 4_096
#: Their masks are as wide as the hall, so of a stadium fewer are kept: half of what its own plan takes.
KEPT_BYTES_MAX: Final = 16 * 1024 * 1024
_MASKS: Final = 5  # in a `KeptRefusal`
_WORDS_BYTES: Final = 3_400  # the rest of one: what was wished, the facts and the offers, as measured
#: Offers a search brings home beyond those it tells. One more costs a step; one too few a search.
SPARE: Final = 5


@dataclass(slots=True, eq=False)
class KeptRefusal:
    """A refusal, what was wanted, and the part of the map it rests on (masks of seats).

    It may be told again on any map where that part is as it was. Where at least what the search rested on
    is, others of the `picks` that it found, nearest first, may be told instead.
    """

    seats: tuple[int, ...]
    wanted: int
    where: int
    as_it_was: int
    refused: type[SeatRushError]
    detail: str
    facts: Facts
    picks: Sequence[Pick] = ()
    search: int = EVERYTHING
    searched: int = 0

    def error(self) -> SeatRushError:
        """The refusal, fresh: an exception is raised once."""
        error = self.refused(self.detail)
        error.facts = self.facts
        return error


def kept_for(replica: Replica, wish: Hashable, taken: int) -> KeptRefusal | None:
    """What was told to the last who wished this, if it may be told again."""
    kept = replica.refusals.get(wish)
    return kept if kept is not None and taken & kept.where == kept.as_it_was else None


def keep(replica: Replica, showtime: Showtime, wish: Hashable, kept: KeptRefusal) -> KeptRefusal:
    """Remember what one was told who wished this."""
    masks_bytes = _MASKS * bytes_for(showtime.sale.terms.seat_count)
    if len(replica.refusals) >= min(KEPT_MAX, KEPT_BYTES_MAX // masks_bytes):
        replica.forget_refusals()
    replica.refusals[wish] = kept
    replica.refusals_bytes = len(replica.refusals) * (_WORDS_BYTES + masks_bytes)
    return kept


def seats_taken(
    showtime: Showtime, seats: Sequence[int], taken: bytes, before: KeptRefusal | None = None
) -> KeptRefusal:
    """Why these seats cannot be had on a map where some of them are taken.

    `before` is what was told of them on another map; what it found and did not tell may do.
    """
    plan, rule = showtime.hall.plan, showtime.sale.orphan_rule
    plane = int.from_bytes(taken)
    if before and before.picks and plane & before.search == before.searched:
        rest = iter(before.picks)
        told = tuple(islice(standing(plan, taken, rest, rule), limits.alternatives_max))
        if len(told) == limits.alternatives_max:
            return _refusal(showtime, seats, taken, told, (*told, *rest))
    picks = _picks(showtime, seats, taken, spare=SPARE)
    return _refusal(showtime, seats, taken, picks[: limits.alternatives_max], picks)


def _refusal(
    showtime: Showtime,
    seats: Sequence[int],
    taken: bytes,
    told: Sequence[Pick],
    picks: Sequence[Pick],
) -> KeptRefusal:
    """`picks` begin with those that are told. What they rest on is reckoned on the map of now.

    What was sold since they were found may be an offer that was nearer, so its return must be noticed too.
    """
    plan, rule = showtime.hall.plan, showtime.sale.orphan_rule
    error = explain(showtime, seats, Refused("seat_taken", taken=taken), told)
    search = search_rests_on(plan, taken, seats, picks, limits.alternatives_max)
    search = int.from_bytes(to_plane(search, len(taken)))
    where = truth_rests_on(plan, taken, seats, told, rule)
    if where != EVERYTHING:
        where = int.from_bytes(to_plane(where, len(taken))) | search
    plane = int.from_bytes(taken)
    return KeptRefusal(
        tuple(seats),
        mask_of(seats, showtime.sale.terms.seat_count),
        where,
        plane & where,
        type(error),
        error.detail,
        error.facts,
        picks,
        search,
        plane & search,
    )


def nothing_left(showtime: Showtime, taken: bytes) -> KeptRefusal:
    """Why a wish for any seats of a kind cannot be met on this map."""
    error = errors.SoldOut(seats_left=showtime.sale.terms.seat_count - count_seats(taken))
    return KeptRefusal((), 0, EVERYTHING, int.from_bytes(taken), errors.SoldOut, error.detail, error.facts)


def explain(
    showtime: Showtime, seats: Sequence[int], refusal: Refused, picks: Sequence[Pick] | None = None
) -> SeatRushError:
    """A refusal of the inventory as what the caller is told; `picks` are its alternatives, if known."""
    match refusal.status:
        case "seat_taken":
            assert refusal.taken is not None
            picks = _picks(showtime, seats, refusal.taken) if picks is None else picks
            conflicts = [seat for seat in seats if has_seat(refusal.taken, seat)]
            facts: dict[str, Any] = {
                "conflicts": _labels(showtime, conflicts),
                "alternatives": [_offer(showtime, pick) for pick in picks],
            }
            if not facts["alternatives"] and count_seats(refusal.taken) == showtime.sale.terms.seat_count:
                return errors.SoldOut(**facts)
            return errors.SeatTaken(**facts)
        case "orphan_seat":
            assert refusal.taken is not None
            return errors.OrphanSeat(
                singles=_labels(showtime, refusal.seats),
                alternatives=_shifted(showtime, seats, refusal.taken),
            )
        case "seat_limit_exceeded":
            already, most = refusal.numbers
            return errors.SeatLimitExceeded(already=already, most=most)
        case "sale_not_open":
            return sale_not_open(refusal.numbers[0])
        case "sale_closed":
            return sale_closed(refusal.numbers[0])
        case _:
            return errors.refusal_error(refusal)


def sale_not_open(opens_at_ms: int) -> SeatRushError:
    """Too early, or paused."""
    return errors.SaleNotOpen(opens_at=_instant(opens_at_ms))


def sale_closed(closes_at_ms: int) -> SeatRushError:
    """Too late."""
    return errors.SaleClosed(closes_at=_instant(closes_at_ms))


def _labels(showtime: Showtime, seats: Sequence[int]) -> list[str]:
    """Seats as people name them."""
    return [showtime.hall.layout.seats[seat].label for seat in seats]


def _picks(showtime: Showtime, seats: Sequence[int], taken: bytes, *, spare: int = 0) -> tuple[Pick, ...]:
    return alternatives(
        showtime.hall.plan,
        taken,
        seats,
        showtime.sale.orphan_rule,
        limit=limits.alternatives_max,
        spare=spare,
        seed=zlib.crc32(repr(seats).encode()),
    )


def _shifted(showtime: Showtime, seats: Sequence[int], taken: bytes) -> list[dict[str, object]]:
    verdict = judge_orphans(showtime.hall.plan, taken, seats, showtime.sale.orphan_rule)
    if verdict.alternative is None:
        return [_offer(showtime, pick) for pick in _picks(showtime, seats, taken)[:1]]
    return [
        {
            "seats": _labels(showtime, verdict.alternative),
            "together": is_together(showtime.hall.plan, verdict.alternative),
        }
    ]


def _offer(showtime: Showtime, pick: Pick) -> dict[str, object]:
    return {"seats": _labels(showtime, pick.seats), "together": pick.together}


def _instant(instant_ms: int) -> str | None:
    return rfc3339(from_ms(instant_ms)) if instant_ms else None
