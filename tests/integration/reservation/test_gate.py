"""Goal: no server is believed that is not the one PostgreSQL speaks of, and no more is shut than was lost.

Method: real servers that are emptied, made to forget, demoted and promoted, and a real PostgreSQL set back to
an earlier state. `sells` is the proof: the sold seat is refused, a free one is granted. Each guard has a
control in which it is taken away.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from checkout.writer.weather import in_any_weather
from kernel.errors import InventoryRebuilding, PersistenceUnavailable, SeatsUnavailable
from kernel.ids import PARTITIONS, new_hold_id, new_id, partition_of
from reservation.keys import PLACE_KEY, epoch_key
from reservation.ports import Refused
from reservation.store import ReservationStore
from runtime.engines import ValkeyEngine
from runtime.migrations import migrate
from runtime.redis_link import Link, ScriptRunner, Server, connect
from tests.integration.reservation.conftest import House
from tests.support.engines import DatabaseMaker, postgres_engine_in, temporary_data_dir, valkey_engine
from tests.support.inventories import make_forget
from tests.support.platform import RunningPlatform, migrated, run_platform
from tests.support.shop import until

MINUTE_MS = 60_000


@asynccontextmanager
async def server(**options: str) -> AsyncIterator[tuple[ValkeyEngine, Redis]]:
    """A server of the test's own and a plain client of it."""
    with temporary_data_dir() as folder:
        engine = valkey_engine(
            folder, dies_with_us=True, options={"repl-diskless-sync-delay": "0", **options}
        )
        await engine.start()
        client = connect(engine.url)
        yield engine, client
        await client.aclose()
        await engine.stop()


async def follow(replica: Redis, primary: ValkeyEngine) -> None:
    """Have one server take the other one's data."""
    await replica.execute_command("REPLICAOF", "127.0.0.1", primary.port)

    async def has_it() -> bool:
        told = await replica.info("replication")
        return told["master_link_status"] == "up"

    await until(has_it)


async def sell(running: RunningPlatform, showtime_id: str) -> None:
    """Have somebody buy seat A1, the first one."""
    running.start("writer", "completers")
    (fan,) = await running.fans(1)
    await fan.buy(showtime_id, "A1")


async def hold(running: RunningPlatform, showtime_id: str, seat: int) -> None:
    await running.platform.inventory.hold(
        showtime_id, new_hold_id(showtime_id), new_id("acc"), [seat], ttl_ms=MINUTE_MS
    )


async def sells(running: RunningPlatform, showtime_id: str, free: int) -> None:
    """The sold seat is refused and a free one granted."""
    with pytest.raises(Refused) as refusal:
        await hold(running, showtime_id, 0)
    assert refusal.value.status == "seat_taken"
    await hold(running, showtime_id, free)


# Servers


async def there_and_back(running: RunningPlatform, primary: ValkeyEngine, client: Redis) -> str:
    """A seat is sold that a replica has not heard of; the replica takes over, and the role comes back."""
    async with server() as (other, other_client):
        showtime_id = await running.add_showtime()
        await follow(other_client, primary)
        await running.platform.rebuilder.gate_is_open()  # as the reaper looks, twice a second
        await other_client.execute_command("REPLICAOF", "NO", "ONE")
        await sell(running, showtime_id)
        await follow(client, other)
        await client.execute_command("REPLICAOF", "NO", "ONE")
    return showtime_id


async def test_a_primary_that_took_its_successors_data_is_not_believed_though_it_kept_its_scripts(
    make_database: DatabaseMaker, tmp_path: Path
) -> None:
    database_url = await make_database(migrated)
    async with server() as (engine, client), run_platform(engine.url, database_url, tmp_path) as running:
        showtime_id = await there_and_back(running, engine, client)
        assert not await running.platform.rebuilder.gate_is_open()
        await running.platform.reaper.round()
        await sells(running, showtime_id, 1)


async def test_by_its_process_alone_it_would_be_and_hold_the_sold_seat_for_somebody_else(
    make_database: DatabaseMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_process(self: Server, name: str | None) -> bool:
        return name is not None and name.partition(":")[0] == self.process

    monkeypatch.setattr(Server, "is_the_same_as", by_process)
    database_url = await make_database(migrated)
    async with server() as (engine, client), run_platform(engine.url, database_url, tmp_path) as running:
        showtime_id = await there_and_back(running, engine, client)
        await running.platform.reaper.round()
        await hold(running, showtime_id, 0)


async def test_a_primary_that_gets_its_first_replica_is_still_the_same(
    make_database: DatabaseMaker, tmp_path: Path
) -> None:
    database_url = await make_database(migrated)
    async with (
        server() as (engine, client),
        server() as (_, other_client),
        run_platform(engine.url, database_url, tmp_path) as running,
    ):
        showtime_id = await running.add_showtime()
        await sell(running, showtime_id)
        before = (await client.info("replication"))["master_replid"]
        await follow(other_client, engine)
        assert (await client.info("replication"))["master_replid"] != before
        (_,) = await epochs_after(3, running)
        await sells(running, showtime_id, 1)


@asynccontextmanager
async def two_primaries(
    make_database: DatabaseMaker, folder: Path
) -> AsyncIterator[tuple[RunningPlatform, RunningPlatform]]:
    """One database, and two platforms that see different servers: the later one was believed last."""
    database_url = await make_database(migrated)
    folder.joinpath("later").mkdir()
    async with (
        server() as (one, _),
        server() as (two, _),
        run_platform(one.url, database_url, folder, roles=()) as former,
        run_platform(two.url, database_url, folder / "later", roles=()) as later,
    ):
        yield former, later


async def epochs_after(rounds: int, *houses: RunningPlatform) -> set[tuple[int, ...]]:
    """The epochs there were while each reaper went so many rounds."""
    seen = set()
    for _ in range(rounds):
        for house in houses:
            await house.platform.reaper.round()
        seen.add(tuple(await houses[0].platform.reservation_store.current_epochs()))
    return seen


async def test_two_reapers_that_see_two_primaries_do_not_rebuild_against_each_other(
    make_database: DatabaseMaker, tmp_path: Path
) -> None:
    async with two_primaries(make_database, tmp_path) as (former, later):
        showtime_id = await later.add_showtime()
        (epochs,) = await epochs_after(3, former, later)
        await hold(later, showtime_id, 0)
        with pytest.raises(InventoryRebuilding):
            await hold(former, showtime_id, 1)
        by_hand = await former.platform.rebuilder.rebuild("by hand")
        assert by_hand.epoch == max(epochs) + 1
        (after,) = await epochs_after(3, former, later)
        assert set(after) == {max(epochs) + 1}
        await hold(former, showtime_id, 1)


async def test_without_the_list_of_former_servers_they_would(
    make_database: DatabaseMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(self: ReservationStore, servers: Any) -> set[int]:
        return set()

    monkeypatch.setattr(ReservationStore, "replaced_servers", none)
    async with two_primaries(make_database, tmp_path) as (former, later):
        assert len(await epochs_after(3, former, later)) == 3


async def test_a_server_that_was_replaced_is_left_alone_also_when_postgresql_was_set_back(
    house: House,
) -> None:
    """As one node of a cluster may be: who took its place is made anew once it is seen, by a later epoch."""
    platform, showtime_id = house.platform, await house.showtime()
    replaced = partition_of(showtime_id)
    for statement in (
        "INSERT INTO reservation.former_servers (partition, server, replaced_in)"
        " SELECT partition, server, epoch FROM reservation.epochs WHERE partition = $1",
        "UPDATE reservation.epochs SET server = 'its successor' WHERE partition = $1",
    ):
        await platform.database.execute(statement, replaced)
    book = await platform.reservation_store.gate_book()
    assert book.place is not None
    ahead = book.place._replace(wal_bytes=book.place.wal_bytes + 2**40)
    await house.redis.set(PLACE_KEY, " ".join(map(str, ahead)))

    await platform.reaper.round()

    after = await platform.reservation_store.gate_book()
    assert all(now > then for now, then in zip(after.epochs, book.epochs, strict=True))
    assert after.servers[replaced] == "its successor"
    with pytest.raises(InventoryRebuilding):
        await hold(house.running, showtime_id, 0)
    assert await epochs_after(2, house.running) == {tuple(after.epochs)}, "and once is enough"


@asynccontextmanager
async def set_back_while_it_is_looked_at(
    make_database: DatabaseMaker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[RunningPlatform, str]]:
    """A seat is sold; and while PostgreSQL is slow to say what is to be believed, the server that was asked
    who it is dies and comes back as it was before the sale. Inside, that look is over and nothing rebuilt."""
    database_url = await make_database(migrated)
    async with server() as (engine, _), run_platform(engine.url, database_url, folder) as running:
        showtime_id = await running.add_showtime()
        log, before = engine.home / "appendonlydir", folder / "before"
        shutil.copytree(log, before)
        await sell(running, showtime_id)
        gate_book = ReservationStore.gate_book

        async def slow(store: ReservationStore) -> Any:
            await engine.stop()
            shutil.rmtree(log)
            shutil.copytree(before, log)
            await engine.start()
            return await gate_book(store)

        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(ReservationStore, "gate_book", slow)
            await running.platform.rebuilder.gate_is_open()
        yield running, showtime_id


async def test_a_server_that_is_set_back_while_postgresql_is_slow_sells_nothing_before_it_is_made_anew(
    make_database: DatabaseMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with set_back_while_it_is_looked_at(make_database, tmp_path, monkeypatch) as (running, showtime_id):
        with pytest.raises(InventoryRebuilding):
            await hold(running, showtime_id, 0)
        await running.platform.reaper.round()
        await sells(running, showtime_id, 1)


async def test_taught_by_whichever_connection_there_is_it_would_hold_the_sold_seat_for_somebody_else(
    make_database: DatabaseMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = ScriptRunner.load

    async def on_any(runner: ScriptRunner, link: Link, epochs: Any, *, on: object = None) -> None:
        await load(runner, link, epochs)

    monkeypatch.setattr(ScriptRunner, "load", on_any)
    async with set_back_while_it_is_looked_at(make_database, tmp_path, monkeypatch) as (running, showtime_id):
        await hold(running, showtime_id, 0)


# What is lost, and no more


@asynccontextmanager
async def set_back_as_another_partition_is_made_anew(
    make_database: DatabaseMaker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[RunningPlatform, str]]:
    """A seat is sold under an epoch; another partition of the server is raised to that epoch to be made anew
    (by hand: no raise does that), and just then the server dies and comes back as it was before the sale.
    Inside, that rebuild has ended."""
    database_url = await make_database(migrated)
    async with (
        server() as (engine, client),
        run_platform(engine.url, database_url, folder, roles=()) as running,
    ):
        platform, showtime_id = running.platform, await running.add_showtime()
        sold = partition_of(showtime_id)
        other = (sold + 1) % PARTITIONS
        await platform.rebuilder.rebuild("ahead of the others", {sold})
        log, before = engine.home / "appendonlydir", folder / "before"
        shutil.copytree(log, before)
        await sell(running, showtime_id)
        await client.delete(epoch_key(other))
        raise_epochs = ReservationStore.raise_epochs

        async def meanwhile(store: ReservationStore, seen: Any, reason: str) -> dict[int, int]:
            await raise_epochs(store, seen, reason)
            epoch = (await store.current_epochs())[sold]
            await platform.database.execute(
                "UPDATE reservation.epochs SET epoch = $1 WHERE partition = $2", epoch, other
            )
            await engine.stop()
            shutil.rmtree(log)
            shutil.copytree(before, log)
            await engine.start()
            return {other: epoch}

        with monkeypatch.context() as once:
            once.setattr(ReservationStore, "raise_epochs", meanwhile)
            with suppress(InventoryRebuilding, SeatsUnavailable):
                await platform.rebuilder.rebuild_if_needed()
        epochs = await platform.reservation_store.current_epochs()
        assert epochs[sold] == epochs[other]
        yield running, showtime_id


async def test_a_server_that_is_set_back_as_another_partition_is_made_anew_sells_nothing_before_it_is(
    make_database: DatabaseMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with set_back_as_another_partition_is_made_anew(make_database, tmp_path, monkeypatch) as (
        running,
        showtime_id,
    ):
        with pytest.raises((InventoryRebuilding, SeatsUnavailable)):
            await hold(running, showtime_id, 0)
        await in_any_weather(running.platform.reaper.round)
        await sells(running, showtime_id, 1)


async def test_taught_by_whichever_connection_there_is_it_would_hold_what_was_sold(
    make_database: DatabaseMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = ScriptRunner.load

    async def anywhere(self: ScriptRunner, link: Link, epochs: Any, *, on: object | None = None) -> None:
        await in_any_weather(lambda: load(self, link, epochs))

    monkeypatch.setattr(ScriptRunner, "load", anywhere)
    async with set_back_as_another_partition_is_made_anew(make_database, tmp_path, monkeypatch) as (
        running,
        showtime_id,
    ):
        await hold(running, showtime_id, 0)


async def test_scripts_that_are_gone_where_nothing_else_is_are_loaded_again(house: House) -> None:
    showtime_id = await house.showtime()
    await make_forget(house.platform.scripts)
    with pytest.raises(InventoryRebuilding):
        await hold(house.running, showtime_id, 0)
    epochs = house.platform.scripts.epochs
    await house.platform.reaper.round()
    assert house.platform.scripts.epochs == epochs
    await hold(house.running, showtime_id, 0)


async def test_a_partition_that_lost_its_epoch_is_made_anew_and_the_others_sell_on(house: House) -> None:
    platform = house.platform
    lost, other = await house.showtime(), await house.showtime()
    while partition_of(lost) == partition_of(other):
        other = await house.showtime()
    before = platform.scripts.epochs
    owners = platform.rebuilder._owners
    asked = []

    async def while_rebuilding(epochs: Any) -> Any:
        await hold(house.running, other, len(asked))
        with pytest.raises(InventoryRebuilding):
            await hold(house.running, lost, 0)
        asked.append(epochs)
        return await owners(epochs)

    platform.rebuilder._owners = while_rebuilding
    await house.redis.delete(epoch_key(partition_of(lost)))
    await platform.reaper.round()
    after = platform.scripts.epochs
    assert {one for one in range(PARTITIONS) if after[one] > before[one]} == {partition_of(lost)}
    assert asked == [{partition_of(lost): after[partition_of(lost)]}]
    await hold(house.running, lost, 0)


async def test_a_new_epoch_is_above_what_the_data_has_seen(house: House) -> None:
    """PostgreSQL may have been set back to before an epoch that scripts and data carry."""
    platform, partition = house.platform, 9
    for seen in (7_000, -8_000):
        await house.redis.set(epoch_key(partition), seen)
        await platform.reaper.round()
        assert platform.scripts.epochs[partition] == abs(seen) + 1


async def test_a_rebuild_whose_lock_was_lost_opens_nothing_a_later_one_made(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one loses its connection when it has asked for the owners; then a second begins and ends."""
    platform, showtime_id = house.platform, await house.showtime()
    owners = platform.rebuilder._owners
    rebuilt: list[int] = []

    async def asked(epochs: Any) -> Any:
        found = await owners(epochs)
        if not rebuilt:
            rebuilt.append(0)
            held = (
                "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted"
            )
            await platform.database.execute(f"SELECT pg_terminate_backend(pid) FROM ({held}) AS held")
            rebuilt[0] = (await platform.rebuilder.rebuild("the second")).epoch
        return found

    monkeypatch.setattr(platform.rebuilder, "_owners", asked)
    with pytest.raises((InventoryRebuilding, PersistenceUnavailable)):
        await platform.rebuilder.rebuild("the first")
    assert await platform.rebuilder.gate_is_open()
    assert set(platform.scripts.epochs) == set(rebuilt)
    await hold(house.running, showtime_id, 0)


# PostgreSQL


def copy(folder: Path, to: Path) -> None:
    """With its owner and all."""
    subprocess.run(["cp", "-a", str(folder), str(to)], check=True)


@asynccontextmanager
async def set_back(redis_url: str, data_dir: Path, folder: Path) -> AsyncIterator[RunningPlatform]:
    """A seat is sold; then the database is what it was before the sale."""
    engine, earlier = postgres_engine_in(data_dir, dies_with_us=True), folder / "earlier"
    await engine.start()
    await migrate(engine.url)
    async with run_platform(redis_url, engine.url, folder, roles=()) as running:
        showtime_id = await running.add_showtime()
        await running.platform.reaper.round()
        await engine.stop()
        copy(engine.home, earlier)
        await engine.start()
        await in_any_weather(running.platform.reaper.round)
        await sell(running, showtime_id)
        await running.platform.reaper.round()  # leaves its mark
        await running.stop()
        await engine.stop()
        shutil.rmtree(engine.home)
        copy(earlier, engine.home)
        await engine.start()
        yield running
    await engine.stop()


async def test_a_postgresql_that_was_set_back_has_every_map_made_anew(
    valkey_url: str, postgres_dir: Path, tmp_path: Path
) -> None:
    async with set_back(valkey_url, postgres_dir, tmp_path) as running:
        before = running.platform.scripts.epochs
        await in_any_weather(running.platform.reaper.round)
        after = running.platform.scripts.epochs
        assert min(after) > max(before)
        assert await running.platform.rebuilder.gate_is_open()
        assert await epochs_after(2, running) == {after}


async def test_without_a_mark_of_where_it_was_nobody_would_notice(
    valkey_url: str, postgres_dir: Path, tmp_path: Path
) -> None:
    async with set_back(valkey_url, postgres_dir, tmp_path) as running:
        before = running.platform.scripts.epochs
        await running.redis.delete(PLACE_KEY)
        await in_any_weather(running.platform.reaper.round)
        assert running.platform.scripts.epochs == before
