"""Goal: the sandbox's pages and refusals are as described, and no input of any kind makes it break.

Method: a browser without scripts, a table of bad requests, and Hypothesis at the doors.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.sandbox_town import PRICE, SECRET, SHOP_PAGE, Town, town_in


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with town_in(tmp_path) as built:
        yield built


async def test_the_book_is_read_in_pages_and_adds_up(town: Town) -> None:
    for number in range(5):
        await town.captured(f"pay_{number}")
    seen, cursor = [], "0"
    while cursor:
        _, page = await town.ask("GET", f"/v1/books?limit=2&cursor={cursor}")
        seen += page["data"]
        cursor = page["next_cursor"]
    assert [entry["reference"] for entry in seen] == [f"pay_{number}" for number in range(5)]
    assert sum(entry["amount"] for entry in seen) == page["totals"][0]["captured"]
    assert (await town.ask("GET", "/v1/books?cursor=x"))[1]["code"] == "invalid_cursor"


async def test_the_shop_lists_what_moved_with_the_payment_it_is_about(town: Town) -> None:
    sessions = [await town.captured(f"pay_{number}") for number in range(120)]
    await town.gateway.refund(refund_id="ref_1", gateway_ref=sessions[0].gateway_ref, amount=PRICE)
    first = await town.gateway.movements("")
    second = await town.gateway.movements(first.cursor)
    assert (len(first.movements), first.is_last) == (100, False)
    assert (len(second.movements), second.is_last) == (21, True)
    paid, back = first.movements[0], second.movements[-1]
    assert (paid.kind, paid.reference, paid.given_back) == ("capture", "pay_0", PRICE.amount)
    assert (back.kind, back.reference, back.amount) == ("refund", "ref_1", PRICE)
    assert (back.payment_ref, back.payment_id, back.order_id) == (sessions[0].gateway_ref, "pay_0", "ord_1")
    assert {one.given_back for one in first.movements[1:]} == {0}
    nothing = await town.gateway.movements(second.cursor)
    assert (nothing.movements, nothing.cursor, nothing.is_last) == ((), second.cursor, True)


async def test_people_pay_on_a_page_and_return_to_the_shop(town: Town) -> None:
    session = await town.open(return_url=f"{SHOP_PAGE}1")
    async with town.http.get(session.redirect_url) as answer:
        page, policy = await answer.text(), answer.headers["Content-Security-Policy"]
    assert "CNY 49.90" in page
    assert "'unsafe" not in policy
    assert "form-action 'self' https://shop.example;" in policy
    for asset in ("/pay-assets/pay.css", "/pay-assets/pay.js"):
        assert asset in page
        async with town.http.get(town.url + asset) as answer:
            assert answer.status == 200
    async with town.http.post(session.redirect_url, data={"outcome": "late"}) as answer:
        assert answer.status == 422
    form: dict[str, Any] = {"data": {"outcome": "approve"}, "allow_redirects": False}
    async with town.http.post(session.redirect_url, **form) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, f"{SHOP_PAGE}1")
    await town.shop.hears(1)

    stray = await town.open("pay_2", return_url="https://evil.example/")
    async with town.http.post(stray.redirect_url, data={"outcome": "decline"}) as answer:
        page = await answer.text()
        assert answer.url.path == f"/pay/{stray.gateway_ref}"
    assert "evil" not in page
    expired = await town.open("pay_3", seconds=-1)
    async with town.http.post(expired.redirect_url, data={"outcome": "approve"}) as answer:
        assert answer.status == 409


async def test_refusals_are_problem_documents_with_a_code(town: Town) -> None:
    keyed = {"Idempotency-Key": "k"}
    for method, path, more, status, code in (
        ("GET", "/v1/books", {"headers": {"Authorization": "Bearer whsec_x"}}, 401, "not_authenticated"),
        ("GET", "/v1/nothing", {}, 404, "not_found"),
        ("GET", "/v1/payments/sbp_1", {}, 404, "payment_not_found"),
        ("GET", "/v1/payments/%00%ff", {}, 404, "payment_not_found"),
        ("DELETE", "/v1/books", {}, 405, "method_not_allowed"),
        ("POST", "/v1/payments", {"json": PAYMENT}, 400, "idempotency_key_missing"),
        ("POST", "/v1/payments", {"headers": {"Idempotency-Key": "x" * 65}}, 400, "idempotency_key_invalid"),
        ("POST", "/v1/payments", {"headers": keyed, "data": b"{"}, 400, "malformed_json"),
        ("POST", "/v1/payments", {"headers": keyed, "data": b"\xff\xfe{}"}, 400, "malformed_json"),
        ("POST", "/v1/payments", {"headers": keyed, "data": b"[" * 60_000}, 422, "validation_failed"),
        ("POST", "/v1/payments", {"headers": keyed, "data": b" " * 65_537}, 413, "payload_too_large"),
        (
            "POST",
            "/v1/payments",
            {"headers": keyed, "json": PAYMENT | {"amount": 0}},
            422,
            "validation_failed",
        ),
        ("POST", "/v1/payments", {"headers": keyed, "json": PAYMENT | {"x": 1}}, 422, "validation_failed"),
        (
            "POST",
            "/v1/payments",
            {"headers": keyed | {"Host": "x:9999999"}, "json": PAYMENT},
            400,
            "bad_request",
        ),
        ("POST", "/v1/payments", {"headers": keyed | {"Host": "a b<>"}, "json": PAYMENT}, 400, "bad_request"),
        ("GET", "/v1/payments", {}, 422, "validation_failed"),
        ("POST", "/test/settings", {"json": {"answer_delay_ms": 60_001}}, 422, "validation_failed"),
        ("POST", "/test/settings", {"json": {"answer_delay_ms": -1}}, 422, "validation_failed"),
    ):
        got, problem = await town.ask(method, path, **more)
        assert (method, path, got, problem["code"]) == (method, path, status, code)
        assert problem["status"] == status


TEXT = st.text(st.characters(), max_size=20)  # lone surrogates too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=8,
)
VALUES = (
    JSON
    | st.integers(-(2**70), 2**70)
    | st.datetimes().map(lambda at: f"{at.isoformat()}+14:00")
    | st.sampled_from(["CNY", "https://x/", "delay:9", "lose", "2030-01-01T00:00:00Z"])
)
PAYMENT = {
    "reference": "r",
    "order_id": "o",
    "amount": 1,
    "currency": "CNY",
    "expires_at": "2030-01-01T00:00:00Z",
}


async def test_no_input_makes_it_break(town: Town) -> None:
    session = await town.captured()
    refund = {"reference": "r", "payment": session.gateway_ref, "amount": 1, "currency": "CNY"}
    doors: list[tuple[str, dict[str, Any]]] = [
        ("/v1/payments", PAYMENT),
        ("/v1/refunds", refund),
        ("/test/settings", {"refunds": "complete"}),
        (f"/test/payments/{session.gateway_ref}", {"outcome": "approve"}),
        (f"/test/payments/{session.gateway_ref}/chargeback", {"telling": "never"}),
        (f"/test/payments/{session.gateway_ref}/chargeback-reversal", {"telling": "never"}),
    ]
    loop, statuses = asyncio.get_running_loop(), Counter[int]()

    async def send(method: str, path: str, query: str, body: bytes | None = None) -> None:
        key = f"k{statuses.total()}"
        async with town.http.request(
            method,
            town.url + path,
            params={"reference": query, "cursor": query, "limit": query},
            data=body,
            headers={"Authorization": f"Bearer {SECRET}", "Idempotency-Key": key},
        ) as answer:
            statuses[answer.status] += 1

    async def knock(path: str, body: bytes, query: str) -> None:
        await send("POST", path, query, body)
        await send("GET", "/v1/payments", query)
        await send("GET", "/v1/books", query)

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(door=st.sampled_from(doors), data=st.data(), query=st.text(max_size=10))
    def throw(door: tuple[str, dict[str, Any]], data: st.DataObject, query: str) -> None:
        path, good = door
        changes = st.dictionaries(st.sampled_from(sorted(good)), VALUES, max_size=2)
        whole = changes.map(lambda change: json.dumps(good | change).encode())
        body = data.draw(st.binary(max_size=60) | JSON.map(repr).map(str.encode) | whole | whole)
        asyncio.run_coroutine_threadsafe(knock(path, body, query), loop).result(10)

    await asyncio.to_thread(throw)
    assert statuses.total() >= 900
    assert max(statuses) < 500
    assert {201, 202, 400, 422} <= statuses.keys(), "the control: some of it was meant seriously"
