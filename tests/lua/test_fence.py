"""Goal: a server or data of another epoch decides nothing, and nobody but the rebuild opens the gate.

Method: the same verbs against a server that does not know them, data of another epoch, and data that is
gone while the scripts are still known (what FLUSHALL leaves). Which verbs are fenced is read from their
text; what may not happen is counted on the server.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kernel.errors import InventoryRebuilding
from kernel.ids import PARTITIONS
from reservation.packing import pack_numbers
from runtime.lua import load_scripts
from runtime.redis_link import Argument, Nodes, ScriptRunner
from tests.support.inventories import EPOCH, NOW_MS, Stage, declared_keys, make_forget, teach

UNKNOWN_EPOCH = EPOCH + 1_000
#: Arguments that would be granted if the data were there.
ARGUMENTS: dict[str, Sequence[Argument]] = {
    "add_records": (2, "acc", 1),
    "begin_request": ("print", 1_000),
    "begin_restore": (NOW_MS,),
    "block_seats": (pack_numbers([1]),),
    "claim_hold": ("hld", "acc", NOW_MS, NOW_MS, b"entry", pack_numbers([1]), ""),
    "confirm_hold": ("hld", "acc", b"entry", "", pack_numbers([1])),
    "extend_hold": ("hld", "acc", 1, 1, NOW_MS, ""),
    "hold_seats": ("hld", "acc", 1, NOW_MS, pack_numbers([1]), "off", b"", b"", "counter", ""),
    "open_partition": (),
    "open_showtime": ("sho", 40, 0, 0, 10, "open"),
    "read_blocked": (),
    "read_epoch": (),
    "read_hold": ("hld", "acc", NOW_MS),
    "read_map": ("", NOW_MS, "", ""),
    "release_hold": ("hld", "acc", NOW_MS),
    "restore_showtime": ("sho", 40, 0, 0, 10, "open", 0, 1, bytes(5), bytes(5), b"", 0, 0),
    "return_seats": ("hld", b"", "csx", NOW_MS),
    "shut_partition": (),
    "shut_showtime": (),
    "sweep_expired": (NOW_MS, 100),
    "unblock_seats": (pack_numbers([1]),),
}
FENCED = sorted(verb for verb, script in load_scripts().items() if "EPOCH" in script.body)
#: What makes the data of an epoch is not refused by data of an older one.
BELIEVING = sorted(set(FENCED) - {"begin_restore", "open_partition", "shut_partition", "shut_showtime"})


async def _run(runner: ScriptRunner, stage: Stage, verb: str) -> None:
    keys = [stage.key(name) for name, _ in declared_keys(stage.scripts[verb])]
    await runner.run(verb, keys, ARGUMENTS[verb])


async def _loads(stage: Stage) -> int:
    stats = await stage.redis.info("commandstats")
    return sum(
        stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]
        for name in ("script|load", "eval", "script|flush")
    )


def test_every_verb_about_seats_carries_the_epoch() -> None:
    about_seats = {verb for verb, script in load_scripts().items() if script.path.parent.name == "seats"}

    assert set(FENCED) == about_seats


@pytest.mark.parametrize("verb", FENCED)
async def test_a_server_that_does_not_know_a_script_is_never_taught_it_by_a_caller(
    runner: ScriptRunner, stage: Stage, verb: str
) -> None:
    runner.adopt_epochs([UNKNOWN_EPOCH] * PARTITIONS)
    loads = await _loads(stage)

    with pytest.raises(InventoryRebuilding) as refusal:
        await _run(runner, stage, verb)

    assert refusal.value.retry_after_s
    assert await stage.redis.script_exists(stage.scripts[verb].sha(UNKNOWN_EPOCH)) == [False]
    assert await _loads(stage) == loads


@pytest.mark.parametrize("verb", BELIEVING)
async def test_data_that_is_gone_is_not_believed_to_be_empty(
    runner: ScriptRunner, stage: Stage, verb: str
) -> None:
    await stage.redis.delete(stage.key("epoch"))

    with pytest.raises(InventoryRebuilding):
        await _run(runner, stage, verb)

    assert (await stage.picture()).fields == {}


@pytest.mark.parametrize("verb", BELIEVING)
async def test_data_of_another_epoch_is_left_exactly_as_it_is(
    runner: ScriptRunner, stage: Stage, verb: str
) -> None:
    await stage.open()
    await stage.held([1])
    await stage.redis.hset(stage.keys.showtime, "epoch", EPOCH - 1)
    await stage.redis.set(stage.key("epoch"), EPOCH - 1)
    before = await stage.picture()

    with pytest.raises(InventoryRebuilding):
        await _run(runner, stage, verb)

    assert await stage.picture() == before


@pytest.mark.parametrize("found", [None, EPOCH - 1, -EPOCH - 1, "no number"])
async def test_only_what_its_own_rebuild_has_shut_is_opened(stage: Stage, found: int | str | None) -> None:
    key = stage.key("epoch")
    await stage.redis.delete(key)  # what a wipe leaves of it
    if found is not None:
        await stage.redis.set(key, found)

    assert await stage.ask("open_partition") == ["inventory_rebuilding"]
    assert await stage.redis.get(key) == (None if found is None else str(found).encode())

    await stage.redis.set(key, -EPOCH)
    for _ in range(2):
        assert await stage.ask("open_partition") == ["partition_opened"]
    assert await stage.redis.get(key) == b"%d" % EPOCH


async def test_a_showtime_is_not_taken_for_new_before_its_partition_is_of_the_epoch(stage: Stage) -> None:
    await stage.redis.set(stage.key("epoch"), EPOCH - 1)
    assert await stage.open() == ["inventory_rebuilding"]
    assert (await stage.picture()).fields == {}

    await stage.redis.set(stage.key("epoch"), EPOCH)
    assert (await stage.open())[0] == "opened"


async def test_before_postgresql_was_asked_nothing_is_sent_at_all(stage: Stage) -> None:
    nowhere = "redis://127.0.0.1:1/0"

    with pytest.raises(InventoryRebuilding):
        await ScriptRunner(Nodes(nowhere)).run("read_epoch", (stage.key("epoch"),), ())


async def test_forgetting_the_scripts_closes_the_gate_for_everybody(
    runner: ScriptRunner, stage: Stage
) -> None:
    await stage.open()
    await make_forget(runner)

    with pytest.raises(InventoryRebuilding):
        await _run(runner, stage, "read_map")

    await teach(runner)
    await _run(runner, stage, "read_map")


@pytest.mark.parametrize("epoch", [EPOCH - 1, 1 - EPOCH, -EPOCH, "", "shut", None])
async def test_a_rebuild_takes_over_data_of_any_older_epoch_and_what_was_shut_for_it(
    stage: Stage, epoch: int | str | None
) -> None:
    await stage.open()
    hold_id, buyer = await stage.held([1])
    await stage.redis.hdel(stage.keys.showtime, "epoch")
    if epoch is not None:
        await stage.redis.hset(stage.keys.showtime, "epoch", epoch)

    assert await stage.restore() == (1, 0)

    assert (await stage.read(hold_id, buyer))[0] == "hold"
    assert (await stage.picture()).problems() == []
