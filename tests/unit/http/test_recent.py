"""What one process remembers of its answers: as long as it said, as much as it said, and nobody else's.

Time is a number the test moves.
"""

from __future__ import annotations

import pytest

from kernel.errors import IdempotencyKeyReused, RequestInProgress
from runtime.http import Answer, RecentAnswers

DONE = Answer(201, b"{}", {"Location": "/holds/1"})
ASKED, OTHER = 1, 2


class Now:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def __call__(self) -> float:
        return self.at_s


def answered(recent: RecentAnswers, key: str, answer: Answer = DONE) -> None:
    assert recent.begin(f"acc {key}", ASKED) is None
    recent.finish(f"acc {key}", answer)


def test_the_answer_is_the_first_one() -> None:
    recent = RecentAnswers()
    answered(recent, "k")
    assert recent.begin("acc k", ASKED) is DONE
    assert recent.begin("somebody else k", ASKED) is None


def test_a_twin_is_told_to_wait_and_a_key_stays_with_its_request() -> None:
    recent = RecentAnswers()
    assert recent.begin("acc k", ASKED) is None
    with pytest.raises(RequestInProgress):
        recent.begin("acc k", ASKED)
    with pytest.raises(IdempotencyKeyReused):
        recent.begin("acc k", OTHER)
    recent.finish("acc k", DONE)
    with pytest.raises(IdempotencyKeyReused):
        recent.begin("acc k", OTHER)


def test_what_was_given_up_begins_anew() -> None:
    recent = RecentAnswers()
    assert recent.begin("acc k", ASKED) is None
    recent.abandon("acc k")
    assert recent.begin("acc k", OTHER) is None


def test_an_answer_is_forgotten_after_its_time() -> None:
    now = Now()
    recent = RecentAnswers(ttl_s=10.0, now_s=now)
    answered(recent, "old")
    now.at_s = 9.9
    answered(recent, "young")
    assert recent.begin("acc old", ASKED) is DONE
    now.at_s = 10.0
    answered(recent, "younger")  # forgetting is done by whoever comes next
    assert recent.begin("acc old", ASKED) is None
    assert recent.begin("acc young", ASKED) is DONE


def test_an_answer_is_not_told_after_its_time_though_nobody_came_meanwhile() -> None:
    now = Now()
    recent = RecentAnswers(ttl_s=10.0, now_s=now)
    answered(recent, "old")
    now.at_s = 10.0
    answered(recent, "old", Answer(409, b"another"))
    now.at_s = 19.0
    assert recent.begin("acc old", ASKED) == Answer(409, b"another")
    assert len(recent) == 1


def test_the_oldest_answers_go_first_when_they_are_too_much() -> None:
    recent = RecentAnswers(bytes_max=10_000)
    large = Answer(409, b"x" * 1_000)
    for number in range(100):
        answered(recent, str(number), large)
    assert 1 < len(recent) <= 10
    assert recent.begin("acc 99", ASKED) is large
    assert recent.begin("acc 0", ASKED) is None


def test_endings_count_as_what_they_are_though_answers_may_share_them() -> None:
    recent = RecentAnswers(bytes_max=10_000)
    large = Answer(409, b"x", ending=b"y" * 1_000)
    for number in range(100):
        answered(recent, str(number), large)
    assert 1 < len(recent) <= 10


def test_what_is_running_is_never_forgotten() -> None:
    recent = RecentAnswers(bytes_max=0)
    assert recent.begin("acc running", ASKED) is None
    for number in range(10):
        answered(recent, str(number))
    assert len(recent) == 1
    with pytest.raises(RequestInProgress):
        recent.begin("acc running", ASKED)
