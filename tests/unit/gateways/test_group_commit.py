"""Goal: what the group commit answers is durable, and one bad request never harms its neighbours.

Method: a table of one column, functions that write, refuse and break, and a commit made to fail.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from entrypoints.sandbox_gateway.group_commit import GroupCommit, open_books
from entrypoints.sandbox_gateway.problems import BooksUnavailable, SessionExpired


@asynccontextmanager
async def books_at(path: Path) -> AsyncIterator[tuple[sqlite3.Connection, GroupCommit]]:
    connection = open_books(path)
    commit = GroupCommit(connection)
    try:
        yield connection, commit
    finally:
        await commit.close()


def turn(books: sqlite3.Connection, name: str) -> Callable[[], str]:
    def work() -> str:
        books.execute("INSERT INTO settings VALUES (?, 'x')", (name,))
        return name

    return work


def names(path: Path) -> set[str]:
    with sqlite3.connect(path) as books:
        found = {name for (name,) in books.execute("SELECT name FROM settings")}
    books.close()
    return found


async def test_many_writes_share_a_commit_and_all_are_there_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite"
    commits = 0

    def counted(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    async with books_at(path) as (books, commit):
        books.set_trace_callback(counted)
        answers = await asyncio.gather(*(commit.run(turn(books, f"n{i}")) for i in range(500)))
    assert answers == [f"n{i}" for i in range(500)]
    assert names(path) == set(answers)
    assert commits <= 5


async def test_a_function_that_refuses_or_breaks_leaves_no_trace_and_harms_nobody(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite"

    async with books_at(path) as (books, commit):

        def refuses() -> None:
            books.execute("INSERT INTO settings VALUES ('refused', 'x')")
            raise SessionExpired

        def breaks() -> None:
            books.execute("INSERT INTO settings VALUES ('broken', ?)", ("\ud800",))

        outcomes = await asyncio.gather(
            commit.run(turn(books, "before")),
            commit.run(refuses),
            commit.run(breaks),
            commit.run(turn(books, "after")),
            return_exceptions=True,
        )
    assert [type(outcome) for outcome in outcomes] == [str, SessionExpired, UnicodeEncodeError, str]
    assert names(path) == {"before", "after"}


async def test_when_the_disk_says_no_nobody_is_told_yes(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite"
    async with books_at(path) as (books, commit):
        await commit.run(turn(books, "first"))
        (pages,) = books.execute("PRAGMA page_count").fetchone()
        books.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(BooksUnavailable):
            await commit.run(
                lambda: books.execute("INSERT INTO settings VALUES ('large', ?)", ("x" * 10**6,))
            )
        books.execute("PRAGMA max_page_count = 1000000")
        await commit.run(turn(books, "second"))
    assert names(path) == {"first", "second"}


async def test_closing_finishes_what_was_handed_over(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite"
    async with books_at(path) as (books, commit):
        waiting = asyncio.gather(*(commit.run(turn(books, f"n{i}")) for i in range(300)))
        await asyncio.sleep(0)
    assert len(await waiting) == 300
    assert len(names(path)) == 300
    with pytest.raises(BooksUnavailable):
        await commit.run(lambda: None)


async def test_two_services_never_share_their_books(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite"
    async with books_at(path):
        with pytest.raises(sqlite3.OperationalError):
            open_books(path)
    async with books_at(path) as (_, commit):
        assert await commit.run(lambda: 1) == 1
