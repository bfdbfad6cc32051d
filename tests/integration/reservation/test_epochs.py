"""Goal: a worker follows PostgreSQL's epochs for as long as it lives, whatever PostgreSQL answers in between.

Method: the real store, whose table is away for a while, as it is while somebody restores a dump.
"""

from __future__ import annotations

import asyncio
import logging

import asyncpg
import pytest

from reservation import epoch
from runtime.redis_link import ScriptRunner
from tests.integration.reservation.conftest import House
from tests.support.shop import until


async def test_a_table_that_is_away_for_a_while_ends_no_workers_following(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    platform = house.platform
    monkeypatch.setattr(epoch, "FOLLOW_INTERVAL_S", 0.01)
    scripts = ScriptRunner(platform.scripts.nodes)
    database = await asyncpg.connect(platform.addresses.database_url)
    following = asyncio.create_task(epoch.EpochWatch(platform.reservation_store, scripts).follow())

    async def follows() -> bool:
        return list(scripts.epochs) == list(await platform.reservation_store.current_epochs())

    async def complains() -> bool:
        return "the epochs cannot be read" in caplog.text

    await until(follows)
    with caplog.at_level(logging.ERROR):
        await database.execute("ALTER TABLE reservation.epochs RENAME TO epochs_away")
        await until(complains)
        await database.execute("ALTER TABLE reservation.epochs_away RENAME TO epochs")
    await platform.rebuilder.rebuild("test")
    await until(follows)
    assert not following.done()
    following.cancel()
    await database.close()
