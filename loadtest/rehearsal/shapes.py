"""How a crowd grows and goes: how many people are there at each second, and what each part is called.

A timetable is a curve through knots and a list of named stages over it; the second zero is the instant the
sale opens, and whatever is before it is called `before`. Stages are told by the wall clock, so all of
Locust's processes and the one who judges agree on them without talking; a shape that counted its own
ticks would drift apart from the statistics by as much as Locust takes to start its users.

The recorded crowd is a day of the 1998 World Cup site, squeezed: its highest minute becomes the users
asked for, its eight hours the duration. Where the recording is not at hand, a curve of the same character
is drawn: a plateau, and two crowds that arrive within minutes and drain over an hour.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

#: How long people are there before the sale opens, where a shape has any.
LEAD_S: Final = 4.0
BEFORE: Final = "before"

_WATCHING_SHARE: Final = 0.1  # of the crowd, before a spike
_STEPS: Final = 5
_MINUTES: Final = 480
_RECORDED_FROM: Final = datetime(1998, 7, 7, 16)


class BadCrowd(ValueError):
    """The file of a recorded crowd cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Timetable:
    """`knots` are (second, users) in order of time; `stages` are (name, first second), in order too."""

    knots: tuple[tuple[float, int], ...]
    stages: tuple[tuple[str, float], ...]

    @property
    def ends_s(self) -> float:
        """When the last people are told to go."""
        return self.knots[-1][0]

    def users_at(self, second: float) -> int:
        """How many people are there."""
        after = bisect_right([at for at, _ in self.knots], second)
        if after == 0:
            return self.knots[0][1]
        if after == len(self.knots):
            return self.knots[-1][1]
        (begins, low), (ends, high) = self.knots[after - 1], self.knots[after]
        return round(low + (high - low) * (second - begins) / (ends - begins))

    def stage_at(self, second: float) -> str:
        """The name of the stage that second belongs to."""
        after = bisect_right([at for _, at in self.stages], second)
        return self.stages[after - 1][0] if after else BEFORE


def timetable(shape: str, users: int, duration_s: float, recording: Path | None = None) -> Timetable:
    """The timetable of a named shape.

    Raises BadCrowd where a recording is read.
    """
    if shape == "recorded":
        return _recorded(users, duration_s, minutes_of(recording) if recording else drawn_minutes())
    return _SHAPES[shape](users, duration_s)


def _spike(users: int, duration_s: float) -> Timetable:
    few = max(1, round(users * _WATCHING_SHARE))
    return Timetable(
        ((-LEAD_S, few), (0.0, few), (1.0, users), (duration_s, users)),
        (("spike", 0.0), ("plateau", max(2.0, duration_s / 4))),
    )


def _ramp(users: int, duration_s: float) -> Timetable:
    top_s = duration_s * 0.6
    return Timetable(
        ((0.0, 1), (top_s, users), (duration_s, users)),
        (("ramp", 0.0), ("plateau", top_s)),
    )


def _steps(users: int, duration_s: float) -> Timetable:
    each_s = duration_s / _STEPS
    knots: list[tuple[float, int]] = []
    for step in range(_STEPS):
        there = max(1, round(users * (step + 1) / _STEPS))
        knots += [(step * each_s, there), ((step + 1) * each_s - 0.001, there)]
    return Timetable(
        (*knots, (duration_s, users)),
        tuple((f"step {step + 1}", step * each_s) for step in range(_STEPS)),
    )


def _herd(users: int, duration_s: float) -> Timetable:
    drains_s = duration_s / 3
    return Timetable(
        ((-LEAD_S, 1), (-LEAD_S / 5, users), (drains_s, users), (duration_s, max(1, users // 10))),
        (("herd", 0.0), ("drain", drains_s)),
    )


def _recorded(users: int, duration_s: float, minutes: Sequence[int]) -> Timetable:
    """Height and time scaled; a stage is an hour of the recording."""
    highest, each_s = max(minutes), duration_s / len(minutes)
    knots = tuple(
        (minute * each_s, max(1, round(users * requests / highest)))
        for minute, requests in enumerate([*minutes, minutes[-1]])
    )
    hours = range(0, len(minutes), 60)
    stages = tuple(
        ((_RECORDED_FROM + timedelta(minutes=first)).strftime("%H:%M"), first * each_s) for first in hours
    )
    return Timetable(knots, stages)


def minutes_of(recording: Path) -> list[int]:
    """Requests per minute, from a CSV file with a column `requests`.

    Raises BadCrowd.
    """
    try:
        with recording.open(newline="") as file:
            minutes = [int(row["requests"]) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        raise BadCrowd(f"{recording}: {error!r}") from None
    if not minutes or max(minutes) <= 0 or min(minutes) < 0:
        raise BadCrowd(f"{recording}: no minute with a request in it")
    return minutes


def drawn_minutes() -> list[int]:
    """A crowd of the recorded one's character: kick-off at minute 180, full time at minute 290."""

    def arriving(minute: int, at: int, rise: float, fall: float) -> float:
        """A hill with a steep and a gentle side."""
        return math.exp((minute - at) / rise if minute < at else (at - minute) / fall)

    return [
        round(20_000 + 90_000 * arriving(minute, 180, 20, 60) + 180_000 * arriving(minute, 290, 12, 45))
        for minute in range(_MINUTES)
    ]


_SHAPES: Final[dict[str, Callable[[int, float], Timetable]]] = {
    "spike": _spike,
    "ramp": _ramp,
    "steps": _steps,
    "herd": _herd,
}

SHAPES: Final = (*_SHAPES, "recorded")
