"""One batch of log entries in one transaction, in few statements.

Two ways to write claims, and one meaning. The statement takes columns (`unnest`), skips an order that is
there with everything of it, and so may be repeated: it is the judge. COPY costs us a third of that for
many rows, and PostgreSQL less too, but it knows no "skip". Claims are news except after a crash, so a large
batch is copied straight into the tables; when one of its orders is there already, the transaction is gone
and the statement writes the batch. COPY into a temporary table and INSERT from there was refused: every
row is written twice to be spared a second try that hardly ever comes.

The rest is one statement for all confirmations and one for the positions: a batch costs a fixed number of
round trips and one fsync, however many orders it carries.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from checkout.entries import Claim, Confirm
from checkout.writer.batch import Batch
from kernel.clock import from_ms
from runtime.postgres import Connection, Database, UniqueViolation
from runtime.queries import load_queries

_SQL = load_queries(__file__)

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
_LINES: Final = ("order_id", "seat_index", "label", "area_id", "amount")
_SEATS: Final = ("order_id", "showtime_id", "seat_index", "state")
_ANSWERS: Final = ("account_id", "key", "fingerprint", "status", "body")


class EntryRefused(ValueError):
    """PostgreSQL understands the entry and says no: the reason is a status of the code table."""

    def __init__(self, order_id: str, reason: str) -> None:
        super().__init__(f"{order_id}: {reason}")
        self.order_id = order_id
        self.reason = reason


class WriterStore:
    """The statements of the order writer. `copy_orders_min` is the batch from which COPY is tried."""

    def __init__(self, database: Database, *, copy_orders_min: int = COPY_ORDERS_MIN) -> None:
        self._database = database
        self._copy_orders_min = copy_orders_min

    async def write(self, batch: Batch) -> set[str]:
        """Commit a batch, all of it or nothing; answers its claims that had been refused before.

        Raises EntryRefused, or one of runtime.postgres.DATA_ERRORS, when an entry cannot be written;
        kernel PersistenceUnavailable when PostgreSQL cannot be reached (the outcome is then unknown).
        """
        if len(batch.orders) >= self._copy_orders_min:
            try:
                return await self._write(batch, self._copy_claims)
            except UniqueViolation as error:
                if error.constraint_name not in _ALREADY_THERE:
                    raise
        return await self._write(batch, self._insert_claims)

    async def _write(
        self, batch: Batch, write_claims: Callable[[Connection, Batch], Awaitable[Sequence[Claim]]]
    ) -> set[str]:
        refused: set[str] = set()
        async with self._database.transaction() as connection:
            if batch.orders:
                known = await write_claims(connection, batch)
                if known:
                    refused = await self._check_known(connection, known)
            if batch.confirms:
                await self._write_confirms(connection, batch.confirms)
            await self._move_positions(connection, batch.positions)
        return refused

    async def positions(self) -> dict[int, str]:
        """How far PostgreSQL has each partition's log."""
        rows = await self._database.fetch(_SQL["positions"])
        return {row["partition"]: row["log_id"] for row in rows}

    async def _copy_claims(self, connection: Connection, batch: Batch) -> Sequence[Claim]:
        """Write claims that are all news. Raises UniqueViolation for one that is not."""
        for table, columns, rows in (
            ("orders", _ORDERS, batch.orders),
            ("order_lines", _LINES, batch.lines),
            ("seat_claims", _SEATS, batch.seats),
            ("idempotency_keys", _ANSWERS, batch.answers),
        ):
            await connection.copy_records_to_table(
                table, schema_name="checkout", columns=columns, records=rows
            )
        return batch.repeats

    async def _insert_claims(self, connection: Connection, batch: Batch) -> Sequence[Claim]:
        """Write claims that are news; answers those that are not."""
        rows = await connection.fetch(
            _SQL["write_claims"],
            *_columns(batch.orders, _ORDERS),
            *_columns(batch.lines, _LINES),
            *_columns(batch.seats, _SEATS),
            *_columns(batch.answers, _ANSWERS),
            list(batch.claims),
        )
        if len(rows) == len(batch.claims):
            return batch.repeats
        fresh = {row["order_id"] for row in rows}
        return [claim for claim in batch.claims.values() if claim.order_id not in fresh] + batch.repeats

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

    async def _write_confirms(self, connection: Connection, order_ids: Sequence[str]) -> None:
        rows = await connection.fetch(_SQL["confirm_orders"], order_ids)
        left = set(order_ids).difference(row["order_id"] for row in rows)
        if left:
            await self._check_unconfirmed(connection, left)

    async def _check_unconfirmed(self, connection: Connection, order_ids: set[str]) -> None:
        """A confirmation that moved nothing is a repeat, or it should never have been written."""
        rows = await connection.fetch(_SQL["order_states"], sorted(order_ids))
        states = {row["order_id"]: row["state"] for row in rows}
        for order_id in sorted(order_ids):
            if states.get(order_id) not in {"confirmed", "refunded", "cancelled"}:
                raise EntryRefused(order_id, "invalid_state")

    async def refuse(
        self,
        message: Claim | Confirm | None,
        reason: str,
        positions: Mapping[int, str],
        aside: tuple[int, str, str, bytes],
    ) -> None:
        """Put one entry aside with its reason (`message` is None when it cannot be read).

        A refused claim ends as a cancelled order; a refused sale leaves its order to be cancelled and
        refunded. `aside` is partition, log id, kind and the entry's bytes.
        """
        async with self._database.transaction() as connection:
            await connection.execute(_SQL["put_aside"], *aside, reason)
            if isinstance(message, Claim):
                await self._refuse_claim(connection, message, reason)
            elif message is not None:
                await connection.execute(_SQL["mark_unfulfillable"], message.order_id, reason)
            await self._move_positions(connection, positions)

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

    async def _move_positions(self, connection: Connection, positions: Mapping[int, str]) -> None:
        if positions:
            await connection.execute(_SQL["move_positions"], list(positions), list(positions.values()))


def _columns(rows: Sequence[tuple[object, ...]], names: Sequence[str]) -> list[Sequence[object]]:
    """Rows turned into one array a column."""
    return list(zip(*rows, strict=True)) if rows else [() for _ in names]
