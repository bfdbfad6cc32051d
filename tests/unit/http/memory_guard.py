"""An idempotency guard that keeps its answers in memory.

The reference for the real ones: what `begin`, `finish` and `abandon` promise can be read here in a
screenful. One process, no lease: a claimed key stays claimed until its request ends.
"""

from __future__ import annotations

from collections.abc import Mapping

from kernel.errors import IdempotencyKeyReused, RequestInProgress
from runtime.http import Replay, Started


class MemoryGuard:
    """Answers by account and key."""

    def __init__(self) -> None:
        self._started: dict[tuple[str, str], Started] = {}
        self._answers: dict[tuple[str, str], Replay] = {}

    async def begin(self, account_id: str, key: str, fingerprint: bytes, operation: str) -> Replay | Started:
        place = (account_id, key)
        earlier = self._started.get(place)
        if earlier is None:
            started = Started(account_id, key, fingerprint, operation)
            self._started[place] = started
            return started
        if earlier.fingerprint != fingerprint:
            raise IdempotencyKeyReused
        if place not in self._answers:
            raise RequestInProgress(retry_after_s=0.2)
        return self._answers[place]

    async def finish(self, started: Started, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._answers[started.account_id, started.key] = Replay(status, headers, body)

    async def abandon(self, started: Started) -> None:
        del self._started[started.account_id, started.key]
