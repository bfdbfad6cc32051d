"""Questions of one kind, asked together: while one statement is on its way, the next one fills up.

A round trip to PostgreSQL costs a worker about as much CPU as everything else a look at an order does, and
costs PostgreSQL a wake-up and, when it writes, a commit. So what many requests want at once travels in one
statement: whoever asks in the same tick, or while the statement before is in flight, is in the next one. No
timer decides: alone, a question leaves in the tick it was asked; in a rush the statements grow by themselves.
One in flight at a time, since two would halve each other.

What a caller may rely on is what it had alone: its question is sent after it asked, so the answer is never
older than that. A statement that fails for the sake of one question is repeated in halves until that one
stands alone, so nobody is refused for a neighbour; the weather, which strikes all of them, is told to all of
them at once. A caller that goes away takes nobody with it, and what was sent for it is still done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Final, Generic, TypeVar

from kernel.errors import PersistenceUnavailable

#: Then the store counts as away: those behind a statement that hangs are not made to wait for long.
DEADLINE_S: Final = 5.0
#: Questions in one statement: some milliseconds of PostgreSQL, so nobody waits long for a turn.
TOGETHER_MAX: Final = 256

Question = TypeVar("Question")
Answered = TypeVar("Answered")


class Gathering(Generic[Question, Answered]):
    """Many callers, few statements. `ask` answers questions in their order, all of them or by raising."""

    def __init__(
        self,
        ask: Callable[[Sequence[Question]], Awaitable[Sequence[Answered]]],
        *,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._ask = ask
        self._deadline_s = deadline_s
        self._waiting: list[tuple[Question, asyncio.Future[Answered]]] = []
        self._turn: asyncio.Task[None] | None = None

    async def __call__(self, question: Question) -> Answered:
        """The answer to one question.

        Raises what `ask` raises for it, and PersistenceUnavailable when it takes too long.
        """
        future: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._turn is None:
            loop = asyncio.get_running_loop()
            # Everybody's: not in the context, and the logs, of whoever happened to be the first.
            self._turn = loop.create_task(self._take_turns(), context=Context())
        return await future

    async def _take_turns(self) -> None:
        asked: list[tuple[Question, asyncio.Future[Answered]]] = []
        try:
            while self._waiting:
                asked, self._waiting = self._waiting[:TOGETHER_MAX], self._waiting[TOGETHER_MAX:]
                await self._answer([one for one in asked if not one[1].done()])
        finally:
            self._turn = None
            for _, future in [*asked, *self._waiting]:  # only when this very task was cancelled
                future.cancel()
            self._waiting = []

    async def _answer(self, asked: list[tuple[Question, asyncio.Future[Answered]]]) -> None:
        if not asked:
            return
        try:
            async with asyncio.timeout(self._deadline_s):
                answers = await self._ask([question for question, _ in asked])
        except (PersistenceUnavailable, TimeoutError) as error:
            for _, future in asked:
                refusal = PersistenceUnavailable()  # one for each: whoever raises it writes on its traceback
                refusal.__cause__ = error
                _refuse(future, refusal)
        except Exception as error:  # noqa: BLE001 (told to the one caller it is about)
            if len(asked) == 1:
                _refuse(asked[0][1], error)
                return
            middle = len(asked) // 2
            await self._answer(asked[:middle])
            await self._answer(asked[middle:])
        else:
            for (_, future), answer in zip(asked, answers, strict=True):
                if not future.done():
                    future.set_result(answer)


def _refuse(future: asyncio.Future[Answered], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
