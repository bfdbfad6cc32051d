"""A seat map at one version, and what is rendered from it once for everybody who looks."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from reservation.packing import count_seats
from reservation.ports import Phase


@dataclass(frozen=True)
class MapPicture:
    """A seat map at one version."""

    showtime_id: str
    epoch: int
    version: int
    seat_count: int
    phase: Phase
    opens_at_ms: int
    closes_at_ms: int
    taken: bytes
    sold: bytes

    @cached_property
    def seats_left(self) -> int:
        return self.seat_count - count_seats(self.taken)

    @cached_property
    def tag(self) -> str:
        """What the version is called on the wire: in the ETag and as event id."""
        return f"{self.epoch}-{self.version}"

    @cached_property
    def document(self) -> dict[str, Any]:
        """The answer of `GET /showtimes/{id}/seats`."""
        return {
            "showtime_id": self.showtime_id,
            "epoch": self.epoch,
            "version": self.version,
            "seat_count": self.seat_count,
            "seats_left": self.seats_left,
            "taken": base64.b64encode(self.taken).decode(),
            "sold": base64.b64encode(self.sold).decode(),
        }

    @cached_property
    def encoded(self) -> bytes:
        """That answer as JSON."""
        return orjson.dumps(self.document)
