"""A primary with replicas and three sentinels that watch it, small and quick enough to start for a test.

What sentinels do every few seconds they do here several times a second (`SENTINEL DEBUG`, made for tests), so
a primary that is killed has a successor after a few seconds and not after ten.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from runtime.engines import ValkeyEngine
from runtime.engines.addresses import LOOPBACK
from runtime.engines.engine import Command
from runtime.redis_link import connect
from tests.support.engines import temporary_data_dir, valkey_engine

SERVICE = "seats"
SENTINELS = 3
QUORUM = 2
DOWN_AFTER_MS = 1_500  # what a busy machine keeps a server from answering is less
#: Twice as long nobody tries again.
FAILOVER_MS = 2_000
#: Milliseconds between two of the same.
PERIODS = {
    "info-period": 200,
    "ping-period": 300,
    "ask-period": 100,
    "publish-period": 200,
    "election-timeout": 2_000,
    "min-link-reconnect-period": 200,
    "slave-reconf-timeout": 2_000,
    "tilt-trigger": 60_000,  # one that was stopped for a while goes on at once
}


class Sentinel(ValkeyEngine):
    """One sentinel. It watches nothing until it is told to."""

    def _configuration(self, port: int) -> str:
        return f"port {port}\nbind {LOOPBACK}\ndir {self.home}\nlogfile ''\n"

    def _command(self, configuration: str) -> Command:
        command = super()._command(configuration)
        return Command([*command.argv, "--sentinel"], command.env)


class Watch:
    """The servers of a service, the first of them its primary at first, and its sentinels."""

    def __init__(self, servers: Sequence[ValkeyEngine], sentinels: Sequence[Sentinel]) -> None:
        self.servers = servers
        self.sentinels = sentinels

    @property
    def url(self) -> str:
        """The address of the service, as an operator would give it."""
        return self.url_of(self.sentinels)

    @staticmethod
    def url_of(sentinels: Sequence[ValkeyEngine], service: str = SERVICE) -> str:
        """The address of a service by these sentinels."""
        return f"redis+sentinel://{','.join(f'{LOOPBACK}:{one.port}' for one in sentinels)}/{service}/0"

    async def monitor(self, sentinel: Sentinel, server: ValkeyEngine, *, quorum: int = QUORUM) -> None:
        """Have a sentinel watch the service, with this server as its primary."""
        async with asked(sentinel) as client:
            ask: Any = client.execute_command
            await ask("SENTINEL", "MONITOR", SERVICE, LOOPBACK, server.port, quorum)
            await ask("SENTINEL", "SET", SERVICE, "down-after-milliseconds", DOWN_AFTER_MS)
            await ask("SENTINEL", "SET", SERVICE, "failover-timeout", FAILOVER_MS)
        await _hurry(sentinel)

    async def primary(self) -> ValkeyEngine:
        """The server all sentinels that answer take for the primary, once they agree and it says so too."""
        while True:
            ports = {port for one in self.sentinels if (port := await self.named_by(one)) is not None}
            for server in self.servers:
                if ports == {server.port} and await role_of(server) == "master":
                    return server
            await asyncio.sleep(0.02)

    async def named_by(self, sentinel: Sentinel) -> int | None:
        """The port of what one sentinel takes for the primary; None when it does not answer."""
        if sentinel.pid is None:
            return None
        async with asked(sentinel) as client:
            with suppress(RedisError):
                found: Any = await client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
                return int(found[1])
        return None

    async def successor_of(self, old: ValkeyEngine) -> ValkeyEngine:
        """The primary, once it is another one."""
        found = old
        while found is old:
            await asyncio.sleep(0.02)
            found = await self.primary()
        return found

    async def has_replicas(self, primary: ValkeyEngine, count: int = 1) -> None:
        """Wait until so many replicas follow the primary, and every sentinel knows them and the others."""
        while await _replicas_of(primary) < count:  # noqa: ASYNC110 (replication takes its time)
            await asyncio.sleep(0.02)
        for sentinel in self.sentinels:
            while not await self._knows(sentinel, count):  # noqa: ASYNC110 (and so does gossip)
                await asyncio.sleep(0.02)

    async def _knows(self, sentinel: Sentinel, count: int) -> bool:
        """Whether it has so many replicas to promote, and all other sentinels to agree with."""
        async with asked(sentinel) as client:
            replicas: Any = await client.execute_command("SENTINEL", "REPLICAS", SERVICE)
            others: Any = await client.execute_command("SENTINEL", "SENTINELS", SERVICE)
        able = [one for one in replicas if one[b"flags"] == b"slave"]
        return len(able) >= count and len(others) == len(self.sentinels) - 1

    async def whisper(self) -> None:
        """From here on the sentinels tell others nothing for a minute, and reconfigure nobody for four."""
        for sentinel in self.sentinels:
            async with asked(sentinel) as client:
                await client.execute_command("SENTINEL", "DEBUG", "publish-period", 60_000)

    async def heal(self, replicas: int = 1) -> ValkeyEngine:
        """Have everybody up, agreed and in step again; the primary."""
        for engine in (*self.servers, *self.sentinels):
            await engine.start()
        for sentinel in self.sentinels:
            await _hurry(sentinel)
        primary = await self.primary()
        await self.has_replicas(primary, replicas)
        return primary

    async def switch(self, *, to_nothing: bool = False) -> ValkeyEngine:
        """Change the roles by hand, which ends no connection, and tell the sentinels; the new primary.

        `to_nothing`: the replica has lost all it had when it takes over.
        """
        old = await self.primary()
        (new,) = (server for server in self.servers if server is not old)
        for sentinel in self.sentinels:
            async with asked(sentinel) as client:
                await client.sentinel_remove(SERVICE)
        async with asked(new) as client:
            await client.replicaof("NO", "ONE")
            if to_nothing:
                await client.flushall()
        async with asked(old) as client:
            await client.replicaof(LOOPBACK, str(new.port))
        for sentinel in self.sentinels:
            await self.monitor(sentinel, new)
        return new

    async def fail_over(self) -> ValkeyEngine:
        """Hand the service over in good order; who has it then."""
        old = await self.primary()
        await self.has_replicas(old)
        async with asked(self.sentinels[0]) as client:
            while await self.primary() is old:
                with suppress(ResponseError):  # it has not looked at the replicas lately, or is at it
                    await client.execute_command("SENTINEL", "FAILOVER", SERVICE)
                await asyncio.sleep(0.2)
        return await self.successor_of(old)


@asynccontextmanager
async def asked(engine: ValkeyEngine) -> AsyncIterator[Redis]:
    """A plain client for a question or two."""
    client = connect(f"redis://{LOOPBACK}:{engine.port}/0", pool_max=1)
    try:
        yield client
    finally:
        await client.aclose()


async def _hurry(sentinel: Sentinel) -> None:
    """Have a sentinel do everything as often as in `PERIODS`."""
    async with asked(sentinel) as client:
        for name, period_ms in PERIODS.items():
            await client.execute_command("SENTINEL", "DEBUG", name, period_ms)


async def role_of(server: ValkeyEngine) -> str | None:
    """What a server says it is; None when it says nothing."""
    if server.pid is None:
        return None
    async with asked(server) as client:
        with suppress(RedisError):
            told: Any = await client.execute_command("ROLE")
            return str(told[0].decode())
    return None


async def _replicas_of(primary: ValkeyEngine) -> int:
    async with asked(primary) as client:
        told: Any = await client.execute_command("ROLE")
    return len(told[2])


def kill(engine: ValkeyEngine) -> None:
    """End it without a word to anybody."""
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)


@contextmanager
def frozen(*engines: ValkeyEngine) -> Iterator[None]:
    """They have their connections and say nothing."""
    pids = [engine.pid for engine in engines if engine.pid is not None]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def running_watch(*, replicas: int = 1) -> AsyncIterator[Watch]:
    """A primary with its replicas and three sentinels that know everybody; gone afterwards."""
    async with AsyncExitStack() as stack:

        async def started(engine: ValkeyEngine) -> None:
            await engine.start()
            stack.push_async_callback(engine.stop)

        def folder() -> Path:
            return stack.enter_context(temporary_data_dir())

        options = {"repl-diskless-sync-delay": "0"}
        servers = [valkey_engine(folder(), dies_with_us=True, options=options) for _ in range(1 + replicas)]
        program = servers[0]._binary
        sentinels = [Sentinel(folder(), binary=program, dies_with_us=True) for _ in range(SENTINELS)]
        for engine in (*servers, *sentinels):
            await started(engine)
        watch = Watch(servers, sentinels)
        for replica in servers[1:]:
            async with asked(replica) as client:
                await client.execute_command("REPLICAOF", LOOPBACK, servers[0].port)
        while await _replicas_of(servers[0]) < replicas:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        for sentinel in sentinels:
            await watch.monitor(sentinel, servers[0])
        await watch.has_replicas(servers[0], replicas)
        yield watch
