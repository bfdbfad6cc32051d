"""What PostgreSQL knows of chargebacks; to be called in a transaction that has the payment locked."""

from __future__ import annotations

from runtime.postgres import Connection
from runtime.queries import load_queries

_SQL = load_queries(__file__)


async def record(connection: Connection, gateway: str, chargeback_ref: str, payment_id: str) -> bool:
    """A bank has taken this payment's money. False when we knew of that time."""
    row = await connection.fetchrow(_SQL["record_chargeback"], gateway, chargeback_ref, payment_id)
    return row is not None


async def reverse(connection: Connection, gateway: str, chargeback_ref: str, payment_id: str) -> bool:
    """It is ours again. False when we knew."""
    row = await connection.fetchrow(_SQL["reverse_chargeback"], gateway, chargeback_ref, payment_id)
    return row is not None


async def mark(connection: Connection, payment_id: str) -> None:
    """Have the payment say what all of its chargebacks say together."""
    await connection.execute(_SQL["mark_payment"], payment_id)
