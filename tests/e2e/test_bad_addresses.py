"""Ids, paths, queries and headers that mean nothing, or mean harm.

Goal: rows B15 to B17, B48, B49, B51 and B55 of the bad-input catalogue: an id of the wrong kind is the id of
nothing, a parameter is named when it is wrong, and text that would be a command somewhere else is only text.
Method: the tables are crossed with every operation that has a path parameter or a query.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from catalogue.paging import Cursors
from kernel import limits
from runtime.http.operations import Operation
from tests.support.belongings import WITH_BODY, Belongings, something_of_everything
from tests.support.contract import CANARY, OPERATIONS, nothing_changes, path_of, refused, send
from tests.support.service import Answer, Service

with_id = pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS.values() if each.parameters], ids=lambda each: each.name
)
with_query = pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS.values() if each.query], ids=lambda each: each.name
)
paged = pytest.mark.parametrize(
    "path", ["/films?", "/cinemas?", "/search?q=%E5%BD%B1&", "/showtimes?", "/orders?"]
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def things(service: Service) -> AsyncIterator[Belongings]:
    yield await something_of_everything(service)


async def ask(service: Service, things: Belongings, operation: Operation, path: str) -> Answer:
    """An operation with a good body and key, at another address."""
    headers = [("Authorization", f"Bearer {things.owner.token}"), ("Content-Type", "application/json")]
    headers.append(("Idempotency-Key", service.new_key()))
    body = json.dumps(things.body_of(operation)).encode() if operation in WITH_BODY else None
    return await send(service, operation.method, path, body=body, headers=headers)


def _odd_ids(good: str) -> dict[str, str]:
    prefix, _, tail = good.partition("_")
    return {
        "a word": CANARY,
        "a number": "1",
        "minus one": "-1",
        "null": "null",
        "UUID": "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "without prefix": tail or "x",
        "another prefix": f"xxx_{tail}",
        "too short": good[:-1],
        "too long": f"{good}0",
        "in capitals": f"{prefix}_{tail.upper()}x",
        "a letter that is no digit": f"{good[:-1]}u",
        "with a space": f"{good}%20",
        "with NUL": f"{good}%00",
        "with a line break": f"{good}%0d%0aFLUSHALL%0d%0a",
        "encoded twice": f"{good}%250d",
        "SQL": "'%20OR%201=1--",
        "SQL, plain": "x'or'1'='1';--",
        "a wildcard": "*",
        "full-width": "%EF%BC%91",
        "no UTF-8": "%ff%fe",
        "dots": "..",
        "encoded dots": "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "an encoded slash": f"{good}%2f",
        "2,000 long": "a" * 2_000,
        "parameters": f"{good};v=1",
        "braces": "{id}",
    }


@with_id
async def test_b17_an_id_of_no_shape_is_the_id_of_nothing(
    service: Service, things: Belongings, operation: Operation
) -> None:
    wrong = []
    values = things.values(operation)
    async with nothing_changes(service, things.showtime_id):
        for name in operation.parameters:
            for what, odd in _odd_ids(values[name]).items():
                answer = await ask(service, things, operation, path_of(operation, {**values, name: odd}))
                unencoded = "%" not in odd
                gateway = name == "gateway" and unencoded
                try:
                    refused(
                        answer,
                        422 if gateway else 404,
                        "unknown_gateway" if gateway else "not_found",
                        sent=(CANARY, "FLUSHALL", "passwd"),
                    )
                except AssertionError as error:
                    wrong.append(f"{what}: {error}")
        assert not wrong, "\n".join(wrong)


@with_id
async def test_a_well_shaped_id_of_nothing_is_not_found(
    service: Service, things: Belongings, operation: Operation
) -> None:
    values = things.values(operation)
    async with nothing_changes(service, things.showtime_id):
        for name in set(operation.parameters) - {"gateway"}:
            prefix, _, tail = values[name].partition("_")
            for other in ("0" * len(tail), "z" * len(tail), tail[::-1]):
                path = path_of(operation, {**values, name: f"{prefix}_{other}"})
                refused(await ask(service, things, operation, path), 404, "not_found", sent=())


@with_id
async def test_the_id_of_another_kind_of_thing_is_not_found(
    service: Service, things: Belongings, operation: Operation
) -> None:
    values = things.values(operation)
    for name in operation.parameters:
        for other, value in values.items():
            if name not in {other, "gateway"}:
                answer = await ask(service, things, operation, path_of(operation, {**values, name: value}))
                refused(answer, 404, "not_found", sent=())


@with_id
async def test_an_address_beside_the_right_one_leads_nowhere(
    service: Service, things: Belongings, operation: Operation
) -> None:
    path = things.path(operation)
    for other in (f"{path}/", f"/{path}", path.replace("/", "//", 1), f"{path}/x", f"{path}%2f", f"/.{path}"):
        answer = await ask(service, things, operation, other)
        refused(answer, 404, "not_found", sent=())
    refused(await ask(service, things, operation, f"{path}?{'x' * 9_000}"), 414, "uri_too_long")


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda each: each.name)
async def test_b16_a_method_an_address_does_not_have_is_refused_with_those_it_has(
    service: Service, things: Belongings, operation: Operation
) -> None:
    path = things.path(operation)
    there = {each.method for each in OPERATIONS.values() if each.path == operation.path}
    async with nothing_changes(service, things.showtime_id):
        for method in {"PUT", "PATCH", "DELETE", "POST", "GET", "OPTIONS", "TRACE"} - there:
            headers = [("Authorization", f"Bearer {things.owner.token}")]
            answer = await send(service, method, path, headers=headers)
            refused(answer, 405, "method_not_allowed")
            assert there <= set(answer.headers["Allow"].split(", "))


ODD_QUERIES: Final[dict[str, tuple[str, int, str]]] = {
    "an unknown name": ("price=1", 422, "validation_failed"),
    "an odd name": ("%24where=1", 422, "validation_failed"),
    "no name": ("=1", 422, "validation_failed"),
    "a name in capitals": ("LIMIT=1", 422, "validation_failed"),
    "a list of names": ("limit[]=1", 422, "validation_failed"),
    "twice": ("limit=1&limit=1", 400, "duplicate_parameter"),
    "thrice": ("limit=1&limit=2&limit=3", 400, "duplicate_parameter"),
    "NUL": ("cursor=%00", 422, "validation_failed"),
    "a line break": ("cursor=a%0d%0aFLUSHALL", 422, "validation_failed"),
    "a C1 control": ("cursor=%c2%85", 422, "validation_failed"),
    "no UTF-8": ("cursor=%ff%fe", 422, "validation_failed"),
    "half a pair": ("cursor=%ed%a0%80", 422, "validation_failed"),
    "forty": ("&".join(f"p{number}=1" for number in range(40)), 422, "validation_failed"),
    "limit 0": ("limit=0", 422, "validation_failed"),
    "limit -1": ("limit=-1", 422, "validation_failed"),
    "limit +1": ("limit=%2B1", 422, "validation_failed"),
    "limit 1.0": ("limit=1.0", 422, "validation_failed"),
    "limit 1e2": ("limit=1e2", 422, "validation_failed"),
    "limit of many digits": (f"limit={'9' * 5_000}", 422, "validation_failed"),
    "limit 2^63": (f"limit={2**63}", 422, "validation_failed"),
    "limit true": ("limit=true", 422, "validation_failed"),
    "limit null": ("limit=null", 422, "validation_failed"),
    "limit in full-width digits": ("limit=%EF%BC%91", 422, "validation_failed"),
    "limit in hexadecimal": ("limit=0x10", 422, "validation_failed"),
    "limit with a space": ("limit=%201", 422, "validation_failed"),
    "limit without value": ("limit=", 422, "validation_failed"),
    "limit and SQL": ("limit=1;--", 422, "validation_failed"),
    "cursor without value": ("cursor=", 422, "validation_failed"),
    "cursor of 600": ("cursor=" + "A" * 600, 422, "validation_failed"),
}


@with_query
async def test_everything_odd_in_a_query_is_refused_by_name(
    service: Service, things: Belongings, operation: Operation
) -> None:
    path = things.path(operation)
    wrong = []
    for what, (query, status, code) in ODD_QUERIES.items():
        answer = await ask(service, things, operation, f"{path}{'&' if '?' in path else '?'}{query}")
        try:
            problem = refused(answer, status, code, sent=("FLUSHALL", "99999"))
            if code == "validation_failed":
                assert problem["errors"]
                assert {error["in"] for error in problem["errors"]} == {"query"}
        except AssertionError as error:
            wrong.append(f"{what}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "operation",
    [each for each in OPERATIONS.values() if each.query is None and each.method == "GET"],
    ids=lambda each: each.name,
)
async def test_a_call_without_parameters_takes_none(
    service: Service, things: Belongings, operation: Operation
) -> None:
    path = things.path(operation)
    refused(
        await ask(service, things, operation, f"{path}?{CANARY}=1&limit=1"), 422, "validation_failed", sent=()
    )


ODD_FILTERS: Final[dict[str, tuple[str, int]]] = {
    "no search": ("/search", 422),
    "an empty search": ("/search?q=", 422),
    "101 characters": (f"/search?q={'a' * 101}", 422),
    "SQL in a search": ("/search?q=%27%3B%20DROP%20TABLE%20catalogue.films%3B--", 200),
    "wildcards in a search": ("/search?q=%25_%25%5C", 200),
    "a pattern in a search": ("/search?q=.*%2B%3F%5B%5D%7B%7D%28%29", 200),
    "nothing but signs": ("/search?q=%21%21%21", 200),
    "an emoji": ("/search?q=%F0%9F%8E%AC", 200),
    "marks that reverse": ("/search?q=%E2%80%AE", 200),
    "a film of no shape": (f"/showtimes?film_id={CANARY}", 200),
    "SQL for a film": ("/showtimes?film_id=%27%20OR%201%3D1--", 200),
    "an empty film": ("/showtimes?film_id=", 422),
    "a film of 65": ("/showtimes?film_id=" + "a" * 65, 422),
    "a list of films": ("/showtimes?film_id=a&film_id=b", 400),
    "a cinema of no shape": ("/showtimes?cinema_id=*", 200),
    "no day": ("/showtimes?date=", 422),
    "the 30th of February": ("/showtimes?date=2026-02-30", 422),
    "the year 0": ("/showtimes?date=0000-01-01", 422),
    "the first day": ("/showtimes?date=0001-01-01", 200),
    "the last day": ("/showtimes?date=9999-12-31", 200),
    "the year 10000": ("/showtimes?date=10000-01-01", 422),
    "a day as number": ("/showtimes?date=20261122", 422),
    "an instant for a day": ("/showtimes?date=2026-11-22T10:00:00Z", 422),
    "minus infinity": ("/showtimes?date=-infinity", 422),
    "today": ("/showtimes?date=today", 422),
}


@pytest.mark.parametrize("what", ODD_FILTERS)
async def test_b49_what_is_a_command_elsewhere_is_only_text_here(service: Service, what: str) -> None:
    path, status = ODD_FILTERS[what]
    async with nothing_changes(service):
        answer = await send(service, "GET", path)
    if status == 200:
        assert answer.status == 200, answer.body
        assert answer.body["data"] == []
    else:
        refused(answer, status, "duplicate_parameter" if status == 400 else "validation_failed", sent=())


def _encoded(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


ODD_CURSORS: Final[dict[str, str]] = {
    "a word": CANARY,
    "a page number": "2",
    "minus one": "-1",
    "a billion": "1000000000",
    "not base64": "%21%21%21",
    "stars": "****",
    "zero bytes": _encoded(b"\0" * 40),
    "JSON": _encoded(b'{"offset": 5}'),
    "SQL": _encoded(b"0:' OR 1=1--"),
    "an instant and NUL": _encoded(b"1700000000000000:ord_\x00"),
    "an instant and no order": _encoded(b"1700000000000000:nothing"),
    "an instant alone": _encoded(b"1700000000000000"),
    "a far instant": _encoded(b"9" * 30 + b":ord_1"),
    "an instant before all": _encoded(b"-" + b"9" * 17 + b":ord_1"),
    "an instant of many digits": _encoded(b"9" * 300 + b":ord_1"),
    "other digits": _encoded("١٧٠٠٠٠٠٠٠٠٠٠٠٠٠٠:ord_1".encode()),
    "an underscore in a number": _encoded(b"1_700_000_000_000_000:ord_1"),
    "the first year": _encoded(b"-62135596800000000:ord_1"),
    "the last year": _encoded(b"253402300799999999:ord_1"),
}


@paged
async def test_b48_a_cursor_that_is_not_ours_is_refused(
    service: Service, things: Belongings, path: str
) -> None:
    wrong = []
    headers = [("Authorization", f"Bearer {things.owner.token}")]
    for what, cursor in ODD_CURSORS.items():
        answer = await send(service, "GET", f"{path}cursor={cursor}", headers=headers)
        try:
            refused(answer, 400, "invalid_cursor")
        except AssertionError as error:
            wrong.append(f"{what}: {error}")
    assert not wrong, "\n".join(wrong)


@paged
async def test_a_cursor_that_was_changed_or_brought_elsewhere_is_refused(
    service: Service, things: Belongings, path: str
) -> None:
    headers = [("Authorization", f"Bearer {things.owner.token}")]
    first = await send(service, "GET", f"{path}limit=1", headers=headers)
    cursor = first.body["next_cursor"]
    assert cursor, "there is more than one page"
    second = await send(service, "GET", f"{path}limit=1&cursor={cursor}", headers=headers)
    assert second.status == 200
    assert second.body["data"] != first.body["data"]
    other_list = "/films?" if "films" not in path else "/cinemas?"
    for changed in (cursor[:-1], f"{cursor}A", cursor.swapcase(), cursor[1:], f"{cursor}%3D"):
        refused(
            await send(service, "GET", f"{path}cursor={changed}", headers=headers),
            400,
            "invalid_cursor",
            sent=(),
        )
    refused(await send(service, "GET", f"{other_list}cursor={cursor}"), 400, "invalid_cursor", sent=())


class _Forger(Cursors[tuple[Any, ...]]):
    """Seals whatever it is given: the seal has no secret."""


@pytest.mark.parametrize(
    ("path", "scope", "position"),
    [
        ("/films?", ("films",), (2**40, "flm_1")),
        ("/films?", ("films",), (2026, "a\x00b")),
        ("/cinemas?", ("cinemas",), ("a\x00b", "cin_1")),
        ("/cinemas?", ("cinemas",), ("a" * 300, "cin_1")),
        ("/showtimes?", ("showtimes", None, None, "None"), (2**62, "sho_1")),
        ("/showtimes?", ("showtimes", None, None, "None"), (-1, "sho_1")),
        ("/search?q=%E5%BD%B1&", ("search", "影"), (2**31, 0, "flm_1")),
        ("/search?q=%E5%BD%B1&", ("search", "影"), (0, 0, "\x00")),
    ],
)
async def test_a_forged_cursor_reaches_nothing(
    service: Service, path: str, scope: tuple[Any, ...], position: tuple[Any, ...]
) -> None:
    cursor = _Forger(tuple, *scope).write(position)
    refused(await send(service, "GET", f"{path}cursor={cursor}"), 400, "invalid_cursor")


@paged
async def test_a_page_is_never_larger_than_the_largest(
    service: Service, things: Belongings, path: str
) -> None:
    headers = [("Authorization", f"Bearer {things.owner.token}")]
    answer = await send(service, "GET", f"{path}limit=1000000000", headers=headers)
    assert answer.status == 200
    assert 0 < len(answer.body["data"]) <= limits.page_size_max


ODD_HEADERS: Final = {
    "a date of the year 9999": ("If-Modified-Since", "Fri, 31 Dec 9999 23:59:59 GMT"),
    "no date": ("If-Modified-Since", "0000-00-00"),
    "odd tags": ("If-None-Match", f'W/, "{CANARY}, ,,*x'),
    "a range": ("Range", "bytes=0-0"),
    "ranges": ("Range", "bytes=" + ",".join(f"{n}-{n}" for n in range(500))),
    "another host": ("X-Forwarded-Host", "evil.example"),
    "another method": ("X-HTTP-Method-Override", "DELETE"),
    "another address": ("X-Original-URL", "/api/v1/orders"),
    "a cookie": ("Cookie", "session=" + "x" * 4_000),
    "a traceparent": ("traceparent", CANARY),
    "an odd request id": ("X-Request-ID", "a b<script>"),
    "a long request id": ("X-Request-ID", "a" * 65),
}


@pytest.mark.parametrize("what", ODD_HEADERS)
async def test_b55_headers_nobody_asked_for_change_nothing(
    service: Service, things: Belongings, what: str
) -> None:
    path = f"/showtimes/{things.showtime_id}"
    plain = await send(service, "GET", path)
    answer = await send(service, "GET", path, headers=[ODD_HEADERS[what]])
    assert answer.status == 200
    assert answer.body == plain.body
    assert not set("<> ") & set(answer.headers["X-Request-ID"])
    assert len(answer.headers["X-Request-ID"]) <= 64


@pytest.mark.parametrize(
    "last", ["", "x", "-1", "0-0", "99999999999999999999-1", f"1-{'9' * 400}", "1-é", "*"]
)
async def test_a_viewer_with_an_odd_last_event_gets_the_whole_picture(
    service: Service, things: Belongings, last: str
) -> None:
    assert service.session is not None
    url = f"{service.base_url}/api/v1/showtimes/{things.showtime_id}/events"
    async with service.session.get(url, headers={"Last-Event-ID": last}) as stream:
        assert stream.status == 200
        async with asyncio.timeout(5):
            lines = [await stream.content.readline() for _ in range(3)]
    assert b"event: snapshot\n" in lines
