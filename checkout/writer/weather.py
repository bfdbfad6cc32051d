"""Waiting for servers that are away.

Only what a row is to blame for counts as refusal; a server that is away, full, restarting or in a
deadlock is waited for, for as long as it takes, with everything still pending.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from kernel.errors import SeatRushError

_BACKOFF_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)

T = TypeVar("T")

_log = logging.getLogger(__name__)


async def in_any_weather(work: Callable[[], Awaitable[T]]) -> T:
    """Do it, and again after a pause for as long as a server is away."""
    attempt = 0
    while True:
        try:
            return await work()
        except SeatRushError as error:
            pause_s = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
            attempt += 1
            _log.warning("order writer waits %.2f s: %r", pause_s, error)
            await asyncio.sleep(pause_s)
