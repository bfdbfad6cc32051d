"""Goal: a webhook is tried again after growing gaps and given up after a day, and words mean what they say.

Method: the outbox over books in memory, with instants handed in; every word of the outcome tables, and
what Hypothesis makes up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypoints import sandbox_gateway
from entrypoints.sandbox_gateway.outbox import GIVE_UP_AFTER_MS, RETRY_GAPS_MS, Outbox
from entrypoints.sandbox_gateway.outcomes import Outcome, payment_outcome, refund_outcome

START_MS = 1_800_000_000_000


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    books = sqlite3.connect(":memory:", isolation_level=None)
    books.executescript(Path(sandbox_gateway.__file__).with_name("schema.sql").read_text())
    yield Outbox(books)
    books.close()


def add(outbox: Outbox, waits_for: str | None = None) -> str:
    event = outbox.add("payment.failed", {}, happened_ms=1, now_ms=START_MS, waits_for=waits_for)
    return event.event_id


def test_the_gaps_grow_and_after_a_day_it_is_given_up(outbox: Outbox) -> None:
    event_id = add(outbox)
    now_ms, gaps = START_MS, []
    while True:
        outbox.failed(event_id, now_ms)
        events, later_ms = outbox.due(now_ms, known=())
        assert events == []
        if later_ms is None:
            break
        gaps.append(later_ms - now_ms)
        now_ms = later_ms
    assert tuple(gaps[: len(RETRY_GAPS_MS)]) == RETRY_GAPS_MS
    assert gaps == sorted(gaps)
    assert now_ms - START_MS >= GIVE_UP_AFTER_MS
    assert now_ms - START_MS < GIVE_UP_AFTER_MS + gaps[-1]
    assert outbox.waiting() == 1, "it stays on record"


def test_due_events_come_oldest_first_and_never_those_already_known(outbox: Outbox) -> None:
    ids = [add(outbox) for _ in range(3)]
    outbox.failed(ids[0], START_MS)
    events, later_ms = outbox.due(START_MS, known={ids[1]})
    assert [event.event_id for event in events] == [ids[2]]
    assert later_ms == START_MS + RETRY_GAPS_MS[0]
    events, _ = outbox.due(START_MS + RETRY_GAPS_MS[0], known=())
    assert [event.event_id for event in events][-1] == ids[0]


def test_an_event_that_waits_is_due_once_the_other_one_is_delivered(outbox: Outbox) -> None:
    first = add(outbox)
    second = add(outbox, waits_for=first)
    assert [event.event_id for event in outbox.due(START_MS * 2, known={first})[0]] == []
    assert [event.event_id for event in outbox.delivered(first, START_MS + 5)] == [second]
    assert [event.event_id for event in outbox.due(START_MS + 5, known=())[0]] == [second]
    outbox.failed(first, START_MS)  # a late answer about an event that is gone changes nothing
    assert outbox.waiting() == 1


def test_every_word_has_its_meaning() -> None:
    assert payment_outcome("approve") == refund_outcome("complete") == Outcome()
    assert payment_outcome("decline") == refund_outcome("fail") == Outcome(succeeds=False)
    assert payment_outcome("late") == Outcome(even_if_expired=True)
    assert payment_outcome("delay:0") == Outcome()
    assert refund_outcome("delay:3600") == Outcome(delay_ms=3_600_000)
    assert payment_outcome("delay:0.25") == Outcome(delay_ms=250)
    assert payment_outcome("complete") is None
    assert refund_outcome("reorder") is None


@given(st.text(max_size=12) | st.from_regex(r"\Adelay:[-+0-9.eE_]{1,8}\Z"))
def test_no_word_delays_beyond_an_hour(word: str) -> None:
    outcome = payment_outcome(word)
    assert outcome is None or 0 <= outcome.delay_ms <= 3_600_000
