"""Seats: layouts, seat maps, holds, best available, claim, confirm and return, live maps, rebuild.

Owns who may try for a seat, in Redis, and the terms it is sold under, in PostgreSQL. Knows neither films
nor money: prices are handed in by whoever renders an answer, and a claim's or sale's log entry is bytes
to it. Does not own who *has* a seat: that is the order side's, in PostgreSQL, and it is asked in a rebuild.
"""

from reservation.deadlines import Deadlines
from reservation.domain import Area, Layout, OrphanRule, Seat, SeatKind, Segment
from reservation.drawings import Drawings
from reservation.epoch import EpochWatch
from reservation.errors import HoldExpired, HoldLost, refusal_error
from reservation.freed_redis import FreedNews
from reservation.halls import Halls
from reservation.inventory_redis import RedisInventory
from reservation.keys import epoch_key, hold_prefix, keys_of, log_key, showtimes_key
from reservation.layouts import ImportedLayout, LayoutIssue, LayoutRejected, import_layout
from reservation.live import SeatMaps
from reservation.packing import count_seats, plane_of, seats_in, unpack_numbers
from reservation.picking import BestAvailable
from reservation.ports import Phase, Possession, Refused, ReturnableState, SeatInventory, Terms
from reservation.reaper import Reaper
from reservation.rebuild import Rebuilder, Rebuilt
from reservation.restoring import OwnersOf
from reservation.routes import operations
from reservation.sales import SalesService
from reservation.service import Hold, ReservationService
from reservation.status import SaleStatusService, SaleView
from reservation.store import ReservationStore, Sale
from reservation.warming import Warming

__all__ = [
    "Area",
    "BestAvailable",
    "Deadlines",
    "Drawings",
    "EpochWatch",
    "FreedNews",
    "Halls",
    "Hold",
    "HoldExpired",
    "HoldLost",
    "ImportedLayout",
    "Layout",
    "LayoutIssue",
    "LayoutRejected",
    "OrphanRule",
    "OwnersOf",
    "Phase",
    "Possession",
    "Reaper",
    "Rebuilder",
    "Rebuilt",
    "RedisInventory",
    "Refused",
    "ReservationService",
    "ReservationStore",
    "ReturnableState",
    "Sale",
    "SaleStatusService",
    "SaleView",
    "SalesService",
    "Seat",
    "SeatInventory",
    "SeatKind",
    "SeatMaps",
    "Segment",
    "Terms",
    "Warming",
    "count_seats",
    "epoch_key",
    "hold_prefix",
    "import_layout",
    "keys_of",
    "log_key",
    "operations",
    "plane_of",
    "refusal_error",
    "seats_in",
    "showtimes_key",
    "unpack_numbers",
]
