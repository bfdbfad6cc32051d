"""Whether a picture of a showtime agrees with itself and with who owns its seats.

Pure judgement: a picture, what PostgreSQL says, and a place to write suspicions. Seats are taken in Redis
first and in PostgreSQL second, and freed the other way round, so at every instant whatever PostgreSQL
owns is taken on the map. The other direction has exactly three lawful reasons for a claim on the map that
PostgreSQL does not own: it is on the log on its way there, its order gave the seats up and they are about
to be freed, or a late payment took them again and its sale is on the log.

A house seat, too, is kept from sale in Redis first and in PostgreSQL second. Whoever ends in between leaves a
seat that nobody has and nobody can buy, until somebody puts it back (`seatrush seats unblock`): a finding,
but none of those that stop a sale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from entrypoints.audit.findings import Patience, Seen
from entrypoints.audit.showtimes_redis import HoldRecord, Picture
from kernel.clock import from_ms, rfc3339
from kernel.ids import order_id_of
from reservation import Terms, plane_of, seats_in


class Owner(NamedTuple):
    """An order that owns seats in PostgreSQL."""

    buyer: str
    order_state: str
    seats: frozenset[int]


class Standing(NamedTuple):
    """An order PostgreSQL knows; `freed` when its seats went back on sale."""

    order_state: str
    freed: bool


@dataclass(frozen=True)
class Books:
    """What PostgreSQL says of one showtime, and which orders are on the log on their way there.

    `owners` and `standings` are by hold id: owners as they were before the picture was taken, standings
    of the other claims on it as they were after.
    """

    terms: Terms
    blocked: frozenset[int]
    owners: Mapping[str, Owner]
    standings: Mapping[str, Standing]
    on_the_way: Collection[str]


def unowned_claims(picture: Picture, owners: Mapping[str, Owner]) -> list[str]:
    """Hold ids of claims and sales on the map that PostgreSQL was not known to own."""
    return [
        hold_id
        for hold_id, record in picture.records.items()
        if record.state in "cs" and hold_id not in owners
    ]


def judge(picture: Picture, books: Books, patience: Patience, seen: Seen) -> None:
    """Every suspicion about one showtime's map."""
    _Judge(picture, books, patience, seen).run()


class _Judge:
    def __init__(self, picture: Picture, books: Books, patience: Patience, seen: Seen) -> None:
        self._picture = picture
        self._books = books
        self._patience = patience
        self._seen = seen
        self._showtime_id = books.terms.showtime_id
        self._live = {hold_id: record for hold_id, record in picture.records.items() if record.is_live}
        self._seats_kept = frozenset(
            seat for record in self._live.values() if record.state in "cs" for seat in record.seats
        )

    def run(self) -> None:
        self._terms()
        self._two_owners()
        self._planes()
        self._blocked()
        self._owned_seats_are_kept()
        self._kept_seats_are_owned()
        self._limit()
        self._holds_end()

    def _say(self, check: str, sentence: str) -> None:
        showtime_id = self._showtime_id
        self._seen.suspect(check, showtime_id, f"{showtime_id}: {sentence}", showtime_id)

    def _terms(self) -> None:
        terms, found = self._books.terms, self._picture.terms
        self._seen.counted["terms_agree"] += 1
        for name in ("seat_count", "opens_at_ms", "closes_at_ms", "buyer_seats_max", "phase"):
            wanted = str(getattr(terms, name))
            if found.get(name) != wanted:
                self._say("terms_agree", f"{name} is {found.get(name)} in Redis and {wanted} in PostgreSQL")

    def _two_owners(self) -> None:
        self._seen.counted["no_seat_has_two_owners"] += len(self._live)
        holder: dict[int, str] = {}
        for hold_id, record in self._live.items():
            for seat in record.seats:
                other = holder.setdefault(seat, hold_id)
                if other != hold_id:
                    pair = " and ".join(sorted((other, hold_id)))
                    self._say("no_seat_has_two_owners", f"seat {seat} is in two live holds, {pair}")

    def _planes(self) -> None:
        picture, check = self._picture, "seat_maps_agree"
        seat_count = self._books.terms.seat_count
        self._seen.counted[check] += seat_count
        width = (seat_count + 7) // 8
        for name, plane in (("taken", picture.taken), ("sold", picture.sold), ("blocked", picture.blocked)):
            if len(plane) != width:
                self._say(check, f"the plane {name} has {len(plane)} bytes instead of {width}")
                return
        everybody = [seat for record in self._live.values() for seat in record.seats]
        out_of_hall = sorted({seat for seat in everybody if seat >= seat_count})
        if out_of_hall:
            self._say(check, f"seat {out_of_hall[0]} is held and the hall has only {seat_count}")
            return
        kept = plane_of(self._seats_kept, seat_count)
        taken = _either(plane_of(everybody, seat_count), picture.blocked)
        for seat in _only_in(picture.taken, taken):
            self._say(check, f"seat {seat} is taken without a reason")
        for seat in _only_in(taken, picture.taken):
            self._say(check, f"seat {seat} is held, owned or blocked, and offered for sale")
        for seat in _only_in(picture.sold, kept):
            self._say(check, f"seat {seat} is shown as sold and nobody claimed it")
        for seat in _only_in(kept, picture.sold):
            self._say(check, f"seat {seat} is claimed or sold and not shown as sold")
        for seat in _only_in(picture.sold, picture.taken):
            self._say(check, f"seat {seat} is shown as sold and not as taken")

    def _blocked(self) -> None:
        on_map = frozenset(seats_in(self._picture.blocked))
        self._seen.counted["seats_off_sale_have_a_reason"] += len(on_map)
        for seat in sorted(self._books.blocked - on_map - self._seats_kept):
            self._say("seat_maps_agree", f"seat {seat} is a house seat and not blocked on the map")
        for seat in sorted(on_map - self._books.blocked):
            self._say("seats_off_sale_have_a_reason", f"seat {seat} is blocked on the map and no house seat")

    def _owned_seats_are_kept(self) -> None:
        for hold_id, owner in self._books.owners.items():
            problem = _unlike(owner, self._picture.records.get(hold_id))
            if problem is not None:
                order = f"order {order_id_of(hold_id)}"
                self._say("seat_maps_agree", f"{order} owns {_seats(owner.seats)} and {problem}")

    def _kept_seats_are_owned(self) -> None:
        for hold_id in unowned_claims(self._picture, self._books.owners):
            order_id = order_id_of(hold_id)
            standing = self._books.standings.get(hold_id)
            seats = _seats(self._picture.records[hold_id].seats)
            if standing is None:
                if order_id not in self._books.on_the_way:
                    missing = f"order {order_id} is neither in PostgreSQL nor on its way there"
                    self._say("seat_maps_agree", f"{seats} are claimed and {missing}")
            elif standing.freed:
                ended = f"order {order_id} is {standing.order_state} and gave them back"
                self._say("seat_maps_agree", f"{seats} are still claimed and {ended}")

    def _limit(self) -> None:
        check, most = "nobody_exceeds_the_limit", self._books.terms.buyer_seats_max
        had = Counter[str]()
        for record in self._live.values():
            had[record.buyer] += len(record.seats)
        counters = self._picture.counters
        self._seen.counted[check] += len(counters.keys() | had.keys())
        for buyer in sorted(counters.keys() | had.keys()):
            counter = counters.get(buyer, 0)
            if counter != had[buyer]:
                self._say(check, f"{buyer} holds {had[buyer]} seats and is counted with {counter}")
            if had[buyer] > most:
                self._say(check, f"{buyer} holds {had[buyer]} seats, where {most} are allowed")

    def _holds_end(self) -> None:
        check, due_ms = "holds_end", self._picture.due_ms
        too_old_ms = self._picture.now_ms - int(self._patience.hold_s * 1000)
        for hold_id, record in self._live.items():
            if record.state != "h":
                continue
            self._seen.counted[check] += 1
            if due_ms.get(hold_id) != record.expires_at_ms:
                self._say(check, f"hold {hold_id} has an end that nobody has on the list")
            if record.expires_at_ms < too_old_ms:
                ended = rfc3339(from_ms(record.expires_at_ms))
                self._say(check, f"hold {hold_id} ended at {ended} and keeps {_seats(record.seats)}")


def _unlike(owner: Owner, record: HoldRecord | None) -> str | None:
    """What is wrong with the record of an order that owns seats."""
    if record is None or record.state not in "cs":
        return "the map has no claim of it"
    if record.buyer != owner.buyer:
        return f"on the map they are {record.buyer}'s, not {owner.buyer}'s"
    if frozenset(record.seats) != owner.seats:
        return f"the map says {_seats(record.seats)}"
    if record.state == "s" and owner.order_state == "pending_payment":
        return "the map says it is sold, which nobody paid for"
    return None


def _seats(seats: Iterable[int]) -> str:
    return "seats " + ", ".join(str(seat) for seat in sorted(seats))


def _either(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one) | int.from_bytes(other)).to_bytes(len(one))


def _only_in(one: bytes, other: bytes) -> list[int]:
    """Seats whose bits are set in the first plane and not in the second."""
    return seats_in((int.from_bytes(one) & ~int.from_bytes(other)).to_bytes(len(one)))
