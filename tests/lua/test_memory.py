"""Goal: a server whose memory is full sells no new hold, and still lets everybody finish and everything end.

Method: a server of the test's own with a few megabytes, filled by holds until it refuses one. Then every
verb is called in its dearest form with memory full: what takes seats or time is refused and changes
nothing, everything else goes through, and the server empties itself until holds are granted again. How much
may be written after memory is full is counted on the log. The control takes the flag off the scripts: then
nothing can end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import pytest
import pytest_asyncio
from redis.exceptions import OutOfMemoryError

from kernel.errors import Overloaded
from reservation import RedisInventory
from reservation.packing import pack_numbers
from runtime.lua import Script, load_scripts
from runtime.redis_link import Nodes, connect
from tests.lua.test_costs import DEAREST, OWN_CLOCK
from tests.support.engines import temporary_data_dir, valkey_engine
from tests.support.inventories import EPOCH, TOMBSTONE_MS, TTL_MS, Picture, Stage, open_gate
from tests.support.runner import WatchedRunner

#: What takes seats, keeps them for longer, or makes room for new ones to be taken.
TAKES: Final = {"block_seats", "extend_hold", "hold_seats", "open_showtime"}
SEATS: Final = 20_000
ROOM_BYTES: Final = 1_500_000


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small_server() -> AsyncIterator[str]:
    """A server that other tests do not need."""
    with temporary_data_dir() as folder:
        engine = valkey_engine(folder, dies_with_us=True)
        await engine.start()
        yield engine.url
        await engine.stop()


@asynccontextmanager
async def _running(url: str, scripts: dict[str, Script] | None = None) -> AsyncIterator[Stage]:
    redis = connect(url)
    await redis.config_set("maxmemory", 0)
    await redis.flushall()
    runner = WatchedRunner(redis, Nodes(url), scripts)
    await open_gate(runner)
    stage = Stage(runner, seats=SEATS)
    stage.scripts = scripts or stage.scripts
    try:
        yield stage
    finally:
        await redis.config_set("maxmemory", 0)
        await runner.nodes.aclose()
        await redis.aclose()


@pytest.fixture
async def full_stage(small_server: str) -> AsyncIterator[Stage]:
    async with _running(small_server) as stage:
        yield stage


async def _full(stage: Stage) -> None:
    """There is no room from now on."""
    await stage.redis.config_set("maxmemory", 1)


async def _picture(stage: Stage) -> Picture:
    """Looked at with room: some servers refuse a transaction of reads without it."""
    await stage.redis.config_set("maxmemory", 0)
    return await stage.picture()


async def _fill(stage: Stage) -> list[tuple[str, str]]:
    """Little room from now on, and holds until there is none: hold ids and buyers."""
    used = (await stage.redis.info("memory"))["used_memory"]
    await stage.redis.config_set("maxmemory", used + ROOM_BYTES)
    script, held = stage.scripts["hold_seats"], []
    for start in range(0, SEATS, 100):
        pipeline = stage.redis.pipeline(transaction=False)
        asked = []
        for seat in range(start, start + 100):
            asked.append((stage.new_hold(), f"acc_{seat:05}"))
            keys = (stage.keys.showtime, stage.keys.taken, stage.keys.expiry)
            terms = (TTL_MS, stage.now_ms, pack_numbers([seat]), "off", "", "", "buyer", "")
            pipeline.evalsha(script.sha(EPOCH), 3, *keys, *asked[-1], *terms)
        replies = await pipeline.execute(raise_on_error=False)
        held += [one for one, reply in zip(asked, replies, strict=True) if isinstance(reply, list)]
        if any(isinstance(reply, OutOfMemoryError) for reply in replies):
            return held
    raise AssertionError("memory was never full")


async def _log_length(stage: Stage) -> int:
    return int(await stage.redis.xlen(stage.keys.log))


# Verb by verb.


@pytest.mark.parametrize("verb", sorted(load_scripts().keys() - TAKES))
async def test_with_memory_full_everything_that_ends_or_reads_goes_through(
    full_stage: Stage, verb: str
) -> None:
    full_stage.now_ms = OWN_CLOCK
    prepared = await DEAREST[verb](full_stage, [3, 4])
    await _full(full_stage)

    reply = await prepared

    assert reply[0] == full_stage.scripts[verb].contract.statuses[0]
    picture = await _picture(full_stage)
    assert not picture.fields or picture.problems() == []


@pytest.mark.parametrize("verb", sorted(TAKES))
async def test_with_memory_full_what_takes_is_refused_and_changes_nothing(
    full_stage: Stage, verb: str
) -> None:
    full_stage.now_ms = OWN_CLOCK
    prepared = await DEAREST[verb](full_stage, [3, 4])
    before, keys = await full_stage.picture(), await full_stage.redis.dbsize()
    await _full(full_stage)

    with pytest.raises(OutOfMemoryError):
        await prepared

    assert await _picture(full_stage) == before
    assert await full_stage.redis.dbsize() == keys


async def test_whoever_wants_seats_then_is_told_in_the_words_of_the_code_table(full_stage: Stage) -> None:
    await full_stage.open()
    await _full(full_stage)
    inventory = RedisInventory(full_stage.runner)

    with pytest.raises(Overloaded) as refusal:
        await inventory.hold(full_stage.showtime_id, full_stage.new_hold(), "acc_a", [3], ttl_ms=TTL_MS)

    assert (refusal.value.code.name, refusal.value.code.http_status) == ("overloaded", 503)
    assert refusal.value.retry_after_s


# A house that fills up, and empties.


async def test_a_full_server_empties_itself_until_holds_are_granted_again(full_stage: Stage) -> None:
    await full_stage.open()
    held = await _fill(full_stage)
    assert len(held) > 1_000
    half = len(held) // 2

    for hold_id, buyer in held[:half]:
        assert (await full_stage.release(hold_id, buyer))[0] == "released"
    full_stage.now_ms += TTL_MS
    freed = 0
    while (swept := await full_stage.sweep())[2]:
        freed += swept[1]
    full_stage.now_ms += TOMBSTONE_MS
    while (await full_stage.sweep())[2]:
        pass

    assert freed == len(held) - half
    picture = await full_stage.picture()
    assert (picture.records, picture.due) == ({}, {})
    assert set(picture.counters.values()) == {0}
    assert (await full_stage.hold(full_stage.new_hold(), "acc_next", [3]))[0] == "held"
    assert (await full_stage.picture()).problems() == []


async def test_with_memory_full_everybody_who_has_seats_can_buy_them_and_the_log_ends(
    full_stage: Stage,
) -> None:
    """What is written meanwhile is bounded by who was let in before: one claim and one sale a hold."""
    await full_stage.open()
    held = (await _fill(full_stage))[:200]
    await _full(full_stage)

    for seat, (hold_id, buyer) in enumerate(held):
        assert (await full_stage.claim(hold_id, buyer, seats=[seat]))[0] == "claimed"
        assert (await full_stage.claim(hold_id, buyer, seats=[seat]))[0] == "already_claimed"
    assert await _log_length(full_stage) == len(held)
    for seat, (hold_id, buyer) in enumerate(held):
        if seat % 2 == 0:
            assert (await full_stage.confirm(hold_id, buyer, seats=[seat]))[0] == "confirmed"
    for hold_id, _ in held[1::2]:
        assert (await full_stage.give_back(hold_id, states="c"))[0] == "returned"

    assert await _log_length(full_stage) == len(held) + len(held[::2])
    with pytest.raises(OutOfMemoryError):
        await full_stage.hold(full_stage.new_hold(), "acc_next", [SEATS - 1])
    assert (await _picture(full_stage)).problems() == []


async def test_with_memory_full_a_rebuild_opens_the_gate(full_stage: Stage) -> None:
    await full_stage.open()
    held = await _fill(full_stage)
    await _full(full_stage)
    await full_stage.redis.delete(full_stage.key("epoch"))
    assert await full_stage.ask("read_epoch") == ["inventory_rebuilding"]

    assert await full_stage.ask("shut_partition") == ["partition_shut"]
    assert await full_stage.ask("shut_showtime") == ["showtime_shut"]
    assert await full_stage.restore() == (len(held), 0)
    assert await full_stage.ask("open_partition") == ["partition_opened"]

    assert await full_stage.ask("read_epoch") == ["epoch_current"]
    assert (await _picture(full_stage)).problems() == []


@pytest.mark.parametrize("verb", ["release", "sweep", "claim", "confirm", "give_back", "restore"])
async def test_without_the_flag_nothing_could_end(small_server: str, verb: str) -> None:
    """The control: the same scripts as their servers would take them without a word about memory."""
    unflagged = {
        name: replace(script, shebang="#!lua") if script.shebang.endswith("allow-oom") else script
        for name, script in load_scripts().items()
    }
    async with _running(small_server, unflagged) as stage:
        await stage.open()
        held, claimed = await stage.held([3]), await stage.claimed([5])
        calls: dict[str, Any] = {
            "release": lambda: stage.release(*held),
            "sweep": lambda: stage.sweep(),
            "claim": lambda: stage.claim(*held),
            "confirm": lambda: stage.confirm(*claimed),
            "give_back": lambda: stage.give_back(claimed[0]),
            "restore": lambda: stage.restore(),
        }
        await _full(stage)
        stage.now_ms += TTL_MS if verb == "sweep" else 0

        with pytest.raises((OutOfMemoryError, Overloaded)):
            await calls[verb]()
