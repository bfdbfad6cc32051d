"""Goal: many callers, few statements, and none of them notices the others.

Method: a `Gathering` over a statement that notes what it was asked and answers when told to, so what
travels together is counted, not timed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from kernel.errors import PersistenceUnavailable
from runtime.gathering import TOGETHER_MAX, Gathering


class Statement:
    """Doubles numbers. What it was asked is in `asked`; it answers while `open` is set."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.bad: set[int] = set()
        self.away = False

    async def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.asked.append(list(numbers))
        await self.open.wait()
        if self.away:
            raise PersistenceUnavailable
        if self.bad.intersection(numbers):
            raise ValueError(f"one of {numbers}")
        return [2 * number for number in numbers]


@pytest.fixture
def statement() -> Statement:
    return Statement()


@pytest.fixture
def double(statement: Statement) -> Gathering[int, int]:
    return Gathering(statement)


async def ticks(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_all_who_ask_in_one_tick_share_a_statement(
    statement: Statement, double: Gathering[int, int]
) -> None:
    assert await asyncio.gather(*map(double, range(100))) == [2 * number for number in range(100)]
    assert statement.asked == [list(range(100))]


async def test_alone_a_question_is_asked_at_once(statement: Statement, double: Gathering[int, int]) -> None:
    for number in range(3):
        assert await double(number) == 2 * number
    assert statement.asked == [[0], [1], [2]]


async def test_who_asks_while_a_statement_is_under_way_is_in_the_next_one(
    statement: Statement, double: Gathering[int, int]
) -> None:
    """So no answer is older than its question."""
    statement.open.clear()
    first = asyncio.create_task(double(1))
    await ticks()
    later = []
    for number in (2, 3, 4):
        later.append(asyncio.create_task(double(number)))
        await ticks()
    assert statement.asked == [[1]]
    statement.open.set()
    assert await asyncio.gather(first, *later) == [2, 4, 6, 8]
    assert statement.asked == [[1], [2, 3, 4]]


async def test_a_statement_has_an_end(statement: Statement, double: Gathering[int, int]) -> None:
    await asyncio.gather(*map(double, range(2 * TOGETHER_MAX + 1)))
    assert [len(numbers) for numbers in statement.asked] == [TOGETHER_MAX, TOGETHER_MAX, 1]


async def test_a_bad_question_spoils_nobody_elses(statement: Statement, double: Gathering[int, int]) -> None:
    statement.bad = {3, 11}
    answers = await asyncio.gather(*map(double, range(16)), return_exceptions=True)
    for number, answer in enumerate(answers):
        if number in statement.bad:
            assert isinstance(answer, ValueError)
        else:
            assert answer == 2 * number
    assert [numbers for numbers in statement.asked if len(numbers) == 1 and numbers[0] in statement.bad]


async def test_the_weather_is_told_to_all_at_once(statement: Statement, double: Gathering[int, int]) -> None:
    """Asking again in halves would make everybody wait for one deadline after the other."""
    statement.away = True
    answers = await asyncio.gather(*map(double, range(16)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {PersistenceUnavailable}
    assert len({id(answer) for answer in answers}) == 16  # each has a traceback of its own
    assert len(statement.asked) == 1
    statement.away = False
    assert await double(1) == 2


async def test_a_statement_that_hangs_is_given_up_and_the_next_one_is_asked(statement: Statement) -> None:
    double = Gathering(statement, deadline_s=0.02)
    statement.open.clear()
    hanging = [asyncio.create_task(double(number)) for number in (1, 2)]
    await ticks()
    waiting = asyncio.create_task(double(3))
    for task in hanging:
        with pytest.raises(PersistenceUnavailable):
            await task
    statement.open.set()
    assert await waiting == 6


async def test_a_caller_that_goes_away_takes_nobody_with_it(
    statement: Statement, double: Gathering[int, int]
) -> None:
    statement.open.clear()
    first, second = asyncio.create_task(double(1)), asyncio.create_task(double(2))
    await ticks()
    waiting, leaving = asyncio.create_task(double(3)), asyncio.create_task(double(4))
    await ticks()
    first.cancel()
    leaving.cancel()
    await ticks()
    statement.open.set()
    assert (await second, await waiting) == (4, 6)
    assert statement.asked == [[1, 2], [3]]  # what was not sent yet is not sent
    for task in (first, leaving):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_when_the_process_stops_nobody_is_left_waiting(
    statement: Statement, double: Gathering[int, int]
) -> None:
    statement.open.clear()
    asking = [asyncio.create_task(double(1))]
    await ticks()
    asking.append(asyncio.create_task(double(2)))
    await ticks()
    (turn,) = [task for task in asyncio.all_tasks() if "_take_turns" in repr(task)]
    turn.cancel()
    with suppress(asyncio.CancelledError):
        await turn
    for task in asking:
        with pytest.raises(asyncio.CancelledError):
            await task
    statement.open.set()
    assert await double(3) == 6
