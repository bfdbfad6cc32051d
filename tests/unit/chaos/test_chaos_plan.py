"""Goal: a plan is drawn from its seed alone, meets every kind, and overlaps its pairs.

Method: plans over many seeds, read.
"""

from __future__ import annotations

from collections import Counter

import pytest

from entrypoints.chaos.faults import FAULTS
from entrypoints.chaos.judgement import BROKEN, MISSED, OK, UNDECIDED, worst
from entrypoints.chaos.plan import SLOT_S, WARM_UP_S, draw_plan

LENGTHS = {kind: fault.lasts_s for kind, fault in FAULTS.items()}


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert draw_plan(11, 30, LENGTHS) == draw_plan(11, 30, LENGTHS)
    assert len({draw_plan(seed, 30, LENGTHS).strikes for seed in range(50)}) == 50


def test_the_order_in_which_kinds_are_named_changes_nothing() -> None:
    backwards = dict(reversed(LENGTHS.items()))
    assert draw_plan(3, 30, LENGTHS) == draw_plan(3, 30, backwards)


@pytest.mark.parametrize("seed", range(20))
def test_a_pair_overlaps_and_everything_is_over_when_people_stop_coming(seed: int) -> None:
    plan = draw_plan(seed, 30, LENGTHS)
    assert len(plan.strikes) == 10
    for first, second in zip(plan.strikes[::2], plan.strikes[1::2], strict=True):
        assert WARM_UP_S <= first.at_s <= second.at_s <= first.at_s + 1.5
        assert second.at_s + second.lasts_s < plan.seconds
    for strike in plan.strikes:
        shortest, longest = LENGTHS[strike.kind]
        assert shortest <= strike.lasts_s <= longest
    assert [int((one.at_s - WARM_UP_S) // SLOT_S) for one in plan.strikes] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_a_round_meets_no_kind_twice_before_it_has_met_all() -> None:
    plan = draw_plan(5, 2 + 5 * len(FAULTS) / 2, LENGTHS)
    assert Counter(strike.kind for strike in plan.strikes) == Counter(list(FAULTS))


def test_two_hundred_rounds_meet_many_pairs_and_every_kind_often() -> None:
    plans = [draw_plan(seed, 30, LENGTHS) for seed in range(200)]
    pairs = {frozenset((one.kind, other.kind)) for plan in plans for one, other in plan.pairs}
    assert len(pairs) >= 40
    met = Counter(strike.kind for plan in plans for strike in plan.strikes)
    assert met.keys() == FAULTS.keys()
    assert min(met.values()) >= 40


def test_at_least_twelve_kinds_and_only_forgetting_costs_holds() -> None:
    assert len(FAULTS) >= 12
    costly = {kind for kind, fault in FAULTS.items() if fault.may_lose_holds}
    assert costly == {"redis-killed", "redis-set-back", "redis-wiped"}


def test_a_broken_promise_outweighs_everything_else_in_the_exit_code() -> None:
    assert worst([OK, MISSED, BROKEN, UNDECIDED]) == BROKEN
    assert worst([OK, MISSED, UNDECIDED]) == UNDECIDED
    assert worst([MISSED, OK]) == MISSED
    assert worst([]) == OK
