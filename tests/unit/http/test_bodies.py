"""Bodies: what is wrong with one is named, completely, and nothing of it is repeated.

Rows B1 to B8, B10 and B56 of the bad-input catalogue, against a real server.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from kernel import limits
from tests.unit.http.conftest import HOLDS, Reply, Site, reply_of

TOKEN = {"Authorization": "Bearer good-acc_1", "Idempotency-Key": "k1"}


def errors_of(reply: Reply, code: str = "validation_failed") -> list[tuple[str, str]]:
    return [(error["pointer"], error["code"]) for error in reply.is_problem(code)["errors"]]


async def test_a_good_body_arrives_as_the_struct_it_was_declared_as(either_site: Site) -> None:
    reply = await either_site.hold({"seats": ["7-12", "7-13"]})
    assert reply.status == 201
    assert reply.headers["Location"] == "/api/v1/holds/hld_1"
    assert reply.json["amount"] == {"amount": 4990, "currency": "CNY"}
    ((account_id, showtime_id, wish),) = either_site.cinema.holds
    assert (account_id, showtime_id, wish.seats) == ("acc_1", "sho_0123456789", ["7-12", "7-13"])


@pytest.mark.parametrize(
    "body",
    [
        b"seats=7-12",
        b'{"seats":["7-12"',
        b'{"seats":["7-12"]}}',
        b'{"seats":["7-12"]} {"seats":["7-13"]}',
        b'\xef\xbb\xbf{"seats":["7-12"]}',
        '{"seats":["7-12"]}'.encode("utf-16"),
        b'{"seats":["\xff\xfe"]}',
        b'{"seats":["\xed\xa0\x80"]}',
        b"{'seats':['7-12']}",
        b'{"seats":["7-12"],}',
        b"// no\n{}",
        b"",
        b"   ",
    ],
)
async def test_b1_what_is_not_json_is_said_to_be_not_json(site: Site, body: bytes) -> None:
    (await site.hold(body)).is_problem("malformed_json")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"01", b"0x10"])
async def test_b2_numbers_json_does_not_have_are_malformed(site: Site, number: bytes) -> None:
    body = b'{"best_available":{"count":%b}}' % number
    (await site.hold(body)).is_problem("malformed_json")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 60_000,
        b'{"seats":' + b"[" * 60_000,
        b'{"a":' * 10_000,
        b"[" * (limits.json_depth_max + 1) + b"]" * (limits.json_depth_max + 1),
    ],
)
async def test_b3_deep_nesting_is_malformed_and_harmless(either_site: Site, body: bytes) -> None:
    (await either_site.hold(body)).is_problem("malformed_json")


async def test_b3_brackets_inside_of_texts_are_no_nesting(site: Site) -> None:
    reply = await site.note(json.dumps({"text": "[{" * 50}).encode())
    assert reply.status == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"seats":["7-12"],"seats":["7-13"]}',
        b'{"seats":["7-12"],"\\u0073eats":["7-13"]}',
        b'{"seats" : ["7-12"], "seats"\t:["7-13"]}',
        b'{"best_available":{"count":1,"count":2}}',
        b'{"price":1,"price":1}',
        b'{"seats":["a\\"b"],"best_available":null,"seats":null}',
    ],
)
async def test_b4_a_field_named_twice_is_refused(site: Site, body: bytes) -> None:
    (await site.hold(body)).is_problem("duplicate_key")


@pytest.mark.parametrize(
    "body",
    [
        b'{"text":"a","labels":{"x":"1","y":"2","x":"3"}}',
        b'{"text":"a","labels":{"x":"1","x" :"3"}}',
    ],
)
async def test_b4_also_where_any_key_is_allowed(site: Site, body: bytes) -> None:
    (await site.note(body)).is_problem("duplicate_key")


async def test_b4_the_same_key_in_two_objects_or_as_a_value_is_fine(site: Site) -> None:
    body = {"text": "text", "labels": {"text": "labels", "labels": ":", "a": '"text":"text"'}}
    reply = await site.note(json.dumps(body).encode())
    assert reply.status == 200
    assert reply.json["labels"] == body["labels"]


@pytest.mark.parametrize(
    "text",
    [
        b"\\ud800",
        b"\\udc00\\ud800",
        b"\\u0000",
        b"a\\u0007b",
        b"a\\nb",
        b"a\\tb",
        b"\x7f",
        b"\\u0085",
        b"\xc2\x85",
    ],
)
async def test_b5_control_characters_and_half_pairs_are_named(site: Site, text: bytes) -> None:
    reply = await site.note(b'{"text":"fine","labels":{"a":"%b"}}' % text)
    assert errors_of(reply) == [("/labels/a", "control_character")]


async def test_b5_a_control_character_in_a_name_is_found_too(site: Site) -> None:
    reply = await site.note(b'{"text":"fine","labels":{"a\\u0000":"b"}}')
    assert errors_of(reply) == [("/labels/a\ufffd", "control_character")]


@pytest.mark.parametrize("text", ["7排12座", "🎬", "é à ü", 'a "quoted" \\ word', "©"])
async def test_b5_every_other_text_is_welcome(site: Site, text: str) -> None:
    for body in (json.dumps({"text": text}), json.dumps({"text": text}, ensure_ascii=False)):
        reply = await site.note(body.encode())
        assert reply.json["text"] == text


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("9" * 5_000, "out_of_range"),
        ("-" + "9" * 5_000, "out_of_range"),
        (str(2**63), "out_of_range"),
        ("-6", "out_of_range"),
        ("true", "wrong_type"),
        ("1.0", "wrong_type"),
        ("1e0", "wrong_type"),
        ('"1"', "wrong_type"),
        ("null", "wrong_type"),
        ("[]", "wrong_type"),
    ],
)
async def test_b6_what_is_no_integer_in_range_is_named(site: Site, value: str, code: str) -> None:
    reply = await site.note(b'{"text":"a","stars":%b}' % value.encode())
    assert errors_of(reply) == [("/stars", code)]


@pytest.mark.parametrize("name", ["price", "role", "user_id", "status", "Seats"])
async def test_b7_fields_callers_may_not_set_do_not_exist(site: Site, name: str) -> None:
    reply = await site.hold({"seats": ["7-12"], name: 1})
    assert errors_of(reply, "unknown_field") == [(f"/{name}", "unknown_field")]
    assert site.cinema.holds == []


async def test_b7_an_unknown_field_deep_inside_is_pointed_at(site: Site) -> None:
    reply = await site.hold({"best_available": {"count": 2, "discount": 5}})
    assert errors_of(reply, "unknown_field") == [("/best_available/discount", "unknown_field")]


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/jsonp",
        "application/merge-patch+json",
        "",
    ],
)
async def test_b8_only_json_is_taken_for_json(site: Site, content_type: str) -> None:
    headers = {**TOKEN, "Content-Type": content_type}
    reply = await site.call("POST", HOLDS, data=b'{"seats":["7-12"]}', headers=headers)
    reply.is_problem("unsupported_media_type")


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"', "application/json;"],
)
async def test_b8_json_may_be_spelt_in_several_ways(site: Site, content_type: str) -> None:
    reply = await site.call(
        "POST", HOLDS, data=b'{"seats":["7-12"]}', headers={**TOKEN, "Content-Type": content_type}
    )
    assert reply.status == 201


async def test_b8_a_missing_content_type_is_refused(site: Site) -> None:
    raw = await site.raw(
        b"POST /api/v1/notes HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    )
    reply_of(raw).is_problem("unsupported_media_type")


async def test_b10_a_body_declared_too_large_is_not_even_read(site: Site) -> None:
    raw = await site.raw(
        b"POST /api/v1/notes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100000000\r\n\r\n"
    )
    reply = reply_of(raw)
    reply.is_problem("payload_too_large")
    assert reply.headers["Connection"] == "close"


async def test_b10_a_chunked_body_is_stopped_at_the_limit(either_site: Site) -> None:
    async def endless() -> Any:
        for _ in range(64):
            yield b'"' + b"a" * 4_000

    reply = await either_site.call(
        "POST", "/api/v1/notes", data=endless(), headers={"Content-Type": "application/json"}
    )
    reply.is_problem("payload_too_large")


@pytest.mark.parametrize(("extra", "status"), [(0, 200), (1, 413)])
async def test_b10_the_limit_is_exact(either_site: Site, extra: int, status: int) -> None:
    body = b'{"text":"a"}'.ljust(limits.body_bytes_max + extra)
    assert (await either_site.note(body)).status == status


async def test_b10_a_bomb_is_too_large_and_never_inflated_whole(site: Site) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < limits.body_bytes_max
    (await site.note(bomb, **{"Content-Encoding": "gzip"})).is_problem("payload_too_large")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "x-unknown"])
async def test_b10_a_small_compressed_body_is_not_read_either(site: Site, coding: str) -> None:
    body = gzip.compress(b'{"text":"a"}')
    (await site.note(body, **{"Content-Encoding": coding})).is_problem("unsupported_media_type")


async def test_all_problems_come_at_once(site: Site) -> None:
    reply = await site.hold(
        {"seats": ["", 7, "x" * 17], "best_available": {"count": 99, "area_id": "A!"}, "price": 1}
    )
    assert errors_of(reply) == [
        ("/seats/0", "too_short"),
        ("/seats/1", "wrong_type"),
        ("/seats/2", "too_long"),
        ("/best_available/count", "out_of_range"),
        ("/best_available/area_id", "wrong_format"),
        ("/price", "unknown_field"),
    ]


async def test_a_missing_field_is_named_and_the_expectation_worded(site: Site) -> None:
    reply = await site.hold({"best_available": {}, "seats": []})
    assert reply.is_problem("validation_failed")["errors"] == [
        {"pointer": "/seats", "code": "too_short", "detail": "Expected a list of 1 to 10 items."},
        {"pointer": "/best_available/count", "code": "missing", "detail": "This field is required."},
    ]


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"7"])
async def test_a_body_that_is_no_object_is_pointed_at_as_a_whole(site: Site, body: bytes) -> None:
    assert errors_of(await site.hold(body)) == [("", "wrong_type")]


async def test_nothing_that_was_sent_comes_back(site: Site) -> None:
    secret = "4111111111111111-secret"
    for body in (
        {"seats": [secret] * 11},
        {"seats": secret},
        {"best_available": {"count": secret, "area_id": secret}},
    ):
        reply = await site.hold(body)
        reply.is_problem("validation_failed")
        assert secret not in reply.body.decode()


async def test_the_name_of_an_unknown_field_is_shortened_and_escaped(site: Site) -> None:
    reply = await site.hold({"a/b~c" + "d" * 500: 1})
    ((pointer, _),) = errors_of(reply, "unknown_field")
    assert pointer.startswith("/a~1b~0cddd")
    assert len(pointer) < 80


async def test_explaining_a_hostile_body_is_bounded(site: Site) -> None:
    body = json.dumps({"seats": [0] * 20_000}).encode()
    reply = await site.hold(body)
    assert len(reply.is_problem("validation_failed")["errors"]) == 32


@pytest.mark.parametrize("body", [b"", b"{}", b" {} "])
async def test_a_call_without_a_body_takes_none_or_an_empty_object(site: Site, body: bytes) -> None:
    headers = {"Authorization": "Bearer good-a", "Content-Type": "application/json"}
    reply = await site.call("POST", "/api/v1/holds/hld_1/extension", data=body, headers=headers)
    assert reply.status == 204
    assert reply.body == b""


async def test_a_call_without_a_body_takes_no_other(site: Site) -> None:
    headers = {"Authorization": "Bearer good-a", "Content-Type": "application/json"}
    path = "/api/v1/holds/hld_1/extension"
    (await site.call("POST", path, data=b'{"a":1}', headers=headers)).is_problem("unknown_field")
    (await site.call("POST", path, data=b"xyz", headers=headers)).is_problem("malformed_json")


async def test_an_optional_body_may_be_missing(site: Site) -> None:
    path = "/api/v1/payments/p1/outcome"
    assert (await site.call("POST", path)).json == {"outcome": "approve"}
    assert (await site.call("POST", path, json={"outcome": "decline"})).json == {"outcome": "decline"}


async def test_a_webhook_gets_its_bytes_whatever_they_are(either_site: Site) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Signature": "s"}
    reply = await either_site.call("POST", "/api/v1/webhooks/sandbox", data=b"\xff\x00=1", headers=headers)
    assert reply.body == b"sandbox s 4"
