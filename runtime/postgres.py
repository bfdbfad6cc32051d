"""PostgreSQL: one small pool per process, deadlines on every call, and honest errors.

Request handlers borrow a connection for one statement or one short transaction and never across a
foreign call. What goes wrong below becomes `PersistenceUnavailable` (503) when it says something about
the server, and stays what it is when it says something about our data: only classes 22 and 23 can be
the fault of an entry (rule F23), everything else is weather.

A statement we no longer wait for is never cancelled: its connection is ended (`_Connection`), and what came
of it is unknown. A cancel request that reaches PostgreSQL while a commit waits for its standby makes it
commit here alone, with a warning, and everybody can see the row; ended by us, the commit goes on waiting,
unseen, and is there when the standby is. Should somebody else have cut such a wait short, its warning is
heard, and what was a success is unknown too (docs/adr/0014).

A transaction whose process says nothing any more (stopped, its host lost) would keep its locks from everybody
else, so PostgreSQL ends it after `transaction_idle_s`. That is said with each BEGIN, for that transaction
alone, and costs no trip: behind a pgbouncer a session's setting is somebody else's at the next transaction.
Whoever has to be silent longer says something now and then (`RebuildLock`).

A unit of work that lost to others (a deadlock, a serialization failure) has changed nothing and is done
again, whole, a few times (`attempt`); a single statement is such a unit by itself.

The pool's reset query is empty: pooled connections keep no session state, and the usual reset costs a
round trip per release. And a connection whose work went well stays in our hands for the next one (`_free`):
giving it to the pool and asking for it again costs as much CPU as a small statement. The pool gets it back
where it is needed: somebody waits for one, something went wrong on it, or a rush is over that took so many.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

import asyncpg
import orjson

from kernel import limits
from kernel.errors import PersistenceUnavailable
from runtime.metrics import Reading, counter

#: Errors of PostgreSQL that are caused by the row, not by the weather.
DATA_ERRORS: Final = (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError)
#: Retryable inside a transaction: nothing was committed and another try may succeed.
CONFLICT_ERRORS: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)

#: What the server or the way to it does.
WEATHER: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that broke in the middle of an answer
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.InternalServerError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.LockNotAvailableError,  # a `lock_timeout` of the role or the database
    asyncpg.StatementCompletionUnknownError,
)

#: How often a unit of work that lost to others is done again, and the longest pause before the first time.
CONFLICT_RETRIES_MAX: Final = 3
_CONFLICT_PAUSE_S: Final = 0.02

#: The function inside PostgreSQL that warns when the wait for a standby was cut short. Its name is told with
#: the warning, whose words depend on the server's language.
_WAITS_FOR_STANDBY: Final = "SyncRepWaitForLSN"
#: How often a busy backend looks whether we are still there, so that a statement nobody waits for any more
#: does not stay in a queue for locks. A commit that waits for its standby does not look.
_LOOKS_FOR_US_EVERY: Final = "SET client_connection_check_interval = '2s'"
#: When a backend that hears nothing (in the middle of a COPY, say) takes our host for lost: after 25 s, where
#: the system's own default is two hours.
_MISSES_OUR_HOST: Final = (
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
)

#: Longer unused, a connection may be dead without anybody having told us (a firewall forgets it).
_IDLE_MAX_S: Final = 60.0

UniqueViolation = asyncpg.UniqueViolationError
DivisionByZero = asyncpg.DivisionByZeroError
Record = asyncpg.Record
Connection = asyncpg.pool.PoolConnectionProxy


T = TypeVar("T")

_log = logging.getLogger(__name__)


class _Connection(asyncpg.Connection):  # type: ignore[misc,type-arg,unused-ignore]
    """A connection whose release costs no round trip, and which cancels nothing."""

    #: Somebody has stopped waiting for a statement: it ends with the connection.
    abandoned = False
    #: A commit was acknowledged that the standby may not have.
    only_here = False

    def get_reset_query(self) -> str:
        return ""

    def _cancel_current_command(self, *waiters: object) -> None:
        """What asyncpg calls at a deadline and when a caller goes away, to ask PostgreSQL to cancel.

        The end comes a moment later: asyncpg has something left to write on the way.
        """
        self.abandoned = True
        asyncio.get_running_loop().call_soon(self.terminate)

    def _process_log_message(self, fields: Mapping[str, str], _: object) -> None:
        """What asyncpg calls for a notice, before it has read the answer that follows it."""
        if fields.get("R") == _WAITS_FOR_STANDBY:
            self.only_here = True
            _log.error("the outcome is unknown: %s (%s)", fields.get("M"), fields.get("D"))


async def _prepare_connection(connection: Any) -> None:
    for setting in (_LOOKS_FOR_US_EVERY, _MISSES_OUR_HOST):
        with suppress(asyncpg.PostgresError):  # not every system can tell whether a client is there
            await connection.execute(setting)
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(
            kind,
            schema="pg_catalog",
            encoder=lambda value: orjson.dumps(value).decode(),
            decoder=orjson.loads,
        )


class Database:
    """A pool that opens when first needed and survives the server being away."""

    def __init__(
        self,
        url: str,
        *,
        pool_max: int = 4,
        statement_cache: int = 256,
        acquire_timeout_s: float = 2.0,
        command_timeout_s: float = 10.0,
        transaction_idle_s: float = limits.transaction_idle_ms_max / 1000,
    ) -> None:
        self._url = url
        self._pool_max = pool_max
        self._statement_cache = statement_cache
        self._acquire_timeout_s = acquire_timeout_s
        self._command_timeout_s = command_timeout_s
        #: How long PostgreSQL hears nothing in the middle of a transaction before it ends it.
        self.transaction_idle_s = transaction_idle_s
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        #: Borrowed from the pool and not in use, the one used last at the end; each with that instant.
        self._free: list[tuple[Connection, float]] = []
        self._waiting = 0
        #: Connections ended with a statement under way; answers that were made unknown by a warning; units of
        #: work that lost to others.
        self.abandoned = self.only_here = self.conflicts = 0

    def readings(self) -> Iterator[Reading]:
        """The source of its numbers."""
        yield counter(
            "database_abandoned", "Connections ended because nobody waited any more", self.abandoned
        )
        yield counter(
            "database_unreplicated_commits",
            "Commits whose wait for the standby was cut short",
            self.only_here,
        )
        yield counter("database_conflicts", "Units of work that lost to others", self.conflicts)

    async def _ready_pool(self) -> asyncpg.Pool:
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    self._pool = await asyncpg.create_pool(
                        self._url,
                        min_size=0,
                        max_size=self._pool_max,
                        timeout=self._acquire_timeout_s,
                        command_timeout=self._command_timeout_s,
                        statement_cache_size=self._statement_cache,
                        max_inactive_connection_lifetime=_IDLE_MAX_S,
                        init=_prepare_connection,
                        connection_class=_Connection,
                        server_settings={"application_name": "seatrush", "timezone": "UTC"},
                    )
        return self._pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Borrow a connection.

        Raises PersistenceUnavailable when the server does not answer in time or the standby may not have what
        was committed (the outcome is then unknown), and when the work lost to others (nothing is changed).
        """
        try:
            pool = await self._ready_pool()
            connection = await self._borrow(pool)
            try:
                yield connection
            except BaseException as error:
                if _end_if_unsure(connection) and isinstance(error, TimeoutError | asyncio.CancelledError):
                    self.abandoned += 1
                await pool.release(connection)
                raise
            if _is_unsure(connection):
                await self._refuse_to_know(pool, connection)
            if self._waiting or pool is not self._pool or not _is_clean(connection):
                await pool.release(connection)
            else:
                self._free.append((connection, time.monotonic()))
                await self._end_unused(pool)
        except WEATHER as error:
            raise PersistenceUnavailable() from error
        except CONFLICT_ERRORS as error:
            self.conflicts += 1
            raise PersistenceUnavailable("Others were in the way; nothing was changed.") from error

    async def _refuse_to_know(self, pool: asyncpg.Pool, connection: Connection) -> None:
        self.only_here += bool(getattr(connection, "only_here", False))
        connection.terminate()
        await pool.release(connection)
        raise PersistenceUnavailable("Whether this is safe in two places is not known yet.")

    async def _borrow(self, pool: asyncpg.Pool) -> Connection:
        while self._free:
            connection, used_at_s = self._free.pop()
            if _is_clean(connection):
                if time.monotonic() - used_at_s < _IDLE_MAX_S:
                    return connection
                connection.terminate()
            await pool.release(connection)
        self._waiting += 1
        try:
            return await pool.acquire(timeout=self._acquire_timeout_s)
        finally:
            self._waiting -= 1

    async def _end_unused(self, pool: asyncpg.Pool) -> None:
        """End what nobody has needed for long; the one used longest ago stands first."""
        while self._free and time.monotonic() - self._free[0][1] >= _IDLE_MAX_S:
            connection, _ = self._free.pop(0)
            if _is_clean(connection):
                connection.terminate()
            await pool.release(connection)

    @asynccontextmanager
    async def transaction(self, *, snapshot: bool = False) -> AsyncIterator[Connection]:
        """Borrow a connection inside one transaction (READ COMMITTED), or on one snapshot that only reads.

        asyncpg's own way of leaving one says ROLLBACK on a connection that has been ended, and what that
        raises would take the place of a cancellation; its way of beginning one has no room for a setting.
        """
        mode = " ISOLATION LEVEL REPEATABLE READ READ ONLY" if snapshot else ""
        idle_ms = round(self.transaction_idle_s * 1000)
        async with self.connection() as connection:
            await connection.execute(
                f"BEGIN{mode}; SET LOCAL idle_in_transaction_session_timeout = {idle_ms}"
            )
            try:
                yield connection
            except BaseException:
                if not _has_ended(connection) and not _is_unsure(connection):
                    with suppress(*WEATHER):  # what cannot be rolled back ends with the connection
                        await connection.execute("ROLLBACK")
                raise
            await connection.execute("COMMIT")

    async def _ask(self, verb: str, *words: Any) -> Any:
        async def once() -> Any:
            async with self.connection() as connection:
                return await getattr(connection, verb)(*words)

        return await attempt(once)

    async def fetch(self, statement: str, *arguments: object) -> list[Record]:
        return list(await self._ask("fetch", statement, *arguments))

    async def fetchrow(self, statement: str, *arguments: object) -> Record | None:
        row: Record | None = await self._ask("fetchrow", statement, *arguments)
        return row

    async def fetchval(self, statement: str, *arguments: object) -> Any:
        return await self._ask("fetchval", statement, *arguments)

    async def execute(self, statement: str, *arguments: object) -> str:
        """Run a statement; the answer is PostgreSQL's command tag (``UPDATE 1``)."""
        return str(await self._ask("execute", statement, *arguments))

    async def executemany(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        await self._ask("executemany", statement, rows)

    async def close(self) -> None:
        """Close every connection, by force after two seconds."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        free, self._free = self._free, []
        try:
            async with asyncio.timeout(2.0):
                for connection, _ in free:
                    await pool.release(connection)
                await pool.close()
        except (TimeoutError, *WEATHER):
            pool.terminate()


async def attempt(work: Callable[[], Awaitable[T]]) -> T:
    """Do a unit of work; again, all of it, when it lost to others, after a pause nobody shares.

    Only what is one transaction, and no more, is such a unit. Raises what `work` raises.
    """
    for tries in range(CONFLICT_RETRIES_MAX):
        try:
            return await work()
        except PersistenceUnavailable as error:
            if not isinstance(error.__cause__, CONFLICT_ERRORS):
                raise
        await asyncio.sleep(random.uniform(0, _CONFLICT_PAUSE_S * 2**tries))  # noqa: S311 (no secret)
    return await work()


def _has_ended(connection: Connection) -> bool:
    """Whether there is nothing more to be said on it."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:  # the pool has taken it back
        return True


def _is_unsure(connection: Connection) -> bool:
    """Whether a statement was given up on it, or was answered with a success that may be none."""
    return getattr(connection, "abandoned", False) or getattr(connection, "only_here", False)


def _end_if_unsure(connection: Connection) -> bool:
    """End a connection nobody may have again; whether it has ended. The pool would wait for its statement."""
    if not _has_ended(connection) and _is_unsure(connection):
        connection.terminate()
    return _has_ended(connection)


def _is_clean(connection: Connection) -> bool:
    """Whether the next one may have it as it is."""
    return not _has_ended(connection) and not connection.is_in_transaction()


def rows_changed(command_tag: str) -> int:
    """The number in ``UPDATE 3`` or ``INSERT 0 3``."""
    return int(command_tag.rpartition(" ")[2])
