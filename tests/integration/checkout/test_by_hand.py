"""Goal: who finishes by hand what was left half done judges by a PostgreSQL that is whole, or not at all.

Method: the verb itself, beside the shop and on its engines, with the shop's gateway. An order is sold; the
database is put back to before it was paid for, and its maps are made anew; then its time to pay is over.
Whoever believes that PostgreSQL ends the order and frees its seat. The control lets the verb judge by
whoever answers.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from entrypoints.cli import app
from entrypoints.console import DOWN
from entrypoints.platform import Platform
from kernel.errors import PersistenceUnavailable
from tests.support.past import Past
from tests.support.shop import Shop

#: The jobs that judge.
JUDGED = ("orders_expired", "seats_freed", "orders_confirmed", "refunds_sent")


@pytest.fixture
def same_gateway(evening: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a platform has the shop's gateway, and not one that listens somewhere."""

    async def open_with_paper(self: Platform) -> None:
        self.gateways = evening.platform.gateways

    monkeypatch.setattr(Platform, "open", open_with_paper)


async def by_hand(shop: Shop, folder: Path, *words: str) -> Result:
    """The verb, in this process and beside the running loop."""
    addresses = shop.platform.addresses
    told = {
        "SEATRUSH_DATA_DIR": str(folder),
        "DATABASE_URL": addresses.database_url,
        "REDIS_URL": addresses.redis_url,
    }
    return await asyncio.to_thread(CliRunner().invoke, app, ["reconcile", *words], env=told)


def said(result: Result) -> Any:
    return orjson.loads(result.stdout)


async def a_sale_nobody_remembers(shop: Shop, past: Past) -> tuple[str, str]:
    """Its showtime and its order, which was sold, and which PostgreSQL thinks nobody paid in time."""
    showtime_id, fan = await shop.showtime(), shop.fan()
    order_id = await shop.order(fan, showtime_id, "A1")
    payment_id = await shop.open_payment(fan, order_id)
    await shop.platform.wholeness.look()
    shop.platform.wholeness.trust()
    await past.remember()
    await shop.deliver(shop.gateway.capture(payment_id))
    await shop.write()
    assert await shop.state(order_id) == "confirmed"
    await past.come_back()
    await shop.platform.rebuilder.rebuild("PostgreSQL was set back")
    await shop.time_passes(3_600)
    shop.gateway.away = True
    return showtime_id, order_id


@pytest.mark.usefixtures("same_gateway")
async def test_by_hand_nothing_is_judged_before_postgresql_is_whole(
    evening: Shop, past: Past, tmp_path: Path
) -> None:
    shop = evening
    showtime_id, order_id = await a_sale_nobody_remembers(shop, past)
    done = await by_hand(shop, tmp_path, "--json")
    assert done.exit_code == DOWN
    assert said(done)["whole"] is False
    assert [said(done)["done"][job] for job in JUDGED] == [0, 0, 0, 0]
    assert await shop.state(order_id) == "pending_payment"
    assert len(await shop.taken(showtime_id)) == 1
    shop.gateway.away = False
    await shop.write()
    await shop.platform.wholeness.look()
    assert await shop.state(order_id) == "paid", "the books of its gateway knew"
    done = await by_hand(shop, tmp_path, "--json")
    assert (done.exit_code, said(done)["whole"]) == (0, True)
    await shop.settle()
    assert await shop.state(order_id) == "confirmed"
    await shop.sound()


@pytest.mark.usefixtures("same_gateway")
async def test_by_hand_whoever_judges_by_any_postgresql_sells_a_seat_again(
    evening: Shop, past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    shop = evening
    showtime_id, order_id = await a_sale_nobody_remembers(shop, past)
    monkeypatch.setattr("checkout.reconciliation.wholeness._NOBODY", "")
    await by_hand(shop, tmp_path)
    assert await shop.state(order_id) == "expired"
    assert not await shop.taken(showtime_id)


@pytest.mark.usefixtures("same_gateway")
async def test_by_hand_what_is_overdue_ends_when_postgresql_is_whole(evening: Shop, tmp_path: Path) -> None:
    shop = evening
    order_id = await shop.order(shop.fan(), showtime_id := await shop.showtime(), "A1")
    await shop.platform.wholeness.look()
    await shop.time_passes(3_600)
    done = await by_hand(shop, tmp_path, "--json")
    assert (done.exit_code, said(done)["whole"]) == (0, True)
    assert [said(done)["done"][job] for job in JUDGED] == [1, 1, 0, 0]
    assert await shop.state(order_id) == "expired"
    assert not await shop.taken(showtime_id)


@pytest.mark.usefixtures("same_gateway")
async def test_by_hand_a_person_is_told_why_nothing_was_judged(evening: Shop, tmp_path: Path) -> None:
    """Nobody has compared books yet."""
    done = await by_hand(evening, tmp_path)
    assert done.exit_code == DOWN
    assert "orders_expired 0" in done.stdout
    assert "whole" in done.stderr


async def test_by_hand_who_knows_of_no_gateway_judges_nothing(evening: Shop, tmp_path: Path) -> None:
    """Its address was forgotten: nobody it knows of has other books."""
    shop = evening
    await shop.order(shop.fan(), await shop.showtime(), "A1")
    await shop.platform.wholeness.look()
    await shop.time_passes(3_600)
    done = await by_hand(shop, tmp_path, "--json")
    assert (done.exit_code, said(done)["whole"]) == (DOWN, False)
    assert said(done)["done"]["orders_expired"] == 0


@pytest.mark.usefixtures("same_gateway")
async def test_a_postgresql_that_came_while_books_were_compared_is_not_whole(
    evening: Shop, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is exchanged between the look at who answers and the comparison: its logs were not given again."""
    shop = evening
    await shop.order(shop.fan(), await shop.showtime(), "A1")
    await past.remember()
    compare = shop.platform.reconciliation.compare

    async def too_late(server: str | None = None) -> int:
        await past.come_back()
        return await compare(server)

    monkeypatch.setattr(shop.platform.reconciliation, "compare", too_late)
    with pytest.raises(PersistenceUnavailable):
        await shop.platform.wholeness.look()
    assert not await shop.platform.wholeness.adopt()
