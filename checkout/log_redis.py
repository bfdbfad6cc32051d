"""The order log on Redis: partition streams, read by one consumer group.

The log is a courier, not a memory. It is trimmed only by id and only behind what PostgreSQL has, never by
length. A group that is gone (its server lost its data) is made again from the beginning, never from the
end: reading an entry twice is harmless, missing one is not. Consumers are stable slots that are never
deleted, because an entry pending with a deleted consumer could not be claimed any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from kernel.errors import SeatsUnavailable
from kernel.ids import PARTITIONS
from reservation import log_key
from runtime.redis_link import WEATHER

GROUP: Final = "writers"
COMMITTED_CHANNEL: Final = "ord:committed"
_PARTITION_OF: Final[dict[bytes, int]] = {log_key(p).encode(): p for p in range(PARTITIONS)}


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry as it lies on a partition's log."""

    partition: int
    log_id: str
    data: bytes


def log_position(log_id: str) -> tuple[int, int]:
    """A log id in the order of the log."""
    milliseconds, _, sequence = log_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def _entries(partition: int, found: Any) -> list[LogEntry]:
    return [
        LogEntry(partition, log_id.decode(), fields.get(b"data", b""))
        for log_id, fields in found
        if fields is not None
    ]


class OrderLog:
    """Reading, acknowledging and trimming. `reader` may block; `redis` may not."""

    def __init__(self, redis: Redis, reader: Redis, consumer: str) -> None:
        self._redis = redis
        self._reader = reader
        self._consumer = consumer

    async def ensure_groups(self) -> None:
        """Make the consumer group of every partition, from the beginning of its log."""
        for partition in range(PARTITIONS):
            try:
                await self._redis.xgroup_create(log_key(partition), GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    async def read(self, count: int, block_ms: int) -> list[LogEntry]:
        """New entries of all partitions, waiting up to `block_ms` for the first."""
        return await self._read_group(">", count, block_ms)

    async def read_own_pending(self, count: int) -> list[LogEntry]:
        """Entries this slot was given before and never acknowledged: left by its own crash."""
        return await self._read_group("0", count, None)

    async def _read_group(self, position: str, count: int, block_ms: int | None) -> list[LogEntry]:
        streams: dict[Any, Any] = {log_key(partition): position for partition in range(PARTITIONS)}
        try:
            reply: Any = await self._reader.xreadgroup(
                GROUP, self._consumer, streams, count=count, block=block_ms
            )
        except WEATHER as error:
            raise SeatsUnavailable() from error
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self.ensure_groups()
            return []
        found: list[LogEntry] = []
        for key, batches in _by_stream(reply):
            found += _entries(_PARTITION_OF[key], batches)
        return found

    async def claim_abandoned(self, idle_ms: int, count: int) -> list[LogEntry]:
        """Entries another slot read and left for longer than `idle_ms`."""
        found: list[LogEntry] = []
        for partition in range(PARTITIONS):
            try:
                reply: Any = await self._redis.xautoclaim(
                    log_key(partition), GROUP, self._consumer, min_idle_time=idle_ms, count=count
                )
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                continue
            found += _entries(partition, reply[1])
        return found

    async def acknowledge(self, entries: Sequence[LogEntry]) -> None:
        """These are in PostgreSQL; the group need not give them out again."""
        by_partition: dict[int, list[str]] = {}
        for entry in entries:
            by_partition.setdefault(entry.partition, []).append(entry.log_id)
        pipeline = self._redis.pipeline(transaction=False)
        for partition, log_ids in by_partition.items():
            pipeline.xack(log_key(partition), GROUP, *log_ids)
        await pipeline.execute()

    async def announce(self, committed: Sequence[str], refused: Sequence[str]) -> None:
        """Wake whoever waits for these orders. Only a wake-up call: PostgreSQL decides."""
        message = orjson.dumps({"committed": list(committed), "refused": list(refused)})
        await self._redis.publish(COMMITTED_CHANNEL, message)

    async def trim(self, positions: Mapping[int, str], older_than_ms: int) -> int:
        """Forget entries behind PostgreSQL's position and older than an instant; answers how many."""
        trimmed = 0
        for partition, log_id in positions.items():
            pending: Any = await self._redis.xpending(log_key(partition), GROUP)
            bounds = [log_position(log_id), (older_than_ms, 0)]
            if pending["min"]:
                bounds.append(log_position(pending["min"].decode()))
            milliseconds, sequence = min(bounds)
            trimmed += await self._redis.xtrim(
                log_key(partition), minid=f"{milliseconds}-{sequence}", approximate=False
            )
        return trimmed

    async def read_unsettled(self, partition: int, log_id: str) -> list[LogEntry]:
        """Everything PostgreSQL may not have: after its position, and from the first pending entry on."""
        found: list[LogEntry] = []
        position = log_id
        try:
            pending: Any = await self._redis.xpending(log_key(partition), GROUP)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            pending = {"min": None}
        if pending["min"]:
            milliseconds, sequence = log_position(pending["min"].decode())
            before = f"{milliseconds}-{sequence - 1}" if sequence else f"{milliseconds - 1}-{2**64 - 1}"
            position = min(position, before, key=log_position)
        while True:
            reply: Any = await self._redis.xrange(log_key(partition), min=f"({position}", count=1_000)
            batch = _entries(partition, reply)
            found += batch
            if len(batch) < 1_000:
                return found
            position = batch[-1].log_id


def _by_stream(reply: Any) -> list[tuple[bytes, Any]]:
    """RESP3 answers a map of lists, RESP2 a list of pairs."""
    if not reply:
        return []
    if isinstance(reply, dict):
        return [(key, batches[0] if batches else []) for key, batches in reply.items()]
    return [(key, batch) for key, batch in reply]
