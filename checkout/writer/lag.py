"""How far PostgreSQL is behind the logs: the health of the order side in two numbers.

Measured from the ids on the logs, so it needs nobody's cooperation: a writer that hangs, or is not there,
falls behind by what others can see. That is why more than one process may run this.

An id says how old its entry is while its server's clock does nothing but run. When one leapt and came back,
the ids stay ahead of it, and nothing that waits would have an age. So how long an entry has been the first
that waits is measured here too, and the longer time is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from checkout.log_entries import Backlog, Position
from checkout.log_redis import OrderLog
from kernel.errors import SeatsUnavailable
from runtime.metrics import Reading, gauge

LOOK_EVERY_S: Final = 1.0

_log = logging.getLogger(__name__)


class LogLag:
    """The last look at the logs; nothing is said while Redis cannot be asked."""

    def __init__(self, log: OrderLog) -> None:
        self._log = log
        self.seen: Backlog | None = None
        #: By how many entries a second it shrank between the last two looks; less than 0 where it grew.
        self.falling_per_s = 0.0
        self._seen_at_s = 0.0
        #: Since when it is known of the first entry of each log that it waits.
        self._waiting: dict[tuple[int, Position], float] = {}

    async def follow(self) -> None:
        """Look every `LOOK_EVERY_S` until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Look now."""
        try:
            before, self.seen = self.seen, self._aged(await self._log.backlog())
            self._pace(before)
        except SeatsUnavailable:
            self.seen = None
        except Exception:  # noqa: BLE001 (looking on must not end the work)
            _log.exception("how far the order log is behind cannot be said")
            self.seen = None

    def _aged(self, found: Backlog) -> Backlog:
        now_s = asyncio.get_running_loop().time()
        self._waiting = {first: self._waiting.get(first, now_s) for first in found.firsts.items()}
        waited_s = now_s - min(self._waiting.values(), default=now_s)
        return replace(found, oldest_ms=max(found.oldest_ms, int(waited_s * 1_000)))

    def _pace(self, before: Backlog | None) -> None:
        now_s = asyncio.get_running_loop().time()
        if before is not None and self.seen is not None and now_s > self._seen_at_s:
            self.falling_per_s = (before.entries - self.seen.entries) / (now_s - self._seen_at_s)
        self._seen_at_s = now_s

    def readings(self) -> Iterator[Reading]:
        """The source of these numbers."""
        if self.seen is None:
            return
        text = "Log entries PostgreSQL may not have yet"
        yield gauge("order_log_entries_behind", text, self.seen.entries)
        text = "Age of the oldest of them"
        yield gauge("order_log_oldest_entry_age_seconds", text, self.seen.oldest_ms / 1_000)
