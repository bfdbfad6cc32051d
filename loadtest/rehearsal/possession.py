"""Whose a seat was, and when, by what people were told; and whether it was ever two people's.

A granted hold is a possession: from the answer that granted it until the person asked to let it go, was
told it is gone, or its deadline passed. An order prolongs it to the deadline of the payment, a
confirmation for good, a request to give it back ends it. Two possessions of one seat that overlap are the
broken promise this project exists for, whether either was paid or not: a second hold on a held seat is the
same race as a second sale, only found earlier.

Every bound errs on the innocent side: a possession begins when the answer has arrived, ends when the
request to end it leaves, and a deadline, which is told by the service's clock, counts as half a second
early. So an overlap found here did happen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from loadtest.histories import CLOCKS_DIFFER_S
from loadtest.rehearsal.diary import Entry

_ENDED: Final = frozenset({"cancelled", "expired", "refunded"})


@dataclass
class Story:
    """What became of one hold."""

    hold_id: str
    showtime_id: str
    seats: tuple[str, ...]
    token_number: int
    held_at_s: float
    until_s: float
    ends_s: float = math.inf
    order_id: str = ""
    state: str = ""
    confirmed_at_s: float = math.inf
    returned_at_s: float = math.inf
    gone_as: str = ""
    cut_short: bool = False

    def tell(self, entry: Entry) -> None:
        """Continue it with the next entry."""
        match entry.what:
            case "kept":
                self.until_s = max(self.until_s, entry.until_s)
            case "left":
                self.ends_s = min(self.ends_s, entry.at_s)
            case "gone":
                early = entry.at_s < min(self.until_s, self.ends_s) - CLOCKS_DIFFER_S
                self.cut_short = self.cut_short or early
                self.ends_s, self.gone_as = min(self.ends_s, entry.at_s), entry.state
            case "ordered":
                self.order_id = entry.order_id
                self._see(entry)
            case "seen":
                self._see(entry)
            case "returned":
                self.returned_at_s = min(self.returned_at_s, entry.at_s)
            case "held" | "ordering":
                pass

    def _see(self, entry: Entry) -> None:
        self.state = entry.state
        self.until_s = max(self.until_s, entry.until_s)
        if entry.state == "confirmed":
            self.confirmed_at_s = min(self.confirmed_at_s, entry.at_s)
        elif entry.state in _ENDED:
            self.ends_s = min(self.ends_s, entry.at_s)

    @property
    def promised(self) -> str:
        """The state its order must still have: one that was confirmed stays so until it is given back.

        What the owner saw afterwards is what the service says now, and no excuse for it. An order that was
        being given back may be either, and is only not gone.
        """
        if self.confirmed_at_s == math.inf:
            return self.state
        return "confirmed" if self.returned_at_s == math.inf else "paid"

    def possessions(self) -> list[tuple[float, float]]:
        """From when to when the seats were this person's."""
        kept = self.held_at_s, min(self.ends_s, self.until_s - CLOCKS_DIFFER_S, self.returned_at_s)
        owned = self.confirmed_at_s, self.returned_at_s
        return [(begins, ends) for begins, ends in (kept, owned) if begins < ends]


@dataclass
class Stories:
    """All holds of a run by id."""

    by_hold: dict[str, Story] = field(default_factory=dict)

    @classmethod
    def read(cls, entries: Iterable[Entry]) -> Stories:
        """From diaries in order of time; what is not about a granted hold is left out."""
        stories = cls()
        for entry in entries:
            story = stories.by_hold.get(entry.hold_id)
            if story is not None:
                story.tell(entry)
            elif entry.what == "held":
                stories.by_hold[entry.hold_id] = Story(
                    entry.hold_id,
                    entry.showtime_id,
                    entry.seats,
                    entry.token_number,
                    entry.at_s,
                    entry.until_s,
                )
        return stories

    def __iter__(self) -> Iterator[Story]:
        return iter(self.by_hold.values())

    def given_twice(self) -> list[str]:
        """Every overlap of two possessions of one seat, as a sentence that names the seat."""
        spans = sorted(
            (story.showtime_id, seat, begins, ends, story.hold_id)
            for story in self
            for seat in story.seats
            for begins, ends in story.possessions()
        )
        found, last = [], ("", "", 0.0, -math.inf, "")
        for span in spans:
            showtime_id, seat, begins, ends, hold_id = span
            same_seat = last[:2] == (showtime_id, seat)
            if same_seat and begins < last[3] and hold_id != last[4]:
                shared_s = min(ends, last[3]) - begins
                lasting = "for good" if math.isinf(shared_s) else f"for {shared_s:.2f} s"
                found.append(f"{seat} of {showtime_id}: {last[4]} and {hold_id} at once, {lasting}")
            if not same_seat or ends > last[3]:
                last = span
        return found
