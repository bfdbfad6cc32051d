"""How a rehearsal judges, without a crowd: diaries, objectives, shapes, the verdict.

Goal: an overlap of two possessions is found whichever processes its owners sat in, and nothing that a
correct service does looks like one. Each finding stands beside the same story told innocently.
"""

from __future__ import annotations

import base64
import csv
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from loadtest.histories import judge as judge_history
from loadtest.rehearsal.aftermath import Showtimes, bookings_of
from loadtest.rehearsal.contract import WatchedMap, is_allowed, wrong_hold, wrong_map
from loadtest.rehearsal.diary import Diary, Entry, read_diaries
from loadtest.rehearsal.meter import Meter, percentile
from loadtest.rehearsal.objectives import (
    BUILT_IN,
    FACTS,
    BadObjectives,
    Judged,
    Objective,
    bounded_by_noops,
    judge,
    read_objectives,
)
from loadtest.rehearsal.plan import PARTIES, SCENARIOS, Plan, draw_wants, hall_csv
from loadtest.rehearsal.possession import Stories
from loadtest.rehearsal.resources import Sample, memory_growth_percent, why_not_judged
from loadtest.rehearsal.retelling import retell
from loadtest.rehearsal.shapes import SHAPES, BadCrowd, Timetable, drawn_minutes, timetable
from loadtest.rehearsal.verdict import Verdict
from loadtest.rush import Answer, Hall, History, Picture, Sale
from loadtest.rush import Meter as RushMeter
from reservation import import_layout
from runtime.paths import ROOT

SHOWTIME = "sho_0000000000"


def held(at_s: float, hold_id: str, *seats: str, until_s: float = 100.0) -> Entry:
    asked_s = at_s - 0.2
    return Entry(at_s, "held", hold_id, SHOWTIME, seats, until_s=until_s, token_number=0, asked_s=asked_s)


def given_twice(*entries: Entry) -> list[str]:
    return Stories.read(sorted(entries, key=lambda entry: entry.at_s)).given_twice()


def write(file: Path, entry: Entry) -> None:
    diary = Diary(file)
    diary.write(entry)
    diary.close()


# Possession


def test_one_seat_held_by_two_at_once_is_found_and_named() -> None:
    (found,) = given_twice(held(1, "a", "D5", "D6"), held(2, "b", "D6", "D7"))
    assert found.startswith(f"D6 of {SHOWTIME}: a and b at once")


@pytest.mark.parametrize(
    "between",
    [
        Entry(1.5, "left", "a"),
        Entry(1.5, "gone", "a", state="hold_lost"),
        Entry(1.5, "seen", "a", order_id="o", state="expired", until_s=2),
        Entry(1.5, "seen", "a", order_id="o", state="cancelled", until_s=2),
        Entry(1.5, "returned", "a", order_id="o"),
    ],
)
def test_a_seat_given_up_in_between_was_nobodys(between: Entry) -> None:
    assert given_twice(held(1, "a", "D5"), between, held(2, "b", "D5")) == []
    assert given_twice(held(1, "a", "D5"), held(2, "b", "D5")) != []


def test_a_seat_whose_hold_had_ended_by_itself_was_nobodys() -> None:
    assert given_twice(held(1, "a", "D5", until_s=9), held(9, "b", "D5")) == []
    assert given_twice(held(1, "a", "D5", until_s=9), held(8, "b", "D5")) != []


def test_more_time_and_an_order_prolong_a_possession() -> None:
    later = held(9, "b", "D5")
    first = held(1, "a", "D5", until_s=5)
    assert given_twice(first, later) == []
    assert given_twice(first, Entry(2, "kept", "a", until_s=20), later) != []
    assert given_twice(first, Entry(2, "ordered", "a", order_id="o", state="claiming"), later) == []
    order = Entry(2, "ordered", "a", order_id="o", state="pending_payment", until_s=20)
    assert given_twice(first, order, later) != []


def test_a_confirmed_seat_is_owned_for_good_until_it_is_given_back() -> None:
    bought = (
        held(1, "a", "D5", until_s=5),
        Entry(2, "ordered", "a", order_id="o", state="pending_payment", until_s=8),
        Entry(3, "seen", "a", order_id="o", state="confirmed", until_s=8),
    )
    (found,) = given_twice(*bought, held(50, "b", "D5", until_s=900))
    assert "for good" not in found
    assert given_twice(*bought, Entry(40, "returned", "a"), held(50, "b", "D5")) == []
    both = (*bought, held(50, "b", "D5"), Entry(51, "seen", "b", order_id="p", state="confirmed"))
    assert any("for good" in found for found in given_twice(*both))


def test_who_pays_after_the_deadline_does_not_accuse_who_was_there_in_between() -> None:
    late = (
        held(1, "a", "D5", until_s=5),
        Entry(2, "ordered", "a", order_id="o", state="pending_payment", until_s=8),
        Entry(30, "seen", "a", order_id="o", state="confirmed", until_s=8),
    )
    between = held(12, "b", "D5", until_s=20)
    assert given_twice(*late, between, Entry(14, "left", "b")) == []
    assert given_twice(*late, held(12, "b", "D5", until_s=60)) != []


def test_a_hold_that_is_gone_before_its_time_was_cut_short() -> None:
    def story_with(gone_at_s: float) -> bool:
        gone = Entry(gone_at_s, "gone", "a", state="hold_expired")
        return Stories.read([held(1, "a", "D5", until_s=9), gone]).by_hold["a"].cut_short

    assert story_with(4)
    assert not story_with(9.1)


def test_two_people_of_two_processes_are_found_in_the_merged_diaries_only(tmp_path: Path) -> None:
    files = [tmp_path / f"diary-{number}.ndjson" for number in range(2)]
    for number, file in enumerate(files):
        write(file, held(1 + number, f"hold {number}", "D5"))
    assert [Stories.read(read_diaries([file])).given_twice() for file in files] == [[], []]
    assert len(Stories.read(read_diaries(files)).given_twice()) == 1


def test_a_line_cut_off_by_a_kill_costs_that_line_only(tmp_path: Path) -> None:
    file = tmp_path / "diary-0.ndjson"
    write(file, held(1, "a", "D5"))
    file.write_bytes(file.read_bytes() + b'{"at_s":2,"what":"he')
    assert [entry.hold_id for entry in read_diaries([file])] == ["a"]


# What was promised, and what is

BOUGHT = (
    held(1, "a", "D5"),
    Entry(2, "ordered", "a", order_id="o", state="pending_payment", until_s=200),
    Entry(3, "seen", "a", order_id="o", state="confirmed", until_s=200),
)


def missing(now: str, *entries: Entry) -> list[str]:
    """What a read of the order `o` finds gone, by what its owner wrote."""
    history = History()
    history.bookings = bookings_of(Stories.read(entries), SHOWTIME, ["token"])
    seats = [{"seat": "D5"}]
    return history.judge({"o": Answer(200, {"state": now, "lines": seats, "tickets": seats})}, {"D5"}).missing


@pytest.mark.parametrize("now", ["pending_payment", "cancelled", "expired", "refunded"])
@pytest.mark.parametrize("seen", ["", "confirmed", "pending_payment", "cancelled", "refunded"])
def test_a_confirmed_order_that_is_gone_is_lost_also_for_an_owner_who_looked_again(
    seen: str, now: str
) -> None:
    again = (Entry(4, "seen", "a", order_id="o", state=seen, until_s=200),) if seen else ()
    assert missing(now, *BOUGHT, *again) == [f"o was confirmed and is now {now}"]
    assert missing("confirmed", *BOUGHT, *again) == []


@pytest.mark.parametrize("seen", ["confirmed", "refunded"])
def test_an_order_that_was_given_back_is_either(seen: str) -> None:
    returned = (Entry(4, "returned", "a", order_id="o"), Entry(5, "seen", "a", order_id="o", state=seen))
    assert missing("refunded", *BOUGHT, *returned) == missing("confirmed", *BOUGHT, *returned) == []


def test_an_order_that_was_never_confirmed_may_expire() -> None:
    assert missing("expired", *BOUGHT[:2]) == []
    assert missing("cancelled", BOUGHT[0], Entry(2, "ordered", "a", order_id="o", state="claiming")) == []


# The diaries told again, to the judge of a rush


def impossible(*entries: Entry) -> list[str]:
    witness = retell(SHOWTIME, sorted(entries, key=lambda entry: entry.at_s))
    found = judge_history(witness.operations())
    assert (found.undecided, found.operations >= sum(entry.what == "held" for entry in entries)) == ((), True)
    return [sentence.partition(":")[0] for sentence in found.impossible]


LATER = held(50, "b", "D5", until_s=900)


def test_one_hold_that_two_people_were_given_is_found_by_no_possession() -> None:
    twice = (held(1, "a", "D5"), replace(held(2, "a", "D5"), token_number=1))
    assert given_twice(*twice) == []
    assert impossible(*twice) == [f"D5 of {SHOWTIME}"]
    assert impossible(held(1, "a", "D5"), replace(held(2, "b", "D6"), token_number=1)) == []


@pytest.mark.parametrize(
    "innocent",
    [
        pytest.param((), id="the hold ran out"),
        pytest.param((Entry(2, "left", "a"),), id="left"),
        pytest.param((Entry(2, "gone", "a", state="hold_lost", asked_s=1.9),), id="gone"),
        pytest.param((Entry(2, "ordering", "a"),), id="nobody heard of the order"),
        pytest.param(
            (Entry(2, "ordering", "a"), Entry(3, "ordered", "a", order_id="o", state="claiming")),
            id="an order on its way",
        ),
        pytest.param(
            (
                Entry(2, "ordering", "a"),
                Entry(3, "ordered", "a", order_id="o", state="pending_payment", until_s=40),
            ),
            id="the order ran out",
        ),
        pytest.param(
            (
                Entry(2, "ordering", "a"),
                Entry(3, "ordered", "a", order_id="o", state="pending_payment", until_s=400),
                Entry(4, "seen", "a", order_id="o", state="confirmed", until_s=400),
                Entry(40, "returned", "a", order_id="o"),
            ),
            id="given back",
        ),
        pytest.param(
            (
                Entry(2, "ordering", "a"),
                Entry(3, "ordered", "a", order_id="o", state="pending_payment", until_s=400),
                Entry(40, "seen", "a", order_id="o", state="cancelled", until_s=400),
            ),
            id="cancelled",
        ),
    ],
)
def test_what_a_sound_service_does_is_possible_to_both_judges(innocent: tuple[Entry, ...]) -> None:
    ended_early = bool(innocent) and innocent[0].what in {"left", "gone"}
    first = held(1, "a", "D5", until_s=100 if ended_early else 40)
    assert given_twice(first, *innocent, LATER) == impossible(first, *innocent, LATER) == []


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param((), id="held"),
        pytest.param((Entry(2, "kept", "a", until_s=400, asked_s=1.8),), id="extended"),
        pytest.param(
            (
                Entry(2, "ordering", "a"),
                Entry(3, "ordered", "a", order_id="o", state="claiming"),
                Entry(4, "seen", "a", order_id="o", state="pending_payment", until_s=400),
            ),
            id="ordered by a 202",
        ),
        pytest.param((Entry(2, "ordering", "a"), *BOUGHT[1:]), id="bought"),
        pytest.param((Entry(60, "left", "a"),), id="left too late"),
    ],
)
def test_a_seat_that_is_somebodys_is_impossible_to_both_judges(kept: tuple[Entry, ...]) -> None:
    first = held(1, "a", "D5", until_s=40 if kept and kept[0].what == "kept" else 100)
    assert given_twice(first, *kept, LATER) != []
    assert impossible(first, *kept, LATER) == [f"D5 of {SHOWTIME}"]


def test_a_line_about_a_hold_nobody_was_granted_is_told_to_nobody() -> None:
    assert impossible(Entry(1, "left", "a"), Entry(2, "ordering", "a"), LATER) == []


async def test_a_rehearsal_is_judged_by_both_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading orders and the map again is the rush's own code and tested there."""

    class NoService:
        async def call(self, *_: Any, **__: Any) -> Answer:
            return Answer(503)

    entries = [held(1, "a", "D5"), replace(held(2, "a", "D5"), token_number=1), held(3, "b", "E5")]
    showtimes = Showtimes("http://127.0.0.1:9", [SHOWTIME], random.Random(1))
    monkeypatch.setattr("loadtest.rush.aftermath._MAP_SETTLES_S", 0.0)
    hall = Hall({"seats": [], "focal_point": [0, 0]})
    sale = Sale(SHOWTIME, hall, NoService(), RushMeter(), History(), "")  # type: ignore[arg-type]
    monkeypatch.setattr(showtimes, "_sales", {SHOWTIME: sale})
    monkeypatch.setattr(showtimes, "_before", {SHOWTIME: Picture(0, b"", b"")})
    try:
        found = await showtimes.look_back(Stories.read(entries), ["token"] * 2, entries)
    finally:
        await showtimes.close()
    assert [line.partition(": ")[2].partition(":")[0] for line in found.broken] == [f"D5 of {SHOWTIME}"]


# The contract


def test_an_answer_outside_the_contract_is_a_finding() -> None:
    assert is_allowed("hold", Answer(409, {"code": "seat_taken"}))
    assert is_allowed("hold", Answer(503, {"code": "inventory_rebuilding"}))
    assert not is_allowed("hold", Answer(409, {"code": "hold_claimed"}))
    assert not is_allowed("hold", Answer(500))
    assert not is_allowed("films", Answer(404, {"code": "not_found"}))
    assert not is_allowed("films", Answer(0))


def test_a_hold_of_other_seats_than_asked_for_is_a_finding() -> None:
    body = {"seats": [{"label": "D5"}, {"label": "D6"}]}
    assert wrong_hold(body, ("D6", "D5"), 2) == ""
    assert wrong_hold(body, (), 2) == ""
    assert wrong_hold(body, ("D6", "D7"), 2)
    assert wrong_hold(body, (), 3)


def seat_map(taken: int, sold: int, seats_left: int, **more: Any) -> dict[str, Any]:
    planes = {
        name: base64.b64encode(bytes([plane])).decode() for name, plane in (("taken", taken), ("sold", sold))
    }
    return {"seat_count": 8, "seats_left": seats_left, **planes, **more}


def test_a_map_that_contradicts_itself_is_a_finding() -> None:
    assert wrong_map(seat_map(0b11000000, 0b10000000, 6)) == ""
    assert "not taken" in wrong_map(seat_map(0b01000000, 0b10000000, 7))
    assert "seats left" in wrong_map(seat_map(0b11000000, 0b10000000, 7))
    assert "bytes" in wrong_map(seat_map(0, 0, 8) | {"seat_count": 9})


def test_a_watcher_notices_a_delta_that_is_missing() -> None:
    def watched(*deltas: dict[str, Any]) -> list[str]:
        seen = WatchedMap()
        snapshot = seen.apply("snapshot", seat_map(0b10000000, 0, 7, epoch=1, version=4))
        return [snapshot, *(seen.apply("delta", delta) for delta in deltas)]

    base = {"epoch": 1, "freed": [], "sold": []}
    first = {**base, "from_version": 4, "version": 5, "taken": [1, 2], "seats_left": 5}
    second = {**base, "from_version": 5, "version": 6, "taken": [], "freed": [0], "seats_left": 6}
    assert watched(first, second) == ["", "", ""]
    assert watched(second)[1].startswith("gap")
    assert "add up" in watched(first | {"seats_left": 4})[1]


# Counting


def test_what_processes_counted_adds_up_as_if_one_had(tmp_path: Path) -> None:
    whole, parts = Meter(), [Meter(), Meter()]
    for number in range(1, 201):
        for meter in (whole, parts[number % 2]):
            meter.note("herd", "hold", "201" if number % 3 else "409 seat_taken", number * 1.7)
    parts[1].complain("hold: 500")
    for part in parts:
        part.stumble("KeyError('seats')")
    for number, part in enumerate(parts):
        part.write(tmp_path / f"meter-{number}.json")
    merged = Meter.merged(tmp_path.glob("meter-*.json"))
    assert merged.buckets == whole.buckets
    assert merged.complaints == Counter({"hold: 500": 1})
    assert merged.accidents == Counter({"KeyError('seats')": 2})
    assert percentile(merged.select("hold"), 50) == pytest.approx(170, rel=0.01)
    assert merged.select("hold", "409").total() == 66
    assert merged.labels("hold") == {"201": 134, "409 seat_taken": 66}
    assert percentile(merged.select("order"), 50) is None


def test_no_ops_and_events_are_not_counted_among_what_people_asked() -> None:
    meter = Meter()
    for kind in ("hold", "order", "hold no-op", "arrive no-op", "watched events"):
        meter.note("herd", kind, "200", 1.0)
    assert meter.people_asked() == 2


def test_growth_is_that_of_the_most_grown_role_after_warming_up() -> None:
    sizes = [1_000] * 10 + [100] * 20 + [110] * 20
    samples = [Sample(second, "serve", 1, size, 0.0, 9) for second, size in enumerate(sizes)]
    assert memory_growth_percent(samples) == pytest.approx(10)
    assert memory_growth_percent(samples[:20]) is None


# Objectives and the verdict


def measured() -> Meter:
    meter = Meter()
    for took_ms in range(1, 101):
        meter.note("herd", "hold", "201", float(took_ms))
        meter.note("herd", "hold no-op", "200", took_ms / 10)
    return meter


@pytest.mark.parametrize(
    ("bound", "met"),
    [
        ({"at_most": 99}, True),
        ({"at_most": 98}, False),
        ({"at_least": 99}, True),
        ({"noops": 10}, True),
        ({"noops": 9}, False),
        ({"noops": 9, "plus_ms": 10}, True),
    ],
)
def test_a_percentile_is_held_against_its_bound(bound: dict[str, Any], met: bool) -> None:
    (judged,) = judge([Objective("hold", percentile=99, of="hold", **bound)], measured(), {})
    assert judged.met is met


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"of": "order", "percentile": 99, "at_most": 1}, "nothing measured"),
        ({"of": "hold", "percentile": 99, "noops": 9, "stage": "drain"}, "nothing measured"),
        ({"of": "order", "percentile": 99, "at_least": 0}, "nothing measured"),
        ({"fact": "orders_confirmed", "at_most": 1}, "nothing measured"),
        ({"fact": "memory_growth_percent", "at_most": 15}, "too short to judge memory"),
    ],
)
def test_what_was_not_measured_is_missed_and_says_so(wanted: dict[str, Any], found: str) -> None:
    lacking = {"memory_growth_percent": "too short to judge memory"}
    (judged,) = judge([Objective("line", **wanted)], measured(), {}, lacking)
    assert (judged.value, judged.met, judged.found) == (None, False, found)
    assert Verdict(judged=[judged]).exit_code == 4


def test_a_time_is_not_met_when_no_noop_says_what_it_would_be() -> None:
    meter = Meter()
    meter.note("herd", "hold", "201", 1.0)
    (judged,) = judge([Objective("hold", percentile=99, of="hold", noops=4, plus_ms=50)], meter, {})
    assert (judged.value, judged.met, judged.bound) == (1.0, False, "no no-op was answered")


def test_a_no_op_that_failed_or_stands_beside_something_else_bounds_nothing() -> None:
    meter = Meter()
    meter.note("herd", "hold", "201", 60.0)
    meter.note("herd", "hold no-op", "200", 1.0)
    wanted = [Objective("hold", percentile=99, of="hold", noops=4, plus_ms=50)]
    (alone,) = judge(wanted, meter, {})
    for kind, label in (("hold no-op", "no answer"), ("hold no-op", "503"), ("order no-op", "200")):
        meter.note("herd", kind, label, 15_000.0)
    assert judge(wanted, meter, {}) == [alone]
    meter.note("herd", "hold no-op", "200", 3.0)  # the control
    (judged,) = judge(wanted, meter, {})
    assert (alone.met, judged.met) == (False, True)


def test_no_ops_are_asked_beside_what_they_bound() -> None:
    assert bounded_by_noops(read_objectives(BUILT_IN, "presale")) == ("hold", "order", "seats", "watch")
    assert bounded_by_noops([Objective("orders", fact="orders", at_least=1)]) == ()


def test_what_was_measured_says_how_much() -> None:
    (judged,) = judge([Objective("orders", fact="orders", at_least=1)], measured(), {"orders": 71.0})
    assert (judged.found, judged.met) == ("71", True)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([], "no process of the service to look at"),
        ([Sample(2.0 * number, "serve", 1, 100, 0.0, 9) for number in range(24)], "too short"),
    ],
)
def test_memory_that_cannot_be_judged_says_why(samples: list[Sample], said: str) -> None:
    assert memory_growth_percent(samples) is None
    assert said in why_not_judged(samples)


@pytest.mark.parametrize(
    "line",
    [
        'every = [{ name = "a", fact = "unanswered" }]',
        'every = [{ name = "a", fact = "unanswered", at_most = 1, at_least = 1 }]',
        'every = [{ name = "a", fact = "unanswered", of = "hold", percentile = 9, at_most = 1 }]',
        'every = [{ name = "a", fact = "unanswered", noops = 2 }]',
        'every = [{ name = "a", at_most = 1 }]',
        'every = [{ name = "a", fact = "unanswered", most = 1 }]',
        'every = [{ name = "a", fact = "unansered", at_most = 1 }]',
        "other = []",
        'presal = [{ name = "a", fact = "unanswered", at_most = 1 }]\n'
        'every = [{ name = "b", fact = "unanswered", at_most = 1 }]',
        "every = 1",
        "every",
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "objectives.toml"
    file.write_text(line)
    with pytest.raises(BadObjectives):
        read_objectives(file, "presale")


def test_a_fact_nobody_counts_is_named_and_so_are_those_there_are(tmp_path: Path) -> None:
    file = tmp_path / "objectives.toml"
    file.write_text('every = [{ name = "a", fact = "unansered", at_most = 1 }]')
    with pytest.raises(BadObjectives, match=r"unansered.*told_to_wait_percent"):
        read_objectives(file, "presale")


def test_every_fact_is_in_the_guide() -> None:
    guide = (ROOT / "docs" / "load-testing.md").read_text()
    assert [fact for fact in FACTS if f"`{fact}`" not in guide] == []


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_has_objectives(scenario: str) -> None:
    names = [objective.name for objective in read_objectives(BUILT_IN, scenario)]
    assert len(names) == len(set(names)) > 7


def test_a_broken_promise_outweighs_everything_and_nothing_proved_is_nothing_met() -> None:
    met, missed = (
        Judged("fast", 1, "1", "at most 2", met=True),
        Judged("fast", 3, "3", "at most 2", met=False),
    )
    assert Verdict(judged=[met]).exit_code == 0
    assert Verdict(judged=[met, missed]).exit_code == 4
    assert Verdict(unproven=["no audit"], judged=[met]).exit_code == 4
    assert Verdict(broken=["seat given twice"], unproven=["no audit"], judged=[missed]).exit_code == 3


# Shapes and plans


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_reaches_its_height_and_ends_on_time(shape: str) -> None:
    table = timetable(shape, 500, 60)
    there = [table.users_at(second) for second, _ in table.knots]
    there += [table.users_at(second / 10) for second in range(-50, 601)]
    assert max(there) == 500
    assert min(there) >= 1
    assert table.ends_s == 60
    assert table.stage_at(-1) == "before"
    assert table.stage_at(59.9) == table.stages[-1][0]


def test_a_spike_is_there_within_a_second() -> None:
    table = timetable("spike", 1_000, 60)
    assert (table.users_at(0), table.users_at(1)) == (100, 1_000)


def test_a_recorded_crowd_is_scaled_in_height_and_time(tmp_path: Path) -> None:
    file = tmp_path / "recording.csv"
    with file.open("w", newline="") as output:
        writer = csv.writer(output)
        writer.writerow(["minute_utc", "requests"])
        writer.writerows((minute, 1_000 + 100 * (minute == 90)) for minute in range(120))
    table = timetable("recorded", 110, 60, file)
    assert [name for name, _ in table.stages] == ["16:00", "17:00"]
    assert (table.users_at(0), table.users_at(45), table.users_at(60)) == (100, 110, 100)
    assert table.stage_at(30) == "17:00"


def test_without_a_recording_a_crowd_of_its_character_is_drawn() -> None:
    minutes = drawn_minutes()
    assert len(minutes) == 480
    assert minutes.index(max(minutes)) == 290
    assert minutes[180] > 2 * minutes[100]
    assert minutes[-1] < minutes[180]


@pytest.mark.parametrize(
    "content", ["", "minute\n1\n", "requests\nmany\n", "requests\n0\n", "requests\n-1\n5\n"]
)
def test_a_recording_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "recording.csv"
    file.write_text(content)
    with pytest.raises(BadCrowd):
        timetable("recorded", 10, 10, file)


def test_a_seed_makes_the_same_people_again() -> None:
    def crowd(seed: int) -> list[tuple[str, int, bool]]:
        drawn = [draw_wants(seed, person, visit, ("a", "b")) for person in range(400) for visit in range(5)]
        return [(wants.showtime_id, wants.party, wants.by_name) for wants in drawn]

    assert crowd(7) == crowd(7) != crowd(8)
    parties = Counter(party for _, party, _ in crowd(7))
    for party, share in PARTIES.items():
        assert parties[party] / 20 == pytest.approx(share, abs=4)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = Timetable(((0.0, 1), (9.5, 20)), (("ramp", 0.0),))
    plan = Plan("r", "soak", 7, 20, 2, {"Fan": 1}, 0.5, ("sho_1",), "tokens", "folder", 12.5, table)
    plan.write(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == plan


@pytest.mark.parametrize("seats", [1, 39, 40, 41, 2_500])
def test_a_hall_has_exactly_the_seats_it_was_ordered_with(seats: int) -> None:
    assert import_layout(hall_csv(seats).encode(), name="hall").layout.seat_count == seats
