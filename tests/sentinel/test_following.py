"""Goal: who has found the primary goes with it, does nothing twice on the way, and hears what there is.

Method: the role is handed over by the sentinels, by hand, and by freezing who has it, under callers whose
every command leaves a mark of its own. What was executed is read from the marks and counted by the servers.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest

from kernel.errors import Overloaded, SeatsUnavailable
from runtime.engines import ValkeyEngine
from runtime.redis_link import Nodes, ScriptRunner
from runtime.redis_link.link import Link
from tests.support.links import Listener, MakeNodes
from tests.support.sentinels import Watch, asked, frozen, kill, role_of


async def goes_to(runner: ScriptRunner, engine: ValkeyEngine, key: str) -> Link:
    """Write until a write is taken by this server, as callers do; the link it went by."""
    async with asyncio.timeout(30):
        while True:
            try:
                await runner.command("SET", key, "here")
                link = runner.nodes.only
                assert link is not None
                if link.address.place.port == engine.port:
                    return link
            except SeatsUnavailable:
                pass
            await asyncio.sleep(0.02)


async def done(engine: ValkeyEngine, command: str) -> int:
    """How many of these commands a server has executed."""
    async with asked(engine) as client:
        stats: Any = await client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


class Callers:
    """Twenty who add to a key nobody used before, again and again, and keep what they were told."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._runner = ScriptRunner(nodes, {})
        self._name = secrets.token_hex(4)
        self._tasks = [asyncio.create_task(self._call(number)) for number in range(20)]
        self.told: dict[str, int | None] = {}

    async def _call(self, number: int) -> None:
        for turn in range(1_000_000):
            key = f"{self._name}:{number}:{turn}"
            self.told[key] = None
            try:
                self.told[key] = await self._runner.command("INCR", key)
            except (SeatsUnavailable, Overloaded):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.002)

    async def go_on(self, server: ValkeyEngine) -> None:
        """Wait until many more were told that it is done, by this server."""
        async with asyncio.timeout(30):
            while self._nodes.only is None or self._nodes.only.address.place.port != server.port:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            wanted = self.acknowledged + 50
            while self.acknowledged < wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    @property
    def acknowledged(self) -> int:
        return sum(answer is not None for answer in self.told.values())

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)


@pytest.mark.parametrize("way", ["by hand", "killed", "frozen"])
async def test_callers_go_with_the_primary_and_nothing_is_done_twice(
    watch: Watch, primary: ValkeyEngine, make_nodes: MakeNodes, way: str
) -> None:
    nodes = make_nodes(watch.url, deadline_s=0.4)
    callers = Callers(nodes)
    try:
        await callers.go_on(primary)
        if way == "by hand":
            new = await watch.fail_over()
            await callers.go_on(new)
        elif way == "killed":
            kill(primary)
            new = await watch.successor_of(primary)
            await callers.go_on(new)
        else:
            with frozen(primary):
                new = await watch.successor_of(primary)
                await callers.go_on(new)
    finally:
        await callers.stop()

    (link,) = await nodes.primaries()
    assert link is nodes.only
    assert link.address.place.port == new.port
    marks = [await link.command("GET", key) for key in callers.told]
    assert {*marks} <= {None, b"1"}
    assert {answer for answer in callers.told.values() if answer is not None} == {1}
    assert b"1" in marks
    counts = nodes.counts()
    assert counts.reconnects >= 1
    assert counts.commands >= len(callers.told), "what the old link has done is no longer counted"


async def test_a_write_that_a_replica_refused_is_done_once_by_the_primary(
    watch: Watch, primary: ValkeyEngine, make_nodes: MakeNodes
) -> None:
    nodes, stays = make_nodes(watch.url), make_nodes(primary.url)
    runners = [ScriptRunner(one, {}) for one in (nodes, stays)]
    for runner in runners:
        await runner.command("SET", "seat", "before")
    new = await watch.switch()
    old_link, before = nodes.only, await done(new, "incr")

    answers = await asyncio.gather(*(runners[0].command("INCR", f"one:{n}") for n in range(50)))

    assert answers == [1] * 50
    assert await done(new, "incr") - before == 50
    assert nodes.only is not old_link
    for _ in range(2):  # the control: a link that stays is refused for good
        with pytest.raises(SeatsUnavailable):
            await runners[1].command("INCR", "stays")


async def test_a_command_whose_reply_was_lost_is_not_sent_to_the_next_primary(
    watch: Watch, primary: ValkeyEngine, make_nodes: MakeNodes
) -> None:
    """It was done, and the replica knows: a second time would count."""
    nodes = make_nodes(watch.url)
    runner = ScriptRunner(nodes, {})
    link = await goes_to(runner, primary, "seat")
    assert link._pipe is not None
    assert link._pipe._transport is not None
    link._pipe._transport.pause_reading()
    calling = asyncio.create_task(runner.command("INCR", "once"))
    (replica,) = (server for server in watch.servers if server is not primary)
    async with asked(replica) as client:
        while await client.get("once") is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    new = await watch.fail_over()
    with pytest.raises(SeatsUnavailable):
        await calling
    link = await goes_to(runner, new, "seat")
    assert await link.command("GETDEL", "once") == b"1"


async def test_a_script_nobody_knows_is_a_reason_to_ask_where_the_primary_is(
    watch: Watch, primary: ValkeyEngine, make_nodes: MakeNodes
) -> None:
    """A primary that was replaced and has not heard of it: it answers, and nothing else gives it away."""
    nodes = make_nodes(watch.url)
    link = await goes_to(ScriptRunner(nodes, {}), primary, "seat")
    with frozen(primary):
        new = await watch.successor_of(primary)
        await watch.whisper()
    assert await role_of(primary) == "master"
    assert nodes.only is link, "it was not asked for anything meanwhile"
    runner = ScriptRunner(nodes)
    runner.adopt_epochs([7] * len(runner.epochs))
    assert nodes.only is link
    async with asyncio.timeout(20):
        while nodes.only is link:
            await asyncio.gather(runner.run("read_epoch", ("rsv:{p00}:epoch",), ()), return_exceptions=True)
            await asyncio.sleep(0.02)
    assert nodes.only is not None
    assert nodes.only.address.place.port == new.port


async def test_who_listens_is_told_that_he_may_have_missed_something_and_hears_the_new_primary(
    watch: Watch, primary: ValkeyEngine, make_nodes: MakeNodes
) -> None:
    nodes, news, writes = make_nodes(watch.url), Listener(), Listener()
    runner = ScriptRunner(nodes, {})
    nodes.listen("news", news.hear, news.miss)
    nodes.watch(["map:"], writes.hear, writes.miss)
    await goes_to(runner, primary, "seat")
    missed = news.missed, writes.missed

    new = await watch.switch()
    link = await goes_to(runner, new, "seat")
    assert news.missed > missed[0]
    assert writes.missed > missed[1]

    async with asked(new) as client:
        assert await client.publish("news", "heard") == 1
        await client.set("map:7", "written")
    await link.command("PING")
    assert (news.heard, writes.heard) == ([b"heard"], [b"map:7"])


async def test_while_nothing_changes_nothing_is_dialled_and_nobody_is_disturbed(
    watch: Watch, primary: ValkeyEngine, make_nodes: MakeNodes
) -> None:
    nodes, listener = make_nodes(watch.url), Listener()
    await goes_to(ScriptRunner(nodes, {}), primary, "seat")
    nodes.listen("news", listener.hear, listener.miss)
    link, missed = nodes.only, listener.missed
    async with asked(primary) as client:
        before: Any = await client.info("stats")
        for _ in range(20):
            assert await nodes.primaries() == [link]
        after: Any = await client.info("stats")
    assert listener.missed - missed <= 1  # that it listens now
    # The sentinels and this client are the only others, and have their connections.
    assert after["total_connections_received"] == before["total_connections_received"]


async def test_a_look_that_is_under_way_does_not_outlive_its_nodes(watch: Watch) -> None:
    nodes = Nodes(watch.url)
    await nodes.primaries()
    with frozen(*watch.servers, *watch.sentinels):
        looking = asyncio.create_task(nodes.primaries())
        await asyncio.sleep(0.05)
        await nodes.aclose()
        async with asyncio.timeout(20):
            with pytest.raises(SeatsUnavailable):
                await looking
