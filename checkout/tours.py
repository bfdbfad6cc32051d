"""Work that is taken up a stretch at a time, so that what cannot be done keeps nobody else waiting.

A completer asks PostgreSQL for its oldest open items, a stretch of them. What cannot be done stays open,
and stays the oldest: two hundred orders of one server that is away would be all anybody ever asks for. So a
job goes on behind the last item it met, and from the beginning when a stretch was not full: a tour. Every
item is met once in a tour, however many there are and however long each takes, and nothing is remembered of
those that failed.

Refused: leaving alone what failed, by its name, for pauses that grow. Two hundred calls that wait for their
deadline outlast such a pause, so the oldest would be back before the youngest was met; and the list of
names would be as long as the outage, or end somewhere, and beyond that they starve again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias

#: Since when an item is open, and its name.
Place: TypeAlias = tuple[datetime, str]

BEGINNING: Final[Place] = (datetime(1970, 1, 1, tzinfo=UTC), "")


class Tour:
    """Where a job goes on: behind this place."""

    def __init__(self) -> None:
        self.after = BEGINNING

    def met(self, places: Sequence[Place], at_a_time: int) -> None:
        """These were the next, in their order; fewer than `at_a_time` are the last."""
        self.after = places[-1] if len(places) >= at_a_time else BEGINNING
