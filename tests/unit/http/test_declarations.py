"""A declaration that cannot be kept stops the process before it opens a port."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from runtime.http import (
    Answer,
    Call,
    Model,
    MoneyModel,
    Operations,
    PageQuery,
    Record,
    accepted,
    build_app,
    created,
    instant,
    no_content,
    ok,
    replayed,
)
from tests.unit.http.cinema import Tokens
from tests.unit.http.memory_guard import MemoryGuard


class Loose(msgspec.Struct):
    text: str


class Unbounded(Model):
    count: int
    parts: list[Annotated[int, Meta(ge=1)]]
    fine: Annotated[int, Meta(ge=1, lt=5)] = 1


async def handle(call: Call[Any, Any]) -> Answer:
    return no_content()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"refuses": ("seat_takn",)}, "seat_takn"),
        ({"answers": {}}, "answers something"),
        ({"idempotent": True}, "auth=True"),
        ({"body": Loose}, "Loose is not a Model"),
        ({"body": Unbounded}, "Unbounded.count, Unbounded.parts"),
    ],
)
def test_a_promise_that_cannot_be_kept_is_refused(options: dict[str, Any], complaint: str) -> None:
    operations = Operations(tag="x")
    declare: Any = operations.post
    with pytest.raises(ValueError, match=complaint):
        declare("/x", **{"summary": "x", "answers": {204: None}, **options})(handle)


def test_one_address_has_one_handler() -> None:
    operations = Operations(tag="x")
    operations.delete("/x/{a}", summary="x", answers={204: None})(handle)
    operations.delete("/x/{b}", summary="x", answers={204: None}, hidden=True)(handle)
    with pytest.raises(ValueError, match="declared twice"):
        build_app([operations], verifier=Tokens(), guard=MemoryGuard(), title="x", version="1")


def test_what_was_not_declared_is_not_there() -> None:
    call: Call[Any, Any] = Call(None, ("sale_id", "place_id"), ("sal_1", "plc_1"), "req")  # type: ignore[arg-type]
    for name in ("account_id", "idempotency", "body", "query"):
        with pytest.raises(AttributeError):
            getattr(call, name)
    assert call.path == {"sale_id": "sal_1", "place_id": "plc_1"}


def test_structs_of_both_families_are_frozen_and_by_keyword() -> None:
    class Wish(Model):
        count: Annotated[int, Meta(ge=1, le=5)] = 1
        area: str

    class Found(Record):
        count: int

    assert msgspec.json.decode(b'{"area":"a"}', type=Wish) == Wish(area="a", count=1)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"area":"a","price":1}', type=Wish)
    for thing in (Wish(area="a"), Found(count=1), MoneyModel(amount=1, currency="CNY")):
        with pytest.raises(AttributeError):
            thing.count = 2  # type: ignore[misc,union-attr]
    with pytest.raises(TypeError):
        Found(1)  # type: ignore[call-arg]
    assert msgspec.json.decode(b'{"count":1,"new":2}', type=Found) == Found(count=1)


def test_a_page_is_as_large_as_asked_up_to_the_maximum() -> None:
    assert PageQuery().page_size == 20
    assert PageQuery(limit=7).page_size == 7
    assert PageQuery(limit=10**6).page_size == 100


def test_answers_say_what_happened() -> None:
    body = MoneyModel(amount=1, currency="CNY")
    assert ok(body) == Answer(200, body)
    assert ok(b"{}", etag='"1"', cache_control="no-cache").headers == {
        "ETag": '"1"',
        "Cache-Control": "no-cache",
    }
    assert created(body, location="/x").headers == accepted(body, location="/x").headers == {"Location": "/x"}
    assert replayed(ok(body)) == Answer(200, body, None, replayed=True)


def test_instants_have_one_form() -> None:
    moment = datetime(2026, 10, 1, 20, 14, tzinfo=timezone(timedelta(hours=8)))
    assert instant(moment) == instant(moment.astimezone(UTC)) == "2026-10-01T12:14:00.000Z"
