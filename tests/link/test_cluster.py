"""Goal: on a cluster every verb runs on the node of its key, also while slots move, and never twice.

Method: three real primaries; slots are moved with the commands an operator's tool would send. Where a verb
ran is counted on the nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import MovedError

from kernel.errors import InventoryRebuilding, SeatsUnavailable
from kernel.ids import PARTITIONS
from reservation.keys import epoch_key
from runtime.redis_link import Nodes, ScriptRunner
from runtime.redis_link.address import Place
from runtime.redis_link.slots import Redirection, Stretch, redirection_in, slot_of, stretches_in
from tests.link.conftest import SAYING, until
from tests.support.cluster import PRIMARIES, Cluster, a_node, running_cluster
from tests.support.inventories import make_forget, teach
from tests.support.links import MakeNodes


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster() -> AsyncIterator[Cluster]:
    async with running_cluster() as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="session")
async def sayer(cluster: Cluster, make_nodes: MakeNodes) -> ScriptRunner:
    """A runner that knows the map, with its verbs on every primary."""
    runner = ScriptRunner(make_nodes(cluster.url), SAYING)
    runner.adopt_epochs([1] * PARTITIONS)
    await teach(runner)
    return runner


async def _scripts_run(cluster: Cluster) -> list[int]:
    """How many scripts each primary has run; a redirected call is none."""
    counts = []
    for client in cluster.clients:
        stats = (await client.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})
        counts.append(int(stats["calls"]))
    return counts


async def _redirections(cluster: Cluster) -> int:
    """How often a primary sent somebody on."""
    stats = [await client.info("errorstats") for client in cluster.clients]
    return sum(
        one.get(f"errorstat_{word}", {"count": 0})["count"] for one in stats for word in ("MOVED", "ASK")
    )


async def _maps_asked_for(cluster: Cluster) -> list[int]:
    stats = [await client.info("commandstats") for client in cluster.clients]
    return [one.get("cmdstat_cluster|slots", {"calls": 0})["calls"] for one in stats]


def _key_on(cluster_slot_third: int, number: int = 0) -> str:
    """A key whose slot is in the given third of the map at the start."""
    third = 16_384 // PRIMARIES
    tags = (f"{{t{candidate}}}" for candidate in range(10_000))
    fitting = [tag for tag in tags if slot_of(tag) // (third + 1) == cluster_slot_third]
    return f"seats:{fitting[number]}"


@pytest.mark.parametrize(
    "key", ["plain", "rsv:{p07}:x", "{}{p07}", "a{b", "a{}b", "{p07}{p08}", "座位{七}", ""]
)
def test_the_slot_of_a_key_is_the_one_redis_py_computes(key: str) -> None:
    assert slot_of(key) == key_slot(key.encode())


def test_a_map_and_its_redirections_are_read_as_the_server_writes_them() -> None:
    reply = [
        [0, 5460, [b"10.0.0.1", 7000, b"id", []], [b"10.0.0.9", 7009, b"id", []]],
        [5461, 16383, [b"", 7001]],
    ]
    assert stretches_in(reply) == [
        Stretch(0, 5460, Place("10.0.0.1", 7000)),
        Stretch(5461, 16383, Place("", 7001)),
    ]
    assert redirection_in("MOVED 3999 127.0.0.1:6381") == Redirection(True, 3999, Place("127.0.0.1", 6381))
    assert redirection_in("ASK 3999 ::1:6381") == Redirection(False, 3999, Place("::1", 6381))
    assert redirection_in("MOVED 3999 :6381") == Redirection(True, 3999, Place("", 6381))
    assert redirection_in("ERR MOVED 3999 :6381") is None


async def test_verbs_run_on_every_node_and_none_takes_a_detour(cluster: Cluster, sayer: ScriptRunner) -> None:
    before, detours = await _scripts_run(cluster), await _redirections(cluster)
    calls = [((epoch_key(partition),), (partition,)) for partition in range(PARTITIONS)]

    answers = await sayer.run_many("remember", calls)
    singles = await asyncio.gather(*(sayer.run("echo", keys, said) for keys, said in calls))

    assert answers == singles == [["said", str(partition).encode()] for partition in range(PARTITIONS)]
    ran = [now - then for now, then in zip(await _scripts_run(cluster), before, strict=True)]
    assert sum(ran) == 2 * PARTITIONS
    assert min(ran) > 0
    assert await _redirections(cluster) == detours


async def test_whoever_calls_before_the_map_is_known_is_sent_on(
    cluster: Cluster, sayer: ScriptRunner, make_nodes: MakeNodes
) -> None:
    late = ScriptRunner(make_nodes(cluster.url), SAYING)
    late.adopt_epochs([1] * PARTITIONS)
    keys = [_key_on(third) for third in range(PRIMARIES)]

    answers = await asyncio.gather(*(late.run("echo", (key,), (key,)) for key in keys))

    assert answers == [["said", key.encode()] for key in keys]


async def test_a_plain_command_finds_its_node_too_and_asks_for_no_epoch(
    cluster: Cluster, sayer: ScriptRunner, make_nodes: MakeNodes
) -> None:
    late = ScriptRunner(make_nodes(cluster.url), SAYING)  # no map, no epoch
    keys = [_key_on(third, 2) for third in range(PRIMARIES)]

    for runner in (late, sayer):
        assert [await runner.command("SET", key, key, "PX", 60_000) for key in keys] == [b"OK"] * PRIMARIES
        assert [await runner.command("GET", key) for key in keys] == [key.encode() for key in keys]
        assert [await runner.command("DEL", key) for key in keys] == [1] * PRIMARIES


async def test_many_plain_commands_find_their_nodes_and_answer_in_order(
    cluster: Cluster, sayer: ScriptRunner, make_nodes: MakeNodes
) -> None:
    late = ScriptRunner(make_nodes(cluster.url), SAYING)
    keys = [_key_on(third, 3) for third in range(PRIMARIES)]

    for runner in (late, sayer):
        written = await runner.commands(*(("SET", key, key, "PX", 60_000) for key in keys))
        assert written == [b"OK"] * PRIMARIES
        read = await runner.commands(*(("GET", key) for key in [*keys, *reversed(keys)]))
        assert read == [key.encode() for key in [*keys, *reversed(keys)]]


async def test_every_primary_is_taught_the_scripts_and_made_to_forget_them(
    cluster: Cluster, sayer: ScriptRunner
) -> None:
    shas = [script.sha(1) for script in SAYING.values()]
    for client in cluster.clients:
        assert await client.script_exists(*shas) == [True] * len(shas)

    await make_forget(sayer)

    for client in cluster.clients:
        assert await client.script_exists(*shas) == [False] * len(shas)
    for third in range(PRIMARIES):
        with pytest.raises(InventoryRebuilding):
            await sayer.run("echo", (_key_on(third),), ("hello",))


async def test_the_map_is_asked_of_another_node_every_time(cluster: Cluster, sayer: ScriptRunner) -> None:
    questions = await _maps_asked_for(cluster)
    for _ in range(PRIMARIES):
        await sayer.nodes.primaries()

    asked = await _maps_asked_for(cluster)
    assert [now - then for now, then in zip(asked, questions, strict=True)] == [1] * PRIMARIES


async def test_a_node_that_was_taken_out_of_the_cluster_is_not_asked_what_there_is(
    cluster: Cluster, make_nodes: MakeNodes
) -> None:
    """It lives on, says that nobody serves anything, and is believed by nobody."""
    async with a_node() as outsider:
        client = Redis.from_url(outsider.url)
        assert await client.execute_command("CLUSTER", "SLOTS") == []
        await client.aclose()
        nodes = make_nodes(f"redis://127.0.0.1:{cluster.engines[0].port},127.0.0.1:{outsider.port}")
        for _ in range(2 * PRIMARIES):
            assert len(await nodes.primaries()) == PRIMARIES
            assert nodes.link_of(_key_on(1)).address.place.port == cluster.engines[1].port


async def test_a_slot_that_moved_is_found_and_remembered(cluster: Cluster, sayer: ScriptRunner) -> None:
    key = _key_on(0, 1)
    slot = slot_of(key)
    await sayer.run("count", (key,), (1,))
    await cluster.begin_move(slot, 0, 1)
    await cluster.move_keys(slot, 0, 1)
    await cluster.end_move(slot, 1)
    detours = await _redirections(cluster)

    answers = [await sayer.run("count", (key,), (1,)) for _ in range(20)]

    assert answers == [["said", number] for number in range(2, 22)]  # each once, on what was brought over
    assert await _redirections(cluster) == detours + 1


async def test_a_crowd_that_meets_a_moved_slot_is_sent_on_and_counts_once_each(
    cluster: Cluster, sayer: ScriptRunner
) -> None:
    key = _key_on(0, 2)
    slot = slot_of(key)
    await sayer.run("count", (key,), (0,))
    await cluster.begin_move(slot, 0, 2)
    await cluster.move_keys(slot, 0, 2)
    await cluster.end_move(slot, 2)
    questions = await _maps_asked_for(cluster)

    await asyncio.gather(*(sayer.run("count", (key,), (1,)) for _ in range(200)))

    assert await sayer.run("count", (key,), (0,)) == ["said", 200]
    assert sum(await _maps_asked_for(cluster)) - sum(questions) <= 2  # not one for each who was sent on


async def test_news_comes_from_every_node_while_a_crowd_is_sent_on_to_another(
    cluster: Cluster, sayer: ScriptRunner, unique: str
) -> None:
    key, words = _key_on(1, 7), [f"word {number}".encode() for number in range(60)]
    heard: list[bytes] = []
    sayer.nodes.listen(unique, heard.append)
    for third in range(PRIMARIES):
        await sayer.run("echo", (_key_on(third),), ("connected",))

    async def announce() -> None:
        for number, word in enumerate(words):
            await cluster.clients[number % PRIMARIES].publish(unique, word)

    async def meet_a_moved_slot() -> list[list[object]]:
        await cluster.begin_move(slot_of(key), 1, 2)
        await cluster.end_move(slot_of(key), 2)
        return await asyncio.gather(*(sayer.run("count", (key,), (1,)) for _ in range(100)))

    detours = await _redirections(cluster)
    answers, _ = await asyncio.gather(meet_a_moved_slot(), announce())

    assert sorted(answers) == [["said", number] for number in range(1, 101)]
    assert await _redirections(cluster) > detours

    async def told_by_each() -> bool:
        return len(heard) == PRIMARIES * len(words)

    await until(told_by_each)
    assert set(heard) == set(words)

    # What the key's own node says is heard before its reply.
    await cluster.clients[2].publish(unique, "last word")
    await sayer.run("echo", (key,), ("hello",))
    assert b"last word" in heard


async def test_while_a_slot_moves_a_key_is_found_on_either_side(
    cluster: Cluster, sayer: ScriptRunner
) -> None:
    stays, goes, new = (f"{name}:{_key_on(1, 1)}" for name in ("stays", "goes", "new"))
    slot = slot_of(stays)
    assert {slot_of(goes), slot_of(new)} == {slot}
    await sayer.run("count", (stays,), (10,))
    await sayer.run("count", (goes,), (20,))
    await cluster.begin_move(slot, 1, 2)
    port = cluster.engines[2].port
    await cluster.clients[1].execute_command("MIGRATE", "127.0.0.1", port, goes, 0, 5_000)
    detours = await _redirections(cluster)

    assert await sayer.run("count", (stays,), (1,)) == ["said", 11]  # not brought over yet: the source
    assert await sayer.run("count", (goes,), (1,)) == ["said", 21]  # asked on
    assert await sayer.run_many("count", [((new,), (1,)), ((goes,), (1,))]) == [["said", 1], ["said", 22]]
    assert await _redirections(cluster) == detours + 3  # every time: an ASK is for this once
    crowd = await asyncio.gather(*(sayer.run("count", (goes,), (1,)) for _ in range(50)))
    assert sorted(answer[1] for answer in crowd) == list(range(23, 73))

    await cluster.move_keys(slot, 1, 2)
    await cluster.end_move(slot, 2)
    assert await sayer.run("count", (stays,), (1,)) == ["said", 12]


async def test_an_unprefaced_call_is_not_served_by_a_node_that_only_imports(
    cluster: Cluster, sayer: ScriptRunner
) -> None:
    key = _key_on(1, 3)
    await cluster.begin_move(slot_of(key), 1, 2)
    importing = cluster.clients[2]

    with pytest.raises(MovedError):  # this is why ASKING and the call leave together
        await importing.evalsha(SAYING["count"].sha(1), 1, key, 1)

    await cluster.move_keys(slot_of(key), 1, 2)
    await cluster.end_move(slot_of(key), 2)


async def test_nodes_that_point_at_each_other_do_not_keep_a_caller_running(
    cluster: Cluster, sayer: ScriptRunner
) -> None:
    key = _key_on(0, 4)
    await cluster.point(slot_of(key), 0, 1)  # the second still points at the first
    detours = await _redirections(cluster)

    with pytest.raises(SeatsUnavailable):
        await sayer.run("count", (key,), (1,))
    assert await _redirections(cluster) == detours + 3  # the call, and two more tries

    await cluster.point(slot_of(key), 0, 0)
    assert await sayer.run("count", (key,), (1,)) == ["said", 1]


async def test_a_slot_nobody_serves_refuses_its_keys_and_no_others(
    cluster: Cluster, sayer: ScriptRunner
) -> None:
    key, other = _key_on(2, 5), _key_on(0, 6)
    slot = slot_of(key)
    for client in cluster.clients:
        await client.execute_command("CLUSTER", "DELSLOTS", slot)

    for _ in range(2):
        with pytest.raises(SeatsUnavailable):
            await sayer.run("echo", (key,), ("hello",))
        await sayer.nodes.primaries()  # the map with the hole in it
    assert await sayer.run("echo", (other,), ("hello",)) == ["said", b"hello"]

    await cluster.clients[2].execute_command("CLUSTER", "ADDSLOTS", slot)
    while True:
        try:
            assert await sayer.run("echo", (key,), ("hello",)) == ["said", b"hello"]
            break
        except SeatsUnavailable:
            await asyncio.sleep(0.02)


async def test_one_node_away_refuses_its_keys_and_no_others(cluster: Cluster, sayer: ScriptRunner) -> None:
    mine = [f"away:{_key_on(third, 8)}" for third in range(PRIMARIES)]
    await cluster.engines[2].stop()
    with pytest.raises(SeatsUnavailable):
        await sayer.run("echo", (mine[2],), ("hello",))
    assert await sayer.run("echo", (mine[0],), ("hello",)) == ["said", b"hello"]
    assert await sayer.run("echo", (mine[1],), ("hello",)) == ["said", b"hello"]

    await cluster.engines[2].start()
    outcome: object = None
    while not isinstance(outcome, InventoryRebuilding):  # it is back, and its scripts are gone: the gate
        try:
            await sayer.run("echo", (mine[2],), ("hello",))
        except (SeatsUnavailable, InventoryRebuilding) as refusal:
            outcome = refusal
            await asyncio.sleep(0.02)
    await teach(sayer)
    assert await sayer.run("echo", (mine[2],), ("hello",)) == ["said", b"hello"]


async def test_the_counts_are_of_all_nodes_together(cluster: Cluster, sayer: ScriptRunner) -> None:
    before = sayer.nodes.counts()
    await asyncio.gather(*(sayer.run("echo", (_key_on(third, 9),), ("x",)) for third in range(PRIMARIES)))

    counts = sayer.nodes.counts()
    assert counts.commands - before.commands == PRIMARIES
    assert counts.flushes - before.flushes == PRIMARIES


async def test_one_server_learns_no_map(valkey_url: str, make_nodes: MakeNodes) -> None:
    nodes: Nodes = make_nodes(valkey_url)
    (link,) = await nodes.primaries()

    assert nodes.only is link
    assert nodes.link_of("any key") is link


async def test_the_successor_of_a_primary_is_found_though_one_node_tells_the_old_story(
    cluster: Cluster, sayer: ScriptRunner
) -> None:
    mine = [f"heir:{_key_on(third, 9)}" for third in range(PRIMARIES)]
    async with cluster.replica_of(1) as heir:
        for key in mine:
            await sayer.run("remember", (key,), ("kept",))
        cluster.kill(1)
        await cluster.take_over(heir, unknown_to=0)

        async def inherited() -> bool:
            assert await sayer.run("echo", (mine[0],), ("hello",)) == ["said", b"hello"]  # served all along
            with pytest.raises((SeatsUnavailable, InventoryRebuilding)) as refusal:
                await sayer.run("echo", (mine[1],), ("hello",))
            return refusal.type is InventoryRebuilding  # the heir has the data and not the scripts

        async def served() -> bool:
            try:
                await teach(sayer)
                return await sayer.run("echo", (mine[1],), ("hello",)) == ["said", b"hello"]
            except (SeatsUnavailable, InventoryRebuilding):  # the map was asked of the one with the old story
                return False

        await until(inherited)
        await until(served)
        told = await cluster.clients[0].execute_command("CLUSTER", "SLOTS")
        assert heir.port not in [stretch[2][1] for stretch in told]  # the old story, to the end
