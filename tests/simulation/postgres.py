"""PostgreSQL as the domain code knows it: statements by name, transactions, row locks and unique indexes.

Tables are dicts of rows. A transaction writes into an overlay of its own and holds every row it wrote or
locked until it ends; others see the last commit. A statement that meets a row somebody holds waits until he
is done and begins anew, as READ COMMITTED would look at the row again; a circle of waiting is a deadlock
for whoever closes it. A unique index is a row like any other: who takes or gives up an entry of it holds
that entry, so two who want the same wait for each other, and the second is refused.

What the statements mean stands in `statements`, once more and in Python; that they mean the same as the SQL
is shown on a real server (`test_differential.py`). `Database` is what a process holds of it: the interface
of `runtime.postgres.Database`, on a wire that may lose the question, the answer, or the word of a commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, TypeVar

import asyncpg

from kernel import limits, states
from kernel.errors import PersistenceUnavailable
from runtime.postgres import WEATHER
from tests.simulation.world import Lost, Process, Wire, World

Row = dict[str, Any]
Key = tuple[Any, ...]
T = TypeVar("T")

PATIENCE_S: Final = 10.0

KEYS: Final[dict[str, tuple[str, ...]]] = {
    "orders": ("order_id",),
    "order_lines": ("order_id", "seat_index"),
    "seat_claims": ("order_id", "seat_index"),
    "idempotency_keys": ("account_id", "key"),
    "tickets": ("ticket_id",),
    "payments": ("payment_id",),
    "refunds": ("refund_id",),
    "refund_lines": ("refund_id", "ticket_id"),
    "chargebacks": ("gateway", "chargeback_ref"),
    "ledger_entries": ("transaction_id", "line"),
    "gateway_events": ("gateway", "event_id"),
    "dead_letters": ("partition", "log_id"),
    "writer_positions": ("partition",),
    "gateway_positions": ("gateway",),
    "claim_fence": ("one",),
    "awaited_claims": ("order_id", "epoch"),
    "fence_history": ("partition", "epoch"),
    "layouts": ("layout_id",),
    "inventories": ("showtime_id",),
    "epochs": ("partition",),
    "former_servers": ("partition", "server"),
    "locks": ("name",),
}


def _owned_seat(row: Row) -> Key | None:
    return (row["showtime_id"], row["seat_index"]) if row["state"] in {"claimed", "sold"} else None


def _live_ticket(row: Row) -> Key | None:
    return (row["showtime_id"], row["seat_index"]) if row["state"] != "void" else None


def _session(row: Row) -> Key | None:
    return None if row["gateway_ref"] is None else (row["gateway"], row["gateway_ref"])


Index = Callable[[Row], Key | None]

INDEXES: Final[dict[str, dict[str, Index]]] = {
    "seat_claims": {"seat_claims_one_owner": _owned_seat},
    "tickets": {"tickets_one_per_seat": _live_ticket},
    "payments": {"payments_gateway_gateway_ref_key": _session},
    "refunds": {"refunds_one_per_payment": lambda row: (row["payment_id"],)},
}

ARROWS: Final[dict[str, states.Table]] = {
    "orders": states.ORDER,
    "payments": states.PAYMENT,
    "refunds": states.REFUND,
    "chargebacks": states.CHARGEBACK,
    "tickets": states.TICKET,
    "seat_claims": states.CLAIM,
}

#: What is looked up by its order.
OF_ORDERS: Final = ("order_lines", "seat_claims", "tickets", "payments", "refunds")


class Blocked(Exception):
    """Somebody holds what the statement needs."""

    def __init__(self, holder: Transaction) -> None:
        super().__init__()
        self.holder = holder


class Transaction:
    """What a connection has done and not committed."""

    __slots__ = ("began_at", "entries", "held", "is_over", "shared", "waiting", "waits_for", "writes")

    def __init__(self, began_at: datetime) -> None:
        self.began_at = began_at
        self.writes: dict[str, dict[Key, Row | None]] = {}
        self.entries: dict[str, dict[Key, Key | None]] = {}
        self.held: dict[tuple[str, Key], None] = {}
        self.shared: dict[tuple[str, Key], None] = {}
        self.waits_for: Transaction | None = None
        self.is_over = False
        #: Who waits for its end.
        self.waiting: list[asyncio.Future[None]] = []


def _unique_violation(constraint: str) -> asyncpg.UniqueViolationError:
    error = asyncpg.UniqueViolationError(f"duplicate key value violates {constraint}")
    error.constraint_name = constraint
    return error


def _overlaid(committed: Mapping[Key, Row], written: Mapping[Key, Row | None]) -> list[Row]:
    found = [written.get(key, row) for key, row in committed.items()]
    found += [row for key, row in written.items() if key not in committed]
    return [row for row in found if row is not None]


class View:
    """The tables as one statement of a transaction sees and changes them."""

    def __init__(self, server: Postgres, transaction: Transaction) -> None:
        self._server = server
        self._transaction = transaction
        self.now = transaction.began_at

    def clock(self) -> datetime:
        """The time, not that of the transaction's beginning."""
        return self._server.now()

    def get(self, table: str, *key: Any) -> Row | None:
        """A row by its key."""
        written = self._transaction.writes.get(table)
        if written is not None and key in written:
            return written[key]
        return self._server.tables[table].get(key)

    def all(self, table: str) -> Collection[Row]:
        """Every row, the oldest first."""
        written, committed = self._transaction.writes.get(table), self._server.tables[table]
        return _overlaid(committed, written) if written else committed.values()

    def of_order(self, table: str, order_id: str) -> list[Row]:
        """The rows of a table that belong to an order."""
        committed = self._server.of_orders[table].get(order_id, {})
        written = self._transaction.writes.get(table)
        if not written:
            return [*committed.values()]
        mine = {key: row for key, row in written.items() if row is not None and row["order_id"] == order_id}
        return _overlaid(committed, mine)

    def holds(self, table: str, key: Key, *, skip: bool = False) -> bool:
        """Hold a row until the transaction ends. With `skip`, False when somebody else does."""
        holder = self._server.holders.get((table, key))
        sharers = self._server.sharers.get((table, key), {}).values()
        for other in (holder, *sharers):
            if other is not None and other is not self._transaction:
                if skip:
                    return False
                raise Blocked(other)
        self._server.holders[table, key] = self._transaction
        self._transaction.held[table, key] = None
        return True

    def shares(self, table: str, *key: Any) -> Row:
        """A row by its key, kept as it is until the transaction ends (FOR SHARE)."""
        holder = self._server.holders.get((table, key))
        if holder is not None and holder is not self._transaction:
            raise Blocked(holder)
        self._server.sharers.setdefault((table, key), {})[id(self._transaction)] = self._transaction
        self._transaction.shared[table, key] = None
        row = self.get(table, *key)
        assert row is not None
        return row

    def locked(self, table: str, *key: Any, skip: bool = False) -> Row | None:
        """A row by its key, held."""
        row = self.get(table, *key)
        return row if row is not None and self.holds(table, key, skip=skip) else None

    def put(self, table: str, row: Row) -> None:
        """Write a row, new or changed. Raises UniqueViolationError."""
        key = tuple(row[name] for name in KEYS[table])
        self.holds(table, key)
        old = self.get(table, *key)
        self._server.judge_move(table, old, row)
        for name, index in INDEXES.get(table, {}).items():
            if name in self._server.dropped:
                continue
            before, after = index(old) if old else None, index(row)
            if before == after:
                continue
            for entry in (before, after):
                if entry is not None:
                    self.holds(name, entry)
            if before is not None:
                self._transaction.entries.setdefault(name, {})[before] = None
            if after is not None:
                if self._entry(name, after) is not None:
                    raise _unique_violation(name)
                self._transaction.entries.setdefault(name, {})[after] = key
        self._transaction.writes.setdefault(table, {})[key] = row

    def change(self, table: str, row: Row, **changes: Any) -> Row:
        """Write some columns of a row."""
        changed = {**row, **changes}
        self.put(table, changed)
        return changed

    def add(self, table: str, row: Row) -> bool:
        """Insert; False when the key is taken (ON CONFLICT DO NOTHING)."""
        key = tuple(row[name] for name in KEYS[table])
        self.holds(table, key)
        if self.get(table, *key) is not None:
            return False
        self.put(table, row)
        return True

    def drop(self, table: str, row: Row) -> None:
        """Delete a row of a table without unique indexes."""
        key = tuple(row[name] for name in KEYS[table])
        self.holds(table, key)
        self._transaction.writes.setdefault(table, {})[key] = None

    def _entry(self, name: str, entry: Key) -> Key | None:
        written = self._transaction.entries.get(name, {})
        if entry in written:
            return written[entry]
        return self._server.entries[name].get(entry)


Handler = Callable[..., list[Row] | int]


class Postgres:
    """The server. `dropped` are unique indexes it does not have."""

    def __init__(
        self,
        handlers: dict[str, tuple[str, str, Handler]],
        now: Callable[[], datetime],
        wrong: Callable[[str, str], None],
    ) -> None:
        self.handlers = handlers
        self.now = now
        self._wrong = wrong
        self.tables: dict[str, dict[Key, Row]] = {table: {} for table in KEYS}
        self.tables["claim_fence"][(True,)] = {"one": True, "epochs": [0] * 64}
        #: The same rows once more, by their order.
        self.of_orders: dict[str, dict[str, dict[Key, Row]]] = {table: {} for table in OF_ORDERS}
        self.entries: dict[str, dict[Key, Key]] = {
            name: {} for indexes in INDEXES.values() for name in indexes
        }
        self.holders: dict[tuple[str, Key], Transaction] = {}
        self.sharers: dict[tuple[str, Key], dict[int, Transaction]] = {}
        self.open: dict[int, Transaction] = {}
        self.dropped: set[str] = set()
        self.is_away = False

    def begin(self) -> Transaction:
        transaction = Transaction(self.now())
        self.open[id(transaction)] = transaction
        return transaction

    def run(self, transaction: Transaction, handler: Handler, arguments: Sequence[Any]) -> Any:
        """One statement, all of it or nothing; a coroutine when it must wait. Raises what a server would."""
        try:
            return self._try(transaction, handler, arguments)
        except Blocked as blocked:
            return self._wait_and_run(blocked, transaction, handler, arguments)

    async def _wait_and_run(
        self, blocked: Blocked, transaction: Transaction, handler: Handler, arguments: Sequence[Any]
    ) -> list[Row] | int:
        while True:
            transaction.waits_for = blocked.holder
            if self._is_circle(transaction):
                transaction.waits_for = None
                raise asyncpg.DeadlockDetectedError("deadlock detected")
            ended = asyncio.get_running_loop().create_future()
            blocked.holder.waiting.append(ended)
            await ended
            transaction.waits_for = None
            try:
                return self._try(transaction, handler, arguments)
            except Blocked as again:
                blocked = again

    def _try(self, transaction: Transaction, handler: Handler, arguments: Sequence[Any]) -> list[Row] | int:
        if transaction.is_over:
            raise Lost("the connection is gone")
        view = View(self, transaction)
        if not transaction.writes:  # nothing to come back to
            try:
                return handler(view, *arguments)
            except BaseException:
                transaction.writes, transaction.entries = {}, {}
                raise
        writes = {table: dict(rows) for table, rows in transaction.writes.items()}
        entries = {name: dict(rows) for name, rows in transaction.entries.items()}
        try:
            return handler(view, *arguments)
        except BaseException:
            transaction.writes, transaction.entries = writes, entries
            raise

    def run_alone(self, handler: Handler, arguments: Sequence[Any]) -> Any:
        """One statement that is its own transaction."""
        transaction = self.begin()
        try:
            answer = self._try(transaction, handler, arguments)
            self.commit(transaction)
            return answer
        except Blocked as blocked:
            return self._wait_and_commit(blocked, transaction, handler, arguments)
        except BaseException:
            self.roll_back(transaction)
            raise

    async def _wait_and_commit(
        self, blocked: Blocked, transaction: Transaction, handler: Handler, arguments: Sequence[Any]
    ) -> list[Row] | int:
        try:
            answer = await self._wait_and_run(blocked, transaction, handler, arguments)
            self.commit(transaction)
            return answer
        finally:
            self.roll_back(transaction)

    def _is_circle(self, transaction: Transaction) -> bool:
        at = transaction.waits_for
        while at is not None and at is not transaction:
            at = at.waits_for
        return at is transaction

    def commit(self, transaction: Transaction) -> None:
        """Everything of it, at one instant."""
        if transaction.is_over:
            raise Lost("the connection is gone")
        for table, rows in transaction.writes.items():
            kept, of_orders = self.tables[table], self.of_orders.get(table)
            for key, row in rows.items():
                if row is None:
                    kept.pop(key, None)
                    continue
                kept[key] = row
                if of_orders is not None:
                    of_orders.setdefault(row["order_id"], {})[key] = row
        for name, entries in transaction.entries.items():
            for entry, key in entries.items():
                if key is None:
                    self.entries[name].pop(entry, None)
                else:
                    self.entries[name][entry] = key
        if transaction.writes:
            self._judge_owners(transaction)
        self._end(transaction)

    def _judge_owners(self, transaction: Transaction) -> None:
        """I1, whatever the indexes say: at no instant has a seat two owners or two tickets."""
        for table, index in (("seat_claims", _owned_seat), ("tickets", _live_ticket)):
            if table in transaction.writes:
                seats = [seat for row in self.tables[table].values() if (seat := index(row)) is not None]
                if len(seats) > len(set(seats)):
                    for seat in sorted({seat for seat in seats if seats.count(seat) > 1}):
                        self._wrong("I1", f"{table}: {seat} is there twice")

    def roll_back(self, transaction: Transaction) -> None:
        """As if it had never been."""
        if not transaction.is_over:
            self._end(transaction)

    def _end(self, transaction: Transaction) -> None:
        transaction.is_over = True
        del self.open[id(transaction)]
        for held in transaction.held:
            if self.holders.get(held) is transaction:
                del self.holders[held]
        for shared in transaction.shared:
            del self.sharers[shared][id(transaction)]
        for ended in transaction.waiting:
            if not ended.done():
                ended.set_result(None)

    def crash(self) -> None:
        """Every connection ends; what was committed stays."""
        for transaction in list(self.open.values()):
            self.roll_back(transaction)

    def judge_move(self, table: str, old: Row | None, new: Row) -> None:
        """I14: states only move along their arrows."""
        arrows = ARROWS.get(table)
        if arrows is None or old is None or old["state"] == new["state"]:
            return
        if not states.may_move(arrows, old["state"], new["state"]):
            self._wrong("I14", f"{table} {old['state']} -> {new['state']}: {new}")


class Connection:
    """One connection of a process, inside a transaction or with each statement its own."""

    def __init__(self, world: World, wire: Wire, server: Postgres, transaction: Transaction | None) -> None:
        self._world = world
        self._wire = wire
        self._server = server
        self._transaction = transaction
        self._is_ended = False
        self.phase = "read"

    async def _run(self, statement: str, arguments: Sequence[Any]) -> list[Row] | int:
        if self._is_ended:
            raise Lost("the connection is gone")
        phase, name, handler = self._server.handlers[statement]
        self.phase = phase if self.phase == "read" else self.phase
        transaction, server = self._transaction, self._server

        def work() -> Any:
            if transaction is None:
                return server.run_alone(handler, arguments)
            return server.run(transaction, handler, arguments)

        answer: list[Row] | int = await self._wire.ask(phase, f"sql {name}", work, PATIENCE_S)
        return answer

    async def fetch(self, statement: str, *arguments: Any) -> list[Row]:
        rows = await self._run(statement, arguments)
        assert isinstance(rows, list), statement
        return rows

    async def fetchrow(self, statement: str, *arguments: Any) -> Row | None:
        return next(iter(await self.fetch(statement, *arguments)), None)

    async def fetchval(self, statement: str, *arguments: Any) -> Any:
        row = await self.fetchrow(statement, *arguments)
        return None if row is None else next(iter(row.values()))

    async def execute(self, statement: str, *arguments: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 (asyncpg's name)
        changed = await self._run(statement, arguments)
        return f"DONE {len(changed) if isinstance(changed, list) else changed}"

    async def copy_records_to_table(
        self, table: str, *, schema_name: str, columns: Sequence[str], records: Sequence[Sequence[Any]]
    ) -> None:
        phase, _, handler = self._server.handlers[f"COPY {schema_name}.{table}"]
        transaction = self._transaction
        assert transaction is not None
        rows = [dict(zip(columns, record, strict=True)) for record in records]

        await self._wire.ask(
            phase, f"sql copy {table}", lambda: self._server.run(transaction, handler, (rows,)), PATIENCE_S
        )

    def terminate(self) -> None:
        """Nothing more is said on it; the server notices a little later."""
        self._is_ended = True
        if self._transaction is not None:
            self._world.later(self._world.latency_s(), self._server.roll_back, self._transaction)

    async def commit(self) -> None:
        """Raises Lost when nobody knows whether it was."""
        transaction = self._transaction
        assert transaction is not None
        if self._is_ended:
            raise Lost("the connection is gone")

        await self._wire.ask(self.phase, "sql COMMIT", lambda: self._server.commit(transaction), PATIENCE_S)


class Database:
    """What a process holds of PostgreSQL; every connection is a wire of its own."""

    transaction_idle_s = limits.transaction_idle_ms_max / 1000

    def __init__(self, process: Process, server: Postgres) -> None:
        self._process = process
        self._server = server
        self._open: dict[int, Transaction] = {}
        process.last_will.append(self._break)

    def _break(self) -> None:
        """The server notices a little later that nobody is there any more."""
        world = self._process.world
        for transaction in self._open.values():
            world.later(world.latency_s(), self._server.roll_back, transaction)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        wire = Wire(self._process, self._server)
        try:
            yield Connection(self._process.world, wire, self._server, None)
        except WEATHER as error:
            raise PersistenceUnavailable() from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        world, server = self._process.world, self._server
        wire = Wire(self._process, server)
        if not self._process.alive:
            raise asyncio.CancelledError
        if server.is_away:
            await asyncio.sleep(world.latency_s())
            raise PersistenceUnavailable()
        transaction = server.begin()
        self._open[id(transaction)] = transaction
        connection = Connection(world, wire, server, transaction)
        try:
            yield connection
            await connection.commit()
        except Lost as error:
            # The server rolls back when it notices; a commit that did arrive stands all the same.
            world.later(world.dice.uniform(0, 1.0), server.roll_back, transaction)
            raise PersistenceUnavailable() from error
        except WEATHER as error:
            server.roll_back(transaction)
            raise PersistenceUnavailable() from error
        except BaseException:
            if self._process.alive:
                server.roll_back(transaction)
            raise
        finally:
            self._open.pop(id(transaction), None)

    async def _alone(self, verb: Callable[..., Awaitable[T]], statement: str, arguments: Sequence[Any]) -> T:
        """One statement on a connection of its own; as `connection`, and quicker, since most are such."""
        connection = Connection(self._process.world, Wire(self._process, self._server), self._server, None)
        try:
            return await verb(connection, statement, *arguments)
        except WEATHER as error:
            raise PersistenceUnavailable() from error

    async def fetch(self, statement: str, *arguments: Any) -> list[Row]:
        return await self._alone(Connection.fetch, statement, arguments)

    async def fetchrow(self, statement: str, *arguments: Any) -> Row | None:
        return await self._alone(Connection.fetchrow, statement, arguments)

    async def fetchval(self, statement: str, *arguments: Any) -> Any:
        return await self._alone(Connection.fetchval, statement, arguments)

    async def execute(self, statement: str, *arguments: Any) -> str:
        return await self._alone(Connection.execute, statement, arguments)
