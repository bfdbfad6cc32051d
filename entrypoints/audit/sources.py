"""Where an audit reads: connections of its own to the platform's servers.

The platform's pools are made for requests: few connections, and a caller who waits two seconds for one is
told to come back. An audit reads much, on a busy machine, and must neither stand in the way of requests
nor give up because it had to wait. So it brings its own, with its own patience.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from checkout import OrderLog
from entrypoints.platform import Platform
from runtime.postgres import Database
from runtime.redis_link import Nodes, ScriptRunner, connect
from runtime.settings import Settings

#: Most things an audit asks are answered in milliseconds, a statement over a million orders in ten seconds.
_REPLY_TIMEOUT_S: Final = 120.0
_CONNECT_TIMEOUT_S: Final = 10.0
#: The proof of the records and the four looks go on side by side.
_DATABASE_POOL_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Sources:
    """The servers, and what it takes to read a gateway's books. No script is ever run."""

    database: Database
    server: ScriptRunner
    log: OrderLog
    settings: Settings
    gateway_url: str | None


@asynccontextmanager
async def sources_of(platform: Platform) -> AsyncIterator[Sources]:
    """The platform's servers, over connections that are given back."""
    addresses = platform.addresses
    database = Database(
        addresses.database_url,
        pool_max=_DATABASE_POOL_MAX,
        statement_cache=platform.settings.statement_cache,
        acquire_timeout_s=_CONNECT_TIMEOUT_S,
        command_timeout_s=_REPLY_TIMEOUT_S,
    )
    nodes = Nodes(addresses.redis_url, deadline_s=_REPLY_TIMEOUT_S)
    reader = connect(addresses.redis_url, pool_max=1)
    try:
        server = ScriptRunner(nodes, {})
        log = OrderLog(server, reader, consumer="audit")
        yield Sources(database, server, log, platform.settings, addresses.gateway_url)
    finally:
        await nodes.aclose()
        await reader.aclose()
        await database.close()
