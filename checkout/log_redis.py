"""The order log on Redis: partition streams, read by one consumer group.

The log is a courier, not a memory. It is trimmed only by id and only behind what PostgreSQL has, never by
length. A group that is gone (its server lost its data) is made again from the beginning, never from the
end: reading an entry twice is harmless, missing one is not. Consumers are stable slots that are never
deleted, because an entry pending with a deleted consumer could not be claimed any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

import orjson
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from kernel.errors import SeatsUnavailable
from kernel.ids import PARTITIONS
from reservation import log_key
from runtime.redis_link import WEATHER

GROUP: Final = "writers"
COMMITTED_CHANNEL: Final = "ord:committed"
#: So long after it should have answered a read counts as lost: its connection may have died without a word.
SILENCE_S: Final = 5.0
_PARTITION_OF: Final[dict[bytes, int]] = {log_key(p).encode(): p for p in range(PARTITIONS)}
#: What a server says that is there and will not do it now; anywhere in the text, because pipelines add words.
_TROUBLE: Final = ("BUSY ", "LOADING ", "MISCONF ", "NOREPLICAS ", "MASTERDOWN ", "CLUSTERDOWN ", "OOM ")
#: What a server says of a log that is not there, or of a group.
_GONE: Final = ("NOGROUP ", "no such key", "requires the key to exist")

P = ParamSpec("P")
R = TypeVar("R")


def _honest(work: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """What the server or the way to it does becomes SeatsUnavailable; the rest is a bug of ours."""

    @wraps(work)
    async def run(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return await work(*arguments, **named)
        except WEATHER as error:
            raise SeatsUnavailable() from error
        except ResponseError as error:
            if any(word in str(error) for word in _TROUBLE):
                raise SeatsUnavailable() from error
            raise

    return run


class LogEntry(NamedTuple):
    """One entry as it lies on a partition's log."""

    partition: int
    log_id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many entries are not settled, and the age of the oldest of them (0 when there is none)."""

    entries: int
    oldest_ms: int


Position = tuple[int, int]


def log_position(log_id: str) -> Position:
    """A log id in the order of the log."""
    milliseconds, _, sequence = log_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def _before(position: Position) -> Position:
    milliseconds, sequence = position
    return (milliseconds, sequence - 1) if sequence else (milliseconds - 1, 2**64 - 1)


def _entries(partition: int, found: Any) -> list[LogEntry]:
    return [
        LogEntry(partition, log_id.decode(), fields.get(b"data", b""))
        for log_id, fields in found
        if fields is not None
    ]


class OrderLog:
    """Reading, acknowledging and trimming. `reader` may block; `redis` may not.

    Every method raises SeatsUnavailable when the server does not answer or cannot do it now. What a read was
    given and the server's answer did not bring is pending, and comes back by `claim_abandoned`.
    """

    def __init__(self, redis: Redis, reader: Redis, consumer: str) -> None:
        self._redis = redis
        self._reader = reader
        self._consumer = consumer

    @_honest
    async def ensure_groups(self) -> None:
        """Make the consumer group of every partition, from the beginning of its log."""
        for partition in range(PARTITIONS):
            try:
                await self._redis.xgroup_create(log_key(partition), GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    async def read(self, count: int, block_ms: int | None) -> list[LogEntry]:
        """New entries, up to `count` of each partition, waiting up to `block_ms`, if at all, for one."""
        return await self._read_group(">", count, block_ms)

    async def read_own_pending(self, count: int) -> list[LogEntry]:
        """Entries this slot was given before and never acknowledged: left by its own crash."""
        return await self._read_group("0", count, None)

    @_honest
    async def _read_group(self, position: str, count: int, block_ms: int | None) -> list[LogEntry]:
        streams: dict[Any, Any] = dict.fromkeys(_PARTITION_OF, position)
        try:
            async with asyncio.timeout((block_ms or 0) / 1_000 + SILENCE_S):
                reply: Any = await self._reader.xreadgroup(
                    GROUP, self._consumer, streams, count=count, block=block_ms
                )
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self.ensure_groups()
            return []
        found: list[LogEntry] = []
        for key, batches in _by_stream(reply):
            found += _entries(_PARTITION_OF[key], batches)
        return found

    @_honest
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

    @_honest
    async def settle(
        self, entries: Sequence[LogEntry], committed: Sequence[str], refused: Sequence[str]
    ) -> None:
        """These are in PostgreSQL: wake whoever waits for their orders, and give them out no more.

        One trip and one announcement, however many there are. The announcement is only a wake-up call:
        PostgreSQL decides.
        """
        pipeline = self._redis.pipeline(transaction=False)
        if committed or refused:
            message = orjson.dumps({"committed": list(committed), "refused": list(refused)})
            pipeline.publish(COMMITTED_CHANNEL, message)
        by_partition: dict[int, list[str]] = {}
        for entry in entries:
            by_partition.setdefault(entry.partition, []).append(entry.log_id)
        for partition, log_ids in by_partition.items():
            pipeline.xack(log_key(partition), GROUP, *log_ids)
        await pipeline.execute()

    @_honest
    async def backlog(self) -> Backlog:
        """What PostgreSQL may not have yet, of all logs together; two trips."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.time()
        for partition in range(PARTITIONS):
            pipeline.xinfo_groups(log_key(partition))
        (seconds, microseconds), *found = await pipeline.execute(raise_on_error=False)
        now_ms = seconds * 1_000 + microseconds // 1_000
        behind = {
            partition: group
            for partition, groups in enumerate(found)
            if not isinstance(groups, Exception)  # no such log: nothing was ever ordered there
            for group in groups
            if group["name"] == GROUP.encode() and (group["lag"] != 0 or group["pending"])
        }
        for partition, group in behind.items():
            after = group["last-delivered-id"].decode()
            pipeline.xpending(log_key(partition), GROUP)
            pipeline.xrange(log_key(partition), min=f"({after}", count=1)
            pipeline.xlen(log_key(partition))
        replies = await pipeline.execute() if behind else []
        entries, oldest_ms = 0, now_ms
        for group, at in zip(behind.values(), range(0, len(replies), 3), strict=True):
            pending, news, length = replies[at : at + 3]
            # A server that has lost count of what it gave out can still say how much there is.
            waiting = length if group["lag"] is None else group["lag"]
            entries += pending["pending"] + (waiting if news else 0)
            firsts = [pending["min"]] if pending["min"] else []
            firsts += [log_id for log_id, _ in news]
            oldest_ms = min([oldest_ms, *(log_position(first.decode())[0] for first in firsts)])
        return Backlog(entries, now_ms - oldest_ms)

    @_honest
    async def trim(self, positions: Mapping[int, str], older_than_ms: int) -> int:
        """Forget entries behind PostgreSQL's position and older than an instant; answers how many.

        Never one that is pending, and never one that nobody was given yet, whatever the position says.
        """
        trimmed = 0
        for partition, log_id in positions.items():
            given_out = await self._given_out(partition)
            milliseconds, sequence = min(log_position(log_id), (older_than_ms, 0), *given_out)
            trimmed += await self._redis.xtrim(
                log_key(partition), minid=f"{milliseconds}-{sequence}", approximate=False
            )
        return trimmed

    @_honest
    async def read_unsettled(self, partition: int, log_id: str) -> list[LogEntry]:
        """Everything PostgreSQL may not have: behind its position, pending, or not given out yet."""
        last_given, *pending = await self._given_out(partition)
        position = min(log_position(log_id), last_given, *map(_before, pending))
        found: list[LogEntry] = []
        while True:
            reply: Any = await self._redis.xrange(
                log_key(partition), min=f"({position[0]}-{position[1]}", count=1_000
            )
            batch = _entries(partition, reply)
            found += batch
            if len(batch) < 1_000:
                return found
            position = log_position(batch[-1].log_id)

    async def _given_out(self, partition: int) -> list[Position]:
        """Where the last entry lies that anybody was given, then the first that is pending, if one is.

        Without a group nobody was given anything.
        """
        try:
            pending: Any = await self._redis.xpending(log_key(partition), GROUP)
            groups: Any = await self._redis.xinfo_groups(log_key(partition))
        except ResponseError as error:
            if "NOGROUP" not in str(error) and "no such key" not in str(error):
                raise
            return [(0, 0)]
        given = [group["last-delivered-id"] for group in groups if group["name"] == GROUP.encode()]
        if not given:  # it was there a moment ago: the server has lost what it had
            return [(0, 0)]
        places = [*given, pending["min"]] if pending["min"] else given
        return [log_position(place.decode()) for place in places]

    @_honest
    async def acknowledged_after(self, positions: Mapping[int, str]) -> dict[int, str]:
        """One entry of each log that was given out and acknowledged beyond its position, if one is found.

        It is looked for where it would be: at the end of what was given out, and right behind the position.
        The ends are read first and what is pending of them afterwards, so what is found not to be pending was
        acknowledged. Three trips at most, one as long as nothing lies beyond the positions.
        """
        ends = {
            partition: last
            for partition, last in (await self._ends()).items()
            if log_position(last) > log_position(positions.get(partition, "0-0"))
        }
        pipeline = self._redis.pipeline(transaction=False)
        for partition, last in ends.items():
            after = positions.get(partition, "0-0")
            pipeline.xpending_range(log_key(partition), GROUP, min=last, max=last, count=1)
            pipeline.xpending_range(log_key(partition), GROUP, min=f"({after}", max="+", count=1)
        pending = await pipeline.execute(raise_on_error=False) if ends else []
        found: dict[int, str] = {}
        gaps: list[int] = []
        for (partition, last), at_end, behind in zip(ends.items(), pending[::2], pending[1::2], strict=True):
            if _is_gone(at_end) or _is_gone(behind):
                continue
            if not at_end:
                found[partition] = last
            elif behind:
                gaps.append(partition)
                first = behind[0]["message_id"].decode()
                pipeline.xrange(
                    log_key(partition), min=f"({positions.get(partition, '0-0')}", max=f"({first}", count=1
                )
        for partition, entries in zip(gaps, await pipeline.execute() if gaps else [], strict=True):
            if entries:
                found[partition] = entries[0][0].decode()
        return found

    async def _ends(self) -> dict[int, str]:
        """The last entry anybody was given, by partition; without a group nobody was given anything."""
        pipeline = self._redis.pipeline(transaction=False)
        for partition in range(PARTITIONS):
            pipeline.xinfo_groups(log_key(partition))
        return {
            partition: group["last-delivered-id"].decode()
            for partition, groups in enumerate(await pipeline.execute(raise_on_error=False))
            if not _is_gone(groups)
            for group in groups
            if group["name"] == GROUP.encode()
        }

    @_honest
    async def give_out_again(self, positions: Mapping[int, str]) -> list[int]:
        """Give out once more what lies beyond these positions, whoever has acknowledged it.

        Answers the partitions whose log may begin later than that, because it was trimmed.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for partition, log_id in positions.items():
            pipeline.xgroup_setid(log_key(partition), GROUP, log_id)
            pipeline.xinfo_stream(log_key(partition))
        replies = await pipeline.execute(raise_on_error=False)
        short = []
        for (partition, log_id), done, log in zip(
            positions.items(), replies[::2], replies[1::2], strict=True
        ):
            if _is_gone(done) or _is_gone(log):
                continue  # the server has lost what it had, and begins anew
            first = log["first-entry"]
            begins_later = not first or log_position(first[0].decode()) > log_position(log_id)
            if begins_later and log["entries-added"] > log["length"]:
                short.append(partition)
        return short


def _is_gone(reply: object) -> bool:
    """Whether a reply says that there is no such log, or no group. Raises what else it says."""
    if not isinstance(reply, Exception):
        return False
    if isinstance(reply, ResponseError) and any(word in str(reply) for word in _GONE):
        return True
    raise reply


def _by_stream(reply: Any) -> list[tuple[bytes, Any]]:
    """RESP3 answers a map of lists, RESP2 a list of pairs."""
    if not reply:
        return []
    if isinstance(reply, dict):
        return [(key, batches[0] if batches else []) for key, batches in reply.items()]
    return [(key, batch) for key, batch in reply]
