"""Every role is restarted in turn while a crowd buys, and no request fails.

Goal: a deployment costs a client that keeps to the rules nothing but repeats, and one that forgives nothing
not even that as long as it only looks and holds. Method: the run of `make rolling-restart`, short: each role
once. The control ends API processes the way a crash does; people who forgive nothing must notice.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import suppress

import pytest

from entrypoints.chaos.faults import Fault, Scene
from entrypoints.chaos.house import API
from tests.rolling_restart.rolling import ROLES, Restarts, failed_requests, plan_of, roll


@pytest.mark.timeout(400)
async def test_every_role_restarted_in_turn_fails_no_request() -> None:
    run = await roll(plan_of(10.0, 2.5, seed=1))
    assert run.wrong == []
    assert run.restarts.processes == {role: 2 if role == API else 1 for role in ROLES}
    assert run.restarts.turns_missed == 0
    figures = run.figures()
    assert figures["people"]["bought"] > 20
    assert figures["requests"] > 200
    assert figures["failed"] == 0
    assert run.played.verdict.orders >= figures["people"]["bought"]
    assert figures["goodbyes_to_viewers"] >= len(run.viewers), "each viewer's process was replaced"
    assert figures["strict_requests"] > 50
    assert run.audit[False] == 0


class Crashes(Restarts):
    """API processes end without a word, all at once; the other roles are left alone."""

    def faults(self) -> Mapping[str, Fault]:
        return dict.fromkeys(ROLES, Fault((0.0, 0.0), self._crash))

    async def _crash(self, scene: Scene) -> str:
        for pid in scene.house.workers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return "killed all"


@pytest.mark.timeout(400)
async def test_processes_that_crash_instead_are_noticed_by_who_forgives_nothing() -> None:
    """The control: the people who repeat get over it, which is right of them and proves little."""
    run = await roll(plan_of(7.0, 5.0, seed=2), restarts=Crashes())
    assert run.strict.failures != []
    assert run.failed == {}


def test_a_request_is_failed_unless_it_was_served_or_said_when_to_come_again() -> None:
    by_status = {
        "hold": {"201": 5, "409 seat_taken": 3, "409 request_in_progress": 1, "no answer": 2},
        "release": {"204": 2, "404 hold_not_found": 1},
        "order": {"503 overloaded": 4, "500": 1, "409 hold_lost": 2, "404 hold_not_found": 1},
        "map": {"200": 9, "429 rate_limited": 1, "401 unauthorized": 1},
    }
    assert failed_requests(by_status, {"order: 503 overloaded, again and again": 1}) == {
        "order: 503 overloaded, again and again": 1,
        "order: 500": 1,
        "order: 409 hold_lost": 2,
        "order: 404 hold_not_found": 1,
        "map: 401 unauthorized": 1,
    }


def test_every_role_has_its_turn_at_every_interval() -> None:
    plan = plan_of(600.0, 5.0, seed=1)
    assert len(plan.strikes) == 120
    assert [strike.kind for strike in plan.strikes[:5]] == [*ROLES, ROLES[0]]
    assert [strike.at_s for strike in plan.strikes[:3]] == [5.0, 10.0, 15.0]
