"""Goal: the sandbox does what each outcome says, forgets nothing, and never pays twice.

Method: the real service and a real shop on free ports (`tests.support.sandbox_town`). Two tests run the
service as a process and kill it with SIGKILL, in the middle of a burst and while it owes a webhook and a
capture; then they ask the successor.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from checkout.errors import GatewayUnavailable
from checkout.gateways import SandboxGateway, SigningKeys, new_secret
from checkout.ports import GatewaySession
from entrypoints.sandbox_gateway import courier, outbox, serving
from kernel.money import Money
from tests.support.sandbox_town import KEYS, PRICE, SECRET, Town, process, shop_at, town_in, until


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with town_in(tmp_path) as built:
        yield built


async def test_approve_is_the_default_and_tells_the_shop_once(town: Town) -> None:
    session = await town.open()
    assert (session.state, await town.state(session)) == ("pending", "pending")
    status, answer = await town.play(session)
    assert (status, answer) == (202, {"gateway_ref": session.gateway_ref, "state": "captured"})
    (event,) = await town.shop.hears(1)
    assert (event.kind, event.gateway_ref, event.reference, event.amount) == (
        "payment.captured",
        session.gateway_ref,
        "pay_1",
        PRICE,
    )
    assert await town.state(session) == "captured"


async def test_decline_fails_and_a_second_card_may_still_succeed(town: Town) -> None:
    session = await town.open()
    assert (await town.play(session, "decline"))[1]["state"] == "failed"
    assert await town.state(session) == "failed"
    assert (await town.play(session, "approve"))[1]["state"] == "captured"
    assert {event.kind for event in await town.shop.hears(2)} == {"payment.failed", "payment.captured"}


async def test_a_delay_captures_and_tells_later_even_after_the_session_ended(town: Town) -> None:
    session = await town.open(seconds=0.3)
    assert (await town.play(session, "delay:0.6"))[1]["state"] == "pending"
    await asyncio.sleep(0.4)
    assert (await town.state(session), town.shop.events) == ("pending", [])
    (event,) = await town.shop.hears(1)
    assert (event.kind, await town.state(session)) == ("payment.captured", "captured")


async def test_duplicate_delivers_one_event_three_times_at_once(town: Town) -> None:
    town.shop.hold_s = 0.2
    await town.play(await town.open(), "duplicate")
    events = await town.shop.hears(3)
    assert len({event.event_id for event in events}) == 1
    assert town.shop.at_once_max == 3


async def test_lose_is_found_only_by_asking(town: Town) -> None:
    session = await town.open()
    await town.play(session, "lose")
    assert await town.shop.hears(0) == []
    assert await town.state(session) == "captured"


async def test_reorder_brings_the_earlier_failure_after_the_success(town: Town) -> None:
    town.shop.status = 500  # the success must be delivered before the failure may follow
    session = await town.open()
    await town.play(session, "reorder")
    await until(lambda: len(town.shop.events) == 2)
    assert {event.kind for event in town.shop.events} == {"payment.captured"}
    town.shop.status = 200
    events = await town.shop.hears(4)
    assert [event.kind for event in events[2:]] == ["payment.captured", "payment.failed"]
    assert b'"timestamp":' in events[3].raw
    assert events[3].raw.split(b'"timestamp":')[1] < events[2].raw.split(b'"timestamp":')[1]
    assert await town.state(session) == "captured"


async def test_an_expired_session_takes_no_money_except_late(town: Town) -> None:
    session = await town.open(seconds=-1)
    assert await town.state(session) == "failed"
    for outcome in ("approve", "decline", "delay:1", "duplicate", "lose", "reorder"):
        status, problem = await town.play(session, outcome)
        assert (status, problem["code"]) == (409, "session_expired")
    assert (await town.play(session, "late"))[1]["state"] == "captured"
    assert (await town.shop.hears(1))[0].kind == "payment.captured"


async def test_a_captured_payment_cannot_be_changed_by_any_outcome(town: Town) -> None:
    session = await town.open()
    await town.play(session, "approve")
    for outcome in ("approve", "decline", "delay:0", "duplicate", "lose", "reorder", "late"):
        assert await town.play(session, outcome) == (
            202,
            {"gateway_ref": session.gateway_ref, "state": "captured"},
        )
    await town.shop.hears(1)
    _, books = await town.ask("GET", "/v1/books")
    assert [entry["kind"] for entry in books["data"]] == ["capture"]


@pytest.mark.parametrize("word", ["", "APPROVE", "delay", "delay:", "delay:-1", "delay:3601", "delay:1e3"])
async def test_an_outcome_that_does_not_exist_is_refused(town: Town, word: str) -> None:
    session = await town.open()
    status, problem = await town.play(session, word)
    assert (status, problem["code"]) == (422, "validation_failed")
    assert await town.state(session) == "pending"


async def test_one_payment_has_one_session_however_often_it_is_opened(town: Town) -> None:
    sessions = await asyncio.gather(*(town.open() for _ in range(20)))
    assert len({session.gateway_ref for session in sessions}) == 1
    with pytest.raises(GatewayUnavailable) as refusal:
        await town.open(amount=Money(1, "CNY"))
    assert "idempotency_key_reused" in refusal.value.reason
    _, listed = await town.ask("GET", "/v1/payments?reference=pay_1")
    assert [payment["gateway_ref"] for payment in listed["data"]] == [sessions[0].gateway_ref]


async def test_a_refund_happens_once_and_the_books_show_it(town: Town) -> None:
    session = await town.captured()
    refunds = await asyncio.gather(
        *(
            town.gateway.refund(refund_id="ref_1", gateway_ref=session.gateway_ref, amount=PRICE)
            for _ in range(20)
        )
    )
    assert {refund.state for refund in refunds} == {"completed"}
    assert len({refund.gateway_ref for refund in refunds}) == 1
    (event,) = await town.shop.hears(1)
    assert (event.kind, event.reference, event.amount) == ("refund.completed", "ref_1", PRICE)
    assert await town.gateway.find_refund("ref_1") == refunds[0]
    assert await town.gateway.find_refund("ref_2") is None
    _, books = await town.ask("GET", "/v1/books")
    (totals,) = books["totals"]
    assert {name: count for name, count in totals.items() if count} == {
        "currency": "CNY",
        "captured": 4990,
        "refunded": 4990,
        "captures": 1,
        "refunds": 1,
    }


async def test_partial_refunds_never_exceed_what_was_captured(town: Town) -> None:
    session = await town.captured()
    states = [
        (await refund).state
        for refund in [
            asyncio.ensure_future(
                town.gateway.refund(
                    refund_id=f"ref_{i}", gateway_ref=session.gateway_ref, amount=Money(1000, "CNY")
                )
            )
            for i in range(20)
        ]
    ]
    assert sorted(states) == ["completed"] * 4 + ["failed"] * 16
    _, books = await town.ask("GET", "/v1/books")
    assert books["totals"][0]["refunded"] == 4000


async def test_what_cannot_be_refunded_is_refused_for_good(town: Town) -> None:
    captured, waiting = await town.captured(), await town.open("pay_2")
    for ref, amount in (
        ("sbp_nothing", PRICE),
        (waiting.gateway_ref, PRICE),
        (captured.gateway_ref, Money(4990, "EUR")),
        (captured.gateway_ref, Money(4991, "CNY")),
    ):
        refund = await town.gateway.refund(refund_id=f"ref_{ref}", gateway_ref=ref, amount=amount)
        assert (refund.state, refund.gateway_ref) == ("failed", None)
    assert (await town.ask("GET", "/v1/books"))[1]["totals"][0]["refunds"] == 0


async def test_the_knob_makes_refunds_fail_wait_or_stay_untold(town: Town) -> None:
    session = await town.captured()

    async def give_back(refund_id: str) -> str:
        refund = await town.gateway.refund(
            refund_id=refund_id, gateway_ref=session.gateway_ref, amount=Money(1000, "CNY")
        )
        return refund.state

    await town.knob(refunds="fail")
    assert await give_back("ref_1") == "failed"
    await town.shop.hears(1)
    await town.knob(refunds="delay:0.2")
    assert (await give_back("ref_1"), await give_back("ref_1")) == ("sent", "sent")
    await town.shop.hears(2)
    assert await give_back("ref_1") == "completed"
    await town.knob(refunds="lose")
    assert await give_back("ref_2") == "completed"
    assert [event.kind for event in await town.shop.hears(2)] == ["refund.failed", "refund.completed"]
    assert (await town.ask("GET", "/v1/books"))[1]["totals"][0]["refunded"] == 2000
    assert (await town.ask("POST", "/test/settings", json={"refunds": "vanish"}))[0] == 422


async def test_a_reply_that_comes_too_late_leaves_one_session_and_one_refund(town: Town) -> None:
    await town.knob(answer_delay_ms=400)
    async with SandboxGateway(town.url, KEYS, deadline_s=0.2) as hasty:
        with pytest.raises(GatewayUnavailable):
            await hasty.open_session(
                payment_id="pay_1",
                order_id="ord_1",
                amount=PRICE,
                expires_at=datetime.now(UTC) + timedelta(minutes=5),
                return_url=None,
            )
        session = await town.captured()
        refund = await hasty.refund(refund_id="ref_1", gateway_ref=session.gateway_ref, amount=PRICE)
        assert (refund.state, refund.gateway_ref) == ("unknown", None)
        found = await hasty.find_refund("ref_1")
        assert found
        assert found.state == "completed"
    await town.gateway.refund(refund_id="ref_1", gateway_ref=session.gateway_ref, amount=PRICE)
    _, books = await town.ask("GET", "/v1/books")
    assert [entry["kind"] for entry in books["data"]] == ["capture", "refund"]


async def test_a_webhook_is_repeated_until_the_shop_has_taken_it(town: Town) -> None:
    town.shop.status = 503
    await town.play(await town.open(), "approve")
    await until(lambda: len(town.shop.events) == 2)
    assert (await town.ask("GET", "/v1/books"))[1]["webhooks_waiting"] == 1
    town.shop.status = 204
    events = await town.shop.hears(3)
    assert len({event.event_id for event in events}) == 1
    await asyncio.sleep(0.1)
    assert (await town.ask("GET", "/v1/books"))[1]["webhooks_waiting"] == 0


async def test_events_that_do_not_fit_into_the_bag_are_delivered_too(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "_BAG_MAX", 4)
    monkeypatch.setattr(courier, "SCAN_MAX", 3)
    monkeypatch.setattr(outbox, "SCAN_MAX", 3)
    town.shop.hold_s = 0.05
    sessions = await asyncio.gather(*(town.open(f"pay_{number}") for number in range(40)))
    await asyncio.gather(*(town.play(session) for session in sessions))
    events = await town.shop.hears(40)
    assert {event.reference for event in events} == {f"pay_{number}" for number in range(40)}
    assert town.shop.at_once_max <= 4


async def test_while_the_secret_is_changed_nobody_is_refused(tmp_path: Path) -> None:
    new = new_secret()
    async with (
        shop_at() as shop,
        serving("127.0.0.1", 0, tmp_path / "books.sqlite", shop.url, f"{new} {SECRET}") as service,
        SandboxGateway(service.url, KEYS) as behind,
        SandboxGateway(service.url, SigningKeys.parse(new)) as ahead,
        SandboxGateway(service.url, SigningKeys.parse(new_secret())) as stranger,
        aiohttp.ClientSession() as http,
    ):
        session = await Town(shop, service.url, behind, http).open()
        assert await Town(shop, service.url, ahead, http).open() == session
        with pytest.raises(GatewayUnavailable):
            await Town(shop, service.url, stranger, http).open()
        await Town(shop, service.url, ahead, http).play(session)
        assert (await shop.hears(1))[0].kind == "payment.captured", "the shop still has the old secret"


@dataclass
class Burst:
    """Buyers who pay as fast as they can, and what they were told."""

    sessions: dict[str, GatewaySession] = field(default_factory=dict)
    approved: set[str] = field(default_factory=set)

    async def buy(self, town: Town, payment_id: str) -> None:
        with suppress(GatewayUnavailable, aiohttp.ClientError):
            self.sessions[payment_id] = session = await town.open(payment_id)
            status, _ = await town.play(session, "approve")
            assert status == 202
            self.approved.add(payment_id)


async def test_killed_in_the_middle_of_a_burst_it_forgets_nothing_it_said(tmp_path: Path) -> None:
    state, burst = tmp_path / "books.sqlite", Burst()
    async with shop_at() as shop, aiohttp.ClientSession() as http:
        async with process(state, shop.url) as (service, url), SandboxGateway(url, KEYS) as gateway:
            town = Town(shop, url, gateway, http)
            buyers = [asyncio.create_task(burst.buy(town, f"pay_{number}")) for number in range(600)]
            await until(lambda: len(burst.approved) >= 60)
            service.kill()
            await asyncio.gather(*buyers)
        assert 60 <= len(burst.approved) < 600, "the control: the kill came in the middle"
        async with process(state, shop.url) as (_, url), SandboxGateway(url, KEYS) as gateway:
            town = Town(shop, url, gateway, http)
            for session in burst.sessions.values():
                assert await gateway.find_payment(session.gateway_ref) is not None
            captured, cursor = [], "0"
            while cursor:
                _, page = await town.ask("GET", f"/v1/books?cursor={cursor}")
                captured += [entry["reference"] for entry in page["data"]]
                cursor = page["next_cursor"]
            assert burst.approved <= set(captured)
            assert len(captured) == len(set(captured)) == page["totals"][0]["captures"]
            await until(lambda: {event.reference for event in shop.events} == set(captured), within_s=20)
            assert len({event.event_id for event in shop.events}) == len(captured)


async def test_a_successor_delivers_what_is_owed_and_keeps_the_agenda(tmp_path: Path) -> None:
    state = tmp_path / "books.sqlite"
    async with shop_at() as shop, aiohttp.ClientSession() as http:
        shop.status = 500
        async with process(state, shop.url) as (_, url), SandboxGateway(url, KEYS) as gateway:
            town = Town(shop, url, gateway, http)
            first, second = await town.open("pay_1"), await town.open("pay_2")
            await town.knob(refunds="fail")
            await town.play(first, "approve")
            await town.play(second, "delay:1")
            await until(lambda: len(shop.events) > 0)
        owed = len(shop.events)
        shop.status = 200
        async with process(state, shop.url) as (_, url), SandboxGateway(url, KEYS) as gateway:
            town = Town(shop, url, gateway, http)
            events = (await shop.hears(owed + 2, within_s=10))[owed:]
            assert {event.reference for event in events} == {"pay_1", "pay_2"}
            assert shop.events[0].event_id in {event.event_id for event in events}
            assert [await town.state(first), await town.state(second)] == ["captured", "captured"]
            assert (await town.open("pay_1")).gateway_ref == first.gateway_ref
            assert (await town.ask("GET", "/test/settings"))[1]["refunds"] == "fail"
