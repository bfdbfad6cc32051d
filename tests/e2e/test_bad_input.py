"""Messages that are wrong before anybody asks what they mean, sent to every operation there is.

Goal: whatever a body, a header or a key is, the answer is the refusal the contract names (rows B1 to B10,
B26 to B30 and B56 of the bad-input catalogue), in the one form refusals have, without a word of what was
sent, and nothing has happened. Method: the tables below are crossed with all operations of the real service,
each request wrong in one way only. The plumbing's own tests know more ways; these show that no operation
is without it.
"""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator, validators

from kernel import limits
from runtime.http.models import Model
from runtime.http.operations import Operation
from runtime.http.schemas import schema_of
from tests.support.belongings import WITH_BODY, Belongings, something_of_everything
from tests.support.contract import CANARY, OPERATIONS, nothing_changes, refused, send
from tests.support.service import Service

JSON: Final = "application/json"

each_with_body = pytest.mark.parametrize("operation", WITH_BODY, ids=lambda each: each.name)
each_with_key = pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS.values() if each.idempotent], ids=lambda each: each.name
)
each_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda each: each.name)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def things(service: Service) -> AsyncIterator[Belongings]:
    yield await something_of_everything(service)


@dataclass(frozen=True)
class Case:
    """One way to be wrong."""

    what: str
    body: bytes | None
    status: int
    code: str
    content_type: str | None = JSON
    more: Sequence[tuple[str, str]] = ()
    chunked: bool = False
    keys: Sequence[str] | None = None
    sent: Sequence[str] = (CANARY,)


async def all_refused(
    service: Service, things: Belongings, operation: Operation, cases: Iterator[Case]
) -> None:
    """Send every case; every one must be refused as it says, and none may have an effect."""
    wrong = []
    async with nothing_changes(service, things.showtime_id):
        for case in cases:
            headers = [("Authorization", f"Bearer {things.owner.token}"), *case.more]
            if case.content_type is not None:
                headers.append(("Content-Type", case.content_type))
            keys = [service.new_key()] if case.keys is None else case.keys
            headers += [("Idempotency-Key", key) for key in keys]
            answer = await send(
                service,
                operation.method,
                things.path(operation),
                body=case.body,
                headers=headers,
                chunked=case.chunked,
            )
            try:
                refused(answer, case.status, case.code, sent=case.sent)
            except AssertionError as error:
                wrong.append(f"{case.what}: {error}")
        assert not wrong, "\n".join(wrong)


def unreadable(good: dict[str, Any]) -> Iterator[Case]:
    """What is no JSON, or not one document of it (B1 to B4)."""
    text = json.dumps(good).encode()
    for what, body in {
        "blank": b"  ",
        "cut off": text[:-1],
        "a brace too many": text + b"}",
        "two documents": text + text,
        "a form": b"seats=7-12",
        "single quotes": b"{'seats': 1}",
        "a trailing comma": text[:-1] + b",}",
        "a comment": b"// no\n" + text,
        "byte order mark": b"\xef\xbb\xbf" + text,
        "UTF-16": text.decode().encode("utf-16"),
        "UTF-16 without mark": text.decode().encode("utf-16-le"),
        "bytes that are no UTF-8": b'{"x": "\xff\xfe"}',
        "half a pair as bytes": b'{"x": "\xed\xa0\x80"}',
        "a raw control character": b'{"x": "a\x00b"}',
        "NaN": b'{"x": NaN}',
        "Infinity": b'{"x": Infinity}',
        "minus Infinity": b'{"x": -Infinity}',
        "1e999": b'{"x": 1e999}',
        "a leading zero": b'{"x": 01}',
        "nested 33 deep": b'{"x": ' + b"[" * 33 + b"]" * 33 + b"}",
        "nested 30,000 deep": b"[" * 30_000 + b"]" * 30_000,
        "nested objects": b'{"x":' * 5_000 + b"1" + b"}" * 5_000,
        "30,000 open brackets": b"[" * 30_000,
        "30,000 quotes that end nothing": b"[" * 33 + b'"' + b'\\"' * 30_000,
    }.items():
        yield Case(what, body, 400, "malformed_json")
    name, value = next(iter(good.items()))
    pair = json.dumps(value).encode()
    escaped = f"\\u{ord(name[0]):04x}{name[1:]}".encode()
    for what, first in {"a field twice": name.encode(), "a field twice, once escaped": escaped}.items():
        body = b'{"%b": %b, %b' % (first, pair, text[1:])
        yield Case(what, body, 400, "duplicate_key")


@each_with_body
async def test_a_body_that_is_not_one_json_document_is_refused(
    service: Service, things: Belongings, operation: Operation
) -> None:
    await all_refused(service, things, operation, unreadable(things.body_of(operation)))


def places(value: Any, steps: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where texts stand in a document."""
    if isinstance(value, str):
        yield steps
    elif isinstance(value, list | dict):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*steps, step))


def put(document: dict[str, Any], steps: Sequence[Any], value: Any) -> dict[str, Any]:
    """The document with another value in one place."""
    changed = copy.deepcopy(document)
    inner: Any = changed
    for step in steps[:-1]:
        inner = inner[step]
    inner[steps[-1]] = value
    return changed


def odd_texts(good: dict[str, Any]) -> Iterator[Case]:
    """Texts nobody can read, in every place a text may stand (B5)."""
    for steps in places(good):
        for what, text in {
            "NUL": "\x00",
            "a line break": "\r\n",
            "escape": "\x1b[31m",
            "delete": "\x7f",
            "a C1 control": "\x85",
            "half a pair": "\ud800",
            "a pair the wrong way round": "\ude00\ud83d",
        }.items():
            for escaped in (True, False) if text == "\x7f" else (True,):
                body = json.dumps(put(good, steps, f"{CANARY}{text}"), ensure_ascii=escaped)
                where = "/".join(map(str, steps))
                yield Case(f"{what} in {where}", body.encode(), 422, "validation_failed")


@each_with_body
async def test_control_characters_and_half_pairs_are_refused_in_every_text(
    service: Service, things: Belongings, operation: Operation
) -> None:
    await all_refused(service, things, operation, odd_texts(things.body_of(operation)))


#: One of each kind, and the numbers people try.
_VALUES: Final[Sequence[Any]] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    1.0,
    2**31,
    2**63,
    -(2**63) - 1,
    10**400,
    "",
    "1",
    CANARY,
    "x" * 50_000,
    [],
    [None],
    [1],
    [True],
    [[]],
    [{}],
    {},
    {"a": 1},
)

_strictly: Final[Any] = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def fits(model: type[Model], document: Any) -> bool:
    """Whether the published schema takes a document."""
    return bool(_strictly(schema_of(model)).is_valid(document))


def wrong_values(operation: Operation, good: dict[str, Any]) -> Iterator[Case]:
    """Every field with a value its schema does not allow, and bodies that are no objects (B6)."""
    assert isinstance(operation.body, type)
    assert issubclass(operation.body, Model)
    for other in (None, True, 1, 1.5, CANARY, [], [good]):
        yield Case(f"{other!r:.40} as body", json.dumps(other).encode(), 422, "validation_failed")
    for name in operation.body.__struct_fields__:
        for value in _VALUES:
            document: Any = {**good, name: value}
            if not fits(operation.body, document):
                what = f"{value!r:.40} as {name}"
                yield Case(what, json.dumps(document).encode(), 422, "validation_failed")
    required = schema_of(operation.body)["$defs"][operation.body.__name__].get("required", ())
    for name in required:
        document = {field: value for field, value in good.items() if field != name}
        yield Case(f"no {name}", json.dumps(document).encode(), 422, "validation_failed")


@each_with_body
async def test_a_value_of_the_wrong_kind_or_size_is_refused_in_every_field(
    service: Service, things: Belongings, operation: Operation
) -> None:
    await all_refused(service, things, operation, wrong_values(operation, things.body_of(operation)))


def field_names() -> set[str]:
    """Every name a body or an answer of this API has anywhere, and what people try besides (S11)."""
    tried = "price role is_admin admin user_id account status discount fee currency __proto__ $where id"
    names = {*tried.split(" ")}
    models: list[Any] = [operation.body for operation in OPERATIONS.values()]
    models += [answer for operation in OPERATIONS.values() for answer in operation.answers.values()]
    for model in models:
        if model not in (None, bytes):
            for part in schema_of(model)["$defs"].values():
                names.update(part.get("properties", {}))
    return names


@each_with_body
async def test_no_field_can_be_set_that_the_call_does_not_name(
    service: Service, things: Belongings, operation: Operation
) -> None:
    good = things.body_of(operation)
    assert operation.body is not None
    names = field_names() - set(getattr(operation.body, "__struct_fields__", ()))
    assert len(names) > 50
    cases = (
        Case(name, json.dumps({**good, name: value}).encode(), 422, "unknown_field")
        for name in sorted(names)
        for value in (f"{CANARY}", {"amount": 1, "currency": "CNY"})
    )
    await all_refused(service, things, operation, cases)


@cache
def bomb() -> bytes:
    """50 MB of blanks in 50 kB."""
    return gzip.compress(b" " * 50_000_000)


def wrong_wrappings(good: dict[str, Any]) -> Iterator[Case]:
    """Good content, wrongly labelled, squeezed or much too large (B8, B10, B56)."""
    text = json.dumps(good).encode()
    for content_type in (
        None,
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/problem+json",
        "application/json; charset=utf-16",
        "application/json, text/plain",
        "*/*",
        CANARY,
    ):
        yield Case(f"as {content_type}", text, 415, "unsupported_media_type", content_type)
    gzipped = [("Content-Encoding", "gzip")]
    yield Case("gzip", gzip.compress(text), 415, "unsupported_media_type", more=gzipped)
    yield Case("a bomb", bomb(), 413, "payload_too_large", more=gzipped)
    large = text[:-1] + b" " * (limits.body_bytes_max - len(text) + 1) + b"}"
    assert len(large) == limits.body_bytes_max + 1
    for chunked in (False, True):
        yield Case(f"a byte too large, {chunked=}", large, 413, "payload_too_large", chunked=chunked)
        yield Case(f"a megabyte, {chunked=}", b"[" * 2**20, 413, "payload_too_large", chunked=chunked)


@each_with_body
async def test_a_body_in_the_wrong_wrapping_or_too_large_is_refused(
    service: Service, things: Belongings, operation: Operation
) -> None:
    await all_refused(service, things, operation, wrong_wrappings(things.body_of(operation)))


@pytest.mark.parametrize(
    "operation", [each for each in WITH_BODY if not each.body_optional], ids=lambda each: each.name
)
async def test_a_body_that_is_needed_and_missing_is_refused(
    service: Service, things: Belongings, operation: Operation
) -> None:
    cases = iter(
        [
            Case("nothing", None, 400, "malformed_json"),
            Case("nothing, labelled", b"", 400, "malformed_json"),
            Case("nothing, not labelled", b"", 400, "malformed_json", content_type=None),
        ]
    )
    await all_refused(service, things, operation, cases)


@pytest.mark.parametrize(
    "operation",
    [each for each in OPERATIONS.values() if each.method == "POST" and each.body is None],
    ids=lambda each: each.name,
)
async def test_a_call_that_takes_no_body_is_given_none(
    service: Service, things: Belongings, operation: Operation
) -> None:
    cases = iter(
        [
            Case("a field", b'{"ttl_ms": 1}', 422, "unknown_field"),
            Case("a list", b"[]", 422, "validation_failed"),
            Case("no JSON", CANARY.encode(), 400, "malformed_json"),
            Case("a form", b"ttl_ms=1", 415, "unsupported_media_type", "application/x-www-form-urlencoded"),
        ]
    )
    await all_refused(service, things, operation, cases)


@each_operation
async def test_who_cannot_take_the_answer_is_told_so(
    service: Service, things: Belongings, operation: Operation
) -> None:
    other = "application/json" if operation.media_type != JSON else "image/svg+xml"
    body = json.dumps(things.body_of(operation)).encode() if operation in WITH_BODY else None
    cases = (
        Case(accept, body, 406, "not_acceptable", more=[("Accept", accept)])
        for accept in ("text/html", f"application/{CANARY}", other, "*/*;q=0")
    )
    await all_refused(service, things, operation, cases)


@each_with_key
async def test_a_call_with_an_effect_needs_one_good_key(
    service: Service, things: Belongings, operation: Operation
) -> None:
    body = json.dumps(things.body_of(operation)).encode()
    odd: dict[str, Sequence[str]] = {
        "empty": [""],
        "blank": [" "],
        "65 characters": ["k" * 65],
        "a space inside": ["two words"],
        "a tab": ["two\twords"],
        "not ASCII": ["ключ"],
        "only quotes": ['""'],
        "two": ["first", "second"],
        "the same twice": ["first", "first"],
    }
    cases = [Case("none", body, 400, "idempotency_key_missing", keys=[])]
    cases += [Case(what, body, 400, "idempotency_key_invalid", keys=keys) for what, keys in odd.items()]
    await all_refused(service, things, operation, iter(cases))
