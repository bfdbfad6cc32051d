"""Goal: the order side keeps its word over HTTP, with a gateway that is a service of its own.

Method: the API and the sandbox gateway on free ports (`tests.support.platform`), its webhooks over real
sockets. The log and the completers are turned in the background for as long as a test wants. Each test about
money ends by comparing our ledger with the gateway's own books.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import pytest_asyncio
from aiohttp import web

from checkout.gateways import SigningKeys, sign
from entrypoints.serving import build
from kernel import limits
from kernel.ids import hold_id_of
from runtime import keys
from runtime.http import Runner
from tests.support.engines import DatabaseMaker
from tests.support.platform import RunningPlatform, migrated, run_platform
from tests.support.service import Answer, Fan
from tests.support.shop import PaperGateway, Shop, until


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(
    valkey_url: str, make_database: DatabaseMaker, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningPlatform]:
    """The API and the sandbox; an order has two seconds to be paid, and its page a second and a half."""
    folder = tmp_path_factory.mktemp("platform")
    url = await make_database(migrated)
    async with run_platform(valkey_url, url, folder, roles=(), claim_ttl_ms=2_000) as started:
        yield started


@pytest.fixture
def shop(running: RunningPlatform) -> Shop:
    """The hands for it; its gateway on paper is not asked."""
    return Shop(running.platform, PaperGateway(), running.redis)


@asynccontextmanager
async def at_work(shop: Shop) -> AsyncIterator[None]:
    """Log and completers, turned until told to stop."""
    stop = asyncio.Event()

    async def turn() -> None:
        while not stop.is_set():
            await shop.write()
            await shop.complete()
            await asyncio.sleep(0.005)

    turning = asyncio.create_task(turn())
    try:
        yield
    finally:
        stop.set()
        await turning


@pytest_asyncio.fixture(loop_scope="session")
async def fan(running: RunningPlatform) -> Fan:
    return (await running.fans(1))[0]


async def ordered(fan: Fan, showtime_id: str, *labels: str) -> str:
    hold = await fan.hold(showtime_id, *labels)
    order = await fan.order(hold.body["hold_id"])
    assert order.status == 201, order.body
    return str(order.body["order_id"])


async def knob(running: RunningPlatform, **settings: Any) -> None:
    """Turn a knob of the sandbox."""
    answer = await running.request(
        "POST", f"{_sandbox(running)}/test/settings", json_body=settings, headers=_secret(running)
    )
    assert answer.status == 200


def _sandbox(running: RunningPlatform) -> str:
    url = running.platform.addresses.gateway_url
    assert url is not None
    return url


def _secret(running: RunningPlatform) -> dict[str, str]:
    secret = keys.gateway_secret(running.platform.settings).split()[0]
    return {"Authorization": f"Bearer {secret}"}


async def refund_is(fan: Fan, order_id: str, state: str) -> bool:
    """Whether the order's one refund is in this state."""
    (refund,) = (await fan.call("GET", f"/orders/{order_id}")).body["refunds"]
    return bool(refund["state"] == state)


async def books_agree(running: RunningPlatform, shop: Shop) -> None:
    """What the gateway says it took and gave back is what our ledger says it has (invariant I6)."""
    page = await running.request("GET", f"{_sandbox(running)}/v1/books", headers=_secret(running))
    (total,) = page.body["totals"]
    ours = await shop.one(
        "SELECT sum(amount)::bigint FROM checkout.ledger_entries WHERE account = 'gateway:sandbox'"
    )
    assert ours == total["captured"] - total["refunded"]
    unbalanced = (
        "SELECT FROM checkout.ledger_entries GROUP BY transaction_id, currency HAVING sum(amount) <> 0"
    )
    assert not await shop.sql(unbalanced)


# Webhooks


def signed(
    running: RunningPlatform, body: bytes, event_id: str, at: datetime | None = None
) -> dict[str, str]:
    secret = SigningKeys.parse(keys.gateway_secret(running.platform.settings))
    return sign(secret, event_id, body, at or datetime.now(UTC))


def event(reference: str = f"pay_{'0' * 26}", kind: str = "payment.captured") -> bytes:
    data = {"gateway_ref": "sbp_none", "reference": reference, "amount": 1, "currency": "CNY"}
    return orjson.dumps({"type": kind, "data": data})


async def webhook(running: RunningPlatform, body: bytes, headers: dict[str, str]) -> Answer:
    return await running.request("POST", "/webhooks/sandbox", data=body, headers=headers)


async def test_news_of_an_unknown_payment_are_taken_and_kept(running: RunningPlatform, shop: Shop) -> None:
    for _ in range(2):
        answer = await webhook(running, event(), signed(running, event(), "evt_orphan"))
        assert (answer.status, answer.body) == (200, {"received": True})
    found = await shop.sql("SELECT outcome FROM checkout.gateway_events WHERE event_id = 'evt_orphan'")
    assert [row["outcome"] for row in found] == ["orphan"]


@pytest.mark.parametrize(
    "body", [b"", b"null", b"\xff", b'{"type":"payment.disputed"}', b"[" * 10_000, event(kind="charge.back")]
)
async def test_well_signed_nonsense_is_kept_and_answered_well(
    running: RunningPlatform, shop: Shop, body: bytes
) -> None:
    event_id = f"evt_odd_{abs(hash(body))}"
    answer = await webhook(running, body, signed(running, body, event_id))
    assert answer.status == 200, answer.body
    kept = await shop.sql("SELECT body, outcome FROM checkout.gateway_events WHERE event_id = $1", event_id)
    assert [(row["body"], row["outcome"]) for row in kept] == [(body, "ignored")]


async def test_what_is_not_signed_is_neither_kept_nor_believed(running: RunningPlatform, shop: Shop) -> None:
    body = event()
    good = signed(running, body, "evt_forged")
    for headers, code in (
        ({}, "webhook_signature_invalid"),
        (good | {"webhook-signature": "v1,AAAA"}, "webhook_signature_invalid"),
        (good | {"webhook-id": "evt_other"}, "webhook_signature_invalid"),
        (
            signed(running, body, "evt_forged", datetime.now(UTC) - timedelta(days=30)),
            "webhook_timestamp_invalid",
        ),
    ):
        answer = await webhook(running, body, headers)
        assert (answer.status, answer.code) == (401, code)
    assert (await webhook(running, body + b" ", good)).status == 401
    assert not await shop.sql(
        "SELECT FROM checkout.gateway_events WHERE event_id IN ('evt_forged', 'evt_other')"
    )
    unknown = await running.request("POST", "/webhooks/gold", data=body, headers=good)
    assert (unknown.status, unknown.code) == (422, "unknown_gateway")


# Money


@pytest.mark.parametrize("outcome", ["approve", "duplicate", "reorder", "lose", "delay:0.2"])
async def test_however_the_gateway_tells_it_the_order_is_confirmed_once(
    running: RunningPlatform, shop: Shop, fan: Fan, outcome: str
) -> None:
    showtime_id = await running.add_showtime()
    async with at_work(shop):
        order_id = await ordered(fan, showtime_id, "D5", "D6")
        await fan.pay(order_id, outcome)
        if outcome == "lose":
            await shop.time_passes(1)  # not so long that the order ends, long enough to be asked about
            await shop.sql("UPDATE checkout.payments SET created_at = created_at - interval '4 seconds'")
        order = await fan.order_in(order_id, "confirmed")
    assert [ticket["seat"] for ticket in order["tickets"]] == ["D5", "D6"]
    assert [payment["state"] for payment in order["payments"]] == ["captured"]
    await books_agree(running, shop)


async def test_late_money_for_seats_of_another_comes_back_from_the_gateway(
    running: RunningPlatform, shop: Shop, fan: Fan
) -> None:
    showtime_id = await running.add_showtime()
    (rival,) = await running.fans(1)
    async with at_work(shop):
        order_id = await ordered(fan, showtime_id, "D5", "D6")
        payment = await fan.open_payment(order_id)
        await fan.order_in(order_id, "expired")
        await running.seats_left(showtime_id, 80)
        bought = await rival.buy(showtime_id, "D6", "D7")
        await running.decide(payment.body["next"]["test"]["url"], "late")
        order = await fan.order_in(order_id, "cancelled")
        assert order["end_reason"] == "seat_taken"
        await until(lambda: refund_is(fan, order_id, "completed"))
    (refund,) = order["refunds"]
    assert (refund["reason"], refund["total"]) == ("unfulfillable", order["total"])
    assert bought["state"] == "confirmed"
    await books_agree(running, shop)


async def test_a_refund_the_gateway_refuses_at_first_is_made_later(
    running: RunningPlatform, shop: Shop, fan: Fan
) -> None:
    showtime_id = await running.add_showtime()
    async with at_work(shop):
        order = await fan.buy(showtime_id, "A1", "A2")
        await knob(running, refunds="fail")
        asked = await fan.call("POST", f"/orders/{order['order_id']}/refunds", {})
        assert asked.status == 202
        await until(lambda: refund_is(fan, order["order_id"], "failed"))
        seen = (await fan.call("GET", f"/orders/{order['order_id']}")).body
        assert seen["state"] == "confirmed"
        assert {ticket["state"] for ticket in seen["tickets"]} == {"void"}
        await knob(running, refunds="complete")
        await shop.sql("UPDATE checkout.refunds SET asked_at = asked_at - interval '1 hour'")
        await fan.order_in(order["order_id"], "refunded")
        await running.seats_left(showtime_id, 80)
    await books_agree(running, shop)


@pytest.mark.parametrize("trouble", ["nobody is there", "somebody else is there"])
async def test_a_gateway_that_is_not_itself_is_503_and_the_retry_opens_one_session(
    running: RunningPlatform, shop: Shop, fan: Fan, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    showtime_id = await running.add_showtime()
    async with at_work(shop):
        order_id = await ordered(fan, showtime_id, "D5")
        with monkeypatch.context() as patch:
            elsewhere = "http://127.0.0.1:9" if trouble == "nobody is there" else f"{running.base_url}/docs"
            patch.setattr(running.platform.gateways["sandbox"], "_base_url", elsewhere)
            for _ in range(2):
                refused = await fan.open_payment(order_id, key="patient")
                assert (refused.status, refused.code) == (503, "gateway_unavailable")
                assert "Retry-After" in refused.headers
        opened = await fan.open_payment(order_id, key="patient")
        again = await fan.open_payment(order_id, key="patient")
        assert (opened.status, again.body) == (201, opened.body)
        assert again.headers["Idempotent-Replayed"] == "true"
        await running.decide(opened.body["next"]["test"]["url"], "approve")
        order = await fan.order_in(order_id, "confirmed")
    assert len(order["payments"]) == 1
    await books_agree(running, shop)


async def test_who_tries_to_pay_too_often_is_refused_and_nothing_is_kept_of_it(
    running: RunningPlatform, shop: Shop, fan: Fan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "payments_per_order_max", 3)
    showtime_id = await running.add_showtime()
    async with at_work(shop):
        order_id = await ordered(fan, showtime_id, "D5")
        tries = [await fan.open_payment(order_id, f"try-{number}") for number in range(5)]
        again = await fan.open_payment(order_id, "try-0")
    assert [(one.status, one.code) for one in tries[3:]] == [(409, "too_many_payments")] * 2
    assert again.body == tries[0].body
    kept = await shop.sql(
        "SELECT status FROM checkout.idempotency_keys WHERE account_id = $1", fan.account_id
    )
    assert [row["status"] for row in kept] == [201] * 4  # the order's, and those of three payments
    assert len([key async for key in running.redis.scan_iter(f"req:*:{fan.account_id}:*")]) == 4


# Orders


async def test_a_claim_the_arbiter_refuses_is_a_409_and_the_order_says_why(
    running: RunningPlatform, shop: Shop, fan: Fan
) -> None:
    showtime_id = await running.add_showtime()
    (rival,) = await running.fans(1)
    async with at_work(shop):
        first = await ordered(rival, showtime_id, "D5", "D6")
        await shop.platform.inventory.return_seats(hold_id_of(first), states=frozenset({"claimed"}))
        await shop.heard(showtime_id)
        hold = await fan.hold(showtime_id, "D6", "D7")
        refused = await fan.order(hold.body["hold_id"], key="once")
        assert (refused.status, refused.code) == (409, "seat_taken")
        again = await fan.order(hold.body["hold_id"], key="once")
        assert (again.status, again.body["code"]) == (409, "seat_taken")
        assert again.headers["Idempotent-Replayed"] == "true"
        (order,) = (await fan.call("GET", "/orders")).body["data"]
    assert (order["state"], order["end_reason"]) == ("cancelled", "seat_taken")


@asynccontextmanager
async def another_worker(running: RunningPlatform) -> AsyncIterator[RunningPlatform]:
    """One that has answered nobody yet."""
    listener = socket.create_server(("127.0.0.1", 0))
    api = Runner(build(running.platform))
    await api.setup()
    try:
        await web.SockSite(api, listener).start()
        yield replace(running, port=listener.getsockname()[1])
    finally:
        await api.cleanup()


async def test_an_answer_out_of_postgresql_is_the_first_answer(
    running: RunningPlatform, shop: Shop, fan: Fan
) -> None:
    """Days later, in another worker: what is to be repeated, and where to look at it."""
    showtime_id = await running.add_showtime()
    async with at_work(shop):
        hold = (await fan.hold(showtime_id, "D5")).body["hold_id"]
        placed = await fan.order(hold, key="order")
        order_id = placed.body["order_id"]
        opened = await fan.open_payment(order_id, key="pay")
        await running.decide(opened.body["next"]["test"]["url"], "approve")
        await fan.order_in(order_id, "confirmed")
        given_back = await fan.call("POST", f"/orders/{order_id}/refunds", key="back")
        await until(lambda: refund_is(fan, order_id, "completed"))
    await running.redis.delete(*[key async for key in running.redis.scan_iter("req:*")])
    async with another_worker(running) as elsewhere:
        there = Fan(elsewhere, fan.account_id, fan.token)  # type: ignore[arg-type]
        again = [
            await there.order(hold, key="order"),
            await there.open_payment(order_id, key="pay"),
            await there.call("POST", f"/orders/{order_id}/refunds", key="back"),
        ]
    names = ("Content-Type", "Location")
    for first, repeat in zip((placed, opened, given_back), again, strict=True):
        assert first.headers["Location"] == f"/api/v1/orders/{order_id}"
        assert repeat.headers["Idempotent-Replayed"] == "true"
        assert (repeat.status, repeat.body) == (first.status, first.body)
        assert [repeat.headers.get(name) for name in names] == [first.headers[name] for name in names]


@pytest.mark.parametrize("place", [b"1:ord_\0", b"1:", b"x", b"\xff", b"1:'; --", b"9" * 40 + b":ord_1"])
async def test_a_forged_cursor_is_a_400(running: RunningPlatform, fan: Fan, place: bytes) -> None:
    cursor = base64.urlsafe_b64encode(place).decode().rstrip("=")
    answer = await fan.call("GET", f"/orders?cursor={cursor}")
    assert (answer.status, answer.code) == (400, "invalid_cursor")


async def test_pages_of_orders_over_http_miss_none(running: RunningPlatform, shop: Shop, fan: Fan) -> None:
    showtime_id = await running.add_showtime()
    async with at_work(shop):
        placed = {await ordered(fan, showtime_id, f"{row}1") for row in "ABCDEFG"}
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await fan.call("GET", f"/orders?limit=3{cursor}")).body
        seen += [item["order_id"] for item in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert sorted(seen) == sorted(placed)
