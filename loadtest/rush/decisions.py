"""What a fan does next, given an answer: pure functions, no clock, no network.

The table of refusals is the one of the public contract. A refusal that names something better is taken up
(an alternative, a shifted choice); one that says "later" is repeated, later; one that says "no" makes the
party smaller and then ends it. Whatever this file does not know ends the fan's evening and is counted by
its code, so a new refusal shows up in the report instead of in an endless loop.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

#: No answer: connection refused, reset or timed out. The request may have had its effect.
NO_ANSWER: Final = 0

PATIENCE_S: Final = 30.0  # an engine may restart and a seat map be rebuilt meanwhile
_FIRST_PAUSE_S: Final = 0.1
_PAUSE_S_MAX: Final = 2.0
_HOLD_TRIES_MAX: Final = 8
_LOOKS_S: Final = (0.08, 0.15, 0.3, 0.5, 0.8, 1.0)
_LOOKS_MAX: Final = 60


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer as far as a fan reads it.

    `unsure`: it, or the answer to an earlier repeat of the same request, was none or a 5xx, so the request
    may have had an effect that this answer does not show.
    """

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)
    retry_after_s: float | None = None
    unsure: bool = False

    @property
    def code(self) -> str:
        """What the refusal calls itself."""
        return str(self.body.get("code", "")) if self.status != NO_ANSWER else "no_answer"

    @property
    def label(self) -> str:
        """Under which name it is counted."""
        return f"{self.status} {self.code}".rstrip() if self.status != NO_ANSWER else "no answer"


@dataclass(frozen=True, slots=True)
class Wish:
    """Seats by name, or the best there are."""

    party: int
    seats: tuple[str, ...] = ()
    accessible: int = 0

    @property
    def body(self) -> dict[str, Any]:
        """The body of the hold request."""
        if self.seats:
            return {"seats": list(self.seats)}
        best = {"count": self.party}
        return {"best_available": best | ({"accessible": self.accessible} if self.accessible else {})}


@dataclass(frozen=True, slots=True)
class Try:
    """Ask for this, after a pause."""

    wish: Wish
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """These seats are kept for us."""

    hold_id: str
    seats: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No seats, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Do:
    """The next thing to do about an order."""

    what: Literal["pay", "look", "done"]
    after_s: float = 0.0


#: After paying, and after an order that is still on its way.
FIRST_LOOK: Final = Do("look", _LOOKS_S[0])


def told_to_wait(answer: Answer) -> bool:
    """Whether the very same request should be sent again."""
    return answer.status in {NO_ANSWER, 429, 503} or answer.code == "request_in_progress"


def pause_before_repeat(answer: Answer, repeats: int, waited_s: float, rng: random.Random) -> float | None:
    """How long to wait before a request is sent again; None when its answer stands, or patience ends."""
    if not told_to_wait(answer) or waited_s > PATIENCE_S:
        return None
    pause_s: float = min(_FIRST_PAUSE_S * 2**repeats, _PAUSE_S_MAX)
    if answer.retry_after_s is not None:
        pause_s = answer.retry_after_s
    return pause_s * rng.uniform(1.0, 1.5)


def after_hold(
    answer: Answer, wish: Wish, tries: int, rng: random.Random, *, sold_out: bool = False
) -> Held | Try | GiveUp:
    """What to do about the answer to a hold request, the `tries`-th of this fan.

    `sold_out`: everybody knows by now that nothing will come back.
    """
    if answer.status == 201:
        body = answer.body
        return Held(str(body["hold_id"]), tuple(seat["label"] for seat in body["seats"]))
    if tries >= _HOLD_TRIES_MAX or (sold_out and answer.code in {"seat_taken", "sold_out"}):
        return GiveUp("sold_out" if answer.code in {"seat_taken", "sold_out"} else answer.code)
    match answer.code:
        case "seat_taken" | "orphan_seat":
            return Try(_offered(answer, wish, rng))
        case "validation_failed" if wish.seats:
            return Try(Wish(wish.party))
        case "sold_out" if answer.retry_after_s is not None:
            return Try(wish, answer.retry_after_s * rng.uniform(1.0, 1.5))
        case "sold_out" if wish.party > 1 and answer.body.get("seats_left", 0) > 0:
            return Try(Wish(wish.party - 1, accessible=wish.accessible))
        case "seat_limit_exceeded":
            allowed = int(answer.body.get("most", 0)) - int(answer.body.get("already", 0))
            party = min(allowed, wish.party - 1)
            return Try(Wish(party)) if party > 0 else GiveUp("limited")
        case code:
            return GiveUp(code or answer.label)


def _offered(answer: Answer, wish: Wish, rng: random.Random) -> Wish:
    """One of the alternatives, mostly the first; the best there are where none is named."""
    offers = answer.body.get("alternatives") or []
    if not offers:
        return Wish(wish.party, accessible=wish.accessible)
    place = int(min(rng.expovariate(1.0), len(offers) - 1))
    return replace(wish, seats=tuple(offers[place]["seats"]))


def after_order(answer: Answer) -> Do | GiveUp:
    """What to do about the answer to `POST /orders`."""
    match answer.status:
        case 201:
            return Do("pay")
        case 202:
            return FIRST_LOOK
        case _:
            return GiveUp(answer.code or answer.label)


def test_url_of(answer: Answer) -> str | None:
    """Where a program approves an opened payment; None at a gateway without such an address."""
    following = answer.body.get("next") or {}
    url = (following.get("test") or {}).get("url")
    return None if url is None else str(url)


def after_look(answer: Answer, looks: int, *, paid: bool) -> Do | GiveUp:
    """What to do about the `looks`-th answer to `GET /orders/{id}`."""
    if answer.status != 200:
        return GiveUp(answer.code or answer.label)
    match answer.body.get("state"):
        case "confirmed":
            return Do("done")
        case "pending_payment" if not paid:
            return Do("pay")
        case "claiming" | "pending_payment" | "paid" if looks < _LOOKS_MAX:
            return Do("look", _LOOKS_S[min(looks, len(_LOOKS_S) - 1)])
        case state:
            return GiveUp(f"order_{state}")
