"""Goal: 200 simultaneous requests for the same two seats make one winner, and only the script is to thank.

Method: the API in the test's own process, 200 fans, one request each, all in flight together. Then the
control: the same API, the same fans, and a hold that reads first and writes afterwards.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from reservation.inventory_redis import RedisInventory
from reservation.keys import keys_of
from reservation.ports import Held, Refused
from reservation.replica import Replica
from tests.support.platform import RunningPlatform

FANS = 200


async def _storm(running: RunningPlatform) -> Counter[int]:
    showtime_id = await running.add_showtime()
    fans = await running.fans(FANS)
    answers = await asyncio.gather(*(fan.hold(showtime_id, "D5", "D6") for fan in fans))
    assert all(answer.body["alternatives"] for answer in answers if answer.status == 409)
    return Counter(answer.status for answer in answers)


async def test_two_hundred_requests_for_two_seats_make_one_winner(running: RunningPlatform) -> None:
    assert await _storm(running) == {201: 1, 409: FANS - 1}


async def test_with_read_then_write_instead_of_the_script_the_seats_are_given_away_twice(
    running: RunningPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_then_write(
        _: RedisInventory, showtime_id: str, hold_id: str, buyer_id: str, seats: Sequence[int], **terms: Any
    ) -> Held:
        keys, redis = keys_of(showtime_id), running.redis
        if any([await redis.getbit(keys.taken, seat) for seat in seats]):
            raise Refused("seat_taken", taken=await redis.get(keys.taken), numbers=(0,))
        # As if the server were busy: once a write is seen, the worker refuses by its own picture of the map.
        await asyncio.sleep(0.02)
        for seat in seats:
            await redis.setbit(keys.taken, seat, 1)
        return Held(expires_at_ms=terms["ttl_ms"], version=1, fresh=True)

    monkeypatch.setattr(RedisInventory, "hold", read_then_write)
    # As if every fan had a worker to himself: in one, who wants the same seats waits for the first answer.
    monkeypatch.setattr(Replica, "is_asking_for", lambda *_: False)
    monkeypatch.setattr(Replica, "asking_for", lambda *_: None)
    answered = await _storm(running)
    assert answered[201] > 1
    assert answered[201] + answered[409] == FANS
