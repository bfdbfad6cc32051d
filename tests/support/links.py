"""Nodes that are given back, and somebody who listens to them.

Fixtures: `make_nodes` and `listener`, for the folders whose conftest takes them in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from runtime.redis_link import Nodes

MakeNodes = Callable[..., Nodes]


@pytest_asyncio.fixture(loop_scope="session")
async def make_nodes() -> AsyncIterator[MakeNodes]:
    """`Nodes(…)` that are closed when the test ends."""
    made: list[Nodes] = []

    def make(url: str, **options: Any) -> Nodes:
        made.append(Nodes(url, **options))
        return made[-1]

    yield make
    for nodes in made:
        await nodes.aclose()


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.missed = 0

    def hear(self, said: bytes) -> None:
        self.heard.append(said)

    def miss(self) -> None:
        self.missed += 1


@pytest.fixture
def listener() -> Listener:
    """Nobody has told it anything."""
    return Listener()
