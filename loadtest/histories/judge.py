"""The judgement of a history: every seat by itself, then those that were asked for together.

First pass: the calls at each seat, searched alone. Seats that saw the same calls are searched once, as a
party's seats mostly are. Second pass: an operation is all its seats or none, and that does not follow from
seats being right one by one, so seats that share an operation are searched together. A hall that was fought
over is one such group; the search succeeds at its first try on sound histories and gives up, undecided,
where the dead ends become too many. Undecided is said, and is never taken for a proof.

What happens by itself is made up here: a hold may expire from its deadline on, a claim lapse from its own;
whatever was granted with an unknown outcome may end at any time. When seat maps forgot meanwhile, holds that
were asked for until then may be lost from then on: no hold is promised to survive that, every order is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from loadtest.histories.operations import Operation
from loadtest.histories.search import TRIES_MAX, Call, Finding, linearize

Seat = tuple[str, str]  # showtime id, label


@dataclass(frozen=True, slots=True)
class Judgement:
    """Sentences that name the seat; both empty for a history that is proven possible."""

    seats: int
    operations: int
    impossible: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()


def judge(operations: Sequence[Operation], *, tries_max: int = TRIES_MAX) -> Judgement:
    """Whether every seat had one owner at a time, and every operation all its seats or none."""
    calls = {showtime_id: calls_of(here) for showtime_id, here in _by_showtime(operations).items()}
    at: dict[Seat, list[int]] = defaultdict(list)
    for showtime_id, here in calls.items():
        for place, call in enumerate(here):
            for seat in call.seats:
                at[showtime_id, seat].append(place)
    findings: dict[tuple[str, tuple[int, ...]], Finding] = {}
    said: dict[str, list[str]] = {"impossible": [], "undecided": []}
    for (showtime_id, seat), places in sorted(at.items()):
        key = showtime_id, tuple(places)
        if key not in findings:
            alone = [replace(calls[showtime_id][place], seats=(seat,)) for place in places]
            findings[key] = linearize(alone, tries_max)
        _say(findings[key], _named(showtime_id, seat), said)
    if not said["impossible"]:
        for showtime_id, seats in _groups(at, calls):
            places = sorted({place for seat in seats for place in at[showtime_id, seat]})
            found = linearize([calls[showtime_id][place] for place in places], tries_max)
            _say(found, f"{_named(showtime_id, seats[0])} with {len(seats) - 1} others, all or none", said)
    return Judgement(len(at), len(operations), tuple(said["impossible"]), tuple(said["undecided"]))


def calls_of(operations: Sequence[Operation]) -> list[Call]:
    """The calls of one showtime: what clients asked, and what may have happened by itself."""
    losses = [one for one in operations if one.what == "lost"]
    calls: list[Call] = []
    holds: dict[str, Operation] = {}
    until_s: dict[str, float] = {}
    for one in operations:
        if one.what == "lost":
            continue
        ends = {} if one.answered_s is None else {"answered_s": one.answered_s}
        calls.append(Call(one.what, one.hold_id, one.seats, one.asked_s, **ends))
        if one.what == "hold":
            holds[one.hold_id] = one
        is_granted = one.what == "hold" or (one.what == "extend" and one.answered_s is not None)
        if is_granted and one.until_s is not None:
            until_s[one.hold_id] = max(until_s.get(one.hold_id, one.until_s), one.until_s)
        if one.what == "claim":
            lapses_s = one.asked_s if one.answered_s is None else one.until_s
            if lapses_s is not None:
                calls.append(Call("lapse", one.hold_id, one.seats, lapses_s))
    for hold_id, held in holds.items():
        instants = [until_s[hold_id]] if hold_id in until_s else []
        if held.answered_s is None:
            instants.append(held.asked_s)
        instants += [max(loss.asked_s, held.asked_s) for loss in losses if _concerns(loss, held)]
        if instants:
            calls.append(Call("expire", hold_id, held.seats, min(instants)))
    return calls


def _concerns(loss: Operation, held: Operation) -> bool:
    """Whether a hold may be among what was forgotten."""
    return loss.answered_s is None or held.asked_s <= loss.answered_s


def _by_showtime(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    found: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        found[operation.showtime_id].append(operation)
    return found


def _named(showtime_id: str, seat: str) -> str:
    return f"{seat} of {showtime_id}" if showtime_id else seat


def _say(found: Finding, where: str, said: dict[str, list[str]]) -> None:
    if found.verdict != "possible":
        said[found.verdict].append(f"{where}: {found.why}")


def _groups(at: dict[Seat, list[int]], calls: dict[str, list[Call]]) -> list[tuple[str, list[str]]]:
    """Seats that hang together by shared calls and did not all see the very same ones."""
    above: dict[Seat, Seat] = {seat: seat for seat in at}

    def top(seat: Seat) -> Seat:
        while above[seat] != seat:
            above[seat] = seat = above[above[seat]]
        return seat

    for showtime_id, here in calls.items():
        for call in here:
            for seat in call.seats[1:]:
                above[top((showtime_id, seat))] = top((showtime_id, call.seats[0]))
    groups: dict[Seat, list[Seat]] = defaultdict(list)
    for place in at:
        groups[top(place)].append(place)
    return [
        (group[0][0], sorted(seat for _, seat in group))
        for group in groups.values()
        if len({tuple(at[seat]) for seat in group}) > 1
    ]
