"""What the fans saw: the rush's own truth, and whether the service keeps to it.

Nothing here asks the service what it believes. A hold is here because an answer granted it, an order
because an answer acknowledged it, a confirmation because an answer said so, each with the seats that were
named. Afterwards the orders are read back, and three things must hold: no seat in two orders that own
seats, nothing that was acknowledged gone or changed, everything confirmed shown as sold on the seat map.

What never got an answer is unknown and proves nothing either way.

Those questions are about how it ended. That no seat had two owners on the way is judged on the witness's
operations: one order of events must explain every answer (`loadtest.histories`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from loadtest.histories import judge
from loadtest.rush.decisions import Answer
from loadtest.rush.witness import Witness

_UNPAID: Final = frozenset({"claiming", "pending_payment", "paid"})
_OWNS_SEATS: Final = frozenset({"pending_payment", "paid", "confirmed"})


@dataclass(slots=True)
class Booking:
    """An order as far as its fan was told. `claiming` is no promise yet; every other state is one."""

    order_id: str
    token: str
    seats: tuple[str, ...]
    state: str = "claiming"

    @property
    def committed(self) -> bool:
        """Whether the order was said to be kept for good."""
        return self.state != "claiming"

    @property
    def unpaid(self) -> bool:
        """Whether it has seats that are not sold yet."""
        return self.state in _UNPAID


@dataclass
class Verdict:
    """What the rush found by its own count; all of it empty when the promises were kept.

    `impossible` are seats whose answers no order of events explains; `undecided` those for which none was
    found in the time given. `unread` counts orders, and the map, that could not be read again.
    """

    sold_twice: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    not_on_map: list[str] = field(default_factory=list)
    impossible: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    operations: int = 0
    unread: int = 0
    read: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong. No proof of that where something is `unread` or `undecided`."""
        return not (self.sold_twice or self.missing or self.changed or self.not_on_map or self.impossible)


class History:
    """Holds, orders and confirmations as they were answered."""

    def __init__(self, showtime_id: str = "") -> None:
        self.witness = Witness(showtime_id)
        self.holds_granted = 0
        self.holds_open = 0
        self.bookings: dict[str, Booking] = {}

    @property
    def confirmed(self) -> list[Booking]:
        """Orders somebody was told are confirmed."""
        return [booking for booking in self.bookings.values() if booking.state == "confirmed"]

    def hold(self) -> None:
        """Seats were granted to somebody."""
        self.holds_granted += 1
        self.holds_open += 1

    def let_go(self) -> None:
        """A hold ended without an order."""
        self.holds_open -= 1

    def book(self, order_id: str, token: str, seats: tuple[str, ...]) -> Booking:
        """A hold became an order, or so the answer said."""
        self.holds_open -= 1
        return self.bookings.setdefault(order_id, Booking(order_id, token, seats))

    def judge(self, read_back: dict[str, Answer], sold_on_map: Collection[str] | None) -> Verdict:
        """Compare with what the service says afterwards.

        `read_back` has an answer for each booking that was read again, `sold_on_map` the labels the seat
        map shows as sold, None when it could not be read.
        """
        verdict = Verdict()
        owners: dict[str, set[str]] = defaultdict(set)
        for booking in self.bookings.values():
            told_confirmed = booking.state == "confirmed"
            answer = read_back.get(booking.order_id)
            if answer is not None:
                self.witness.seen(booking.order_id, answer)
            owns_now = answer is not None and _compare(booking, answer, verdict)
            if told_confirmed or owns_now:
                for seat in booking.seats:
                    owners[seat].add(booking.order_id)
        verdict.sold_twice = [
            f"{seat}: {' and '.join(sorted(orders))}" for seat, orders in owners.items() if len(orders) > 1
        ]
        if sold_on_map is None:
            verdict.unread += 1
        else:
            sold = {seat for booking in self.confirmed for seat in booking.seats}
            verdict.not_on_map = sorted(sold - set(sold_on_map))
        judgement = judge(self.witness.operations())
        verdict.impossible, verdict.undecided = list(judgement.impossible), list(judgement.undecided)
        verdict.operations = judgement.operations
        return verdict


def _compare(booking: Booking, answer: Answer, verdict: Verdict) -> bool:
    """Note what is wrong with a booking and what it is by now; the answer says whether it owns its seats."""
    if answer.status not in {200, 404, 409, 410}:
        verdict.unread += 1
        return False
    verdict.read += 1
    was, now = booking.state, str(answer.body.get("state", answer.label))
    if (booking.committed and answer.status != 200) or (was == "confirmed" and now != was):
        verdict.missing.append(f"{booking.order_id} was {was} and is now {now}")
        return False
    booking.state = now
    if now not in _OWNS_SEATS:
        return False
    seats = seats_of(answer)
    if sorted(seats) != sorted(booking.seats):
        verdict.changed.append(f"{booking.order_id} had {sorted(booking.seats)} and has {sorted(seats)}")
    return True


def seats_of(answer: Answer) -> tuple[str, ...]:
    """The seats of an order: its tickets' once it has them."""
    if answer.body["state"] == "confirmed":
        return tuple(ticket["seat"] for ticket in answer.body["tickets"])
    return tuple(line["seat"] for line in answer.body["lines"])
