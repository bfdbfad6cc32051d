"""Goal: the orphan rule refuses what the glossary says, and nothing else, in every hall.

Method: every adapter is compared with a brute force that reads the glossary literally, over every map and
every choice of small halls; larger halls and expired holds in the way are stories of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable

import pytest

from reservation.domain import OrphanRule
from reservation.packing import plane_of
from reservation.ports import Refused, Stretches
from tests.contract.brute_force import singles_refused
from tests.contract.candidate import Candidate, refusal_of, status_of
from tests.support.inventories import TTL_MS

TWO_ROWS: Stretches = [(0, 4, 0), (4, 3, 0)]


async def _refusal_or_none(call: Awaitable[object]) -> Refused | None:
    try:
        await call
    except Refused as refusal:
        return refusal
    return None


def _every_map_and_choice(seat_count: int) -> list[tuple[set[int], list[int]]]:
    """Each seat free, taken or chosen, in every combination with a choice."""
    combinations = itertools.product("ftc", repeat=seat_count)
    return [
        (
            {seat for seat, what in enumerate(whole) if what == "t"},
            [seat for seat, what in enumerate(whole) if what == "c"],
        )
        for whole in combinations
        if "c" in whole
    ]


@pytest.mark.parametrize("rule", ["off", "lenient", "strict"])
async def test_the_orphan_rule_refuses_what_the_glossary_says_and_nothing_else(
    candidate: Candidate, rule: OrphanRule
) -> None:
    disagreements = []
    for taken, chosen in _every_map_and_choice(7 if rule != "off" else 5):
        candidate.now_ms += TTL_MS
        await candidate.restore(blocked=sorted(taken), seats=7)
        expected = singles_refused(taken, chosen, rule, TWO_ROWS)
        refusal = await _refusal_or_none(
            candidate.held(chosen, rule=rule, stretches=TWO_ROWS, area_stretches=TWO_ROWS)
        )
        if refusal is not None:
            assert refusal.status == "orphan_seat"
            assert refusal.taken == plane_of(taken, 7)
        found = set(refusal.seats if refusal is not None else ())
        if found != expected:
            disagreements.append((taken, chosen, found, expected))

    assert disagreements == []


@pytest.mark.parametrize("rule", ["lenient", "strict"])
async def test_a_choice_is_judged_only_where_it_sits(candidate: Candidate, rule: OrphanRule) -> None:
    """A single that stands already, and one in a row the choice does not touch, are nobody's fault."""
    await candidate.open()
    await candidate.block([1, 6])
    rows: Stretches = [(0, 5, 0), (5, 5, 0)]

    await candidate.held([2, 3, 4], rule=rule, stretches=rows[:1], area_stretches=rows)

    assert (await candidate.seats()).taken == {1, 2, 3, 4, 6}


@pytest.mark.parametrize(("taken", "chosen", "single"), [(14, 16, 15), (17, 15, 16), (5, 8, None)])
@pytest.mark.parametrize("rule", ["lenient", "strict"])
async def test_a_single_in_the_next_byte_is_seen(
    candidate: Candidate, rule: OrphanRule, taken: int, chosen: int, single: int | None
) -> None:
    await candidate.open()
    await candidate.block([taken])
    row: Stretches = [(0, 40, 0)]

    refusal = await _refusal_or_none(candidate.held([chosen], rule=rule, stretches=row, area_stretches=row))

    assert (refusal.seats if refusal else (None,)) == (single,)


async def test_strict_looks_for_room_in_the_same_area_only(candidate: Candidate) -> None:
    await candidate.open()
    here: Stretches = [(0, 3, 0)]
    elsewhere = {"same area": (10, 5, 0), "other area": (10, 5, 1)}

    async def choose(area: Stretches) -> None:
        await candidate.held([0, 1], rule="strict", stretches=here, area_stretches=area)

    assert await status_of(choose([*here, elsewhere["same area"]])) == "orphan_seat"
    await choose([*here, elsewhere["other area"]])


async def test_strict_does_not_send_a_party_to_seats_its_own_other_half_takes(candidate: Candidate) -> None:
    """Two rows with room for three and two: the two of the first row have nowhere else to go."""
    await candidate.open()
    rows: Stretches = [(0, 3, 0), (3, 2, 0)]

    await candidate.held([0, 1, 3, 4], rule="strict", stretches=rows, area_stretches=rows)

    assert (await candidate.seats()).taken == {0, 1, 3, 4}


async def test_a_single_is_judged_as_if_expired_holds_in_the_way_were_gone(candidate: Candidate) -> None:
    await candidate.open(seats=8)
    await candidate.held([1, 2, 3])
    candidate.now_ms += TTL_MS

    refusal = await refusal_of(candidate.held([1], rule="lenient", stretches=[(0, 8, 0)]))

    assert (refusal.status, refusal.seats, refusal.taken) == ("orphan_seat", (0,), bytes(1))
    await candidate.held([0], rule="lenient", stretches=[(0, 8, 0)])


async def test_the_rule_holds_in_a_hall_of_many_rows(candidate: Candidate) -> None:
    """Rows of 7 and 9 whose seats share bytes with their neighbours'."""
    rows: Stretches = [(row * 16 + half * 7, 7 + 2 * half, 0) for row in range(5) for half in (0, 1)]
    await candidate.open(seats=80)
    assert await status_of(candidate.held([40], rule="lenient", stretches=[rows[5]])) == "orphan_seat"

    await candidate.held([39, 40], rule="lenient", stretches=[rows[5]])

    assert (await candidate.seats()).taken == {39, 40}
