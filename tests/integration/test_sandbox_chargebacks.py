"""Goal: in the sandbox a bank takes captured money back and gives it again, once each, and its books show it.

Method: as in `test_sandbox_gateway`: the real service and a real shop on free ports, the adapter between
them. A tester says when a bank moves and how the shop is to hear of it; the service is asked what it refuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from checkout.gateways import SandboxGateway
from checkout.ports import GatewayEvent, GatewaySession
from kernel.money import Money
from tests.support.sandbox_town import KEYS, PRICE, Town, process, shop_at, town_in


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with town_in(tmp_path) as built:
        yield built


async def bank(town: Town, session: GatewaySession, move: str, telling: str | None = None) -> tuple[int, Any]:
    """Have a bank do something; `move` is `chargeback` or `chargeback-reversal`."""
    body = None if telling is None else {"telling": telling}
    async with town.http.post(f"{session.test_url}/{move}", json=body) as answer:
        return answer.status, await answer.json(content_type=None)


async def books(town: Town) -> tuple[list[str], dict[str, Any]]:
    """Its lines by kind, and its sums that are not nothing."""
    _, page = await town.ask("GET", "/v1/books")
    (totals,) = page["totals"]
    return [line["kind"] for line in page["data"]], {name: sum_ for name, sum_ in totals.items() if sum_}


async def give_back(town: Town, session: GatewaySession, refund_id: str, amount: Money = PRICE) -> str:
    refund = await town.gateway.refund(refund_id=refund_id, gateway_ref=session.gateway_ref, amount=amount)
    return refund.state


def described(event: GatewayEvent) -> tuple[Any, ...]:
    return event.kind, event.gateway_ref, event.reference, event.amount


async def test_a_bank_takes_all_of_it_and_gives_it_again_and_the_shop_is_told(town: Town) -> None:
    session = await town.captured()
    status, taken = await bank(town, session, "chargeback")
    assert (status, taken["state"], taken["amount"]) == (202, "charged_back", PRICE.amount)
    (event,) = await town.shop.hears(1)
    assert described(event) == ("payment.charged_back", session.gateway_ref, "pay_1", PRICE)
    assert event.chargeback_ref == taken["chargeback"]
    assert await town.state(session) == "captured"
    status, given = await bank(town, session, "chargeback-reversal")
    assert (status, given) == (202, taken | {"state": "reversed"})
    event = (await town.shop.hears(2))[-1]
    assert described(event) == ("payment.chargeback_reversed", session.gateway_ref, "pay_1", PRICE)
    assert event.chargeback_ref == taken["chargeback"]
    assert await books(town) == (
        ["capture", "chargeback", "chargeback_reversed"],
        {"currency": "CNY"}
        | dict.fromkeys(("captured", "charged_back", "reversed"), PRICE.amount)
        | dict.fromkeys(("captures", "chargebacks", "reversals"), 1),
    )


async def test_the_shop_lists_what_banks_did_with_the_payment_it_is_about(town: Town) -> None:
    session = await town.captured()
    _, taken = await bank(town, session, "chargeback", "never")
    await bank(town, session, "chargeback-reversal", "never")
    listed = (await town.gateway.movements("")).movements[1:]
    assert [(one.kind, one.reference, one.amount) for one in listed] == [
        ("chargeback", taken["chargeback"], PRICE),
        ("chargeback_reversed", taken["chargeback"], PRICE),
    ]
    assert {(one.payment_ref, one.payment_id, one.order_id, one.given_back) for one in listed} == {
        (session.gateway_ref, "pay_1", "ord_1", 0)
    }
    assert await town.shop.hears(0) == []


async def test_what_was_done_is_done_once_however_often_it_is_asked_for(town: Town) -> None:
    session = await town.captured()
    for move in ("chargeback", "chargeback-reversal"):
        answers = await asyncio.gather(*(bank(town, session, move) for _ in range(10)))
        assert {status for status, _ in answers} == {202}
        assert len({answer["chargeback"] for _, answer in answers}) == 1
    assert (await books(town))[0] == ["capture", "chargeback", "chargeback_reversed"]
    await town.shop.hears(2)


async def test_after_it_gave_it_again_a_bank_may_take_it_once_more(town: Town) -> None:
    session = await town.captured()
    names = []
    for _ in range(2):
        _, taken = await bank(town, session, "chargeback")
        await bank(town, session, "chargeback-reversal")
        names.append(taken["chargeback"])
    assert len(set(names)) == 2
    assert (await books(town))[0] == ["capture", *["chargeback", "chargeback_reversed"] * 2]


async def test_nothing_is_given_back_while_a_bank_has_it_and_everything_afterwards(town: Town) -> None:
    session = await town.captured()
    await bank(town, session, "chargeback")
    assert await give_back(town, session, "ref_1") == "failed"
    refund = {"reference": "ref_1", "payment": session.gateway_ref, "amount": 1, "currency": "CNY"}
    asked: dict[str, Any] = {"json": refund, "headers": {"Idempotency-Key": "k"}}
    status, problem = await town.ask("POST", "/v1/refunds", **asked)
    assert (status, problem["code"]) == (409, "payment_charged_back")
    assert await town.gateway.find_refund("ref_1") is None
    await bank(town, session, "chargeback-reversal")
    assert await give_back(town, session, "ref_1") == "completed"
    assert (await books(town))[1]["refunded"] == PRICE.amount


async def test_a_refund_that_came_first_is_still_reported_while_a_bank_has_the_rest(town: Town) -> None:
    session, part = await town.captured(), Money(1000, "CNY")
    assert await give_back(town, session, "ref_1", part) == "completed"
    _, taken = await bank(town, session, "chargeback")
    assert taken["amount"] == PRICE.amount - part.amount
    assert await give_back(town, session, "ref_1", part) == "completed"
    assert await give_back(town, session, "ref_2", part) == "failed"


@pytest.mark.parametrize("knob", ["complete", "delay:60"])
async def test_what_went_back_or_is_on_its_way_is_not_there_to_be_taken(town: Town, knob: str) -> None:
    session = await town.captured()
    await town.knob(refunds=knob)
    await give_back(town, session, "ref_1")
    status, problem = await bank(town, session, "chargeback")
    assert (status, problem["code"]) == (409, "nothing_to_charge_back")


async def test_only_captured_money_is_taken_and_only_taken_money_comes_again(town: Town) -> None:
    waiting, paid = await town.open("pay_2"), await town.captured()
    for session, move, code in (
        (waiting, "chargeback", "payment_not_captured"),
        (waiting, "chargeback-reversal", "payment_not_charged_back"),
        (paid, "chargeback-reversal", "payment_not_charged_back"),
    ):
        status, problem = await bank(town, session, move)
        assert (status, problem["code"]) == (409, code)
    for move in ("chargeback", "chargeback-reversal"):
        async with town.http.post(f"{town.url}/test/payments/sbp_1/{move}") as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, "payment_not_found")
    assert (await books(town))[0] == ["capture"]


@pytest.mark.parametrize(
    "body", [{"telling": "twice"}, {"telling": None}, {"told": "once"}, [], {"outcome": "approve"}], ids=str
)
async def test_a_word_that_does_not_exist_moves_nothing(town: Town, body: Any) -> None:
    session = await town.captured()
    async with town.http.post(f"{session.test_url}/chargeback", json=body) as answer:
        assert (answer.status, (await answer.json())["code"]) == (422, "validation_failed")
    assert (await books(town))[0] == ["capture"]


async def test_the_shop_is_told_three_times_or_in_another_order_when_a_tester_says_so(town: Town) -> None:
    first, second = await town.captured("pay_1"), await town.captured("pay_2")
    await bank(town, first, "chargeback", "thrice")
    assert len({event.event_id for event in await town.shop.hears(3)}) == 1
    await bank(town, second, "chargeback", "disordered")
    kinds = [event.kind for event in (await town.shop.hears(5))[3:]]
    assert kinds == ["payment.charged_back", "payment.captured"]
    await bank(town, second, "chargeback-reversal", "disordered")
    events = (await town.shop.hears(7))[5:]
    assert [event.kind for event in events] == ["payment.chargeback_reversed", "payment.charged_back"]
    assert len({event.chargeback_ref for event in events}) == 1


async def test_a_successor_knows_what_banks_have(tmp_path: Path) -> None:
    """The control: killed, the service has nothing but its books."""
    state = tmp_path / "books.sqlite"
    async with shop_at() as shop, aiohttp.ClientSession() as http:
        async with process(state, shop.url) as (_, url), SandboxGateway(url, KEYS) as gateway:
            town = Town(shop, url, gateway, http)
            session = await town.captured()
            await bank(town, session, "chargeback")
        async with process(state, shop.url) as (_, url), SandboxGateway(url, KEYS) as gateway:
            town = Town(shop, url, gateway, http)
            assert await give_back(town, session, "ref_1") == "failed"
            path = f"/v1/payments/{session.gateway_ref}"
            assert (await town.ask("GET", path))[1]["charged_back"] is True
            assert (await books(town))[0] == ["capture", "chargeback"]
