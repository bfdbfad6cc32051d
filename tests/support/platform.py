"""The whole platform inside the test's own process: real engines, every role a task that can be stopped.

`running` is the platform with its API and the sandbox gateway on free ports; `platform` is its parts alone.
Database and Valkey are empty before each test, the gate is open, the order writer and the completers run.
Use `tests.support.service` for what a user sees of processes; use this to look behind them, to hold a
role still while something is planted by hand, or to give the platform other settings (`run_platform`).

The fans are those of `tests.support.service`: a `RunningPlatform` answers what a `Fan` asks its service.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from redis.asyncio import Redis

from entrypoints import sandbox_gateway
from entrypoints.platform import Addresses, Platform, platform_for
from entrypoints.selling import add_showtime
from entrypoints.serving import build
from reservation import ImportedLayout, Layout, import_layout
from runtime import keys
from runtime.http import Runner
from runtime.migrations import migrate
from runtime.redis_link import connect
from runtime.settings import load
from tests.support.engines import DatabaseMaker, emptied
from tests.support.service import SMALL_HALL, Fan, Service

#: Roles a `RunningPlatform` starts with; `reaper` is the third there is.
USUAL_ROLES = ("writer", "completers")


@dataclass
class RunningPlatform:
    """The parts, their API's address, a way of our own to their Redis, and their roles as tasks."""

    platform: Platform
    port: int
    session: aiohttp.ClientSession
    redis: Redis
    roles: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _keys: Iterator[int] = field(default_factory=itertools.count)

    base_url = Service.base_url
    request = Service.request
    decide = Service.decide
    seats = Service.seats
    seats_left = Service.seats_left

    def new_key(self) -> str:
        """An idempotency key nobody used."""
        return f"test-{next(self._keys)}"

    async def fans(self, count: int) -> list[Fan]:
        """That many fans nobody else is."""
        made = await self.platform.account_service.accounts_in_bulk(count, "fan")
        return [Fan(self, one.account_id, one.access_token) for one in made]  # type: ignore[arg-type]

    async def add_showtime(self, layout: str | Layout = SMALL_HALL, **terms: Any) -> str:
        """A showtime on sale, on a CSV grid or a layout."""
        if isinstance(layout, Layout):
            imported = ImportedLayout(layout, (), "csv_grid")
        else:
            imported = import_layout(layout.encode(), name=self.new_key())
        return await add_showtime(self.platform, imported, **{"orphan_rule": "off", **terms})

    def start(self, *names: str) -> None:
        """Let these roles work, as in a process that begins."""
        if "completers" in names and "completers" not in self.roles:
            for part in ("wholeness", "completers"):  # it has looked at no server yet
                self.platform.__dict__.pop(part, None)
        works: dict[str, Coroutine[Any, Any, None]] = {
            "writer": self.platform.order_writer.run(),
            "completers": self.platform.completers.run(),
            "reaper": self.platform.reaper.run(),
        }
        for name, work in works.items():
            if name in names and name not in self.roles:
                self.roles[name] = asyncio.create_task(work, name=name)
            else:
                work.close()

    async def stop(self, *names: str) -> None:
        """Hold these roles still, all of them when none is named."""
        for name in names or tuple(self.roles):
            task = self.roles.pop(name, None)
            if task is not None:
                await _end(task)
            if name == "completers":
                self.platform.wholeness.trust()  # from here on its wheels are turned by hand


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel until it is over: `asyncio.wait_for` of Python 3.11, under redis-py, may swallow one cancel."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.2)


@asynccontextmanager
async def run_platform(
    redis_url: str, database_url: str, folder: Path, *, roles: tuple[str, ...] = USUAL_ROLES, **settings: Any
) -> AsyncIterator[RunningPlatform]:
    """A platform on an emptied Valkey and this database; `settings` as in `runtime.settings`."""
    await emptied(redis_url)
    known = load({}, **{"data_dir": folder, **settings})
    listener = socket.create_server(("127.0.0.1", 0))
    port: int = listener.getsockname()[1]
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(
            sandbox_gateway.serving(
                "127.0.0.1",
                0,
                folder / "books.sqlite",
                f"http://127.0.0.1:{port}/api/v1/webhooks/sandbox",
                keys.gateway_secret(known),
            )
        )
        platform = await stack.enter_async_context(
            platform_for(known, Addresses(redis_url, database_url, gateway.url))
        )
        await platform.rebuilder.rebuild("test")
        await platform.order_log.ensure_groups()
        platform.commits.start()
        stack.push_async_callback(platform.commits.close)
        stack.push_async_callback(platform.maps.close)
        platform.freed_news.start()
        stack.callback(platform.freed_news.close)
        api = Runner(build(platform))
        await api.setup()
        stack.push_async_callback(api.cleanup)
        await web.SockSite(api, listener).start()
        connector = aiohttp.TCPConnector(limit=300)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        redis = connect(redis_url)
        stack.push_async_callback(redis.aclose)
        running = RunningPlatform(platform, port, session, redis)
        following = asyncio.create_task(platform.epoch.follow())
        platform.wholeness.trust()  # where no completers run, their wheels are turned by hand
        try:
            running.start(*roles)
            yield running
        finally:
            await running.stop()
            await _end(following)


async def migrated(url: str) -> None:
    """How a platform wants its database; for `make_database`."""
    await migrate(url)


@pytest_asyncio.fixture(loop_scope="session")
async def running(
    valkey_url: str, make_database: DatabaseMaker, tmp_path: Path
) -> AsyncIterator[RunningPlatform]:
    async with run_platform(valkey_url, await make_database(migrated), tmp_path) as started:
        yield started


@pytest.fixture
def platform(running: RunningPlatform) -> Platform:
    return running.platform
