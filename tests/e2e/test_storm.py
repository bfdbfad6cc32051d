"""Everybody wants the same two seats in the same second.

Goal: over HTTP, 200 simultaneous holds of the same seats give exactly one winner, and the others are told
at once and offered something else. Method: 200 fans, one request each, all in flight together; the
control in tests/races shows what happens without the script.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.support.service import Service


async def test_two_hundred_fans_racing_for_two_seats_make_one_winner(service: Service) -> None:
    showtime_id = await service.add_showtime()
    fans = await service.fans(200)
    answers = await asyncio.gather(*(fan.hold(showtime_id, "D5", "D6") for fan in fans))
    assert Counter(answer.status for answer in answers) == {201: 1, 409: 199}
    for answer in answers:
        if answer.status == 409:
            assert answer.code == "seat_taken"
            assert answer.body["conflicts"] == ["D5", "D6"]
            assert answer.body["alternatives"]
    assert (await service.seats(showtime_id))["seats_left"] == 78


async def test_one_fan_firing_a_hundred_times_stays_within_the_limit(service: Service) -> None:
    showtime_id = await service.add_showtime(seats_per_buyer=4, orphan_rule="off")
    (fan,) = await service.fans(1)
    wishes = [(f"{row}{seat}",) for row in "ABCDEFGH" for seat in (1, 2, 3, 5, 6, 7, 8, 10, 11, 12)]
    answers = await asyncio.gather(*(fan.hold(showtime_id, *wish) for wish in wishes))
    assert Counter(answer.status for answer in answers) == {201: 4, 409: len(wishes) - 4}
    refused = {answer.code for answer in answers if answer.status == 409}
    assert refused == {"seat_limit_exceeded"}


async def test_twins_with_one_key_make_one_hold(service: Service) -> None:
    showtime_id = await service.add_showtime()
    (fan,) = await service.fans(1)
    answers = await asyncio.gather(*(fan.hold(showtime_id, "B5", "B6", key="twins") for _ in range(20)))
    held = [answer.body["hold_id"] for answer in answers if answer.status == 201]
    assert held
    assert len(set(held)) == 1
    assert {answer.code for answer in answers if answer.status != 201} <= {"request_in_progress"}
    assert (await service.seats(showtime_id))["seats_left"] == 78
