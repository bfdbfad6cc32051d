"""What callers send to the seat engine and get from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from kernel.money import Money
from reservation.domain import Layout
from reservation.picking import BestAvailable
from runtime.http import Instant, Model, MoneyModel, Record

#: Prices of a showtime by area id.
Prices = Mapping[str, Money]

Label = Annotated[str, Meta(min_length=1, max_length=80)]


class BestAvailableWish(Model):
    """The best seats together, instead of named ones."""

    count: Annotated[int, Meta(ge=1, le=1_000, description="How many seats, accessible ones included.")]
    area_id: Annotated[str, Meta(min_length=1, max_length=120)] | None = None
    accessible: Annotated[
        int, Meta(ge=0, le=1_000, description="How many of them are wheelchair places.")
    ] = 0


class HoldRequest(Model):
    """Either `seats` by label or `best_available`."""

    EXAMPLE: ClassVar[Mapping[str, Any] | None] = {"seats": ["7-12", "7-13"]}
    ONE_OF: ClassVar[tuple[str, ...]] = ("seats", "best_available")

    seats: Annotated[list[Label], Meta(min_length=1, max_length=1_000)] | None = None
    best_available: BestAvailableWish | None = None

    @property
    def wish(self) -> BestAvailable | None:
        """The wish in the words of the service."""
        asked = self.best_available
        return None if asked is None else BestAvailable(asked.count, asked.area_id, asked.accessible)


class HeldSeat(Record, gc=False):
    """One held seat."""

    label: str
    index: int
    area_id: str
    price: MoneyModel


class HoldAnswer(Record):
    """Seats kept for one buyer until `expires_at`."""

    hold_id: str
    showtime_id: str
    seats: list[HeldSeat]
    together: bool
    amount: MoneyModel
    expires_at: Instant


class LayoutSeat(Record):
    """One seat of the hall; `x` to the right, `y` away from the screen, in seat pitches."""

    index: int
    label: str
    row: str
    number: str
    x: float
    y: float
    area_id: str
    kind: str


class LayoutArea(Record):
    """Seats with one price."""

    area_id: str
    name: str
    price: MoneyModel


class LayoutAnswer(Record):
    """The fixed geometry of the hall with the prices of this showtime."""

    layout_id: str
    version: int
    name: str
    seat_count: int
    seats: list[LayoutSeat]
    areas: list[LayoutArea]
    focal_point: tuple[float, float]

    @classmethod
    def of(cls, layout_id: str, layout: Layout, prices: Prices) -> LayoutAnswer:
        """`layout_id` is the layout's own, which takes as long to compute as all the rest."""
        return cls(
            layout_id=layout_id,
            version=1,
            name=layout.name,
            seat_count=layout.seat_count,
            seats=[
                LayoutSeat(
                    index=seat.index,
                    label=seat.label,
                    row=seat.row,
                    number=seat.number,
                    x=seat.x,
                    y=seat.y,
                    area_id=seat.area_id,
                    kind=seat.kind,
                )
                for seat in layout.seats
            ],
            areas=[
                LayoutArea(area_id=area.area_id, name=area.name, price=MoneyModel.of(prices[area.area_id]))
                for area in layout.areas
            ],
            focal_point=layout.focal_point,
        )


class SeatMapAnswer(Record):
    """Which seats can be held now. Bit *i*, most significant first, is seat *i*."""

    showtime_id: str
    epoch: int
    version: int
    seat_count: int
    seats_left: int
    taken: Annotated[str, Meta(description="base64: seats that cannot be held now")]
    sold: Annotated[str, Meta(description="base64: seats that are sold or claimed")]


def named_or_wished(request: HoldRequest) -> Sequence[dict[str, str]]:
    """What is wrong with a request that names both, neither, or more wheelchair places than seats."""
    if (request.seats is None) == (request.best_available is None):
        return [
            {
                "pointer": "",
                "code": "one_of_two",
                "detail": "name seats, or ask for best_available: one of the two",
            }
        ]
    asked = request.best_available
    if asked is not None and asked.accessible > asked.count:
        return [
            {
                "pointer": "/best_available/accessible",
                "code": "more_than_count",
                "detail": "count includes the accessible places",
            }
        ]
    return []
