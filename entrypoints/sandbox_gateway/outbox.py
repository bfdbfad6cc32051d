"""Webhooks not yet delivered, in the same file as the money they tell of.

An event is written in the transaction that moves the money, so there is never one without the other.
It leaves the table only when the shop has answered 2xx: until then every attempt moves its due time
further away, and a crash in between means one more attempt, never one less. At least once, therefore,
with the event id as the receiver's means to take it once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Any, Final

import orjson

from entrypoints.sandbox_gateway.records import Event
from kernel.clock import from_ms, rfc3339
from kernel.ids import new_id

#: Gaps between attempts: fast while a restart may explain the failure, then patient.
RETRY_GAPS_MS: Final = (200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000)
GIVE_UP_AFTER_MS: Final = 24 * 60 * 60 * 1000
SCAN_MAX: Final = 500


class Outbox:
    """The `events` table; to be used inside the group commit."""

    def __init__(self, books: sqlite3.Connection) -> None:
        self._books = books

    def add(
        self,
        kind: str,
        data: dict[str, Any],
        *,
        happened_ms: int,
        now_ms: int,
        copies: int = 1,
        waits_for: str | None = None,
    ) -> Event:
        """Write a new event, due at once unless it waits for another one."""
        body = orjson.dumps({"type": kind, "timestamp": rfc3339(from_ms(happened_ms)), "data": data})
        event = Event(new_id("evt"), body, copies, None if waits_for else now_ms)
        self._books.execute(
            "INSERT INTO events (event_id, body, copies, created_at_ms, due_ms, waits_for)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (event.event_id, body, copies, now_ms, event.due_ms, waits_for),
        )
        return event

    def delivered(self, event_id: str, now_ms: int) -> list[Event]:
        """Strike an event off; the events that waited for it are now due."""
        self._books.execute("DELETE FROM events WHERE event_id = ?", (event_id,))
        freed = self._books.execute(
            "SELECT event_id, body, copies FROM events WHERE waits_for = ?", (event_id,)
        ).fetchall()
        if freed:
            self._books.execute(
                "UPDATE events SET waits_for = NULL, due_ms = ? WHERE waits_for = ?", (now_ms, event_id)
            )
        return [Event(freed_id, body, copies, now_ms) for freed_id, body, copies in freed]

    def failed(self, event_id: str, now_ms: int) -> None:
        """Try again later, or give up a day after it happened."""
        row = self._books.execute(
            "SELECT attempts, created_at_ms FROM events WHERE event_id = ?", (event_id,)
        ).fetchone()
        if row is None:
            return  # delivered by another attempt meanwhile
        attempts, created_at_ms = row
        due_ms: int | None = now_ms + RETRY_GAPS_MS[min(attempts, len(RETRY_GAPS_MS) - 1)]
        if now_ms - created_at_ms >= GIVE_UP_AFTER_MS:
            due_ms = None
        self._books.execute(
            "UPDATE events SET attempts = attempts + 1, due_ms = ? WHERE event_id = ?", (due_ms, event_id)
        )

    def due(self, now_ms: int, known: Collection[str]) -> tuple[list[Event], int | None]:
        """Due events that are not `known`, oldest first, and when to look again (None: nothing planned)."""
        ids = self._books.execute(
            "SELECT event_id FROM events WHERE due_ms <= ? ORDER BY due_ms LIMIT ?",
            (now_ms, len(known) + SCAN_MAX),
        ).fetchall()
        fresh = [event_id for (event_id,) in ids if event_id not in known][:SCAN_MAX]
        events = [
            Event(
                *self._books.execute(
                    "SELECT event_id, body, copies, due_ms FROM events WHERE event_id = ?", (event_id,)
                ).fetchone()
            )
            for event_id in fresh
        ]
        (later,) = self._books.execute(
            "SELECT MIN(due_ms) FROM events WHERE due_ms > ?", (now_ms,)
        ).fetchone()
        return events, later

    def waiting(self) -> int:
        """How many events are not delivered yet, those given up included."""
        (count,) = self._books.execute("SELECT COUNT(*) FROM events").fetchone()
        return int(count)
