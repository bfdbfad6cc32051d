"""The order writer's loop: read, write, acknowledge and announce.

Acknowledged after the commit, never before: a crash in between means the entry is given out again and
changes nothing. A batch PostgreSQL refuses is halved until the one entry that is at fault stands alone;
that one is put aside with its reason and the rest goes on. Only what the *row* is to blame for counts as
refusal; everything else is weather.

Three things go on at once under a backlog: the batch after next is read and laid out, the next one is
written, the one before is acknowledged. Nothing overtakes: batches are written one after the other, and
acknowledged one after the other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from checkout.entries import Claim, Entry
from checkout.log_entries import LogEntry
from checkout.log_redis import OrderLog
from checkout.set_back import feed_again
from checkout.writer.batch import Batch, Item
from checkout.writer.counts import WriterCounts
from checkout.writer.intake import Intake, Load
from checkout.writer.store import EntryRefused, ServerChanged, WriterStore
from checkout.writer.weather import in_any_weather
from kernel import limits
from kernel.clock import Clock, to_ms
from runtime.postgres import DATA_ERRORS

TRIM_INTERVAL_S: Final = 60.0
CLAIM_INTERVAL_S: Final = 5.0
LAST_WORDS_S: Final = 0.3

_log = logging.getLogger(__name__)


@dataclass
class _Outcome:
    done: list[LogEntry] = field(default_factory=list)
    committed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


class OrderWriter:
    """One consumer of the order logs."""

    def __init__(self, log: OrderLog, store: WriterStore, clock: Clock) -> None:
        self._log = log
        self._store = store
        self._clock = clock
        self._claimed_at_s = self._trimmed_at_s = clock.monotonic_s()
        self._settling: asyncio.Task[None] | None = None
        self.counts = WriterCounts()
        self._intake = Intake(log, self.counts)

    async def run(self) -> None:
        """Write until cancelled. What was read and not written is given out again to the next start.

        Whoever answers in PostgreSQL's place may be older than what was acknowledged to the log: so at first,
        and whenever another server answers, it is looked for, and nothing is written before it is known. A
        batch of later entries would move the position past those that are missing, and nobody would see them.
        """
        await in_any_weather(self._log.ensure_groups)
        while True:
            await in_any_weather(self._meet_postgres)
            try:
                await self._follow()
            except ServerChanged as change:
                _log.warning("order writer begins anew: %s", change)
                await asyncio.sleep(limits.writer_block_ms / 1_000)  # two may answer by turns for a while

    async def _meet_postgres(self) -> None:
        await self._store.meet_server()
        await feed_again(self._store, self._log)

    async def _follow(self) -> None:
        """Write what there is and what comes. Raises ServerChanged."""
        reading: asyncio.Task[list[Load]] | None = None
        try:
            while loads := await self._intake.own_pending():
                if not await self._write_all(loads):
                    break  # only entries that somebody newer must write
            while True:
                loads = await (reading or self._intake.news())
                reading = asyncio.create_task(self._intake.news()) if self._intake.more else None
                for load in loads:
                    await self._write(load)
                await self._upkeep()
        finally:
            if self._settling is not None:  # buyers wait for its announcement
                await asyncio.wait([self._settling], timeout=LAST_WORDS_S)
            for task in (reading, self._settling):
                if task is not None:
                    task.cancel()
                    await asyncio.wait([task])
            self._settling = None

    async def write(self, entries: Sequence[LogEntry]) -> list[LogEntry]:
        """Make PostgreSQL have these entries; answers those that are settled for good.

        Raises ServerChanged.
        """
        return await self._write_all(await self._intake.prepare(entries))

    async def _write_all(self, loads: Sequence[Load]) -> list[LogEntry]:
        done = [entry for load in loads for entry in await self._write(load)]
        await self._settled()
        return done

    async def _write(self, load: Load) -> list[LogEntry]:
        """Commit a batch and begin to settle it; answers what is settled then."""
        outcome = _Outcome()
        try:
            with self.counts.timed("write"):
                for entry in load.undecodable:
                    await self._put_aside(entry, None, "undecodable", outcome)
                if load.items:
                    await self._write_or_halve(load.items, load.batch, outcome)
            self.counts.batch(len(load.entries))
            await self._settled()
        finally:  # cancelled or not: what is committed is waited for
            if outcome.done:
                self._settling = asyncio.create_task(self._settle(outcome, self._settling))
        return outcome.done

    async def _settle(self, outcome: _Outcome, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        with self.counts.timed("acknowledge"):
            await in_any_weather(lambda: self._log.settle(outcome.done, outcome.committed, outcome.refused))

    async def _settled(self) -> None:
        """Wait until the batch before is settled. Whoever is told to end here does not end that too."""
        if self._settling is not None:
            await asyncio.wait([self._settling])
            self._settling.result()
            self._settling = None

    async def _write_or_halve(self, items: Sequence[Item], batch: Batch, outcome: _Outcome) -> None:
        try:
            aside = await in_any_weather(lambda: self._store.write(batch))
        except (EntryRefused, *DATA_ERRORS) as error:
            if len(items) == 1:
                await self._put_aside(items[0].entry, items[0].message, _reason(error), outcome)
                return
            middle = len(items) // 2
            for half in (items[:middle], items[middle:]):
                await self._write_or_halve(half, Batch.of(half), outcome)
            return
        for item in items:
            outcome.done.append(item.entry)
            if isinstance(item.message, Claim):
                order_id = item.message.order_id
                (outcome.refused if order_id in aside.refused else outcome.committed).append(order_id)
                self.counts.claims += 1
            elif item.message.order_id in aside.unpaid:
                self.counts.put_aside += 1
            else:
                self.counts.confirms += 1
        if aside.unpaid:
            _log.error("sales put aside, since the payments of their orders are lost: %d", len(aside.unpaid))

    async def _put_aside(
        self, entry: LogEntry, message: Entry | None, reason: str, outcome: _Outcome
    ) -> None:
        _log.error("entry %s of partition %d put aside: %s", entry.log_id, entry.partition, reason)
        kind = "unknown" if message is None else "claim" if isinstance(message, Claim) else "confirm"
        aside = (entry.partition, entry.log_id, kind, entry.data)
        try:
            await self._refuse(message, reason, aside)
        except DATA_ERRORS as error:
            _log.error("and no order can be made of it: %s", _reason(error))
            await self._refuse(None, reason, aside)
        self.counts.put_aside += 1
        outcome.done.append(entry)
        if message is not None:
            outcome.refused.append(message.order_id)

    async def _refuse(self, message: Entry | None, reason: str, aside: tuple[int, str, str, bytes]) -> None:
        partition, log_id, *_ = aside
        await in_any_weather(lambda: self._store.refuse(message, reason, {partition: log_id}, aside))

    async def _upkeep(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._claimed_at_s >= CLAIM_INTERVAL_S:
            self._claimed_at_s = now_s
            abandoned = await in_any_weather(
                lambda: self._log.claim_abandoned(
                    limits.writer_claim_idle_ms, limits.writer_batch_entries_max
                )
            )
            if abandoned:
                await self.write(abandoned)
        if now_s - self._trimmed_at_s >= TRIM_INTERVAL_S:
            self._trimmed_at_s = now_s
            positions = await in_any_weather(self._store.positions)
            now_ms = to_ms(self._clock.now())
            await in_any_weather(lambda: self._log.trim(positions, limits.log_retention_ms, now_ms))


def _reason(error: Exception) -> str:
    if isinstance(error, EntryRefused):
        return error.reason
    constraint = getattr(error, "constraint_name", None)
    if constraint in {"seat_claims_one_owner", "tickets_one_per_seat"}:
        return "seat_taken"
    return constraint or getattr(error, "sqlstate", None) or type(error).__name__
