"""One coroutine after the other in one task, each begun at once.

Most answers wait for nothing: a seat map that is already rendered, a seat that is already sold, a repeat. Yet
a coroutine is normally given to a new task, which is registered, put at the end of the loop's queue and
woken up again; for a small request that is a fifth of its cost. Here its first slice runs at once, on the
stack of whoever has the request in hand, and what is finished then never meets the loop. Nearly all others
wait once, for one reply, so the second slice runs in that reply's own callback. What waits again is handed,
with what it waits for, to a task that lives as long as its connection.

Python 3.12 has eager tasks of its own for the first third of this; 3.11 has `_enter_task` and `_leave_task`,
which asyncio documents for other implementations of tasks. They make a slice believe it is running in the
task that will run the rest, and that is true enough: `asyncio.timeout`, `current_task` and context variables
see the same task and context all the way. And who cancels the task, a timeout or the end of the connection,
reaches what waits in its name: the task wakes up, takes the coroutine over and cancels what it waits for.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Runs coroutines that end with a `T`.

    `done` hears the results of those that had to wait; `lost` that there will be none any more, because
    one was cancelled. Make it inside the loop; it is ready one turn of the loop later. Needs `close`.
    """

    __slots__ = ("_context", "_done", "_loop", "_parked", "_task", "_waiting", "is_free")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, done: Callable[[T], None], lost: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._done = done
        #: Whether the next coroutine may begin.
        self.is_free = False
        #: What waits outside of the task, for its first reply.
        self._waiting: _Rest[T] | None = None
        self._parked: asyncio.Future[_Rest[T]] = loop.create_future()
        self._context = copy_context()
        #: None when it has ended.
        self._task: asyncio.Task[None] | None = loop.create_task(self._run(), context=self._context)
        self._task.add_done_callback(lambda _: self._end(lost))

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> T | None:
        """Run the first slice; the result, or None: it goes on and `done` will hear.

        Must be called from the loop itself, not from within a task, and only when `is_free`. Raises what
        the first slice raises.
        """
        task = self._task
        assert self.is_free, "one coroutine at a time"
        assert task is not None, "not after its end"
        _enter_task(self._loop, task)
        try:
            awaited = self._context.run(coroutine.send, None)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            _leave_task(self._loop, task)
        self.is_free = False
        if getattr(awaited, "_asyncio_future_blocking", False):
            awaited._asyncio_future_blocking = False
            self._waiting = _Rest(coroutine, awaited)
            awaited.add_done_callback(self._go_on, context=self._context)
        else:
            self._hand_over(_Rest(coroutine, awaited))
        return None

    def _go_on(self, reply: asyncio.Future[Any]) -> None:
        """Run the second slice: what was waited for is there."""
        rest = self._waiting
        if rest is None or rest.awaited is not reply or self._parked.done():
            return  # the task has taken it over, or is about to: it was cancelled a moment ago
        self._waiting = None
        task = self._task
        assert task is not None, "it takes over what waits before it ends"
        _enter_task(self._loop, task)
        try:
            rest.awaited = rest.coroutine.send(None)
        except StopIteration as end:
            self.is_free = True
            self._done(end.value)
        except asyncio.CancelledError:
            self.close()
        except BaseException:
            self.close()  # whoever waits for a result hears that there is none
            raise
        else:
            self._hand_over(rest)
        finally:
            _leave_task(self._loop, task)

    def _hand_over(self, rest: _Rest[T]) -> None:
        """Give the task what waits again, or let it be found by one that was cancelled a moment ago."""
        if self._parked.done():
            self._waiting = rest
        else:
            self._parked.set_result(rest)

    def close(self) -> None:
        """End the task, and with it what it may be running."""
        if self._task is not None:
            self._task.cancel()

    def _end(self, lost: Callable[[], None]) -> None:
        # No circles for the collector, one a connection: whose `done` it is has us, and the task has the
        # error it ended with, which has the frame it came through, which has us.
        self._done, self._task, self.is_free = _unheard, None, False
        lost()

    async def _run(self) -> None:
        self.is_free = True
        while True:
            try:
                rest = await self._parked
            except asyncio.CancelledError:
                handed_over = self._parked.done() and not self._parked.cancelled()
                taken_over = self._parked.result() if handed_over else self._waiting
                if taken_over is None:
                    raise
                rest, self._waiting = taken_over, None
                rest.cancel()
            result = await rest
            self._parked = self._loop.create_future()
            self.is_free = True
            self._done(result)


def _unheard(result: object) -> None:
    """Nobody listens any more."""


class _Rest(Generic[T]):
    """What is left of a coroutine after its first slices, and what it is waiting for."""

    __slots__ = ("_thrown", "awaited", "coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, T], awaited: Any) -> None:
        self.coroutine = coroutine
        self.awaited = awaited
        self._thrown: BaseException | None = None

    def cancel(self) -> None:
        """As a task is cancelled: what it waits for, or where there is nothing left to cancel, itself."""
        if self.awaited is not None and self.awaited.cancel():
            self.awaited._asyncio_future_blocking = True  # it is given to a task once more
        else:
            self._thrown = asyncio.CancelledError()

    def __await__(self) -> Generator[Any, None, T]:
        # What `yield from` does, entered in the middle.
        coroutine, awaited, thrown = self.coroutine, self.awaited, self._thrown
        while True:
            if thrown is None:
                try:
                    yield awaited
                except BaseException as error:  # noqa: BLE001 (a cancellation, mostly; the coroutine's)
                    thrown = error
            try:
                awaited = coroutine.send(None) if thrown is None else coroutine.throw(thrown)
            except StopIteration as end:
                result: T = end.value
                return result
            thrown = None
