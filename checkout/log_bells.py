"""Waiting for entries on servers that change: every log has a bell, and who hears it reads.

One server waits on all logs with one blocking read. A cluster refuses that: a command there may name keys of
one slot only, and every log is in a slot of its own. A blocking read for each would be 64 connections, each
coming back with the first entry of its log and leaving the next ones to a batch of their own. Where sentinels
watch there is one server, but a read that blocks at a primary that was replaced hears of no successor.

So nobody blocks. The nodes are asked to say which log was written to (`Nodes.watch`), on the connections
that are there anyway; what rang is read, one short command each, in one trip for each node. A ring that comes
while PostgreSQL commits is there when the writer asks next: the batch is what came meanwhile, as on one
server. What may have been missed rings too: with a connection that is lost every log does, and when
`block_ms` passed in silence all are read once, because a log that has just moved may be written to where
nobody of us listens yet.

A node that is away or slow keeps nobody from the others' entries. Its partitions are asked again every
`AGAIN_S`; what it was asked and does not answer within `PATIENCE_S` stays in flight, and its entries are
taken when they come.

Refused: news on a channel from the scripts, which every node would pass on to every node, on one server too;
and keyspace notifications, which want the server's configuration changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final

from checkout.log_entries import LOGS, PARTITION_AT, LogEntry, entries_in, read_words
from checkout.log_nodes import PATIENCE_S, LogNodes, answered
from kernel.errors import SeatRushError
from kernel.ids import PARTITIONS

#: A primary that died has a successor after seconds; a connection that broke is dialled at once.
AGAIN_S: Final = 0.25

_Asked = asyncio.Task[list[Any]]


class Bells:
    """New entries of every log, for one consumer."""

    def __init__(self, nodes: LogNodes, consumer: str) -> None:
        self._nodes = nodes
        self._consumer = consumer
        self._listens = False
        #: Partitions whose log may have entries nobody was given, and is not being read.
        self._rang: set[int] = set()
        self._bell = asyncio.Event()
        #: Reads under way: their partitions, and the most entries of each.
        self._asked: dict[_Asked, tuple[list[int], int]] = {}

    async def read(self, count: int, block_ms: int | None) -> list[LogEntry]:
        """New entries, up to `count` of each partition, waiting up to `block_ms`, if at all, for one."""
        self._listen()
        if block_ms is None:
            self._ring_all()
        else:
            await self._wait(block_ms)
        try:
            if asked := self._ask(count):
                await asyncio.wait(asked, timeout=PATIENCE_S)
            return await self._collect()
        except asyncio.CancelledError:  # what is on its way is pending, and given out again
            for task in self._asked:
                task.cancel()
            raise

    async def read_pending(self, count: int) -> list[LogEntry]:
        """Entries this consumer was given before and never acknowledged, of the nodes that answer."""
        words = {one: read_words(self._consumer, one, count, "0") for one in range(PARTITIONS)}
        found: list[LogEntry] = []
        for partition, reply in (await self._nodes.each(words)).items():
            found += _entries(partition, answered(reply, unless="NOGROUP"))
        return found

    # The bells

    def _listen(self) -> None:
        if not self._listens:
            self._listens = True
            self._nodes.scripts.nodes.watch(
                [key.decode() for key in LOGS], lambda key: self._ring([PARTITION_AT[key]]), self._ring_all
            )
            self._ring_all()

    def _ring(self, partitions: Collection[int]) -> None:
        self._rang.update(partitions)
        self._bell.set()

    def _ring_all(self) -> None:
        self._ring(range(PARTITIONS))

    async def _wait(self, block_ms: int) -> None:
        """Until there is something to read or to take, or it is time to look everywhere."""
        with suppress(TimeoutError):
            async with asyncio.timeout(block_ms / 1_000):
                while not self._to_ask() and not any(task.done() for task in self._asked):
                    self._bell.clear()
                    await self._bell.wait()
                return
        self._ring_all()

    # The reads

    def _to_ask(self) -> set[int]:
        return self._rang.difference(*(partitions for partitions, _ in self._asked.values()))

    def _ask(self, count: int) -> list[_Asked]:
        """Begin to read what rang, a task for each node."""
        wanted = self._to_ask()
        self._rang -= wanted
        asked = []
        for partitions in self._nodes.groups(wanted):
            calls = [(one, read_words(self._consumer, one, count, ">")) for one in partitions]
            task = asyncio.create_task(self._nodes.ask(calls))
            task.add_done_callback(lambda _: self._bell.set())
            self._asked[task] = partitions, count
            asked.append(task)
        return asked

    async def _collect(self) -> list[LogEntry]:
        """What the reads that are over have brought."""
        found: list[LogEntry] = []
        later: list[int] = []
        without_group: list[int] = []
        for task in [task for task in self._asked if task.done()]:
            partitions, count = self._asked.pop(task)
            if task.cancelled():
                later += partitions
                continue
            for partition, reply in zip(partitions, task.result(), strict=True):
                if isinstance(reply, SeatRushError):
                    later.append(partition)
                elif isinstance(reply, Exception):
                    answered(reply, unless="NOGROUP")
                    without_group.append(partition)
                else:
                    brought = _entries(partition, reply)
                    found += brought
                    if len(brought) >= count:
                        self._rang.add(partition)
        if later or without_group:
            asyncio.get_running_loop().call_later(AGAIN_S, self._ring, later + without_group)
        if without_group:
            await self._nodes.make_groups(without_group)
        return found


def _entries(partition: int, reply: Any) -> list[LogEntry]:
    """The reply is a map from the log's key to its entries, or nothing."""
    return [entry for found in (reply or {}).values() for entry in entries_in(partition, found)]
