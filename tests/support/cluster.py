"""A real cluster of three primaries, small enough to start for a test, and the moving of a slot in it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from runtime.engines import ValkeyEngine
from runtime.engines.addresses import free_port
from tests.support.engines import temporary_data_dir, valkey_engine

PRIMARIES = 3
SLOTS = 16_384


class Cluster:
    """Its engines in the order of their slots, and a plain client of each."""

    def __init__(self, engines: Sequence[ValkeyEngine]) -> None:
        self.engines = engines
        self.clients = [Redis.from_url(engine.url) for engine in engines]
        #: By the number of the primary each has a copy of; those the cluster was made with.
        self.replicas: list[ValkeyEngine] = []
        self._ids: list[str] = []

    @property
    def url(self) -> str:
        """The address of one of them, as an operator would give it."""
        return self.engines[0].url

    async def form(self) -> None:
        """Share the slots out evenly, introduce everybody, and wait until all agree."""
        for number, client in enumerate(self.clients):
            first = number * SLOTS // PRIMARIES
            last = (number + 1) * SLOTS // PRIMARIES - 1
            await client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            await client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            self._ids.append((await client.execute_command("CLUSTER", "MYID")).decode())
        for engine in self.engines[1:]:
            await self._meet(engine)
        for number in range(PRIMARIES):
            while not await self._is_whole(number):  # noqa: ASYNC110 (gossip takes its time)
                await asyncio.sleep(0.02)

    async def _is_whole(self, number: int) -> bool:
        info = (await self.clients[number].execute_command("CLUSTER", "INFO")).decode()
        slots = await self.clients[number].execute_command("CLUSTER", "SLOTS")
        return "cluster_state:ok" in info and len(slots) >= PRIMARIES

    @asynccontextmanager
    async def replica_of(self, number: int) -> AsyncIterator[ValkeyEngine]:
        """One more node, with a copy of what the primary has; every primary knows it.

        Who has not heard of it from the others takes no word from it, also not that it took over.
        """
        async with a_node() as engine:
            client = Redis.from_url(engine.url)
            await self._meet(engine)
            replicate = ("CLUSTER", "REPLICATE", self._ids[number])
            while True:
                try:
                    await client.execute_command(*replicate)
                    break
                except ResponseError:  # it has not heard of that primary yet
                    await asyncio.sleep(0.02)
            while (await client.info("replication"))["master_link_status"] != "up":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            await client.aclose()
            for one in self.engines:
                await _knows_replica(one, engine)
            yield engine

    def kill(self, number: int) -> None:
        """End one of them without a word to anybody."""
        pid = self.engines[number].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    async def come_back(self, number: int) -> None:
        """Start one that was stopped, and wait until all agree that every slot is served."""
        await self.engines[number].start()
        for one in range(PRIMARIES):
            while True:
                with suppress(RedisConnectionError):  # a client finds out that its connection has ended
                    if await self._is_whole(one):
                        break
                await asyncio.sleep(0.02)

    async def take_over(self, heir: ValkeyEngine, *, unknown_to: int) -> None:
        """Make a replica the primary at once; one of the nodes does not hear of it for a minute."""
        client = Redis.from_url(heir.url)
        name = (await client.execute_command("CLUSTER", "MYID")).decode()
        deaf = self.clients[unknown_to]
        if "valkey_version" in await deaf.info("server"):  # it tells the others what to forget
            await deaf.config_set("cluster-node-timeout", 60_000)  # and does not miss them meanwhile
            await deaf.execute_command("DEBUG", "DROP-CLUSTER-PACKET-FILTER", -2)
        else:
            await deaf.execute_command("CLUSTER", "FORGET", name)
        await client.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
        await client.aclose()

    async def _meet(self, engine: ValkeyEngine) -> None:
        bus = int(engine_option(engine, "cluster-port"))
        await self.clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", engine.port, bus)

    async def begin_move(self, slot: int, source: int, target: int) -> None:
        """From here on the source asks clients on for keys it does not have."""
        await self.clients[target].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self._ids[source])
        await self.clients[source].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self._ids[target])

    async def move_keys(self, slot: int, source: int, target: int, *, most: int = 1_000) -> None:
        """Bring keys of the slot over."""
        keys = (await self.keys_in(slot, source))[:most]
        if keys:
            port = self.engines[target].port
            await self.clients[source].execute_command(
                "MIGRATE", "127.0.0.1", port, "", 0, 5_000, "KEYS", *keys
            )

    async def keys_in(self, slot: int, number: int) -> list[bytes]:
        """Keys of the slot that one of them has."""
        found: list[bytes] = await self.clients[number].execute_command(
            "CLUSTER", "GETKEYSINSLOT", slot, 1_000
        )
        return found

    async def end_move(self, slot: int, target: int) -> None:
        """The slot is the target's, and everybody knows."""
        for number in (target, *(one for one in range(PRIMARIES) if one != target)):
            await self.point(slot, number, target)

    async def point(self, slot: int, number: int, owner: int) -> None:
        """Make one of them believe whose the slot is."""
        await self.clients[number].execute_command("CLUSTER", "SETSLOT", slot, "NODE", self._ids[owner])

    async def aclose(self) -> None:
        for client in self.clients:
            await client.aclose()


async def _knows_replica(engine: ValkeyEngine, replica: ValkeyEngine) -> None:
    """Wait until one node has heard of another one."""
    client = Redis.from_url(engine.url)
    known = ""
    while f":{replica.port}@{engine_option(replica, 'cluster-port')} slave" not in known:
        await asyncio.sleep(0.02)
        known = (await client.execute_command("CLUSTER", "NODES")).decode()
    await client.aclose()


def engine_option(engine: ValkeyEngine, name: str) -> str:
    """One of the options the engine was made with."""
    return engine._options[name]


@asynccontextmanager
async def a_node() -> AsyncIterator[ValkeyEngine]:
    """One that is in no cluster yet."""
    with temporary_data_dir() as folder:
        options = {
            "cluster-enabled": "yes",
            "cluster-port": str(free_port()),
            "cluster-node-timeout": "2000",
            "cluster-require-full-coverage": "no",  # one part away does not close the others
            "cluster-announce-ip": "127.0.0.1",
            "enable-debug-command": "local",
            "repl-diskless-sync-delay": "0",  # one replica is all there will be
        }
        engine = valkey_engine(folder, dies_with_us=True, options=options)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.stop()


@asynccontextmanager
async def running_cluster(*, replicas: bool = False) -> AsyncIterator[Cluster]:
    """Three primaries that know each other, each with a replica if wished; gone afterwards."""
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(a_node()) for _ in range(PRIMARIES)]
        cluster = Cluster(engines)
        stack.push_async_callback(cluster.aclose)
        await cluster.form()
        if replicas:
            for number in range(PRIMARIES):
                cluster.replicas.append(await stack.enter_async_context(cluster.replica_of(number)))
        yield cluster
