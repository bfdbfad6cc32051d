"""One run: restarts in turn under a crowd, and what anybody met."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from entrypoints.audit import AuditReport, run_audit
from entrypoints.chaos.crowd import HALL
from entrypoints.chaos.faults import Fault, Scene
from entrypoints.chaos.house import API, GATEWAY, REAPER, WRITER, House, run_house
from entrypoints.chaos.plan import Plan, Strike
from entrypoints.chaos.run import Round, play
from entrypoints.selling import add_showtime
from entrypoints.supervision import SupervisorGone, ask_for_restart
from reservation import import_layout
from tests.support.strict_client import Crowd
from tests.support.strict_people import Viewer, hold_and_give_back, look

ROLES: Final = (API, WRITER, REAPER, GATEWAY)
#: Nothing that is held or claimed may run out of time because a process was away for a moment.
SETTINGS: Final[Mapping[str, str]] = {"SEATRUSH_HOLD_TTL_MS": "120000", "SEATRUSH_CLAIM_TTL_MS": "300000"}
#: What is refused because of other people, or of what one has already: the request was served.
SERVED: Final = frozenset(
    {"seat_taken", "sold_out", "orphan_seat", "seat_limit_exceeded", "hold_not_extendable"}
)
#: "Not now", which is repeated; who is left with it is counted by the meter.
_LATER: Final = frozenset({"no answer", "429", "503", "409 request_in_progress"})
_REPLACED_WITHIN_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.1
_STRICT_SEATS: Final = ("A1", "C1", "E1")
_VIEWERS: Final = 3


class Restarts:
    """What was replaced, by role; as faults, so that the crowd's round can be played with them."""

    def __init__(self) -> None:
        self.processes: Counter[str] = Counter()
        self.killed: Counter[str] = Counter()
        self.failures: list[str] = []
        #: Turns of a role whose restart before was still going on; a machine too slow for the interval.
        self.turns_missed = 0
        self._under_way: set[str] = set()

    def faults(self) -> Mapping[str, Fault]:
        """A kind for each role."""
        return {role: Fault((0.0, 0.0), partial(self._restart, role)) for role in ROLES}

    async def _restart(self, role: str, scene: Scene) -> str:
        if role in self._under_way:
            self.turns_missed += 1
            return "the restart before is still going on"
        self._under_way.add(role)
        try:
            async with asyncio.timeout(_REPLACED_WITHIN_S):
                return await (self._roll(scene.house) if role == API else self._end(role, scene.house))
        except (TimeoutError, SupervisorGone):
            self.failures.append(f"{role}: nobody took over within {_REPLACED_WITHIN_S:g} s")
            return self.failures[-1]
        finally:
            self._under_way.remove(role)

    async def _roll(self, house: House) -> str:
        done = await ask_for_restart(house.data_dir, house.service)
        self.processes[API] += len(done.replaced)
        self.killed[API] += sum(one.killed for one in done.replaced)
        if done.failure is not None:
            self.failures.append(f"{API}: {done.failure}")
        return done.failure or f"replaced {len(done.replaced)}"

    async def _end(self, role: str, house: House) -> str:
        """Told to finish as a deployment tells it; the supervisor starts the next."""
        old = await self._process_of(house, role)
        with suppress(ProcessLookupError):
            os.kill(old, signal.SIGTERM)
        while (new := await self._process_of(house, role)) == old:  # noqa: ASYNC110 (a file is all there is)
            await asyncio.sleep(_LOOK_EVERY_S)
        self.processes[role] += 1
        return f"{new} took over from {old}"

    async def _process_of(self, house: House, role: str) -> int:
        while not (pids := house.service.children.get(role)):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_EVERY_S)
        return pids[0]


def plan_of(seconds: float, interval_s: float, seed: int) -> Plan:
    """A restart at every interval, role after role."""
    instants = [interval_s * number for number in range(1, int(seconds / interval_s) + 1)]
    strikes = [Strike(ROLES[turn % len(ROLES)], at_s, 0.0, 0) for turn, at_s in enumerate(instants)]
    return Plan(seed, seconds, tuple(strikes))


def failed_requests(
    by_status: Mapping[str, Mapping[str, int]], unserved: Mapping[str, int]
) -> dict[str, int]:
    """What a client that keeps to the rules is left with, and how often."""
    failed = Counter(unserved)
    for kind, counts in by_status.items():
        for label, count in counts.items():
            if not _is_served(kind, label):
                failed[f"{kind}: {label}"] += count
    return dict(failed)


def _is_served(kind: str, label: str) -> bool:
    status, _, code = label.partition(" ")
    if status[0] == "2" or label in _LATER or status in _LATER:
        return True
    # A DELETE whose answer got lost may be sent again, and finds what it came for done.
    return (status == "409" and code in SERVED) or (kind, status) == ("release", "404")


@dataclass
class Run:
    """What one run found."""

    played: Round
    restarts: Restarts
    strict: Crowd
    viewers: list[Viewer]
    report: AuditReport

    @property
    def failed(self) -> dict[str, int]:
        """Requests a correct client is left with."""
        return failed_requests(self.played.by_status, self.played.unserved)

    @property
    def audit(self) -> Counter[bool]:
        """How many promises hold, and how many do not, after everybody went home."""
        return Counter(check.ok for check in self.report.checks)

    @property
    def wrong(self) -> list[str]:
        """Everything that must not be, in sentences; nothing when the promise was kept."""
        verdict = self.played.verdict
        return [
            *verdict.broken,
            *(f"not judged to the end: {seat}" for seat in verdict.undecided),
            *(f"failed {count} times: {what}" for what, count in self.failed.items()),
            *(f"somebody strict: {failure}" for failure in self.strict.failures),
            *(f"audit, {check.name}: {check.offender}" for check in self.report.checks if not check.ok),
            *self.restarts.failures,
            *(
                f"{role} did not finish and was killed, {n} times"
                for role, n in self.restarts.killed.items()
                if n
            ),
        ]

    def figures(self) -> dict[str, Any]:
        """For the page about reliability."""
        played, verdict = self.played, self.played.verdict
        answers = sum(sum(counts.values()) for counts in played.by_status.values())
        return {
            "seconds": played.plan.seconds,
            "turns": len(played.plan.strikes),
            "turns_missed": self.restarts.turns_missed,
            "processes_replaced": {role: self.restarts.processes[role] for role in ROLES},
            "killed_instead_of_finishing": self.restarts.killed.total(),
            "requests": answers - sum(played.repeats.values()),
            "repeated_by_the_rules": dict(sorted(played.repeats.items())),
            "failed": sum(self.failed.values()),
            "strict_requests": self.strict.answers.total() - self._events(),
            "strict_failures": len(self.strict.failures),
            "live_maps_watched": len(self.viewers),
            "live_events": self._events(),
            "goodbyes_to_viewers": sum(viewer.goodbyes for viewer in self.viewers),
            "people": dict(sorted(played.people.items())),
            "orders_read_back": verdict.orders,
            "operations_judged": verdict.operations,
            "settled_s": None if verdict.settled_s is None else round(verdict.settled_s, 1),
            "audit": f"{self.audit[True]} of {self.audit.total()} checks hold",
            "wrong": self.wrong,
        }

    def _events(self) -> int:
        return sum(self.strict.answers[name] for name in ("snapshot", "delta"))


async def roll(
    plan: Plan, say: Callable[[str], None] = lambda line: None, restarts: Restarts | None = None
) -> Run:
    """Play a plan of restarts; raises what a house that does not come up raises."""
    restarts = restarts or Restarts()
    async with run_house(settings=SETTINGS) as house, _strict_people(house) as (strict, viewers):
        played = await play(
            house,
            plan,
            say=say,
            faults=restarts.faults(),
            keep_in=Path(tempfile.gettempdir()) / "seatrush-rolling-restart",
        )
        report = await run_audit(house.platform)
    return Run(played, restarts, strict, viewers, report)


@asynccontextmanager
async def _strict_people(house: House) -> AsyncIterator[tuple[Crowd, list[Viewer]]]:
    """People at a hall of their own, from before the first restart until after the last."""
    showtime_id = await add_showtime(
        house.platform, import_layout(HALL.encode(), name="Strict hall"), orphan_rule="off"
    )
    accounts = await house.platform.account_service.accounts_in_bulk(len(_STRICT_SEATS), "strict")
    crowd, viewers = Crowd(), [Viewer(house.port, showtime_id) for _ in range(_VIEWERS)]
    tasks = [
        asyncio.create_task(one)
        for one in (
            *(look(crowd, house.port, showtime_id, keeps_alive=True, every_s=0.1) for _ in range(3)),
            *(look(crowd, house.port, showtime_id, keeps_alive=True, every_s=1.3) for _ in range(2)),
            *(look(crowd, house.port, showtime_id, keeps_alive=False, every_s=0.1) for _ in range(3)),
            *(
                hold_and_give_back(crowd, house.port, showtime_id, account.access_token, seat, every_s=0.2)
                for account, seat in zip(accounts, _STRICT_SEATS, strict=True)
            ),
        )
    ]
    sitting = [asyncio.create_task(viewer.watch(crowd)) for viewer in viewers]
    try:
        yield crowd, viewers
        crowd.over = True
        await asyncio.gather(*tasks)
    finally:
        for task in (*tasks, *sitting):
            task.cancel()
        await asyncio.gather(*tasks, *sitting, return_exceptions=True)
