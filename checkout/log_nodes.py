"""The nodes of the order log: which partitions live together, and asking them without waiting for the slow.

One server is asked in one trip, and when it does not answer, that is the answer (SeatsUnavailable). On a
cluster each node is asked in a trip of its own, all at the same time. A node that is away, or silent for
longer than `PATIENCE_S`, costs the others nothing: what it was asked is left for the next time, and its late
reply is dropped. That may be done with everything here because nothing is lost with a reply: a group is made
again, an entry that was not acknowledged is given out again, a claimed one is claimed again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from checkout.log_entries import GROUP
from kernel.errors import SeatRushError, SeatsUnavailable
from reservation import log_key
from runtime.redis_link import Link, ResponseError, ScriptRunner

#: Well above what a busy node takes for a page of entries, well below what a buyer waits for a commit.
PATIENCE_S: Final = 0.25

#: A partition and the words of a command about it.
Call = tuple[int, Sequence[Any]]


class LogNodes:
    """Partitions by the node they live on."""

    def __init__(self, scripts: ScriptRunner) -> None:
        self.scripts = scripts

    @property
    def are_many(self) -> bool:
        """Whether this is a cluster, as far as anybody here knows."""
        return self.scripts.nodes.only is None

    @property
    def may_move(self) -> bool:
        """Whether a log may be on another server by the time something is written on it."""
        return self.scripts.nodes.may_move

    def groups(self, partitions: Collection[int]) -> list[list[int]]:
        """Partitions that live on the same node, together; those that nobody serves are a group too."""
        if not self.are_many:
            return [sorted(partitions)] if partitions else []
        found: dict[Link | None, list[int]] = {}
        for partition in sorted(partitions):
            try:
                link = self.scripts.nodes.link_of(log_key(partition))
            except SeatsUnavailable:
                link = None
            found.setdefault(link, []).append(partition)
        return [*found.values()]

    async def ask(self, calls: Sequence[Call]) -> list[Any]:
        """Send commands to their partitions' nodes; what each of them met. Raises nothing."""
        return await self.scripts.ask_each([(log_key(partition), words) for partition, words in calls])

    async def whole(self, calls: Sequence[Call]) -> list[Any]:
        """Like `ask`, with every answer there. Raises SeatsUnavailable when any node does not give its."""
        met = await self.ask(calls)
        for one in met:
            if isinstance(one, SeatRushError):
                raise SeatsUnavailable() from one
        return met

    async def trips(self, trips: Sequence[Sequence[Call]]) -> list[list[Any]]:
        """Ask each node in a trip; a SeatRushError stands for what it did not answer in time.

        Raises SeatsUnavailable when the one server there is does not answer.
        """
        if not self.are_many:
            return [await self.whole(calls) for calls in trips]
        asked = [asyncio.create_task(self.ask(calls)) for calls in trips]
        try:
            if asked:
                await asyncio.wait(asked, timeout=PATIENCE_S)
            return [
                task.result() if task.done() else [SeatsUnavailable() for _ in calls]
                for task, calls in zip(asked, trips, strict=True)
            ]
        finally:
            for task in asked:
                task.cancel()

    async def each(self, words: Mapping[int, Sequence[Any]]) -> dict[int, Any]:
        """One command about each of these partitions; the replies, without those whose node did not answer.

        Raises SeatsUnavailable when the one server there is does not answer.
        """
        groups = self.groups(words)
        trips = await self.trips([[(partition, words[partition]) for partition in group] for group in groups])
        return {
            partition: reply
            for group, replies in zip(groups, trips, strict=True)
            for partition, reply in zip(group, replies, strict=True)
            if not isinstance(reply, SeatRushError)
        }

    async def make_groups(self, partitions: Collection[int]) -> None:
        """Make the consumer group of these partitions, where it is missing, from the beginning of the log."""
        words = {
            partition: ("XGROUP", "CREATE", log_key(partition), GROUP, "0", "MKSTREAM")
            for partition in partitions
        }
        for reply in (await self.each(words)).values():
            answered(reply, unless="BUSYGROUP")


def answered(reply: Any, *, unless: str = "") -> Any:
    """A reply that is one; None instead of the refusal that was to be expected. Raises any other refusal."""
    if isinstance(reply, Exception):
        if isinstance(reply, ResponseError) and unless and unless in str(reply):
            return None
        raise reply
    return reply
