"""A build that holds seats by read-then-write, as a command line of its own: the control of load tests.

`python -m tests.support.read_then_write serve` is `seatrush serve` with one change: a hold looks at the
seats first and, when they looked free, takes them a moment later without looking again. Alone nobody sees a
difference. Nor does it know which seats it is asking for at the moment: it is many processes in one, for
whose buyers nothing but the map is common. The rest is the real thing, so what a crowd is told is all there
is to notice it by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from entrypoints.cli import main
from entrypoints.finding import find_addresses
from reservation.inventory_redis import RedisInventory
from reservation.keys import keys_of
from reservation.ports import Held
from reservation.replica import Asking, Replica
from runtime.redis_link import connect
from runtime.settings import load

_TWO_TRIPS_S: Final = 0.01  # between two machines, on a busy day

_begin_asking: Final = Replica.begin_asking
_hold: Final = RedisInventory.hold
_redis: Final = connect(find_addresses(load()).redis_url)


async def _read_then_write(
    inventory: RedisInventory,
    showtime_id: str,
    hold_id: str,
    buyer_id: str,
    seats: Sequence[int],
    **terms: Any,
) -> Held:
    taken = keys_of(showtime_id).taken
    if not any([await _redis.getbit(taken, seat) for seat in seats]):
        await asyncio.sleep(_TWO_TRIPS_S)
        for seat in seats:
            await _redis.setbit(taken, seat, 0)
    return await _hold(inventory, showtime_id, hold_id, buyer_id, seats, **terms)


def _asking_for_nothing(replica: Replica, _: int) -> Asking:
    return _begin_asking(replica, 0)


Replica.begin_asking = _asking_for_nothing  # type: ignore[method-assign]
RedisInventory.hold = _read_then_write  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
