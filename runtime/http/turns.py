"""One coroutine after the other in one task, each begun at once.

Most answers wait for nothing: a seat map that is already rendered, a seat that is already sold, a repeat. Yet
a coroutine is normally given to a new task, which is registered, put at the end of the loop's queue and
woken up again; for a small request that is a fifth of its cost. Here its first slice runs at once, on the
stack of whoever has the request in hand, and what is finished then never meets the loop. What has to wait is
handed, with what it waits for, to a task that lives as long as its connection.

Python 3.12 has eager tasks of its own for the first half of this; 3.11 has `_enter_task` and `_leave_task`,
which asyncio documents for other implementations of tasks. They make the first slice believe it is running
in the task that will run the rest, and that is true enough: `asyncio.timeout`, `current_task` and context
variables see the same task and context all the way.
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

    __slots__ = ("_context", "_done", "_loop", "_parked", "_task")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, done: Callable[[T], None], lost: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._done = done
        self._parked: asyncio.Future[_Rest[T]] | None = None
        self._context = copy_context()
        self._task = loop.create_task(self._run(), context=self._context)
        self._task.add_done_callback(lambda _: lost())

    @property
    def is_free(self) -> bool:
        """Whether the next coroutine may begin."""
        return self._parked is not None

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> T | None:
        """Run the first slice; the result, or None: it goes on and `done` will hear.

        Must be called from the loop itself, not from within a task, and only when `is_free`. Raises what
        the first slice raises.
        """
        parked = self._parked
        assert parked is not None, "one coroutine at a time"
        _enter_task(self._loop, self._task)
        try:
            awaited = self._context.run(coroutine.send, None)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            _leave_task(self._loop, self._task)
        self._parked = None
        parked.set_result(_Rest(coroutine, awaited))
        return None

    def close(self) -> None:
        """End the task, and with it what it may be running."""
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            self._parked = self._loop.create_future()
            rest = await self._parked
            self._done(await rest)


class _Rest(Generic[T]):
    """What is left of a coroutine after its first slice, and what it is waiting for."""

    __slots__ = ("_awaited", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, T], awaited: Any) -> None:
        self._coroutine = coroutine
        self._awaited = awaited

    def __await__(self) -> Generator[Any, None, T]:
        # What `yield from` does, entered in the middle.
        coroutine, awaited = self._coroutine, self._awaited
        while True:
            thrown: BaseException | None = None
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001 (a cancellation, mostly; the coroutine's to handle)
                thrown = error
            try:
                awaited = coroutine.send(None) if thrown is None else coroutine.throw(thrown)
            except StopIteration as end:
                result: T = end.value
                return result
