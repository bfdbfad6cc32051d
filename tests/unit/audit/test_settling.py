"""Goal: a suspicion becomes an offence only when it is said in the same words every time.

Method: looks that say what a script tells them, and pauses of no length.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pytest

from entrypoints.audit.findings import CHECKS, Seen, report_of
from entrypoints.audit.run import settle
from entrypoints.audit.seats import PORTION_SEATS, PORTION_SHOWTIMES, portions

CHECK = "seat_maps_agree"
PAUSES = (0.0, 0.0, 0.0)


@dataclass
class Scripted:
    """Says these sentences, look after look; the last ones again and again."""

    script: Sequence[set[str]]
    asked: list[Collection[str] | None] = field(default_factory=list)

    async def look(self, subjects: Collection[str] | None) -> Seen:
        said = self.script[min(len(self.asked), len(self.script) - 1)]
        self.asked.append(subjects)
        seen = Seen()
        seen.counted[CHECK] += 10
        for sentence in said:
            seen.suspect(CHECK, sentence.split(":")[0], sentence)
        return seen


async def _sentences(*looks: Scripted) -> set[str]:
    return {suspect.sentence for suspect in (await settle(looks, PAUSES)).suspects}


async def test_a_quiet_platform_is_looked_at_once() -> None:
    look = Scripted([set()])
    seen = await settle([look], PAUSES)
    assert (seen.suspects, seen.counted[CHECK], look.asked) == (set(), 10, [None])


async def test_what_stays_true_is_an_offence() -> None:
    look = Scripted([{"sho_1: seat 5 is taken", "sho_2: seat 1 is taken"}, {"sho_1: seat 5 is taken"}])
    assert await _sentences(look) == {"sho_1: seat 5 is taken"}
    assert look.asked == [None, {"sho_1", "sho_2"}, {"sho_1"}, {"sho_1"}]


async def test_what_changes_its_words_was_under_way() -> None:
    look = Scripted([{"sho_1: counted with 2"}, {"sho_1: counted with 3"}, {"sho_1: counted with 2"}])
    assert await _sentences(look) == set()
    assert len(look.asked) == 2


async def test_what_is_new_at_the_second_look_is_left_to_the_next_audit() -> None:
    look = Scripted([{"sho_1: seat 5"}, {"sho_1: seat 5", "sho_1: seat 6"}])
    assert await _sentences(look) == {"sho_1: seat 5"}


async def test_only_looks_that_suspect_something_look_again() -> None:
    calm, alarmed = Scripted([set()]), Scripted([{"sho_1: seat 5"}])
    assert await _sentences(calm, alarmed) == {"sho_1: seat 5"}
    assert (len(calm.asked), len(alarmed.asked)) == (1, 4)


async def test_things_are_counted_once_however_often_they_are_looked_at() -> None:
    assert (await settle([Scripted([{"sho_1: seat 5"}])], PAUSES)).counted[CHECK] == 10


async def test_when_one_look_fails_the_others_are_ended_first() -> None:
    ended = asyncio.Event()

    class Broken(Scripted):
        async def look(self, subjects: Collection[str] | None) -> Seen:
            raise ConnectionError

    class Slow(Scripted):
        async def look(self, subjects: Collection[str] | None) -> Seen:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()
            return Seen()

    with pytest.raises(ConnectionError):
        await settle([Slow([set()]), Broken([set()])], PAUSES)
    assert ended.is_set()


def test_a_report_names_every_check_and_the_first_offender_of_each() -> None:
    seen = Seen()
    seen.counted["seat_maps_agree"] = 40_000
    seen.suspect("seat_maps_agree", "sho_1", "seat 7")
    seen.suspect("seat_maps_agree", "sho_1", "seat 5")
    seen.suspect("ledger_balances", "sale", "sale:1 sums to 1")
    seen.unnamed["ledger_balances"] = 4
    report = report_of([seen, Seen()])
    assert not report.ok
    assert [check.name for check in report.checks] == list(CHECKS)
    offenders = {check.name: check.offender for check in report.checks if not check.ok}
    assert offenders == {
        "seat_maps_agree": "seat 5 (and 1 more)",
        "ledger_balances": "sale:1 sums to 1 (and 4 more)",
    }
    assert {check.counted for check in report.checks} == {0, 40_000}


def test_a_report_names_every_showtime_of_a_check_proven_or_suspected_to_the_end() -> None:
    seen, other = Seen(), Seen()
    seen.suspect("seat_maps_agree", "sho_2", "seat 7", "sho_2")
    seen.suspect("seat_maps_agree", "partitions", "partition 9")
    seen.suspect("holds_end", "sho_1", "hold 1", "sho_1")
    other.proven_at = {("seat_maps_agree", "sho_4"), ("seat_maps_agree", "sho_2")}
    showtimes = {check.name: check.showtimes for check in report_of([seen, other]).checks}
    assert showtimes.pop("seat_maps_agree") == ["sho_2", "sho_4"]
    assert showtimes.pop("holds_end") == ["sho_1"]
    assert not any(showtimes.values())


def test_a_check_without_a_place_in_the_report_is_our_mistake() -> None:
    seen = Seen()
    seen.suspect("no_such_check", "x", "x")
    with pytest.raises(AssertionError):
        report_of([seen])


def test_memory_follows_the_largest_hall_and_not_the_number_of_halls() -> None:
    sizes = {f"sho_{n}": 400 for n in range(500)} | {"sho_stadium": 65_535, "sho_last": 10}
    found = list(portions(list(sizes), sizes))
    assert [showtime for portion in found for showtime in portion] == list(sizes)
    assert ["sho_stadium"] in found
    for portion in found:
        assert len(portion) <= PORTION_SHOWTIMES
        assert len(portion) == 1 or sum(sizes[showtime] for showtime in portion) <= PORTION_SEATS
    assert list(portions([], {})) == []


def test_what_was_not_judged_to_the_end_stands_beside_the_verdict() -> None:
    seen = Seen()
    seen.undecided.append("A1: gave up")
    report = report_of([Seen(), seen])
    assert (report.ok, report.undecided) == (True, ["A1: gave up"])
