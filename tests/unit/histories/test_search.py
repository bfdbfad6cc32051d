"""Goal: the search accepts every history that could be, and no other.

Method: ten thousand valid histories are accepted, each with an order of events that a second model replays.
Ten thousand short ones, told wrongly, are judged as the oracle judges them, which tries out every order.
Both kinds of verdict must be many, or the comparison would prove nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from loadtest.histories import Call, linearize

from .oracle import corrupted, is_legal, is_possible, keeps_to_the_clock, valid_history

HISTORIES = 10_000
ROW = ("A1", "A2", "A3")


def _replays(calls: list[Call], order: tuple[int, ...]) -> bool:
    """Whether a found order is one: legal, by the clock, and with everything in it that was answered."""
    in_order = [calls[place] for place in order]
    answered = [place for place, call in enumerate(calls) if call.answered_s < float("inf")]
    return is_legal(in_order) and keeps_to_the_clock(in_order) and set(answered) <= set(order)


@pytest.mark.parametrize(("seats", "histories"), [(("A1",), HISTORIES), (ROW, HISTORIES // 5)])
def test_every_valid_history_is_accepted_with_an_order_that_can_be_replayed(
    seats: tuple[str, ...], histories: int
) -> None:
    lengths = Counter[int]()
    for seed in range(histories):
        rng = random.Random(f"valid {seed}")
        calls = valid_history(rng, rng.randint(1, 40), seats=seats, lost=rng.choice((0.0, 0.1, 0.3)))
        found = linearize(calls)
        assert found.verdict == "possible", f"seed {seed}: {found.why}"
        assert _replays(calls, found.order), f"seed {seed}"
        lengths[len(calls)] += 1
    assert len(lengths) == 40


@pytest.mark.parametrize(("seats", "histories"), [(("A1",), HISTORIES), (ROW[:2], HISTORIES // 2)])
def test_histories_told_wrongly_are_judged_as_by_trying_out_every_order(
    seats: tuple[str, ...], histories: int
) -> None:
    verdicts = Counter[str]()
    for seed in range(histories):
        rng = random.Random(f"corrupted {seed}")
        calls = corrupted(rng, valid_history(rng, rng.randint(2, 6), seats=seats, lost=0.25))
        found = linearize(calls)
        assert found.verdict == ("possible" if is_possible(calls) else "impossible"), f"seed {seed}: {calls}"
        verdicts[found.verdict] += 1
    assert min(verdicts["possible"], verdicts["impossible"]) > histories // 10, verdicts


def test_valid_histories_of_forty_calls_take_few_dead_ends() -> None:
    """The work is counted, not timed. Readings make it harder: they want a seat taken, by whomever."""
    for seed in range(1_000):
        calls = valid_history(random.Random(f"work {seed}"), 40, lost=0.2)
        assert linearize(calls, tries_max=2_000).verdict == "possible", f"seed {seed}"
        told = [call for call in calls if not call.what.startswith("saw")]
        assert linearize(told, tries_max=100).verdict == "possible", f"seed {seed}"


def test_a_search_that_gives_up_says_so() -> None:
    calls = [Call("hold", f"hld_{number}", ("A1",), 0.0, 1.0) for number in range(8)]
    calls += [Call("release", f"hld_{number}", ("A1",), 0.0, 1.0) for number in range(7)]
    calls.append(Call("saw_free", "", ("A1",), 2.0, 3.0))
    assert linearize(calls).verdict == "impossible"
    assert linearize(calls, tries_max=3).verdict == "undecided"


def test_an_empty_history_is_possible() -> None:
    assert linearize([]).verdict == "possible"


# What a seat can and cannot have done.

HELD = Call("hold", "hld_1", ("A1",), 0.0, 1.0)
CLAIMED = Call("claim", "hld_1", ("A1",), 2.0, 3.0)
SOLD = Call("sell", "hld_1", ("A1",), 4.0, 5.0)
OTHER = Call("hold", "hld_2", ("A1",), 6.0, 7.0)

CASES = {
    "one after the other": ([HELD, CLAIMED, SOLD], True),
    "two holds and no end of the first": ([HELD, OTHER], False),
    "the first was let go": ([HELD, Call("release", "hld_1", ("A1",), 2.0, 3.0), OTHER], True),
    "the first was let go too late": ([HELD, Call("release", "hld_1", ("A1",), 8.0, 9.0), OTHER], False),
    "whether it was let go nobody knows": ([HELD, Call("release", "hld_1", ("A1",), 2.0), OTHER], True),
    "its time was over": ([HELD, Call("expire", "hld_1", ("A1",), 6.5), OTHER], True),
    "its time was not over": ([HELD, Call("expire", "hld_1", ("A1",), 7.5), OTHER], False),
    "an order does not expire like a hold": (
        [HELD, CLAIMED, Call("expire", "hld_1", ("A1",), 5.0), OTHER],
        False,
    ),
    "an order nobody paid": ([HELD, CLAIMED, Call("lapse", "hld_1", ("A1",), 5.0), OTHER], True),
    "sold, and held again": ([HELD, CLAIMED, SOLD, OTHER], False),
    "sold, given back, and held again": (
        [HELD, CLAIMED, SOLD, Call("give_back", "hld_1", ("A1",), 5.5, 6.0), OTHER],
        True,
    ),
    "paid late, seats still free": (
        [HELD, CLAIMED, Call("lapse", "hld_1", ("A1",), 3.5), Call("saw_free", "", ("A1",), 3.6, 3.8), SOLD],
        True,
    ),
    "an order out of nothing": ([CLAIMED], False),
    "a hold nobody was told of stood in the way": (
        [Call("hold", "hld_0", ("A1",), 0.0), Call("saw_taken", "", ("A1",), 1.0, 2.0)],
        True,
    ),
    "nothing stood in the way": ([Call("saw_taken", "", ("A1",), 1.0, 2.0)], False),
    "a late answer may be about long ago": ([replace(HELD, answered_s=9.0), OTHER], False),
    "at the same time either may be first": (
        [HELD, replace(OTHER, asked_s=0.0), Call("release", "hld_2", ("A1",), 0.0, 1.0)],
        True,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_seat_can_have_done(case: str) -> None:
    calls, possible = CASES[case]
    assert linearize(calls).verdict == ("possible" if possible else "impossible")
    assert is_possible(calls) == possible


def test_what_cannot_be_is_said_with_what_was_in_the_way() -> None:
    assert linearize([HELD, OTHER]).why == "hold of hld_2, answered at 7.000 s, finds held by hld_1"
