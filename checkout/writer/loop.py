"""The order writer's loop: read, write, acknowledge, announce.

Acknowledged after the commit, never before: a crash in between means the entry is given out again and
changes nothing. A batch PostgreSQL refuses is halved until the one entry that is at fault stands alone;
that one is put aside with its reason and the rest goes on. Only what the *row* is to blame for counts as
refusal; a server that is away, full or restarting is waited for, with everything still pending.

The next read is in flight while PostgreSQL commits. A batch is whatever has arrived, never a timer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from checkout.entries import UNDECODABLE, Claim, Confirm, Entry, EntryTooNew, decode
from checkout.log_redis import LogEntry, OrderLog, log_position
from checkout.writer.store import Batch, EntryRefused, WriterStore
from kernel import limits
from kernel.clock import Clock, to_ms
from kernel.errors import SeatRushError
from runtime.postgres import CONFLICT_ERRORS, DATA_ERRORS

TRIM_INTERVAL_S: Final = 60.0
CLAIM_INTERVAL_S: Final = 5.0
_BACKOFF_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass
class WriterCounts:
    """What a writer did since it started."""

    batches: int = 0
    entries: int = 0
    claims: int = 0
    confirms: int = 0
    put_aside: int = 0
    largest_batch: int = 0


@dataclass
class _Decoded:
    entry: LogEntry
    message: Entry


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
        self.counts = WriterCounts()

    async def run(self) -> None:
        """Write until cancelled. What was read and not written is given out again to the next start."""
        await self._in_any_weather(self._log.ensure_groups)
        await self._drain_own_pending()
        reading = self._next_read()
        try:
            while True:
                entries = await reading
                reading = self._next_read()
                if entries:
                    await self.write(entries)
                await self._upkeep()
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    def _next_read(self) -> asyncio.Task[list[LogEntry]]:
        async def read() -> list[LogEntry]:
            return await self._in_any_weather(
                lambda: self._log.read(limits.writer_batch_entries_max, limits.writer_block_ms)
            )

        return asyncio.create_task(read())

    async def _drain_own_pending(self) -> None:
        while True:
            entries = await self._in_any_weather(
                lambda: self._log.read_own_pending(limits.writer_batch_entries_max)
            )
            done = await self.write(entries) if entries else []
            if not done:
                return

    async def write(self, entries: Sequence[LogEntry]) -> list[LogEntry]:
        """Make PostgreSQL have these entries; answers those that are settled for good."""
        size, done = limits.writer_batch_entries_max, []
        for at in range(0, len(entries), size):  # one read brings up to `size` of each partition
            done += await self._write_batch(entries[at : at + size])
        return done

    async def _write_batch(self, entries: Sequence[LogEntry]) -> list[LogEntry]:
        outcome = _Outcome()
        decoded = [item for entry in entries if (item := await self._decode(entry, outcome)) is not None]
        if decoded:
            await self._write_or_halve(decoded, outcome)
        self.counts.batches += 1
        self.counts.entries += len(entries)
        self.counts.largest_batch = max(self.counts.largest_batch, len(entries))
        if outcome.done:
            await self._in_any_weather(lambda: self._log.acknowledge(outcome.done))
            await self._in_any_weather(lambda: self._log.announce(outcome.committed, outcome.refused))
        return outcome.done

    async def _decode(self, entry: LogEntry, outcome: _Outcome) -> _Decoded | None:
        try:
            return _Decoded(entry, decode(entry.data))
        except EntryTooNew:
            _log.error("entry %s of partition %d is of a newer version", entry.log_id, entry.partition)
        except UNDECODABLE:
            await self._put_aside(entry, None, "undecodable", outcome)
        return None

    async def _write_or_halve(self, items: Sequence[_Decoded], outcome: _Outcome) -> None:
        try:
            refused = await self._in_any_weather(lambda: self._store.write(_batch_of(items)))
        except (EntryRefused, *DATA_ERRORS) as error:
            if len(items) == 1:
                await self._put_aside(items[0].entry, items[0].message, _reason(error), outcome)
                return
            middle = len(items) // 2
            await self._write_or_halve(items[:middle], outcome)
            await self._write_or_halve(items[middle:], outcome)
            return
        for item in items:
            outcome.done.append(item.entry)
            if isinstance(item.message, Claim):
                order_id = item.message.order_id
                (outcome.refused if order_id in refused else outcome.committed).append(order_id)
                self.counts.claims += 1
            else:
                self.counts.confirms += 1

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
        await self._in_any_weather(lambda: self._store.refuse(message, reason, {partition: log_id}, aside))

    async def _upkeep(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._claimed_at_s >= CLAIM_INTERVAL_S:
            self._claimed_at_s = now_s
            abandoned = await self._in_any_weather(
                lambda: self._log.claim_abandoned(
                    limits.writer_claim_idle_ms, limits.writer_batch_entries_max
                )
            )
            if abandoned:
                await self.write(abandoned)
        if now_s - self._trimmed_at_s >= TRIM_INTERVAL_S:
            self._trimmed_at_s = now_s
            older_than_ms = to_ms(self._clock.now()) - limits.log_retention_ms
            positions = await self._in_any_weather(self._store.positions)
            await self._in_any_weather(lambda: self._log.trim(positions, older_than_ms))

    async def _in_any_weather(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it, and again after a pause for as long as a server is away."""
        attempt = 0
        while True:
            try:
                return await work()
            except (SeatRushError, *CONFLICT_ERRORS) as error:
                pause_s = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
                attempt += 1
                _log.warning("order writer waits %.2f s: %r", pause_s, error)
                await asyncio.sleep(pause_s)


def _batch_of(items: Sequence[_Decoded]) -> Batch:
    positions: dict[int, str] = {}
    for item in items:
        known = positions.get(item.entry.partition)
        if known is None or log_position(item.entry.log_id) > log_position(known):
            positions[item.entry.partition] = item.entry.log_id
    return Batch(
        claims=[item.message for item in items if isinstance(item.message, Claim)],
        confirms=[item.message for item in items if isinstance(item.message, Confirm)],
        positions=positions,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, EntryRefused):
        return error.reason
    constraint = getattr(error, "constraint_name", None)
    if constraint in {"seat_claims_one_owner", "tickets_one_per_seat"}:
        return "seat_taken"
    return constraint or getattr(error, "sqlstate", None) or type(error).__name__
