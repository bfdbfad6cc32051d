"""Goal: the rush's own count notices every broken promise, and never cries wolf about what is unknown.

Method: a clean history, then one thing wrong at a time. The clean one is the control.
"""

from __future__ import annotations

import pytest

from loadtest.rush import Answer, History, Verdict


def confirmed(*seats: str) -> Answer:
    return Answer(200, {"state": "confirmed", "tickets": [{"seat": seat} for seat in seats]})


def pending(*seats: str, state: str = "pending_payment") -> Answer:
    return Answer(200, {"state": state, "lines": [{"seat": seat} for seat in seats]})


@pytest.fixture
def history() -> History:
    """Two confirmed orders, one acknowledged, one on its way."""
    told = History()
    for order_id, state, seats in (
        ("ord_1", "confirmed", ("A1", "A2")),
        ("ord_2", "confirmed", ("B1",)),
        ("ord_3", "pending_payment", ("C1",)),
        ("ord_4", "claiming", ("D1",)),
    ):
        told.hold()
        told.book(order_id, "token", seats).state = state
    return told


def clean() -> dict[str, Answer]:
    return {
        "ord_1": confirmed("A2", "A1"),
        "ord_2": confirmed("B1"),
        "ord_3": pending("C1"),
        "ord_4": pending("D1"),
    }


def judge(history: History, changed: dict[str, Answer]) -> Verdict:
    return history.judge(clean() | changed, {"A1", "A2", "B1", "C1", "D1"})


def test_a_clean_history_is_found_clean(history: History) -> None:
    verdict = judge(history, {})
    assert verdict.ok
    assert verdict.read == 4


def test_a_seat_in_two_confirmed_orders_is_sold_twice(history: History) -> None:
    history.book("ord_5", "token", ("B1",)).state = "confirmed"
    verdict = judge(history, {"ord_5": confirmed("B1")})
    assert verdict.sold_twice == ["B1: ord_2 and ord_5"]
    assert not verdict.ok


def test_a_seat_claimed_by_two_acknowledged_orders_is_sold_twice(history: History) -> None:
    history.book("ord_5", "token", ("C1",)).state = "pending_payment"
    assert judge(history, {"ord_5": pending("C1")}).sold_twice == ["C1: ord_3 and ord_5"]
    assert judge(history, {"ord_5": pending("C1", state="expired")}).ok


@pytest.mark.parametrize("now", [Answer(404, {"code": "not_found"}), pending("A1", "A2", state="expired")])
def test_a_confirmed_order_that_is_gone_is_missing(history: History, now: Answer) -> None:
    verdict = judge(history, {"ord_1": now})
    assert len(verdict.missing) == 1
    assert verdict.missing[0].startswith("ord_1 was confirmed")


def test_an_acknowledged_order_may_expire_but_not_disappear(history: History) -> None:
    assert judge(history, {"ord_3": pending("C1", state="expired")}).ok
    gone = judge(history, {"ord_3": Answer(410, {"code": "hold_expired"})})
    assert [line.split()[0] for line in gone.missing] == ["ord_3"]


def test_an_order_that_was_never_committed_promises_nothing(history: History) -> None:
    assert judge(history, {"ord_4": Answer(409, {"code": "hold_lost"})}).ok


def test_other_seats_than_were_confirmed_are_a_change(history: History) -> None:
    assert len(judge(history, {"ord_1": confirmed("A1", "A3")}).changed) == 1
    assert len(judge(history, {"ord_1": confirmed("A1")}).changed) == 1


def test_a_confirmed_seat_must_be_sold_on_the_map(history: History) -> None:
    assert history.judge(clean(), {"A1", "B1"}).not_on_map == ["A2"]


def test_a_map_nobody_could_read_proves_nothing(history: History) -> None:
    verdict = history.judge(clean(), None)
    assert (verdict.ok, verdict.unread) == (True, 1)


@pytest.mark.parametrize("status", [0, 500, 503])
def test_what_could_not_be_read_proves_nothing(history: History, status: int) -> None:
    verdict = judge(history, {"ord_1": Answer(status)})
    assert verdict.ok
    assert verdict.unread == 1


def test_an_order_that_was_confirmed_after_its_fan_went_home_counts(history: History) -> None:
    judge(history, {"ord_3": confirmed("C1")})
    assert {booking.order_id for booking in history.confirmed} == {"ord_1", "ord_2", "ord_3"}


def test_open_holds_are_those_neither_ordered_nor_let_go(history: History) -> None:
    assert history.holds_open == 0
    history.hold()
    history.hold()
    history.let_go()
    assert (history.holds_granted, history.holds_open) == (6, 1)
