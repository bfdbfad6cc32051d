"""Goal: the box itself is honest: time, death, lost words and locks are what they are outside.

Method: one process, one server, and a fault that is chosen and not drawn; each with the case in which nothing
happens beside it. What the box has found before stands here too, as short as it can be told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

import reservation.gate
from checkout import CheckoutStore, OrderLog
from checkout.domain import RequestKey
from kernel.errors import PersistenceUnavailable
from reservation import ReservationStore
from reservation.gate import Findings, Gate
from runtime.redis_link import server_at
from tests.simulation import seats, ways
from tests.simulation.commands import Commands
from tests.simulation.loop import Stuck, VirtualLoop
from tests.simulation.postgres import Database, Postgres
from tests.simulation.statements import BOOKS, CHARGEBACKS, FORGETTING, HANDLERS, ORDERS
from tests.simulation.world import Aim, Process, World

REQUEST = RequestKey("acc_a", "key", "00")


@pytest.fixture
def world() -> Iterator[World]:
    made = World(1)
    made.mishap = 0.0
    yield made
    made.loop.close()


def run(world: World, work: Coroutine[Any, Any, Any]) -> Any:
    return world.loop.run_until_complete(work)


def postgres_of(world: World) -> Postgres:
    return Postgres(HANDLERS, lambda: world.now, world.wrong)


def test_an_hour_of_waiting_takes_no_time_and_who_waits_for_nothing_is_told() -> None:
    loop = VirtualLoop()
    loop.run_until_complete(asyncio.sleep(3_600.0))
    assert loop.time() == pytest.approx(3_600.0)
    with pytest.raises(Stuck):
        loop.run_until_complete(loop.create_future())
    loop.close()


@pytest.mark.parametrize(("fault", "is_done"), [("request_lost", False), ("reply_lost", True)])
def test_nobody_hears_of_a_lost_message_and_only_a_lost_reply_was_done(
    world: World, fault: str, is_done: bool
) -> None:
    server = postgres_of(world)
    store = CheckoutStore(Database(Process(world, "one"), server))  # type: ignore[arg-type]
    world.aim(Aim(fault, "read", 0.0))
    with pytest.raises(PersistenceUnavailable):
        run(world, store.keep_request_key(REQUEST, 201, b""))
    assert bool(server.tables["idempotency_keys"]) is is_done
    run(world, store.keep_request_key(REQUEST, 201, b""))
    assert len(server.tables["idempotency_keys"]) == 1


def test_what_a_killed_process_began_is_undone_and_it_can_say_nothing_more(world: World) -> None:
    server = postgres_of(world)
    process = Process(world, "one")
    store = CheckoutStore(Database(process, server))  # type: ignore[arg-type]
    said: list[str] = []

    async def work() -> None:
        try:
            async with store.transaction() as connection:
                await store.keep_request_key(REQUEST, 201, b"", connection)
                said.append("written")
                await asyncio.sleep(1.0)
        finally:
            await store.keep_request_key(REQUEST, 201, b"")
            said.append("last words")

    async def story() -> None:
        task = process.spawn(work())
        await asyncio.sleep(0.5)
        process.kill()
        await asyncio.wait([task])
        await asyncio.sleep(1.0)

    run(world, story())
    assert said == ["written"]
    assert server.tables["idempotency_keys"] == {}
    assert server.open == {}
    assert server.holders == {}


def test_two_who_lock_each_others_rows_are_a_deadlock_for_one_of_them(world: World) -> None:
    server = postgres_of(world)
    process = Process(world, "one")
    store = CheckoutStore(Database(process, server))  # type: ignore[arg-type]

    async def both(first: str, second: str) -> str:
        try:
            async with store.transaction() as connection:
                for name in (first, second):
                    request = RequestKey("acc_a", name, "00")
                    await store.keep_request_key(request, 201, first.encode(), connection)
                    await asyncio.sleep(0.1)
        except Exception as error:
            return type(error).__name__
        return "committed"

    async def story() -> list[str]:
        return sorted(await asyncio.gather(both("a", "b"), both("b", "a")))

    assert run(world, story()) == ["DeadlockDetectedError", "committed"]
    assert len({row["body"] for row in server.tables["idempotency_keys"].values()}) == 1


def test_every_statement_of_the_order_side_has_a_meaning_here() -> None:
    known = {name for _, name, _ in HANDLERS.values()}
    listings = {"list_orders", "find_ticket", "oldest_open"}  # nobody in the box reads lists
    assert {*ORDERS, *BOOKS, *CHARGEBACKS, *FORGETTING} - known == listings


# What was found


class _GroupGoesAway(Commands):
    """The server lost its data between two questions: the log is there again, and its group is not."""

    def _xpending(self, key: str, group: str) -> Any:
        return [0, None, None, None]


def test_a_log_whose_group_went_away_between_two_looks_is_read_from_its_beginning(world: World) -> None:
    server = seats.SeatServer(world)
    server.append(0, b"entry")
    process = Process(world, "one")
    runner: Any = ways.Runner(process, server, _GroupGoesAway)
    reader: Any = ways.Redis(process, server)
    entries = run(world, OrderLog(runner, reader, consumer="writer-1").read_unsettled(0, "0-0"))
    assert [entry.data for entry in entries] == [b"entry"]


class _GoesDownWhenAsked(Commands):
    """The server is started anew, with what it had, right after it has said who it is."""

    def _get(self, key: str) -> bytes | None:
        if self._server.starts == 1:
            self._server.restart(self._server.snapshot())
        return super()._get(key)


@pytest.mark.parametrize(("commands", "is_open"), [(Commands, True), (_GoesDownWhenAsked, False)])
def test_a_server_that_went_down_while_it_was_looked_at_is_not_taught_and_believed(
    world: World, monkeypatch: pytest.MonkeyPatch, commands: type[Commands], is_open: bool
) -> None:
    monkeypatch.setattr(reservation.gate, "PARTITIONS", seats.PARTITIONS)
    server, database = seats.SeatServer(world), postgres_of(world)
    for partition in range(seats.PARTITIONS):
        row = {"partition": partition, "epoch": 1, "server": "1:1", "reason": "new"}
        database.tables["epochs"][(partition,)] = row
        server.memory.epochs[partition] = 1
    process = Process(world, "one")
    runner: Any = ways.Runner(process, server, commands)

    async def nothing() -> list[int]:
        return []

    async def look() -> Findings:
        store = ReservationStore(Database(process, database))  # type: ignore[arg-type]
        return await Gate(store, runner, nothing).look()

    found = run(world, look())
    assert found.is_open is is_open
    assert set(found.shut) == (set() if is_open else set(range(seats.PARTITIONS)))


class _StartsAnewWhenAskedForItsName(Commands):
    """The server is started anew as soon as it has answered."""

    def _info(self, *sections: str) -> bytes:
        told = super()._info(*sections)
        self._server.restart(seats.Memory())
        return told


def test_a_server_that_goes_down_while_it_says_its_name_is_not_half_of_one_and_half_of_the_next(
    world: World,
) -> None:
    """Such a name looked like a history that the same process has begun, and its data was believed."""
    server = seats.SeatServer(world)
    runner: Any = ways.Runner(Process(world, "one"), server, _StartsAnewWhenAskedForItsName)
    assert run(world, server_at(runner.nodes.only)).name == "1:1"
