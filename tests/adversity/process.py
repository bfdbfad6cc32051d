"""A process of ours in the test's own loop: a platform with a network of its own, which can be taken away.

Killing a process means that nothing of it reaches the engines any more. So each has a proxy to either engine:
when both refuse, whatever the code still does in its `finally` blocks is done to nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from entrypoints.platform import Addresses, Platform, platform_for
from tests.adversity.driving import Points, driven
from tests.support.proxy import Proxy
from tests.support.shop import Shop

#: The work whose code is running, and the tasks it started; none where the code is nobody's.
_WORK: ContextVar[tuple[Points, set[asyncio.Task[Any]]] | None] = ContextVar("work", default=None)

#: Long enough for an engine of this machine to have done what it was asked.
DONE_WITHIN_S = 0.03


@dataclass
class Process:
    """The parts of a process, and its ways to the engines."""

    platform: Platform
    redis_way: Proxy
    database_way: Proxy
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def begin(self, work: Coroutine[Any, Any, Any], points: Points) -> asyncio.Task[Any]:
        """Let it do something; whatever tasks that starts are stopped and ended with it."""
        context = copy_context()
        context.run(_WORK.set, (points, self._tasks))
        task = asyncio.get_running_loop().create_task(driven(work, points), context=context)
        self._tasks.add(task)
        return task

    async def ends(self) -> None:
        """Nothing of it runs any more; a single cancellation may be swallowed, or waited out."""
        while living := {task for task in self._tasks if not task.done()}:
            for task in living:
                task.cancel()
            await asyncio.wait(living, timeout=0.2)

    def hold_replies(self) -> None:
        """What is asked is done, and nobody hears of it."""
        for way in (self.redis_way, self.database_way):
            way.freeze()

    async def is_cut_off(self) -> None:
        """Nothing leaves any more."""
        for way in (self.redis_way, self.database_way):
            await way.refuse()
            way.thaw()

    async def loses_its_connections(self) -> None:
        """Every connection ends; new ones are as good as ever."""
        for way in (self.redis_way, self.database_way):
            await way.cut()
            way.thaw()


@asynccontextmanager
async def process_of(shop: Shop) -> AsyncIterator[Process]:
    """One more process beside the shop's own, at the same gateway."""
    addresses = shop.platform.addresses
    async with AsyncExitStack() as stack:
        redis_way = await stack.enter_async_context(Proxy(addresses.redis_url))
        database_way = await stack.enter_async_context(Proxy(addresses.database_url))
        parts = urlsplit(addresses.database_url)
        port = urlsplit(database_way.url).port
        database_url = parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}").geturl()
        platform = await stack.enter_async_context(
            platform_for(shop.platform.settings, Addresses(redis_way.url, database_url, None))
        )
        platform.gateways = shop.platform.gateways
        platform.wholeness.trust()
        stack.push_async_callback(platform.maps.close)
        await platform.epoch.refresh()
        platform.commits.start()
        stack.push_async_callback(platform.commits.close)
        process = Process(platform, redis_way, database_way)
        loop = asyncio.get_running_loop()
        loop.set_task_factory(_told_to_its_work)
        stack.callback(loop.set_task_factory, None)
        stack.push_async_callback(process.ends)
        yield process


def _told_to_its_work(
    loop: asyncio.AbstractEventLoop, coroutine: Any, context: Any = None
) -> asyncio.Task[Any]:
    mine = _WORK.get()
    if mine is None:
        return asyncio.Task(coroutine, loop=loop, context=context)
    points, tasks = mine
    task: asyncio.Task[Any] = asyncio.Task(driven(coroutine, points), loop=loop, context=context)
    tasks.add(task)
    return task


async def until_done() -> None:
    """Let the engines do what they were asked."""
    await asyncio.sleep(DONE_WITHIN_S)
