"""Goal: offers that are told again are as true as on the day they were made, and not outdone by freed seats.

Method: offers of random halls, then any change of the map outside the seats they are said to rest on; the
slow reference looks at the offers again on the new map. Drawings show why each part of the answer is there:
without it the same check finds an offer that is refused, or a fan who is not told of the seat in front.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reservation.domain import OrphanRule
from reservation.seating import (
    EVERYTHING,
    Pick,
    SeatingPlan,
    alternatives,
    search_rests_on,
    standing,
    truth_rests_on,
)
from tests.unit.seating.halls import Hall, Reference, draw, halls, plane

LIMIT = 3
RULES: list[OrphanRule] = ["off", "lenient", "strict"]
Offers = list[tuple[int, ...]]


def rests_on(
    plan: SeatingPlan, taken: bytes, wanted: Sequence[int], offers: Sequence[Pick], rule: OrphanRule
) -> int:
    """The seats that the truth of offers and the search for them rest on, together."""
    truth = truth_rests_on(plan, taken, wanted, offers, rule)
    return truth if truth == EVERYTHING else truth | search_rests_on(plan, taken, wanted, offers, LIMIT)


def told(hall: Hall, wanted: Sequence[int], rule: OrphanRule = "lenient") -> tuple[Offers, set[int]]:
    """What a loser is offered, and the seats that rests on."""
    plan = SeatingPlan(hall.layout)
    picks = alternatives(plan, hall.taken, wanted, rule, limit=LIMIT)
    where = rests_on(plan, hall.taken, wanted, picks, rule)
    return [pick.seats for pick in picks], {
        seat for seat in range(hall.layout.seat_count) if where >> seat & 1
    }


def is_true(hall: Hall, wanted: Sequence[int], offers: Offers, rule: OrphanRule) -> bool:
    """Whether all offers could be made on this map."""
    reference = Reference(hall)
    kinds = [hall.layout.seats[seat].kind for seat in range(hall.layout.seat_count)]
    ordinary = all(kinds[seat] != "accessible" for seat in wanted)
    return all(
        hall.gone.isdisjoint(offer)
        and len(set(offer)) == len(wanted)
        and not reference.refused_singles(offer, rule)
        and (not ordinary or set(offer) <= reference.usable())
        for offer in offers
    )


@given(halls(), st.data(), st.sampled_from(RULES))
def test_whatever_changes_elsewhere_every_offer_is_free_and_acceptable(
    hall: Hall, data: st.DataObject, rule: OrphanRule
) -> None:
    seats = range(hall.layout.seat_count)
    wanted = data.draw(st.lists(st.sampled_from(seats), min_size=1, max_size=5, unique=True))
    offers, where = told(hall, wanted, rule)
    assert is_true(hall, wanted, offers, rule)
    others = [seat for seat in seats if seat not in where]
    changed = data.draw(st.sets(st.sampled_from(others))) if others else set()
    later = Hall(hall.layout, hall.gone ^ changed)
    assert is_true(later, wanted, offers, rule)
    assert hall.gone & set(wanted) == later.gone & set(wanted)


@given(halls(plain=True), st.data(), st.sampled_from(RULES))
def test_no_seat_that_is_freed_elsewhere_would_make_a_nearer_offer(
    hall: Hall, data: st.DataObject, rule: OrphanRule
) -> None:
    layout = hall.layout
    wanted = data.draw(
        st.lists(st.sampled_from(range(layout.seat_count)), min_size=1, max_size=3, unique=True)
    )
    offers, where = told(hall, wanted, rule)
    gone = sorted(hall.gone - where)
    if not gone:
        return
    assert len(offers) == LIMIT, "with fewer, any freed seat may make another"
    freed = data.draw(st.sets(st.sampled_from(gone), min_size=1))
    later = Reference(hall, hall.gone - freed)
    point = _middle(hall, wanted)
    farthest = max(later.away(offer, point) for offer in offers)
    for block in later.blocks(len(wanted)):
        if freed & set(block):
            assert later.away(block, point) > farthest - 1e-9


@given(halls(), st.data(), st.sampled_from(RULES))
def test_what_still_stands_of_a_search_is_free_and_acceptable_on_the_new_map(
    hall: Hall, data: st.DataObject, rule: OrphanRule
) -> None:
    seats = range(hall.layout.seat_count)
    wanted = data.draw(st.lists(st.sampled_from(seats), min_size=1, max_size=5, unique=True))
    plan = SeatingPlan(hall.layout)
    picks = alternatives(plan, hall.taken, wanted, rule, limit=LIMIT, spare=5)
    searched = search_rests_on(plan, hall.taken, wanted, picks, LIMIT)
    others = [seat for seat in seats if not searched >> seat & 1]
    changed = data.draw(st.sets(st.sampled_from(others))) if others else set()
    later = Hall(hall.layout, hall.gone ^ changed)
    left = list(standing(plan, later.taken, picks, rule))
    assert is_true(later, wanted, [pick.seats for pick in left], rule)
    if not changed:
        assert left == list(picks)


def _middle(hall: Hall, wanted: Sequence[int]) -> tuple[float, float]:
    xs, ys = zip(*((hall.layout.seats[seat].x, hall.layout.seats[seat].y) for seat in wanted), strict=True)
    return sum(xs) / len(xs), sum(ys) / len(ys)


def test_an_offer_rests_on_the_two_seats_on_each_side_of_it() -> None:
    hall = draw("##..........")
    block = Pick((6, 7), 1, together=True)
    where = rests_on(SeatingPlan(hall.layout), hall.taken, (0, 1), [block] * LIMIT, "lenient")
    assert {seat for seat in range(2, 12) if where >> seat & 1} == set(range(4, 10))


@pytest.mark.parametrize("sold", [4, 9])
def test_without_the_second_seat_beside_it_an_offer_would_be_told_that_strands_a_seat(sold: int) -> None:
    hall, block = draw("##.........."), (6, 7)
    assert is_true(hall, (0, 1), [block], "lenient")
    assert not is_true(Hall(hall.layout, hall.gone | {sold}), (0, 1), [block], "lenient")


def test_what_is_sold_far_from_the_offers_is_no_reason_to_search_again() -> None:
    hall = draw(*["." * 40] * 10, "##" + "." * 38, *["." * 40] * 10)
    wanted = hall.many(10, 0, 1)
    offers, where = told(hall, wanted)
    assert len(offers) == LIMIT
    assert len(where - hall.gone) <= LIMIT * (2 + 4)


def test_an_offer_that_is_forgiven_a_single_rests_on_its_whole_row() -> None:
    hall = draw("##.#...#....", "############")
    offer = Pick((4, 5), 2, together=True)
    where = rests_on(SeatingPlan(hall.layout), hall.taken, (0, 1), [offer] * LIMIT, "lenient")
    assert set(range(12)) <= {seat for seat in range(24) if where >> seat & 1}


def test_under_strict_it_rests_on_everything() -> None:
    hall = draw("##", "...", "###")
    offer = Pick((2, 3), 2, together=True)
    assert rests_on(SeatingPlan(hall.layout), hall.taken, (0, 1), [offer], "strict") == EVERYTHING


def test_where_nothing_is_offered_everything_must_stay() -> None:
    hall = draw("####", "#.##")
    assert rests_on(SeatingPlan(hall.layout), hall.taken, (0, 1), [], "lenient") == EVERYTHING


def test_a_seat_freed_between_the_wanted_ones_and_the_offers_matters_and_one_beyond_does_not() -> None:
    hall = draw("######", "######", "##....", "......", "######", "######")
    _, where = told(hall, hall.many(1, 2, 3))
    assert set(hall.many(0, 2, 3)) <= where, "in front, where the offers are not"
    assert where.isdisjoint(hall.many(5, 2, 3)), "beyond the farthest of them"


@pytest.mark.parametrize(
    "hall",
    [
        draw("####", "..##", "####", "####", "####"),
        draw("####", "####", "......", areas=("pppp", "pppp", "qqqqqq")),
        draw("####", ".#.#.#.", "#######", "#######"),
        draw("# #", ". .", ". .", ". .", "# #", "# #", "# #", "####"),
    ],
    ids=["one offer", "offers at another price", "a split party", "offers across the aisle"],
)
def test_where_the_offers_are_not_what_was_wanted_a_seat_freed_anywhere_matters(hall: Hall) -> None:
    offers, where = told(hall, (0, 1))
    assert offers
    assert hall.gone <= where


def test_an_accessible_seat_that_is_free_again_keeps_its_companion() -> None:
    hall = draw("....", "##..", "Ac#.", "....", "....")
    wanted = hall.many(1, 0)
    offered = Pick(hall.many(2, 1), 1, together=True)
    beside = hall.at(2, 0)
    picks = [offered] * LIMIT
    assert rests_on(SeatingPlan(hall.layout), hall.taken, wanted, picks, "off") >> beside & 1
    assert is_true(hall, wanted, [offered.seats], "off")
    assert not is_true(Hall(hall.layout, hall.gone - {beside}), wanted, [offered.seats], "off")


def test_of_a_party_in_two_rows_each_part_rests_on_two_seats_on_each_side() -> None:
    hall = draw("##########", ".........#", ".........#")
    wanted = hall.many(0, *range(10))
    offers, where = told(hall, wanted)
    assert offers == [hall.many(1, *range(2, 7)) + hall.many(2, *range(2, 7))]
    assert {*hall.many(1, 0, 1, 7, 8), *hall.many(2, 0, 1, 7, 8)} <= where
    assert not is_true(Hall(hall.layout, hall.gone | {hall.at(1, 8)}), wanted, offers, "lenient")


def test_rows_that_do_not_stand_in_the_order_of_their_depth_are_looked_at_one_by_one() -> None:
    drawn = draw("####", "####", "....", "....", "####", "####")
    depth = [0.0, 3.0, 1.0, 2.0, 4.0, 9.0]
    seats = tuple(
        type(seat)(seat.index, seat.label, seat.row, seat.number, seat.x, depth[int(seat.row)], "p")
        for seat in drawn.layout.seats
    )
    layout = type(drawn.layout)("turned", seats, drawn.layout.areas, drawn.layout.segments, (0.0, 0.0))
    hall = Hall(layout, drawn.gone)
    assert plane(layout.seat_count, set(hall.gone)) == hall.taken
    _, where = told(hall, hall.many(0, 0, 1))
    assert set(hall.many(0, 0, 1, 2, 3)) <= where
    assert where.isdisjoint(hall.many(5, 0, 1, 2, 3))
