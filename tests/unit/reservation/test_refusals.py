"""Goal: what a loser is told is told to the next as long as it is true, and never longer.

Method: a launch in one hall. Pairs are sold one by one and some are given back, losers ask for pairs that
are gone; after every answer the map of that moment is asked seat by seat and the orphan rule by its
reference. How often an answer had to be worked out is counted, with the rule that is kept and with the one
it replaced (any change in a row of the offers), which tells the same truths at a higher price.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import pytest

from reservation import errors, refusals
from reservation.domain import Area, Layout, OrphanRule, Seat, Segment
from reservation.halls import Hall, Showtime
from reservation.packing import mask_of, plane_of
from reservation.ports import Terms
from reservation.refusals import KeptRefusal, keep, kept_for, nothing_left, seats_taken
from reservation.replica import Replica
from reservation.seating import Pick, SeatingPlan, alternatives, judge_orphans
from reservation.store import Sale
from reservation.stretches import StretchTable

ROWS, SEATS_PER_ROW = 12, 20
LOSERS_PER_SALE = 60
MASKS = [field.name for field in fields(KeptRefusal) if field.type == "int"]


def showtime(rule: OrphanRule = "lenient") -> Showtime:
    seats = tuple(
        Seat(
            row * SEATS_PER_ROW + place,
            f"{row}-{place}",
            f"{row}",
            f"{place}",
            float(place),
            float(row),
            "A",
        )
        for row in range(ROWS)
        for place in range(SEATS_PER_ROW)
    )
    segments = tuple(Segment(row * SEATS_PER_ROW, SEATS_PER_ROW, f"{row}") for row in range(ROWS))
    layout = Layout("hall", seats, (Area("A", "A"),), segments, (4.5, 6.0))
    terms = Terms("sho_1", len(seats), 0, 0, 8, "open")
    return Showtime(
        "sho_1", Sale(terms, "lay_1", rule), Hall(layout, SeatingPlan(layout), StretchTable(layout))
    )


class Launch:
    """One showtime, its map, and a worker who tells losers why."""

    def __init__(self, rule: OrphanRule = "lenient") -> None:
        self.showtime = showtime(rule)
        self.layout = self.showtime.hall.layout
        self.replica = Replica("sho_1")
        self.gone: set[int] = set()
        self.worked_out = 0

    @property
    def plane(self) -> bytes:
        return plane_of(self.gone, self.layout.seat_count)

    def tell(self, *seats: int) -> KeptRefusal:
        """What somebody is told who wants seats that are gone."""
        told = kept_for(self.replica, seats, int.from_bytes(self.plane))
        if told is None:
            self.worked_out += 1
            before = self.replica.refusals.get(seats)
            told = seats_taken(self.showtime, seats, self.plane, before)
            keep(self.replica, self.showtime, seats, told)
        return told

    def offers(self, told: KeptRefusal) -> list[tuple[int, ...]]:
        """The seats of the alternatives."""
        index_of = self.layout.index_of
        return [tuple(index_of[label] for label in offer["seats"]) for offer in told.facts["alternatives"]]

    def assert_true(self, told: KeptRefusal) -> None:
        """Whether it could be told by somebody who looks at the map now."""
        labels = [self.layout.seats[seat].label for seat in told.seats if seat in self.gone]
        assert told.facts["conflicts"] == labels
        assert told.refused is (
            errors.SoldOut if len(self.gone) == self.layout.seat_count else errors.SeatTaken
        )
        for offer in self.offers(told):
            assert len(set(offer)) == len(told.seats)
            assert self.gone.isdisjoint(offer)
            verdict = judge_orphans(
                self.showtime.hall.plan, self.plane, offer, self.showtime.sale.orphan_rule
            )
            assert verdict.ok


def storm(
    launch: Launch, draw: random.Random, *, singly: float = 0.0, given_back: float = 0.0
) -> Iterator[KeptRefusal]:
    """Everything losers are told while a hall is sold in pairs, with some only half sold or given back."""
    pairs = [(first, first + 1) for first in range(0, launch.layout.seat_count, 2)]
    wanted = []
    for pair in draw.sample(pairs, len(pairs)):
        launch.gone.update(pair[:1] if draw.random() < singly else pair)
        wanted.append(pair)
        if draw.random() < given_back:
            launch.gone.difference_update(draw.choice(wanted))
        for _ in range(LOSERS_PER_SALE):
            asked = draw.choice(wanted)
            if not launch.gone.isdisjoint(asked):
                yield launch.tell(*asked)


@pytest.mark.parametrize("rule", ["off", "lenient", "strict"])
@pytest.mark.parametrize("given_back", [0.0, 0.3])
def test_everything_a_loser_is_told_is_true_when_he_is_told(rule: OrphanRule, given_back: float) -> None:
    launch = Launch(rule)
    kept = 0
    for told in storm(launch, random.Random(7), singly=0.1, given_back=given_back):
        launch.assert_true(told)
        kept += 1
    assert kept > 3 * launch.worked_out


def test_told_as_long_as_the_wanted_seats_are_gone_answers_turn_into_lies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for part in ("truth_rests_on", "search_rests_on"):
        monkeypatch.setattr(refusals, part, lambda plan, taken, wanted, *_: sum(1 << one for one in wanted))
    launch = Launch()
    lies = 0
    for told in storm(launch, random.Random(7)):
        try:
            launch.assert_true(told)
        except AssertionError:
            lies += 1
    assert lies > 100


def test_a_launch_is_told_with_fewer_searches_than_by_whole_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, by_rows = Launch(), Launch()
    losers = sum(1 for _ in storm(ours, random.Random(7)))

    def whole_rows(
        plan: SeatingPlan, taken: bytes, wanted: Sequence[int], offers: Sequence[Pick], *_: object
    ) -> int:
        rows = {seat // SEATS_PER_ROW for offer in offers for seat in offer.seats}
        row = (1 << SEATS_PER_ROW) - 1
        return sum(row << place * SEATS_PER_ROW for place in rows) | sum(
            1 << seat for seat in wanted if seat // SEATS_PER_ROW not in rows
        )

    monkeypatch.setattr(refusals, "truth_rests_on", whole_rows)
    assert sum(1 for _ in storm(by_rows, random.Random(7))) == losers
    assert ours.worked_out < 0.75 * by_rows.worked_out
    assert ours.worked_out < 0.2 * losers


def test_an_answer_outlives_what_is_sold_in_the_same_row_away_from_the_offers() -> None:
    launch = Launch()
    launch.gone = {*range(100), 110, 111, *range(120, 240)}
    offers = launch.offers(launch.tell(110, 111))
    assert (108, 109) in offers
    launch.gone.update({100, 101, 102})
    assert launch.offers(launch.tell(110, 111)) == offers
    assert launch.worked_out == 1


def test_an_answer_ends_when_an_offer_is_sold() -> None:
    launch = Launch()
    launch.gone = {110, 111}
    offers = launch.offers(launch.tell(110, 111))
    for offer in offers:
        launch.gone.add(offer[0])
        told = launch.tell(110, 111)
        launch.assert_true(told)
    assert launch.worked_out == 4


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[int]]:
    """What was searched for, one entry a search."""
    made: list[Sequence[int]] = []
    search = alternatives

    def noted(plan: SeatingPlan, taken: bytes, wanted: Sequence[int], *rest: Any, **options: Any) -> Any:
        made.append(wanted)
        return search(plan, taken, wanted, *rest, **options)

    monkeypatch.setattr(refusals, "alternatives", noted)
    return made


def sell_what_is_offered_first(launch: Launch, times: int) -> None:
    launch.gone |= {110, 111}
    for _ in range(times):
        told = launch.tell(110, 111)
        launch.assert_true(told)
        assert len(launch.offers(told)) == 3
        launch.gone.update(launch.offers(told)[0])


def test_when_an_offer_is_sold_the_next_nearest_takes_its_place_without_a_search(
    searches: list[Sequence[int]],
) -> None:
    sell_what_is_offered_first(Launch(), 1 + refusals.SPARE)
    assert len(searches) == 1


def test_without_offers_to_spare_each_that_is_sold_is_searched_for_anew(
    searches: list[Sequence[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "SPARE", 0)
    sell_what_is_offered_first(Launch(), 6)
    assert len(searches) == 6


@pytest.mark.parametrize("rule", ["off", "lenient", "strict"])
def test_a_launch_is_told_with_less_than_half_of_the_searches(
    rule: OrphanRule, searches: list[Sequence[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sum(1 for _ in storm(Launch(rule), random.Random(7)))
    with_spare = len(searches)
    monkeypatch.setattr(refusals, "SPARE", 0)
    sum(1 for _ in storm(Launch(rule), random.Random(7)))
    assert 2 * with_spare < len(searches) - with_spare


def test_what_was_found_earlier_is_not_told_when_nearer_seats_were_given_back(
    searches: list[Sequence[int]],
) -> None:
    launch = Launch()
    launch.gone = {*range(60, 180)}
    told = launch.tell(110, 111)
    launch.gone.update(launch.offers(told)[0])
    launch.gone -= {112, 113}
    assert launch.offers(launch.tell(110, 111))[0] == (112, 113)
    assert len(searches) == 2


def test_an_offer_that_was_sold_and_given_back_is_told_first_again(searches: list[Sequence[int]]) -> None:
    """It was free when the others were found, so at first nothing that they rested on was in it."""
    launch = Launch()
    launch.gone = {110, 111}
    nearest, *others = launch.offers(launch.tell(110, 111))
    launch.gone.update(nearest)
    assert launch.offers(launch.tell(110, 111))[:2] == others
    assert len(searches) == 1, "the others were found before"

    launch.gone.difference_update(nearest)
    assert launch.offers(launch.tell(110, 111)) == [nearest, *others]


def test_an_answer_ends_when_a_wanted_seat_is_free_again() -> None:
    launch = Launch()
    launch.gone = {20, 21}
    launch.tell(20, 21)
    launch.gone = {21}
    assert launch.tell(20, 21).facts["conflicts"] == ["1-1"]


def test_who_was_offered_seats_far_away_hears_of_nearer_ones_that_were_given_back() -> None:
    launch = Launch()
    launch.gone = set(range(200))
    assert all(offer[0] >= 200 for offer in launch.offers(launch.tell(110, 111)))
    launch.gone -= {86, 87}
    assert launch.offers(launch.tell(110, 111))[0] == (86, 87)
    launch.gone |= {86, 87}
    launch.tell(110, 111)
    worked_out = launch.worked_out
    launch.gone -= {30, 31}
    assert launch.offers(launch.tell(110, 111))[0] == (30, 31)
    assert launch.worked_out == worked_out + 1


def test_what_is_given_back_beyond_the_offers_is_no_reason_to_search_again() -> None:
    launch = Launch()
    launch.gone = {0, 1, 230, 231}
    offers = launch.offers(launch.tell(0, 1))
    launch.gone -= {230, 231}
    assert launch.offers(launch.tell(0, 1)) == offers
    assert launch.worked_out == 1


def test_of_a_full_hall_it_is_said_that_it_is_sold_out_until_a_seat_is_free() -> None:
    launch = Launch()
    launch.gone = set(range(launch.layout.seat_count))
    assert launch.tell(3, 4).refused is launch.tell(3, 4).refused is errors.SoldOut
    assert launch.worked_out == 1
    launch.gone.remove(100)
    told = launch.tell(3, 4)
    assert told.refused is errors.SeatTaken
    assert told.facts["alternatives"] == []


def test_that_nothing_is_left_is_true_of_one_map_only() -> None:
    launch = Launch()
    launch.gone = set(range(launch.layout.seat_count - 1))
    keep(launch.replica, launch.showtime, "any two", nothing_left(launch.showtime, launch.plane))
    here = int.from_bytes(launch.plane)
    told = kept_for(launch.replica, "any two", here)
    assert told is not None
    assert told.facts == {"seats_left": 1}
    assert kept_for(launch.replica, "any two", here ^ mask_of([5], launch.layout.seat_count)) is None


@pytest.mark.parametrize(
    ("seat_count", "fewest", "most"),
    [(240, refusals.KEPT_MAX, refusals.KEPT_MAX), (40_000, 500, 1_000), (65_535, 300, 600)],
)
def test_what_is_kept_of_a_stadium_takes_no_more_room_than_is_allowed(
    seat_count: int, fewest: int, most: int
) -> None:
    hall, replica = showtime(), Replica("sho_1")
    terms = replace(hall.sale.terms, seat_count=seat_count)
    stadium = replace(hall, sale=replace(hall.sale, terms=terms))
    kept = nothing_left(stadium, b"\xff" * (seat_count // 8))
    kept.wanted = kept.where = kept.search = kept.searched = kept.as_it_was
    entries = []
    for wish in range(refusals.KEPT_MAX + 1):
        keep(replica, stadium, wish, kept)
        entries.append(len(replica.refusals))
    assert fewest <= max(entries) <= most
    masks_bytes = sum(getattr(kept, name).bit_length() // 8 for name in MASKS)
    assert max(entries) * masks_bytes <= refusals.KEPT_BYTES_MAX
    assert entries[-1] < max(entries), "they go all at once"


def test_each_loser_gets_an_exception_of_his_own_with_the_same_facts() -> None:
    launch = Launch()
    launch.gone = {0, 1}
    told = launch.tell(0, 1)
    first, second = told.error(), told.error()
    assert first is not second
    assert first.facts is second.facts is told.facts
    assert str(first) == str(errors.SeatTaken())
