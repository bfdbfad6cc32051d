"""Goal: two shops with one account at a gateway give back nobody's money but their own.

Method: captures of orders this shop never had stand in the gateway's books, as a copy for rehearsals that was
started with the real account would make them. A shop that is new, one whose books are whole and one that was
killed while it read them for the first time leave them alone, and say so. The control is a shop that was set
back: there such captures are orders it has forgotten, and their money goes back, although it was killed.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

from checkout.errors import GatewayUnavailable
from kernel.ids import new_hold_id, new_id, new_showtime_id, order_id_of
from kernel.money import Money
from tests.support.past import Past
from tests.support.shop import PRICE, Session, Shop


def captured_elsewhere(shop: Shop, count: int = 4) -> list[Session]:
    """What another shop's buyers paid; more than one page of the books."""
    sessions = []
    for _ in range(count):
        payment_id, order_id = new_id("pay"), order_id_of(new_hold_id(new_showtime_id()))
        ref, price = f"ppr_{payment_id[4:]}", Money(PRICE, "CNY")
        session = Session(payment_id, ref, price, datetime.now(UTC), order_id)
        shop.gateway.sessions[payment_id] = session
        shop.gateway.capture(payment_id)
        sessions.append(session)
    return sessions


def breaks_after_a_page(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway falls silent after the first page of its books."""
    movements, pages = shop.gateway.movements, iter([1])

    async def one_page(after: str) -> object:
        if next(pages, None) is None:
            raise GatewayUnavailable("after a page")
        return await movements(after)

    monkeypatch.setattr(shop.gateway, "movements", one_page)


@pytest.mark.parametrize("when", ["as a new shop", "killed while it was new", "the minute after"])
async def test_what_was_paid_to_another_shop_stays_there(
    evening: Shop, when: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shop = evening
    if when == "the minute after":
        await shop.buy(shop.fan(), await shop.showtime(), "A1")
        await shop.platform.wholeness.look()
    theirs = captured_elsewhere(shop)
    if when == "killed while it was new":
        breaks_after_a_page(shop, monkeypatch)
        with pytest.raises(GatewayUnavailable):
            await shop.platform.wholeness.look()
        monkeypatch.undo()
    with caplog.at_level(logging.ERROR):
        await (shop.reconcile() if when == "the minute after" else shop.platform.wholeness.look())
    assert "left for a person: nobody here ever had its order" in caplog.text
    await shop.settle()
    assert not any(session.refunded for session in theirs)
    assert not shop.gateway.asked_back
    assert not await shop.states([session.order_id for session in theirs])
    assert await shop.reconcile() == 0, "they keep nobody waiting"
    await shop.sound()


async def test_a_shop_that_was_set_back_gives_back_what_it_forgot_though_it_was_killed(
    evening: Shop, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same captures, and books that were whole before."""
    shop = evening
    await shop.platform.wholeness.look()
    await past.remember()
    forgotten = captured_elsewhere(shop)
    await past.come_back()
    await shop.platform.rebuilder.rebuild("PostgreSQL was set back")
    breaks_after_a_page(shop, monkeypatch)
    with pytest.raises(GatewayUnavailable):
        await shop.platform.wholeness.look()
    monkeypatch.undo()
    assert len(await shop.states([session.order_id for session in forgotten])) == shop.gateway.page_size
    await shop.platform.wholeness.look()
    shop.platform.wholeness.trust()
    await shop.settle()
    assert all(session.refunded for session in forgotten)
    await shop.sound()
