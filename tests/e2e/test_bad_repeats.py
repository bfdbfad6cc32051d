"""Idempotency keys that come again with something else.

Goal: row B27 of the bad-input catalogue and "Idempotency" of the public contract, on the real guard: the same
key with the same request is the same answer, with any other request it is refused and changes nothing.
Method: each call that needs a key is made once, repeated, then bent in its body and in its address.
"""

from __future__ import annotations

from typing import Any

import pytest

from runtime.http.operations import Operation
from tests.support.belongings import Belongings, something_of_everything
from tests.support.contract import OPERATIONS, nothing_changes, refused
from tests.support.service import Service

each_with_key = pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS.values() if each.idempotent], ids=lambda each: each.name
)

#: Another good body for each call.
OTHER_BODIES: dict[str, dict[str, Any]] = {
    "hold_seats": {"best_available": {"count": 2}},
    "place_order": {"hold_id": "hld_" + "0" * 26},
    "open_payment": {"gateway": "sandbox", "return_url": "https://example.com/back"},
    "request_refund": {},
}


async def _settled(service: Service, things: Belongings, name: str) -> None:
    """Wait for what goes on after the answer: the seats of a refund go back on sale."""
    if name == "request_refund":
        await things.owner.order_in(things.bought_order_id, "refunded")
        seat_count = (await service.seats(things.showtime_id))["seat_count"]
        await service.seats_left(things.showtime_id, seat_count - 4)  # one order and one hold of two are left


@each_with_key
async def test_b27_a_key_belongs_to_one_request(service: Service, operation: Operation) -> None:
    things = await something_of_everything(service)
    fan, path, good = things.owner, things.path(operation), things.body_of(operation)
    key = service.new_key()
    first = await fan.call("POST", path, good, key=key)
    assert first.status in operation.answers, first.body
    await _settled(service, things, operation.name)
    async with nothing_changes(service, things.showtime_id):
        repeat = await fan.call("POST", path, good, key=key)
        assert (repeat.status, repeat.body) == (first.status, first.body)
        assert repeat.headers["Idempotent-Replayed"] == "true"
        quoted = await fan.call("POST", path, good, key=f'"{key}"')
        assert quoted.body == first.body
        other = await fan.call("POST", path, OTHER_BODIES[operation.name], key=key)
        refused(other, 422, "idempotency_key_reused", sent=(key,))
        assert "Idempotent-Replayed" not in other.headers
        for name, elsewhere in OPERATIONS.items():
            if elsewhere.idempotent and name != operation.name:
                other = await fan.call("POST", things.path(elsewhere), things.body_of(elsewhere), key=key)
                refused(other, 422, "idempotency_key_reused", sent=(key,))


@pytest.mark.parametrize("name", ["hold_seats", "open_payment", "request_refund"])
async def test_b27_the_same_words_about_another_thing_are_another_request(
    service: Service, name: str
) -> None:
    operation = OPERATIONS[name]
    things = await something_of_everything(service)
    others = await something_of_everything(service, things.owner)
    body = {} if name == "request_refund" else things.body_of(operation)
    key = service.new_key()
    first = await things.owner.call("POST", things.path(operation), body, key=key)
    assert first.status in operation.answers, first.body
    async with nothing_changes(service, others.showtime_id):
        other = await things.owner.call("POST", others.path(operation), body, key=key)
        refused(other, 422, "idempotency_key_reused", sent=(key,))


@each_with_key
async def test_a_final_refusal_is_repeated_too(service: Service, operation: Operation) -> None:
    owner, stranger = await service.fans(2)
    things = await something_of_everything(service, owner)
    body = {"seats": ["A1", "nowhere"]} if operation.name == "hold_seats" else things.body_of(operation)
    key = service.new_key()
    async with nothing_changes(service, things.showtime_id):
        first = await stranger.call("POST", things.path(operation), body, key=key)
        assert first.status in {404, 422}, first.body
        repeat = await stranger.call("POST", things.path(operation), body, key=key)
    assert (repeat.status, repeat.body) == (first.status, first.body)
    assert repeat.headers["Idempotent-Replayed"] == "true"
    assert repeat.headers["Content-Type"] == "application/problem+json"


@each_with_key
async def test_a_request_that_was_never_understood_leaves_its_key_unused(
    service: Service, operation: Operation
) -> None:
    things = await something_of_everything(service)
    fan, path, key = things.owner, things.path(operation), service.new_key()
    good = things.body_of(operation)
    refused(await fan.call("POST", path, {**good, "price": 1}, key=key), 422, "unknown_field", sent=())
    answer = await fan.call("POST", path, good, key=key)
    assert answer.status in operation.answers, answer.body
