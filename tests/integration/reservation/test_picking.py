"""Goal: a crowd that leaves the choice of seats to us is spread over the hall, not sent against itself.

Method: many ask one worker, or several, in one turn of the loop; what the server was asked is counted. The
control takes away what makes a worker pass over the seats it is asking for already.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from kernel.ids import new_id
from reservation.picking import BestAvailable
from tests.integration.reservation.conftest import House, Worker

CROWD = 150
#: 40 rows of 50.
HALL = "\n".join(",".join(f"{row}-{seat}" for seat in range(1, 51)) for row in range(1, 41))


async def _told(worker: Worker, showtime_id: str, count: int, account_id: str | None = None) -> str:
    """`held`, or the name of the refusal."""
    try:
        wish = BestAvailable(count)
        await worker.service.hold_best(account_id or new_id("acc"), showtime_id, wish, "key")
    except Exception as refusal:
        return type(refusal).__name__
    return "held"


async def test_a_crowd_at_one_worker_is_given_different_seats_with_one_script_each(house: House) -> None:
    worker = house.worker()
    showtime_id = await house.running.add_showtime(HALL)
    await worker.maps.current(showtime_id)
    before = await house.scripts_run()

    told = await asyncio.gather(*(_told(worker, showtime_id, 2) for _ in range(CROWD)))

    assert Counter(told) == {"held": CROWD}
    assert await house.scripts_run() <= before + CROWD + 1  # one more read of the map


async def test_without_passing_over_what_is_asked_for_the_same_crowd_is_sent_against_itself(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reservation.service.passing_over", lambda taken, asked_for: taken)
    worker = house.worker()
    showtime_id = await house.running.add_showtime(HALL)
    await worker.maps.current(showtime_id)
    before = await house.scripts_run()

    told = await asyncio.gather(*(_told(worker, showtime_id, 2) for _ in range(CROWD)))

    assert Counter(told)["SeatTaken"] > 0
    assert await house.scripts_run() > before + 3 * CROWD


async def test_crowds_at_four_workers_step_aside_for_each_other(house: House) -> None:
    workers = [house.worker() for _ in range(4)]
    showtime_id = await house.running.add_showtime(HALL)

    told = await asyncio.gather(*(_told(workers[n % 4], showtime_id, 2) for n in range(4 * 64)))

    assert Counter(told)["held"] > 0.95 * len(told)
    assert set(told) <= {"held", "SeatTaken"}


async def test_the_last_seats_go_to_as_many_as_they_are_for_and_the_rest_hear_that_none_is_left(
    house: House,
) -> None:
    worker = house.worker()
    showtime_id = await house.running.add_showtime("A1,A2,A3,A4\nB1,B2,B3,B4")

    told = await asyncio.gather(*(_told(worker, showtime_id, 2) for _ in range(40)))

    assert Counter(told) == {"held": 4, "SoldOut": 36}


async def test_seats_somebody_asked_for_in_vain_go_to_who_waited_for_them(house: House) -> None:
    worker = house.worker()
    showtime_id = await house.running.add_showtime("A1,A2,A3,A4", seats_per_buyer=2)
    greedy = new_id("acc")
    await worker.service.hold_best(greedy, showtime_id, BestAvailable(2), "first")

    told = await asyncio.gather(_told(worker, showtime_id, 2, greedy), _told(worker, showtime_id, 2))

    assert told == ["SeatLimitExceeded", "held"]
