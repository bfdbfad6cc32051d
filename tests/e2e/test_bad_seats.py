"""Wishes for seats that cannot be granted because they make no sense.

Goal: rows B18 and B25 of the bad-input catalogue with the statuses of the public contract: the answer says
which rule was broken, says where, and no seat moves. Method: one table over HTTP on a hall of the test's own;
the two that depend on what was bought before have a test each.
"""

from __future__ import annotations

from typing import Any, Final

import pytest
import pytest_asyncio

from tests.support.contract import CANARY, nothing_changes, refused
from tests.support.service import Fan, Service

#: Two wheelchair places, each with a neighbour, in a hall of forty.
HALL: Final = "\n".join(
    ",".join(f"{row}{seat}{'+' if row == 'A' and seat in {1, 10} else ''}" for seat in range(1, 11))
    for row in "ABCD"
)
ALL: Final = [f"{row}{seat}" for row in "ABCD" for seat in range(1, 11)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hall(service: Service) -> tuple[str, Fan]:
    (fan,) = await service.fans(1)
    return await service.add_showtime(HALL, orphan_rule="off"), fan


def best(**wish: Any) -> dict[str, Any]:
    return {"best_available": wish}


WISHES: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "neither": ({}, "validation_failed"),
    "both": ({"seats": ["A2"], **best(count=1)}, "validation_failed"),
    "both, both null": ({"seats": None, "best_available": None}, "validation_failed"),
    "no seats": ({"seats": []}, "validation_failed"),
    "an empty label": ({"seats": [""]}, "validation_failed"),
    "a label of 81": ({"seats": ["x" * 81]}, "validation_failed"),
    "a seat that is not there": ({"seats": ["Z1"]}, "unknown_seat"),
    "one of two is not there": ({"seats": ["B1", CANARY]}, "unknown_seat"),
    "an index for a label": ({"seats": ["0"]}, "unknown_seat"),
    "minus one": ({"seats": ["-1"]}, "unknown_seat"),
    "2^31": ({"seats": ["2147483648"]}, "unknown_seat"),
    "an index as number": ({"seats": [0]}, "validation_failed"),
    "a label in small letters": ({"seats": ["b1"]}, "unknown_seat"),
    "a label with a space": ({"seats": ["B1 "]}, "unknown_seat"),
    "full-width digits": ({"seats": ["B１"]}, "unknown_seat"),
    "a letter that looks alike": ({"seats": ["В1"]}, "unknown_seat"),  # Cyrillic Ve
    "SQL": ({"seats": ["B1'; DROP TABLE checkout.orders;--"]}, "unknown_seat"),
    "a Redis command": ({"seats": ["B1 FLUSHALL"]}, "unknown_seat"),
    "a seat twice": ({"seats": ["B1", "B2", "B1"]}, "duplicate_seat"),
    "a seat of nowhere twice": ({"seats": [CANARY, CANARY]}, "duplicate_seat"),
    "eleven": ({"seats": ALL[10:21]}, "too_many_seats"),
    "eleven times one": ({"seats": ["B1"] * 11}, "too_many_seats"),
    "a thousand": ({"seats": ["B1"] * 1_000}, "too_many_seats"),
    "a thousand and one": ({"seats": ["B1"] * 1_001}, "validation_failed"),
    "best of none": (best(count=0), "validation_failed"),
    "best of minus one": (best(count=-1), "validation_failed"),
    "best of a billion": (best(count=10**9), "validation_failed"),
    "best of 10^400": (best(count=10**400), "validation_failed"),
    "best of 1.0": (best(count=1.0), "validation_failed"),
    "best of a text": (best(count="2"), "validation_failed"),
    "best of true": (best(count=True), "validation_failed"),
    "best of nothing said": (best(), "validation_failed"),
    "best of eleven": (best(count=11), "too_many_seats"),
    "best of a thousand": (best(count=1_000), "too_many_seats"),
    "best with a price": (best(count=1, price=1), "unknown_field"),
    "more accessible than seats": (best(count=1, accessible=2), "validation_failed"),
    "minus one accessible": (best(count=1, accessible=-1), "validation_failed"),
    "a billion accessible": (best(count=1, accessible=10**9), "validation_failed"),
    "an area that is not there": (best(count=1, area_id=CANARY), "unknown_area"),
    "an area without name": (best(count=1, area_id=""), "validation_failed"),
    "an area of 121": (best(count=1, area_id="a" * 121), "validation_failed"),
    "an area as number": (best(count=1, area_id=1), "validation_failed"),
}


@pytest.mark.parametrize("what", WISHES)
async def test_a_wish_that_makes_no_sense_is_refused(
    service: Service, hall: tuple[str, Fan], what: str
) -> None:
    showtime_id, fan = hall
    wish, code = WISHES[what]
    async with nothing_changes(service, showtime_id):
        answer = await fan.call("POST", f"/showtimes/{showtime_id}/holds", wish)
    refused(answer, 422, code, sent=(CANARY, "DROP", "FLUSHALL", "2147483648"))


async def test_every_unknown_seat_is_pointed_at(hall: tuple[str, Fan]) -> None:
    showtime_id, fan = hall
    answer = await fan.hold(showtime_id, "B1", "nowhere", "B2", "neither")
    problem = refused(answer, 422, "unknown_seat", sent=("nowhere", "neither"))
    assert [error["pointer"] for error in problem["errors"]] == ["/seats/1", "/seats/3"]


async def test_more_wheelchair_places_than_exist_are_sold_out(
    service: Service, hall: tuple[str, Fan]
) -> None:
    showtime_id, fan = hall
    async with nothing_changes(service, showtime_id):
        answer = await fan.hold_best(showtime_id, 4, accessible=3)
    refused(answer, 409, "sold_out")


async def test_seats_of_another_hall_are_unknown_here(service: Service, hall: tuple[str, Fan]) -> None:
    showtime_id, fan = hall
    other_id = await service.add_showtime("X1,X2,X3,X4")
    async with nothing_changes(service, showtime_id, other_id):
        refused(await fan.hold(showtime_id, "X1", "X2"), 422, "unknown_seat", sent=("X1", "X2"))


async def test_who_has_as_many_as_allowed_gets_no_more(service: Service) -> None:
    showtime_id = await service.add_showtime(HALL, orphan_rule="off", seats_per_buyer=3)
    fan, other = await service.fans(2)
    assert (await fan.hold(showtime_id, "B1", "B2")).status == 201
    async with nothing_changes(service, showtime_id):
        problem = refused(await fan.hold(showtime_id, "B3", "B4"), 409, "seat_limit_exceeded")
        refused(await fan.hold_best(showtime_id, 2), 409, "seat_limit_exceeded")
        refused(await other.hold(showtime_id, *ALL[10:14]), 409, "seat_limit_exceeded")
    assert (problem["already"], problem["most"]) == (2, 3)
    assert (await fan.hold(showtime_id, "B3")).status == 201


async def test_a_full_house_is_sold_out_for_any_wish(service: Service) -> None:
    showtime_id = await service.add_showtime("X1,X2,X3,X4")
    fan, other = await service.fans(2)
    assert (await fan.hold(showtime_id, "X1", "X2", "X3", "X4")).status == 201
    async with nothing_changes(service, showtime_id):
        problem = refused(await other.hold(showtime_id, "X1", "X2"), 409, "sold_out")
        refused(await other.hold_best(showtime_id, 1), 409, "sold_out")
    assert problem["conflicts"] == ["X1", "X2"]
    assert problem["alternatives"] == []
