"""Requests that are good and come too early, too late or at a closed door.

Goal: rows B21, B22, B33 to B35 of the bad-input catalogue with the statuses of the public contract, and item
S22: what is over says so, what is not yet says when, nobody pays by coming back, and nothing of it changes
anything. Method: an instance whose holds live one and a half seconds and whose orders wait four for their
payment; everything is made at the beginning and looked at when its time has come. What is paid in the end is
paid at the usual instance, where there is time for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest_asyncio

from kernel import limits
from kernel.clock import rfc3339
from tests.support.contract import nothing_changes, refused
from tests.support.service import Answer, Fan, Service, running_service

HOLD_S = 1.5
CLAIM_S = 4.0


@dataclass
class Past:
    """Things whose time is over, and when each began."""

    service: Service
    fan: Fan
    showtime_id: str
    hold_id: str
    order_id: str
    paying_order_id: str
    paying_url: str
    began: float

    async def until(self, age_s: float) -> None:
        """Wait until everything is this old."""
        await asyncio.sleep(max(0.0, self.began + age_s - time.monotonic()))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hasty() -> AsyncIterator[Service]:
    lives = {
        "SEATRUSH_HOLD_TTL_MS": str(int(HOLD_S * 1000)),
        "SEATRUSH_CLAIM_TTL_MS": str(int(CLAIM_S * 1000)),
    }
    async with running_service("--no-demo", **lives) as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def past(hasty: Service) -> Past:
    showtime_id = await hasty.add_showtime()
    (fan,) = await hasty.fans(1)
    orders: list[str] = []
    for labels in (("A1", "A2"), ("B1", "B2")):
        hold = await fan.hold(showtime_id, *labels)
        orders.append((await fan.order(hold.body["hold_id"])).body["order_id"])
    payment = await fan.open_payment(orders[1])
    hold = await fan.hold(showtime_id, "C1", "C2")
    assert hold.status == 201
    url = payment.body["next"]["test"]["url"]
    hold_id = hold.body["hold_id"]
    return Past(hasty, fan, showtime_id, hold_id, orders[0], orders[1], url, time.monotonic())


async def test_b22_an_expired_hold_is_gone_for_every_call(past: Past) -> None:
    path = f"/holds/{past.hold_id}"
    for age_s in (HOLD_S + 0.1, HOLD_S + 1.5):  # at once, and after the reaper has been there
        await past.until(age_s)
        async with nothing_changes(past.service):
            for method, address, body in (
                ("GET", path, None),
                ("POST", f"{path}/extension", None),
                ("DELETE", path, None),
                ("POST", "/orders", {"hold_id": past.hold_id}),
            ):
                refused(await past.fan.call(method, address, body), 410, "hold_expired")


async def test_the_seats_of_an_expired_hold_are_anybodys(past: Past) -> None:
    await past.until(HOLD_S + 0.2)
    (other,) = await past.service.fans(1)
    assert (await other.hold(past.showtime_id, "C1", "C2")).status == 201


async def test_an_expired_hold_of_somebody_else_is_still_nothing(past: Past) -> None:
    await past.until(HOLD_S + 0.2)
    (stranger,) = await past.service.fans(1)
    path = f"/holds/{past.hold_id}"
    async with nothing_changes(past.service, past.showtime_id):
        for method, address in (("GET", path), ("DELETE", path), ("POST", f"{path}/extension")):
            refused(await stranger.call(method, address), 404, "not_found")
        refused(await stranger.order(past.hold_id), 404, "not_found")


async def test_an_order_whose_time_is_over_takes_no_payment(past: Past) -> None:
    await past.until(CLAIM_S + 0.2)
    for order_id in (past.order_id, past.paying_order_id):
        async with nothing_changes(past.service):
            refused(await past.fan.open_payment(order_id), 410, "order_expired")
    expired = await past.fan.order_in(past.order_id, "expired")
    assert expired["tickets"] == []
    async with nothing_changes(past.service):
        refused(await past.fan.open_payment(past.order_id), 410, "order_expired")
        for call in ("refund-quotes", "refunds"):
            answer = await past.fan.call("POST", f"/orders/{past.order_id}/{call}", {})
            refused(answer, 409, "invalid_state")


async def test_money_that_comes_after_the_end_does_not_make_a_sale_of_taken_seats(past: Past) -> None:
    await past.fan.order_in(past.paying_order_id, "expired")
    (other,) = await past.service.fans(1)
    taken = await other.hold(past.showtime_id, "B1", "B2")
    assert taken.status == 201, taken.body
    await past.service.request("POST", past.paying_url, json_body={"outcome": "approve"})
    await asyncio.sleep(0.3)
    order = (await past.fan.call("GET", f"/orders/{past.paying_order_id}")).body
    assert order["tickets"] == []
    assert order["state"] != "confirmed"


async def test_b33_what_was_paid_is_not_paid_again_and_what_was_not_is_not_refunded(hasty: Service) -> None:
    showtime_id = await hasty.add_showtime()
    (fan,) = await hasty.fans(1)
    hold = await fan.hold(showtime_id, "A1", "A2", "A3")
    order_id = (await fan.order(hold.body["hold_id"])).body["order_id"]
    path = f"/orders/{order_id}"
    async with nothing_changes(hasty, showtime_id):
        refused(await fan.call("POST", f"{path}/refunds", {}), 409, "invalid_state")
        refused(await fan.call("POST", f"{path}/refund-quotes", {}), 409, "invalid_state")
        refused(await fan.call("DELETE", f"/holds/{hold.body['hold_id']}"), 409, "hold_claimed")
        refused(await fan.call("POST", f"/holds/{hold.body['hold_id']}/extension"), 409, "hold_claimed")
    await fan.pay(order_id)
    order = await fan.order_in(order_id, "confirmed")
    tickets = [ticket["ticket_id"] for ticket in order["tickets"]]
    async with nothing_changes(hasty, showtime_id):
        refused(await fan.open_payment(order_id), 409, "already_paid")
        for ticket_ids in ([], tickets[:1], [*tickets, tickets[0]], ["tkt_" + "0" * 26], [*tickets, "x"]):
            for call in ("refund-quotes", "refunds"):
                answer = await fan.call("POST", f"{path}/{call}", {"ticket_ids": ticket_ids})
                refused(answer, 422, "validation_failed")
    assert (await fan.call("POST", f"{path}/refunds", {})).status == 202
    for call in ("refund-quotes", "refunds"):
        refused(await fan.call("POST", f"{path}/{call}", {}), 409, "already_refunded")
    refused(await fan.open_payment(order_id), 409, "already_paid")


async def test_b35_once_the_film_has_begun_nothing_is_refunded(hasty: Service) -> None:
    showtime_id = await hasty.add_showtime(starts_at=datetime.now(UTC) - timedelta(minutes=1))
    (fan,) = await hasty.fans(1)
    order = await fan.buy(showtime_id, "A1", "A2")
    async with nothing_changes(hasty, showtime_id):
        for call in ("refund-quotes", "refunds"):
            answer = await fan.call("POST", f"/orders/{order['order_id']}/{call}", {})
            refused(answer, 409, "refund_not_allowed")


async def _both_ways(fan: Fan, showtime_id: str) -> list[Answer]:
    """Named and best seats: two ways through the code, one answer."""
    return [await fan.hold(showtime_id, "D5", "D6"), await fan.hold_best(showtime_id, 2)]


async def test_b21_a_sale_that_is_not_open_says_when_it_opens(hasty: Service) -> None:
    opens_at = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    showtime_id = await hasty.add_showtime(opens_at=opens_at)
    (fan,) = await hasty.fans(1)
    async with nothing_changes(hasty, showtime_id):
        for answer in await _both_ways(fan, showtime_id):
            problem = refused(answer, 409, "sale_not_open")
            assert problem["opens_at"] == rfc3339(opens_at)
    showtime = await hasty.request("GET", f"/showtimes/{showtime_id}")
    assert showtime.body["sale"]["opens_at"] == rfc3339(opens_at)


async def test_a_sale_opens_at_its_instant(hasty: Service) -> None:
    opens_at = datetime.now(UTC) + timedelta(seconds=1)
    showtime_id = await hasty.add_showtime(opens_at=opens_at)
    (fan,) = await hasty.fans(1)
    refused(await fan.hold(showtime_id, "D5", "D6"), 409, "sale_not_open")
    await asyncio.sleep((opens_at - datetime.now(UTC)).total_seconds() + 0.05)
    assert (await fan.hold(showtime_id, "D5", "D6")).status == 201


async def test_b21_a_sale_closes_at_its_instant(service: Service) -> None:
    showtime_id = await service.add_showtime()
    fan, other = await service.fans(2)
    assert service.platform is not None
    closes_at = datetime.now(UTC) + timedelta(seconds=4)
    await service.platform.sales.change_sale(showtime_id, closes_at=closes_at)
    hold = await fan.hold(showtime_id, "A1", "A2")
    assert hold.status == 201, hold.body
    order = await fan.order(hold.body["hold_id"])
    assert order.status == 201, order.body
    await asyncio.sleep((closes_at - datetime.now(UTC)).total_seconds() + 0.05)
    async with nothing_changes(service, showtime_id):
        for answer in await _both_ways(other, showtime_id):
            refused(answer, 409, "sale_closed")
    await fan.pay(order.body["order_id"])  # what was ordered in time may be paid until its own deadline
    await fan.order_in(order.body["order_id"], "confirmed")


async def _with_phase(service: Service, phase: Any) -> tuple[str, Fan]:
    showtime_id = await service.add_showtime()
    assert service.platform is not None
    await service.platform.sales.change_sale(showtime_id, phase=phase)
    (fan,) = await service.fans(1)
    return showtime_id, fan


async def test_a_closed_sale_sells_nothing(hasty: Service) -> None:
    showtime_id, fan = await _with_phase(hasty, "closed")
    async with nothing_changes(hasty, showtime_id):
        for answer in await _both_ways(fan, showtime_id):
            refused(answer, 409, "sale_closed")


async def test_a_paused_sale_takes_no_new_holds_and_says_no_time(hasty: Service) -> None:
    showtime_id, fan = await _with_phase(hasty, "paused")
    async with nothing_changes(hasty, showtime_id):
        for answer in await _both_ways(fan, showtime_id):
            refused(answer, 409, "sale_not_open")


async def test_orders_go_on_while_a_sale_is_paused(hasty: Service) -> None:
    showtime_id = await hasty.add_showtime()
    (fan,) = await hasty.fans(1)
    hold = await fan.hold(showtime_id, "D5", "D6")
    assert hasty.platform is not None
    await hasty.platform.sales.change_sale(showtime_id, phase="paused")
    order = await fan.order(hold.body["hold_id"])
    assert order.status == 201, order.body
    await fan.pay(order.body["order_id"])
    await fan.order_in(order.body["order_id"], "confirmed")


async def test_an_extension_begins_when_it_is_asked_for(hasty: Service) -> None:
    showtime_id = await hasty.add_showtime()
    (fan,) = await hasty.fans(1)
    hold = await fan.hold(showtime_id, "D5", "D6")
    await asyncio.sleep(0.01)
    longer = await fan.call("POST", f"/holds/{hold.body['hold_id']}/extension")
    assert longer.status == 200
    assert longer.body["expires_at"] > hold.body["expires_at"]


async def test_a_hold_that_has_its_longest_life_is_not_extended() -> None:
    async with running_service("--no-demo", SEATRUSH_HOLD_TTL_MS=str(limits.hold_lifetime_ms_max)) as patient:
        showtime_id = await patient.add_showtime()
        (fan,) = await patient.fans(1)
        hold = await fan.hold(showtime_id, "D5", "D6")
        path = f"/holds/{hold.body['hold_id']}"
        await asyncio.sleep(0.01)
        async with nothing_changes(patient, showtime_id):
            refused(await fan.call("POST", f"{path}/extension"), 409, "hold_not_extendable")
        assert (await fan.call("GET", path)).body["expires_at"] == hold.body["expires_at"]


async def _path_to_pay(service: Service) -> tuple[Fan, str, str]:
    showtime_id = await service.add_showtime()
    (fan,) = await service.fans(1)
    hold = await fan.hold(showtime_id, "D5", "D6")
    order = await fan.order(hold.body["hold_id"])
    return fan, showtime_id, f"/orders/{order.body['order_id']}/payments"


async def test_a_gateway_that_does_not_exist_opens_no_payment(hasty: Service) -> None:
    fan, showtime_id, path = await _path_to_pay(hasty)
    async with nothing_changes(hasty, showtime_id):
        for gateway in ("paypal", "Sandbox", "sandbox ", "../sandbox", "x" * 40):
            refused(
                await fan.call("POST", path, {"gateway": gateway}), 422, "unknown_gateway", sent=(gateway,)
            )


async def test_s22_who_only_comes_back_from_the_gateway_has_paid_nothing(service: Service) -> None:
    """The page a fan comes back to is an address anybody can write; only the gateway's own word counts."""
    fan, showtime_id, path = await _path_to_pay(service)
    order_path = path.removesuffix("/payments")
    body = {"gateway": "sandbox", "return_url": f"{service.base_url}/api/v1{order_path}"}
    payment = await fan.call("POST", path, body)
    assert payment.status == 201, payment.body
    assert (await service.request("GET", payment.body["next"]["url"])).status == 200, "looked at, not paid"
    async with nothing_changes(service, showtime_id):
        for query in (
            "state=captured",
            "payment_status=success&paid=true",
            f"payment={payment.body['payment_id']}",
        ):
            refused(await fan.call("GET", f"{order_path}?{query}"), 422, "validation_failed")
        for method in ("POST", "PUT", "PATCH"):
            said = await fan.call(method, order_path, {"state": "paid"})
            refused(said, 405, "method_not_allowed")
    order = (await fan.call("GET", order_path)).body
    assert (order["state"], order["tickets"]) == ("pending_payment", [])
    await service.decide(payment.body["next"]["test"]["url"], "approve")
    await fan.order_in(order["order_id"], "confirmed")


ODD_WAYS_BACK = (
    "not an address",
    "javascript:alert(1)",
    "data:text/html,x",
    "file:///etc/passwd",
    "//evil.example",
    "/relative",
    "http://",
    "https:///path",
    "ftp://example.com/x",
    "https://user:password@example.com/",
    "https://exa mple.com/",
    "https://example.com/ü",
)


async def test_a_way_back_that_is_no_web_address_opens_no_payment(hasty: Service) -> None:
    fan, showtime_id, path = await _path_to_pay(hasty)
    wrong = []
    async with nothing_changes(hasty, showtime_id):
        for return_url in ODD_WAYS_BACK:
            answer = await fan.call("POST", path, {"gateway": "sandbox", "return_url": return_url})
            try:
                refused(answer, 422, "validation_failed", sent=(return_url,))
            except AssertionError as error:
                wrong.append(f"{return_url}: {error}")
        assert not wrong, "\n".join(wrong)


async def test_control_a_web_address_is_a_way_back(hasty: Service) -> None:
    fan, _, path = await _path_to_pay(hasty)
    body = {"gateway": "sandbox", "return_url": "https://tickets.example:8443/back?order=1#top"}
    assert (await fan.call("POST", path, body)).status == 201
