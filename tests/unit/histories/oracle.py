"""Histories out of a seeded generator, and a judge that tries out every order there is.

The oracle shares nothing with the search but the form of a call: its seats are spelt out a second time, in
words, and it remembers nothing, so it is slow and has nothing to get wrong. Histories are made by letting
clients act on seats one at a time and then widening every instant into an interval around it: so they are
valid by how they were made, not because a checker says so.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

from loadtest.histories import Call

#: What is in each seat's book, as one writes it: "free", or "held by hld_1".
Book = dict[str, str]


def is_possible(calls: Sequence[Call]) -> bool:
    """Whether some order of all answered calls and any of the others is legal and keeps to the clock."""
    return _some_order({}, list(calls))


def is_legal(calls: Sequence[Call]) -> bool:
    """Whether the calls, in this very order, could each act."""
    book: Book = {}
    for call in calls:
        after = written(book, call)
        if after is None:
            return False
        book = after
    return True


def keeps_to_the_clock(calls: Sequence[Call]) -> bool:
    """Whether nobody in this order comes before somebody who had been answered before he asked."""
    return not any(
        later.answered_s < earlier.asked_s
        for place, earlier in enumerate(calls)
        for later in calls[place + 1 :]
    )


def _some_order(book: Book, left: list[Call]) -> bool:
    if all(call.answered_s == math.inf for call in left):
        return True
    for place, call in enumerate(left):
        others = left[:place] + left[place + 1 :]
        if any(other.answered_s < call.asked_s for other in others):
            continue
        after = written(book, call)
        if after is not None and _some_order(after, others):
            return True
    return False


def written(book: Book, call: Call) -> Book | None:
    """The book after a call; None when the call could not have been answered like this."""
    after = dict(book)
    for seat in call.seats:
        found, mine = book.get(seat, "free"), call.hold_id
        if call.what == "hold" and found == "free":
            after[seat] = f"held by {mine}"
        elif call.what in {"release", "expire"} and found == f"held by {mine}":
            after[seat] = "free"
        elif call.what == "claim" and found == f"held by {mine}":
            after[seat] = f"claimed by {mine}"
        elif call.what == "lapse" and found == f"claimed by {mine}":
            after[seat] = "free"
        elif call.what == "sell" and found in {f"claimed by {mine}", "free"}:
            after[seat] = f"sold by {mine}"
        elif call.what == "give_back" and found in {f"claimed by {mine}", f"sold by {mine}"}:
            after[seat] = "free"
        elif not (
            (call.what == "extend" and found == f"held by {mine}")
            or (call.what == "saw_free" and found == "free")
            or (call.what == "saw_taken" and found != "free")
        ):
            return None
    return after


def valid_history(
    rng: random.Random, calls: int, *, seats: Sequence[str] = ("A1",), lost: float = 0.15
) -> list[Call]:
    """So many calls at these seats, some of them without an answer, in any order."""
    now_s, book, made = 0.0, Book(), list[Call]()
    names, over = 0, list[Call]()
    while len(made) < calls:
        now_s += rng.expovariate(1.0)
        whole = {state.split(" by ")[1]: state for state in book.values() if state != "free"}
        free = [seat for seat in seats if book.get(seat, "free") == "free"]
        choices: list[tuple[str, str, tuple[str, ...]]] = []
        if free:
            names += 1
            wanted = tuple(rng.sample(free, rng.randint(1, len(free))))
            choices += [("hold", f"hld_{names}", wanted)] * 3 + [("saw_free", "", wanted[:1])]
        for hold_id, state in whole.items():
            its = tuple(seat for seat in seats if book.get(seat) == state)
            nexts = {
                "held": ("release", "expire", "claim", "claim", "extend"),
                "claimed": ("sell", "sell", "lapse", "give_back"),
                "sold": ("give_back",),
            }[state.split()[0]]
            choices += [(what, hold_id, its) for what in nexts] + [("saw_taken", "", its[:1])]
        choices += [("sell", one.hold_id, one.seats) for one in over if set(one.seats) <= set(free)]
        what, hold_id, its = rng.choice(choices)
        call = Call(what, hold_id, its, now_s - rng.expovariate(0.7))  # type: ignore[arg-type]
        after = written(book, call)
        assert after is not None
        book = after
        if what == "lapse":
            over.append(call)
        if what == "sell":
            over = [one for one in over if one.hold_id != hold_id]
        if what not in {"expire", "lapse"} and rng.random() > lost:
            call = replace(call, answered_s=now_s + rng.expovariate(0.7))
        made.append(call)
        if rng.random() < lost / 2 and len(made) < calls:  # asked, and never done
            made.append(Call("hold", f"hld_lost{len(made)}", (rng.choice(seats),), now_s))
    rng.shuffle(made)
    return made


def corrupted(rng: random.Random, calls: Sequence[Call]) -> list[Call]:
    """The history told wrongly once or twice; it may still be possible."""
    told = list(calls)
    for _ in range(rng.randint(1, 2)):
        place = rng.randrange(len(told))
        call, other = told[place], rng.choice(told)
        match rng.randrange(6):
            case 0:
                told[place] = replace(call, hold_id=other.hold_id)
            case 1:
                by_s = rng.uniform(-4.0, 4.0)
                told[place] = replace(call, asked_s=call.asked_s + by_s, answered_s=call.answered_s + by_s)
            case 2:
                told[place] = replace(call, answered_s=call.asked_s + rng.expovariate(2.0))
            case 3 if len(told) > 1:
                del told[place]
            case 4:
                told.append(replace(call, hold_id=f"{call.hold_id}bis"))
            case _:
                told[place] = replace(call, what=other.what)
    return told
