"""Time is passed in, never looked up: simulation and tests hand over a clock of their own.

Wall-clock instants are aware UTC datetimes. Deadlines of holds are judged by the Redis server and
deadlines of claims by PostgreSQL; the application's clock only labels things.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Protocol

#: Instants are counted in whole units from here; a float of seconds loses a millisecond now and then.
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class Clock(Protocol):
    """Where "now" comes from."""

    def now(self) -> datetime:
        """The current instant, aware, in UTC."""

    def monotonic_s(self) -> float:
        """Seconds on a clock that never goes back, for durations."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._monotonic_s = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, by: timedelta) -> None:
        """Move both clocks forward."""
        self._now += by
        self._monotonic_s += by.total_seconds()


def to_ms(instant: datetime) -> int:
    """Whole milliseconds since 1970, the form instants have in Redis."""
    return (instant - _BEGINNING) // _MILLISECOND


def from_ms(instant_ms: int) -> datetime:
    """The aware UTC instant of milliseconds since 1970."""
    return _BEGINNING + timedelta(milliseconds=instant_ms)


def rfc3339(instant: datetime) -> str:
    """The one text form of an instant on the wire: UTC, milliseconds, ``Z``."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@lru_cache(maxsize=1_024)  # the holds of one second end in one second
def _to_the_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def rfc3339_of_ms(instant_ms: int) -> str:
    """`rfc3339` of milliseconds since 1970."""
    second, ms = divmod(instant_ms, 1000)
    return f"{_to_the_second(second)}.{ms:03d}Z"
