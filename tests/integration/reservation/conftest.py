"""Workers of one platform whose clocks stand still, so that every read of a seat map is one a test made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest_asyncio
from redis.asyncio import Redis

from entrypoints.platform import Platform
from kernel.clock import ManualClock
from kernel.ids import new_id
from reservation import RedisInventory, ReservationService, SeatMaps
from reservation.live import GLANCE_S
from reservation.service import Hold
from runtime.redis_link import ScriptRunner, connect
from tests.support.engines import DatabaseMaker
from tests.support.platform import RunningPlatform, migrated, run_platform

TTL_MS = 60_000


class Worker:
    """The seat engine as one process has it, with its own replicas and nothing in the background."""

    def __init__(self, platform: Platform, clock: ManualClock, scripts: ScriptRunner | None = None) -> None:
        """`scripts` go another way to the server than the platform's."""
        self.scripts = scripts or platform.scripts
        self.inventory = RedisInventory(self.scripts)
        self.maps = SeatMaps(self.inventory, self.scripts, clock, hold_ttl_ms=TTL_MS, winds_itself=False)
        self.service = ReservationService(
            self.inventory, platform.halls, self.maps, clock, hold_ttl_ms=TTL_MS
        )

    async def hold(self, showtime_id: str, *labels: str, fan: str = "", key: str = "key") -> Hold:
        return await self.service.hold_named(fan or new_id("acc"), showtime_id, labels, key)

    async def taken(self, showtime_id: str) -> int:
        picture = await self.maps.current(showtime_id)
        return picture.seat_count - picture.seats_left


@dataclass
class House:
    """A platform without roles, its workers, and a count of what they ask the server."""

    running: RunningPlatform
    clock: ManualClock = field(default_factory=lambda: ManualClock(datetime.now(UTC)))

    @property
    def platform(self) -> Platform:
        return self.running.platform

    @property
    def redis(self) -> Redis:
        return self.running.redis

    def worker(self, scripts: ScriptRunner | None = None) -> Worker:
        return Worker(self.platform, self.clock, scripts)

    async def showtime(self, **terms: Any) -> str:
        """Rows A to H of ten seats, 1 to 3, 5 to 8 and 10 to 12; long on sale; unless told otherwise."""
        opens_at = datetime.now(UTC) - timedelta(hours=2)
        return await self.running.add_showtime(**{"opens_at": opens_at, **terms})

    async def time_passes(self, seconds: float) -> None:
        """Here and, for what is short, on the server too: its clock must not seem to have been set back."""
        await asyncio.sleep(min(seconds, GLANCE_S))
        self.clock.advance(timedelta(seconds=seconds))

    async def scripts_run(self) -> int:
        """How many scripts the server was ever asked for."""
        stats = await self.redis.info("commandstats")
        return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])


@pytest_asyncio.fixture(loop_scope="session")
async def house(valkey_url: str, make_database: DatabaseMaker, tmp_path: Path) -> AsyncIterator[House]:
    async with run_platform(valkey_url, await make_database(migrated), tmp_path, roles=()) as running:
        redis = connect(valkey_url)
        await redis.config_resetstat()
        await redis.aclose()
        yield House(running)
