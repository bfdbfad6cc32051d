"""What happens while a part is away, and after it comes back.

Goal: reads that can be served are served, writes get 503 with Retry-After, nothing is half done, /readyz
says which part it is, and everything goes on by itself afterwards. Method: an instance of the test's own,
whose engines and writer are frozen (SIGSTOP) or killed (SIGKILL).
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest
import pytest_asyncio

from runtime.redis_link import connect
from tests.support.service import Service, connected, running_service, start


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fragile() -> AsyncIterator[Service]:
    """An instance that is broken and heals between the tests of this module."""
    async with running_service("--no-demo") as service:
        yield service


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    """Stopped processes and their children, going on afterwards."""
    everybody = [process for pid in pids for process in _family(pid)]
    for process in everybody:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in everybody:
            process.send_signal(signal.SIGCONT)


def _family(pid: int) -> list[psutil.Process]:
    head = psutil.Process(pid)
    return [head, *head.children(recursive=True)]


async def _until_ready(service: Service, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while (await service.request("GET", "//readyz")).status != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


@pytest.mark.timeout(180)
async def test_while_redis_is_frozen_nothing_is_sold_and_everything_else_is_shown(fragile: Service) -> None:
    showtime_id = await fragile.add_showtime()
    (fan,) = await fragile.fans(1)
    assert (await fragile.request("GET", f"/showtimes/{showtime_id}/seats")).status == 200
    with frozen(fragile.file.children["valkey"]):
        hold = await fan.hold(showtime_id, "D5", "D6", key="patient")
        assert (hold.status, hold.code) == (503, "seats_unavailable")
        assert int(hold.headers["Retry-After"]) >= 1
        assert (await fragile.request("GET", f"/showtimes/{showtime_id}/layout")).status == 200
        assert (await fragile.request("GET", "/films")).status == 200
        ready = await fragile.request("GET", "//readyz?verbose")
        assert ready.status == 503
        down = {check["name"] for check in ready.body["checks"] if not check["ok"]}
        assert down == {"redis"}
    await _until_ready(fragile)
    deadline = time.monotonic() + 20
    while (hold := await fan.hold(showtime_id, "D5", "D6", key="patient")).status != 201:
        assert hold.status in {409, 503}, hold.body
        assert hold.status == 503 or hold.code == "request_in_progress"
        assert time.monotonic() < deadline
        await asyncio.sleep(0.5)


@pytest.mark.timeout(180)
async def test_while_postgres_is_frozen_seats_can_be_held_but_not_ordered(fragile: Service) -> None:
    showtime_id = await fragile.add_showtime()
    (fan,) = await fragile.fans(1)
    first = await fan.hold(showtime_id, "D5", "D6")
    with frozen(fragile.file.children["postgres"]):
        held = await fan.hold(showtime_id, "E5", "E6")
        assert held.status == 201
        assert (await fragile.request("GET", f"/showtimes/{showtime_id}/seats")).status == 200
        order = await fan.order(first.body["hold_id"])
        assert (order.status, order.code) == (503, "persistence_unavailable")
        assert "Retry-After" in order.headers
        ready = await fragile.request("GET", "//readyz?verbose")
        assert {check["name"] for check in ready.body["checks"] if not check["ok"]} == {"postgres"}
    await _until_ready(fragile)
    deadline = time.monotonic() + 20
    while (order := await fan.order(first.body["hold_id"])).status not in {201, 202}:
        assert time.monotonic() < deadline, order.body
        await asyncio.sleep(0.2)
    await fan.order_in(order.body["order_id"], "pending_payment")


@pytest.mark.timeout(180)
async def test_while_the_writer_is_frozen_an_order_is_accepted_not_created(fragile: Service) -> None:
    showtime_id = await fragile.add_showtime()
    (fan,) = await fragile.fans(1)
    hold = await fan.hold(showtime_id, "D5", "D6")
    with frozen(fragile.file.children["order-writer"]):
        order = await fan.order(hold.body["hold_id"])
        assert (order.status, order.body["state"]) == (202, "claiming")
        location = order.headers["Location"].removeprefix("/api/v1")
        seen = await fan.call("GET", location)
        assert (seen.status, seen.body["state"]) == (200, "claiming")
        early = await fan.open_payment(order.body["order_id"], key="early")
        assert (early.status, early.code) == (503, "persistence_unavailable")
    await fan.order_in(order.body["order_id"], "pending_payment")
    assert (await fan.open_payment(order.body["order_id"], key="early")).status == 201
    await fan.pay(order.body["order_id"])
    await fan.order_in(order.body["order_id"], "confirmed")


@pytest.mark.timeout(180)
async def test_b28_a_twin_of_an_order_on_its_way_is_told_to_come_again(fragile: Service) -> None:
    showtime_id = await fragile.add_showtime()
    (fan,) = await fragile.fans(1)
    hold = await fan.hold(showtime_id, "D5", "D6")
    with frozen(fragile.file.children["order-writer"]):
        twins = await asyncio.gather(*(fan.order(hold.body["hold_id"], key="twin") for _ in range(8)))
    (first,) = [twin for twin in twins if twin.status == 202 and "Idempotent-Replayed" not in twin.headers]
    waiting = [twin for twin in twins if twin.status != 202]
    assert {(twin.status, twin.code) for twin in waiting} == {(409, "request_in_progress")}
    assert all(int(twin.headers["Retry-After"]) >= 1 for twin in waiting)
    await fan.order_in(first.body["order_id"], "pending_payment")
    again = await fan.order(hold.body["hold_id"], key="twin")
    assert (again.status, again.body, again.headers["Idempotent-Replayed"]) == (202, first.body, "true")


@pytest.mark.timeout(240)
async def test_redis_killed_and_restarted_sells_on_and_forgets_no_sale(fragile: Service) -> None:
    showtime_id = await fragile.add_showtime()
    fan, other = await fragile.fans(2)
    order = await fan.buy(showtime_id, "D5", "D6")
    pending = await fan.hold(showtime_id, "E5", "E6")
    claimed = await fan.order(pending.body["hold_id"])
    os.kill(fragile.file.children["valkey"][0], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while (answer := await other.hold(showtime_id, "F5", "F6")).status != 201:
        assert answer.status == 503, answer.body
        assert time.monotonic() < deadline, answer.body
        await asyncio.sleep(0.2)
    for taken in (("D5", "D6"), ("E5", "E6")):
        refused = await other.hold(showtime_id, *taken)
        assert (refused.status, refused.code) == (409, "seat_taken")
    await fan.pay(claimed.body["order_id"])
    await fan.order_in(claimed.body["order_id"], "confirmed")
    assert (await fan.order_in(order["order_id"], "confirmed"))["tickets"]


@pytest.mark.timeout(240)
async def test_postgres_killed_and_restarted_keeps_every_confirmed_order(fragile: Service) -> None:
    showtime_id = await fragile.add_showtime()
    (fan,) = await fragile.fans(1)
    order = await fan.buy(showtime_id, "D5", "D6")
    for process in _family(fragile.file.children["postgres"][0]):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    await asyncio.sleep(0.2)
    deadline = time.monotonic() + 60
    while (seen := await fan.call("GET", f"/orders/{order['order_id']}")).status != 200:
        assert seen.status == 503, seen.body
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)
    assert seen.body["state"] == "confirmed"
    await fan.buy(showtime_id, "E5", "E6")


@pytest.mark.timeout(240)
async def test_a_wiped_redis_is_rebuilt_from_postgres(fragile: Service) -> None:
    showtime_id = await fragile.add_showtime()
    fan, other = await fragile.fans(2)
    await fan.buy(showtime_id, "D5", "D6")
    lost = await fan.hold(showtime_id, "E5", "E6")
    redis = connect(fragile.file.redis_url)
    await redis.flushall()
    await redis.aclose()
    deadline = time.monotonic() + 30
    while (answer := await other.hold(showtime_id, "F5", "F6")).status != 201:
        assert (answer.status, answer.code) == (503, "inventory_rebuilding")
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    refused = await other.hold(showtime_id, "D5", "D6")
    assert (refused.status, refused.code) == (409, "seat_taken")
    path = f"/holds/{lost.body['hold_id']}"
    for method, address, body in (  # B23: whatever is asked of it
        ("GET", path, None),
        ("POST", f"{path}/extension", None),
        ("DELETE", path, None),
        ("POST", "/orders", {"hold_id": lost.body["hold_id"]}),
    ):
        gone = await fan.call(method, address, body)
        assert (gone.status, gone.code) == (409, "hold_lost"), method


@pytest.mark.timeout(240)
async def test_a_restart_finds_its_data_again(fragile: Service) -> None:
    showtime_id = await fragile.add_showtime()
    fan, other = await fragile.fans(2)
    order = await fan.buy(showtime_id, "D5", "D6")
    held = await fan.hold(showtime_id, "E5", "E6")
    fragile.stop()
    again = start(fragile.data_dir, "--no-demo", port=fragile.port)
    fragile.process = again.process
    async with connected(again):
        fan.service = other.service = again
        assert (await fan.order_in(order["order_id"], "confirmed"))["tickets"]
        refused = await other.hold(showtime_id, "D5", "D6")
        assert (refused.status, refused.code) == (409, "seat_taken")
        kept = await fan.call("GET", f"/holds/{held.body['hold_id']}")
        assert kept.status == 200
