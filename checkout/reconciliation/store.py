"""How far the books of gateways were compared with ours, and what stands in theirs alone.

A place in a gateway's books is to its movements what a position is to a log (`checkout/set_back.py`): it is
written when everything up to there stands here as well, so a PostgreSQL that was set back names the place
from which it has forgotten things. Nobody moves it past a gap: it moves from where it stands, and only on
the server on which the stretch was compared.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from checkout.ports import Movement
from kernel.ids import showtime_of
from kernel.money import Money
from runtime.postgres import Connection, Database, rows_changed
from runtime.queries import load_queries

_SQL = load_queries(__file__)


@dataclass(frozen=True, slots=True)
class Place:
    """How far a gateway's books were compared, and the server for which they once were to their end."""

    cursor: str = ""
    whole_for: str | None = None


class BookStore:
    """What PostgreSQL knows of the books of gateways. Every method raises PersistenceUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def this_server(self) -> str:
        """Which PostgreSQL answers; one that was set back has another name."""
        return str(await self._database.fetchval(_SQL["this_server"]))

    async def place(self, gateway: str) -> Place:
        """Where the next comparison begins."""
        row = await self._database.fetchrow(_SQL["gateway_position"], gateway)
        return Place() if row is None else Place(row["cursor"], row["whole_for"])

    async def move(self, gateway: str, before: str, after: str, server: str, *, is_end: bool) -> bool:
        """Everything between two cursors stands here. False when it is not for us to say any more: another
        server answers than the one that was compared, or somebody else has moved the place.
        """
        row = await self._database.fetchrow(
            _SQL["move_gateway_position"], gateway, before, after, server, is_end
        )
        return row is not None

    async def missing(self, gateway: str, movements: Sequence[Movement]) -> list[Movement]:
        """Those of them that are not here: a payment not captured, a refund not completed, and so on."""
        if not movements:
            return []
        rows = await self._database.fetch(
            _SQL["missing_movements"],
            [movement.kind for movement in movements],
            [movement.reference for movement in movements],
            gateway,
        )
        names: Collection[tuple[str, str]] = {(row["kind"], row["reference"]) for row in rows}
        return [movement for movement in movements if (movement.kind, movement.reference) in names]

    async def record_payment(
        self, connection: Connection, payment_id: str, order_id: str, gateway: str
    ) -> None:
        """Have a payment again, of what its order costs. Nothing happens without the order."""
        await connection.execute(_SQL["record_payment"], payment_id, order_id, gateway)

    async def record_lost_order(self, connection: Connection, order_id: str, total: Money) -> bool:
        """An order that is gone for good, for what goes back to belong to. False when there is one."""
        tag = await connection.execute(
            _SQL["record_lost_order"], order_id, showtime_of(order_id), total.currency, total.amount
        )
        return rows_changed(tag) == 1
