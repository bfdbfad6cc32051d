"""The search: can these calls have happened one at a time, each at an instant between question and answer?

The method is Wing and Gong's ("Testing and verifying concurrent objects", 1993): take any call that no
unfinished call had ended before, let it act on the seats, go on; when stuck, take back the last and try
the next. Lowe's addition ("Testing for linearizability", 2017) makes it quick: a set of done calls with the
seats as they then are, once found hopeless, is never entered again. Seats are independent objects, so a
history of a hall is judged seat by seat (Herlihy and Wing's locality); calls on several seats may be
searched together, which proves that they were all or none.

A call without an answer is optional: it may act at any time after its question. Trying each of them
everywhere would be exponential, and is not needed: an optional call can always be moved back to just
before the first call that needs it, and left out when none does. So optional calls are tried only where an
answered call cannot act, and only those of the owners that stand in its way. What is over is forgotten: how
a hold ended makes no difference to what can follow. And a dead end names the seats that made it one; calls
at other seats are not tried in another order because of it (Prosser's backjumping, 1993). That all this
loses nothing is tested against trying out every permutation.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from loadtest.histories.operations import What

Phase = Literal["", "held", "claimed", "sold"]

#: A seat that somebody has: how, and by which hold. A free seat has no state.
State = tuple[Phase, str]

TRIES_MAX: Final = 20_000
_KEPT_BITS_MAX: Final = 2**29  # of remembered dead ends: 64 MiB

#: From which phase to which. A sale from nothing is one paid after its time, whose seats were still free.
_MOVES: Final[dict[str, tuple[tuple[Phase, Phase], ...]]] = {
    "hold": (("", "held"),),
    "extend": (("held", "held"),),
    "release": (("held", ""),),
    "expire": (("held", ""),),
    "claim": (("held", "claimed"),),
    "lapse": (("claimed", ""),),
    "sell": (("claimed", "sold"), ("", "sold")),
    "give_back": (("claimed", ""), ("sold", "")),
    "saw_free": (("", ""),),
}
_OWNED: Final[tuple[Phase, ...]] = ("held", "claimed", "sold")

#: What can never act again once a call of the same hold has: a hold id is granted once.
_BEFORE_CLAIM: Final = frozenset({"hold", "extend", "release", "expire"})
_BEFORE_SALE: Final = _BEFORE_CLAIM | {"claim", "lapse"}
_ENDS: Final = {
    "release": _BEFORE_SALE,
    "expire": _BEFORE_SALE,
    "claim": _BEFORE_CLAIM,
    "lapse": _BEFORE_SALE,
    "sell": _BEFORE_SALE,
    "give_back": _BEFORE_SALE,
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call at some seats; `answered_s` is infinite when it may act at any time, or never.

    Beside what clients ask there are two things that happen by themselves: a hold expires, a claim lapses.
    """

    what: Literal[What, "expire", "lapse"]
    hold_id: str
    seats: tuple[str, ...]
    asked_s: float
    answered_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Finding:
    """`order`: the places of the calls in an order that is possible. `why`: what no order could explain."""

    verdict: Literal["possible", "impossible", "undecided"]
    order: tuple[int, ...] = ()
    why: str = ""


def linearize(calls: Sequence[Call], tries_max: int = TRIES_MAX) -> Finding:
    """Look for an order of events; undecided after `tries_max` dead ends."""
    return _Search(calls).run(tries_max)


class _Frame(NamedTuple):
    """A call that acted, its seats before it, and how things stood when it was chosen.

    `blame`: the seats that made what was tried instead impossible.
    """

    place: int
    before: list[State | None]
    done: int
    first: int
    choices: Iterator[int]
    blame: set[str]


class _Search:
    """The seats, and which calls have acted on them so far."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls = calls
        self._seats: dict[str, State] = {}
        self._moves = [_moves_of(call, calls) for call in calls]
        answered = [place for place, call in enumerate(calls) if call.answered_s < math.inf]
        self._answered = sorted(answered, key=lambda place: calls[place].asked_s)
        self._optional_of: dict[str, list[int]] = defaultdict(list)
        self._takers_at: dict[str, set[str]] = defaultdict(set)
        for place, call in enumerate(calls):
            if call.answered_s == math.inf:
                self._optional_of[call.hold_id].append(place)
                for seat in call.seats if call.what in {"hold", "sell"} else ():
                    self._takers_at[seat].add(call.hold_id)
        self._required = sum(1 << place for place in answered)
        self._grant_of: dict[str, int] = {}
        for place, call in enumerate(calls):
            if call.what == "hold":  # granted twice, and nothing is over with it
                self._grant_of[call.hold_id] = 0 if call.hold_id in self._grant_of else 1 << place

    def run(self, tries_max: int) -> Finding:
        dead_ends: dict[tuple[int, frozenset[tuple[str, State]]], list[tuple[int, set[str]]]] = {}
        tries, tries_max = 0, min(tries_max, max(_KEPT_BITS_MAX // (len(self._calls) + 1), 1))
        frames: list[_Frame] = []
        done, first, deepest, why = 0, 0, -1, ""
        choices, blame = iter(self._choices(done, first)), set[str]()
        while True:
            first = self._skip_done(done, first)
            if first == len(self._answered):
                return Finding("possible", tuple(frame.place for frame in frames))
            for place in choices:
                before = self._act(place)
                if before is None:
                    continue
                now = done | self._used_by(place, done)
                known = dead_ends.get(self._key(now), ()) if dead_ends else ()
                dead = next((seats for used, seats in known if used & ~now == 0), None)
                if dead is not None:
                    self._put(place, before)
                    blame = blame | dead
                    continue
                frames.append(_Frame(place, before, done, first, choices, blame))
                done = now
                first = self._skip_done(done, first)
                choices, blame = iter(self._choices(done, first)), set()
                break
            else:
                if len(frames) > deepest:
                    deepest, why = len(frames), self._stuck_at(done, first)
                blame = blame | self._in_the_way(done, first)
                dead_ends.setdefault(self._key(done), []).append((done & ~self._required, blame))
                tries += 1
                while frames:  # whoever acted at none of these seats has no part in it
                    place, before, done, first, choices, others = frames.pop()
                    self._put(place, before)
                    if not blame.isdisjoint(self._calls[place].seats):
                        blame = blame | others
                        break
                else:
                    return Finding("impossible", why=why)
                if tries >= tries_max:
                    return Finding("undecided", why=why)

    def _used_by(self, place: int, done: int) -> int:
        """The call itself, and what it makes impossible for good where its hold was granted once."""
        hold_id = self._calls[place].hold_id
        used = 1 << place
        if done & self._grant_of.get(hold_id, 0):
            ended = _ENDS.get(self._calls[place].what, frozenset())
            for other in self._optional_of.get(hold_id, ()):
                if self._calls[other].what in ended:
                    used |= 1 << other
        return used

    def _in_the_way(self, done: int, first: int) -> set[str]:
        """The seats for which something that might have come next could not."""
        found = set()
        for place in self._choices(done, first):
            moves = self._moves[place]
            found |= {seat for seat in self._calls[place].seats if self._seats.get(seat) not in moves}
        return found

    def _key(self, done: int) -> tuple[int, frozenset[tuple[str, State]]]:
        """What has been answered by now, and the seats."""
        return done & self._required, frozenset(self._seats.items())

    def _skip_done(self, done: int, first: int) -> int:
        while first < len(self._answered) and done >> self._answered[first] & 1:
            first += 1
        return first

    def _window(self, done: int, first: int) -> tuple[list[int], float]:
        """Answered calls that may come next, soonest answer first, and the soonest answer."""
        calls, bound, window = self._calls, math.inf, []
        for at in range(first, len(self._answered)):
            place = self._answered[at]
            if calls[place].asked_s > bound:
                break
            if not done >> place & 1:
                window.append(place)
                bound = min(bound, calls[place].answered_s)
        window.sort(key=lambda place: calls[place].answered_s)
        return window, bound

    def _choices(self, done: int, first: int) -> list[int]:
        """What may act next: answered calls, then optional ones of whoever stands in their way."""
        window, bound = self._window(done, first)
        wanted: dict[str, None] = {}
        for place in window:
            moves, call = self._moves[place], self._calls[place]
            states = [self._seats.get(seat) for seat in call.seats]
            if all(state in moves for state in states):
                continue
            wanted[call.hold_id] = None
            wanted |= dict.fromkeys(state[1] for state in states if state is not None)
            if call.what == "saw_taken":
                wanted |= dict.fromkeys(name for seat in call.seats for name in self._takers_at[seat])
        queue = list(wanted)
        for hold_id in queue:  # who would take seats needs them free
            for place in self._optional_of.get(hold_id, ()):
                for seat in self._calls[place].seats:
                    owner = self._seats.get(seat)
                    if owner is not None and owner[1] not in wanted:
                        wanted[owner[1]] = None
                        queue.append(owner[1])
        optional = [
            place
            for hold_id in wanted
            for place in self._optional_of.get(hold_id, ())
            if self._calls[place].asked_s <= bound and not done >> place & 1
        ]
        return window + optional

    def _act(self, place: int) -> list[State | None] | None:
        """Let a call act on all its seats: the states before; None when it cannot, and nothing is changed."""
        moves, seats = self._moves[place], self._seats
        before = [seats.get(seat) for seat in self._calls[place].seats]
        if not all(state in moves for state in before):
            return None
        self._put(place, (moves[state] for state in before))
        return before

    def _put(self, place: int, states: Iterable[State | None]) -> None:
        for seat, state in zip(self._calls[place].seats, states, strict=True):
            if state is None:
                self._seats.pop(seat, None)
            else:
                self._seats[seat] = state

    def _stuck_at(self, done: int, first: int) -> str:
        """The call that had to happen by now, and what was in its way."""
        window, bound = self._window(done, first)
        call = self._calls[window[0]]
        states = (self._seats.get(seat) for seat in call.seats)
        found = sorted({"free" if state is None else f"{state[0]} by {state[1]}" for state in states})
        name = f"{call.what} of {call.hold_id}" if call.hold_id else call.what
        return f"{name}, answered at {bound:.3f} s, finds {' and '.join(found)}"


def _moves_of(call: Call, calls: Sequence[Call]) -> dict[State | None, State | None]:
    if call.what == "saw_taken":
        names = {other.hold_id for other in calls}
        owned: list[State] = [(phase, name) for phase in _OWNED for name in names]
        return {state: state for state in owned}
    return {
        (begins, call.hold_id) if begins else None: (ends, call.hold_id) if ends else None
        for begins, ends in _MOVES[call.what]
    }
