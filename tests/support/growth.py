"""How the work of a function grows with what it is given, in processor time of this thread.

No clock on a wall is looked at, and no number of seconds: two measurements of one run are compared, of a size
and of eight times that. What is linear comes out at eight or below, where part of it is the same for every
size; what is quadratic at sixty-four. Whoever asserts stays far from both, and shows a control that does not.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from time import thread_time_ns
from typing import Final, TypeVar

from kernel.errors import SeatRushError

T = TypeVar("T")

FACTOR: Final = 8
#: Between what is linear and what is quadratic.
LINEAR_MAX: Final = 24.0
_TRIES: Final = 5  # the quickest counts: whatever else the machine does only adds


def growth(work: Callable[[T], object], sized: Callable[[int], T], size: int) -> float:
    """By how much more work there is for eight times the size; a refusal is an answer like any other."""
    small, large = sized(size), sized(FACTOR * size)
    return _took_ns(work, large) / _took_ns(work, small)


def _took_ns(work: Callable[[T], object], given: T) -> int:
    tries = []
    for _ in range(_TRIES):
        began = thread_time_ns()
        with suppress(SeatRushError, ValueError):
            work(given)
        tries.append(thread_time_ns() - began)
    return max(1, min(tries))
