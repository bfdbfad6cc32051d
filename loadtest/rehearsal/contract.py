"""Which answers the public contract allows, and what a good one must contain.

Written down here a second time, from the contract and not from the service, so that the crowd can disagree
with it. An answer that is not in the table is a finding; so is an allowed one whose content cannot be true:
seats nobody asked for, a sold seat that is not taken, a count that differs from the plane it counts.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from loadtest.rush.decisions import NO_ANSWER, Answer

#: Allowed anywhere: the service asks for a little patience, and says for how long.
_LATER: Final = frozenset({"429", "503"})
_GONE: Final = frozenset({"410 hold_expired", "409 hold_lost"})
_TWIN: Final = frozenset({"409 request_in_progress"})
_HOLD_REFUSALS: Final = frozenset(
    f"409 {code}"
    for code in (
        "seat_taken",
        "sold_out",
        "orphan_seat",
        "seat_limit_exceeded",
        "sale_not_open",
        "sale_closed",
    )
)

#: By kind of request: status, and the code where it is a refusal.
ALLOWED: Final[Mapping[str, frozenset[str]]] = {
    "hold": frozenset({"201", "422 validation_failed"}) | _HOLD_REFUSALS | _TWIN | _GONE,
    "read hold": frozenset({"200"}) | _GONE,
    "extend": frozenset({"200", "409 hold_not_extendable"}) | _GONE,
    "release": frozenset({"204"}) | _GONE,
    "order": frozenset({"201", "202", "409 seat_taken"}) | _GONE | _TWIN,
    "read order": frozenset({"200"}) | _GONE,
    "payment": frozenset({"201", "409 already_paid", "409 order_expired", "410 order_expired"}) | _TWIN,
    "decide": frozenset({"200", "202", "409 session_expired"}),
    "refund": frozenset({"202"}) | _TWIN,
    "seats": frozenset({"200", "304"}),
    "layout": frozenset({"200", "304"}),
}
_PLAIN: Final = frozenset({"200"})


def is_allowed(kind: str, answer: Answer) -> bool:
    """Whether the contract knows this answer to this kind of request."""
    if answer.status == NO_ANSWER:
        return False
    return str(answer.status) in _LATER or answer.label in ALLOWED.get(kind, _PLAIN)


def wrong_hold(body: Mapping[str, Any], asked: tuple[str, ...], party: int) -> str:
    """What cannot be true of a granted hold; empty when nothing."""
    granted = [seat["label"] for seat in body["seats"]]
    if asked and sorted(granted) != sorted(asked):
        return f"asked for {sorted(asked)}, granted {sorted(granted)}"
    if len(granted) != party or len(set(granted)) != party:
        return f"asked for {party} seats, granted {granted}"
    return ""


def wrong_map(body: Mapping[str, Any]) -> str:
    """What cannot be true of a seat map; empty when nothing."""
    taken, sold = base64.b64decode(body["taken"]), base64.b64decode(body["sold"])
    seats = int(body["seat_count"])
    if not len(taken) == len(sold) == (seats + 7) // 8:
        return f"planes of {len(taken)} and {len(sold)} bytes for {seats} seats"
    taken_bits, sold_bits = int.from_bytes(taken), int.from_bytes(sold)
    if sold_bits & ~taken_bits:
        return "seats are sold and not taken"
    if int(body["seats_left"]) != seats - taken_bits.bit_count():
        return f"{body['seats_left']} seats left of {seats}, with {taken_bits.bit_count()} taken"
    return ""


class WatchedMap:
    """A seat map kept up by events, as a page keeps it.

    A delta must begin at the version the map is at and lead to the number of seats left it states. One that
    does not is a gap, which the service promises not to make.
    """

    def __init__(self) -> None:
        self.version = -1
        self.epoch = -1
        self.seat_count = 0
        self.taken = 0
        self.events = 0

    def apply(self, event: str, data: dict[str, Any]) -> str:
        """Take in one event; the answer is what is wrong with it, empty when nothing."""
        self.events += 1
        if event == "snapshot":
            if wrong := wrong_map(data):
                return wrong
            self.seat_count = int(data["seat_count"])
            self.taken = int.from_bytes(base64.b64decode(data["taken"]))
        elif event == "delta":
            if (data["epoch"], data["from_version"]) != (self.epoch, self.version):
                return "gap: a delta that does not begin where the map is"
            for seat in data["taken"]:
                self.taken |= self._bit(seat)
            for seat in data["freed"]:
                self.taken &= ~self._bit(seat)
        else:
            return f"an event nobody knows: {event}"
        self.epoch, self.version = int(data["epoch"]), int(data["version"])
        if self.seat_count - self.taken.bit_count() != data["seats_left"]:
            return "an event whose seats do not add up to its number of seats left"
        return ""

    def _bit(self, seat: int) -> int:
        bytes_of_plane = (self.seat_count + 7) // 8
        return 1 << (8 * bytes_of_plane - 1 - seat)
