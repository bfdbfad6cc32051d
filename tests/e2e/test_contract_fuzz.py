"""Requests nobody thought of.

Goal: the gate of the bad-input catalogue: whatever is sent, the answer is one the published document names
for that operation: never a 5xx, a problem with a code the operation lists, or a body that fits its schema.
Method: hypothesis makes a request from each operation's own schema and bends it in a few places: a field left
out, doubled, renamed or of another kind, a text of odd letters, an id of something else. The tables of
`test_bad_input` and its neighbours say what each single mistake is answered with; here mistakes meet.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Verbosity, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from entrypoints.serving import TITLE
from kernel.codes import CODES
from runtime.http import document
from runtime.http.operations import Operation
from runtime.http.schemas import schema_of
from tests.support.belongings import WITH_BODY, Belongings, something_of_everything
from tests.support.contract import CONTEXTS, OPERATIONS, path_of, send
from tests.support.service import Service

CALLS_PER_OPERATION: Final = 60
#: A stream does not end, so its answer is not read; the other tests look at it.
FUZZED: Final = [each for each in OPERATIONS.values() if each.name != "watch_seats"]

_DOCUMENT: Final = json.loads(json.dumps(document(CONTEXTS, title=TITLE, version="0")))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def things(service: Service) -> AsyncIterator[Belongings]:
    yield await something_of_everything(service)


# What is sent


odd_texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", " ", "A1", "\x00", "\ud800", "\u202e", "é", "' OR 1=1--", "\r\nFLUSHALL", "x" * 300, "hld_", "1"]
    ),
)
odd_numbers = st.one_of(st.integers(-3, 12), st.sampled_from([2**31, -(2**63), 2**64, 10**40]), st.floats())
odd_values = st.recursive(
    st.one_of(st.none(), st.booleans(), odd_numbers, odd_texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(odd_texts, inner, max_size=3)),
    max_leaves=6,
)


def values_of(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that fit a schema, or nearly."""
    if "$ref" in schema:
        return values_of(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return st.one_of([values_of(part, definitions) for part in schema["anyOf"]])
    match schema.get("type"):
        case "null":
            return st.none()
        case "integer":
            return st.integers(schema.get("minimum", -10), min(schema.get("maximum", 12), 12))
        case "string":
            return st.one_of(
                odd_texts, st.sampled_from([f"{row}{seat}" for row in "DEF" for seat in (5, 6, 7)])
            )
        case "array":
            return st.lists(values_of(schema["items"], definitions), max_size=12)
        case "object":
            fields = {name: values_of(part, definitions) for name, part in schema["properties"].items()}
            required = {name: fields.pop(name) for name in schema.get("required", ())}
            return st.fixed_dictionaries(required, optional=fields)
    return odd_values


@st.composite
def bodies(draw: st.DrawFn, operation: Operation, good: dict[str, Any]) -> bytes:
    """A good body, or one made from the schema, bent here and there and perhaps broken."""
    assert isinstance(operation.body, type)
    schema = schema_of(operation.body)
    made = draw(st.one_of(st.just(good), values_of(schema, schema["$defs"])))
    body = dict(made)
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.one_of(st.sampled_from(sorted({*body, "seats", "count"})), odd_texts))
        if draw(st.booleans()):
            body.pop(name, None)
        else:
            body[name] = draw(odd_values)
    text = json.dumps(body, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.binary(max_size=3)) + text[at + draw(st.integers(0, 2)) :]
    return text


@st.composite
def requests(draw: st.DrawFn, operation: Operation, things: Belongings, key: str) -> dict[str, Any]:
    """A whole request, as `send` takes it."""
    values = things.values(operation)
    bent = {
        name: draw(st.one_of(st.just(value), st.sampled_from(sorted(values.values())), odd_texts))
        if draw(st.integers(0, 4)) == 0
        else value
        for name, value in values.items()
    }
    safe = {name: quote(value.encode("utf-8", "surrogatepass"), safe="") for name, value in bent.items()}
    path = path_of(operation, safe)
    if operation.query is not None:
        names = st.one_of(st.sampled_from(["limit", "cursor", "q", "date", "film_id"]), odd_texts)
        texts = st.one_of(odd_texts, st.integers(-5, 200).map(str), st.sampled_from(["2026-11-22", "film"]))
        pairs = draw(st.lists(st.tuples(names, texts), max_size=3))
        if operation.name == "search" and draw(st.booleans()):
            pairs.append(("q", draw(odd_texts)))
        path += "?" + urlencode(
            [(n.encode("utf-8", "replace"), t.encode("utf-8", "replace")) for n, t in pairs]
        )
    headers = [("Authorization", f"Bearer {things.owner.token if draw(st.integers(0, 9)) else 'x'}")]
    headers.append(("Idempotency-Key", draw(st.sampled_from([key, key, key, "again", ""]))))
    headers.append(
        (
            "Content-Type",
            draw(st.sampled_from(["application/json"] * 8 + ["text/plain", "application/json;x"])),
        )
    )
    body = None
    if operation in WITH_BODY:
        body = draw(bodies(operation, things.body_of(operation)))
    elif operation.method == "POST":
        body = draw(st.one_of(st.just(b"{}"), st.binary(max_size=40)))
    return {"path": path, "headers": headers, "body": body}


# What may come back


def judge(operation: Operation, answer: Any, sent: Any) -> None:
    """The answer is one that the document names for this operation."""
    described = _DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]
    said = f"{answer.status} {answer.body!r:.400} to {sent!r:.600}"
    assert answer.status < 500, said
    assert str(answer.status) in described, f"not in the document: {said}"
    contents = described[str(answer.status)].get("content")
    if contents is None:
        assert answer.body == b"", said
        return
    media_type = answer.headers["Content-Type"].partition(";")[0]
    assert media_type in contents, f"{media_type} is not in the document: {said}"
    if answer.status >= 400:
        assert answer.body["code"] in CODES, said
        assert CODES[answer.body["code"]].http_status == answer.status, said
    if "json" in media_type:
        schema = {**contents[media_type]["schema"], "components": _DOCUMENT["components"]}
        errors = list(Draft202012Validator(schema).iter_errors(answer.body))
        assert not errors, f"{errors[0].message[:200]}: {said}"


@pytest.mark.parametrize("operation", FUZZED, ids=lambda each: each.name)
@given(data=st.data())
@settings(
    max_examples=CALLS_PER_OPERATION,
    deadline=None,
    database=None,
    verbosity=Verbosity.quiet,  # what was sent is in the message; the rest would be our tokens
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
async def test_whatever_is_sent_the_answer_is_in_the_document(
    service: Service, things: Belongings, operation: Operation, data: st.DataObject
) -> None:
    sent = data.draw(requests(operation, things, service.new_key()))
    judge(operation, await send(service, operation.method, **sent), sent)
