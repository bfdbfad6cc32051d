"""Coroutines driven by hand: stopped at their n-th suspension, and then what a test wants.

Patching every await of a service would test the patches, and naming points in the product would leave out
those nobody named. A coroutine already tells where it can be interrupted: wherever it hands a future to its
loop. `driven` passes all of that on, counts, and at the n-th waits for a gate instead. Meanwhile the future
goes its own way: what was sent is sent, and its answer may have come when the gate opens.

`Points` is shared by a coroutine and every task it starts, so what a service leaves to a task (a batch of
statements that several callers share) is interrupted there, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


class Points:
    """The suspensions of one piece of work; it stops at the `stop_at`-th, at none for 0."""

    def __init__(self, stop_at: int = 0) -> None:
        self.met = 0
        self.gate = asyncio.Event()
        #: Set when somebody stands at the gate.
        self.stopped = asyncio.Event()
        self._stop_at = stop_at

    def meet(self) -> bool:
        """One more; whether this is where to stop."""
        self.met += 1
        if self.met == self._stop_at:
            self.stopped.set()
        return self.met == self._stop_at


async def driven(work: Coroutine[Any, Any, Any], points: Points) -> Any:
    """The work's result, or what it raises."""
    return await _Steps(work, points)


class _Steps:
    """One coroutine, step by step."""

    def __init__(self, work: Coroutine[Any, Any, Any], points: Points) -> None:
        self._work = work
        self._points = points

    def __await__(self) -> Generator[Any, None, Any]:
        error: BaseException | None = None
        while True:
            try:
                future = self._work.send(None) if error is None else self._work.throw(error)
            except StopIteration as end:
                return end.value
            error = None
            try:
                if self._points.meet():
                    try:
                        yield from self._points.gate.wait().__await__()
                    except asyncio.CancelledError:
                        if future is not None:
                            future.cancel()  # as the task would have done, had it waited for it
                        raise
                if future is None or not future.done():
                    yield future
            except GeneratorExit:
                self._work.close()
                raise
            except BaseException as thrown:  # what the future came to, or a cancellation
                error = thrown
