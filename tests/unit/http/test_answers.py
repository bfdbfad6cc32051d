"""Answers: every error is a problem document and gives nothing away (rows B9, B36 to B38, B58, B61)."""

from __future__ import annotations

import logging

import pytest

from runtime.http import REQUEST_ID
from runtime.http.context import request_id
from tests.support.service import unhandled_in
from tests.unit.http.conftest import HOLDS, Reply, Site

FILMS = "/api/v1/films?cinema_id=c1"


async def test_answers_are_not_cached_or_sniffed_unless_they_say_so(either_site: Site) -> None:
    reply = await either_site.call("GET", FILMS)
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    layout = await either_site.call("GET", "/api/v1/showtimes/sho_0123456789/layout")
    assert layout.headers["Cache-Control"] == "public, max-age=60"


async def test_no_answer_names_the_software_and_its_version(either_site: Site) -> None:
    for path in (FILMS, "/nowhere"):
        assert (await either_site.call("GET", path)).headers["Server"] == "SeatRush"


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/json",
        "application/problem+json",
        "application/*",
        "text/html, application/json;q=0.1",
        "text/html,*/*;q=0.8",
        "APPLICATION/JSON",
        "",
        " , ",
    ],
)
async def test_b9_who_can_take_json_gets_json(site: Site, accept: str) -> None:
    assert (await site.call("GET", FILMS, headers={"Accept": accept})).status == 200


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "text/*, image/png",
        "application/xml",
        "*/*;q=0",
        "application/json;q=0, application/problem+json;q=0, */*",
    ],
)
async def test_b9_who_cannot_take_json_is_told_in_json(site: Site, accept: str) -> None:
    reply = await site.call("GET", FILMS, headers={"Accept": accept})
    assert "application/json" in reply.is_problem("not_acceptable")["detail"]


async def test_b9_two_accept_headers_are_one_list(site: Site) -> None:
    headers = [("Accept", "text/html"), ("Accept", "application/json")]
    assert (await site.call("GET", FILMS, headers=headers)).status == 200


async def test_b9_a_picture_is_no_json(site: Site) -> None:
    path = "/api/v1/tickets/t1/code.svg"
    reply = await site.call("GET", path, headers={"Accept": "image/*"})
    assert (reply.status, reply.headers["Content-Type"], reply.body) == (200, "image/svg+xml", b"<svg/>")
    (await site.call("GET", path, headers={"Accept": "application/json"})).is_problem("not_acceptable")


async def test_b36_without_a_token_the_door_is_closed(either_site: Site) -> None:
    reply = await either_site.call("POST", HOLDS, json={"seats": ["1"]}, headers={"Idempotency-Key": "k"})
    reply.is_problem("not_authenticated")
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert either_site.cinema.holds == []


async def test_b37_every_bad_token_gets_the_same_answer(site: Site) -> None:
    bad = ["expired", "a.b.c", "", "x" * 5_000, "good", "\xe9"]
    headers = [{"Authorization": f"Bearer {token}"} for token in bad]
    headers += [
        {"Authorization": value} for value in ("Basic Z29vZC1hOmI=", "good-a", "Bearergood-a", "Bearer")
    ]
    headers.append({})
    bodies = set()
    for header in headers:
        reply = await site.call("DELETE", "/api/v1/holds/hld_1", headers={**header, "X-Request-ID": "same"})
        reply.is_problem("not_authenticated")
        bodies.add(reply.body)
    assert len(bodies) == 1


async def test_b37_two_tokens_are_no_token(site: Site) -> None:
    headers = [("Authorization", "Bearer good-a"), ("Authorization", "Bearer good-b")]
    (await site.call("DELETE", "/api/v1/holds/h", headers=headers)).is_problem("not_authenticated")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_name_of_the_scheme_may_be_written_as_one_likes(site: Site, scheme: str) -> None:
    reply = await site.call("DELETE", "/api/v1/holds/h", headers={"Authorization": f"{scheme} good-a"})
    assert reply.status == 204


async def test_a_refusal_carries_its_facts_and_no_fact_replaces_a_member(site: Site) -> None:
    problem = (await site.hold({"seats": ["taken"]})).is_problem("seat_taken")
    assert problem["conflicts"] == ["7-12"]
    assert problem["alternatives"] == []
    assert problem["instance"] == HOLDS


async def test_b38_a_refusal_of_a_handler_has_its_own_status(site: Site) -> None:
    (await site.hold({"seats": ["forbidden"]})).is_problem("forbidden")


async def test_b58_a_crowd_is_not_sent_back_in_the_same_moment(site: Site) -> None:
    waits = []
    for _ in range(20):
        reply = await site.hold({"seats": ["crowded"]})
        waits.append(reply.is_problem("overloaded")["retry_after_ms"])
        assert 1 <= int(reply.headers["Retry-After"]) <= 5
    assert len(set(waits)) > 10
    assert all(1_000 <= wait <= 5_000 for wait in waits)


async def test_a_wait_that_is_known_is_never_cut_short(site: Site) -> None:
    reply = await site.hold({"seats": ["fast"]})
    wait_ms = reply.is_problem("rate_limited")["retry_after_ms"]
    assert 7_200 <= wait_ms <= 11_200
    assert reply.headers["Retry-After"] == str(-(-wait_ms // 1_000))


async def test_b61_a_broken_handler_says_nothing_of_the_inside(
    either_site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        reply = await either_site.hold({"seats": ["broken"]}, **{"X-Request-ID": "find-me"})
    problem = reply.is_problem("internal_error")
    assert set(problem) == {"type", "title", "status", "detail", "instance", "code", "request_id"}
    assert "secret" not in reply.body.decode()
    assert "find-me" in caplog.text
    assert "the secret of the house" in caplog.text
    page = (await either_site.call("GET", "/metrics")).body.decode()
    assert unhandled_in(page) == {"hold_seats": 1.0}, "which is what fails a run of the whole"


async def test_facts_that_are_not_json_cost_the_facts_and_not_the_answer(site: Site) -> None:
    problem = (await site.hold({"seats": ["unwritable"]})).is_problem("seat_taken")
    assert "thing" not in problem


@pytest.mark.parametrize(("seat", "code"), [("aiohttp", "bad_request"), ("large", "payload_too_large")])
async def test_errors_of_aiohttp_become_problems(site: Site, seat: str, code: str) -> None:
    reply: Reply = await site.hold({"seats": [seat]})
    reply.is_problem(code)


async def test_the_callers_own_request_id_comes_back(either_site: Site) -> None:
    name = "abc-DEF_1.2:3"
    for path in (FILMS, "/nowhere", "/api/v1/films"):
        reply = await either_site.call("GET", path, headers={"X-Request-ID": name})
        assert reply.headers["X-Request-ID"] == name
        assert reply.status == 200 or reply.json["request_id"] == name


@pytest.mark.parametrize("name", ["", "a b", "a" * 65, "<script>", "ü", 'a"b', "../etc"])
async def test_an_odd_request_id_is_replaced(site: Site, name: str) -> None:
    reply = await site.call("GET", "/nowhere", headers={"X-Request-ID": name})
    assert reply.headers["X-Request-ID"] == reply.json["request_id"] != name
    assert reply.json["request_id"].startswith("req_")


def test_request_ids_are_never_given_twice() -> None:
    assert len({request_id(None) for _ in range(1_000)}) == 1_000
    assert REQUEST_ID.get() == ""
