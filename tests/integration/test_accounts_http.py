"""Goal: the two calls of accounts answer as published, and failing says nothing about who has an account.

Method: the real application on a socket with a real PostgreSQL; answers are compared byte for byte where they
must not differ.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import pytest_asyncio
from aiohttp import ClientResponse, ClientSession, web
from argon2 import PasswordHasher

from accounts import AccountService, AccountStore, Passwords, operations
from kernel import limits
from kernel.clock import SystemClock
from runtime.http.idempotency import IdempotencyGuard
from runtime.http.places import Places
from runtime.http.protocol import Runner
from runtime.http.server import build_app
from runtime.migrations import load_migrations, migrate
from runtime.peers import Proxies
from runtime.postgres import Database
from runtime.tokens import TokenSigner, TokenVerifier
from tests.support.engines import DatabaseMaker

KEYS = [b"k" * 32]
REGISTRATION = {"email": "lin@example.com", "password": "seven lamps over water", "display_name": "林"}
SIGN_IN = {"login": REGISTRATION["email"], "password": REGISTRATION["password"]}


async def _with_accounts(url: str) -> None:
    await migrate(url, load_migrations()[:1])


@pytest_asyncio.fixture
async def client(make_database: DatabaseMaker) -> AsyncIterator[ClientSession]:
    """A client of a fresh service."""
    database = Database(await make_database(_with_accounts))
    passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    clock = SystemClock()
    service = AccountService(AccountStore(database), passwords, TokenSigner(KEYS, clock))
    app = build_app(
        [operations(service)],
        verifier=TokenVerifier(KEYS, clock),
        guard=cast(IdempotencyGuard, None),
        places=Places(proxies=Proxies("127.0.0.1")),
        title="accounts",
        version="0",
    )
    runner = Runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    async with ClientSession(f"http://{host}:{port}") as session:
        yield session
    await runner.cleanup()
    passwords.close()
    await database.close()


async def _post(client: ClientSession, path: str, body: Any) -> tuple[ClientResponse, dict[str, Any]]:
    async with client.post(f"/api/v1{path}", json=body) as response:
        return response, await response.json(content_type=None)


async def test_registering_and_signing_in_answer_the_same_shape(client: ClientSession) -> None:
    before = datetime.now(UTC)
    for path, body in (("/accounts", REGISTRATION), ("/sessions", SIGN_IN)):
        response, answer = await _post(client, path, body)
        assert response.status == 201
        assert set(answer) == {"account_id", "access_token", "expires_at"}
        assert TokenVerifier(KEYS, SystemClock()).verify(answer["access_token"]) == answer["account_id"]
        lifetime = datetime.fromisoformat(answer["expires_at"]) - before
        assert abs(lifetime - timedelta(seconds=limits.access_token_ttl_s)) < timedelta(minutes=1)
        assert answer["expires_at"].endswith("Z")
        assert response.headers["Cache-Control"] == "no-store"


async def test_a_known_login_is_a_conflict(client: ClientSession) -> None:
    await _post(client, "/accounts", REGISTRATION)
    response, problem = await _post(client, "/accounts", REGISTRATION | {"email": "LIN@Example.com"})
    assert (response.status, problem["code"]) == (409, "account_exists")
    assert response.content_type == "application/problem+json"


async def test_twenty_registrations_at_once_are_one_201(client: ClientSession) -> None:
    answers = await asyncio.gather(*(_post(client, "/accounts", REGISTRATION) for _ in range(20)))
    assert sorted(response.status for response, _ in answers) == [201] + [409] * 19


async def test_every_failed_sign_in_is_the_same_answer(client: ClientSession) -> None:
    await _post(client, "/accounts", REGISTRATION)
    seen = set()
    for body in (
        SIGN_IN | {"password": "not her password"},
        SIGN_IN | {"login": "nobody@example.com"},
        SIGN_IN | {"login": "13800138000"},
        SIGN_IN | {"login": "no login"},
        {"login": "", "password": ""},
        SIGN_IN | {"password": "x" * 60_000},
        SIGN_IN | {"password": "e" + "\u0301\u0323" * 5_000},
        SIGN_IN | {"login": "1" + "\u0301\u0323" * 5_000},
    ):
        response, problem = await _post(client, "/sessions", body)
        assert response.status == 401
        headers = {
            name: response.headers[name] for name in response.headers if name not in ("Date", "X-Request-ID")
        }
        del problem["request_id"]
        seen.add((str(sorted(headers.items())), str(problem)))
    assert len(seen) == 1
    assert "invalid_credentials" in seen.pop()[1]


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({"email": "lin"}, {"/email"}),
        (
            {"email": "lin", "password": "12345678", "display_name": ""},
            {"/email", "/password", "/display_name"},
        ),
        ({"email": None}, {"/email"}),
        ({"email": None, "phone": None}, {"/email"}),
        ({"phone": "12"}, {"/phone"}),
        ({"password": "short"}, {"/password"}),
        ({"password": "x7Kq" * 257}, {"/password"}),
        ({"password": 12345678}, {"/password"}),
        ({"display_name": "a\u202eb"}, {"/display_name"}),
        ({"display_name": "a\x00b"}, {"/display_name"}),
        ({"display_name": "e" + "\u0301" * 10_000}, {"/display_name"}),
        ({"display_name": ["Lin"]}, {"/display_name"}),
        ({"role": "staff"}, {"/role"}),
    ],
    ids=lambda value: str(sorted(value))[:40],
)
async def test_every_wrong_field_is_named(
    client: ClientSession, change: dict[str, Any], pointers: set[str]
) -> None:
    response, problem = await _post(client, "/accounts", REGISTRATION | change)
    assert response.status == 422
    assert problem["code"] == ("unknown_field" if "role" in change else "validation_failed")
    assert {error["pointer"] for error in problem["errors"]} == pointers


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("display_name", "4111 1111 1111 1111"),
        ("display_name", "Lin ４１１１-１１１１-１１１１-１１１１"),
        ("email", "4111111111111111@example.com"),
    ],
)
async def test_b47_a_card_number_is_refused_and_neither_kept_nor_logged_nor_said(
    client: ClientSession, field: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        response, problem = await _post(client, "/accounts", REGISTRATION | {field: text})
    assert (response.status, problem["code"]) == (422, "card_data_refused")
    assert problem["type"] == "/docs/problems/card-data-refused"
    assert [error["pointer"] for error in problem["errors"]] == [f"/{field}"]
    assert "1111" not in str(problem) + caplog.text
    response, _ = await _post(client, "/accounts", REGISTRATION)
    assert response.status == 201, "nothing was kept"


async def _guess(client: ClientSession, login: str, forwarded: str) -> ClientResponse:
    body = {"login": login, "password": "a wrong guess"}
    async with client.post("/api/v1/sessions", json=body, headers={"X-Forwarded-For": forwarded}) as response:
        return response


async def test_s4_many_addresses_with_one_login_are_stopped_and_told_when_to_come_back(
    client: ClientSession,
) -> None:
    login = str(REGISTRATION["email"])
    answers = [await _guess(client, login, f"203.0.113.{number}") for number in range(30)]
    assert [answer.status for answer in answers] == [401] * limits.sign_in_tries_per_login + [429] * (
        30 - limits.sign_in_tries_per_login
    )
    assert int(answers[-1].headers["Retry-After"]) >= limits.sign_in_login_refill_s - 5


async def test_s4_one_address_with_many_logins_is_stopped_whatever_it_writes_before_its_own(
    client: ClientSession,
) -> None:
    tries = limits.sign_in_tries_per_address
    answers = [
        await _guess(client, f"fan{number}@example.com", f"198.51.100.{number % 250}, 203.0.113.9")
        for number in range(tries + 10)
    ]
    assert [answer.status for answer in answers[: tries - 5]] == [401] * (tries - 5)
    assert answers[-1].status == 429
    assert (await _guess(client, "fan@example.com", "203.0.113.10")).status == 401, "others are not meant"


async def test_one_address_cannot_make_accounts_without_end_whatever_it_writes_before_its_own(
    client: ClientSession,
) -> None:
    async def register(number: int, forwarded_for: str) -> ClientResponse:
        headers = {"X-Forwarded-For": forwarded_for}
        body = REGISTRATION | {"email": f"fan{number}@example.com"}
        async with client.post("/api/v1/accounts", json=body, headers=headers) as response:
            return response

    most = limits.registrations_per_address
    answers = [
        await register(number, f"198.51.100.{number % 250}, 203.0.113.9") for number in range(most + 10)
    ]
    assert [answer.status for answer in answers[:most]] == [201] * most
    assert answers[-1].status == 429
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert (await register(5_000, "203.0.113.10")).status == 201, "others are not meant"


async def test_s4_a_login_nobody_has_is_limited_in_the_same_words(client: ClientSession) -> None:
    await _post(client, "/accounts", REGISTRATION)
    said = {}
    for login in (str(REGISTRATION["email"]), "nobody@example.com"):
        for _ in range(limits.sign_in_tries_per_login):
            await _post(client, "/sessions", {"login": login, "password": "a wrong guess"})
        response, problem = await _post(client, "/sessions", {"login": login, "password": "a wrong guess"})
        assert (response.status, problem["code"]) == (429, "rate_limited")
        del problem["request_id"], problem["retry_after_ms"]
        said[str(problem)] = login
    assert len(said) == 1


async def test_s4_whoever_is_signed_in_stays_so_while_others_guess(client: ClientSession) -> None:
    _, session = await _post(client, "/accounts", REGISTRATION)
    for _ in range(limits.sign_in_tries_per_login + 5):
        await _post(client, "/sessions", SIGN_IN | {"password": "a wrong guess"})
    assert TokenVerifier(KEYS, SystemClock()).verify(session["access_token"]) == session["account_id"]
    response, _ = await _post(client, "/sessions", SIGN_IN)
    assert response.status == 429, "and the right one waits its turn, which comes"


async def test_missing_fields_are_named_together(client: ClientSession) -> None:
    response, problem = await _post(client, "/accounts", {"email": "lin@example.com"})
    assert response.status == 422
    assert {error["pointer"] for error in problem["errors"]} == {"/password", "/display_name"}


async def test_a_phone_alone_is_enough(client: ClientSession) -> None:
    registration = {"phone": "138 0013 8000", "password": REGISTRATION["password"], "display_name": "Lin"}
    _, registered = await _post(client, "/accounts", registration)
    response, signed_in = await _post(client, "/sessions", SIGN_IN | {"login": "+8613800138000"})
    assert (response.status, signed_in["account_id"]) == (201, registered["account_id"])


async def test_the_document_describes_both_calls(client: ClientSession) -> None:
    async with client.get("/openapi.json") as response:
        document = await response.json()
    for path in ("/api/v1/accounts", "/api/v1/sessions"):
        assert {"201", "422", "429", "503"} <= set(document["paths"][path]["post"]["responses"])
