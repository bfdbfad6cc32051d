"""Goal: the best seats are the ones the glossary would name, whatever is left of the hall.

Method: one drawing per stage and per choice within a stage; then random halls, where the slow
reference says which stage must answer and how far the nearest block is.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reservation.seating import Pick, SeatingPlan, best_available, is_together, judge_orphans
from tests.unit.seating.halls import Hall, Reference, draw, halls

parties = st.integers(1, 7)
seeds = st.integers(0, 5)


def best(hall: Hall, count: int, *, area_id: str | None = None, seed: int = 0) -> Pick | None:
    return best_available(SeatingPlan(hall.layout), hall.taken, count, area_id=area_id, seed=seed)


# The stages


def test_stage_1_prefers_a_block_that_leaves_no_single_to_a_more_central_one() -> None:
    hall = draw("..... ......", focal=(1, 0))
    assert best(hall, 3) == Pick((0, 1, 2), 1, together=True)
    assert best(hall, 4) == Pick(hall.many(0, 6, 7, 8, 9), 1, together=True)


def test_stage_2_leaves_a_single_only_where_every_place_would() -> None:
    assert best(draw("...#", "#..."), 2, seed=1) in {
        Pick(seats, 2, together=True) for seats in [(0, 1), (1, 2), (5, 6), (6, 7)]
    }


def test_stage_3_sits_across_an_aisle_rather_than_in_two_rows() -> None:
    hall = draw("#.. ..#", "..### ..")
    assert best(hall, 4) == Pick(hall.many(0, 1, 2, 4, 5), 3, together=False)


def test_stage_3_does_not_cross_from_the_end_of_a_row_to_the_next_row() -> None:
    hall = draw("###..", "..###")
    pick = best(hall, 4)
    assert pick is not None
    assert pick.stage > 3


def test_stage_4_sits_one_behind_the_other() -> None:
    hall = draw("..####", "##..##", "##..##", "####..")
    assert best(hall, 4) == Pick((*hall.many(1, 2, 3), *hall.many(2, 2, 3)), 4, together=False)


def test_stage_4_leaves_nobody_alone_if_that_can_be_avoided() -> None:
    hall = draw("...###", ".#####", "##..##", "##..##", focal=(0, 0))
    assert best(hall, 4) == Pick((*hall.many(2, 2, 3), *hall.many(3, 2, 3)), 4, together=False)


def test_stage_4_accepts_a_lone_person_before_it_splits_the_party() -> None:
    hall = draw("...###", ".#####", "######", "######", "####..")
    assert best(hall, 4) == Pick((*hall.many(0, 0, 1, 2), hall.at(1, 0)), 4, together=False)


def test_stage_4_uses_three_rows_where_two_do_not_hold_the_party() -> None:
    hall = draw("..###", "..###", "..###", "...##", "#####", "..###")
    pick = best(hall, 7)
    assert pick is not None
    assert pick.stage == 4
    assert Reference(hall).in_touch(pick.seats)


def test_stage_4_leaves_no_single_that_moving_over_would_avoid() -> None:
    hall = draw(".....", ".....")
    pick = best(hall, 6)
    assert pick is not None
    assert pick.stage == 4
    assert not Reference(hall).new_singles(set(pick.seats))


def test_stage_4_does_not_reach_across_a_walkway() -> None:
    together = draw("..##", "..##", "####", "####")
    apart = draw("..##", "####", "####", "..##")
    assert [pick and pick.stage for pick in (best(together, 4), best(apart, 4))] == [4, 5]


def test_stage_4_blocks_touch_at_least_at_a_corner() -> None:
    corner, gap = draw("..###", "##.. "), draw("..###", "###..")
    assert [pick and pick.stage for pick in (best(corner, 4), best(gap, 4))] == [4, 5]


def test_stage_4_does_not_pull_blocks_apart_to_keep_couple_seats_whole() -> None:
    hall = draw("lr.###", "#.#lr#")
    assert best(hall, 4) == Pick((*hall.many(0, 0, 1, 2), hall.at(1, 1)), 4, together=False)


def test_stage_5_splits_into_few_pieces_near_each_other_and_says_so() -> None:
    hall = draw("..####..", "########", "########", "..######", focal=(0, 0))
    assert best(hall, 4) == Pick((*hall.many(0, 0, 1), *hall.many(3, 0, 1)), 5, together=False)


def test_stage_5_leaves_nobody_alone_if_that_can_be_avoided() -> None:
    hall = draw("...#####", "########", "########", ".######.", "########", "..####..", focal=(0, 0))
    pick = best(hall, 5)
    assert pick == Pick((*hall.many(0, 0, 1, 2), *hall.many(5, 0, 1)), 5, together=False)


def test_stage_5_prefers_two_small_companies_to_a_large_one_and_a_lone_person() -> None:
    hall = draw("....####", "########", "########", "####...#", "########", "########", "#######.")
    pick = best(hall, 5)
    assert pick is not None
    assert pick.stage == 5
    assert set(hall.many(3, 4, 5, 6)) < set(pick.seats) or set(pick.seats) < {
        *range(4),
        *hall.many(3, 4, 5, 6),
    }
    assert hall.at(6, 7) not in pick.seats


def test_stage_5_seats_the_pieces_near_the_first_one_and_not_near_the_focal_point() -> None:
    hall = draw("##.####.######.#####", focal=(10, 0))
    assert best(hall, 2) == Pick((2, 7), 5, together=False)


def test_stage_5_leaves_no_single_beside_its_pieces() -> None:
    hall = draw("....", "####", "####", "....")
    pick = best(hall, 6)
    assert pick is not None
    assert not Reference(hall).new_singles(set(pick.seats))


def test_a_party_larger_than_what_is_left_gets_nothing() -> None:
    assert best(draw("..#", "#.#"), 4) is None


# Within a stage


def test_the_nearest_block_to_the_focal_point_wins() -> None:
    hall = draw(".........", ".........", ".........", ".........")
    assert best(hall, 3) == Pick(hall.many(2, 3, 4, 5), 1, together=True)


def test_the_centre_is_that_of_the_row_as_built_not_of_what_is_free() -> None:
    hall = draw("##....................", focal=(10.5, 0))
    pick = best(hall, 2)
    assert pick == Pick(hall.many(0, 10, 11), 1, together=True)  # the free part has its centre at 11.5


def test_different_seeds_spread_buyers_over_equal_blocks() -> None:
    hall = draw(".........", focal=(4, 0))
    picks = {best(hall, 2, seed=seed) for seed in range(20)}
    assert picks == {Pick((3, 4), 1, together=True), Pick((4, 5), 1, together=True)}


def test_the_same_seed_gives_the_same_seats() -> None:
    hall = draw("....", "....", focal=(1.5, 0.5))
    assert len({best(hall, 2, seed=7) for _ in range(5)}) == 1


def test_what_is_more_than_half_a_seat_worse_is_never_chosen() -> None:
    hall = draw(".........", focal=(4, 0))
    assert {best(hall, 3, seed=seed) for seed in range(20)} == {Pick((3, 4, 5), 1, together=True)}


def test_an_area_is_searched_alone_though_singles_are_judged_in_the_whole_row() -> None:
    hall = draw("......", areas=("ppqqqq",))
    assert best(hall, 1, area_id="p", seed=3) == Pick((0,), 1, together=True)
    assert best(hall, 3, area_id="p") is None


def test_seats_lost_in_a_race_are_not_picked_again() -> None:
    hall = draw(".......", focal=(3, 0))
    plan = SeatingPlan(hall.layout)
    assert best_available(plan, hall.taken, 1) == Pick((3,), 1, together=True)
    again = best_available(plan, hall.taken, 1, exclude=frozenset({3}))
    assert again is not None
    assert again.seats in {(2,), (4,)}


def test_a_plane_cut_short_by_redis_means_free_seats() -> None:
    hall = draw("#" + "." * 19)
    assert best_available(SeatingPlan(hall.layout), b"\x80", 19) == Pick(tuple(range(1, 20)), 1, True)


@pytest.mark.parametrize(("count", "accessible"), [(0, 0), (-1, 0), (2, 3), (2, -1)])
def test_a_party_that_cannot_be_is_an_error(count: int, accessible: int) -> None:
    plan = SeatingPlan(draw("..").layout)
    with pytest.raises(ValueError):
        best_available(plan, b"\0", count, accessible=accessible)


def test_an_unknown_area_is_an_error() -> None:
    with pytest.raises(KeyError):
        best(draw(".."), 1, area_id="nowhere")


# Every hall


@given(halls(), parties, seeds, st.sampled_from([None, "p", "q"]))
def test_every_pick_is_free_of_the_right_size_and_from_the_right_area(
    hall: Hall, count: int, seed: int, area_id: str | None
) -> None:
    if area_id is not None and area_id not in {area.area_id for area in hall.layout.areas}:
        return
    reference, areas = Reference(hall), None if area_id is None else {area_id}
    pick = best(hall, count, area_id=area_id, seed=seed)
    assert (pick is not None) == reference.can_seat(count, areas)
    if pick is not None:
        assert len(set(pick.seats)) == count
        assert set(pick.seats) <= reference.usable(areas)
        assert all(reference.partner(seat) in (None, *pick.seats) for seat in pick.seats)
        assert pick.together == is_together(SeatingPlan(hall.layout), pick.seats) == (pick.stage < 3)


@given(halls(), parties, seeds)
def test_the_first_stage_that_can_answer_does_and_with_the_nearest_block(
    hall: Hall, count: int, seed: int
) -> None:
    reference, pick = Reference(hall), best(hall, count, seed=seed)
    clean, blocks = reference.clean_blocks(count), reference.blocks(count)
    if pick is None:
        assert not blocks
        return
    assert min(pick.stage, 3) == (1 if clean else 2 if blocks else 3)
    if blocks:
        focal, choices = hall.layout.focal_point, clean or blocks
        assert pick.seats in choices
        nearest = min(reference.away(block, focal) for block in choices)
        assert reference.away(pick.seats, focal) <= nearest + 0.5 + 1e-6


@given(halls(plain=True), st.integers(2, 6), seeds)
def test_a_party_is_split_only_if_no_two_rows_in_touch_can_hold_it(hall: Hall, count: int, seed: int) -> None:
    reference, pick = Reference(hall), best(hall, count, seed=seed)
    if pick is not None and pick.stage == 4:
        assert reference.in_touch(pick.seats)
    if pick is not None and pick.stage == 5:
        assert not any(
            reference.in_touch(front + back)
            for size in range(1, count)
            for front in reference.blocks(size)
            for back in reference.blocks(count - size)
            if hall.layout.seats[front[0]].y + 1 == hall.layout.seats[back[0]].y
        )


@given(halls(), parties, seeds)
def test_the_lenient_rule_accepts_every_pick_and_the_strict_rule_every_adjacent_one(
    hall: Hall, count: int, seed: int
) -> None:
    plan, pick = SeatingPlan(hall.layout), best(hall, count, seed=seed)
    if pick is not None:
        assert judge_orphans(plan, hall.taken, pick.seats, "lenient").ok
        assert pick.stage > 2 or judge_orphans(plan, hall.taken, pick.seats, "strict").ok
