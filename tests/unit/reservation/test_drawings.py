"""Goal: a hall is drawn once for however many ask, in bounded memory, and is no work for the collector."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import msgspec
import pytest

from kernel.money import Money
from reservation import Layout, Sale, Terms, import_layout
from reservation.drawings import Drawings, etag_of
from reservation.halls import Hall, Showtime
from reservation.schemas import LayoutAnswer
from reservation.seating import SeatingPlan
from reservation.stretches import StretchTable


def _layout(seats: int, name: str = "hall") -> Layout:
    grid = "\n".join(",".join(f"{row}-{seat}" for seat in range(40)) for row in range(seats // 40))
    return import_layout(grid.encode(), name=name).layout


def _showtime(layout: Layout, showtime_id: str = "sho_1") -> Showtime:
    terms = Terms(showtime_id, layout.seat_count, 0, 0, 8, "open")
    hall = Hall(layout, SeatingPlan(layout), StretchTable(layout))
    return Showtime(showtime_id, Sale(terms, layout.layout_id, "off"), hall)


def _prices(layout: Layout, amount: int = 100) -> dict[str, Money]:
    return {area.area_id: Money(amount, "CNY") for area in layout.areas}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of each layout as it is drawn."""
    names: list[str] = []

    def encode(answer: LayoutAnswer) -> bytes:
        names.append(answer.name)
        return msgspec.json.encode(answer)

    monkeypatch.setattr("reservation.drawings._encode", encode)
    return names


async def test_a_crowd_has_a_hall_drawn_once(drawn: list[str]) -> None:
    drawings, layout = Drawings(), _layout(80)
    showtimes = [_showtime(layout, f"sho_{number}") for number in range(50)]
    bodies = await asyncio.gather(*(drawings.of(one, _prices(layout)) for one in showtimes))
    assert drawn == ["hall"]
    assert all(body is bodies[0] for body in bodies)
    answer: dict[str, Any] = msgspec.json.decode(bodies[0])
    assert (answer["layout_id"], len(answer["seats"])) == (layout.layout_id, 80)


async def test_whoever_goes_away_takes_the_drawing_from_nobody(drawn: list[str]) -> None:
    drawings, layout = Drawings(), _layout(80)
    showtime = _showtime(layout)
    first, second = (asyncio.create_task(drawings.of(showtime, _prices(layout))) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert layout.layout_id.encode() in await second
    assert drawn == ["hall"]


async def test_other_prices_are_another_drawing_under_another_name(drawn: list[str]) -> None:
    drawings, layout = Drawings(), _layout(80)
    showtime = _showtime(layout)
    cheap, dear = _prices(layout, 100), _prices(layout, 900)
    assert etag_of(showtime, cheap) != etag_of(showtime, dear)
    bodies = [await drawings.of(showtime, prices) for prices in (cheap, dear, dict(cheap))]
    assert len(drawn) == 2
    assert bodies[0] is bodies[2] != bodies[1]


async def test_drawings_not_asked_for_lately_make_room(drawn: list[str]) -> None:
    halls = [_showtime(_layout(80, name)) for name in "abc"]
    prices = _prices(halls[0].hall.layout)
    size = len(await Drawings().of(halls[0], prices))
    drawn.clear()
    drawings = Drawings(bytes_max=int(2.5 * size))
    for place in (0, 1, 0, 2, 0, 1):
        await drawings.of(halls[place], prices)
    assert drawn == ["a", "b", "c", "b"]


def test_a_hall_is_no_work_for_the_collector() -> None:
    seats = 10_000
    _showtime(_layout(400))  # whatever the first of all makes
    gc.collect()
    before = len(gc.get_objects())
    hall = _showtime(_layout(seats))
    gc.collect()
    grown = len(gc.get_objects()) - before
    control = [[seat.index] for seat in hall.hall.layout.seats]
    assert len(gc.get_objects()) - before - grown >= len(control) == seats
    assert grown < seats / 5
