"""What the seat engine refuses, by the name of its code."""

from __future__ import annotations

from typing import Final

from kernel.errors import IdempotencyKeyReused, NotFound, SeatRushError
from reservation.ports import Refused


class SeatTaken(SeatRushError, code="seat_taken"):
    """Somebody else has at least one of these seats."""


class SoldOut(SeatRushError, code="sold_out"):
    """No seat that fits is left."""


class OrphanSeat(SeatRushError, code="orphan_seat"):
    """This choice would leave a single seat alone."""


class SeatLimitExceeded(SeatRushError, code="seat_limit_exceeded"):
    """That is more seats than one buyer may have here."""


class SaleNotOpen(SeatRushError, code="sale_not_open"):
    """Seats of this showtime are not on sale yet."""


class SaleClosed(SeatRushError, code="sale_closed"):
    """Seats of this showtime are no longer on sale."""


class HoldExpired(SeatRushError, code="hold_expired"):
    """The hold has expired."""


class HoldLost(SeatRushError, code="hold_lost"):
    """The hold was lost in a recovery; choose again."""


class HoldClaimed(SeatRushError, code="hold_claimed"):
    """This hold has become an order."""


class HoldNotExtendable(SeatRushError, code="hold_not_extendable"):
    """This hold cannot be kept any longer."""


class UnknownSeat(SeatRushError, code="unknown_seat"):
    """At least one of these seats is not in this layout."""


class DuplicateSeat(SeatRushError, code="duplicate_seat"):
    """A seat is named twice."""


class TooManySeats(SeatRushError, code="too_many_seats"):
    """That is more seats than one hold may have."""


class UnknownArea(SeatRushError, code="unknown_area"):
    """There is no such area in this layout."""


class SeatNotBlocked(SeatRushError, code="seat_not_blocked"):
    """At least one of these seats is not blocked."""


def refusal_error(refusal: Refused) -> SeatRushError:
    """The error of a refusal that needs nothing added."""
    return BY_STATUS[refusal.status]()


#: The error a refusal of the inventory becomes when nothing needs to be added to it.
BY_STATUS: Final[dict[str, type[SeatRushError]]] = {
    error.code.name: error
    for error in (
        HoldExpired,
        HoldLost,
        HoldClaimed,
        HoldNotExtendable,
        IdempotencyKeyReused,
        NotFound,
        SeatNotBlocked,
    )
}
