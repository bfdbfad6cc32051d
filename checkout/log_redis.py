"""The order log on Redis: partition streams, read by one consumer group.

The log is a courier, not a memory. It is trimmed only by id and only behind what PostgreSQL has, never by
length. A group that is gone (its server lost its data) is made again from the beginning, never from the
end: reading an entry twice is harmless, missing one is not. Consumers are stable slots that are never
deleted, because an entry pending with a deleted consumer could not be claimed any more.

How old an entry is says its id, by its server's clock; whoever trims has a clock too, and what is old by only
one of the two is kept. A clock that leaps would otherwise cut off what a PostgreSQL that is set back has to
be fed again. A server's clock that leapt and came back leaves the ids of its logs where they got to, and
nothing that comes after is trimmed before that instant: until then only the server's memory bounds them.

On a cluster every partition is asked of the node it lives on (`checkout/log_nodes.py`), and a node that is
away or slow keeps nobody from the others' entries: what concerns it is left for the next time, and nothing of
that is lost, because what was not acknowledged is given out again. Two questions are answered whole or not at
all: how far PostgreSQL is behind, and what a partition's rebuild has to know. Waiting for news takes one
blocking read on one server, and another way on a cluster and where sentinels watch (`checkout/log_bells.py`).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import orjson
from redis.asyncio import Redis
from redis.exceptions import ClusterCrossSlotError, MovedError, ResponseError

from checkout.log_bells import Bells
from checkout.log_entries import (
    GROUP,
    LOGS,
    PARTITION_AT,
    Backlog,
    LogEntry,
    Position,
    entries_in,
    log_position,
)
from checkout.log_nodes import Call, LogNodes, answered
from kernel.errors import SeatRushError, SeatsUnavailable
from kernel.ids import PARTITIONS, partition_of, showtime_of
from reservation import log_key
from runtime.redis_link import WEATHER, ScriptRunner

COMMITTED_CHANNEL: Final = "ord:committed"
#: So long after it should have answered a read counts as lost: its connection may have died without a word.
SILENCE_S: Final = 5.0
_PAGE: Final = 1_000
#: What a server says that is there and will not do it now.
_TROUBLE: Final = ("BUSY ", "LOADING ", "MISCONF ", "NOREPLICAS ", "MASTERDOWN ", "CLUSTERDOWN ", "OOM ")
#: What a server says of a log that is not there, or of a group.
_GONE: Final = ("NOGROUP ", "no such key", "requires the key to exist")


def _before(position: Position) -> Position:
    milliseconds, sequence = position
    return (milliseconds, sequence - 1) if sequence else (milliseconds - 1, 2**64 - 1)


def _in_ms(time: Sequence[bytes]) -> int:
    """What TIME answers."""
    seconds, microseconds = map(int, time)
    return seconds * 1_000 + microseconds // 1_000


class OrderLog:
    """Reading, acknowledging and trimming. `reader` may block; it serves one server that stays where it is.

    On one server every method raises SeatsUnavailable when it does not answer or cannot do it now; on a
    cluster only `backlog` and `read_unsettled` do. What a read was given and the server's answer did not
    bring is pending, and comes back by `claim_abandoned`.
    """

    def __init__(self, scripts: ScriptRunner, reader: Redis, consumer: str) -> None:
        self._nodes = LogNodes(scripts)
        self._reader = reader
        self._consumer = consumer
        self._bells = Bells(self._nodes, consumer)

    async def ensure_groups(self) -> None:
        """Make the consumer group of every partition, from the beginning of its log."""
        await self._nodes.make_groups(range(PARTITIONS))

    async def read(self, count: int, block_ms: int | None) -> list[LogEntry]:
        """New entries, up to `count` of each partition, waiting up to `block_ms`, if at all, for one."""
        if self._nodes.may_move:
            return await self._bells.read(count, block_ms)
        return await self._read_group(">", count, block_ms)

    async def read_own_pending(self, count: int) -> list[LogEntry]:
        """Entries this slot was given before and never acknowledged: left by its own crash.

        On a cluster those of a node that is away come by `claim_abandoned`, once it is back.
        """
        if not self._nodes.may_move:
            return await self._read_group("0", count, None)
        return await self._bells.read_pending(count)

    async def _read_group(self, position: str, count: int, block_ms: int | None) -> list[LogEntry]:
        """One read of all logs on one server."""
        streams: dict[Any, Any] = dict.fromkeys(LOGS[:PARTITIONS], position)
        try:
            async with asyncio.timeout((block_ms or 0) / 1_000 + SILENCE_S):
                reply: Any = await self._reader.xreadgroup(
                    GROUP, self._consumer, streams, count=count, block=block_ms
                )
        except WEATHER as error:
            raise SeatsUnavailable() from error
        except (ClusterCrossSlotError, MovedError):  # it is a cluster, and nobody here had asked it yet
            await self._nodes.scripts.nodes.primaries()
            return []
        except ResponseError as error:
            if any(word in str(error) for word in _TROUBLE):
                raise SeatsUnavailable() from error
            if not any(word in str(error) for word in ("NOGROUP ", "UNBLOCKED ")):
                raise  # the second is Redis 7.0's word for a log that goes while somebody waits on it
            await self.ensure_groups()
            return []
        return [
            LogEntry(PARTITION_AT[key], log_id.decode(), fields.get(b"data", b""))
            for key, batches in _by_stream(reply)
            for log_id, fields in batches
            if fields is not None
        ]

    async def claim_abandoned(self, idle_ms: int, count: int) -> list[LogEntry]:
        """Entries another slot read and left for longer than `idle_ms`."""
        rest = (GROUP, self._consumer, idle_ms, "0-0", "COUNT", count)
        words = {one: ("XAUTOCLAIM", log_key(one), *rest) for one in range(PARTITIONS)}
        found: list[LogEntry] = []
        for partition, reply in (await self._nodes.each(words)).items():
            claimed = answered(reply, unless="NOGROUP")
            if claimed is not None:
                found += entries_in(partition, claimed[1])
        return found

    async def settle(
        self, entries: Sequence[LogEntry], committed: Sequence[str], refused: Sequence[str]
    ) -> None:
        """These are in PostgreSQL: wake whoever waits for their orders, and give them out no more.

        One trip and one announcement for each node, however many there are. The announcement is only a
        wake-up call: PostgreSQL decides.
        """
        log_ids: defaultdict[int, list[str]] = defaultdict(list)
        news: defaultdict[int, dict[str, list[str]]] = defaultdict(lambda: {"committed": [], "refused": []})
        for entry in entries:
            log_ids[entry.partition].append(entry.log_id)
        for outcome, order_ids in (("committed", committed), ("refused", refused)):
            for order_id in order_ids:
                news[partition_of(showtime_of(order_id))][outcome].append(order_id)
        trips = []
        for group in self._nodes.groups({*log_ids, *news}):
            calls: list[Call] = []
            if told := [news[partition] for partition in group if partition in news]:
                message = {word: [one for each in told for one in each[word]] for word in told[0]}
                calls.append((group[0], ("PUBLISH", COMMITTED_CHANNEL, orjson.dumps(message))))
            calls += [
                (partition, ("XACK", log_key(partition), GROUP, *log_ids[partition]))
                for partition in group
                if partition in log_ids
            ]
            trips.append(calls)
        for replies in await self._nodes.trips(trips):
            for reply in replies:
                if not isinstance(reply, SeatRushError):
                    answered(reply)

    async def backlog(self) -> Backlog:
        """What PostgreSQL may not have yet, of all logs together; two trips.

        Raises SeatsUnavailable when one of them cannot be asked: "nothing is behind" would be a guess.
        """
        calls = [("XINFO", "GROUPS", log_key(partition)) for partition in range(PARTITIONS)]
        time, *found = await self._nodes.whole([(0, ("TIME",)), *enumerate(calls)])
        now_ms = _in_ms(answered(time))
        behind = {
            partition: group
            for partition, reply in enumerate(found)
            for group in answered(reply, unless="no such key") or ()  # nothing was ever ordered there
            if group[b"name"] == GROUP.encode() and (group[b"lag"] != 0 or group[b"pending"])
        }
        looks: list[Call] = []
        for partition, group in behind.items():
            log, after = log_key(partition), group[b"last-delivered-id"].decode()
            looks += [
                (partition, ("XPENDING", log, GROUP)),
                (partition, ("XRANGE", log, f"({after}", "+", "COUNT", 1)),
                (partition, ("XLEN", log)),
            ]
        replies = [answered(reply) for reply in await self._nodes.whole(looks)]
        entries, first_of = 0, dict[int, Position]()
        for (partition, group), at in zip(behind.items(), range(0, len(replies), 3), strict=True):
            (pending, first_pending, *_), news, length = replies[at : at + 3]
            # A server that has lost count of what it gave out can still say how much there is.
            waiting = length if group[b"lag"] is None else group[b"lag"]
            entries += pending + (waiting if news else 0)
            firsts = [first_pending] if first_pending else []
            firsts += [log_id for log_id, _ in news]
            if firsts:
                first_of[partition] = min(log_position(first.decode()) for first in firsts)
        oldest_ms = min([now_ms, *(milliseconds for milliseconds, _ in first_of.values())])
        return Backlog(entries, now_ms - oldest_ms, first_of)

    async def trim(self, positions: Mapping[int, str], keep_ms: int, now_ms: int) -> int:
        """Forget entries behind PostgreSQL's position that are older than this; answers how many.

        Older by their server's clock, and by the caller's, who says what time it is. Never one that is
        pending, and never one that nobody was given yet, whatever the position says. A log that may be cut is
        cut by id, so entries that come in between are not in the way.
        """
        given_out = await self._given_out(positions)
        times = await self._nodes.each(dict.fromkeys(given_out, ("TIME",)))
        cuts: dict[int, Sequence[Any]] = {}
        for partition, time in times.items():
            old = (min(_in_ms(answered(time)), now_ms) - keep_ms, 0)
            milliseconds, sequence = min(log_position(positions[partition]), old, *given_out[partition])
            cuts[partition] = ("XTRIM", log_key(partition), "MINID", "=", f"{milliseconds}-{sequence}")
        replies = await self._nodes.each(cuts)
        return sum(answered(reply) or 0 for reply in replies.values())

    async def read_unsettled(self, partition: int, log_id: str) -> list[LogEntry]:
        """Everything PostgreSQL may not have: behind its position, pending, or not given out yet.

        Raises SeatsUnavailable when the partition's node does not answer.
        """
        given_out = await self._given_out([partition])
        if partition not in given_out:
            raise SeatsUnavailable()
        last_given, *pending = given_out[partition]
        position = min(log_position(log_id), last_given, *map(_before, pending))
        found: list[LogEntry] = []
        while True:
            after = f"({position[0]}-{position[1]}"
            words = ("XRANGE", log_key(partition), after, "+", "COUNT", _PAGE)
            (page,) = map(answered, await self._nodes.whole([(partition, words)]))
            found += entries_in(partition, page)
            if len(page) < _PAGE:
                return found
            position = log_position(page[-1][0].decode())

    async def _given_out(self, partitions: Collection[int]) -> dict[int, list[Position]]:
        """Where the last entry lies that anybody was given, then the first that is pending, if one is.

        Without a group nobody was given anything. Partitions whose node does not answer are left out.
        """
        given_out = {}
        pendings = await self._nodes.each({one: ("XPENDING", log_key(one), GROUP) for one in partitions})
        groups = await self._nodes.each({one: ("XINFO", "GROUPS", log_key(one)) for one in pendings})
        for partition, found in groups.items():
            pending = answered(pendings[partition], unless="NOGROUP")
            given = [
                group[b"last-delivered-id"]
                for group in answered(found, unless="no such key") or ()
                if group[b"name"] == GROUP.encode()
            ]
            if pending is None or not given:  # a group that has just gone: its server has lost what it had
                given_out[partition] = [(0, 0)]
                continue
            places = [*given, pending[1]] if pending[1] else given
            given_out[partition] = [log_position(place.decode()) for place in places]
        return given_out

    async def acknowledged_after(self, positions: Mapping[int, str]) -> dict[int, str]:
        """One entry of each log that was given out and acknowledged beyond its position, if one is found.

        It is looked for where it would be: at the end of what was given out, and right behind the position.
        The ends are read first and what is pending of them afterwards, so what is found not to be pending was
        acknowledged. Three trips at most, one as long as nothing lies beyond the positions. Logs whose node
        does not answer are left out on a cluster.
        """
        after = {partition: positions.get(partition, "0-0") for partition in range(PARTITIONS)}
        ends = {
            partition: last
            for partition, last in (await self._ends()).items()
            if log_position(last) > log_position(after[partition])
        }
        at_end = await self._nodes.each(
            {one: ("XPENDING", log_key(one), GROUP, last, last, 1) for one, last in ends.items()}
        )
        behind = await self._nodes.each(
            {one: ("XPENDING", log_key(one), GROUP, f"({after[one]}", "+", 1) for one in at_end}
        )
        found: dict[int, str] = {}
        gaps: dict[int, Sequence[Any]] = {}
        for partition, reply in behind.items():
            pending_end = answered(at_end[partition], unless="NOGROUP")
            pending = answered(reply, unless="NOGROUP")
            if pending_end is None or pending is None:
                continue
            if not pending_end:
                found[partition] = ends[partition]
            elif pending:
                first = pending[0][0].decode()
                between = (f"({after[partition]}", f"({first}", "COUNT", 1)
                gaps[partition] = ("XRANGE", log_key(partition), *between)
        for partition, reply in (await self._nodes.each(gaps)).items():
            if entries := answered(reply):
                found[partition] = entries[0][0].decode()
        return found

    async def _ends(self) -> dict[int, str]:
        """The last entry anybody was given, by partition; without a group nobody was given anything."""
        words = {one: ("XINFO", "GROUPS", log_key(one)) for one in range(PARTITIONS)}
        return {
            partition: group[b"last-delivered-id"].decode()
            for partition, reply in (await self._nodes.each(words)).items()
            for group in answered(reply, unless="no such key") or ()
            if group[b"name"] == GROUP.encode()
        }

    async def give_out_again(self, positions: Mapping[int, str]) -> list[int]:
        """Give out once more what lies beyond these positions, whoever has acknowledged it.

        Answers the partitions whose log may begin later than that, because it was trimmed. Raises
        SeatsUnavailable when any of their nodes does not answer: it may be asked again.
        """
        calls: list[Call] = []
        for partition, log_id in positions.items():
            log = log_key(partition)
            calls += [
                (partition, ("XGROUP", "SETID", log, GROUP, log_id)),
                (partition, ("XINFO", "STREAM", log)),
            ]
        replies = await self._nodes.whole(calls)
        short = []
        for (partition, log_id), done, told in zip(
            positions.items(), replies[::2], replies[1::2], strict=True
        ):
            if _is_gone(done) or _is_gone(told):
                continue  # the server has lost what it had, and begins anew
            first = told[b"first-entry"]
            begins_later = not first or log_position(first[0].decode()) > log_position(log_id)
            if begins_later and told[b"entries-added"] > told[b"length"]:
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
