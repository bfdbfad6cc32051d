"""An event loop whose time is a number: when nobody has anything to do, it is later.

asyncio's own loop does all the work; only its selector is replaced. Asked to wait, it does not: it moves
the clock to where the waiting would have ended. So an hour of timeouts takes no time, and nothing depends
on how fast the machine is. There is no input and there are no threads: work meant for another thread is
done at once.

Who started a task is remembered, so that a process can die with everything it had begun. Most tasks tell by
their context; one that was started in an empty context belongs to whoever's task started it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

#: Turns without any time passing: more than this is somebody turning in circles.
TURNS_MAX: Final = 100_000

#: The process whose work this is; None is the world outside.
OWNER: ContextVar[Any] = ContextVar("owner", default=None)


class Stuck(AssertionError):
    """Nobody will ever do anything again, or somebody never stops doing nothing."""


class _Jump:
    """A selector that sees no input and never sleeps."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stuck("everybody waits, and nothing is on its way")
        if timeout > 0:
            self._turns = 0
            self._loop.now_s += timeout
            return []
        self._turns += 1
        if self._turns > TURNS_MAX:
            raise Stuck("somebody turns in circles")
        return []

    def close(self) -> None:
        """Nothing was opened."""


class VirtualLoop(asyncio.BaseEventLoop):
    """A loop in virtual time; `now_s` begins at nought."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._selector = _Jump(self)
        self._owners: dict[asyncio.Task[Any], Any] = {}
        self.troubles: list[str] = []
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._hear_trouble)

    def time(self) -> float:
        return self.now_s

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody has to be woken: there is one thread."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Done at once, on this thread."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    def _make_task(self, loop: Any, coroutine: Any, context: Any = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, context=context)
        owner = OWNER.get() if context is None else context.get(OWNER)
        current = asyncio.current_task(loop)
        if owner is None and current is not None:
            owner = self._owners.get(current)
        if owner is not None:
            self._owners[task] = owner
            owner.tasks[task] = None
            task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._owners.pop(task).tasks.pop(task, None)

    def _hear_trouble(self, loop: Any, context: dict[str, Any]) -> None:
        if "never retrieved" in str(context.get("message")):
            return  # told when the memory is tidied, which is no instant of this world
        error = context.get("exception")
        self.troubles.append(f"{context.get('message')}: {error!r}")
