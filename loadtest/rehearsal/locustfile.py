"""What Locust loads: the kinds of people of the plan's mix, its timetable, and the desk's hours.

Started by `run`, with the plan's file in the environment. The plan names the instant of the opening, so it is
good for one run.
"""

from __future__ import annotations

from typing import Any, Final

from locust import LoadTestShape, User, events
from locust.runners import MasterRunner, WorkerRunner

from loadtest.rehearsal import people
from loadtest.rehearsal.desk import desk

_GOING_HOME_S: Final = 4.0  # after the last stage, nobody begins anything new

_AMONG_PEOPLE: Final = "Ceiling" not in desk.plan.mix


def _kinds() -> dict[str, type[User]]:
    """The kinds of people there are, by name: Locust takes every class it finds in this module."""
    kinds = {name: getattr(people, name) for name in desk.plan.mix}
    for name, kind in kinds.items():
        kind.weight = desk.plan.mix[name]
    return kinds


globals().update(_kinds())


class Crowd(LoadTestShape):
    """The plan's timetable. Locust asks once a second, so it is told what is wanted a second from now."""

    def tick(self) -> tuple[int, float] | None:
        """How many people there should be, and how fast they come or go; None when all should go."""
        second, table = desk.second, desk.plan.timetable
        if second >= table.ends_s + (_GOING_HOME_S if _AMONG_PEOPLE else 0.0):
            return None
        wanted = table.users_at(second + 1)
        here: int = self.get_current_user_count()  # type: ignore[no-untyped-call]
        return wanted, max(1.0, float(abs(wanted - here)))


def _open(environment: Any, **_: Any) -> None:
    runner = environment.runner
    if not isinstance(runner, MasterRunner):
        desk.open(runner.worker_index if isinstance(runner, WorkerRunner) else 0)


def _close(environment: Any, **_: Any) -> None:
    if not isinstance(environment.runner, MasterRunner):
        desk.close()


def _stumble(exception: BaseException, **_: Any) -> None:
    desk.meter.stumble(repr(exception))


events.user_error.add_listener(_stumble)  # type: ignore[no-untyped-call]
events.test_start.add_listener(_open)  # type: ignore[no-untyped-call]
events.quitting.add_listener(_close)  # type: ignore[no-untyped-call]
