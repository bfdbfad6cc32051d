"""The witness: every granted seat of a rush as an operation with its instants, to be judged afterwards.

The history (`history.py`) knows what each order came to; whether two people had a seat one after the other
or at the same time is a question of instants. So here stands, for every hold that was granted, when it was
asked for, when the answer came, until when it was promised, and the same for its extension, its release, its
order, its sale and its return. An answer that never came, or was a 5xx at any of its repeats, leaves the
operation open: it may have had its effect. So whatever may end what somebody has is noted before it is asked:
who is sent home in between never learns the outcome, and somebody else may have the seats by then. The answer
completes the note, leaves it open, or withdraws it where it is a refusal.

An order is a claim from the first answer that shows it to be kept for good, however late that is; a sale
likewise. A 202 promises nothing: until when the seats are kept is told by the first answer after it that asks
for the money.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from loadtest.histories import CLOCKS_DIFFER_S, Operation
from loadtest.histories.operations import What
from loadtest.rush.decisions import Answer, Held

_KEPT: Final = frozenset({"pending_payment", "paid", "confirmed"})


@dataclass(slots=True)
class _Step:
    """An operation that may still be answered."""

    asked_s: float
    answered_s: float | None = None
    until_s: float | None = None
    total_minor: int | None = None
    currency: str = ""


@dataclass(slots=True)
class _Life:
    """What became of one hold."""

    hold_id: str
    seats: tuple[str, ...]
    steps: dict[What, _Step] = field(default_factory=dict)


class Witness:
    """Operations of one showtime, by the fans' own clock."""

    def __init__(
        self,
        showtime_id: str = "",
        monotonic_s: Callable[[], float] = time.monotonic,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        self._showtime_id = showtime_id
        self._monotonic_s = monotonic_s
        self._unix_s = unix_s
        self._lives: dict[str, _Life] = {}
        self._all: list[_Life] = []  # a hold that was granted twice, which must not be, has two
        self._hold_of: dict[str, str] = {}
        self._losses: list[tuple[float, float | None]] = []

    def maps_were_remade(self, from_s: float, until_s: float | None = None) -> None:
        """Seat maps were lost at some instant between these, and holds granted before may be gone."""
        self._losses.append((from_s, until_s))

    def held(self, held: Held, asked_s: float, answer: Answer) -> None:
        """Seats were granted."""
        until_s = self._deadline(answer, "expires_at", asked_s)
        step = _Step(asked_s, self._monotonic_s(), until_s)
        self._lives[held.hold_id] = _Life(held.hold_id, held.seats, {"hold": step})
        self._all.append(self._lives[held.hold_id])

    def releasing(self, hold_id: str, asked_s: float) -> None:
        """Somebody asks to let go, for the first time or again."""
        self._lives[hold_id].steps.setdefault("release", _Step(asked_s))

    def released(self, hold_id: str, answer: Answer) -> None:
        """What somebody was told who asked to let go.

        A 404, or `hold_lost` after a recovery, says that the hold is gone and not by whom: where a connection
        broke, the HTTP library has asked twice (DELETE may be repeated), and told us of the second only.
        """
        steps = self._lives[hold_id].steps
        if answer.status == 204 and "release" in steps:
            steps["release"].answered_s = self._monotonic_s()
        elif answer.status not in {204, 404} and answer.code != "hold_lost" and not answer.unsure:
            steps.pop("release", None)

    def extended(self, hold_id: str, asked_s: float, answer: Answer) -> None:
        """Somebody asked for more time."""
        if answer.status == 200:
            until_s = self._deadline(answer, "expires_at", asked_s)
            self._lives[hold_id].steps["extend"] = _Step(asked_s, self._monotonic_s(), until_s)
        elif answer.unsure:
            self._lives[hold_id].steps["extend"] = _Step(asked_s)

    def giving_back(self, order_id: str, asked_s: float) -> None:
        """Somebody asks for the money back; done once an answer shows the order refunded."""
        self._lives[self._hold_of[order_id]].steps["give_back"] = _Step(asked_s)

    def given_back(self, order_id: str, answer: Answer) -> None:
        """What somebody was told who asked for the money back."""
        if answer.status != 202 and not answer.unsure:
            self._lives[self._hold_of[order_id]].steps.pop("give_back", None)

    def ordering(self, hold_id: str, asked_s: float) -> None:
        """Somebody asks to make an order of a hold."""
        self._lives[hold_id].steps["claim"] = _Step(asked_s, until_s=asked_s)

    def ordered(self, hold_id: str, answer: Answer) -> None:
        """What somebody was told who asked to make an order of a hold."""
        if answer.status not in {201, 202} and not answer.unsure:
            self._lives[hold_id].steps.pop("claim", None)
        elif "order_id" in answer.body:
            self._hold_of[str(answer.body["order_id"])] = hold_id
            self.seen(str(answer.body["order_id"]), answer)

    def paying(self, order_id: str, asked_s: float) -> None:
        """The first thing that may lead to a sale was asked for."""
        self._lives[self._hold_of[order_id]].steps.setdefault("sell", _Step(asked_s))

    def seen(self, order_id: str, answer: Answer) -> None:
        """An answer showed an order; what it shows has happened by now."""
        state = answer.body.get("state")
        if answer.status not in {200, 201, 202} or order_id not in self._hold_of:
            return
        steps = self._lives[self._hold_of[order_id]].steps
        if state == "refunded" and "give_back" in steps and steps["give_back"].answered_s is None:
            steps["give_back"].answered_s = self._monotonic_s()
        if state not in _KEPT or "claim" not in steps:
            return
        claim = steps["claim"]
        if claim.answered_s is None:
            claim.answered_s = self._monotonic_s()
        if state == "pending_payment":
            until_s = self._deadline(answer, "pay_by", claim.asked_s)
            claim.until_s = until_s if claim.until_s is None else max(claim.until_s, until_s)
        if (total := answer.body.get("total")) is not None and claim.total_minor is None:
            claim.total_minor, claim.currency = int(total["amount"]), str(total["currency"])
        if state == "confirmed":
            sale = steps.setdefault("sell", _Step(claim.asked_s))
            if sale.answered_s is None:
                sale.answered_s = self._monotonic_s()

    def operations(self) -> list[Operation]:
        """Everything so far."""
        told = [
            Operation(
                what,
                life.hold_id,
                life.seats,
                step.asked_s,
                step.answered_s,
                step.until_s,
                self._showtime_id,
                step.total_minor,
                step.currency,
            )
            for life in self._all
            for what, step in life.steps.items()
        ]
        told += [
            Operation("lost", "", (), from_s, until_s, showtime_id=self._showtime_id)
            for from_s, until_s in self._losses
        ]
        return told

    def _deadline(self, answer: Answer, name: str, asked_s: float) -> float:
        """From when a grant may end by itself, by our clock; at once where no deadline was told."""
        told = answer.body.get(name)
        if told is None:
            return asked_s
        left_s = datetime.fromisoformat(str(told)).timestamp() - self._unix_s()
        return self._monotonic_s() + left_s - CLOCKS_DIFFER_S
