"""Coroutines that begin at once: what finishes never meets the loop, what waits runs as in any task.

Everything is called from loop callbacks, as a connection is; what a task promises (its identity, timeouts,
context, cancellation, failures) is asked of both halves of a coroutine.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from runtime.http.turns import Turns

NAME: ContextVar[str] = ContextVar("name", default="nobody")


class Connection:
    """Somebody who begins coroutines from callbacks of the loop, and writes down what they gave."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended: list[Any] = []
        self.lost = False
        self.turns: Turns[Any] = Turns(self.loop, done=self._end, lost=self._lose)

    def _end(self, result: Any) -> None:
        self.ended.append(result)

    def _lose(self) -> None:
        self.lost = True

    async def begin(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """What `begin` answered or raised."""
        outcome: asyncio.Future[Any] = self.loop.create_future()

        def callback() -> None:
            try:
                outcome.set_result(self.turns.begin(coroutine))
            except BaseException as error:
                outcome.set_exception(error)

        self.loop.call_soon(callback)
        return await outcome

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0)


@pytest.fixture
async def connection() -> Any:
    connection = Connection()
    await asyncio.sleep(0)
    yield connection
    connection.turns.close()


async def test_what_waits_for_nothing_is_done_at_once(connection: Connection) -> None:
    async def answer() -> str:
        return "map"

    before = len(asyncio.all_tasks())
    assert await connection.begin(answer()) == "map"
    assert connection.turns.is_free
    assert connection.ended == []
    assert len(asyncio.all_tasks()) == before


async def test_what_waits_is_done_later_and_the_next_one_after_it(connection: Connection) -> None:
    for number in range(3):
        reply = connection.loop.create_future()

        async def hold(reply: asyncio.Future[str] = reply) -> str:
            return await reply + await asyncio.sleep(0, "!")

        assert await connection.begin(hold()) is None
        assert not connection.turns.is_free
        reply.set_result(f"held {number}")
        await connection.until(lambda number=number: len(connection.ended) == number + 1)
        await connection.until(lambda: connection.turns.is_free)
    assert connection.ended == ["held 0!", "held 1!", "held 2!"]


async def test_a_reply_that_is_there_before_the_task_looks_is_not_missed(connection: Connection) -> None:
    reply = connection.loop.create_future()

    async def hold() -> str:
        connection.loop.call_soon(reply.set_result, "held")
        return await reply

    assert await connection.begin(hold()) is None
    await connection.until(lambda: connection.ended == ["held"])


async def test_it_is_one_task_and_one_context_all_the_way(connection: Connection) -> None:
    seen = []

    async def hold() -> str:
        NAME.set("req_1")
        seen.append((asyncio.current_task(), NAME.get()))
        await asyncio.sleep(0)
        seen.append((asyncio.current_task(), NAME.get()))
        return "held"

    await connection.begin(hold())
    await connection.until(lambda: connection.ended == ["held"])
    assert seen[0] == seen[1]
    assert seen[0][0] is not None
    assert seen[0][1] == "req_1"
    assert NAME.get() == "nobody"


async def test_a_timeout_set_in_the_first_slice_ends_the_second(connection: Connection) -> None:
    async def order() -> str:
        try:
            async with asyncio.timeout(0.01):
                await connection.loop.create_future()
        except TimeoutError:
            return "too late"
        return "never"

    await connection.begin(order())
    await connection.until(lambda: connection.ended == ["too late"])
    assert connection.turns.is_free


async def test_a_failure_of_what_is_awaited_reaches_the_coroutine(connection: Connection) -> None:
    reply = connection.loop.create_future()

    async def hold() -> str:
        try:
            await reply
        except ConnectionResetError:
            return "unavailable"
        return "never"

    await connection.begin(hold())
    reply.set_exception(ConnectionResetError())
    await connection.until(lambda: connection.ended == ["unavailable"])


async def test_a_failure_in_the_first_slice_is_the_callers(connection: Connection) -> None:
    async def broken() -> str:
        raise LookupError("nobody caught it")

    with pytest.raises(LookupError):
        await connection.begin(broken())
    assert connection.turns.is_free
    assert asyncio.current_task() is not None


async def test_closing_cancels_what_is_running(connection: Connection) -> None:
    cancelled = []

    async def hold() -> str:
        try:
            await connection.loop.create_future()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return "never"

    await connection.begin(hold())
    await asyncio.sleep(0)
    connection.turns.close()
    await connection.until(lambda: connection.lost)
    assert cancelled
    assert connection.ended == []


async def test_closing_cancels_what_is_waited_for(connection: Connection) -> None:
    """As a task does: whoever works only for this one may stop."""
    reply = connection.loop.create_future()

    async def hold() -> str:
        return str(await reply)

    await connection.begin(hold())
    connection.turns.close()
    await connection.until(lambda: connection.lost)
    assert reply.cancelled()


async def test_closing_while_the_reply_is_on_its_way_back_loses_nobody(connection: Connection) -> None:
    """The reply is there or comes, its callback has not run: as in a task, the cancellation goes before."""
    ways = []
    for after_the_close in (False, True):
        other = Connection()
        await asyncio.sleep(0)
        reply = other.loop.create_future()
        ends: list[str] = []

        async def hold(reply: asyncio.Future[str] = reply, ends: list[str] = ends) -> str:
            try:
                ends.append(await reply)
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise
            return "held"

        await other.begin(hold())
        if after_the_close:
            other.turns.close()
            reply.set_result("held")
        else:
            reply.set_result("held")
            other.turns.close()
        await other.until(lambda other=other: other.lost)
        ways.append(ends)
    assert ways == [["cancelled"], ["cancelled"]]


async def test_a_second_slice_that_closes_and_waits_again_is_cancelled_where_it_waits(
    connection: Connection,
) -> None:
    first, second = connection.loop.create_future(), connection.loop.create_future()
    cancelled = []

    async def hold() -> str:
        await first
        connection.turns.close()
        try:
            return str(await second)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    await connection.begin(hold())
    first.set_result("held")
    await connection.until(lambda: connection.lost)
    assert cancelled
    assert second.cancelled()


async def test_what_a_second_slice_raises_is_heard_of_and_the_connection_ends(
    connection: Connection,
) -> None:
    reply, heard = connection.loop.create_future(), []
    connection.loop.set_exception_handler(lambda loop, context: heard.append(context["exception"]))

    async def hold() -> str:
        await reply
        raise ZeroDivisionError

    await connection.begin(hold())
    reply.set_result("held")
    await connection.until(lambda: connection.lost)
    connection.loop.set_exception_handler(None)
    assert [type(error) for error in heard] == [ZeroDivisionError]


async def test_a_closed_connection_is_no_work_for_the_collector(connection: Connection) -> None:
    gc.collect()
    gc.disable()
    try:
        closed = [Connection()]
        await asyncio.sleep(0)
        gone = weakref.ref(closed[0])
        closed[0].turns.close()
        await connection.until(lambda: closed[0].lost)
        closed.clear()
        await asyncio.sleep(0)
        assert gone() is None
    finally:
        gc.enable()


async def test_closing_cancels_what_was_just_handed_to_the_task(connection: Connection) -> None:
    cancelled = []

    async def hold() -> str:
        try:
            await asyncio.sleep(0)  # waits for no reply: the task takes it over
            await connection.loop.create_future()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return "never"

    await connection.begin(hold())
    connection.turns.close()
    await connection.until(lambda: connection.lost)
    assert cancelled


async def test_a_coroutine_may_survive_its_cancellation_and_the_next_one_begins(
    connection: Connection,
) -> None:
    async def stubborn() -> str:
        task = asyncio.current_task()
        assert task is not None
        connection.loop.call_soon(task.cancel)
        try:
            await connection.loop.create_future()
        except asyncio.CancelledError:
            task.uncancel()
        return "still here"

    assert await connection.begin(stubborn()) is None
    await connection.until(lambda: connection.ended == ["still here"])
    await connection.until(lambda: connection.turns.is_free)
    assert await connection.begin(asyncio.sleep(0, "next")) is None
    await connection.until(lambda: connection.ended == ["still here", "next"])


async def test_a_coroutine_that_was_cancelled_from_elsewhere_says_so(connection: Connection) -> None:
    shared = connection.loop.create_future()

    async def read() -> str:
        return str(await shared)

    await connection.begin(read())
    shared.cancel()
    await connection.until(lambda: connection.lost)
    assert not connection.turns.is_free


async def test_without_entering_the_task_a_timeout_has_nothing_to_end() -> None:
    """The control: the same first slice, stepped by hand outside of any task."""

    async def order() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(1)

    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def callback() -> None:
        try:
            order().send(None)
        except RuntimeError as error:
            failed.set_result(str(error))

    asyncio.get_running_loop().call_soon(callback)
    assert "inside a task" in await failed
