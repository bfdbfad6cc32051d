"""Many small writes, one fsync: the group commit under the sandbox's books.

Whoever wants something from the books hands over a function. The functions that gathered while the
last commit was on its way to disk run one after the other in one transaction, on the loop's own
thread, where each takes some ten microseconds. Then one COMMIT, the only part that waits for the disk,
runs in a thread, and only after it are the answers handed out. So nobody ever learns of something that
a crash could still undo, and the busier it is the larger the groups become.

Not taken: running the statements in the thread too. SQLite lets go of the interpreter lock at every
statement and must win it back from a busy loop each time, up to 5 ms a statement.

Each function runs inside a savepoint: one that refuses or breaks leaves no trace, and its neighbours
are not disturbed.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from entrypoints.sandbox_gateway.problems import BooksUnavailable

_log = logging.getLogger(__name__)

_GROUP_MAX: Final = 256  # functions in one transaction: a few milliseconds of the loop
_WAITING_MAX: Final = 20_000  # beyond this the caller is told to come back

_T = TypeVar("_T")
_Work = tuple[Callable[[], Any], "asyncio.Future[Any]"]
_Answer = tuple["asyncio.Future[Any]", Any, Exception | None]


def open_books(path: Path) -> sqlite3.Connection:
    """The books' connection, for this process alone.

    Raises sqlite3.OperationalError when another process has the file open.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    books = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.5)
    try:
        books.execute("PRAGMA locking_mode = EXCLUSIVE")
        books.execute("PRAGMA journal_mode = WAL")
        books.execute("PRAGMA synchronous = FULL")
        books.executescript(Path(__file__).with_name("schema.sql").read_text())
    except BaseException:
        books.close()
        raise
    return books


class GroupCommit:
    """The one way to the books."""

    def __init__(self, books: sqlite3.Connection) -> None:
        self._books = books
        self._waiting: deque[_Work] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="books")
        #: Ends by `close`, or by a mistake of ours, which whoever runs the service must hear of.
        self.task = asyncio.get_running_loop().create_task(self._commit_forever())

    async def run(self, work: Callable[[], _T]) -> _T:
        """What `work` returns, once it is durable.

        Raises BooksUnavailable when it could not be made so, and what `work` raises.
        """
        if self._closing or len(self._waiting) >= _WAITING_MAX:
            raise BooksUnavailable
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        self._wake.set()
        return await future

    async def close(self) -> None:
        """Finish what was handed over, then close the file."""
        self._closing = True
        self._wake.set()
        await self.task
        self._thread.shutdown()
        self._books.close()

    async def _commit_forever(self) -> None:
        while not (self._closing and not self._waiting):
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                size = min(len(self._waiting), _GROUP_MAX)
                await self._commit([self._waiting.popleft() for _ in range(size)])

    async def _commit(self, group: list[_Work]) -> None:
        changes = self._books.total_changes
        try:
            self._books.execute("BEGIN IMMEDIATE")
            answers = [self._try(work, future) for work, future in group]
            if self._books.total_changes == changes:
                self._books.execute("COMMIT")  # only readers in this group: nothing to sync
            else:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._thread, self._books.execute, "COMMIT")
        except sqlite3.Error as error:
            _log.error("the books cannot be written: %s", error)
            if self._books.in_transaction:
                self._books.execute("ROLLBACK")
            answers = [(future, None, BooksUnavailable()) for _, future in group]
        for future, result, refusal in answers:
            if future.done():
                continue
            if refusal is not None:
                future.set_exception(refusal)
            else:
                future.set_result(result)

    def _try(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> _Answer:
        """Run one function; whatever it wrote before it raised is undone."""
        self._books.execute("SAVEPOINT one")
        try:
            result = work()
        except sqlite3.OperationalError:
            raise  # the disk, not the request: nobody in this group can be served
        except Exception as refusal:  # noqa: BLE001 - handed to the one who asked
            self._books.execute("ROLLBACK TO one")
            self._books.execute("RELEASE one")
            return future, None, refusal
        self._books.execute("RELEASE one")
        return future, result, None
