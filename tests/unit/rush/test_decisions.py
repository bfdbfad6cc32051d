"""Goal: a fan does the sensible thing after every answer of the contract, and always comes to an end.

Method: the table of refusals, one row each; then Hypothesis sends a fan through any row of answers.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.codes import CODES
from loadtest.rush.decisions import (
    NO_ANSWER,
    PATIENCE_S,
    Answer,
    Do,
    GiveUp,
    Held,
    Try,
    Wish,
    after_hold,
    after_look,
    after_order,
    pause_before_repeat,
    told_to_wait,
)
from loadtest.rush.decisions import test_url_of as url_to_approve

NAMED = Wish(2, ("D5", "D6"))
OFFER = {"alternatives": [{"seats": ["E5", "E6"], "together": True}]}


def refusal(code: str, **facts: Any) -> Answer:
    return Answer(CODES[code].http_status, {"code": code, **facts})


def decide(answer: Answer, wish: Wish = NAMED, tries: int = 1, **known: bool) -> Held | Try | GiveUp:
    return after_hold(answer, wish, tries, random.Random(1), **known)


def test_a_granted_hold_is_read_with_the_seats_it_names() -> None:
    answer = Answer(201, {"hold_id": "hld_1", "seats": [{"label": "D5"}, {"label": "D6"}]})
    assert decide(answer) == Held("hld_1", ("D5", "D6"))


@pytest.mark.parametrize(
    ("answer", "wish", "step"),
    [
        (refusal("seat_taken", **OFFER), NAMED, Try(Wish(2, ("E5", "E6")))),
        (refusal("seat_taken", alternatives=[]), NAMED, Try(Wish(2))),
        (refusal("orphan_seat", **OFFER), NAMED, Try(Wish(2, ("E5", "E6")))),
        (refusal("validation_failed"), NAMED, Try(Wish(2))),
        (refusal("validation_failed"), Wish(2), GiveUp("validation_failed")),
        (refusal("sold_out", seats_left=5), Wish(3), Try(Wish(2))),
        (refusal("sold_out", seats_left=5), Wish(2, accessible=1), Try(Wish(1, accessible=1))),
        (refusal("sold_out", seats_left=5), Wish(1), GiveUp("sold_out")),
        (refusal("sold_out", seats_left=0), Wish(3), GiveUp("sold_out")),
        (refusal("sold_out"), NAMED, GiveUp("sold_out")),
        (refusal("seat_limit_exceeded", already=3, most=4), NAMED, Try(Wish(1))),
        (refusal("seat_limit_exceeded", already=4, most=4), NAMED, GiveUp("limited")),
        (refusal("sale_closed"), NAMED, GiveUp("sale_closed")),
        (refusal("not_authenticated"), NAMED, GiveUp("not_authenticated")),
        (Answer(NO_ANSWER), NAMED, GiveUp("no_answer")),
        (Answer(502), NAMED, GiveUp("502")),
    ],
)
def test_each_refusal_of_a_hold_has_its_next_step(answer: Answer, wish: Wish, step: Try | GiveUp) -> None:
    assert decide(answer, wish) == step


def test_sold_out_for_a_moment_is_asked_again_a_little_later() -> None:
    answer = Answer(409, {"code": "sold_out"}, retry_after_s=1.0)
    step = decide(answer, Wish(2))
    assert isinstance(step, Try)
    assert step.wish == Wish(2)
    assert 1.0 <= step.after_s <= 1.5


def test_who_comes_after_the_end_makes_one_attempt_only() -> None:
    assert decide(refusal("seat_taken", **OFFER), sold_out=True) == GiveUp("sold_out")
    assert decide(refusal("sold_out", seats_left=4), Wish(3), sold_out=True) == GiveUp("sold_out")


@given(st.lists(st.sampled_from(sorted(CODES)), min_size=1), st.integers(1, 10), st.randoms())
def test_no_row_of_refusals_keeps_a_fan_for_ever(codes: list[str], party: int, rng: random.Random) -> None:
    wish = Wish(party)
    for tries, code in enumerate(codes * 20, start=1):
        facts = {"seats_left": 9, "already": 1, "most": 9, **OFFER}
        step = after_hold(refusal(code, **facts), wish, tries, rng)
        assert not isinstance(step, Held)
        if isinstance(step, GiveUp):
            return
        wish = step.wish
        assert wish.party >= 1
    pytest.fail("twenty times round and still asking")


@pytest.mark.parametrize("code", sorted(CODES))
def test_only_answers_that_say_later_are_repeated(code: str) -> None:
    later = {"rate_limited", "request_in_progress"} | {
        name for name, known in CODES.items() if known.http_status == 503
    }
    assert told_to_wait(refusal(code)) == (code in later)


def test_a_repeat_waits_as_long_as_it_was_told_and_never_the_same_as_the_others() -> None:
    told = Answer(503, {"code": "overloaded"}, retry_after_s=2.0)
    pauses = [pause_before_repeat(told, 0, 0.0, random.Random(seed)) for seed in range(20)]
    assert all(pause is not None and 2.0 <= pause <= 3.0 for pause in pauses)
    assert len(set(pauses)) == 20


def test_without_an_answer_pauses_grow_and_patience_ends() -> None:
    lost = Answer(NO_ANSWER)
    pauses = [pause_before_repeat(lost, repeats, 0.0, random.Random(1)) or 0.0 for repeats in range(6)]
    assert pauses == sorted(pauses)
    assert pause_before_repeat(lost, 3, PATIENCE_S + 1, random.Random(1)) is None


def test_an_order_is_paid_once_it_is_there_and_looked_at_until_it_is_confirmed() -> None:
    assert after_order(Answer(201)) == Do("pay")
    assert after_order(Answer(202)).what == "look"  # type: ignore[union-attr]
    assert after_order(refusal("hold_expired")) == GiveUp("hold_expired")

    def look(state: str, *, looks: int = 1, paid: bool = True) -> Do | GiveUp:
        return after_look(Answer(200, {"state": state}), looks, paid=paid)

    assert look("claiming", paid=False).what == "look"  # type: ignore[union-attr]
    assert look("pending_payment", paid=False) == Do("pay")
    assert look("pending_payment").what == "look"  # type: ignore[union-attr]
    assert look("paid").what == "look"  # type: ignore[union-attr]
    assert look("confirmed") == Do("done")
    assert look("expired") == GiveUp("order_expired")
    assert after_look(refusal("not_found"), 1, paid=True) == GiveUp("not_found")
    assert look("paid", looks=10_000) == GiveUp("order_paid")


def test_a_gateway_without_a_test_address_is_said_so() -> None:
    assert url_to_approve(Answer(201, {"next": {"test": {"url": "http://x/1"}}})) == "http://x/1"
    assert url_to_approve(Answer(201, {"next": {"test": None}})) is None
    assert url_to_approve(Answer(201, {"next": None})) is None


def test_a_wish_is_written_as_the_contract_wants_it() -> None:
    assert NAMED.body == {"seats": ["D5", "D6"]}
    assert Wish(3).body == {"best_available": {"count": 3}}
    assert Wish(2, accessible=1).body == {"best_available": {"count": 2, "accessible": 1}}
