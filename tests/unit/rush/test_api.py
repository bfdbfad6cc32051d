"""Goal: one intent has one effect, whatever happens to the connection.

Method: a server that hangs up, says "later" or answers garbage, and notes what it was sent.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadtest.rush import Api, Meter, decisions

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Counter:
    """A server whose answers are a script, and what it was asked."""

    def __init__(self) -> None:
        self.script: list[Handler] = []
        self.seen: list[tuple[str, str | None, bytes]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.headers.get("Idempotency-Key"), await request.read()))
        return await self.script.pop(0)(request)


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def fine(request: web.Request) -> web.StreamResponse:
    return web.json_response({"hold_id": "hld_1"}, status=201)


async def later(request: web.Request) -> web.StreamResponse:
    return web.json_response({"code": "overloaded"}, status=503, headers={"Retry-After": "1"})


async def later_without_a_time(request: web.Request) -> web.StreamResponse:
    return web.json_response({"code": "overloaded"}, status=503)


async def garbage(request: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>", status=200)


@pytest_asyncio.fixture(loop_scope="session")
async def counter() -> AsyncIterator[Counter]:
    yield Counter()


@pytest_asyncio.fixture(loop_scope="session")
async def meter() -> AsyncIterator[Meter]:
    yield Meter()


@pytest_asyncio.fixture(loop_scope="session")
async def api(counter: Counter, meter: Meter) -> AsyncIterator[Api]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", counter.answer)
    async with TestServer(app) as server:
        client = Api(str(server.make_url("")).rstrip("/"), connections_max=4, meter=meter)
        yield client
        await client.close()


async def hold(api: Api) -> decisions.Answer:
    return await api.call(
        "hold", "POST", "/holds", token="t", body={"seats": ["A1"]}, key="key-1", rng=random.Random(1)
    )


async def test_after_a_lost_answer_the_same_request_is_sent_again(
    api: Api, counter: Counter, meter: Meter
) -> None:
    counter.script = [hang_up, hang_up, fine]
    assert (await hold(api)).status == 201
    assert counter.seen == [("POST", "key-1", b'{"seats":["A1"]}')] * 3
    assert meter.by_status["hold"] == {"no answer": 2, "201": 1}
    assert len(meter.latencies_ms["hold"]) == 1
    assert (meter.repeats, meter.unserved) == ({"no answer": 2}, {})


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client slept, without sleeping."""
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)

    monkeypatch.setattr("loadtest.rush.api.asyncio.sleep", sleep)
    return naps


async def test_later_is_honoured(api: Api, counter: Counter, slept: list[float]) -> None:
    counter.script = [later, fine]
    assert (await hold(api)).status == 201
    assert len(slept) == 1
    assert 1.0 <= slept[0] <= 1.5


async def test_patience_ends_and_is_counted(
    api: Api, counter: Counter, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "PATIENCE_S", -1.0)
    counter.script = [later]
    answer = await hold(api)
    assert (answer.status, answer.code) == (503, "overloaded")
    assert meter.unserved == {"hold: 503 overloaded, again and again": 1}


async def test_a_refusal_that_does_not_say_when_to_come_again_is_counted(
    api: Api, counter: Counter, meter: Meter, slept: list[float]
) -> None:
    counter.script = [later_without_a_time, fine]
    assert (await hold(api)).status == 201
    assert meter.unserved == {"hold: 503 overloaded that does not say when": 1}


async def test_an_answer_that_is_not_json_is_an_answer_without_a_body(api: Api, counter: Counter) -> None:
    counter.script = [garbage]
    answer = await hold(api)
    assert (answer.status, answer.body) == (200, {})


@pytest.mark.usefixtures("slept")
async def test_the_door_counts_as_closed_only_while_nobody_is_served(api: Api, counter: Counter) -> None:
    served_s = api.served_s
    counter.script = [later, fine]
    await hold(api)
    assert api.served_s > served_s
    assert api.silent_s < 1.0
