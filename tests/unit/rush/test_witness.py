"""Goal: what fans were told becomes operations that promise no more and no less than the answers did.

Method: a clock that is set by hand, answers as the API gives them, and what stands in the operations then.
"""

from __future__ import annotations

import pytest

from loadtest.histories import CLOCKS_DIFFER_S, Operation, judge
from loadtest.rush import Answer, Witness
from loadtest.rush.decisions import Held

NOW = "2026-11-22T20:00:00Z"
UNIX_S = 1_795_377_600.0
GRANTED = Answer(201, {"expires_at": "2026-11-22T20:08:00Z"})
PENDING = {"order_id": "ord_1", "state": "pending_payment"}


class Evening:
    """A witness whose clocks stand where a test puts them."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.witness = Witness("sho_1", lambda: self.now_s, lambda: UNIX_S)
        self.witness.held(Held("hld_1", ("A1",)), 99.0, GRANTED)

    def order(self, asked_s: float, answer: Answer) -> None:
        self.witness.ordering("hld_1", asked_s)
        self.witness.ordered("hld_1", answer)

    def somebody_else_is_granted(self, at_s: float, seat: str = "A1") -> None:
        self.now_s = at_s
        self.witness.held(Held("hld_2", (seat,)), at_s - 0.5, GRANTED)

    def is_possible(self) -> bool:
        return not judge(self.witness.operations()).impossible

    def of(self, what: str) -> Operation | None:
        found = [operation for operation in self.witness.operations() if operation.what == what]
        return found[0] if found else None


@pytest.fixture
def evening() -> Evening:
    return Evening()


def test_a_hold_is_ours_from_question_to_answer_and_until_its_deadline(evening: Evening) -> None:
    until_s = 100.0 + 480.0 - CLOCKS_DIFFER_S
    assert evening.witness.operations() == [
        Operation("hold", "hld_1", ("A1",), 99.0, 100.0, until_s, "sho_1")
    ]


def test_a_deadline_nobody_told_promises_nothing(evening: Evening) -> None:
    evening.witness.held(Held("hld_2", ("A2",)), 99.5, Answer(201, {}))
    assert evening.witness.operations()[1].until_s == 99.5


@pytest.mark.parametrize(
    ("answer", "known", "done"),
    [
        (Answer(204), True, True),
        (Answer(204, unsure=True), True, True),
        (Answer(503, unsure=True), True, False),
        (Answer(410, unsure=True), True, False),
        (Answer(404), True, False),
        (Answer(409, {"code": "hold_lost"}), True, False),
        (Answer(409, {"code": "hold_claimed"}), False, False),
        (Answer(410), False, False),
    ],
)
def test_a_release_is_done_open_or_refused(evening: Evening, answer: Answer, known: bool, done: bool) -> None:
    evening.witness.releasing("hld_1", 99.8)
    evening.witness.released("hld_1", answer)
    release = evening.of("release")
    assert (release is not None) == known
    assert release is None or (release.answered_s is not None) == done


@pytest.mark.parametrize(
    ("answer", "known", "done"),
    [
        (Answer(201, {"order_id": "ord_1", "state": "pending_payment", "pay_by": NOW}), True, True),
        (Answer(202, {"order_id": "ord_1", "state": "claiming", "pay_by": NOW}), True, False),
        (Answer(503, unsure=True), True, False),
        (Answer(409, {"code": "hold_lost"}), False, False),
    ],
)
def test_an_order_is_kept_on_its_way_or_refused(
    evening: Evening, answer: Answer, known: bool, done: bool
) -> None:
    evening.order(99.8, answer)
    claim = evening.of("claim")
    assert (claim is not None) == known
    assert claim is None or (claim.answered_s is not None) == done


def test_an_order_on_its_way_is_kept_from_the_first_answer_that_shows_it(evening: Evening) -> None:
    evening.order(99.8, Answer(202, {"order_id": "ord_1", "state": "claiming"}))
    evening.now_s = 105.0
    evening.witness.seen("ord_1", Answer(200, {"state": "claiming"}))
    assert evening.of("claim") == Operation("claim", "hld_1", ("A1",), 99.8, None, 99.8, "sho_1")
    evening.witness.seen("ord_1", Answer(200, {"state": "paid"}))
    evening.now_s = 110.0
    evening.witness.seen("ord_1", Answer(200, {"state": "paid"}))
    claim = evening.of("claim")
    assert claim is not None
    assert claim.answered_s == 105.0


@pytest.mark.parametrize(
    ("pay_by", "possible"),
    [
        pytest.param("2026-11-22T20:08:00Z", False, id="minutes left"),
        pytest.param("2026-11-22T20:00:01Z", True, id="over by then"),
        pytest.param(None, True, id="nobody told until when"),
    ],
)
@pytest.mark.parametrize("status", [201, 202])
def test_who_is_asked_for_the_money_has_the_seats_until_the_deadline_told_then(
    evening: Evening, status: int, pay_by: str | None, possible: bool
) -> None:
    """A slow store answers 202, which has no deadline; the order's next answer has it."""
    pending = PENDING | ({} if pay_by is None else {"pay_by": pay_by})
    evening.order(
        99.8, Answer(201, pending) if status == 201 else Answer(202, {**pending, "state": "claiming"})
    )
    evening.witness.seen("ord_1", Answer(200, pending))
    evening.somebody_else_is_granted(102.0)
    assert evening.is_possible() is possible


def test_an_order_that_was_only_on_its_way_promised_nothing_until_any_deadline(evening: Evening) -> None:
    claiming = PENDING | {"state": "claiming", "pay_by": "2026-11-22T20:08:00Z"}
    evening.order(99.8, Answer(202, claiming))
    evening.witness.seen("ord_1", Answer(200, claiming))
    evening.somebody_else_is_granted(102.0)
    assert evening.is_possible()


def test_a_deadline_told_again_and_earlier_takes_nothing_back(evening: Evening) -> None:
    evening.order(99.8, Answer(201, PENDING | {"pay_by": "2026-11-22T20:08:00Z"}))
    evening.witness.seen("ord_1", Answer(200, PENDING | {"pay_by": NOW}))
    evening.somebody_else_is_granted(102.0)
    assert not evening.is_possible()


@pytest.mark.parametrize("what", ["release", "claim", "give_back"])
def test_who_never_learns_the_outcome_may_have_had_it(evening: Evening, what: str) -> None:
    """Sent home while asking: the seats may be somebody else's by then, and are not without the question."""
    if what == "give_back":
        evening.order(99.5, Answer(201, PENDING | {"pay_by": "2026-11-22T20:08:00Z"}))
        evening.witness.seen("ord_1", Answer(200, {"state": "confirmed"}))
        evening.witness.giving_back("ord_1", 100.5)
    elif what == "claim":
        evening.witness.ordering("hld_1", 100.5)
    else:
        evening.witness.releasing("hld_1", 100.5)
    asked = evening.of(what)
    assert asked is not None
    assert (asked.asked_s, asked.answered_s) == (100.5, None)
    evening.somebody_else_is_granted(102.0)
    assert evening.is_possible()
    without = [one for one in evening.witness.operations() if one.what != what]
    assert judge(without).impossible


@pytest.mark.parametrize("what", ["release", "claim", "give_back"])
def test_who_was_refused_has_the_seats_still(evening: Evening, what: str) -> None:
    refused = Answer(409, {"code": "hold_claimed"})
    if what == "give_back":
        evening.order(99.5, Answer(201, PENDING | {"pay_by": "2026-11-22T20:08:00Z"}))
        evening.witness.seen("ord_1", Answer(200, {"state": "confirmed"}))
        evening.witness.giving_back("ord_1", 100.5)
        evening.witness.given_back("ord_1", refused)
    elif what == "claim":
        evening.order(100.5, refused)
    else:
        evening.witness.releasing("hld_1", 100.5)
        evening.witness.released("hld_1", refused)
    evening.somebody_else_is_granted(102.0)
    assert not evening.is_possible()


def test_the_first_question_to_let_go_counts(evening: Evening) -> None:
    evening.witness.releasing("hld_1", 99.5)
    evening.witness.releasing("hld_1", 99.9)
    release = evening.of("release")
    assert release is not None
    assert release.asked_s == 99.5


def test_one_hold_given_to_two_people_is_impossible_and_so_are_both_their_ends(evening: Evening) -> None:
    evening.witness.held(Held("hld_2", ("A2",)), 99.5, GRANTED)
    assert evening.is_possible(), "each has one"
    evening.witness.held(Held("hld_1", ("A1",)), 99.5, GRANTED)
    assert not evening.is_possible()
    for answer in (Answer(410), Answer(204)):
        evening.witness.releasing("hld_1", 99.6)
        evening.witness.released("hld_1", answer)
    for answer in (Answer(201, PENDING), Answer(409)):
        evening.order(99.7, answer)
    evening.witness.seen("ord_1", Answer(200, PENDING))


def test_an_order_costs_what_was_said_first(evening: Evening) -> None:
    evening.order(99.8, Answer(202, {"order_id": "ord_1", "state": "claiming"}))
    claim = evening.of("claim")
    assert claim is not None
    assert (claim.total_minor, claim.currency) == (None, "")
    for amount in (9_980, 4_990):
        evening.witness.seen("ord_1", Answer(200, PENDING | {"total": {"amount": amount, "currency": "CNY"}}))
    claim = evening.of("claim")
    assert claim is not None
    assert (claim.total_minor, claim.currency) == (9_980, "CNY")


def test_a_sale_lies_between_the_first_payment_and_the_first_sight_of_it(evening: Evening) -> None:
    evening.order(99.8, Answer(201, {"order_id": "ord_1", "state": "pending_payment"}))
    evening.witness.paying("ord_1", 101.0)
    evening.witness.paying("ord_1", 103.0)
    sale = evening.of("sell")
    assert sale is not None
    assert (sale.asked_s, sale.answered_s) == (101.0, None)
    evening.now_s = 106.0
    evening.witness.seen("ord_1", Answer(503, {"state": "confirmed"}))
    assert evening.of("sell") == sale
    evening.witness.seen("ord_1", Answer(200, {"state": "confirmed"}))
    sale = evening.of("sell")
    assert sale is not None
    assert (sale.asked_s, sale.answered_s) == (101.0, 106.0)


def test_a_rebuild_is_told_with_everything_else(evening: Evening) -> None:
    assert evening.of("lost") is None
    evening.witness.maps_were_remade(90.0)
    assert evening.of("lost") == Operation("lost", "", (), 90.0, showtime_id="sho_1")


def test_every_loss_is_told_with_its_end(evening: Evening) -> None:
    evening.witness.maps_were_remade(90.0, 91.0)
    evening.witness.maps_were_remade(95.0, 96.5)
    losses = [one for one in evening.witness.operations() if one.what == "lost"]
    assert [(one.asked_s, one.answered_s) for one in losses] == [(90.0, 91.0), (95.0, 96.5)]


def test_an_extension_moves_the_deadline_is_open_or_was_refused(evening: Evening) -> None:
    evening.witness.extended("hld_1", 99.5, Answer(410, {"code": "hold_expired"}))
    assert evening.of("extend") is None
    evening.witness.extended("hld_1", 99.5, Answer(503, unsure=True))
    assert evening.of("extend") == Operation("extend", "hld_1", ("A1",), 99.5, showtime_id="sho_1")
    evening.witness.extended("hld_1", 99.7, Answer(200, GRANTED.body))
    until_s = 100.0 + 480.0 - CLOCKS_DIFFER_S
    assert evening.of("extend") == Operation("extend", "hld_1", ("A1",), 99.7, 100.0, until_s, "sho_1")


def test_seats_are_back_by_the_first_answer_that_shows_the_order_refunded(evening: Evening) -> None:
    evening.order(99.8, Answer(201, {"order_id": "ord_1", "state": "confirmed"}))
    evening.witness.seen("ord_1", Answer(200, {"state": "refunded"}))
    assert evening.of("give_back") is None, "nobody asked"
    evening.witness.giving_back("ord_1", 101.0)
    evening.witness.given_back("ord_1", Answer(409, {"code": "refund_not_allowed"}))
    assert evening.of("give_back") is None
    evening.witness.giving_back("ord_1", 102.0)
    evening.witness.given_back("ord_1", Answer(202, {"state": "requested"}))
    evening.witness.seen("ord_1", Answer(200, {"state": "confirmed"}))
    back = evening.of("give_back")
    assert back is not None
    assert (back.asked_s, back.answered_s) == (102.0, None)
    evening.now_s = 107.0
    evening.witness.seen("ord_1", Answer(200, {"state": "refunded"}))
    evening.now_s = 109.0
    evening.witness.seen("ord_1", Answer(200, {"state": "refunded"}))
    back = evening.of("give_back")
    assert back is not None
    assert (back.asked_s, back.answered_s) == (102.0, 107.0)
