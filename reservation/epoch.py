"""The epochs: which generation of a partition's seat maps is to be believed.

PostgreSQL says which epoch it is, the scripts carry it in their text, the data carries it in its keys.
A worker only ever reads it, here; raising it is the rebuild's business. A worker that meets the closed
gate asks PostgreSQL again, but not more often than every `ASK_AGAIN_S`, whoever is knocking.
"""

from __future__ import annotations

import asyncio
from typing import Final

from kernel.clock import Clock
from kernel.errors import PersistenceUnavailable
from reservation.store import ReservationStore
from runtime.redis_link import ScriptRunner

ASK_AGAIN_S: Final = 0.1
FOLLOW_INTERVAL_S: Final = 0.5


class EpochWatch:
    """Keeps a worker's scripts at PostgreSQL's epochs."""

    def __init__(self, store: ReservationStore, scripts: ScriptRunner, clock: Clock) -> None:
        self._store = store
        self._scripts = scripts
        self._clock = clock
        self._asked_at_s = -ASK_AGAIN_S

    async def refresh(self) -> None:
        """Adopt the current epochs, if PostgreSQL can say them."""
        now_s = self._clock.monotonic_s()
        if now_s - self._asked_at_s < ASK_AGAIN_S:
            return
        self._asked_at_s = now_s
        try:
            self._scripts.adopt_epochs(await self._store.current_epochs())
        except PersistenceUnavailable:
            return

    async def follow(self) -> None:
        """Refresh for ever: a rebuild reaches every worker within `FOLLOW_INTERVAL_S`."""
        while True:
            await self.refresh()
            await asyncio.sleep(FOLLOW_INTERVAL_S)
