"""Seats: layouts, seat maps, holds, best available, claim, confirm and return, live maps, rebuild.

Owns who may try for a seat, in Redis, and the terms it is sold under, in PostgreSQL. Knows neither films
nor money: prices are handed in by whoever renders an answer, and a claim's or sale's log entry is bytes
to it. Does not own who *has* a seat: that is the order side's, in PostgreSQL, and it is asked in a rebuild.
"""

from reservation.domain import Area, Layout, OrphanRule, Seat, SeatKind, Segment
from reservation.errors import refusal_error
from reservation.keys import log_key
from reservation.ports import Possession, Refused, ReturnableState, SeatInventory
from reservation.service import BestAvailable, Hold, ReservationService

__all__ = [
    "Area",
    "BestAvailable",
    "Hold",
    "Layout",
    "OrphanRule",
    "Possession",
    "Refused",
    "ReservationService",
    "ReturnableState",
    "Seat",
    "SeatInventory",
    "SeatKind",
    "Segment",
    "log_key",
    "refusal_error",
]
