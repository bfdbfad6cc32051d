"""Goal: every answer a header promises is really given, with the payload it promises.

Method: one scenario for each verb and status, played on a real server; the scenarios together must name
exactly the statuses of the headers, so a new status without a scenario fails. Whatever a scenario did,
planes, records, counters and expiries must still agree, and a refusal must have changed nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kernel.codes import CODES
from reservation.packing import pack_numbers, plane_of
from runtime.lua import load_scripts
from runtime.redis_link import ScriptRunner
from tests.support.inventories import EPOCH, NOW_MS, TTL_MS, Stage, numbers_in

Scenario = Callable[[Stage], Awaitable[list[Any]]]
SCENARIOS: dict[tuple[str, str], Scenario] = {}

PAY_BY_MS = NOW_MS + 900_000


def reaches(verb: str, status: str) -> Callable[[Scenario], Scenario]:
    """Marks the scenario that makes a verb answer a status; it returns that answer."""

    def register(scenario: Scenario) -> Scenario:
        assert (verb, status) not in SCENARIOS, f"{verb} {status} has two scenarios"
        SCENARIOS[verb, status] = scenario
        return scenario

    return register


@pytest.mark.parametrize(("verb", "status"), SCENARIOS_LATER := [], ids=[])
def test_placeholder(verb: str, status: str) -> None: ...
