"""From the logs to batches that are ready to be written.

How much to ask for. Redis counts per log, so one read of 64 logs may answer with 64 times as much as it
asks for, in one reply that holds up every hold meanwhile. So each log is asked for its share of a batch:
a sixty-fourth at first, then a share among the logs that had so much last time. A single hot showtime gets
whole batches from its second read on, and a writer that was away for an hour comes back to bounded replies.

When to ask. The next read is in flight, and what it brings is decoded and laid out, while PostgreSQL
commits, but only when the last read left something behind. Without a backlog a read in flight returns with
the first entry that arrives: a batch of one, and all the rest waits one commit longer. Asked after the
commit, it brings everything that arrived meanwhile. And it is asked `limits.writer_rest_ms` after the last
such read that brought something, no sooner. A lone order is read the moment it comes; in a steady trickle the
orders of that while become one batch instead of one each. Every batch wakes PostgreSQL, Redis and the workers
too, and it is waking that costs, not rows: a sale costs the whole machine a quarter less.

Decoding runs in slices between which PostgreSQL's replies are served; a batch of thousands would otherwise
hold up the one that is being written.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from checkout.entries import UNDECODABLE, EntryTooNew, decode
from checkout.log_entries import LogEntry
from checkout.log_redis import OrderLog
from checkout.writer.batch import Batch, Item, in_order
from checkout.writer.counts import WriterCounts
from checkout.writer.weather import in_any_weather
from kernel import limits
from kernel.ids import PARTITIONS

#: A millisecond or two of decoding.
_SLICE: Final = 200

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Load:
    """Entries of one batch: what they say, laid out; and those that say nothing."""

    entries: Sequence[LogEntry]
    items: list[Item] = field(default_factory=list)
    undecodable: list[LogEntry] = field(default_factory=list)
    batch: Batch = field(default_factory=Batch)


class Intake:
    """Reads and prepares. One read at a time; `more` says whether the last one left entries behind."""

    def __init__(self, log: OrderLog, counts: WriterCounts) -> None:
        self._log = log
        self._counts = counts
        #: Logs whose last answer was longer than a sixty-fourth of a batch.
        self._busy = 0
        self._brought_at_s = float("-inf")
        self.more = False

    async def news(self) -> list[Load]:
        """What arrived, waiting for it for a moment, if need be."""
        at_first = max(1, limits.writer_batch_entries_max // PARTITIONS)
        share = limits.writer_batch_entries_max // self._busy if self._busy else at_first
        entries = await self._read(share)
        found = Counter(entry.partition for entry in entries).values()
        self._busy = sum(count >= at_first for count in found)
        self.more = max(found, default=0) >= share
        return await self.prepare(entries)

    async def _read(self, share: int) -> list[LogEntry]:
        if not self.more:
            await self._rest()
            entries = await in_any_weather(lambda: self._log.read(share, limits.writer_block_ms))
            if entries:
                self._brought_at_s = asyncio.get_running_loop().time()
            return entries
        with self._counts.timed("read"):
            return await in_any_weather(lambda: self._log.read(share, None))

    async def _rest(self) -> None:
        """Let what trickles in become a batch."""
        until_s = self._brought_at_s + limits.writer_rest_ms / 1_000
        left_s = until_s - asyncio.get_running_loop().time()
        if left_s > 0:
            await asyncio.sleep(left_s)

    async def own_pending(self) -> list[Load]:
        """What this slot was given before and never settled."""
        entries = await in_any_weather(lambda: self._log.read_own_pending(limits.writer_batch_entries_max))
        return await self.prepare(entries)

    async def prepare(self, entries: Sequence[LogEntry]) -> list[Load]:
        """Decode and lay out, in batches no larger than the largest."""
        size = limits.writer_batch_entries_max
        return [await self._load(entries[at : at + size]) for at in range(0, len(entries), size)]

    async def _load(self, entries: Sequence[LogEntry]) -> Load:
        load = Load(entries)
        with self._counts.timed("decode"):
            for at in range(0, len(entries), _SLICE):
                if at:
                    await asyncio.sleep(0)
                for entry in entries[at : at + _SLICE]:
                    _decode(entry, load)
            items = in_order(load.items)
            for at in range(0, len(items), _SLICE):
                if at:
                    await asyncio.sleep(0)
                load.batch.add(items[at : at + _SLICE])
        return load


def _decode(entry: LogEntry, load: Load) -> None:
    try:
        load.items.append(Item(entry, decode(entry.data)))
    except EntryTooNew:
        _log.error("entry %s of partition %d is of a newer version", entry.log_id, entry.partition)
    except UNDECODABLE:
        load.undecodable.append(entry)
