"""Who may do what: every operation, asked by nobody, by a forger, by a stranger and by the owner.

Goal: S10 and rows B24, B36 and B37 of the catalogues: what is personal is seen by its owner alone, and to
everybody else it does not exist. Method: the matrix is compared with the declared operations, so a new one
fails until somebody has thought about it. The owner comes last, to show that the others were not refused for
another reason.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt
import pytest

from runtime import keys
from runtime.http.answers import Answer as HttpAnswer
from runtime.http.call import Call
from runtime.http.operations import Operation, Operations
from runtime.settings import load
from tests.support.belongings import WITH_BODY, Belongings, something_of_everything
from tests.support.contract import OPERATIONS, SERVED, nothing_changes, refused, send
from tests.support.service import Answer, Fan, Service

OPEN: Final = "open"  # to everybody, token or not
OWN: Final = "own"  # to its owner; to others there is nothing
EACH: Final = "each"  # to everybody who signed in, about what is theirs


@dataclass(frozen=True)
class Row:
    """To whom an operation answers, and with what."""

    to: str
    status: int


MATRIX: Final[Mapping[str, Row]] = {
    "register": Row(OPEN, 201),
    "sign_in": Row(OPEN, 201),
    "list_films": Row(OPEN, 200),
    "read_film": Row(OPEN, 200),
    "list_cinemas": Row(OPEN, 200),
    "read_cinema": Row(OPEN, 200),
    "search": Row(OPEN, 200),
    "list_showtimes": Row(OPEN, 200),
    "read_showtime": Row(OPEN, 200),
    "get_layout": Row(OPEN, 200),
    "get_seats": Row(OPEN, 200),
    "watch_seats": Row(OPEN, 200),
    "hold_seats": Row(EACH, 201),
    "get_hold": Row(OWN, 200),
    "release_hold": Row(OWN, 204),
    "extend_hold": Row(OWN, 200),
    "place_order": Row(OWN, 201),
    "list_orders": Row(EACH, 200),
    "get_order": Row(OWN, 200),
    "open_payment": Row(OWN, 201),
    "receive_webhook": Row(OPEN, 200),  # to whoever knows the gateway's secret: see test_bad_webhooks
    "quote_refund": Row(OWN, 200),
    "request_refund": Row(OWN, 202),
    "get_ticket": Row(OWN, 200),
    "get_ticket_code": Row(OWN, 200),
}


#: What the HTTP layer serves besides, to whoever reaches the port: no row, because there is nobody's in it.
BESIDE: Final = frozenset({"/", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs"})


def without_a_row(served: Iterable[Operation]) -> set[str]:
    """Operations nobody has said of whom they answer to."""
    return {
        f"{each.method} {each.path}"
        for each in served
        if each.name not in MATRIX
        and not (each.method == "GET" and (each.path in BESIDE or each.path.startswith("/docs/")))
    }


def test_every_operation_that_is_served_has_a_row_and_every_row_an_operation() -> None:
    assert without_a_row(SERVED) == set()
    assert MATRIX.keys() == OPERATIONS.keys()
    assert OPERATIONS.keys() <= {each.name for each in SERVED}


def test_control_an_operation_nobody_thought_of_is_found() -> None:
    new = Operations(tag="new", description="Of tomorrow.")

    @new.delete("/api/v1/orders/{order_id}/tickets", summary="Tear them", answers={204: None}, auth=True)
    async def tear_tickets(call: Call) -> HttpAnswer:
        raise AssertionError("it is declared, and nobody calls it")

    @new.post("/metrics", summary="Reset them", answers={204: None})
    async def reset_metrics(call: Call) -> HttpAnswer:
        raise AssertionError("it is declared, and nobody calls it")

    assert without_a_row([*SERVED, *new]) == {"DELETE /api/v1/orders/{order_id}/tickets", "POST /metrics"}


def test_what_is_not_open_needs_a_token_by_its_declaration() -> None:
    assert {name for name, operation in OPERATIONS.items() if operation.auth} == {
        name for name, row in MATRIX.items() if row.to != OPEN
    }


def those_open_to(to: str) -> pytest.MarkDecorator:
    """For each operation of these rows."""
    names = [name for name, row in MATRIX.items() if row.to == to]
    return pytest.mark.parametrize("operation", [OPERATIONS[name] for name in names], ids=names)


those_that_need_a_token = pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS.values() if each.auth], ids=lambda each: each.name
)


async def ask(
    service: Service,
    things: Belongings,
    operation: Operation,
    authorization: str | None,
    *more: tuple[str, str],
) -> Answer:
    """The operation about the owner's things, in the name of whoever."""
    headers = [("Content-Type", "application/json"), ("Idempotency-Key", service.new_key()), *more]
    if authorization is not None:
        headers.append(("Authorization", authorization))
    body = json.dumps(things.body_of(operation)).encode() if operation in WITH_BODY else None
    return await send(service, operation.method, things.path(operation), body=body, headers=headers)


def bearer(fan: Fan) -> str:
    return f"Bearer {fan.token}"


def forged_token(fan: Fan) -> str:
    """The owner's claims under a key of the forger's."""
    claims = jwt.decode(fan.token, options={"verify_signature": False})
    header = jwt.get_unverified_header(fan.token)
    return jwt.encode(claims, b"f" * 32, algorithm="HS256", headers={"kid": header["kid"]})


@those_open_to(OWN)
async def test_what_is_personal_exists_for_its_owner_only(service: Service, operation: Operation) -> None:
    owner, stranger = await service.fans(2)
    things = await something_of_everything(service, owner)
    async with nothing_changes(service, things.showtime_id):
        refused(await ask(service, things, operation, None), 401, "not_authenticated")
        forgery = await ask(service, things, operation, f"Bearer {forged_token(owner)}")
        refused(forgery, 401, "not_authenticated")
        refused(await ask(service, things, operation, bearer(stranger)), 404, "not_found")
    answer = await ask(service, things, operation, bearer(owner))
    assert answer.status == MATRIX[operation.name].status, answer.body


@those_open_to(OWN)
async def test_a_strangers_answer_is_that_of_a_thing_that_never_was(
    service: Service, operation: Operation
) -> None:
    owner, stranger = await service.fans(2)
    things = await something_of_everything(service, owner)
    foreign = await ask(service, things, operation, bearer(stranger))
    tail = {"hold_id": -3, "order_id": -3, "bought_order_id": -3}
    fields = {name: _other(getattr(things, name), at) for name, at in tail.items()}
    ticket_ids = tuple(_other(each, -3) for each in things.ticket_ids)
    nothing = Belongings(**{**vars(things), **fields, "ticket_ids": ticket_ids})
    missing = await ask(service, nothing, operation, bearer(stranger))
    assert _comparable(foreign) == _comparable(missing)


def _other(text: str, at: int) -> str:
    """The id with one digit changed."""
    return f"{text[:at]}{'0' if text[at] != '0' else '1'}{text[at:][1:]}"


def _comparable(answer: Answer) -> Any:
    body = {name: value for name, value in answer.body.items() if name not in {"request_id", "instance"}}
    headers = {name: value for name, value in answer.headers.items() if name not in {"X-Request-ID", "Date"}}
    return answer.status, body, headers


@those_open_to(EACH)
async def test_what_everybody_has_needs_a_token_and_shows_ones_own(
    service: Service, operation: Operation
) -> None:
    owner, stranger = await service.fans(2)
    things = await something_of_everything(service, owner)
    async with nothing_changes(service, things.showtime_id):
        refused(await ask(service, things, operation, None), 401, "not_authenticated")
        forgery = await ask(service, things, operation, f"Bearer {forged_token(owner)}")
        refused(forgery, 401, "not_authenticated")
    strangers = await ask(service, things, operation, bearer(stranger))
    assert strangers.status == MATRIX[operation.name].status
    assert things.order_id not in json.dumps(strangers.body)
    if operation.name == "list_orders":
        owners = await ask(service, things, operation, bearer(owner))
        assert {item["order_id"] for item in owners.body["data"]} == {things.order_id, things.bought_order_id}


@pytest.mark.parametrize(
    "operation",
    [OPERATIONS[name] for name, row in MATRIX.items() if row.to == OPEN and OPERATIONS[name].method == "GET"],
    ids=lambda each: each.name,
)
async def test_what_is_open_is_the_same_for_everybody(service: Service, operation: Operation) -> None:
    owner, stranger = await service.fans(2)
    things = await something_of_everything(service, owner)
    answers = []
    for authorization in (None, f"Bearer {forged_token(owner)}", bearer(stranger), bearer(owner)):
        if operation.name == "watch_seats":
            answers.append(await _first_event(service, things, authorization))
            continue
        answer = await ask(service, things, operation, authorization)
        assert answer.status == MATRIX[operation.name].status, answer.body
        answers.append(answer.body)
    assert answers == [answers[0]] * 4
    assert owner.account_id not in json.dumps(answers, default=repr)


async def _first_event(service: Service, things: Belongings, authorization: str | None) -> list[bytes]:
    assert service.session is not None
    url = f"{service.base_url}/api/v1/showtimes/{things.showtime_id}/events"
    headers = {} if authorization is None else {"Authorization": authorization}
    async with service.session.get(url, headers=headers) as stream:
        assert stream.status == 200
        async with asyncio.timeout(5):
            return [await stream.content.readline() for _ in range(4)]


async def test_registering_and_signing_in_need_no_token_and_give_one(service: Service) -> None:
    name = f"open-{service.new_key()}"
    body = {"email": f"{name}@example.com", "password": "seven lamps over water", "display_name": name}
    registered = await service.request("POST", "/accounts", json_body=body)
    assert registered.status == 201, registered.body
    signed_in = await service.request(
        "POST", "/sessions", json_body={"login": body["email"].upper(), "password": body["password"]}
    )
    assert signed_in.status == 201
    assert signed_in.body["account_id"] == registered.body["account_id"]
    for session in (registered.body, signed_in.body):
        fan = Fan(service, session["account_id"], session["access_token"])
        assert (await fan.call("GET", "/orders")).body == {"data": [], "next_cursor": None}
    again = await service.request("POST", "/accounts", json_body=body)
    refused(again, 409, "account_exists", sent=(name,))


async def test_no_account_and_a_wrong_password_are_the_same_answer(service: Service) -> None:
    name = f"known-{service.new_key()}"
    body = {"email": f"{name}@example.com", "password": "seven lamps over water", "display_name": name}
    assert (await service.request("POST", "/accounts", json_body=body)).status == 201
    tries = [
        {"login": body["email"], "password": "seven lamps over wine"},
        {"login": f"x{body['email']}", "password": body["password"]},
        {"login": "nobody at all", "password": body["password"]},
        {"login": "+8613800138000", "password": body["password"]},
    ]
    answers = [await service.request("POST", "/sessions", json_body=one) for one in tries]
    for answer in answers:
        refused(answer, 401, "invalid_credentials", sent=(name, "seven lamps"))
    assert [_comparable(answer) for answer in answers] == [_comparable(answers[0])] * 4


def _segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _bad_tokens(service: Service, fan: Fan) -> dict[str, str]:
    """Everything that is no token of this service, signed by us, of today."""
    key = keys.token_keys(load(service.environment))[0]
    head, claims, signature = fan.token.split(".")
    read = jwt.decode(fan.token, options={"verify_signature": False})
    kid = jwt.get_unverified_header(fan.token)["kid"]

    def signed(by: bytes = key, algorithm: str = "HS256", **changes: Any) -> str:
        kept = {name: value for name, value in {**read, **changes}.items() if value is not None}
        with warnings.catch_warnings():  # of a key too short for the other algorithm
            warnings.simplefilter("ignore")
            return jwt.encode(kept, by, algorithm=algorithm, headers={"kid": kid})

    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    none = {"alg": "none", "typ": "JWT", "kid": kid}
    by_hand = f"{_segment(none)}.{claims}"
    return {
        "a word": "token",
        "expired a second ago": signed(exp=int(time.time()) - 1),
        "expired an hour ago": signed(iat=now - 2 * hour, exp=now - hour),
        "expired at the beginning": signed(exp=0),
        "never expires": signed(exp=None),
        "expires in the year 10^9": signed(exp=2**55),
        "expires on no number": signed(exp="tomorrow"),
        "another issuer": signed(iss="somebody"),
        "no issuer": signed(iss=None),
        "nobody": signed(sub=None),
        "another key": signed(by=b"f" * 32),
        "our key, another algorithm": signed(algorithm="HS512"),
        "no algorithm, no signature": f"{by_hand}.",
        "no algorithm, our signature": f"{by_hand}.{signature}",
        "NONE": f"{_segment({**none, 'alg': 'NONE'})}.{claims}.",
        "no algorithm, signed": f"{by_hand}."
        + base64.urlsafe_b64encode(hmac.digest(key, by_hand.encode(), hashlib.sha256)).rstrip(b"=").decode(),
        "another subject": f"{head}.{_segment({**read, 'sub': 'acc_' + '0' * 26})}.{signature}",
        "without signature": f"{head}.{claims}.",
        "two parts": f"{head}.{claims}",
        "four parts": f"{fan.token}.{signature}",
        "cut": fan.token[:-1],
        "longer": f"{fan.token}A",
        "another last letter": fan.token[:-3] + ("AAA" if fan.token[-3:] != "AAA" else "BBB"),
        "padded": f"{fan.token}=",
        "in capitals": fan.token.upper(),
        "twice": f"{fan.token} {fan.token}",
        "5,000 long": "a" * 5_000,
        "full-width": fan.token[:-1] + "Ａ",
    }


async def test_b37_whatever_is_wrong_with_a_token_the_answer_is_the_same(service: Service) -> None:
    (fan,) = await service.fans(1)
    answers = {"missing": await send(service, "GET", "/orders")}
    for what, token in _bad_tokens(service, fan).items():
        headers = [("Authorization", f"Bearer {token}")]
        answers[what] = await send(service, "GET", "/orders", headers=headers)
    for what, header in {
        "another scheme": f"Basic {fan.token}",
        "no scheme": fan.token,
        "no token": "Bearer",
        "only spaces": "Bearer   ",
    }.items():
        answers[what] = await send(service, "GET", "/orders", headers=[("Authorization", header)])
    both = [("Authorization", f"Bearer {fan.token}")] * 2
    answers["two headers"] = await send(service, "GET", "/orders", headers=both)
    first = answers["missing"]
    for what, answer in answers.items():
        refused(answer, 401, "not_authenticated", sent=(fan.token,))
        assert _comparable(answer) == _comparable(first), what
    good = await send(service, "GET", "/orders", headers=[("Authorization", f"bEARER {fan.token}")])
    assert good.status == 200


async def test_a_token_in_the_address_is_no_token(service: Service) -> None:
    (fan,) = await service.fans(1)
    answer = await send(service, "GET", f"/orders?access_token={fan.token}")
    refused(answer, 401, "not_authenticated", sent=(fan.token,))


@those_that_need_a_token
async def test_s9_nothing_a_browser_sends_by_itself_speaks_for_anybody(
    service: Service, operation: Operation
) -> None:
    """So a page of elsewhere has nothing to ride on: cookies and remembered passwords are nobody's word."""
    things = await something_of_everything(service)
    token = things.owner.token
    basic = base64.b64encode(f"{things.owner.account_id}:{token}".encode()).decode()
    cookies = (f"{name}={token}" for name in ("__Host-session", "session", "access_token", "Authorization"))
    async with nothing_changes(service, things.showtime_id):
        for name, value in {
            "Cookie": "; ".join(cookies),
            "Authorization": f"Basic {basic}",
        }.items():
            answer = await ask(service, things, operation, None, (name, value))
            refused(answer, 401, "not_authenticated", sent=(token,))
            assert "Set-Cookie" not in answer.headers


async def test_b29_the_same_key_of_somebody_else_is_another_key(service: Service) -> None:
    showtime_id = await service.add_showtime()
    one, other = await service.fans(2)
    first = await one.hold(showtime_id, "D5", "D6", key="shared")
    second = await other.hold(showtime_id, "D7", "D8", key="shared")
    assert first.status == second.status == 201
    assert first.body["hold_id"] != second.body["hold_id"]
    assert "Idempotent-Replayed" not in second.headers
