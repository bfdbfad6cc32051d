"""Goal: the log, dead letters, terms and epochs, broken by hand, are found broken, and nothing else is.

Method: as in `test_seats_broken`. Entries are put on an order log the way the scripts put them there, and
then lost, trimmed, or acknowledged by somebody who wrote nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from checkout import GROUP
from checkout.entries import Claim, Confirm, encode
from entrypoints.audit.log import LogLook
from entrypoints.audit.sources import sources_of
from kernel.ids import new_hold_id, order_id_of, partition_of
from reservation import epoch_key, log_key
from tests.integration.audit.scenes import QUICK, Sold, broken, sold
from tests.support.engines import DatabaseMaker, temporary_data_dir, valkey_engine
from tests.support.platform import RunningPlatform, migrated, run_platform
from tests.support.shop import until

LOG = "order_log_is_written"


@pytest.fixture
async def scene(running: RunningPlatform) -> Sold:
    return await sold(running)


def a_claim(scene: Sold, order_id: str, seats: Sequence[int] = (40,)) -> bytes:
    """The entry of a claim."""
    return encode(
        Claim(
            order_id=order_id,
            showtime_id=scene.showtime_id,
            account_id=scene.fan.account_id,
            epoch=1,
            currency="CNY",
            total=4990 * len(seats),
            pay_by_ms=2_000_000_000_000,
            seats=[(seat, f"S{seat}", "standard", 4990) for seat in seats],
            request_key="k",
            fingerprint="f",
            answer="{}",
        )
    )


async def put(scene: Sold, data: bytes, *, log: str | None = None, log_id: str = "*") -> str:
    """Append an entry; answers its id."""
    added: bytes = await scene.redis.xadd(log or scene.log, {"kind": "claim", "data": data}, id=log_id)
    return added.decode()


async def read(scene: Sold, *, acknowledge: bool, log: str | None = None) -> None:
    """Be given every new entry, as a writer is, and write none of them."""
    log = log or scene.log
    given: Any = await scene.redis.xreadgroup(GROUP, "nobody", {log: ">"})
    ids = [log_id for batches in given.values() for batch in batches for log_id, _ in batch]
    if acknowledge:
        await scene.redis.xack(log, GROUP, *ids)


def other_log(scene: Sold) -> str:
    """The log of another partition."""
    return log_key((partition_of(scene.showtime_id) + 1) % 64)


def new_order(scene: Sold) -> str:
    return order_id_of(new_hold_id(scene.showtime_id))


async def test_an_entry_acknowledged_and_never_written_is_found(scene: Sold) -> None:
    order_id = new_order(scene)
    log_id = await put(scene, a_claim(scene, order_id))
    assert await broken(scene.running) == {}, "it is on its way"
    await read(scene, acknowledge=False)
    assert await broken(scene.running) == {}, "somebody has it in hand"
    await scene.redis.xack(scene.log, GROUP, log_id)
    partition = f"partition {partition_of(scene.showtime_id):02d}"
    assert await broken(scene.running) == {
        LOG: f"{partition}: entry {log_id} was acknowledged: order {order_id} is not in PostgreSQL"
    }


async def test_a_sale_acknowledged_and_never_written_is_found(running: RunningPlatform) -> None:
    showtime_id = await running.add_showtime()
    (fan,) = await running.fans(1)
    order = (await fan.order((await fan.hold(showtime_id, "A1")).body["hold_id"])).body
    scene = Sold(running, showtime_id, fan, order)
    await running.stop("writer")
    await fan.pay(scene.order_id)
    await fan.order_in(scene.order_id, "paid")
    await running.stop()
    await read(scene, acknowledge=True)
    found = await broken(running)
    assert found.keys() == {LOG}
    assert f"order {scene.order_id} was sold and is paid" in found[LOG]


@pytest.mark.parametrize("given", [False, True])
async def test_an_entry_that_waits_too_long_is_found(scene: Sold, given: bool) -> None:
    log = other_log(scene)
    await put(scene, a_claim(scene, new_order(scene)), log=log, log_id="1000-1")
    if given:
        await read(scene, acknowledge=False, log=log)
    found = await broken(scene.running, log_s=1.0)
    assert found.keys() == {LOG}
    assert "entry 1000-1 still waits to be written" in found[LOG]


async def test_entries_trimmed_before_anybody_read_them_are_found(scene: Sold) -> None:
    for _ in range(3):
        await put(scene, encode(Confirm(order_id=scene.order_id, showtime_id=scene.showtime_id)))
    assert await broken(scene.running) == {}
    await scene.redis.xtrim(scene.log, maxlen=1, approximate=False)
    found = await broken(scene.running)
    assert found.keys() == {LOG}
    assert "2 entries are gone from the log and nobody had read them" in found[LOG]


async def test_an_entry_trimmed_before_it_was_written_is_found(scene: Sold) -> None:
    log_id = await put(scene, encode(Confirm(order_id=scene.order_id, showtime_id=scene.showtime_id)))
    await read(scene, acknowledge=False)
    await scene.redis.xtrim(scene.log, maxlen=0, approximate=False)
    found = await broken(scene.running)
    assert found.keys() == {LOG}
    assert f"entry {log_id} is gone from the log before it was written" in found[LOG]


async def test_trimming_behind_postgresql_is_no_offence(scene: Sold) -> None:
    await scene.redis.xtrim(scene.log, maxlen=0, approximate=False)
    assert await broken(scene.running) == {}


async def test_a_log_nobody_reads_is_found(scene: Sold) -> None:
    await scene.redis.xgroup_destroy(other_log(scene), GROUP)
    assert await broken(scene.running) == {}, "the order writer makes it again after a loss"
    found = await broken(scene.running, rebuild_s=0.0)
    assert found.keys() == {LOG}
    assert "nobody reads the log" in found[LOG]


async def test_a_position_of_the_future_is_found(scene: Sold) -> None:
    """A rebuild would believe everything up to there to be written, and lose what is not."""
    await scene.sql("UPDATE checkout.writer_positions SET log_id = '9999999999999-0'")
    found = await broken(scene.running)
    assert found.keys() == {LOG}
    assert "9999999999999-0 is of the future" in found[LOG]


async def test_a_position_beyond_the_logs_end_is_found_unless_the_log_was_lost(scene: Sold) -> None:
    await scene.redis.delete(scene.log)
    await scene.redis.xgroup_create(scene.log, GROUP, id="0", mkstream=True)
    assert await broken(scene.running) == {}, "the maps were rebuilt a moment ago: something was lost"
    await scene.sql("UPDATE reservation.epochs SET raised_at = now() - interval '1 day'")
    found = await broken(scene.running)
    assert found.keys() == {LOG}
    assert "is beyond the log's end 0-0" in found[LOG]


async def test_an_entry_nobody_can_read_and_nobody_put_aside_is_found(scene: Sold) -> None:
    await put(scene, b"what is this")
    await read(scene, acknowledge=True)
    found = await broken(scene.running)
    assert found.keys() == {LOG}
    assert "it is no entry this code can read, and no dead letter" in found[LOG]


async def test_an_entry_of_newer_code_may_wait_for_newer_code(scene: Sold) -> None:
    order_id = new_order(scene)
    await put(scene, a_claim(scene, order_id).replace(b'"version":1', b'"version":9,"new":true'))
    await read(scene, acknowledge=False)
    assert await broken(scene.running) == {}


async def test_an_order_other_than_it_was_claimed_is_found(scene: Sold) -> None:
    """Two claims went by one name: the second was answered with success and is nowhere."""
    await put(scene, a_claim(scene, scene.order_id, seats=[40, 41]))
    await read(scene, acknowledge=True)
    found = await broken(scene.running)
    assert found.keys() == {LOG}
    assert f"order {scene.order_id} was claimed with other seats" in found[LOG]


async def test_a_position_that_goes_back_is_found(scene: Sold) -> None:
    async with sources_of(scene.running.platform) as sources:
        look = LogLook(sources, None, QUICK)
        assert (await look.look(None)).suspects == set()
        await scene.sql("UPDATE checkout.writer_positions SET log_id = '1000-0'")
        suspects = (await look.look(None)).suspects
    assert len(suspects) == 1
    assert "PostgreSQL's position went back from" in suspects.pop().sentence


async def _put_aside(scene: Sold, data: bytes, kind: str, reason: str) -> None:
    await scene.sql(
        "INSERT INTO checkout.dead_letters (partition, log_id, kind, data, reason)"
        " VALUES (7, '5-1', $1, $2, $3)",
        kind,
        data,
        reason,
    )


@pytest.mark.parametrize("resolved", [False, True])
async def test_an_entry_put_aside_that_nobody_can_read_needs_a_person(scene: Sold, resolved: bool) -> None:
    await _put_aside(scene, b"what is this", "unknown", "undecodable")
    if resolved:
        await scene.sql("UPDATE checkout.dead_letters SET resolved_at = now()")
        assert await broken(scene.running) == {}
        return
    assert await broken(scene.running) == {
        "dead_letters_are_accounted_for": (
            "entry 5-1 of partition 07 was put aside (undecodable): nobody can read it"
        )
    }


async def test_a_refused_claim_whose_order_was_never_ended_is_found(scene: Sold) -> None:
    order_id = new_order(scene)
    await _put_aside(scene, a_claim(scene, order_id), "claim", "seat_taken")
    found = await broken(scene.running)
    assert found.keys() == {"dead_letters_are_accounted_for"}
    assert f"order {order_id} does not exist" in found["dead_letters_are_accounted_for"]


async def test_a_refused_sale_whose_order_was_never_ended_is_found(scene: Sold) -> None:
    scene.running.start("writer")
    order = await scene.fan.order((await scene.fan.hold(scene.showtime_id, "C1")).body["hold_id"])
    await scene.running.stop()
    order_id = order.body["order_id"]
    entry = encode(Confirm(order_id=order_id, showtime_id=scene.showtime_id))
    await _put_aside(scene, entry, "confirm", "invalid_state")
    found = await broken(scene.running)
    assert found.keys() == {"dead_letters_are_accounted_for"}
    assert (
        f"order {order_id} was to be sold and is pending_payment" in found["dead_letters_are_accounted_for"]
    )


@pytest.mark.parametrize("field", ["buyer_seats_max", "opens_at_ms", "closes_at_ms", "phase"])
async def test_terms_redis_did_not_get_from_postgresql_are_found(scene: Sold, field: str) -> None:
    await scene.redis.hset(scene.keys.showtime, field, 77)
    found = await broken(scene.running)
    assert found.keys() == {"terms_agree"}
    assert f"{scene.showtime_id}: {field} is 77 in Redis and" in found["terms_agree"]


async def test_a_partition_of_another_epoch_is_found(scene: Sold) -> None:
    await scene.redis.set(epoch_key(9), 41)
    assert await broken(scene.running) == {}, "a rebuild may be under way"
    found = await broken(scene.running, rebuild_s=0.0)
    assert found == {"epochs_agree": "partition 09 is of epoch 41 and PostgreSQL of 1"}


@pytest.mark.parametrize("made_on", ["'a process:of another history'", "NULL"], ids=["another", "nobody"])
async def test_a_partition_of_a_server_its_maps_were_not_made_on_is_found(scene: Sold, made_on: str) -> None:
    await scene.sql(f"UPDATE reservation.epochs SET server = {made_on} WHERE partition = 9")
    assert await broken(scene.running) == {}, "a rebuild may be under way"
    found = await broken(scene.running, rebuild_s=0.0)
    assert found == {"epochs_agree": "partition 09 is served by another server than it was made on"}


async def test_a_server_that_came_back_with_all_its_data_is_found_until_the_reaper_has_looked(
    make_database: DatabaseMaker, tmp_path: Path
) -> None:
    """The epoch in its data is the right one; what it forgot in between nobody can say."""
    database_url = await make_database(migrated)
    with temporary_data_dir() as folder:
        engine = valkey_engine(folder, dies_with_us=True)
        await engine.start()
        async with run_platform(engine.url, database_url, tmp_path, roles=()) as running:
            await running.add_showtime()
            assert await broken(running, rebuild_s=0.0) == {}
            await engine.stop()
            await engine.start()
            found = await broken(running, rebuild_s=0.0)
            assert found.keys() == {"epochs_agree"}
            assert found["epochs_agree"].endswith("by another server than it was made on (and 63 more)")
            await running.platform.reaper.round()
            assert await broken(running, rebuild_s=0.0) == {}
        await engine.stop()


@pytest.mark.parametrize("lost", [False, True])
async def test_a_seat_map_of_another_epoch_is_found(scene: Sold, lost: bool) -> None:
    if lost:
        await scene.redis.delete(scene.keys.showtime, scene.keys.taken, scene.keys.sold, scene.keys.blocked)
    else:
        await scene.redis.hset(scene.keys.showtime, "epoch", 41)
    assert await broken(scene.running) == {}, "a rebuild may be under way"
    said = "has no seat map" if lost else "is of epoch 41"
    found = await broken(scene.running, rebuild_s=0.0)
    assert found == {"epochs_agree": f"{scene.showtime_id} {said} and PostgreSQL is of 1"}


async def test_a_sale_redis_was_never_told_of_is_found(scene: Sold) -> None:
    await scene.sql("UPDATE reservation.inventories SET opened_epoch = NULL")
    assert await broken(scene.running) == {}, "it is about to be told"
    await scene.sql("UPDATE reservation.inventories SET created_at = now() - interval '1 hour'")
    found = await broken(scene.running)
    assert found == {"epochs_agree": f"Redis was never told of the terms of {scene.showtime_id}"}


async def test_an_order_of_an_epoch_that_has_not_been_is_found(scene: Sold) -> None:
    await scene.sql("UPDATE checkout.orders SET epoch = 5")
    found = await broken(scene.running)
    assert found.keys() == {"epochs_agree"}
    assert f"order {scene.order_id} was claimed in epoch 5" in found["epochs_agree"]


# Past the fence: the rebuild the platform began with raised it to epoch 1


async def test_an_order_that_came_past_the_fence_is_found(scene: Sold) -> None:
    await scene.sql("UPDATE checkout.orders SET epoch = 0")
    assert await broken(scene.running) == {
        "epochs_agree": f"order {scene.order_id} of epoch 0 was written after its partition was made anew in"
        " epoch 1, which did not wait for it"
    }


@pytest.mark.parametrize(
    "lawful",
    [
        "INSERT INTO checkout.awaited_claims SELECT order_id, 1, now() FROM checkout.orders",
        "INSERT INTO checkout.awaited_claims SELECT order_id, 2, now() FROM checkout.orders",
        "UPDATE checkout.orders SET epoch = 1",
        "UPDATE checkout.orders SET created_at = created_at - interval '2 hours'",
        "DELETE FROM checkout.fence_history"
        " WHERE partition IN (SELECT partition FROM checkout.writer_positions)",
    ],
    ids=[
        "waited for",
        "stood before a later fence",
        "of the new epoch",
        "written before",
        "of another partition",
    ],
)
async def test_an_order_the_fence_let_through_is_not(scene: Sold, lawful: str) -> None:
    await scene.sql("UPDATE checkout.orders SET epoch = 0")
    await scene.sql(lawful)
    assert await broken(scene.running) == {}


async def test_an_order_only_an_earlier_rebuild_waited_for_is_found(scene: Sold) -> None:
    await scene.sql("UPDATE checkout.orders SET epoch = -1")
    await scene.sql(
        "INSERT INTO checkout.fence_history SELECT partition, 0, raised_at - interval '1 hour'"
        " FROM checkout.fence_history"
    )
    await scene.sql("INSERT INTO checkout.awaited_claims SELECT order_id, 0, now() FROM checkout.orders")
    found = await broken(scene.running)
    assert found.keys() == {"epochs_agree"}
    assert "made anew in epoch 1" in found["epochs_agree"]


async def test_a_late_claim_that_was_refused_is_no_offence(scene: Sold) -> None:
    late = new_order(scene)
    await put(scene, a_claim(scene, late).replace(b'"epoch":1', b'"epoch":0'))
    scene.running.start("writer", "completers")

    async def is_over() -> bool:
        told = "SELECT count(*) FROM checkout.orders WHERE order_id = $1 AND seats_freed_at IS NOT NULL"
        return bool(await scene.value(told, late))

    await until(is_over)
    await scene.running.stop()
    assert (
        await scene.value("SELECT end_reason FROM checkout.orders WHERE order_id = $1", late) == "hold_lost"
    )
    assert await broken(scene.running) == {}
