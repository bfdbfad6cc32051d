"""Links to a real server, straight or through a network that misbehaves; all given back afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from kernel.ids import PARTITIONS
from runtime.engines import ValkeyEngine
from runtime.lua import Contract, Script
from runtime.redis_link import connect
from tests.support.engines import temporary_data_dir, valkey_engine
from tests.support.inventories import runner, teach
from tests.support.links import MakeNodes, listener, make_nodes
from tests.support.proxy import Proxy
from tests.support.runner import WatchedRunner

__all__ = ["listener", "make_nodes", "runner"]

#: Verbs that say back what they were told or what they made of it; `echo` only reads.
VERBS = {
    "echo": ("#!lua flags=no-writes", "redis.call('EXISTS', KEYS[1])\nreturn { 'said', ARGV[1] }\n"),
    "remember": ("#!lua", "redis.call('SET', KEYS[1], ARGV[1])\nreturn { 'said', ARGV[1] }\n"),
    "count": ("#!lua", "return { 'said', redis.call('INCRBY', KEYS[1], ARGV[1]) }\n"),
}
SAYING: Mapping[str, Script] = {
    verb: Script(verb, Path(verb), Contract(verb, 1, 1, False, ("said",), None, "1"), flags, body)
    for verb, (flags, body) in VERBS.items()
}
MakeSpeaker = Callable[..., Awaitable[WatchedRunner]]


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait for what has no event to wait for."""
    async with asyncio.timeout(20.0):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest_asyncio.fixture(loop_scope="session")
async def speaker(make_nodes: MakeNodes) -> AsyncIterator[MakeSpeaker]:
    """A runner of `SAYING` at an address; `via` is another way to the same server."""
    clients: list[Redis] = []

    async def make(url: str, *, via: str | None = None, **options: Any) -> WatchedRunner:
        clients.append(connect(url, pool_max=4))
        first = WatchedRunner(clients[-1], make_nodes(url), SAYING)
        first.adopt_epochs([1] * PARTITIONS)
        await teach(first)
        if via is None and not options:
            return first
        second = WatchedRunner(clients[-1], make_nodes(via or url, **options), SAYING)
        second.adopt_epochs([1] * PARTITIONS)
        return second

    yield make
    for client in clients:
        await client.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def echoes(valkey_url: str, speaker: MakeSpeaker) -> WatchedRunner:
    """`SAYING` on the shared server."""
    return await speaker(valkey_url)


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(valkey_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(valkey_url) as proxy:
        yield proxy


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def moody() -> AsyncIterator[ValkeyEngine]:
    """A server of the module's own, which its tests may put into any state they take back."""
    with temporary_data_dir() as folder:
        engine = valkey_engine(
            folder, dies_with_us=True, options={"enable-debug-command": "yes", "busy-reply-threshold": "1"}
        )
        await engine.start()
        yield engine
        await engine.stop()


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A key of the test's own."""
    return f"link:{request.node.name}"
