"""Goal: what becomes possible is announced, once, with the version that shows it; nothing else ever is.

Method: somebody listens on a real server while scripts are called. What was said is complete when a word of
the test's own comes after it, so silence is proved and not waited for.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from redis.asyncio.client import PubSub

from kernel.ids import new_showtime_id, partition_of
from reservation import RedisInventory
from reservation.keys import FREED_CHANNEL, freed_in, keys_of
from runtime.lua import load_scripts
from runtime.paths import LUA_DIR
from runtime.redis_link import Nodes, ScriptRunner
from runtime.redis_link.slots import slot_of
from tests.support.cluster import PRIMARIES, SLOTS, running_cluster
from tests.support.inventories import NOW_MS, TOMBSTONE_MS, TTL_MS, Stage, open_gate, terms_of

Story = Callable[[Stage], Awaitable[Any]]


class Listener:
    """Whoever hears the channel."""

    def __init__(self, stage: Stage, channel: PubSub) -> None:
        self.stage = stage
        self.channel = channel

    async def heard(self) -> list[tuple[str, int]]:
        """Everything said until now of the stage's showtime: showtime id and version."""
        last_word = secrets.token_hex(8).encode()
        await self.stage.redis.publish(FREED_CHANNEL, last_word)
        news = []
        while True:
            message = await self.channel.get_message(timeout=5.0)
            assert message is not None, "the last word was not heard"
            if message["data"] == last_word:
                return news
            if message["type"] == "message" and self.stage.showtime_id.encode() in message["data"]:
                news.append(freed_in(message["data"]))


@asynccontextmanager
async def listening(stage: Stage) -> AsyncIterator[Listener]:
    async with stage.redis.pubsub() as channel:
        await channel.subscribe(FREED_CHANNEL)
        yield Listener(stage, channel)


@pytest.fixture
async def open_stage(stage: Stage) -> Stage:
    await stage.open(phase="open", opens_at_ms=NOW_MS - 100, closes_at_ms=NOW_MS + TTL_MS, most=4)
    return stage


def _opened(**changes: Any) -> Story:
    async def call(stage: Stage) -> Any:
        terms = {"opens_at_ms": NOW_MS - 100, "closes_at_ms": NOW_MS + TTL_MS, "most": 4}
        return await stage.open(**{**terms, **changes})

    return call


# Said.


async def _release(stage: Stage) -> Any:
    return await stage.release(*await stage.held([3, 4]))


async def _return_of_a_claim(stage: Stage) -> Any:
    return await stage.give_back((await stage.claimed([3, 4]))[0])


async def _return_of_a_sale(stage: Stage) -> Any:
    return await stage.give_back((await stage.sold([3, 4]))[0])


async def _return_of_a_hold_that_is_over(stage: Stage) -> Any:
    return await stage.give_back((await stage.held([3, 4], ttl_ms=0))[0])


async def _return_of_a_part(stage: Stage) -> Any:
    return await stage.give_back((await stage.sold([3, 4]))[0], keep=[3])


async def _sweep(stage: Stage) -> Any:
    for seat in (3, 4, 5):
        await stage.held([seat], ttl_ms=0)
    return await stage.sweep()


async def _unblock(stage: Stage) -> Any:
    await stage.block([3, 4])
    return await stage.unblock([3, 4])


@pytest.mark.parametrize(
    "story",
    [
        _release,
        _return_of_a_claim,
        _return_of_a_sale,
        _return_of_a_hold_that_is_over,
        _return_of_a_part,
        _sweep,
        _unblock,
    ],
)
async def test_seats_that_come_free_are_announced_once_with_the_version_that_shows_them(
    open_stage: Stage, story: Story
) -> None:
    async with listening(open_stage) as listener:
        await story(open_stage)

        assert await listener.heard() == [(open_stage.showtime_id, (await open_stage.picture()).version)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"phase": "paused"}, {}),
        ({"phase": "closed"}, {}),
        ({"phase": "closed", "most": 9}, {}),
        ({}, {"opens_at_ms": NOW_MS - 101}),
        ({}, {"closes_at_ms": NOW_MS + TTL_MS + 1}),
        ({}, {"closes_at_ms": 0}),
        ({}, {"most": 5}),
        ({}, {"most": 5, "opens_at_ms": NOW_MS, "closes_at_ms": NOW_MS + 1}),
    ],
)
async def test_terms_that_let_somebody_hold_who_could_not_are_announced(
    stage: Stage, before: dict[str, Any], after: dict[str, Any]
) -> None:
    await _opened(**before)(stage)
    async with listening(stage) as listener:
        await _opened(**after)(stage)

        assert await listener.heard() == [(stage.showtime_id, 2)]


async def test_what_is_said_on_one_node_of_a_cluster_is_heard_on_all_of_them() -> None:
    async with running_cluster() as cluster, AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(client.pubsub()) for client in cluster.clients]
        for channel in channels:
            await channel.subscribe(FREED_CHANNEL)
            assert (await channel.get_message(timeout=5.0) or {})["type"] == "subscribe"
        runner = ScriptRunner(Nodes(cluster.url))
        stack.push_async_callback(runner.nodes.aclose)
        await open_gate(runner)
        inventory = RedisInventory(runner)
        showtimes = [
            next(one for one in iter(new_showtime_id, "") if partition_of(one) == partition)
            for partition in range(4)
        ]
        for showtime_id in showtimes:
            await inventory.open_showtime(terms_of(showtime_id))

        # Nodes that have just met may still be dialling each other: what is said meanwhile is lost.
        missed = [set(showtimes) for _ in channels]
        async with asyncio.timeout(20.0):
            while any(missed):
                for showtime_id in set().union(*missed):
                    await inventory.block(showtime_id, [3])
                    await inventory.unblock(showtime_id, [3])
                for channel, waited_for in zip(channels, missed, strict=True):
                    while message := await channel.get_message(timeout=0.05):
                        waited_for.discard(freed_in(message["data"])[0])

        nodes = {slot_of(keys_of(one).showtime) // (SLOTS // PRIMARIES) for one in showtimes}
        assert len(nodes) > 1, "all were said on one node"


# Not said.


async def _hold(stage: Stage) -> Any:
    return await stage.held([3, 4])


async def _hold_of_taken_seats(stage: Stage) -> Any:
    await stage.held([3])
    return await stage.hold(stage.new_hold(), "acc_late", [3, 4])


async def _takeover(stage: Stage) -> Any:
    await stage.held([3, 4], ttl_ms=0)
    return await stage.held([3])


async def _extension(stage: Stage) -> Any:
    return await stage.extend(*await stage.held([3]), ttl_ms=2 * TTL_MS)


async def _claim(stage: Stage) -> Any:
    return await stage.claimed([3])


async def _sale(stage: Stage) -> Any:
    return await stage.sold([3])


async def _block(stage: Stage) -> Any:
    return await stage.block([3])


async def _reads(stage: Stage) -> Any:
    await stage.read(*await stage.held([3]))
    return await stage.read_map()


async def _release_of_somebody_else(stage: Stage) -> Any:
    return await stage.release((await stage.held([3]))[0], "acc_thief")


async def _release_of_an_expired_hold(stage: Stage) -> Any:
    return await stage.release(*await stage.held([3], ttl_ms=0))


async def _return_of_nothing(stage: Stage) -> Any:
    return await stage.give_back(stage.new_hold())


async def _return_of_a_sale_by_mistake(stage: Stage) -> Any:
    return await stage.give_back((await stage.sold([3]))[0], states="c")


async def _return_of_seats_others_own(stage: Stage) -> Any:
    return await stage.give_back((await stage.sold([3]))[0], keep=[3])


async def _return_of_what_was_taken_over(stage: Stage) -> Any:
    hold_id, _ = await stage.held([3], ttl_ms=0)
    await stage.held([3])
    return await stage.give_back(hold_id)


async def _sweep_of_nothing(stage: Stage) -> Any:
    await stage.held([3])
    return await stage.sweep()


async def _burial(stage: Stage) -> Any:
    await stage.held([3], ttl_ms=0)
    await stage.held([3], ttl_ms=TOMBSTONE_MS + TTL_MS)
    stage.now_ms += TOMBSTONE_MS
    swept = await stage.sweep()
    assert swept[1:] == [0, 1]
    return swept


async def _unblocking_of_a_free_seat(stage: Stage) -> Any:
    await stage.block([3])
    return await stage.unblock([3, 4])


async def _rebuild(stage: Stage) -> Any:
    await stage.held([3], ttl_ms=0)
    return await stage.restore()


@pytest.mark.parametrize(
    "story",
    [
        _hold,
        _hold_of_taken_seats,
        _takeover,
        _extension,
        _claim,
        _sale,
        _block,
        _reads,
        _release_of_somebody_else,
        _release_of_an_expired_hold,
        _return_of_nothing,
        _return_of_a_sale_by_mistake,
        _return_of_seats_others_own,
        _return_of_what_was_taken_over,
        _sweep_of_nothing,
        _burial,
        _unblocking_of_a_free_seat,
        _rebuild,
    ],
)
async def test_what_frees_nothing_is_not_announced(open_stage: Stage, story: Story) -> None:
    async with listening(open_stage) as listener:
        await story(open_stage)

        assert await listener.heard() == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"phase": "paused"},
        {"phase": "closed"},
        {"opens_at_ms": NOW_MS},
        {"closes_at_ms": NOW_MS + 1},
        {"most": 3},
        {"phase": "paused", "opens_at_ms": 0, "closes_at_ms": 0, "most": 9},
    ],
)
async def test_terms_that_let_nobody_hold_who_could_not_are_not_announced(
    open_stage: Stage, changes: dict[str, Any]
) -> None:
    async with listening(open_stage) as listener:
        await _opened(**changes)(open_stage)

        assert await listener.heard() == []


async def test_a_sale_nobody_can_have_looked_at_is_not_announced(stage: Stage) -> None:
    async with listening(stage) as listener:
        assert (await stage.open())[0] == "opened"

        assert await listener.heard() == []


# Written in two places.


def test_the_channel_is_spelt_in_the_fragment_as_in_keys_py() -> None:
    assert f"redis.call('PUBLISH', '{FREED_CHANNEL}', " in (LUA_DIR / "shared/announce_freed.lua").read_text()


def test_the_table_knows_which_scripts_announce() -> None:
    (row,) = [
        line for line in (LUA_DIR / "README.md").read_text().splitlines() if line.startswith("| `rsv:freed`")
    ]
    announcing = {
        verb for verb, script in load_scripts().items() if "\nannounce_freed(" in _flat(script.body)
    }

    assert set(re.findall(r"`([a-z_]+)`", row)) == announcing


def _flat(body: str) -> str:
    return re.sub(r"^ +", "", body, flags=re.MULTILINE)
