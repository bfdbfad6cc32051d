"""Every adapter of the seat inventory, with a showtime of its own for each test."""

from __future__ import annotations

import pytest

from reservation.inventory_memory import MemoryInventory
from reservation.inventory_redis import RedisInventory
from reservation.ports import SeatInventory
from tests.contract.candidate import Candidate
from tests.support.inventories import NOW_MS, runner

__all__ = ["candidate", "inventory", "runner"]


@pytest.fixture(params=["redis", "memory"])
def inventory(request: pytest.FixtureRequest) -> SeatInventory:
    if request.param == "memory":
        return MemoryInventory(clock_ms=lambda: NOW_MS)
    return RedisInventory(request.getfixturevalue("runner"))


@pytest.fixture
def candidate(inventory: SeatInventory) -> Candidate:
    return Candidate(inventory)
