"""Every showtime made anew, a few halls at a time: PostgreSQL, this process and Redis work at once.

Owners are asked for in statements about a bounded number of seats, so none of them comes near its deadline
however much is sold, and what is in this process at once is bounded too. One statement is under way at a time
(connections are few); meanwhile the answers before it are packed, or on their way to Redis.

Nobody waits for a certain order, and nothing is open before all is done: whichever part fails ends the rest.

Who paid after his seats were given up comes last, behind everybody who owns and behind the house: others may
have one of them, it may be a house seat by now, and he may have bought others since, so that both together
are more than he may have. While the maps stand, taking his seats again asks for both; so they are asked for
here, and he has all of his seats or none. Whoever has to do without has his money sent back when his sale is
tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from kernel import limits
from reservation.ports import Possession, SeatInventory
from reservation.store import Sale

_log = logging.getLogger(__name__)

#: Tells who owns what at some showtimes, by showtime, at the instant of asking.
OwnersOf = Callable[[Sequence[str]], Awaitable[Mapping[str, Sequence[Possession]]]]


@dataclass(slots=True)
class Restored:
    """What was put back."""

    seats_owned: int = 0
    holds_kept: int = 0
    holds_dropped: int = 0


async def restore_all(
    inventory: SeatInventory,
    sales: Sequence[Sale],
    owners_of: OwnersOf,
    blocked: Mapping[str, Sequence[int]],
    *,
    losses_for_ms: int,
) -> Restored:
    """Restore every showtime; `blocked` are house seats by showtime.

    Raises what the stores raise; nothing is under way any more then.
    """
    restored = Restored()
    left, asking = _few_halls(sales), asyncio.Lock()

    async def restore_some() -> None:
        while True:
            async with asking:
                some = next(left, None)
                if some is None:
                    return
                owners = await owners_of([sale.showtime_id for sale in some])
            for sale in some:
                house_seats = blocked.get(sale.showtime_id, ())
                possessions = _in_the_hall(sale, owners.get(sale.showtime_id, ()))
                possessions = _lawful(sale, possessions, house_seats)
                kept, dropped = await inventory.restore(
                    sale.terms,
                    blocked=house_seats,
                    possessions=possessions,
                    losses_for_ms=losses_for_ms,
                )
                restored.seats_owned += sum(len(one.seats) for one in possessions)
                restored.holds_kept += kept
                restored.holds_dropped += dropped

    at_work = [asyncio.create_task(restore_some()) for _ in range(limits.rebuild_statements_in_flight_max)]
    try:
        await asyncio.gather(*at_work)
    finally:
        for task in at_work:
            task.cancel()
        await asyncio.gather(*at_work, return_exceptions=True)
    return restored


def _few_halls(sales: Sequence[Sale]) -> Iterator[list[Sale]]:
    """All of them, at a time as many as one statement may ask about, and at least one."""
    some: list[Sale] = []
    seats = 0
    for sale in sales:
        if some and seats + sale.terms.seat_count > limits.rebuild_seats_per_statement_max:
            yield some
            some, seats = [], 0
        some.append(sale)
        seats += sale.terms.seat_count
    if some:
        yield some


def _lawful(
    sale: Sale, possessions: Sequence[Possession], house_seats: Sequence[int]
) -> Sequence[Possession]:
    """Without the late ones whose seats others or the house have, or whose buyers would have too many."""
    late = [one for one in possessions if one.is_late]
    if not late:
        return possessions
    lawful = [one for one in possessions if not one.is_late]
    taken = {*house_seats, *(seat for one in lawful for seat in one.seats)}
    has = Counter[str]()
    for one in lawful:
        has[one.buyer_id] += len(one.seats)
    for one in sorted(late, key=lambda one: one.hold_id):
        if taken.isdisjoint(one.seats) and has[one.buyer_id] + len(one.seats) <= sale.terms.buyer_seats_max:
            lawful.append(one)
            taken.update(one.seats)
            has[one.buyer_id] += len(one.seats)
    return lawful


def _in_the_hall(sale: Sale, possessions: Sequence[Possession]) -> Sequence[Possession]:
    """One row about a seat that does not exist must not keep every gate closed."""
    seat_count = sale.terms.seat_count
    odd = [one.hold_id for one in possessions if max(one.seats, default=0) >= seat_count]
    if not odd:
        return possessions
    _log.error("owners of seats that %s does not have: %s", sale.showtime_id, odd)
    return [
        msgspec.structs.replace(one, seats=tuple(seat for seat in one.seats if seat < seat_count))
        for one in possessions
    ]
