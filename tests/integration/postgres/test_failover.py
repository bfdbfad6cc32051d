"""Goal: when the primary dies, the standby that commits waited for has every order a buyer was told of.

Method: a real primary and a real standby, the platform at an address that names both; buyers buy while the
primary is killed with -9 and the standby promoted. The controls cut the way between them: commits that wait
are then acknowledged to nobody, and those that do not are lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from kernel.errors import PersistenceUnavailable
from runtime.migrations import migrate
from runtime.postgres import Database
from tests.support.engines import temporary_data_dir
from tests.support.platform import RunningPlatform, run_platform
from tests.support.service import Fan
from tests.support.shop import until
from tests.support.standbys import Pair, ask, pair


@asynccontextmanager
async def _told_by(pair: Pair) -> AsyncIterator[Database]:
    """Somebody who writes into a table of promises."""
    database = Database(pair.url, command_timeout_s=1.0)
    await database.execute("CREATE TABLE public.told (number int)")
    try:
        yield database
    finally:
        await database.close()


async def _tell(database: Database, numbers: range) -> set[int]:
    """The numbers whose commit was acknowledged."""
    told = set()
    for number in numbers:
        with suppress(PersistenceUnavailable):
            await database.execute("INSERT INTO public.told VALUES ($1)", number)
            told.add(number)
    return told


async def _known(pair: Pair) -> set[int]:
    numbers = await ask(pair.standby, "SELECT coalesce(array_agg(number), '{}') FROM public.told")
    return set(numbers)


@pytest.mark.timeout(180)
async def test_buyers_keep_every_order_they_were_told_of_and_go_on_buying_from_the_standby(
    postgres_dir: Path, valkey_url: str, tmp_path: Path
) -> None:
    with temporary_data_dir() as standby_dir:
        async with pair(postgres_dir, standby_dir, synchronous=True) as servers:
            await migrate(servers.url)
            async with run_platform(valkey_url, servers.url, tmp_path) as running:
                showtime_id = await running.add_showtime()
                fans = await running.fans(60)
                kept: list[str] = []
                buying = asyncio.gather(
                    *(_buy(running, fan, showtime_id, kept, at_s) for at_s, fan in _spread(fans))
                )
                while len(kept) < 10:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await servers.fail_over()
                await buying
                assert await _kept_by(running, kept) == set(kept)
                assert len(kept) > 20, "and they went on"
                (late,) = await running.fans(1)
                await late.buy(showtime_id, "A1")


def _spread(fans: list[Fan]) -> list[tuple[float, Fan]]:
    """Somebody comes every twentieth of a second."""
    return [(number / 20, fan) for number, fan in enumerate(fans)]


async def _buy(running: RunningPlatform, fan: Fan, showtime_id: str, kept: list[str], at_s: float) -> None:
    """Hold a seat and order it, with patience; an order that was acknowledged is one to be kept."""
    await asyncio.sleep(at_s)
    hold = await fan.hold_best(showtime_id, 1)
    if hold.status != 201:
        return
    key = running.new_key()
    for _ in range(20):
        order = await fan.order(hold.body["hold_id"], key=key)
        if order.status == 201:
            kept.append(order.body["order_id"])
            return
        assert order.status in {202, 409, 503}, order.body
        await asyncio.sleep(0.5)


async def _kept_by(running: RunningPlatform, order_ids: list[str]) -> set[str]:
    return set(await running.platform.checkout_store.order_states(order_ids))


async def test_control_a_standby_that_nobody_waits_for_loses_what_it_did_not_hear(postgres_dir: Path) -> None:
    with temporary_data_dir() as standby_dir:
        async with (
            pair(postgres_dir, standby_dir, synchronous=False) as servers,
            _told_by(servers) as database,
        ):
            first = await _tell(database, range(10))
            await until(lambda: _has_all(servers, first))
            await servers.cut()
            late = await _tell(database, range(10, 20))
            assert len(late) == 10, "everything was acknowledged"
            await servers.fail_over()
            assert await _known(servers) == first


async def _has_all(servers: Pair, numbers: set[int]) -> bool:
    try:
        return await _known(servers) >= numbers
    except asyncpg.UndefinedTableError:  # nor has it heard of the table
        return False


async def test_what_a_standby_that_is_waited_for_cannot_hear_is_acknowledged_to_nobody(
    postgres_dir: Path,
) -> None:
    with temporary_data_dir() as standby_dir:
        async with (
            pair(postgres_dir, standby_dir, synchronous=True) as servers,
            _told_by(servers) as database,
        ):
            first = await _tell(database, range(10))
            await servers.cut()
            assert await _tell(database, range(10, 13)) == set()
            await servers.fail_over()
            assert await _known(servers) == first == set(range(10))


async def test_an_address_with_several_hosts_leads_to_the_one_that_takes_writes(postgres_dir: Path) -> None:
    with temporary_data_dir() as standby_dir:
        async with pair(postgres_dir, standby_dir, synchronous=True) as servers:
            database = Database(servers.url)
            port = "SELECT inet_server_port()"
            assert await database.fetchval(port) == servers.primary.port
            await servers.fail_over()
            with suppress(PersistenceUnavailable):  # the connection that died with the primary
                await database.fetchval(port)
            assert await database.fetchval(port) == servers.standby.port
            await database.close()
