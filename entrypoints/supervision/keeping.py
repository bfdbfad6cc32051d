"""Starting again what died: at once the first time, then more slowly while it keeps dying young.

An engine is never given up and never waits longer than the two seconds we promise: everything else
waits for it. It comes back at its old address.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from runtime.engines import Engine

Say = Callable[[str], None]

_FIRST_PAUSE_S: Final = 0.25
_GROWN_UP_AFTER_S: Final = 10.0
ENGINE_PAUSE_S_MAX: Final = 1.5
CHILD_PAUSE_S_MAX: Final = 10.0


class Backoff:
    """How long to wait before the next start."""

    def __init__(self, pause_s_max: float) -> None:
        self._pause_s_max = pause_s_max
        self._early_deaths = 0

    def pause_s(self, lived_s: float) -> float:
        """The pause after a life of that length."""
        self._early_deaths = 1 if lived_s >= _GROWN_UP_AFTER_S else self._early_deaths + 1
        if self._early_deaths == 1:
            return 0.0
        return float(min(self._pause_s_max, _FIRST_PAUSE_S * 2 ** (self._early_deaths - 2)))


def again_in(pause_s: float) -> str:
    """When the next start comes, in words."""
    return "starting it again" if pause_s == 0 else f"starting it again in {pause_s:g} s"


async def keep_engine(engine: Engine, *, say: Say, restarted: Callable[[Engine], None]) -> None:
    """Watch a started engine and bring it back whenever it dies, until cancelled."""
    backoff = Backoff(ENGINE_PAUSE_S_MAX)
    started_at = time.monotonic()
    while True:
        how = await engine.ended()
        died_at = time.monotonic()
        pause_s = backoff.pause_s(died_at - started_at)
        say(f"{engine.name} {how}; {again_in(pause_s)}")
        while True:
            await asyncio.sleep(pause_s)
            try:
                await engine.start()
                break
            except Exception as error:  # noqa: BLE001 (whatever it was, the next try may succeed)
                pause_s = backoff.pause_s(0.0)
                say(f"{error}; {again_in(pause_s)}")
        started_at = time.monotonic()
        say(f"{engine.name} runs again after {started_at - died_at:.1f} s")
        restarted(engine)
