"""An event loop whose time is a number: when nobody has anything to do, it is later.

Callbacks run in the order they were asked for, timers in the order of their instants and, at one instant, of
their setting; asked to wait, the loop does not: it moves the clock to the next timer. So an hour of timeouts
takes no time, and nothing depends on how fast the machine is. There is no input and there are no threads:
work meant for another thread is done at once.

It is a loop of its own and not asyncio's with another selector, because most of what a history costs is the
loop: without selector, debug mode and a comparison in Python for each step of each timer, a turn takes a
quarter of the time. Tasks, futures, timeouts and groups are asyncio's.

Who started a task is remembered, so that a process can die with everything it had begun. Most tasks tell by
their context; one that was started in an empty context belongs to whoever's task started it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heapify, heappop, heappush
from typing import Any, Final, TypeVar

#: Callbacks without any time passing: more than this is somebody turning in circles.
CALLS_MAX: Final = 100_000
#: Timers that were called off are thrown out when there are so many; most fall out by themselves.
_CALLED_OFF_MAX: Final = 200
#: Tasks remembered beyond those that go on.
_TASKS_SPARE: Final = 256

#: The process whose work this is; None is the world outside.
OWNER: ContextVar[Any] = ContextVar("owner", default=None)

T = TypeVar("T")


class Stuck(AssertionError):
    """Nobody will ever do anything again, or somebody never stops doing nothing."""


class Call(list[Any]):
    """Something to be done, now or later: a callback, its arguments, their context, and the loop of a timer.

    A list, because lists are made without a line of Python, and a history makes thousands of these.
    """

    __slots__ = ()

    def cancel(self) -> None:
        """Not any more."""
        if self[0] is not None:
            self[0] = None
            if self[3] is not None:
                self[3].note_called_off()

    def cancelled(self) -> bool:
        return self[0] is None


class VirtualLoop(asyncio.BaseEventLoop):
    """A loop in virtual time; `now_s` begins at nought."""

    def __init__(self) -> None:
        self._is_running = False
        super().__init__()
        self.now_s = 0.0
        self.troubles: list[str] = []
        self._ready: deque[Call] = deque()
        #: When, in which order of setting, and what: a call, or a callback of nobody and its arguments.
        self._timers: list[tuple[float, int, Any, Any]] = []
        self._set = 0
        self._called_off = 0
        self._owners: dict[asyncio.Task[Any], Any] = {}
        self._owners_max = _TASKS_SPARE

    def time(self) -> float:
        return self.now_s

    # What is asked of a loop.

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        call = Call((callback, args, copy_context() if context is None else context, None))
        self._ready.append(call)
        return call

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        call = Call((callback, args, copy_context() if context is None else context, self))
        self._set += 1
        heappush(self._timers, (self.now_s + delay, self._set, call, None))
        return call

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        return self.call_later(when - self.now_s, callback, *args, context=context)

    def set(self, when_s: float, callback: Callable[..., object], *arguments: Any) -> None:
        """A timer that belongs to nobody, is never called off and wants no context of its own."""
        self._set += 1
        heappush(self._timers, (when_s, self._set, callback, arguments))

    def note_called_off(self) -> None:
        """A timer was called off."""
        self._called_off += 1
        if self._called_off > _CALLED_OFF_MAX and 2 * self._called_off > len(self._timers):
            self._timers = [timer for timer in self._timers if timer[3] is not None or timer[2][0]]
            heapify(self._timers)
            self._called_off = 0

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> Any:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name or "task", context=context)
        owner = OWNER.get() if context is None else context.get(OWNER)
        if owner is None and (current := asyncio.current_task(self)) is not None:
            owner = self._owners.get(current)
        if owner is not None:
            self._owners[task] = owner
            if len(self._owners) > self._owners_max:
                self._owners = {one: whose for one, whose in self._owners.items() if not one.done()}
                self._owners_max = 2 * len(self._owners) + _TASKS_SPARE
        return task

    def tasks_of(self, owner: Any) -> list[asyncio.Task[Any]]:
        """What a process has begun and not ended, the oldest first."""
        return [task for task, whose in self._owners.items() if whose is owner and not task.done()]

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> Any:
        """Done at once, on this thread."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._is_running

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Something nobody waited for went wrong."""
        if "never retrieved" in str(context.get("message")):
            return  # told when the memory is tidied, which is no instant of this world
        self.troubles.append(f"{context.get('message')}: {context.get('exception')!r}")

    # Turning.

    def run_until_complete(self, future: Coroutine[Any, Any, T] | Any) -> T:
        """Turn until it is done. Raises Stuck, and whatever it raises."""
        awaited: asyncio.Future[T] = asyncio.ensure_future(future, loop=self)
        asyncio._set_running_loop(self)
        self._is_running = True
        try:
            self._turn_until(awaited)
        finally:
            self._is_running = False
            asyncio._set_running_loop(None)
        return awaited.result()

    def _turn_until(self, awaited: asyncio.Future[Any]) -> None:
        while True:
            try:
                self._turn(awaited.done)
                return
            except Stuck:
                raise
            except Exception as error:
                self.call_exception_handler({"message": "a callback failed", "exception": error})

    def _turn(self, is_done: Callable[[], bool]) -> None:
        """Do what is ready, then what the next timer wants, and so on, until it is done or one fails."""
        ready, calls = self._ready, 0
        while True:
            while ready:
                callback, arguments, context, _ = ready.popleft()
                if callback is not None:
                    calls += 1
                    if calls > CALLS_MAX:
                        raise Stuck("somebody turns in circles")
                    context.run(callback, *arguments)
            if is_done():
                return
            if not self._timers:
                raise Stuck("everybody waits, and nothing is on its way")
            when_s, _, call, arguments = heappop(self._timers)
            if arguments is None and call[0] is None:
                self._called_off -= 1
                continue
            calls += 1
            if when_s > self.now_s:
                self.now_s, calls = when_s, 0
            if arguments is None:
                call[3] = None  # no timer any more
                call[2].run(call[0], *call[1])
            else:
                call(*arguments)
