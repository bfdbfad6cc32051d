"""Goal: the two calls of accounts answer as published, and failing says nothing about who has an account.

Method: the real application on a socket with a real PostgreSQL; answers are compared byte for byte where they
must not differ.
"""

from __future__ import annotations

import asyncio
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
from runtime.http.protocol import Runner
from runtime.http.server import build_app
from runtime.migrations import load_migrations, migrate
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
    ids=lambda value: str(value)[:40],
)
async def test_every_wrong_field_is_named(
    client: ClientSession, change: dict[str, Any], pointers: set[str]
) -> None:
    response, problem = await _post(client, "/accounts", REGISTRATION | change)
    assert response.status == 422
    assert problem["code"] == ("unknown_field" if "role" in change else "validation_failed")
    assert {error["pointer"] for error in problem["errors"]} == pointers


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
