"""One batch of log entries in one transaction, in one statement.

Nearly every batch is small and all news: claims whose orders nobody has, sales of orders that are paid. It is
one statement that asks for all or nothing (`write_batch`), so the batch is one trip, and its transaction the
statement's own. When something is no news the statement refuses the whole of it, and the judge writes the
batch: the same statement, step by step inside a transaction, and what it passed over is looked at. That is
after a crash, or when an order and its sale come in one batch.

Two ways to write claims, and one meaning. The statement takes columns (`unnest`) and skips an order that is
there with everything of it, so it may be repeated. COPY costs us a third of that for many rows, and
PostgreSQL less too, but it knows no "skip". Claims are news except after a crash, so a large batch is copied
straight into the tables; when one of its orders is there already, the transaction is gone and the judge
writes the batch. COPY into a temporary table and INSERT from there was refused: every row is written twice
to be spared a second try that hardly ever comes.

Either way the transaction looks at the fence of claims (docs/adr/0017), which rises when seat maps are made
anew, and keeps it where it is until it has committed. It costs no trip: the last statement looks, and what it
does not like is the judge's again. A claim of an epoch that is over becomes an order only when the rebuild
waited for it.

A sale of an order that waits for its payment is nothing to refuse a batch for. After a PostgreSQL was set
back it is every sale there was since, so all of a batch are put aside by one statement, and the rest of it
stays.

However many orders a batch carries, it costs a fixed number of round trips and one fsync.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final, NamedTuple, TypeAlias

from checkout.entries import Claim, Confirm
from checkout.store import positions_in
from checkout.writer.batch import Batch
from kernel.clock import from_ms
from kernel.ids import partition_of
from runtime.postgres import Connection, Database, DivisionByZero, Record, UniqueViolation
from runtime.queries import load_queries

_SQL = load_queries(__file__)

#: Claims that are no news, and what the last statement has still to hold against the fence.
Written: TypeAlias = tuple[Sequence[Claim], dict[int, int]]

#: From here on COPY is cheaper than the statement, measured (docs/adr/0009).
COPY_ORDERS_MIN: Final = 100
#: What COPY stumbles over when a claim is no news.
_ALREADY_THERE: Final = frozenset({"orders_pkey", "idempotency_keys_pkey"})

_ORDERS: Final = (
    "order_id",
    "showtime_id",
    "account_id",
    "epoch",
    "state",
    "currency",
    "total",
    "pay_by",
)
_SALES: Final = ("order_id", "partition", "log_id", "data")
_LINES: Final = ("order_id", "seat_index", "label", "area_id", "amount")
_SEATS: Final = ("order_id", "showtime_id", "seat_index", "state")
_ANSWERS: Final = ("account_id", "key", "fingerprint", "status", "body")


class EntryRefused(ValueError):
    """PostgreSQL understands the entry and says no: the reason is a status of the code table."""

    def __init__(self, order_id: str, reason: str) -> None:
        super().__init__(f"{order_id}: {reason}")
        self.order_id = order_id
        self.reason = reason


class Aside(NamedTuple):
    """Orders of a committed batch about which it said something else than was asked."""

    #: Claims that had been refused before.
    refused: AbstractSet[str] = frozenset()
    #: Sales that are put aside: their orders wait for a payment that was made and is lost.
    unpaid: AbstractSet[str] = frozenset()


class ServerChanged(Exception):
    """Another PostgreSQL answers than the one this writer met: it may not have what was acknowledged."""


class WriterStore:
    """The statements of the order writer. `copy_orders_min` is the batch from which COPY is tried."""

    def __init__(self, database: Database, *, copy_orders_min: int = COPY_ORDERS_MIN) -> None:
        self._database = database
        self._copy_orders_min = copy_orders_min
        #: Which PostgreSQL is written to; any, while nobody has asked.
        self._server = ""

    async def meet_server(self) -> None:
        """Write from now on to the PostgreSQL that answers now, and to no other."""
        self._server = str(await self._database.fetchval(_SQL["this_server"]))

    async def write(self, batch: Batch) -> Aside:
        """Commit a batch, all of it or nothing; answers what of it did not become what it said.

        Raises EntryRefused, or one of runtime.postgres.DATA_ERRORS, when an entry cannot be written;
        ServerChanged; kernel PersistenceUnavailable when PostgreSQL cannot be reached (the outcome is then
        unknown).
        """
        if len(batch.orders) < self._copy_orders_min:
            if not batch.repeats and await self._write_at_once(batch):
                return Aside()
        else:
            try:
                return await self._write(batch, self._copy_claims)
            except UniqueViolation as error:
                if error.constraint_name not in _ALREADY_THERE:
                    raise
            except DivisionByZero:
                pass  # the fence, or another server
        return await self._write(batch, self._judge_claims)

    async def _write_at_once(self, batch: Batch) -> bool:
        """Commit a batch that is all news in one trip. False when it is not, and nothing is written."""
        try:
            await self._database.fetchrow(_SQL["write_batch"], *_words(batch, True, self._server))
        except DivisionByZero:
            return False
        return True

    async def _write(
        self, batch: Batch, write_claims: Callable[[Connection, Batch], Awaitable[Written]]
    ) -> Aside:
        """Claims first, then what may depend on them; whatever was no news is looked at."""
        refused: AbstractSet[str] = frozenset()
        unpaid: AbstractSet[str] = frozenset()
        async with self._database.transaction() as connection:
            known, oldest = await write_claims(connection, batch)
            if known:
                refused = await self._check_known(connection, known)
            rest = Batch(confirms=batch.confirms, positions=batch.positions, oldest=oldest)
            done = await self._write_some(connection, rest)
            left = set(batch.confirms).difference(done["confirms"])
            if left:
                unpaid = await self._put_unpaid_aside(connection, batch, left)
                await self._check_unconfirmed(connection, left - unpaid)
        return Aside(refused, unpaid)

    async def _write_some(self, connection: Connection, batch: Batch) -> Record:
        """Write what is news of a batch; answers the order ids of the `claims` and `confirms` that were."""
        row = await connection.fetchrow(_SQL["write_batch"], *_words(batch, False, self._server))
        assert row is not None, "one row, whatever was written"
        return row

    async def positions(self) -> dict[int, str]:
        """How far PostgreSQL has each partition's log."""
        return await positions_in(self._database)

    async def _copy_claims(self, connection: Connection, batch: Batch) -> Written:
        """Write claims that are all news; whether they are late is for the last statement to say.

        Raises UniqueViolation for one that is no news.
        """
        for table, columns, rows in (
            ("orders", _ORDERS, batch.orders),
            ("order_lines", _LINES, batch.lines),
            ("seat_claims", _SEATS, batch.seats),
            ("idempotency_keys", _ANSWERS, batch.answers),
        ):
            await connection.copy_records_to_table(
                table, schema_name="checkout", columns=columns, records=rows
            )
        return batch.repeats, batch.oldest

    async def _judge_claims(self, connection: Connection, batch: Batch) -> Written:
        """Write claims that are news and not late; answers those that are no news. Raises EntryRefused."""
        await self._refuse_late(connection, batch, await self._lock_fence(connection))
        if not batch.orders:
            return [], {}
        done = await self._write_some(connection, replace(batch, confirms=[], positions={}, oldest={}))
        fresh = set(done["claims"])
        return [claim for claim in batch.claims.values() if claim.order_id not in fresh] + batch.repeats, {}

    async def _lock_fence(self, connection: Connection) -> Sequence[int]:
        """The epoch a claim must have, by partition, until the transaction ends. Raises ServerChanged."""
        row = await connection.fetchrow(_SQL["lock_fence"])
        assert row is not None, "the fence is one row from its migration on"
        if self._server not in {"", row["server"]}:
            raise ServerChanged(f"{row['server']} answers, and {self._server} is written to")
        fence: Sequence[int] = row["epochs"]
        return fence

    async def _refuse_late(self, connection: Connection, batch: Batch, fence: Sequence[int]) -> None:
        """No claim from behind the fence that is news, unless a rebuild counted it as an owner."""
        late = [
            (claim.order_id, least)
            for claim in batch.claims.values()
            if claim.epoch < (least := fence[partition_of(claim.showtime_id)])
        ]
        if late:
            row = await connection.fetchrow(_SQL["late_claims"], *_columns(late, ("order_id", "fence")))
            if row is not None:
                raise EntryRefused(row["order_id"], "hold_lost")

    async def _check_known(self, connection: Connection, claims: Sequence[Claim]) -> set[str]:
        """Claims whose order is there: repeats, told from a hold key used again after its order ended.

        Answers those that were refused before. Raises EntryRefused.
        """
        rows = await connection.fetch(_SQL["known_claims"], [claim.order_id for claim in claims])
        deadlines = {row["order_id"]: row["pay_by"] for row in rows}
        for claim in claims:
            if deadlines[claim.order_id] != from_ms(claim.pay_by_ms):
                raise EntryRefused(claim.order_id, "hold_key_reused")
        return {row["order_id"] for row in rows if row["state"] == "cancelled"}

    async def _put_unpaid_aside(
        self, connection: Connection, batch: Batch, left: AbstractSet[str]
    ) -> AbstractSet[str]:
        """Of sales that moved nothing those whose orders wait for their payment: all of them at once."""
        sales = [
            (order_id, entry.partition, entry.log_id, entry.data)
            for order_id, entry in zip(batch.confirms, batch.sales, strict=True)
            if order_id in left
        ]
        rows = await connection.fetch(_SQL["put_unpaid_aside"], *_columns(sales, _SALES))
        return {row["order_id"] for row in rows}

    async def _check_unconfirmed(self, connection: Connection, order_ids: AbstractSet[str]) -> None:
        """A sale that moved nothing is a repeat, or its order was paid since, or it should not be on a log.

        Raises EntryRefused.
        """
        if not order_ids:
            return
        rows = await connection.fetch(_SQL["order_states"], sorted(order_ids))
        states = {row["order_id"]: row["state"] for row in rows}
        for order_id in sorted(order_ids):
            if states.get(order_id) not in {"paid", "confirmed", "refunded", "cancelled"}:
                raise EntryRefused(order_id, "invalid_state")
        if paid := [order_id for order_id in sorted(order_ids) if states[order_id] == "paid"]:
            await self._write_some(connection, Batch(confirms=paid))

    async def refuse(
        self,
        message: Claim | Confirm | None,
        reason: str,
        positions: Mapping[int, str],
        aside: tuple[int, str, str, bytes],
    ) -> None:
        """Put one entry aside with its reason (`message` is None when it cannot be read).

        A refused claim ends as a cancelled order; a refused sale leaves its order to be cancelled and
        refunded, unless it was refused because the order was not paid: it may be by now. `aside` is
        partition, log id, kind and the entry's bytes. Raises ServerChanged.
        """
        async with self._database.transaction() as connection:
            await self._lock_fence(connection)
            await connection.execute(_SQL["put_aside"], *aside, reason)
            if isinstance(message, Claim):
                await self._refuse_claim(connection, message, reason)
            elif message is not None:
                await connection.execute(_SQL["mark_unfulfillable"], message.order_id, reason)
            await connection.execute(_SQL["move_positions"], list(positions), list(positions.values()))

    async def _refuse_claim(self, connection: Connection, claim: Claim, reason: str) -> None:
        row = await connection.fetchrow(
            _SQL["refuse_order"],
            claim.order_id,
            claim.showtime_id,
            claim.account_id,
            claim.epoch,
            claim.currency,
            claim.total,
            from_ms(claim.pay_by_ms),
            reason,
        )
        if row is not None:
            lines = [(claim.order_id, *seat) for seat in claim.seats]
            await connection.execute(_SQL["insert_lines"], *_columns(lines, _LINES))
        else:
            await connection.execute(_SQL["give_up_again"], claim.order_id)


def _words(batch: Batch, all_or_nothing: bool, server: str) -> tuple[object, ...]:
    """What `write_batch` is given: a batch as arrays, one a column, and what it is written under."""
    return (
        *_columns(batch.orders, _ORDERS),
        *_columns(batch.lines, _LINES),
        *_columns(batch.seats, _SEATS),
        *_columns(batch.answers, _ANSWERS),
        batch.confirms,
        list(batch.positions),
        list(batch.positions.values()),
        all_or_nothing,
        list(batch.oldest),
        list(batch.oldest.values()),
        server,
    )


def _columns(rows: Sequence[tuple[object, ...]], names: Sequence[str]) -> list[Sequence[object]]:
    """Rows turned into one array a column."""
    return list(zip(*rows, strict=True)) if rows else [() for _ in names]
