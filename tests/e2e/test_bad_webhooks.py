"""Webhooks that are not what they say.

Goal: rows B52 and B53 of the bad-input catalogue: only who knows the gateway's secret is listened to, what is
true and makes no sense is kept and has no effect, and nothing anybody sends confirms an order. Method: an
order waits for its payment while the table is sent to the real service; the control at the end pays it by a
webhook of our own making.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from checkout.gateways import SigningKeys, new_secret, sign
from kernel import limits
from runtime import keys
from runtime.settings import load
from tests.support.contract import CANARY, nothing_changes, refused, send
from tests.support.service import Answer, Fan, Service

PATH = "/webhooks/sandbox"


@dataclass
class Waiting:
    """An order that waits for its payment, and the true event that would pay it."""

    service: Service
    fan: Fan
    showtime_id: str
    order_id: str
    payment: Mapping[str, Any]
    gateway_ref: str

    def event(self, kind: str = "payment.captured", **changes: Any) -> bytes:
        data = {
            "gateway_ref": self.gateway_ref,
            "reference": self.payment["payment_id"],
            "amount": self.payment["amount"]["amount"],
            "currency": "CNY",
            **changes,
        }
        return json.dumps({"type": kind, "data": data}).encode()

    @property
    def secret(self) -> SigningKeys:
        return SigningKeys.parse(keys.gateway_secret(load(self.service.environment)))

    def signed(
        self, body: bytes, *, at: datetime | None = None, event_id: str | None = None
    ) -> dict[str, str]:
        return sign(self.secret, event_id or f"evt_{self.service.new_key()}", body, at or datetime.now(UTC))

    async def tell(self, body: bytes | None, headers: Mapping[str, str], path: str = PATH) -> Answer:
        return await send(self.service, "POST", path, body=body, headers=[*headers.items()])

    async def is_still_waiting(self) -> None:
        order = (await self.fan.call("GET", f"/orders/{self.order_id}")).body
        assert order["state"] == "pending_payment"
        (payment,) = order["payments"]
        assert payment["state"] in {"pending", "unknown"}
        assert order["tickets"] == []


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def waiting(service: Service) -> AsyncIterator[Waiting]:
    showtime_id = await service.add_showtime()
    (fan,) = await service.fans(1)
    hold = await fan.hold(showtime_id, "D5", "D6")
    assert hold.status == 201, hold.body
    order = await fan.order(hold.body["hold_id"])
    assert order.status == 201, order.body
    payment = await fan.open_payment(order.body["order_id"])
    assert payment.status == 201, payment.body
    gateway_ref = payment.body["next"]["url"].rpartition("/")[2]
    yield Waiting(service, fan, showtime_id, order.body["order_id"], payment.body, gateway_ref)


BAD_SIGNATURES = (
    "no headers",
    "no signature",
    "no id",
    "no timestamp",
    "another secret",
    "another body",
    "a mutated signature",
    "a signature in another case",
    "another version",
    "an empty signature",
    "another id",
    "another timestamp",
    "a timestamp with a sign",
    "a timestamp in other digits",
    "an id with a dot",
    "an id with a space",
    "two signature headers",
    "more signatures than secrets make",
)


def _spoilt(waiting: Waiting, what: str, body: bytes) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body of a delivery that is genuine but for one thing."""
    good = waiting.signed(body)
    first = good["webhook-signature"]
    changed = {
        "no headers": {},
        "no signature": {k: v for k, v in good.items() if k != "webhook-signature"},
        "no id": {k: v for k, v in good.items() if k != "webhook-id"},
        "no timestamp": {k: v for k, v in good.items() if k != "webhook-timestamp"},
        "another secret": sign(SigningKeys.parse(new_secret()), "evt_1", body, datetime.now(UTC)),
        "another body": waiting.signed(body + b" "),
        "a mutated signature": {
            **good,
            "webhook-signature": first[:-2] + ("A=" if first[-2] != "A" else "B="),
        },
        "a signature in another case": {**good, "webhook-signature": first.swapcase()},
        "another version": {**good, "webhook-signature": first.replace("v1,", "v2,")},
        "an empty signature": {**good, "webhook-signature": ""},
        "another id": {**good, "webhook-id": "evt_other"},
        "another timestamp": {**good, "webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)},
        "a timestamp with a sign": {**good, "webhook-timestamp": f"+{good['webhook-timestamp']}"},
        "a timestamp in other digits": {**good, "webhook-timestamp": "١٧٠٠٠٠٠٠٠٠"},
        "an id with a dot": {**good, "webhook-id": "evt.1"},
        "an id with a space": {**good, "webhook-id": "evt 1"},
        "two signature headers": good,
        "more signatures than secrets make": {
            **good,
            "webhook-signature": " ".join([first, *["v1,AAAA"] * limits.webhook_signatures_max]),
        },
    }[what]
    headers = list(changed.items())
    if what == "two signature headers":
        headers.append(("webhook-signature", first))
    return headers, body


@pytest.mark.parametrize("what", BAD_SIGNATURES)
async def test_b52_what_is_not_signed_by_the_gateway_is_refused(waiting: Waiting, what: str) -> None:
    headers, body = _spoilt(waiting, what, waiting.event())
    async with nothing_changes(waiting.service, waiting.showtime_id):
        answer = await send(waiting.service, "POST", PATH, body=body, headers=headers)
        refused(answer, 401, "webhook_signature_invalid", sent=(waiting.gateway_ref, CANARY))
    await waiting.is_still_waiting()


@pytest.mark.parametrize("age_s", [301, 3_600, -360, -86_400, 10**9])
async def test_b52_a_delivery_of_another_time_is_refused(waiting: Waiting, age_s: int) -> None:
    body = waiting.event()
    headers = waiting.signed(body, at=datetime.now(UTC) - timedelta(seconds=age_s))
    async with nothing_changes(waiting.service, waiting.showtime_id):
        refused(await waiting.tell(body, headers), 401, "webhook_timestamp_invalid")
    await waiting.is_still_waiting()


async def test_an_old_delivery_with_a_bad_signature_learns_nothing_of_its_age(waiting: Waiting) -> None:
    body = waiting.event()
    headers = waiting.signed(body, at=datetime.now(UTC) - timedelta(hours=1))
    answer = await waiting.tell(body + b" ", headers)
    refused(answer, 401, "webhook_signature_invalid")


GARBAGE = {
    "nothing": b"",
    "no JSON": b"\x00\xff" * 100,
    "a list": b"[]",
    "nested": b"[" * 60_000,
    "no type": b"{}",
    "an event without data": b'{"type": "payment.captured"}',
    "NUL": b'{"type": "payment.captured", "data": {"gateway_ref": "\\u0000", "reference": "\\u0000"}}',
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_b52_signed_garbage_is_kept_and_has_no_effect(waiting: Waiting, what: str) -> None:
    body = GARBAGE[what]
    async with nothing_changes(waiting.service, waiting.showtime_id):
        answer = await waiting.tell(body, waiting.signed(body))
        assert answer.status == 200, answer.body
    await waiting.is_still_waiting()


async def test_signed_events_that_fit_nothing_have_no_effect(waiting: Waiting) -> None:
    events = {
        "another payment": waiting.event(reference="pay_" + "0" * 26),
        "an odd reference": waiting.event(reference="'; DROP TABLE checkout.orders;--".replace(" ", "_")),
        "too little": waiting.event(amount=1),
        "too much": waiting.event(amount=10**12),
        "nothing": waiting.event(amount=0),
        "less than nothing": waiting.event(amount=-1),
        "another currency": waiting.event(currency="USD"),
        "small letters": waiting.event(currency="cny"),
        "a fraction": waiting.event(amount=9980.0),
        "a text": waiting.event(amount="9980"),
        "a kind that is not": waiting.event("payment.stolen"),
        "a refund nobody asked for": waiting.event("refund.completed"),
        "a refund that failed": waiting.event("refund.failed", reference="ref_" + "0" * 26),
    }
    async with nothing_changes(waiting.service, waiting.showtime_id):
        for what, body in events.items():
            answer = await waiting.tell(body, waiting.signed(body))
            assert answer.status == 200, (what, answer.body)
            await waiting.is_still_waiting()


async def test_b52_a_body_too_large_is_refused_before_it_is_judged(waiting: Waiting) -> None:
    body = b" " * (limits.webhook_body_bytes_max + 1)
    for chunked in (False, True):
        answer = await send(
            waiting.service, "POST", PATH, body=body, headers=[*waiting.signed(body).items()], chunked=chunked
        )
        refused(answer, 413, "payload_too_large")
    await waiting.is_still_waiting()


@pytest.mark.parametrize("gateway", ["paypal", "SANDBOX", "sandbox.", "sand", "-"])
async def test_a_gateway_nobody_has_hears_nothing(waiting: Waiting, gateway: str) -> None:
    body = waiting.event()
    answer = await waiting.tell(body, waiting.signed(body), f"/webhooks/{gateway}")
    refused(answer, 422, "unknown_gateway", sent=("paypal",))
    await waiting.is_still_waiting()


async def test_control_a_true_event_pays_the_order_and_its_repeats_do_nothing(waiting: Waiting) -> None:
    await waiting.service.decide(waiting.payment["next"]["test"]["url"], "lose")  # captured, and nobody told
    body = waiting.event()
    event_id = f"evt_{waiting.service.new_key()}"
    for _ in range(3):
        answer = await waiting.tell(body, waiting.signed(body, event_id=event_id))
        assert (answer.status, answer.body) == (200, {"received": True})
    for later in (waiting.event(), waiting.event("payment.failed")):
        assert (await waiting.tell(later, waiting.signed(later))).status == 200
    order = await waiting.fan.order_in(waiting.order_id, "confirmed")
    assert [payment["state"] for payment in order["payments"]] == ["captured"]
    assert len(order["tickets"]) == 2
    assert order["refunds"] == []
