"""The epochs: which generation of a partition's seat maps is to be believed.

PostgreSQL says which epoch it is, the scripts carry it in their text, the data carries it in its keys.
A worker only ever reads it, here; raising it is the rebuild's business.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from kernel.errors import PersistenceUnavailable
from reservation.store import ReservationStore
from runtime.redis_link import ScriptRunner

FOLLOW_INTERVAL_S: Final = 0.5
_log = logging.getLogger(__name__)


class EpochWatch:
    """Keeps a worker's scripts at PostgreSQL's epochs."""

    def __init__(self, store: ReservationStore, scripts: ScriptRunner) -> None:
        self._store = store
        self._scripts = scripts

    async def refresh(self) -> None:
        """Adopt the current epochs, if PostgreSQL can say them."""
        try:
            self._scripts.adopt_epochs(await self._store.current_epochs())
        except PersistenceUnavailable:
            return

    async def follow(self) -> None:
        """Refresh for ever: a rebuild reaches every worker within `FOLLOW_INTERVAL_S`.

        Whatever PostgreSQL answers: without this a worker sells nothing after the next rebuild, until it is
        restarted, and a table that is missing while somebody restores it is back a moment later.
        """
        while True:
            try:
                await self.refresh()
            except Exception:  # noqa: BLE001 (whatever it is, the next look may go through)
                _log.exception("the epochs cannot be read")
            await asyncio.sleep(FOLLOW_INTERVAL_S)
