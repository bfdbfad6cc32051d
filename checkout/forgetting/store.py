"""What PostgreSQL may forget. It says what time it is, but no later than `at_latest`, if that is given."""

from __future__ import annotations

from datetime import datetime

from runtime.postgres import Database, rows_changed
from runtime.queries import load_queries

_SQL = load_queries(__file__)


class ForgettingStore:
    """Statements that forget."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def drop_old_request_keys(self, days: int, at_latest: datetime | None, at_a_time: int) -> int:
        """Forget what was answered so many days ago, some of it; answers how much."""
        words = (days, at_latest, at_a_time)
        return rows_changed(await self._database.execute(_SQL["drop_old_request_keys"], *words))

    async def drop_old_fences(self, days: int, at_latest: datetime | None) -> int:
        """Forget which claims rebuilds waited for, and when the fence rose, so many days ago."""
        return rows_changed(await self._database.execute(_SQL["drop_old_fences"], days, at_latest))
