"""Goal: no text a request brings is found anywhere but in PostgreSQL (I15).

Method: an instance of its own, with its logs as loquacious as they get. A person registers under names that
are canaries, buys, pays by way of an address and returns, and her gateway tells more than it should. Then
every place of every published operation is sent a canary (`tests/support/canaries.py`). When everything is
settled and on disk, Redis with its files, the logs, the measurements and every problem that was answered are
searched. The controls plant a leak in each of these, and it is found.

A problem tells whoever asked at which address he did, and what he called a field or a parameter that does not
exist. He knows both, and nobody else hears of it; elsewhere they are leaks like any other.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from yarl import URL

from checkout.gateways import SigningKeys, sign
from runtime import keys
from runtime.settings import load
from tests.support.belongings import WITH_BODY, Belongings, something_of_everything
from tests.support.canaries import (
    MARK,
    PHONE_MARK,
    Planted,
    Words,
    operations,
    plant,
    published,
    seen_in,
    seen_in_files,
    seen_in_redis,
)
from tests.support.contract import OPERATIONS
from tests.support.service import Answer, Fan, Service, running_service


@dataclass
class Town:
    """An instance, and what its people sent and heard."""

    service: Service
    words: Words = field(default_factory=Words)
    statuses: Counter[int] = field(default_factory=Counter)
    by_operation: dict[str, Counter[int]] = field(default_factory=dict)
    problems: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def log_folder(self) -> Path:
        return self.service.data_dir / "log"

    @property
    def folders(self) -> list[Path]:
        """Everything the instance writes, but PostgreSQL's data and the books of the gateway, not ours."""
        data = self.service.data_dir
        others = [each for each in data.iterdir() if each.name not in {"postgres", "gateway"}]
        return [*others, data.parent / f"up-{self.service.port}.log"]

    async def say(self, planted: Planted, fan: Fan) -> None:
        """Send it; an answer that does not end is not read."""
        assert self.service.session is not None
        headers = {
            "Authorization": f"Bearer {fan.token}",
            "Idempotency-Key": self.service.new_key(),
            "Content-Type": "application/json",
            **planted.headers,
        }
        url = URL(f"{self.service.base_url}/api/v1{planted.target}", encoded=True)
        async with self.service.session.request(
            planted.method, url, data=planted.body, headers=headers, allow_redirects=False
        ) as response:
            self.statuses[response.status] += 1
            self.by_operation.setdefault(planted.operation, Counter())[response.status] += 1
            if response.status >= 400:
                self.heard(planted.place, await response.read(), dict(response.headers))

    def heard(self, place: str, body: bytes, headers: dict[str, str]) -> None:
        """A problem, but for the names in it that are the asker's own."""
        problem = {**json.loads(body), "instance": ""}
        for error in problem.get("errors", ()):
            if error["code"] in {"unknown_field", "unknown_parameter"}:
                del error["pointer"]
        self.problems.append((place, json.dumps([problem, headers]).encode()))

    async def all_is_written(self) -> None:
        """What Redis was told is in its file."""
        assert self.service.platform is not None
        assert (await self.service.redis.execute_command("WAITAOF", 1, 0, 10_000))[0] == 1

    async def leaks(self) -> list[str]:
        """Every canary that is where none should be."""
        assert self.service.platform is not None
        await self.all_is_written()
        seen = await seen_in_redis(self.service.redis) + seen_in_files(self.folders)
        seen += [f"a measurement: {one}" for one in seen_in(self.service.measured().encode())]
        seen += [f"the answer to {place}: {one}" for place, body in self.problems for one in seen_in(body)]
        return [f"{one} (planted in {self.words.place_of(one)})" for one in seen]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def town() -> AsyncIterator[Town]:
    async with running_service(SEATRUSH_LOG_LEVEL="debug") as service:
        yield Town(service)


async def _register(town: Town) -> Fan:
    """Somebody whose every word is a canary."""
    name = town.words.new("a display name")
    body = {
        "email": f"{name}@example.com",
        "phone": f"{PHONE_MARK}01",
        "password": f"{name} lamps over water",
        "display_name": f"{name} Lin",
    }
    made = await town.service.request("POST", "/accounts", json_body=body)
    assert made.status == 201, made.body
    for login in (body["email"], body["phone"]):
        entered = await town.service.request(
            "POST", "/sessions", json_body={"login": login, "password": body["password"]}
        )
        assert entered.status == 201, entered.body
    again = await town.service.request("POST", "/accounts", json_body=body)
    assert again.status == 409
    town.heard("somebody registers twice", json.dumps(again.body).encode(), again.headers)
    return Fan(town.service, made.body["account_id"], made.body["access_token"])


async def _story(town: Town, fan: Fan) -> Belongings:
    """She buys, pays by way of an address of hers, and returns; everything that can be said is a canary."""
    things = await something_of_everything(town.service, fan)
    word = town.words.new

    async def done(answer: Awaitable[Answer], *statuses: int) -> Any:
        found = await answer
        assert found.status in statuses, found.body
        return found.body

    back = f"https://shop.example/{word('a return address')}?mail={word('its query')}%40example.com"
    paid = await done(
        fan.call(
            "POST",
            f"/orders/{things.order_id}/payments",
            {"gateway": "sandbox", "return_url": back},
            key=word("a payment's key"),
        ),
        201,
    )
    secret = SigningKeys.parse(keys.gateway_secret(load(town.service.environment)))
    event = {
        "type": "payment.captured",
        "note": word("an event's field"),
        "data": {
            "gateway_ref": paid["next"]["url"].rpartition("/")[2],
            "reference": paid["payment_id"],
            "amount": paid["amount"]["amount"],
            "currency": "CNY",
            "payer": f"{word('a payer')}@example.com",
        },
    }
    for body in (event, {**event, "type": word("an event's kind")}):
        raw = json.dumps(body).encode()
        headers = sign(secret, word("an event's id"), raw, datetime.now(UTC))
        await done(
            town.service.request("POST", "/webhooks/sandbox", data=raw, headers=headers), 200, 401, 422
        )
    await town.service.decide(paid["next"]["test"]["url"], "approve")
    await fan.order_in(things.order_id, "confirmed")
    await done(fan.call("POST", f"/orders/{things.order_id}/refunds", {}, key=word("a refund's key")), 202)
    await fan.order_in(things.order_id, "refunded")
    held = await done(
        fan.call(
            "POST", f"/showtimes/{things.showtime_id}/holds", {"seats": ["F5"]}, key=word("a hold's key")
        ),
        201,
    )
    await done(fan.call("POST", "/orders", {"hold_id": held["hold_id"]}, key=word("an order's key")), 201)
    return things


def _plan(things: Belongings, words: Words) -> list[Planted]:
    values = {each.name: things.values(each) for each in OPERATIONS.values()}
    bodies = {each.name: things.body_of(each) for each in WITH_BODY}
    return [*plant(published(), words, values, bodies)]


@pytest.mark.timeout(300)
async def test_no_text_of_a_request_is_found_outside_postgresql(town: Town) -> None:
    fan = await _register(town)
    things = await _story(town, fan)
    plan = _plan(things, town.words)

    for planted in plan:
        await town.say(planted, fan)

    assert await town.leaks() == []
    assert {each.operation for each in plan} == {
        each["operationId"] for _, _, each in operations(published())
    }
    assert town.by_operation.keys() == OPERATIONS.keys()
    assert len(plan) > 10 * len(OPERATIONS)
    assert not any(status >= 500 for status in town.statuses), town.statuses
    assert town.statuses[200] > len(OPERATIONS), "what was let in counts more than what was refused"
    assert len(town.problems) > len(OPERATIONS)


async def test_what_was_planted_did_arrive(town: Town) -> None:
    """The control of the planting: PostgreSQL has what the person said, which is where it belongs."""
    assert town.service.platform is not None
    fetch = town.service.platform.database.fetchval
    name = await fetch("SELECT display_name FROM accounts.accounts WHERE display_name LIKE $1", f"{MARK}%")
    stored = await fetch(
        "SELECT count(*) FROM checkout.gateway_events WHERE encode(body, 'escape') LIKE $1", f"%{MARK}%"
    )
    assert (name is not None, stored > 0) == (True, True)


# The controls of the search: a leak of each kind, one at a time.

Leak = Callable[["Town", str], Awaitable[Any]]


async def _to_a_file_only(town: Town, word: str) -> None:
    """Redis has forgotten it; its file has not."""
    redis = _redis(town)
    await redis.set("leak:file", word)
    await redis.delete("leak:file")


async def _to_a_log(town: Town, word: str) -> None:
    with (town.log_folder / "worker.log").open("a") as log:
        log.write(json.dumps({"event": f"{word.upper()} was here"}) + "\n")


def _redis(town: Town) -> Any:
    assert town.service.platform is not None
    return town.service.redis


LEAKS: dict[str, Leak] = {
    "a key's name": lambda town, word: _redis(town).set(f"leak:{word}", 1),
    "a value": lambda town, word: _redis(town).set("leak:text", f"mail {word}@example.com"),
    "a field of a hash": lambda town, word: _redis(town).hset("leak:hash", word, 1),
    "a value in a hash": lambda town, word: _redis(town).hset("leak:hash", "name", word),
    "a member of a set": lambda town, word: _redis(town).sadd("leak:set", word),
    "a member of a sorted set": lambda town, word: _redis(town).zadd("leak:zset", {word: 1}),
    "an element of a list": lambda town, word: _redis(town).rpush("leak:list", word),
    "an entry of a stream": lambda town, word: _redis(town).xadd("leak:log", {"data": word}),
    "base64": lambda town, word: _redis(town).set("leak:text", base64.b64encode(b"x" + word.encode())),
    "hexadecimal digits": lambda town, word: _redis(town).set("leak:text", word.encode().hex()),
    "a phone number": lambda town, word: _redis(town).set("leak:text", f"+86 {PHONE_MARK}07"),
    "what was deleted since": _to_a_file_only,
    "a log": _to_a_log,
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def leaky() -> AsyncIterator[Town]:
    async with running_service() as service:
        yield Town(service)


@pytest.mark.parametrize("leak", LEAKS)
async def test_a_leak_would_be_found(leaky: Town, leak: str) -> None:
    before = await leaky.leaks()

    await LEAKS[leak](leaky, leaky.words.new(leak))

    assert len(await leaky.leaks()) > len(before)


async def test_a_canary_in_a_problem_would_be_found(leaky: Town) -> None:
    before, word = await leaky.leaks(), leaky.words.new("a problem")
    leaky.heard("a control", json.dumps({"detail": f"{word} is unknown.", "instance": word}).encode(), {})

    assert len(await leaky.leaks()) == len(before) + 1


def test_a_new_operation_without_a_body_for_it_is_not_forgotten() -> None:
    operation = {"operationId": "new", "parameters": [{"in": "path", "name": "thing_id"}]}

    with pytest.raises(KeyError, match="new"):
        list(plant({"paths": {"/api/v1/things/{thing_id}": {"get": operation}}}, Words(), {}, {}))
