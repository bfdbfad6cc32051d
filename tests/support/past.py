"""A database as it was once, put in the place of the one there is: a restored backup, a promoted standby.

`evening` is a shop of its own for each test; `past` remembers its database and brings it back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest_asyncio

from runtime.engines import PostgresEngine
from tests.support.engines import DatabaseMaker
from tests.support.platform import RunningPlatform
from tests.support.shop import Shop, migrated, open_shop


class Past:
    """A database and how it was once."""

    def __init__(self, shop: Shop | RunningPlatform, admin: asyncpg.Connection) -> None:
        self._shop = shop
        self._admin = admin
        self._name = urlsplit(shop.platform.addresses.database_url).path.removeprefix("/")

    async def _alone(self) -> None:
        """Nobody is connected."""
        await self._shop.platform.database.close()
        await self._admin.fetch(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = $1 AND backend_type = 'client backend'",
            self._name,
        )

    async def remember(self) -> None:
        """Keep the database as it is now."""
        await self._alone()
        await self._admin.execute(f"CREATE DATABASE {self._name}_then TEMPLATE {self._name}")

    async def come_back(self) -> None:
        """Put it in the place of the one there is."""
        await self._admin.execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS false")
        await self._alone()
        await self._admin.execute(f"ALTER DATABASE {self._name} RENAME TO {self._name}_lost")
        await self._admin.execute(f"ALTER DATABASE {self._name}_then RENAME TO {self._name}")


@pytest_asyncio.fixture(loop_scope="session")
async def evening(valkey_url: str, make_database: DatabaseMaker, tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(valkey_url, await make_database(migrated), tmp_path) as shop:
        yield shop


@pytest_asyncio.fixture(loop_scope="session")
async def past(evening: Shop, postgres_engine: PostgresEngine) -> AsyncIterator[Past]:
    admin = await asyncpg.connect(postgres_engine.url)
    yield Past(evening, admin)
    await admin.close()
