"""Goal: the order log is read, settled and measured on every node of a cluster, and none stops the others.

Method: `OrderLog` on three real primaries; entries are put on the logs by hand, nodes are stopped, slots
moved and connections cut underneath. What it costs is counted in commands, on the nodes.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import pytest_asyncio
from redis.exceptions import ClusterCrossSlotError

from checkout import GROUP, OrderLog
from checkout.log_entries import LOGS, LogEntry
from checkout.log_redis import COMMITTED_CHANNEL
from kernel.errors import SeatsUnavailable
from kernel.ids import PARTITIONS, new_hold_id, new_showtime_id, order_id_of, partition_of
from reservation import log_key
from runtime.redis_link import Nodes, ScriptRunner, connect
from runtime.redis_link.slots import SLOTS, slot_of
from tests.support.cluster import PRIMARIES, Cluster, running_cluster
from tests.support.engines import emptied

BLOCK_MS = 5_000
COUNT = 100


def home(partition: int) -> int:
    """The number of the primary a log lies on."""
    return slot_of(log_key(partition)) * PRIMARIES // SLOTS


ON = [next(one for one in range(PARTITIONS) if home(one) == number) for number in range(PRIMARIES)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster() -> AsyncIterator[Cluster]:
    async with running_cluster() as cluster:
        yield cluster


class Desk:
    """A reader of the logs, and whoever writes on them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.nodes = Nodes(cluster.url)
        self.scripts = ScriptRunner(self.nodes, {})
        self.reader = connect(cluster.url, socket_timeout_s=None)
        self.writer = ScriptRunner(Nodes(cluster.url), {})

    def log(self, slot: str = "writer-1") -> OrderLog:
        return OrderLog(self.scripts, self.reader, consumer=slot)

    async def quiet_log(self) -> OrderLog:
        """A log whose connections are there and have said that they listen."""
        log = self.log()
        for _ in range(2):
            assert await log.read(COUNT, 50) == []
        return log

    async def put(self, *partitions: int) -> list[LogEntry]:
        """An entry on each of these logs."""
        calls = [("XADD", log_key(one), "*", "kind", "test", "data", f"entry of {one}") for one in partitions]
        log_ids = await self.writer.commands(*calls)
        return [
            LogEntry(one, log_id.decode(), f"entry of {one}".encode())
            for one, log_id in zip(partitions, log_ids, strict=True)
        ]

    async def commands(self, name: str) -> int:
        """How many of these commands the nodes have done."""
        stats = [await client.info("commandstats") for client in self.cluster.clients]
        return sum(one.get(f"cmdstat_{name}", {"calls": 0})["calls"] for one in stats)

    async def aclose(self) -> None:
        await self.nodes.aclose()
        await self.writer.nodes.aclose()
        await self.reader.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def desk(cluster: Cluster) -> AsyncIterator[Desk]:
    """A desk at empty logs that have their groups."""
    await emptied(cluster.url)
    desk = Desk(cluster)
    await desk.log().ensure_groups()
    await desk.nodes.primaries()
    yield desk
    await desk.aclose()


async def read_all(log: OrderLog, wanted: int) -> list[LogEntry]:
    """Read until so many have come."""
    found: list[LogEntry] = []
    async with asyncio.timeout(20):
        while len(found) < wanted:
            found += await log.read(COUNT, BLOCK_MS)
    return found


@contextmanager
def stopped(cluster: Cluster, number: int) -> Iterator[None]:
    """A node that has its connections and says nothing."""
    pid: Any = cluster.engines[number].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_control_one_blocking_read_of_two_logs_is_refused(cluster: Cluster) -> None:
    await emptied(cluster.url)
    same_node = [one for one in range(PARTITIONS) if home(one) == 0][:2]
    with pytest.raises(ClusterCrossSlotError):
        await cluster.clients[0].xread({log_key(one): "0" for one in same_node})


async def test_what_lies_on_any_log_is_read_once(desk: Desk) -> None:
    put = await desk.put(*range(PARTITIONS), *range(PARTITIONS))
    log = desk.log()

    assert sorted(await read_all(log, len(put))) == sorted(put)
    assert await log.read(COUNT, 50) == []


async def test_a_cluster_nobody_has_asked_yet_is_found_out_by_the_first_read(desk: Desk) -> None:
    put = await desk.put(*ON)
    late = Desk(desk.cluster)
    try:
        assert sorted(await read_all(late.log(), len(put))) == sorted(put)
    finally:
        await late.aclose()


async def test_an_entry_costs_one_read_of_its_log_and_wakes_whoever_waits(desk: Desk) -> None:
    log = await desk.quiet_log()
    waiting = asyncio.create_task(log.read(COUNT, 60_000))
    await asyncio.sleep(0.1)
    before = await desk.commands("xreadgroup")
    put = await desk.put(ON[1])

    async with asyncio.timeout(20):
        assert await waiting == put
    assert await desk.commands("xreadgroup") == before + 1


async def test_reading_and_settling_ring_no_bell(desk: Desk) -> None:
    log = await desk.quiet_log()
    put = await desk.put(*ON)
    await read_all(log, len(put))
    before = await desk.commands("xreadgroup")
    await log.settle(put, [], [])

    assert await log.read(COUNT, 300) == []
    assert await desk.commands("xreadgroup") == before + PARTITIONS  # in silence all are looked at, once


async def test_entries_beyond_a_read_come_with_the_next(desk: Desk) -> None:
    put = await desk.put(*[ON[0]] * 5)
    log = desk.log()

    found = [await log.read(2, BLOCK_MS) for _ in range(3)]

    assert found == [put[:2], put[2:4], put[4:]]


async def test_a_connection_that_is_lost_takes_no_entry_with_it(desk: Desk) -> None:
    log = await desk.quiet_log()
    for client in desk.cluster.clients:
        await client.client_kill_filter(_type="normal", skipme=True)
    put = await desk.put(*ON)

    assert sorted(await read_all(log, len(put))) == sorted(put)


async def test_a_log_that_moves_is_followed(desk: Desk) -> None:
    partition = ON[2]
    slot, log = slot_of(log_key(partition)), desk.log()
    first = await desk.put(partition)
    assert await read_all(log, 1) == first
    await desk.cluster.begin_move(slot, 2, 0)
    await desk.cluster.move_keys(slot, 2, 0)
    between = await desk.put(partition)
    await desk.cluster.end_move(slot, 0)
    after = await desk.put(partition)
    try:
        assert await read_all(log, 2) == between + after
        await log.settle(first + between, [], [])
        assert await log.read_own_pending(COUNT) == after
    finally:
        await desk.cluster.begin_move(slot, 0, 2)
        await desk.cluster.move_keys(slot, 0, 2)
        await desk.cluster.end_move(slot, 2)


async def test_a_group_a_node_has_lost_is_made_again_from_the_beginning(desk: Desk) -> None:
    log = await desk.quiet_log()
    await desk.cluster.clients[1].flushall()
    put = await desk.put(*ON)

    assert sorted(await read_all(log, len(put))) == sorted(put)


async def test_a_silent_node_keeps_nobody_from_the_others_entries(desk: Desk) -> None:
    log = await desk.quiet_log()
    theirs, others = await desk.put(ON[1]), []
    assert await read_all(log, 1) == theirs
    with stopped(desk.cluster, 1):
        for _ in range(3):
            put = await desk.put(ON[0], ON[2])
            others += put
            assert sorted(await read_all(log, 2)) == sorted(put)
            await log.settle([*put, *theirs], [], [])
        assert await log.claim_abandoned(0, COUNT) == []  # what the others had was acknowledged
        with pytest.raises(SeatsUnavailable):  # the control: asked together they wait for the silent one
            await desk.scripts.commands(*(("XLEN", log_key(one)) for one in ON))

    late = await desk.put(ON[1])
    assert await read_all(log, 1) == late


async def test_a_node_that_is_away_keeps_nobody_from_the_others_entries(desk: Desk) -> None:
    log = desk.log()
    put = await desk.put(*ON)
    await read_all(log, len(put))
    await desk.cluster.engines[1].stop()
    try:
        more = await desk.put(ON[0], ON[2])
        assert sorted(await read_all(log, 2)) == sorted(more)
        await log.ensure_groups()
        await log.settle(put + more, [], [])
        assert await log.claim_abandoned(0, COUNT) == []
        positions = {ON[0]: more[0].log_id, ON[1]: put[1].log_id, ON[2]: more[1].log_id}
        assert await log.trim(positions, -1_000, 2**48) == 2
        with pytest.raises(SeatsUnavailable):
            await log.read_unsettled(ON[1], "0-0")
    finally:
        await desk.cluster.come_back(1)

    async with asyncio.timeout(20):
        while not (left := await log.claim_abandoned(0, COUNT)):  # noqa: ASYNC110 (it is dialled again soon)
            await asyncio.sleep(0.05)
    assert left == [
        entry for entry in put if entry.partition == ON[1]
    ]  # never acknowledged, so given out again


async def test_the_backlog_is_of_all_nodes_or_it_is_not_said(desk: Desk) -> None:
    log = desk.log()
    put = await desk.put(*ON, ON[0])
    read = await log.read(1, BLOCK_MS)
    assert len(read) == PRIMARIES
    assert (await log.backlog()).entries == len(put)
    await log.settle(read, [], [])
    assert (await log.backlog()).entries == 1

    await desk.cluster.engines[2].stop()
    try:
        with pytest.raises(SeatsUnavailable):
            await log.backlog()
    finally:
        await desk.cluster.come_back(2)


async def test_a_commit_is_announced_by_the_node_of_its_log_and_heard_from_all(desk: Desk) -> None:
    heard: list[bytes] = []
    desk.nodes.listen(COMMITTED_CHANNEL, heard.append)
    showtimes: dict[int, str] = {}
    while len(showtimes) < PRIMARIES:
        showtime_id = new_showtime_id()
        showtimes[home(partition_of(showtime_id))] = showtime_id
    orders = [order_id_of(new_hold_id(showtime_id)) for showtime_id in showtimes.values()]
    before = await desk.commands("publish")

    await desk.log().settle([], orders[:2], orders[2:])

    assert await desk.commands("publish") == before + PRIMARIES
    async with asyncio.timeout(20):
        while len(heard) < PRIMARIES * PRIMARIES:  # noqa: ASYNC110 (each is heard from each node)
            await asyncio.sleep(0.02)
    assert len(set(heard)) == PRIMARIES
    assert all(sum(order.encode() in said for said in set(heard)) == 1 for order in orders)


async def test_every_log_has_its_group_on_the_node_it_lies_on(desk: Desk) -> None:
    for partition, key in enumerate(LOGS):
        (group,) = await desk.cluster.clients[home(partition)].xinfo_groups(key)
        assert group["name"] == GROUP.encode()


async def test_on_one_server_waiting_is_one_read_and_settling_one_write(valkey_url: str) -> None:
    """What a cluster needs is not paid for where there is none."""
    await emptied(valkey_url)
    nodes, reader = Nodes(valkey_url), connect(valkey_url, socket_timeout_s=None)
    plain = connect(valkey_url)
    log = OrderLog(ScriptRunner(nodes, {}), reader, consumer="writer-1")
    try:
        await log.ensure_groups()
        log_ids = [
            (await plain.xadd(log_key(one), {"kind": "test", "data": "x"})).decode()
            for one in range(PARTITIONS)
        ]
        await plain.config_resetstat()
        entries = await log.read(COUNT, BLOCK_MS)
        flushes = nodes.counts().flushes
        await log.settle(entries, [order_id_of(new_hold_id(new_showtime_id())) for _ in entries], [])

        stats = {name: one["calls"] for name, one in (await plain.info("commandstats")).items()}
        assert [entry.log_id for entry in entries] == log_ids
        assert nodes.counts().flushes == flushes + 1
        assert stats["cmdstat_xreadgroup"] == stats["cmdstat_publish"] == 1
        assert "cmdstat_client|tracking" not in stats
    finally:
        for client in (reader, plain, nodes):
            await client.aclose()
