"""What the people of one Locust process share: the plan, the clock of stages, the meter and the diary.

There is one desk a process, opened when Locust says that the run begins, because only then has the process
been forked and been told its number. People are numbered across processes (process 1 of 2 has the odd
ones), so nobody shares an account with anybody.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any, Final

import gevent
import msgspec

from loadtest.rehearsal.diary import Diary
from loadtest.rehearsal.meter import Meter
from loadtest.rehearsal.plan import NOOP_EVERY, PLAN_VARIABLE, Plan
from loadtest.rush.hall import Hall


class Desk:
    """Everything about the run that is not about one person."""

    def __init__(self, plan: Plan) -> None:
        self.plan: Final = plan
        self.meter = Meter()
        self.diary = Diary(Path(plan.folder) / "diary-0.ndjson")
        self.layouts: dict[str, tuple[str, Hall]] = {}
        self._index = 0
        self._numbers = count()
        self._tokens: list[str] = []
        self._asked: Counter[str] = Counter()

    def open(self, index: int) -> None:
        """Begin the run as this process."""
        self.meter.opened_at_s = time.time()
        self._index = index
        self._numbers = count(index, self.plan.processes)
        self.diary = Diary(Path(self.plan.folder) / f"diary-{index}.ndjson")
        accounts: list[dict[str, Any]] = msgspec.json.decode(Path(self.plan.tokens_file).read_bytes())
        self._tokens = [str(account["access_token"]) for account in accounts]

    def close(self) -> None:
        """Leave what was counted."""
        self.diary.close()
        self.meter.write(Path(self.plan.folder) / f"meter-{self._index}.json")

    def next_number(self) -> int:
        """The number of a person nobody else is."""
        return next(self._numbers)

    def token_number(self, person: int, visit: int) -> int:
        """Which account a person uses this time: another one each visit, as long as there are any."""
        return (person + visit * self.plan.users) % len(self._tokens)

    def token(self, number: int) -> str:
        """That account's access token."""
        return self._tokens[number]

    def noop_due(self, kind: str) -> bool:
        """Whether the request of this kind that is asked now has a no-op beside it."""
        if kind not in self.plan.noops_beside:
            return False
        self._asked[kind] += 1
        return self._asked[kind] % NOOP_EVERY == 1

    @property
    def second(self) -> float:
        """Seconds since the opening; negative before it."""
        return time.time() - self.plan.opens_at_s

    @property
    def closing(self) -> bool:
        """Whether nobody begins anything new."""
        return self.second >= self.plan.timetable.ends_s

    @property
    def stage(self) -> str:
        """What this moment is called."""
        return self.plan.timetable.stage_at(self.second)

    def pause(self, seconds: float) -> None:
        """Do nothing for a while, but not past the end."""
        left_s = self.plan.timetable.ends_s - self.second
        gevent.sleep(max(0.05, min(seconds, left_s)))


desk: Final = Desk(Plan.read(Path(os.environ[PLAN_VARIABLE])))
