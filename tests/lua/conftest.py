"""A server with every script loaded, and a showtime of one's own on it."""

from __future__ import annotations

import pytest

from runtime.redis_link import ScriptRunner
from tests.support.inventories import Stage, runner

__all__ = ["runner", "stage"]


@pytest.fixture
def stage(runner: ScriptRunner) -> Stage:
    return Stage(runner)
