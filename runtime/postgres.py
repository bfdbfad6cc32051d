"""PostgreSQL: one small pool per process, deadlines on every call, and honest errors.

Request handlers borrow a connection for one statement or one short transaction and never across a
foreign call. What goes wrong below becomes `PersistenceUnavailable` (503) when it says something about
the server, and stays what it is when it says something about our data: only classes 22 and 23 can be
the fault of an entry (rule F23), everything else is weather.

The pool's reset query is empty: pooled connections keep no session state, and the usual reset costs a
round trip per release. And a connection whose work went well stays in our hands for the next one (`_free`):
giving it to the pool and asking for it again costs as much CPU as a small statement. The pool gets it back
where it is needed: somebody waits for one, something went wrong on it, or a rush is over that took so many.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import orjson

from kernel.errors import PersistenceUnavailable

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
)

#: Longer unused, a connection may be dead without anybody having told us (a firewall forgets it).
_IDLE_MAX_S: Final = 60.0

UniqueViolation = asyncpg.UniqueViolationError
DivisionByZero = asyncpg.DivisionByZeroError
Record = asyncpg.Record
Connection = asyncpg.pool.PoolConnectionProxy


class _Connection(asyncpg.Connection):  # type: ignore[misc,type-arg,unused-ignore]
    """A connection whose release costs no round trip."""

    def get_reset_query(self) -> str:
        return ""


async def _prepare_connection(connection: Any) -> None:
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
    ) -> None:
        self._url = url
        self._pool_max = pool_max
        self._statement_cache = statement_cache
        self._acquire_timeout_s = acquire_timeout_s
        self._command_timeout_s = command_timeout_s
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        #: Borrowed from the pool and not in use, the one used last at the end; each with that instant.
        self._free: list[tuple[Connection, float]] = []
        self._waiting = 0

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

        Raises PersistenceUnavailable when the server does not answer in time.
        """
        try:
            pool = await self._ready_pool()
            connection = await self._borrow(pool)
            try:
                yield connection
            except BaseException:
                await pool.release(connection)
                raise
            if self._waiting or pool is not self._pool or not _is_clean(connection):
                await pool.release(connection)
            else:
                self._free.append((connection, time.monotonic()))
                await self._end_unused(pool)
        except WEATHER as error:
            raise PersistenceUnavailable() from error

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
    async def transaction(self) -> AsyncIterator[Connection]:
        """Borrow a connection inside one transaction (READ COMMITTED)."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def fetch(self, statement: str, *arguments: object) -> list[Record]:
        async with self.connection() as connection:
            return list(await connection.fetch(statement, *arguments))

    async def fetchrow(self, statement: str, *arguments: object) -> Record | None:
        async with self.connection() as connection:
            row: Record | None = await connection.fetchrow(statement, *arguments)
            return row

    async def fetchval(self, statement: str, *arguments: object) -> Any:
        async with self.connection() as connection:
            return await connection.fetchval(statement, *arguments)

    async def execute(self, statement: str, *arguments: object) -> str:
        """Run a statement; the answer is PostgreSQL's command tag (``UPDATE 1``)."""
        async with self.connection() as connection:
            return str(await connection.execute(statement, *arguments))

    async def executemany(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        async with self.connection() as connection:
            await connection.executemany(statement, rows)

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


def _is_clean(connection: Connection) -> bool:
    """Whether the next one may have it as it is."""
    try:
        return not connection.is_closed() and not connection.is_in_transaction()
    except asyncpg.InterfaceError:  # it broke while nobody used it, and the pool has taken it back
        return False


def rows_changed(command_tag: str) -> int:
    """The number in ``UPDATE 3`` or ``INSERT 0 3``."""
    return int(command_tag.rpartition(" ")[2])
