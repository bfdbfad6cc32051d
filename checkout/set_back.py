"""PostgreSQL came back older than the logs: finding it out, and giving it again what it once had.

An asynchronous standby was promoted, a backup restored: the order writer has acknowledged entries that no
PostgreSQL has any more. Nothing else looks wrong: the gate is open, the seats are taken, for orders that
do not exist. But a log is kept for a day behind PostgreSQL, and PostgreSQL says itself how far it has each:
its positions are written with the batches, so they went back with the orders. So whatever was acknowledged
beyond a position was lost, and the group of order writers is set back to that position. Each entry from there
on is given out again, and may be, in any order and any number of times.

What was acknowledged is read first and PostgreSQL's positions afterwards, again where something seemed to be
lost: positions only grow, so what was acknowledged before they are read is behind them.

What does not come back this way is what never was on a log: payments and refunds. Their gateway knows of
them, and its books are compared with ours (`checkout/reconciliation`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final, Protocol

from checkout.entries import UNDECODABLE, EntryTooNew, decode
from checkout.log_entries import LogEntry, Position, log_position
from checkout.log_redis import OrderLog
from kernel.ids import PARTITIONS

NOWHERE: Final = "0-0"
_LOOK_PAUSE_S: Final = 0.1

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


async def until_written(store: HasPositions, log: OrderLog) -> None:
    """Have PostgreSQL given again what it lost, and wait until it has all that is on the logs now.

    What comes meanwhile is not waited for, nor what only newer code can write. While positions move somebody
    is writing; when they stand still, the logs are looked at again: what is missing may be lost by now. An
    entry that another slot has in hand, behind one that is written, is not seen. Raises SeatsUnavailable,
    PersistenceUnavailable.
    """
    await feed_again(store, log)
    positions = await store.positions()
    ends = await _ends(log, positions, range(PARTITIONS))
    while ends:
        await asyncio.sleep(_LOOK_PAUSE_S)
        before, positions = positions, await store.positions()
        if positions == before:
            found = await _ends(log, positions, ends)
            ends = {partition: min(end, ends[partition]) for partition, end in found.items()}
        ends = {
            partition: end
            for partition, end in ends.items()
            if log_position(positions.get(partition, NOWHERE)) < end
        }


async def _ends(log: OrderLog, positions: dict[int, str], partitions: Iterable[int]) -> dict[int, Position]:
    """The last entry of each log that PostgreSQL has still to be given, if there is one."""
    ends = {}
    for partition in partitions:
        log_id = positions.get(partition, NOWHERE)
        ahead = [
            log_position(entry.log_id)
            for entry in await log.read_unsettled(partition, log_id)
            if log_position(entry.log_id) > log_position(log_id) and _is_ours_to_write(entry)
        ]
        if ahead:
            ends[partition] = max(ahead)
    return ends


def _is_ours_to_write(entry: LogEntry) -> bool:
    """What never was an entry is put aside, which moves the position too."""
    try:
        decode(entry.data)
    except EntryTooNew:
        return False
    except UNDECODABLE:
        return True
    return True
