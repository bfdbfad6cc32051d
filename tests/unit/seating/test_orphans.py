"""Goal: nobody leaves a seat alone who could have moved over, and nobody else is bothered.

Method: each sentence of the glossary as a drawing, then random halls against the slow reference of
`halls`, which reads the definition seat by seat.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reservation.domain import OrphanRule
from reservation.seating import OrphanVerdict, SeatingPlan, couples_broken, judge_orphans
from tests.unit.seating.halls import Hall, Reference, draw, halls

ACCEPTED = OrphanVerdict(ok=True, singles=(), alternative=None)
RULES: tuple[OrphanRule, ...] = ("off", "lenient", "strict")


def judge(hall: Hall, *chosen: int, rule: OrphanRule) -> OrphanVerdict:
    return judge_orphans(SeatingPlan(hall.layout), hall.taken, chosen, rule)


@pytest.mark.parametrize("rule", ["lenient", "strict"])
def test_a_seat_left_alone_is_refused_and_the_party_is_shown_where_it_fits(rule: OrphanRule) -> None:
    assert judge(draw("......"), 1, 2, rule=rule) == OrphanVerdict(False, (0,), (0, 1))


def test_the_rule_can_be_switched_off() -> None:
    assert judge(draw("......"), 1, 2, rule="off") == ACCEPTED


@pytest.mark.parametrize("rule", RULES)
def test_taking_an_existing_single_is_fine(rule: OrphanRule) -> None:
    assert judge(draw(".#.#...."), 2, rule=rule) == ACCEPTED


@pytest.mark.parametrize("rule", RULES)
def test_leaving_a_seat_that_was_single_before_is_fine(rule: OrphanRule) -> None:
    assert judge(draw(".#.#...."), 4, 5, rule=rule) == ACCEPTED


@pytest.mark.parametrize("rule", RULES)
def test_filling_a_run_exactly_is_fine(rule: OrphanRule) -> None:
    assert judge(draw("#...#....."), 1, 2, 3, rule=rule) == ACCEPTED


@pytest.mark.parametrize("chosen", [(0, 1), (1, 2)])
def test_lenient_allows_a_party_one_smaller_than_its_run(chosen: tuple[int, int]) -> None:
    assert judge(draw("... ......"), *chosen, rule="lenient") == ACCEPTED


def test_lenient_allows_one_person_in_a_run_of_two() -> None:
    assert judge(draw("#..#....."), 1, rule="lenient") == ACCEPTED


def test_strict_refuses_where_another_row_has_a_better_place() -> None:
    hall = draw("...", "#..")
    assert judge(hall, *hall.many(0, 0, 1), rule="strict") == OrphanVerdict(False, (2,), hall.many(1, 1, 2))


def test_strict_accepts_where_no_place_is_better() -> None:
    assert judge(draw("...", "###"), 0, 1, rule="strict") == ACCEPTED


def test_strict_looks_no_further_than_the_area_of_the_seats() -> None:
    hall = draw("...", "....", areas=("ppp", "qqqq"))
    assert judge(hall, *hall.many(0, 0, 1), rule="strict") == ACCEPTED


def test_each_run_looks_in_its_own_area_though_the_selection_has_several() -> None:
    hall = draw("...", "####", "....", areas=("ppp", "pppp", "qqqq"))
    chosen = (*hall.many(0, 0, 1), *hall.many(2, 0, 1))
    assert judge(hall, *chosen, rule="strict") == ACCEPTED


def test_a_place_at_another_price_does_not_make_a_choice_wrong() -> None:
    hall = draw("....", areas=("qqpp",))
    assert judge(hall, 2, rule="lenient").alternative == (3,)
    assert judge(draw("....", areas=("qqpq",)), 2, rule="lenient") == ACCEPTED


def test_strict_offers_the_nearest_better_place() -> None:
    hall = draw("....", "#..#", "...#", "####")
    assert judge(hall, *hall.many(2, 0, 1), rule="strict").alternative == hall.many(1, 1, 2)


def test_lenient_offers_a_place_in_the_same_run_though_others_are_free() -> None:
    hall = draw("......", "......")
    assert judge(hall, *hall.many(1, 3, 4), rule="lenient").alternative == hall.many(1, 2, 3)


def test_an_aisle_is_the_end_of_a_segment() -> None:
    assert judge(draw(".... ...."), 1, 2, rule="strict").singles == (0, 3)
    assert judge(draw("........."), 1, 2, rule="strict").singles == (0,)


def test_an_accessible_seat_bounds_a_run_and_is_no_single() -> None:
    assert judge(draw("a.....#"), 2, 3, rule="lenient") == OrphanVerdict(False, (1,), (1, 2))
    assert judge(draw("a..#"), 1, 2, rule="strict") == ACCEPTED


@pytest.mark.parametrize("rule", RULES)
def test_a_selection_with_an_accessible_seat_is_exempt(rule: OrphanRule) -> None:
    hall = draw("a......", "......")
    assert judge(hall, 0, *hall.many(1, 1, 2), rule=rule) == ACCEPTED


def test_a_blocked_seat_is_a_taken_seat() -> None:
    assert judge(draw("......#"), 3, 4, rule="lenient").singles == (5,)


def test_both_neighbours_may_become_single() -> None:
    assert judge(draw(".....#"), 1, 2, 3, rule="strict").singles == (0, 4)


def test_seats_chosen_apart_in_one_run_count_as_the_party_of_the_run() -> None:
    assert judge(draw("....."), 0, 2, rule="lenient") == OrphanVerdict(False, (1,), (0, 1))
    assert judge(draw("..."), 0, 2, rule="lenient") == ACCEPTED  # two of three leave one however they sit


def test_each_run_is_judged_by_itself_and_the_others_stay_where_they_are() -> None:
    hall = draw("......", "......")
    chosen = (*hall.many(0, 1, 2), *hall.many(1, 0, 1))
    expected = OrphanVerdict(False, (0,), (*hall.many(0, 0, 1), *hall.many(1, 0, 1)))
    assert judge(hall, *chosen, rule="lenient") == expected


def test_strict_does_not_send_a_party_to_seats_it_has_chosen_itself() -> None:
    hall = draw("...", "#..")
    assert judge(hall, *hall.many(0, 0, 1), *hall.many(1, 1, 2), rule="strict") == ACCEPTED


def test_parties_move_again_where_one_move_opens_a_better_place_for_another() -> None:
    hall = draw("#...", "....")
    chosen = (*hall.many(0, 2, 3), *hall.many(1, 0, 2))
    assert judge(hall, *chosen, rule="strict") == OrphanVerdict(
        False, hall.many(1, 1, 3), hall.many(1, 0, 1, 2, 3)
    )


def test_no_place_is_a_place_if_it_cuts_a_couple_seat() -> None:
    assert judge(draw(".lr."), 1, 2, rule="strict") == ACCEPTED
    assert judge(draw("...."), 1, 2, rule="strict").singles == (0, 3)


def test_no_place_is_a_place_if_a_companion_seat_waits_there() -> None:
    assert judge(draw("ac..ca"), 2, 3, rule="lenient") == ACCEPTED
    assert judge(draw("Ac..cA"), 2, 3, rule="lenient").alternative == (1, 2)


@pytest.mark.parametrize(
    ("run", "party"), [(run, party) for run in range(2, 12) for party in range(1, run + 1)]
)
def test_a_plain_run_fits_a_party_of_its_length_or_two_shorter(run: int, party: int) -> None:
    """The closed form the hold script may use: no clean place exactly if one seat would be over."""
    verdicts = [
        judge(draw("." * run), *range(start, start + party), rule="lenient")
        for start in range(run - party + 1)
    ]
    if run == party or run == party + 1:
        assert verdicts == [ACCEPTED] * len(verdicts)
    else:
        refused = [start for start, verdict in enumerate(verdicts) if not verdict.ok]
        assert refused == sorted({1, run - party - 1})


@given(halls(), st.data(), st.sampled_from(RULES))
def test_the_verdict_is_that_of_the_definition(hall: Hall, data: st.DataObject, rule: OrphanRule) -> None:
    free = sorted(set(range(hall.layout.seat_count)) - hall.gone)
    if not free:
        return
    chosen = tuple(data.draw(st.lists(st.sampled_from(free), min_size=1, max_size=6, unique=True)))
    verdict, expected = judge(hall, *chosen, rule=rule), Reference(hall).refused_singles(chosen, rule)
    assert set(verdict.singles) == expected
    assert verdict.ok == (not expected)


@given(halls(), st.data(), st.sampled_from(RULES))
def test_an_alternative_passes_the_rule_it_was_offered_under(
    hall: Hall, data: st.DataObject, rule: OrphanRule
) -> None:
    reference = Reference(hall)
    free = sorted(reference.available())
    if not free:
        return
    chosen = tuple(data.draw(st.lists(st.sampled_from(free), min_size=1, max_size=6, unique=True)))
    verdict = judge(hall, *chosen, rule=rule)
    runs = {frozenset(reference.run_of(seat)) for seat in chosen}
    if not verdict.ok and len(runs) == 1:
        assert verdict.alternative is not None
        assert not reference.new_singles(set(verdict.alternative))
        assert rule == "strict" or set(verdict.alternative) <= next(iter(runs))
    if verdict.alternative is not None:
        assert len(set(verdict.alternative)) == len(chosen)
        assert hall.gone.isdisjoint(verdict.alternative)
        assert not reference.refused_singles(verdict.alternative, rule)
        moved = set(verdict.alternative) - set(chosen)
        assert moved.isdisjoint(couples_broken(SeatingPlan(hall.layout), tuple(moved)))
