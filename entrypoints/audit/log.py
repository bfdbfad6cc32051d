"""Whether everything on the order log is in PostgreSQL, or lawfully on its way there.

An entry is acknowledged after its commit, so what the group was given and has acknowledged must be found
in PostgreSQL, as the entry says it, or among the dead letters. What is unread or pending has `log_s` to
get there. Each partition is read in the order that makes this exact: positions first, then the state of
the log, then its entries, and PostgreSQL's orders last.

What is no longer on the log cannot be read, but it can be counted: entries the server says were never
given to the group and that are not there any more were trimmed before anybody wrote them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final

from entrypoints.audit.entries import Claim, Confirm, Entry, read_entry
from entrypoints.audit.findings import Patience, Seen
from entrypoints.audit.log_redis import LogState, Position, log_state, pages_of, position_of, text_of
from entrypoints.audit.records import SQL
from entrypoints.audit.sources import Sources
from kernel.ids import PARTITIONS, partition_of
from runtime.postgres import Record
from runtime.redis_link import ResponseError

CHECK: Final = "order_log_is_written"
#: A position may be ahead of the server's clock by what two clocks may differ.
_SKEW_MS: Final = 2_000
#: States of an order whose confirmation was taken, or overtaken.
_TAKEN: Final = frozenset({"confirmed", "refunded", "cancelled"})


class LogLook:
    """The order logs of all partitions, or of the one a showtime lives in."""

    def __init__(self, sources: Sources, showtime_id: str | None, patience: Patience) -> None:
        self._database = sources.database
        self._server = sources.server
        self._partitions = range(PARTITIONS) if showtime_id is None else (partition_of(showtime_id),)
        self._patience = patience
        self._furthest: dict[int, Position] = {}

    async def look(self, subjects: Collection[str] | None) -> Seen:
        """See `Look.look`; subjects are partitions."""
        seen = Seen()
        rows = await self._database.fetch(SQL["positions_with_instants"])
        positions = {row["partition"]: (position_of(row["log_id"]), row["written_at"]) for row in rows}
        epochs = await self._database.fetch(SQL["epochs_now"], self._patience.rebuild_s)
        for partition in self._partitions:
            if subjects is None or str(partition) in subjects:
                watch = _PartitionWatch(partition, self._patience, epochs[partition]["up_s"], seen)
                try:
                    await self._look_at(watch, positions.get(partition), epochs[partition])
                except (ResponseError, ValueError) as error:
                    watch.cannot_be_read(error)
        rows = await self._database.fetch(SQL["positions_with_instants"])
        for row in rows:
            self._must_not_go_back(row["partition"], position_of(row["log_id"]), positions, seen)
        return seen

    async def _look_at(
        self, watch: _PartitionWatch, position: tuple[Position, datetime] | None, epoch: Record
    ) -> None:
        state = await log_state(self._server, watch.partition)
        watch.state_agrees(state, position, epoch)
        aside = await self._database.fetch(SQL["dead_letters_of"], watch.partition)
        dead_letters = {position_of(row["log_id"]) for row in aside}
        unread, met = 0, set()
        async for page in pages_of(self._server, watch.partition, state.last):
            messages = [(place, read_entry(data)) for place, data in page if place not in dead_letters]
            order_ids = {message.order_id for _, message in messages if message is not None}
            rows = await self._database.fetch(SQL["written_orders"], list(order_ids))
            orders = {row["order_id"]: row for row in rows}
            for place, message in messages:
                watch.entry_is_written(place, message, orders, state)
            watch.count(len(page))
            unread += sum(place > state.delivered for place, _ in page)
            met |= {place for place, _ in page} & state.pending
        watch.nothing_is_gone(state, unread, met)

    def _must_not_go_back(
        self,
        partition: int,
        now: Position,
        before: Mapping[int, tuple[Position, datetime]],
        seen: Seen,
    ) -> None:
        furthest = max(self._furthest.get(partition, (0, 0)), before.get(partition, ((0, 0), None))[0])
        self._furthest[partition] = max(furthest, now)
        if now < furthest:
            sentence = f"PostgreSQL's position went back from {text_of(furthest)}"
            seen.suspect(CHECK, str(partition), f"partition {partition:02d}: {sentence}")


class _PartitionWatch:
    """The judgement of one partition. `up_s` is how long PostgreSQL has been there to write anything."""

    def __init__(self, partition: int, patience: Patience, up_s: float, seen: Seen) -> None:
        self.partition = partition
        self._patience = patience
        self._up_s = up_s
        self._seen = seen

    def _say(self, sentence: str) -> None:
        self._seen.suspect(CHECK, str(self.partition), f"partition {self.partition:02d}: {sentence}")

    def cannot_be_read(self, error: Exception) -> None:
        """There is something else in the log's place; the other partitions are looked at."""
        self._say(f"the log cannot be read: {error}")

    def count(self, entries: int) -> None:
        self._seen.counted[CHECK] += entries

    def state_agrees(
        self, state: LogState, position: tuple[Position, datetime] | None, epoch: Record
    ) -> None:
        """The reader is there, or about to be, and PostgreSQL is not ahead of a log that was not lost."""
        self._seen.counted[CHECK] += 1
        if not state.has_group and not epoch["is_fresh"]:
            self._say("nobody reads the log: it has no group of order writers")
        if position is None:
            return
        place, written_at = position
        # Written for a log that is lost: just before the maps were rebuilt, or by a writer that had read
        # its entries before.
        was_lost = epoch["raised_at"] > written_at - timedelta(seconds=self._patience.log_s)
        if place[0] > state.now_ms + _SKEW_MS:
            self._say(f"PostgreSQL's position {text_of(place)} is of the future")
        elif place > state.last and not was_lost:
            self._say(f"PostgreSQL's position {text_of(place)} is beyond the log's end {text_of(state.last)}")

    def entry_is_written(
        self, place: Position, message: Entry | None, orders: Mapping[str, Record], state: LogState
    ) -> None:
        """One entry that is not a dead letter."""
        problem = _unwritten(message, orders)
        if problem is None:
            return
        if place > state.delivered or place in state.pending:
            patience_s = self._patience.log_s
            if self._up_s > patience_s and place[0] < state.now_ms - int(patience_s * 1000):
                self._say(f"entry {text_of(place)} still waits to be written: {problem}")
        else:
            self._say(f"entry {text_of(place)} was acknowledged: {problem}")

    def nothing_is_gone(self, state: LogState, unread: int, met: Collection[Position]) -> None:
        """What waits to be written is still on the log."""
        if state.read_count is not None and unread < state.added - state.read_count:
            gone = state.added - state.read_count - unread
            self._say(f"{gone} entries are gone from the log and nobody had read them")
        for place in sorted(place for place in state.pending if place <= state.last and place not in met):
            self._say(f"entry {text_of(place)} is gone from the log before it was written")


def _unwritten(message: Entry | None, orders: Mapping[str, Record]) -> str | None:
    """Why PostgreSQL does not have this entry; None when it does."""
    if message is None:
        return "it is no entry this code can read, and no dead letter"
    order = orders.get(message.order_id)
    if order is None:
        return f"order {message.order_id} is not in PostgreSQL"
    match message:
        case Confirm():
            if order["state"] not in _TAKEN:
                return f"order {message.order_id} was sold and is {order['state']}"
        case Claim():
            wanted = (message.showtime_id, message.account_id, message.currency, message.total)
            found = (order["showtime_id"], order["account_id"], order["currency"], order["total"])
            if wanted != found or {seat[0] for seat in message.seats} != set(order["seats"] or ()):
                return f"order {message.order_id} was claimed with other seats, owner or price than it has"
    return None
