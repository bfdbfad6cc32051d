"""Addresses: paths, methods, ids and query strings (rows B15 to B17, B48, B51)."""

from __future__ import annotations

import json

import pytest

from kernel.errors import NotFound
from runtime.http import problems
from tests.unit.http.conftest import HOLDS, Site, reply_of


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/api/v1",
        "/api/v1/films/",
        "//api/v1/films",
        "/api/v1/showtimes//layout",
        "/api/v1/showtimes/sho_%00/layout",
        "/api/v1/%2e%2e/v1/films",
        "/api/v1/../v1/films",
        "/api/v1/films%2f",
        "/api/v1/showtimes/sho_0123456789%2flayout",
        "/api/v1/%2566ilms",
        "/api/v1/films%0a",
        "/" + "a/" * 4_000,
        "/docs/problems/no-such-slug",
        "/docs/assets/../server.py",
    ],
)
async def test_b15_where_nothing_is_nothing_is_found(either_site: Site, path: str) -> None:
    raw = await either_site.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    problem = reply_of(raw).is_problem("not_found")
    assert problem["instance"] == path


def test_b15_a_path_that_is_no_text_is_quoted_in_the_answer() -> None:
    """aiohttp's compiled parser refuses such a path, the one in Python lets it through."""
    answer = problems.answer(NotFound(), instance="/f\udcff\u00e9", request_id="r")
    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body + answer.ending)["instance"] == "/f%FF%C3%A9"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "MOVE"])
async def test_b16_a_wrong_method_is_told_the_right_ones(either_site: Site, method: str) -> None:
    reply = await either_site.call(method, HOLDS)
    reply.is_problem("method_not_allowed")
    assert reply.headers["Allow"] == "POST"


@pytest.mark.parametrize("request_line", [b"CONNECT example.com:443", b"OPTIONS *"])
async def test_b16_methods_without_a_path_are_refused_too(site: Site, request_line: bytes) -> None:
    raw = await site.raw(b"%b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % request_line)
    reply = reply_of(raw)
    reply.is_problem("method_not_allowed")
    assert reply.headers["Allow"] == "DELETE, GET, HEAD, POST"


async def test_head_is_get_without_the_body(either_site: Site) -> None:
    path = "/api/v1/showtimes/sho_0123456789/layout"
    reply = await either_site.call("HEAD", path)
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["ETag"] == '"layout-1"'
    assert reply.headers["Content-Length"] == str(len((await either_site.call("GET", path)).body))


async def test_a_full_address_in_the_request_line_is_understood(site: Site) -> None:
    raw = await site.raw(
        b"GET http://elsewhere/api/v1/films?cinema_id=c1&limit=1 HTTP/1.1\r\nHost: x\r\n"
        b"Connection: close\r\n\r\n"
    )
    assert reply_of(raw).json == {"data": [{"title": "c1"}], "next_cursor": None}


@pytest.mark.parametrize(
    "showtime_id",
    [
        "0b8f3c1e-7a55-4f0e-9c84-cf0c3a1f8d10",
        "hld_0123456789",
        "sho_012345678",
        "sho_01234567890",
        "sho_012345678O",
        "SHO_0123456789",
        "1",
        "-1",
        "sho_" + "0" * 7_000,
    ],
)
async def test_b17_an_id_of_the_wrong_shape_is_the_id_of_nothing(site: Site, showtime_id: str) -> None:
    headers = {"Authorization": "Bearer good-a", "Idempotency-Key": "k"}
    path = f"/api/v1/showtimes/{showtime_id}/holds"
    (await site.call("POST", path, json={"seats": ["1"]}, headers=headers)).is_problem("not_found")
    assert site.cinema.holds == []


async def test_query_parameters_arrive_as_the_struct(either_site: Site) -> None:
    reply = await either_site.call("GET", "/api/v1/films?cinema_id=c+1%20%E5%BD%B1&limit=2")
    assert reply.json["data"] == [{"title": "c 1 影"}] * 2


async def test_b48_a_page_is_never_larger_than_the_maximum(site: Site) -> None:
    reply = await site.call("GET", "/api/v1/films?cinema_id=c1&limit=1000000000")
    assert len(reply.json["data"]) == 100


@pytest.mark.parametrize(
    "query",
    ["cinema_id=1&cinema_id=2", "cinema_id=1&limit=2&limit=2", "cinema_id=1&%6cimit=2&limit=3", "x=1&x=2"],
)
async def test_b51_a_parameter_given_twice_is_refused(site: Site, query: str) -> None:
    (await site.call("GET", f"/api/v1/films?{query}")).is_problem("duplicate_parameter")


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ("", [("/cinema_id", "missing")]),
        ("cinema_id=1&colour=red", [("/colour", "unknown_parameter")]),
        ("cinema_id=1&limit=0", [("/limit", "not_allowed")]),
        ("cinema_id=1&limit=-5", [("/limit", "not_allowed")]),
        ("cinema_id=1&limit=ten", [("/limit", "not_allowed")]),
        ("cinema_id=1&limit=1.5", [("/limit", "not_allowed")]),
        ("cinema_id=1&limit=" + "9" * 5_000, [("/limit", "not_allowed")]),
        ("cinema_id=a%00b", [("/cinema_id", "control_character")]),
        ("cinema_id=%0d%0aFLUSHALL", [("/cinema_id", "control_character")]),
        ("cinema_id=%FF", [("", "not_readable")]),
        ("&".join(f"p{n}=1" for n in range(100)), [("", "not_readable")]),
        ("a=1&limit=x", [("/a", "unknown_parameter"), ("/cinema_id", "missing"), ("/limit", "not_allowed")]),
    ],
)
async def test_everything_wrong_with_a_query_is_named(
    site: Site, query: str, errors: list[tuple[str, str]]
) -> None:
    problem = (await site.call("GET", f"/api/v1/films?{query}")).is_problem("validation_failed")
    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == errors
    assert {error["in"] for error in problem["errors"]} == {"query"}


async def test_a_call_without_parameters_takes_none(site: Site) -> None:
    reply = await site.call("GET", "/api/v1/showtimes/sho_0123456789/layout?x=1")
    reply.is_problem("validation_failed")


@pytest.mark.parametrize(
    ("tag", "status"),
    [
        ('"layout-1"', 304),
        ('W/"layout-1"', 304),
        ('"a", "layout-1"', 304),
        ("*", 304),
        ('"layout-2"', 200),
        ("layout-1", 200),
    ],
)
async def test_who_has_the_current_version_is_not_sent_it_again(site: Site, tag: str, status: int) -> None:
    path = "/api/v1/showtimes/sho_0123456789/layout"
    reply = await site.call("GET", path, headers={"If-None-Match": tag})
    assert reply.status == status
    assert reply.headers["ETag"] == '"layout-1"'
    assert bool(reply.body) == (status == 200)
