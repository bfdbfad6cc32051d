"""A primary with a replica and three sentinels, whole again before each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from runtime.engines import ValkeyEngine
from tests.support.engines import DatabaseMaker
from tests.support.links import make_nodes
from tests.support.platform import RunningPlatform, migrated, run_platform
from tests.support.sentinels import Watch, running_watch

__all__ = ["make_nodes"]

ROLES = ("writer", "completers", "reaper")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def _watch() -> AsyncIterator[Watch]:
    async with running_watch() as watch:
        yield watch


@pytest_asyncio.fixture(loop_scope="session")
async def watch(_watch: Watch) -> Watch:
    """One for all tests of a module, whatever the one before has done to it."""
    await _watch.heal()
    return _watch


@pytest_asyncio.fixture(loop_scope="session")
async def primary(watch: Watch) -> ValkeyEngine:
    """The server that is the primary as the test begins."""
    return await watch.primary()


@pytest_asyncio.fixture(loop_scope="session")
async def running(
    watch: Watch, make_database: DatabaseMaker, tmp_path: Path
) -> AsyncIterator[RunningPlatform]:
    """The platform on the emptied service, every role at work."""
    async with run_platform(watch.url, await make_database(migrated), tmp_path, roles=ROLES) as started:
        yield started
