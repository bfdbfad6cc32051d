"""Repeats: one intent, one effect, one answer (rows B26 to B29).

The cinema counts what it was asked, so "not run again" is counted, not believed. What all repeats are
promised is tried twice: with this process's memory of its answers, and with one that forgets at once, as if
another process had been asked, so that the guard has to know.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from kernel.errors import PersistenceUnavailable
from runtime.http import RecentAnswers, Replay, Started
from tests.unit.http.conftest import HOLDS, Site, serve, until
from tests.unit.http.memory_guard import MemoryGuard

SEAT = {"seats": ["7-12"]}


def forgetful() -> RecentAnswers:
    """A memory that knows what is running, and no answer."""
    return RecentAnswers(bytes_max=0)


@pytest.fixture(params=["remembered here", "known to the guard alone"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    recent = RecentAnswers() if request.param == "remembered here" else forgetful()
    async with serve(recent=recent) as started:
        yield started


async def test_a_repeat_gets_the_first_answer_and_has_no_effect(either_site: Site) -> None:
    first = await either_site.hold(SEAT)
    second = await either_site.hold(SEAT)
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert (second.status, second.body) == (first.status, first.body) == (201, first.body)
    for name in ("Location", "Content-Type"):
        assert second.headers[name] == first.headers[name]
    assert second.headers["X-Request-ID"] != first.headers["X-Request-ID"]
    assert len(either_site.cinema.holds) == 1


@pytest.mark.parametrize(
    "respelt",
    [
        b'{ "seats" : [ "7-12" ] }',
        b'{"best_available":null,"seats":["7-12"]}',
        b'{"seats":["7\\u002d12"]}',
    ],
)
async def test_a_repeat_may_be_spelt_differently(site: Site, respelt: bytes) -> None:
    await site.hold(SEAT)
    assert (await site.hold(respelt)).headers["Idempotent-Replayed"] == "true"


async def test_b26_a_key_is_needed(site: Site) -> None:
    headers = {"Authorization": "Bearer good-a"}
    reply = await site.call("POST", HOLDS, json=SEAT, headers=headers)
    reply.is_problem("idempotency_key_missing")
    assert site.cinema.holds == []


@pytest.mark.parametrize("key", ["", '""', "a b", "a" * 65, "ключ", "\xa0", '"a b"', '"' + "a" * 65 + '"'])
async def test_b26_a_malformed_key_is_refused(site: Site, key: str) -> None:
    reply = await site.hold(SEAT, key=key)
    reply.is_problem("idempotency_key_invalid")


async def test_b26_two_keys_are_no_key(site: Site) -> None:
    headers = [
        ("Authorization", "Bearer good-a"),
        ("Idempotency-Key", "k1"),
        ("Idempotency-Key", "k2"),
    ]
    (await site.call("POST", HOLDS, json=SEAT, headers=headers)).is_problem("idempotency_key_invalid")


@pytest.mark.parametrize("key", ["k1", "a" * 64, "0b8f3c1e-7a55-4f0e-9c84-cf0c3a1f8d10", "!#$%&'()~"])
async def test_a_key_may_be_bare_or_quoted(site: Site, key: str) -> None:
    await site.hold(SEAT, key=key)
    assert (await site.hold(SEAT, key=f'"{key}"')).headers["Idempotent-Replayed"] == "true"


async def test_b27_the_key_of_another_body_is_refused(site: Site) -> None:
    await site.hold(SEAT)
    for _ in range(2):
        (await site.hold({"seats": ["7-13"]})).is_problem("idempotency_key_reused")
    assert (await site.hold(SEAT)).headers["Idempotent-Replayed"] == "true"


async def test_b27_the_key_of_another_route_is_refused(site: Site) -> None:
    await site.hold(SEAT)
    headers = {"Authorization": "Bearer good-acc_1", "Idempotency-Key": "k1"}
    reply = await site.call("POST", "/api/v1/showtimes/sho_9999999999/holds", json=SEAT, headers=headers)
    reply.is_problem("idempotency_key_reused")


async def test_b28_a_twin_waits_while_the_first_runs(either_site: Site) -> None:
    either_site.cinema.may_finish.clear()
    first = asyncio.create_task(either_site.hold(SEAT))
    await until(lambda: bool(either_site.cinema.holds))
    twin = await either_site.hold(SEAT)
    assert 1_000 <= twin.is_problem("request_in_progress")["retry_after_ms"] <= 3_000
    assert int(twin.headers["Retry-After"]) <= 3
    either_site.cinema.may_finish.set()
    assert (await first).status == 201
    assert (await either_site.hold(SEAT)).headers["Idempotent-Replayed"] == "true"
    assert len(either_site.cinema.holds) == 1


async def test_b29_the_same_key_of_somebody_else_is_another_key(site: Site) -> None:
    mine = await site.hold(SEAT, account="acc_1")
    theirs = await site.hold({"seats": ["1-1"]}, account="acc_2")
    assert (mine.status, theirs.status) == (201, 201)
    assert "Idempotent-Replayed" not in theirs.headers


@pytest.mark.parametrize(
    ("seat", "code"), [("taken", "seat_taken"), ("expired", "hold_expired"), ("nowhere", "not_found")]
)
async def test_a_final_refusal_is_repeated_word_for_word(site: Site, seat: str, code: str) -> None:
    first = await site.hold({"seats": [seat]})
    second = await site.hold({"seats": [seat]})
    first.is_problem(code)
    second.is_problem(code)
    assert second.body == first.body
    assert second.headers["Idempotent-Replayed"] == "true"
    assert len(site.cinema.holds) == 1


@pytest.mark.parametrize("seat", ["forbidden", "crowded", "fast", "broken"])
async def test_a_passing_refusal_is_not_kept(site: Site, seat: str) -> None:
    for run in (1, 2):
        reply = await site.hold({"seats": [seat]})
        assert "Idempotent-Replayed" not in reply.headers
        assert len(site.cinema.holds) == run


async def test_an_answer_without_a_body_is_repeated_without_a_body(site: Site) -> None:
    headers = {"Authorization": "Bearer good-a", "Idempotency-Key": "k"}
    for repeat in (None, "true"):
        reply = await site.call("POST", "/api/v1/reminders", json={"outcome": "x"}, headers=headers)
        assert (reply.status, reply.body) == (204, b"")
        assert "Content-Length" not in reply.headers
        assert reply.headers.get("Idempotent-Replayed") == repeat


async def test_what_was_never_understood_does_not_use_up_the_key(site: Site) -> None:
    (await site.hold({"seats": []})).is_problem("validation_failed")
    assert (await site.hold(SEAT)).status == 201


async def test_without_the_guard_the_handler_gets_key_and_fingerprint() -> None:
    headers = {"Authorization": "Bearer good-a", "Idempotency-Key": '"k1"'}
    async with serve(recent=forgetful()) as site:

        async def fingerprint(body: object, showtime_id: str = "sho_0123456789") -> str:
            path = f"/api/v1/showtimes/{showtime_id}/self-guarded-holds"
            reply = await site.call("POST", path, json=body, headers=headers)
            assert reply.json["key"] == "k1"
            assert "Idempotent-Replayed" not in reply.headers
            text: str = reply.json["fingerprint"]
            return text

        first = await fingerprint(SEAT)
        assert len(first) == 32
        assert await fingerprint({**SEAT, "best_available": None}) == first
        assert await fingerprint({"seats": ["7-13"]}) != first
        assert await fingerprint(SEAT, "sho_9999999999") != first


async def test_without_the_guard_this_process_still_remembers() -> None:
    path = "/api/v1/showtimes/sho_0123456789/self-guarded-holds"
    headers = {"Authorization": "Bearer good-a", "Idempotency-Key": "k1"}
    async with serve(guard=_DeafGuard()) as site:
        first = await site.call("POST", path, json=SEAT, headers=headers)
        second = await site.call("POST", path, json=SEAT, headers=headers)
        assert (second.status, second.body) == (first.status, first.body) == (200, first.body)
        assert second.headers["Idempotent-Replayed"] == "true"
        other = await site.call("POST", path, json={"seats": ["7-13"]}, headers=headers)
        other.is_problem("idempotency_key_reused")


class _ForgetfulGuard(MemoryGuard):
    async def finish(self, started: Started, status: int, headers: Mapping[str, str], body: bytes) -> None:
        raise PersistenceUnavailable


class _StubbornGuard(MemoryGuard):
    async def abandon(self, started: Started) -> None:
        raise PersistenceUnavailable


class _DeafGuard(MemoryGuard):
    async def begin(self, account_id: str, key: str, fingerprint: bytes, operation: str) -> Replay | Started:
        raise PersistenceUnavailable


class _BrokenGuard(MemoryGuard):
    async def finish(self, started: Started, status: int, headers: Mapping[str, str], body: bytes) -> None:
        raise ArithmeticError

    async def abandon(self, started: Started) -> None:
        raise ArithmeticError


async def test_an_effect_that_happened_is_told_even_when_it_cannot_be_kept() -> None:
    async with serve(guard=_ForgetfulGuard(), recent=forgetful()) as site:
        assert (await site.hold(SEAT)).status == 201
        (await site.hold(SEAT)).is_problem("request_in_progress")
    async with serve(guard=_ForgetfulGuard()) as site:
        assert (await site.hold(SEAT)).status == 201
        assert (await site.hold(SEAT)).headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize(
    ("guard", "seat"),
    [(_ForgetfulGuard(), "7-12"), (_StubbornGuard(), "forbidden")],
    ids=["kept", "freed"],
)
async def test_a_store_that_is_away_is_a_line_of_warning_and_no_bug(
    guard: MemoryGuard, seat: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(guard=guard) as site:
        await site.hold({"seats": [seat]})
        assert await site.counted("http_keys_left_claimed", operation="hold_seats") == 1
        assert await site.counted("http_unhandled_exceptions") == 0
    (record,) = [one for one in caplog.records if one.name == "runtime.http.endpoint"]
    assert record.levelname == "WARNING"
    assert record.exc_info is None
    assert PersistenceUnavailable().detail in record.getMessage()


@pytest.mark.parametrize("seat", ["7-12", "forbidden"], ids=["kept", "freed"])
async def test_a_guard_that_is_broken_shows_with_its_trace(
    seat: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(guard=_BrokenGuard()) as site:
        await site.hold({"seats": [seat]})
        assert await site.counted("http_keys_left_claimed", operation="hold_seats") == 1
        assert await site.counted("http_unhandled_exceptions", operation="hold_seats") == 1
    assert "ArithmeticError" in caplog.text


async def test_without_the_guard_nothing_is_done() -> None:
    async with serve(guard=_DeafGuard()) as site:
        (await site.hold(SEAT)).is_problem("persistence_unavailable")
        assert site.cinema.holds == []


async def test_a_key_that_cannot_be_freed_does_not_change_the_answer() -> None:
    async with serve(guard=_StubbornGuard()) as site:
        (await site.hold({"seats": ["forbidden"]})).is_problem("forbidden")


async def test_a_refusal_about_the_repeat_itself_is_never_kept(site: Site) -> None:
    for run in (1, 2):
        reply = await site.hold({"seats": ["busy"]})
        reply.is_problem("request_in_progress")
        assert "Idempotent-Replayed" not in reply.headers
        assert len(site.cinema.holds) == run
