"""Goal: what a server executes after its callers have been told that it does not answer gives nobody
anything.

Method: a real server is stopped in the middle of a sale, asked, and let go on when everybody who asked has
gone. What it did then is read from its data and its counters. The control asks the same without saying until
when: then the seat is taken, the hold longer, and the order on the log, for nobody.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from kernel.errors import SeatsUnavailable
from kernel.ids import new_hold_id, partition_of
from reservation import RedisInventory, log_key
from runtime.engines import ValkeyEngine
from tests.integration.reservation.conftest import House
from tests.support.engines import DatabaseMaker, temporary_data_dir, valkey_engine
from tests.support.shop import Shop, migrated, open_shop, until

A_MINUTE_MS = 60_000


@dataclass
class Stoppable:
    """A shop, and the server under it."""

    shop: Shop
    engine: ValkeyEngine

    async def asked_while_stopped(self, inventory: RedisInventory, showtime_id: str) -> Asked:
        """Ask for a hold, for more time and for an order, of a server that goes on when all have gone."""
        fan, mine = self.shop.fan(), new_hold_id(showtime_id)
        extended, claimed = new_hold_id(showtime_id), new_hold_id(showtime_id)
        await inventory.hold(showtime_id, extended, fan, [1], ttl_ms=A_MINUTE_MS)
        await inventory.hold(showtime_id, claimed, fan, [2], ttl_ms=A_MINUTE_MS)
        await inventory.read_map(showtime_id)
        before = await inventory.read_hold(extended, fan)
        log_length = await self._log_length(showtime_id)
        os.kill(self.engine.pid, signal.SIGSTOP)
        try:
            told = await asyncio.gather(
                inventory.hold(showtime_id, mine, fan, [5], ttl_ms=A_MINUTE_MS),
                inventory.extend(extended, fan, ttl_ms=2 * A_MINUTE_MS, lifetime_ms_max=10 * A_MINUTE_MS),
                inventory.claim(claimed, fan, seats=[2], pay_by_ms=before.expires_at_ms, entry=b""),
                return_exceptions=True,
            )
        finally:
            os.kill(self.engine.pid, signal.SIGCONT)
        await until(self._nothing_is_on_its_way)
        after = await inventory.read_hold(extended, fan)
        return Asked(
            told,
            seat_taken=5 in await self.shop.taken(showtime_id),
            longer_by_ms=after.expires_at_ms - before.expires_at_ms,
            state=(await inventory.read_hold(claimed, fan)).state,
            entries=await self._log_length(showtime_id) - log_length,
            fan=fan,
            hold_id=mine,
        )

    async def _nothing_is_on_its_way(self) -> bool:
        return self.shop.platform.nodes.counts().in_flight == 0

    async def _log_length(self, showtime_id: str) -> int:
        return int(await self.shop.redis.xlen(log_key(partition_of(showtime_id))))


@dataclass
class Asked:
    """What callers were told, and what had become of it in the end."""

    told: Sequence[object]
    seat_taken: bool
    longer_by_ms: int
    state: str
    entries: int
    fan: str
    hold_id: str


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stoppable(make_database: DatabaseMaker) -> AsyncIterator[Stoppable]:
    with temporary_data_dir() as folder:
        engine = valkey_engine(folder, dies_with_us=True)
        await engine.start()
        async with open_shop(engine.url, await make_database(migrated), Path(folder).parent) as shop:
            yield Stoppable(shop, engine)
        await engine.stop()


async def test_what_is_executed_when_everybody_has_gone_gives_nobody_anything(stoppable: Stoppable) -> None:
    showtime_id = await stoppable.shop.showtime()
    inventory = stoppable.shop.platform.inventory

    asked = await stoppable.asked_while_stopped(inventory, showtime_id)

    assert [type(one) for one in asked.told] == [SeatsUnavailable] * 3
    assert (asked.seat_taken, asked.longer_by_ms) == (False, 0)
    assert (asked.state, asked.entries) == ("held", 0)
    repeated = await inventory.hold(showtime_id, asked.hold_id, asked.fan, [5], ttl_ms=A_MINUTE_MS)
    assert repeated.fresh, "whoever asks again is served"


async def test_without_saying_until_when_it_is_all_done_for_nobody(stoppable: Stoppable) -> None:
    showtime_id = await stoppable.shop.showtime()

    asked = await stoppable.asked_while_stopped(RedisInventory(stoppable.shop.platform.scripts), showtime_id)

    assert [type(one) for one in asked.told] == [SeatsUnavailable] * 3
    assert asked.seat_taken
    assert asked.longer_by_ms >= A_MINUTE_MS
    assert (asked.state, asked.entries) == ("claimed", 1)


async def test_over_http_it_is_a_503_that_says_when_to_come_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    showtime_id, (fan,) = await house.showtime(), await house.running.fans(1)
    monkeypatch.setattr(house.platform.inventory._deadlines, "latest_ms", lambda key: 1)

    refused = await fan.hold(showtime_id, "A1", key="patient")

    assert (refused.status, refused.code) == (503, "too_late")
    assert int(refused.headers["Retry-After"]) >= 1
    monkeypatch.undo()
    assert (await fan.hold(showtime_id, "A1", key="patient")).status == 201
