"""One batch of log entries as set-wise statements in one transaction.

Every statement takes columns (`unnest`), so a batch costs a fixed number of round trips however many
orders it carries, and one fsync. Repeating a batch changes nothing: an order that exists is skipped with
its lines and claims, a confirmation only moves an order that is paid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from checkout.entries import Claim, Confirm
from kernel.clock import from_ms
from runtime.postgres import Connection, Database
from runtime.queries import load_queries

_SQL = load_queries(str(Path(__file__).parent))


class EntryRefused(ValueError):
    """PostgreSQL understands the entry and says no: the reason is a status of the code table."""

    def __init__(self, order_id: str, reason: str) -> None:
        super().__init__(f"{order_id}: {reason}")
        self.order_id = order_id
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Batch:
    """Decoded entries, in the order of their logs, and how far they reach."""

    claims: Sequence[Claim]
    confirms: Sequence[Confirm]
    positions: Mapping[int, str]


class WriterStore:
    """The statements of the order writer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, batch: Batch) -> set[str]:
        """Commit a batch, all of it or nothing; answers its claims that had been refused before.

        Raises EntryRefused, or one of runtime.postgres.DATA_ERRORS, when an entry cannot be written;
        kernel PersistenceUnavailable when PostgreSQL cannot be reached (the outcome is then unknown).
        """
        refused: set[str] = set()
        async with self._database.transaction() as connection:
            if batch.claims:
                refused = await self._write_claims(connection, batch.claims)
            if batch.confirms:
                await self._write_confirms(connection, [confirm.order_id for confirm in batch.confirms])
            await self._move_positions(connection, batch.positions)
        return refused

    async def positions(self) -> dict[int, str]:
        """How far PostgreSQL has each partition's log."""
        rows = await self._database.fetch(_SQL["positions"])
        return {row["partition"]: row["log_id"] for row in rows}

    async def _write_claims(self, connection: Connection, claims: Sequence[Claim]) -> set[str]:
        unique = list({claim.order_id: claim for claim in claims}.values())
        rows = await connection.fetch(
            _SQL["insert_orders"],
            [claim.order_id for claim in unique],
            [claim.showtime_id for claim in unique],
            [claim.account_id for claim in unique],
            [claim.epoch for claim in unique],
            [claim.currency for claim in unique],
            [claim.total for claim in unique],
            [from_ms(claim.pay_by_ms) for claim in unique],
        )
        inserted = {row["order_id"] for row in rows}
        new = [claim for claim in unique if claim.order_id in inserted]
        if new:
            await self._write_new(connection, new)
        known = [claim for claim in unique if claim.order_id not in inserted]
        return await self._check_known(connection, known) if known else set()

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

    async def _states(self, connection: Connection, order_ids: Sequence[str]) -> dict[str, str]:
        rows = await connection.fetch(_SQL["order_states"], list(order_ids))
        return {row["order_id"]: row["state"] for row in rows}

    async def _write_new(self, connection: Connection, new: Sequence[Claim]) -> None:
        await self._write_lines(connection, new)
        await connection.execute(
            _SQL["insert_claims"],
            [claim.order_id for claim in new for _ in claim.seats],
            [claim.showtime_id for claim in new for _ in claim.seats],
            [seat[0] for claim in new for seat in claim.seats],
        )
        await connection.execute(
            _SQL["insert_request_keys"],
            [claim.account_id for claim in new],
            [claim.request_key for claim in new],
            [claim.fingerprint for claim in new],
            [201 for _ in new],
            [claim.answer.encode() for claim in new],
        )

    async def _write_lines(self, connection: Connection, claims: Sequence[Claim]) -> None:
        await connection.execute(
            _SQL["insert_lines"],
            [claim.order_id for claim in claims for _ in claim.seats],
            [seat[0] for claim in claims for seat in claim.seats],
            [seat[1] for claim in claims for seat in claim.seats],
            [seat[2] for claim in claims for seat in claim.seats],
            [seat[3] for claim in claims for seat in claim.seats],
        )

    async def _write_confirms(self, connection: Connection, order_ids: Sequence[str]) -> None:
        rows = await connection.fetch(_SQL["confirm_orders"], list(set(order_ids)))
        confirmed = [row["order_id"] for row in rows]
        left = set(order_ids) - set(confirmed)
        if left:
            await self._check_unconfirmed(connection, left)
        if confirmed:
            await connection.execute(_SQL["sell_claims"], confirmed)
            await connection.execute(_SQL["issue_tickets"], confirmed)
            await connection.execute(_SQL["post_sales"], confirmed)

    async def _check_unconfirmed(self, connection: Connection, order_ids: set[str]) -> None:
        """A confirmation that moved nothing is a repeat, or it should never have been written."""
        states = await self._states(connection, sorted(order_ids))
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
            await self._write_lines(connection, [claim])
        else:
            await connection.execute(_SQL["give_up_again"], claim.order_id)

    async def _move_positions(self, connection: Connection, positions: Mapping[int, str]) -> None:
        if positions:
            await connection.execute(_SQL["move_positions"], list(positions), list(positions.values()))
