"""A seat map made anew on Redis: worked out here, sent in pieces nobody reads, put in place by one script.

What is owned at a stadium is three megabytes of records. A script that makes them keeps everybody waiting for
half a second, and one that takes longer than two is given up. So the server is only given results:

    begin_restore      drops what an older rebuild left, marks the place with this epoch, says what is there
    ZRANGE, HMGET      the holds that are there, a page of deadlines at a time
    add_records …      records, seats per buyer and deadlines, a piece at a time, under keys of their own
    restore_showtime   planes and terms; the pieces are counted and renamed into the place of the old map

Invariants. No call grows with the hall, but for three planes (an eighth of a byte a seat each), which are
copied and not looked at. Whatever dies, and whenever: what is there stays as it is until the last script, and
the next rebuild drops the pieces. A piece has its epoch in its script's text, and the place it goes to in its
data, so an older rebuild that is still alive can neither add to a newer one's map nor replace it.

The holds are read outside of the last script because a stadium may be held as well as sold. That is safe
while nobody changes them: no script believes data of another epoch, and that is what shut the gate. The last
script is told the version they were read from; a hold, a claim, a release or a sweep in between would have
raised it. They are found by their deadlines, of which every live hold has one: to read every record of a
sold house for the few holds among them would cost more than all the rest. A hold whose deadline was lost (an
engine that may evict loses them, and nothing is sold on one) is lost with it, and its owner is told so.

Which of them stay is judged when all are read, the oldest first: after a loss the holds are of an earlier
instant than the owners, and somebody may have let one go and ordered others since. Both together might be
more than a buyer may have. What is owned is never dropped, however much it is.

Refused: records packed by PostgreSQL. It would have to know a layout that is between Redis and us, and CPU
there is the dearest there is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

from kernel import limits
from reservation.keys import ShowtimeKeys, keys_of, tail_of
from reservation.packing import pack_record, plane_of_flags, read_record
from reservation.ports import Possession, Terms
from runtime.redis_link import Argument, ScriptRunner


class _Survivor(NamedTuple):
    """A hold that was there; they are judged in this order, and no two have the same tail."""

    created_at_ms: int
    tail: str
    expires_at_ms: int
    seats: tuple[int, ...]
    buyer_id: str
    packed: bytes


class _Anew:
    """One seat map, as it will be: owners and house seats first, then the holds that may stay."""

    def __init__(
        self, terms: Terms, blocked: Sequence[int], possessions: Sequence[Possession], now_ms: int
    ) -> None:
        seat_count = terms.seat_count
        self._buyer_seats_max = terms.buyer_seats_max
        self._now_ms = now_ms
        self._sold = bytearray(seat_count)  # a byte a seat: fast to set, and to ask
        self._taken = bytearray(seat_count)
        self._blocked = bytearray(seat_count)
        self._counts: dict[str, int] = {}
        #: Records by tail.
        self._records: dict[str, bytes] = {}
        self._deadlines: list[tuple[int, str]] = []
        self._survivors: list[_Survivor] = []
        self.dropped = 0
        sold, counts, records = self._sold, self._counts, self._records
        for one in possessions:
            for seat in one.seats:
                sold[seat] = 1
            buyer_id = one.buyer_id
            counts[buyer_id] = counts.get(buyer_id, 0) + len(one.seats)
            records[tail_of(one.hold_id)] = pack_record(
                one.state[0], one.pay_by_ms, now_ms, one.seats, buyer_id
            )
        self._taken[:] = sold
        for seat in blocked:
            if not sold[seat]:  # an owned seat is not a blocked one too, else unblocking would free it
                self._blocked[seat] = self._taken[seat] = 1

    def meet(self, tail: str, packed: bytes) -> None:
        """A record that was there: a hold may stay."""
        state, expires_at_ms, created_at_ms, seats, buyer_id = read_record(packed)
        if state == "h":
            self._survivors.append(_Survivor(created_at_ms, tail, expires_at_ms, seats, buyer_id, packed))

    def keep_what_may_stay(self) -> None:
        """Those holds stay that are not over, have their seats for themselves, and are within the limit."""
        for one in sorted(self._survivors):
            if self._may_stay(one):
                self._keep(one)
            else:
                self.dropped += 1

    def _may_stay(self, one: _Survivor) -> bool:
        taken = self._taken
        return (
            one.expires_at_ms > self._now_ms
            and one.tail not in self._records
            and all(seat < len(taken) and not taken[seat] for seat in one.seats)
            and self._counts.get(one.buyer_id, 0) + len(one.seats) <= self._buyer_seats_max
        )

    def _keep(self, one: _Survivor) -> None:
        for seat in one.seats:
            self._taken[seat] = 1
        self._counts[one.buyer_id] = self._counts.get(one.buyer_id, 0) + len(one.seats)
        self._records[one.tail] = one.packed
        self._deadlines.append((one.expires_at_ms, one.tail))

    @property
    def kept(self) -> int:
        """Holds that stay."""
        return len(self._deadlines)

    @property
    def names(self) -> int:
        """How many names the pieces bring."""
        return len(self._records) + len(self._counts)

    def planes(self) -> tuple[bytes, bytes, bytes]:
        """Taken, sold and blocked seats; the last is empty where none is."""
        blocked = plane_of_flags(self._blocked) if any(self._blocked) else b""
        return plane_of_flags(self._taken), plane_of_flags(self._sold), blocked

    def pieces(self) -> Iterator[tuple[Argument, ...]]:
        """The arguments of each call of `add_records`."""
        most = 2 * limits.restore_records_per_call_max
        pairs: Iterator[Argument] = chain.from_iterable(chain(self._records.items(), self._counts.items()))
        deadlines: Iterator[Argument] = chain.from_iterable(self._deadlines)
        while True:
            some, due = tuple(islice(pairs, most)), tuple(islice(deadlines, most))
            if not some and not due:
                return
            yield (len(some), *some, *due)


async def restore(
    scripts: ScriptRunner,
    terms: Terms,
    *,
    blocked: Sequence[int],
    possessions: Sequence[Possession],
    losses_for_ms: int,
    now_ms: int | None,
) -> tuple[int, int]:
    """`SeatInventory.restore`; the answer is holds kept and dropped.

    Raises InventoryRebuilding when a newer rebuild has been here, or this showtime was changed meanwhile.
    """
    keys = keys_of(terms.showtime_id)
    building = (keys.building, keys.building_expiry)
    _, judged_at_ms, version, deadlines = await scripts.run(
        "begin_restore", (keys.showtime, keys.expiry, *building), ("" if now_ms is None else now_ms,)
    )
    anew = _Anew(terms, blocked, possessions, judged_at_ms)
    for start in range(0, deadlines, limits.restore_records_per_call_max):
        for tail, record in await _records(scripts, keys, start):
            anew.meet(tail, record)
    anew.keep_what_may_stay()
    pieces = anew.pieces()
    while trip := [(building, piece) for piece in islice(pieces, limits.restore_calls_in_flight_max)]:
        await scripts.run_many("add_records", trip)
    await scripts.run(
        "restore_showtime",
        (keys.showtime, keys.taken, keys.sold, keys.blocked, keys.expiry, *building, keys.showtimes),
        (
            terms.showtime_id,
            terms.seat_count,
            terms.opens_at_ms,
            terms.closes_at_ms,
            terms.buyer_seats_max,
            terms.phase,
            judged_at_ms + losses_for_ms if losses_for_ms else 0,
            version,
            *anew.planes(),
            anew.names,
            anew.kept,
        ),
    )
    return anew.kept, anew.dropped


async def _records(scripts: ScriptRunner, keys: ShowtimeKeys, start: int) -> list[tuple[str, bytes]]:
    """A page of the records that have a deadline, with their tails; tombstones are among them."""
    stop = start + limits.restore_records_per_call_max - 1
    tails: list[bytes] = await scripts.command("ZRANGE", keys.expiry, start, stop)
    if not tails:
        return []
    records: list[bytes | None] = await scripts.command("HMGET", keys.showtime, *tails)
    return [
        (tail.decode(), record) for tail, record in zip(tails, records, strict=True) if record is not None
    ]
