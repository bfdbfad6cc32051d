"""Goal: a loser is offered at once the nearest places that are like the one he wanted.

Method: drawings for nearness, areas and overlap; random halls against the slow reference.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from reservation.domain import OrphanRule
from reservation.seating import Pick, SeatingPlan, alternatives, is_together
from tests.unit.seating.halls import Hall, Reference, draw, halls


def offers(
    hall: Hall, wanted: Sequence[int], rule: OrphanRule = "lenient", limit: int = 3, seed: int = 0
) -> tuple[Pick, ...]:
    return alternatives(SeatingPlan(hall.layout), hall.taken, wanted, rule, limit=limit, seed=seed)


def test_the_nearest_places_come_first_and_do_not_overlap() -> None:
    hall = draw("..", "##", "..", "..")
    got = offers(hall, hall.many(1, 0, 1))
    assert {got[0].seats, got[1].seats} == {hall.many(0, 0, 1), hall.many(2, 0, 1)}
    assert got[2] == Pick(hall.many(3, 0, 1), 1, together=True)


def test_losers_with_different_seeds_are_sent_to_different_seats() -> None:
    hall = draw("..", "##", "..", "..")
    firsts = {offers(hall, hall.many(1, 0, 1), seed=seed)[0].seats for seed in range(20)}
    assert firsts == {hall.many(0, 0, 1), hall.many(2, 0, 1)}


def test_the_same_area_comes_before_a_nearer_place_in_another() -> None:
    hall = draw("....", ".##.", "####", "....", areas=("qqqq", "pppp", "pppp", "pppp"))
    got = offers(hall, hall.many(1, 1, 2))
    assert got[0].seats[0] >= 12
    assert hall.layout.seats[got[-1].seats[0]].area_id == "q"


def test_places_overlap_rather_than_be_fewer() -> None:
    hall = draw("###", "...")
    assert {pick.seats for pick in offers(hall, (0, 1))} == {(3, 4), (4, 5)}


def test_a_place_the_orphan_rule_would_refuse_is_not_offered() -> None:
    hall = draw("##..##", "......")
    assert {pick.seats for pick in offers(hall, hall.many(0, 0, 1), limit=9)} == {
        hall.many(0, 2, 3),
        hall.many(1, 0, 1),
        hall.many(1, 2, 3),
        hall.many(1, 4, 5),
    }
    assert len(offers(hall, hall.many(0, 0, 1), "off", limit=9)) == 6


def test_strict_offers_what_leaves_a_single_only_if_nothing_else_does() -> None:
    hall = draw("##", "...", "..#")
    assert [pick.seats for pick in offers(hall, (0, 1), "strict")] == [hall.many(2, 0, 1)]
    less = draw("##", "...", "###")
    assert {pick.seats for pick in offers(less, (0, 1), "strict")} == {less.many(1, 0, 1), less.many(1, 1, 2)}


def test_a_party_nobody_can_seat_together_is_offered_two_rows_and_then_a_split() -> None:
    hall = draw("####", ".##.", ".##.", focal=(0, 0))
    assert [pick.seats for pick in offers(hall, (0, 1))] == [hall.many(1, 0) + hall.many(2, 0), (7, 11)]
    split = draw("####", ".##.")
    assert offers(split, (0, 1)) == (Pick((4, 7), 5, together=False),)


def test_strict_does_not_offer_two_rows_that_leave_singles_while_a_pair_could_sit_elsewhere() -> None:
    hall = draw("...###", "...###", "######", "..####", "##..##")
    wanted = (*hall.many(2, 0, 1, 2, 3),)
    assert offers(hall, wanted, "lenient")[0].stage == 4
    for pick in offers(hall, wanted, "strict"):
        assert not Reference(hall).refused_singles(pick.seats, "strict")


def test_only_one_way_of_splitting_a_party_is_offered_and_none_if_two_rows_can_be() -> None:
    assert len(offers(draw("#.#.#.#.#", "#########"), (0, 2))) == 1
    hall = draw(".###.#.", ".######")
    assert offers(hall, (1, 2)) == (Pick(hall.many(0, 0) + hall.many(1, 0), 4, together=False),)


def test_a_place_across_the_border_of_two_areas_is_offered_when_neither_has_one() -> None:
    hall = draw("##..", areas=("pppq",))
    assert offers(hall, (0, 1)) == (Pick((2, 3), 1, together=True),)


def test_an_accessible_seat_is_replaced_by_an_accessible_seat_with_company() -> None:
    hall = draw("AC....ca", "ac......")
    assert [pick.seats for pick in offers(hall, (0, 1))] == [hall.many(1, 0, 1), hall.many(0, 6, 7)]


def test_nothing_is_offered_when_nothing_is_left() -> None:
    assert offers(draw("####", "#.##"), (0, 1)) == ()


def test_no_offer_is_made_without_a_wish_or_a_limit() -> None:
    hall = draw("....")
    assert offers(hall, ()) == offers(hall, (0,), limit=0) == ()


@given(halls(), st.data(), st.sampled_from(["off", "lenient", "strict"]), st.integers(0, 3))
def test_every_offer_is_free_of_the_same_kind_and_acceptable(
    hall: Hall, data: st.DataObject, rule: OrphanRule, seed: int
) -> None:
    plan, reference = SeatingPlan(hall.layout), Reference(hall)
    seats = st.integers(0, hall.layout.seat_count - 1)
    wanted = tuple(data.draw(st.lists(seats, min_size=1, max_size=6, unique=True)))
    got = offers(hall, wanted, rule, seed=seed)
    accessible = [seat for seat in wanted if reference.kind[seat] == "accessible"]
    assert len(got) <= 3
    assert len(set(got)) == len(got)
    assert [pick.together for pick in got] == sorted((pick.together for pick in got), reverse=True)
    for pick in got:
        assert len(set(pick.seats)) == len(wanted)
        assert hall.gone.isdisjoint(pick.seats)
        assert sum(reference.kind[seat] == "accessible" for seat in pick.seats) == len(accessible)
        assert all(reference.partner(seat) in (None, *pick.seats) for seat in pick.seats)
        assert not reference.refused_singles(pick.seats, rule)
        assert pick.together == is_together(plan, pick.seats)
    if rule != "strict" and not accessible:
        assert bool(got) == reference.can_seat(len(wanted))


@given(halls(), st.data(), st.sampled_from(["off", "lenient", "strict"]), st.integers(0, 3))
def test_the_first_offer_is_the_nearest_acceptable_block_of_the_area(
    hall: Hall, data: st.DataObject, rule: OrphanRule, seed: int
) -> None:
    reference, layout = Reference(hall), hall.layout
    area = data.draw(st.sampled_from([area.area_id for area in layout.areas]))
    pool = [seat.index for seat in layout.seats if seat.area_id == area and seat.kind != "accessible"]
    if not pool:
        return
    wanted = data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=5, unique=True))
    blocks = [
        block for block in reference.blocks(len(wanted), {area}) if not reference.refused_singles(block, rule)
    ]
    if blocks:
        xs, ys = [layout.seats[seat].x for seat in wanted], [layout.seats[seat].y for seat in wanted]
        point = sum(xs) / len(xs), sum(ys) / len(ys)
        first = offers(hall, wanted, rule, seed=seed)[0]
        assert first.seats in blocks
        nearest = min(reference.away(block, point) for block in blocks)
        assert reference.away(first.seats, point) <= nearest + 0.5 + 1e-6
