"""PostgreSQL came back older than the logs: finding it out, and giving it again what it once had.

An asynchronous standby was promoted, a backup restored: the order writer has acknowledged entries that no
PostgreSQL has any more. Nothing else looks wrong: the gate is open, the seats are taken, for orders that
do not exist. But a log is kept for a day behind PostgreSQL, and PostgreSQL says itself how far it has each:
its positions are written with the batches, so they went back with the orders. So whatever was acknowledged
beyond a position was lost, and the group of order writers is set back to that position. Each entry from there
on is given out again, and may be, in any order and any number of times.

What was acknowledged is read first and PostgreSQL's positions afterwards, again where something seemed to be
lost: positions only grow, so what was acknowledged before they are read is behind them.

What does not come back this way is what never was on a log: payments, refunds, gateway events. Their gateway
knows of them; an audit compares the books.
"""

from __future__ import annotations

import logging
from typing import Protocol

from checkout.log_entries import log_position
from checkout.log_redis import OrderLog

NOWHERE = "0-0"

_log = logging.getLogger(__name__)


class HasPositions(Protocol):
    """Whoever can ask PostgreSQL how far it has each log."""

    async def positions(self) -> dict[int, str]:
        """The id of the last entry by partition. Raises PersistenceUnavailable."""


async def set_back(store: HasPositions, log: OrderLog) -> list[int]:
    """Partitions of whose logs more was acknowledged than PostgreSQL has.

    Raises SeatsUnavailable, PersistenceUnavailable.
    """
    acknowledged = await log.acknowledged_after(await store.positions())
    if not acknowledged:
        return []
    positions = await store.positions()
    return [
        partition
        for partition, log_id in sorted(acknowledged.items())
        if log_position(log_id) > log_position(positions.get(partition, NOWHERE))
    ]


async def feed_again(store: HasPositions, log: OrderLog) -> list[int]:
    """Have PostgreSQL given again what it was set back behind; answers the partitions that is true of.

    Raises SeatsUnavailable, PersistenceUnavailable.
    """
    behind = await set_back(store, log)
    if not behind:
        return []
    positions = await store.positions()
    known = {partition: positions.get(partition, NOWHERE) for partition in behind}
    _log.error("PostgreSQL was set back: it is given the logs again, of each partition beyond %s", known)
    for partition in await log.give_out_again(known):
        _log.error(
            "the log of partition %d may begin later than that: what was trimmed is for an audit to find",
            partition,
        )
    return behind
