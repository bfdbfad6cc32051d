"""Goal: an order of a showtime that PostgreSQL has forgotten ends, and who paid has his money again.

Method: a copy of the database is made before a showtime is added and put in its place after its seats were
sold (`Past`). The logs bring its orders back, and nothing brings the showtime: its maps stay shut. Then
writer, completers and the comparison of books go round for hours. The controls let whoever finds seats shut
wait, as for any rebuild; and beside it stands a showtime that is only being made anew, whose orders wait
and are served.
"""

from __future__ import annotations

import pytest

from checkout import Fulfilment
from checkout.completers import CONFIRM_AFTER_S
from entrypoints.audit import Patience, run_audit
from kernel.errors import InventoryRebuilding
from kernel.ids import hold_id_of
from reservation import keys_of
from tests.support.past import Past
from tests.support.shop import Shop

HOURS_S = 8_000.0
#: An audit counts no age from before PostgreSQL began, which was a moment ago.
AT_ONCE = Patience(settle_s=(0.01,), money_s=0.0, freeing_s=0.0)


async def a_showtime_that_is_forgotten(shop: Shop, past: Past) -> tuple[str, str, str, str]:
    """Its orders: sold, waiting for its payment, being paid for on a page, and given back."""
    await past.remember()
    showtime_id = await shop.showtime()
    sold = await shop.buy(shop.fan(), showtime_id, "A1")
    waiting = await shop.order(shop.fan(), showtime_id, "A2")
    on_page = await shop.order(fan := shop.fan(), showtime_id, "A3")
    page = await shop.open_payment(fan, on_page)
    given_back = await shop.buy(fan := shop.fan(), showtime_id, "B1")
    await shop.ask_back(fan, given_back)
    await shop.settle()
    await past.come_back()
    await shop.platform.rebuilder.rebuild("PostgreSQL was set back")
    await shop.write()
    shop.gateway.capture(page)
    return sold, waiting, on_page, given_back


async def hours_pass(shop: Shop) -> None:
    for _ in range(4):
        await shop.time_passes(HOURS_S / 4)
        await shop.write()
        await shop.reconcile()
        await shop.complete()


async def test_orders_of_a_showtime_nobody_remembers_end_and_their_money_goes_back(
    evening: Shop, past: Past
) -> None:
    shop = evening
    sold, waiting, on_page, given_back = await a_showtime_that_is_forgotten(shop, past)
    await hours_pass(shop)
    assert await shop.states([sold, waiting, on_page, given_back]) == {
        sold: "cancelled",
        waiting: "expired",
        on_page: "cancelled",
        given_back: "cancelled",
    }
    for order_id in (sold, on_page):
        order = await shop.find(order_id)
        assert order.end_reason == "order_lost"
        assert [(refund.state, refund.reason) for refund in order.refunds] == [("completed", "unfulfillable")]
    assert {kind: age_s for kind, age_s in (await shop.store.oldest_open()).items() if age_s} == {}
    assert len(shop.gateway.refunds) == 3
    await shop.sound()
    report = await run_audit(shop.platform, patience=AT_ONCE)
    assert not [(check.name, check.offender) for check in report.checks if not check.ok]


async def test_who_waits_for_a_showtime_nobody_remembers_keeps_the_money_for_ever(
    evening: Shop, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: neither tickets nor money, and seats that are never put back."""

    async def never(_: Fulfilment, __: str) -> bool:
        return False

    shop = evening
    monkeypatch.setattr(Fulfilment, "is_forgotten", never)
    sold, waiting, *_ = await a_showtime_that_is_forgotten(shop, past)
    await hours_pass(shop)
    order = await shop.find(sold)
    assert (order.state, order.tickets, order.refunds) == ("paid", (), ())
    assert [payment.state for payment in order.payments] == ["captured"]
    assert await shop.state(waiting) == "expired"
    ages = await shop.store.oldest_open()
    assert min(ages["paid_unconfirmed"], ages["seats_unfreed"]) > HOURS_S / 4
    report = await run_audit(shop.platform, patience=AT_ONCE)
    found = {check.name for check in report.checks if not check.ok}
    assert found >= {"holds_end", "money_has_a_home"}


async def test_orders_of_a_showtime_that_is_only_made_anew_are_waited_for(evening: Shop) -> None:
    """It is shut as well, and its sale is known: nobody is sent away."""
    shop = evening
    fan, showtime_id = shop.fan(), await shop.showtime()
    paid = await shop.order(fan, showtime_id, "A1")
    unpaid = await shop.order(shop.fan(), showtime_id, "A2")
    await shop.redis.hset(keys_of(showtime_id).showtime, "epoch", "-1")
    await shop.pay(fan, paid)
    await shop.time_passes(HOURS_S)
    await shop.complete()
    with pytest.raises(InventoryRebuilding):
        await shop.platform.inventory.confirm(hold_id_of(paid), fan, entry=b"")
    assert await shop.states([paid, unpaid]) == {paid: "paid", unpaid: "expired"}
    assert (await shop.store.oldest_open())["seats_unfreed"] >= 0
    assert [one.order_id for one in await shop.store.orders_to_free()] == [unpaid]
    await shop.platform.rebuilder.rebuild("it was shut")
    await shop.time_passes(CONFIRM_AFTER_S)
    await shop.settle()
    assert await shop.state(paid) == "confirmed"
    await shop.sound()
