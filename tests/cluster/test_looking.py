"""Goal: whoever looks at a cluster looks at every primary, and one that is away hides nothing of the others.

Method: real primaries, one of them set up badly, stopped, or with a slot on its way elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from entrypoints import serving
from entrypoints.doctor import check_redis
from entrypoints.fitness import Fitness, judge_seat_store
from entrypoints.platform import Addresses, platform_for
from kernel.errors import SeatsUnavailable
from kernel.ids import PARTITIONS
from reservation import epoch_key, log_key
from runtime.engines import ProbeFailed, free_port, probe_seat_store
from runtime.redis_link import Nodes, ResponseError, ScriptRunner
from runtime.redis_link.slots import SLOTS, slot_of
from runtime.settings import load
from tests.support.cluster import PRIMARIES, Cluster, running_cluster
from tests.support.engines import DatabaseMaker, emptied
from tests.support.platform import migrated


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster() -> AsyncIterator[Cluster]:
    async with running_cluster() as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="session")
async def runner(cluster: Cluster) -> AsyncIterator[ScriptRunner]:
    await emptied(cluster.url)
    runner = ScriptRunner(Nodes(cluster.url), {})
    await runner.nodes.primaries()
    yield runner
    await runner.nodes.aclose()


async def test_a_primary_that_evicts_is_found_wherever_we_were_pointed(
    cluster: Cluster, make_database: DatabaseMaker
) -> None:
    fitness = Fitness(cluster.url, await make_database(migrated))
    await fitness.look()
    assert fitness.fit.is_set()
    await cluster.clients[2].config_set("maxmemory-policy", "allkeys-lru")
    try:
        await fitness.look()
        (wrong,) = fitness.wrong
        (found,) = [check for check in await check_redis(cluster.url) if not check.ok]
    finally:
        await cluster.clients[2].config_set("maxmemory-policy", "noeviction")

    assert not fitness.fit.is_set()
    assert wrong == found
    assert wrong.name == "redis_eviction"
    assert wrong.detail == f"127.0.0.1:{cluster.engines[2].port}: maxmemory-policy allkeys-lru"


async def test_a_primary_that_is_away_is_named_and_the_others_are_judged(cluster: Cluster) -> None:
    await cluster.engines[1].stop()
    try:
        nodes = await probe_seat_store(cluster.url)
        (away,) = [check for check in judge_seat_store(nodes) if not check.ok]
    finally:
        await cluster.come_back(1)

    assert len(nodes) == PRIMARIES
    assert away.name == "redis_answers"
    assert f"127.0.0.1:{cluster.engines[1].port}: " in away.detail


async def test_a_cluster_is_found_while_the_first_of_its_addresses_is_away(cluster: Cluster) -> None:
    several = ",".join(
        [f"127.0.0.1:{free_port()}", *(f"127.0.0.1:{one.port}" for one in cluster.engines[:2])]
    )
    url, alone = f"redis://{several}/0", f"redis://{several.partition(',')[0]}/0"
    runners = [ScriptRunner(Nodes(one), {}) for one in (url, alone)]
    keys = [epoch_key(partition) for partition in range(PARTITIONS)]
    try:
        async with asyncio.timeout(20):
            while isinstance((await runners[0].ask_each([(keys[0], ("PING",))]))[0], SeatsUnavailable):  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # the first call finds out
        assert await runners[0].commands(*(("SET", key, 1) for key in keys)) == [b"OK"] * PARTITIONS
        assert all(not isinstance(facts, ProbeFailed) for facts in (await probe_seat_store(url)).values())
        with pytest.raises(SeatsUnavailable):  # the control
            await runners[1].nodes.primaries()
        with pytest.raises(ProbeFailed):
            await probe_seat_store(alone)
    finally:
        for runner in runners:
            await runner.nodes.aclose()


async def test_a_look_is_of_one_instant_and_names_what_is_refused(runner: ScriptRunner) -> None:
    for partition in (3, 20, 40):
        key = epoch_key(partition)
        await runner.command("SET", key, 7)
        looked = await runner.look(key, ("GET", key), ("HGETALL", key), ("EXISTS", key), ("TIME",))
        assert looked[0] == b"7"
        assert isinstance(looked[1], ResponseError)
        assert looked[2] == 1
        assert len(looked[3]) == 2


async def test_a_look_waits_while_its_slot_is_on_its_way(cluster: Cluster, runner: ScriptRunner) -> None:
    key, other = epoch_key(5), log_key(5)
    slot = slot_of(key)
    source = _home(key)
    target = (source + 1) % PRIMARIES
    await runner.commands(("SET", key, 1), ("SET", other, 2))
    await cluster.begin_move(slot, source, target)
    await cluster.move_keys(slot, source, target, most=1)
    looking = asyncio.create_task(runner.look(key, ("GET", key), ("GET", other)))
    await asyncio.sleep(0.3)
    assert not looking.done()

    await cluster.move_keys(slot, source, target)
    await cluster.end_move(slot, target)
    async with asyncio.timeout(20):
        assert await looking == [b"1", b"2"]


def _home(key: str) -> int:
    """The number of the primary a key lies on."""
    return slot_of(key) * PRIMARIES // SLOTS


async def test_a_process_is_ready_while_any_node_answers(
    cluster: Cluster, make_database: DatabaseMaker, tmp_path: Path
) -> None:
    await emptied(cluster.url)
    addresses = Addresses(cluster.url, await make_database(migrated), None)
    async with platform_for(load({}, data_dir=tmp_path), addresses) as platform:
        await platform.rebuilder.rebuild("test")
        last = _home(epoch_key(PARTITIONS - 1))
        await cluster.engines[last].stop()
        try:
            with pytest.raises(SeatsUnavailable):  # the control: one key is no sign of the others
                await platform.scripts.run("read_epoch", (epoch_key(PARTITIONS - 1),), ())
            results = await serving._health(platform).results()
        finally:
            await cluster.come_back(last)
    assert {one.name: one.ok for one in results} == {"redis": True, "postgres": True}
