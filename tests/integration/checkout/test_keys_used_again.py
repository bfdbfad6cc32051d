"""Goal: an order is of the seats its buyer was told of, whatever he does with his hold's key meanwhile.

Method: a key used again makes the same hold id. So a fan lets go of his hold and holds other seats under its
name, in the instant between a worker's look at the hold and the script that makes it an order or a sale. What
PostgreSQL has must then be on the map, within the buyer's limit, and what he let go of free for others. The
controls tell the scripts whatever seats the hold has by then, as if they compared none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from kernel.errors import NotFound
from kernel.ids import hold_id_of, order_id_of, showtime_of
from runtime.redis_link import Argument
from tests.support.shop import Shop

KEY = "one-key"
PAY_BY_S = 15 * 60
#: Where the arguments of a script name the seats that are meant.
SEATS_AT = {"claim_hold": 5, "confirm_hold": 4}

Meanwhile = Callable[[str, Callable[[], Awaitable[Any]]], None]


@pytest.fixture
def meanwhile(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Have something happen right before a verb is next asked for seats that are named to it."""

    def plan(verb: str, happens: Callable[[], Awaitable[Any]]) -> None:
        inventory = shop.platform.inventory
        ask = getattr(inventory, verb)

        async def asked(*words: Any, **named: Any) -> Any:
            if named.get("seats"):
                monkeypatch.setattr(inventory, verb, ask)
                await happens()
            return await ask(*words, **named)

        monkeypatch.setattr(inventory, verb, asked)

    return plan


@pytest.fixture
def comparing_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever names seats to a script names those the hold has at that instant."""
    run, inventory = shop.platform.inventory._run, shop.platform.inventory

    async def asked(verb: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        if verb in SEATS_AT:
            arguments = list(arguments)
            if arguments[SEATS_AT[verb]]:
                _, _, _, arguments[SEATS_AT[verb]] = await run("read_hold", keys[:1], (*arguments[:2], ""))
        return await run(verb, keys, arguments)

    monkeypatch.setattr(inventory, "_run", asked)


async def _hold(shop: Shop, fan: str, showtime_id: str, *labels: str, key: str = KEY) -> str:
    return (await shop.platform.hold_service.hold_named(fan, showtime_id, labels, key)).hold_id


def _holds_others(shop: Shop, fan: str, hold_id: str, *labels: str, key: str = KEY) -> Any:
    """He lets go of his hold, and holds other seats under the same key."""

    async def happens() -> None:
        await shop.platform.hold_service.release(fan, hold_id)
        assert await _hold(shop, fan, showtime_of(hold_id), *labels, key=key) == hold_id

    return happens


async def _seats(shop: Shop, showtime_id: str, *labels: str) -> set[int]:
    layout = (await shop.platform.halls.showtime(showtime_id)).hall.layout
    return {layout.index_of[label] for label in labels}


# Between the look at a hold and its claim


async def test_no_order_is_made_of_seats_its_hold_has_no_more(shop: Shop, meanwhile: Meanwhile) -> None:
    showtime_id, fan = await shop.showtime(), shop.fan()
    hold_id = await _hold(shop, fan, showtime_id, "C5", "C6")
    meanwhile("claim", _holds_others(shop, fan, hold_id, "D5"))

    with pytest.raises(NotFound):
        await shop.place(fan, hold_id)

    await shop.settle()
    with pytest.raises(NotFound):
        await shop.platform.orders.find(fan, order_id_of(hold_id))
    assert await shop.taken(showtime_id) == await _seats(shop, showtime_id, "D5")
    placed = await shop.place(fan, hold_id)
    assert [line.label for line in placed.order.lines] == ["D5"]
    await shop.sound()


async def test_a_key_used_again_and_again_buys_nothing_beyond_the_limit(
    shop: Shop, meanwhile: Meanwhile
) -> None:
    showtime_id, fan = await shop.showtime(seats_per_buyer=4), shop.fan()
    for turn, row in enumerate("BCE"):
        key, labels = f"key-{turn}", [f"{row}{number}" for number in range(5, 9 - turn)]
        hold_id = await _hold(shop, fan, showtime_id, *labels, key=key)
        meanwhile("claim", _holds_others(shop, fan, hold_id, f"D{turn + 5}", key=key))
        with pytest.raises(NotFound):
            await shop.place(fan, hold_id)
        assert (await shop.place(fan, hold_id)).committed

    owned = await shop.one(
        "SELECT count(*) FROM checkout.seat_claims c JOIN checkout.orders o USING (order_id)"
        " WHERE o.account_id = $1 AND c.owned",
        fan,
    )
    assert owned == 3
    assert await shop.taken(showtime_id) == await _seats(shop, showtime_id, "D5", "D6", "D7")
    await shop.sound()


async def test_seats_that_were_let_go_are_anybodys_and_free_when_all_is_over(
    shop: Shop, meanwhile: Meanwhile
) -> None:
    showtime_id, fan, other = await shop.showtime(), shop.fan(), shop.fan()
    hold_id = await _hold(shop, fan, showtime_id, "C5", "C6")
    meanwhile("claim", _holds_others(shop, fan, hold_id, "D5"))
    with pytest.raises(NotFound):
        await shop.place(fan, hold_id)

    await shop.buy(other, showtime_id, "C5", "C6")
    await shop.platform.hold_service.release(fan, hold_id)

    assert await shop.taken(showtime_id) == await _seats(shop, showtime_id, "C5", "C6")
    await shop.sound()


@pytest.mark.usefixtures("comparing_nothing")
async def test_without_the_comparison_an_order_has_seats_the_map_says_are_free(
    shop: Shop, meanwhile: Meanwhile
) -> None:
    showtime_id, fan = await shop.showtime(), shop.fan()
    hold_id = await _hold(shop, fan, showtime_id, "C5", "C6")
    meanwhile("claim", _holds_others(shop, fan, hold_id, "D5"))

    placed = await shop.place(fan, hold_id)

    assert [line.label for line in placed.order.lines] == ["C5", "C6"]
    assert await shop.taken(showtime_id) == await _seats(shop, showtime_id, "D5")


# Between taking seats again and selling them


async def _late(shop: Shop, meanwhile: Meanwhile) -> tuple[str, str]:
    """An order of D5 and D6 is paid after its time; its fan holds A5 instead of what was taken again for him.

    Showtime and order.
    """
    showtime_id, fan = await shop.showtime(), shop.fan()
    order_id = (await shop.place(fan, await _hold(shop, fan, showtime_id, "D5", "D6"))).order.order_id
    payment_id = await shop.open_payment(fan, order_id)
    await shop.time_passes(PAY_BY_S + 5)
    await shop.settle()
    assert await shop.state(order_id) == "expired"
    meanwhile("confirm", _holds_others(shop, fan, hold_id_of(order_id), "A5"))
    await shop.deliver(shop.gateway.capture(payment_id))
    await shop.settle()
    return showtime_id, order_id


async def test_late_money_does_not_sell_what_its_fan_holds_instead(shop: Shop, meanwhile: Meanwhile) -> None:
    showtime_id, order_id = await _late(shop, meanwhile)

    order = await shop.find(order_id)
    assert (order.state, order.end_reason) == ("cancelled", "idempotency_key_reused")
    assert [(refund.reason, refund.state) for refund in order.refunds] == [("unfulfillable", "completed")]
    assert await shop.taken(showtime_id) == await _seats(shop, showtime_id, "A5")
    hold = await shop.platform.inventory.read_hold(hold_id_of(order_id), order.account_id)
    assert hold.state == "held"
    await shop.sound()


@pytest.mark.usefixtures("comparing_nothing")
async def test_without_the_comparison_tickets_are_issued_for_seats_the_map_says_are_free(
    shop: Shop, meanwhile: Meanwhile
) -> None:
    showtime_id, order_id = await _late(shop, meanwhile)

    assert await shop.state(order_id) == "confirmed"
    assert await shop.taken(showtime_id) == await _seats(shop, showtime_id, "A5")
