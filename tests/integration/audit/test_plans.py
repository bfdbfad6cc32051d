"""Goal: an audit's time grows with what was sold, and not with the square of it.

Method: PostgreSQL is asked how it would carry out each statement of the audit when next to nothing fits into
its memory, on a house that sold a little: with its parameters known and unknown, of all showtimes and of one.
What is asked again for each row must be looked up by an index. The control is the same question as one would
write it.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from entrypoints.audit.records import SQL
from tests.support.engines import DatabaseMaker
from tests.support.shop import migrated

ORDERS = 12_000
_SOLD = f"""
INSERT INTO checkout.orders
  (order_id, showtime_id, account_id, epoch, state, currency, total, pay_by, paid_at, confirmed_at)
SELECT 'ord_' || n, 'sho_' || n % 3, 'acc_1', 1, 'confirmed', 'CNY', 1, now(), now(), now()
FROM generate_series(1, {ORDERS}) AS n;
INSERT INTO checkout.order_lines (order_id, seat_index, label, area_id, amount)
SELECT 'ord_' || n, n, 'S' || n, 'a', 1 FROM generate_series(1, {ORDERS}) AS n;
INSERT INTO checkout.seat_claims (order_id, showtime_id, seat_index, state)
SELECT 'ord_' || n, 'sho_' || n % 3, n, 'sold' FROM generate_series(1, {ORDERS}) AS n;
INSERT INTO checkout.tickets (ticket_id, order_id, account_id, showtime_id, seat_index, label, state)
SELECT 'tkt_' || n, 'ord_' || n, 'acc_1', 'sho_' || n % 3, n, 'S' || n, 'issued'
FROM generate_series(1, {ORDERS}) AS n;
INSERT INTO checkout.payments
  (payment_id, order_id, gateway, state, amount, currency, gateway_ref, captured_at)
SELECT 'pay_' || n, 'ord_' || n, 'sandbox', 'captured', 1, 'CNY', 'ref_' || n, now()
FROM generate_series(1, {ORDERS}) AS n;
INSERT INTO checkout.refunds (refund_id, order_id, payment_id, state, reason, amount, currency)
SELECT 'ref_' || n, 'ord_' || n, 'pay_' || n, 'requested', 'asked', 1, 'CNY'
FROM generate_series(1, {ORDERS}, 100) AS n;
INSERT INTO checkout.chargebacks (gateway, chargeback_ref, payment_id, state)
SELECT 'sandbox', 'cb_' || n, 'pay_' || n, 'charged_back' FROM generate_series(1, {ORDERS}, 2) AS n;
INSERT INTO checkout.ledger_entries (transaction_id, line, account, amount, currency, order_id)
SELECT 'capture:pay_' || n, line, 'a', 3 - 2 * line, 'CNY', 'ord_' || n
FROM generate_series(1, {ORDERS}) AS n, generate_series(1, 2) AS line;
ALTER TABLE reservation.blocked_seats DROP CONSTRAINT blocked_seats_showtime_id_fkey;
INSERT INTO reservation.blocked_seats (showtime_id, seat_index)
SELECT 'sho_' || n % 3, n FROM generate_series(1, {ORDERS}) AS n;
INSERT INTO checkout.awaited_claims SELECT order_id, 1, now() FROM checkout.orders;
ANALYZE;
"""
_LITTLE: dict[str, object] = {
    "text": "sho_1",
    "text[]": ["sho_1"],
    "smallint": 1,
    "smallint[]": [1],
    "float8": 60.0,
    "int": 1,
}
AS_ONE_WOULD_WRITE_IT = {
    "nobody paid": """
        SELECT order_id FROM checkout.orders
        WHERE order_id NOT IN (SELECT order_id FROM checkout.payments WHERE state = 'captured')""",
    "one showtime's, or all": """
        SELECT transaction_id FROM checkout.ledger_entries
        WHERE $1::text IS NULL
          OR order_id IN (SELECT order_id FROM checkout.orders WHERE showtime_id = $1::text)""",
    "as the others say": """
        SELECT payment_id FROM checkout.payments
        WHERE charged_back <> (payment_id IN (SELECT payment_id FROM checkout.chargebacks))""",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def planner(make_database: DatabaseMaker) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(await make_database(migrated))
    await connection.execute(_SOLD)
    await connection.execute("SET work_mem = '64kB'; SET hash_mem_multiplier = 1; SET jit = off")
    yield connection
    await connection.close()


async def read_for_each_row(planner: asyncpg.Connection, statement: str, mode: str, known: bool) -> list[str]:
    """What is read from end to end once for each row of something else."""
    types = dict(re.findall(r"\$(\d+)::([a-z0-9]+(?:\[\])?)", statement))
    arguments = [_LITTLE[types[str(number)]] if known else None for number in range(1, len(types) + 1)]
    literals = ", ".join(
        [await planner.fetchval("SELECT quote_nullable($1)", _text(one)) for one in arguments]
    )
    await planner.execute(f"SET plan_cache_mode = {mode}")
    await planner.execute(f"PREPARE asked AS {statement}")
    try:
        asked = f"EXECUTE asked({literals})" if arguments else "EXECUTE asked"
        (plan,) = json.loads(await planner.fetchval(f"EXPLAIN (FORMAT JSON) {asked}"))
    finally:
        await planner.execute("DEALLOCATE asked")
    hashed = set(re.findall(r"hashed (SubPlan \d+)", json.dumps(plan)))
    return [
        inner.get("CTE Name") or inner["Relation Name"]
        for node in _nodes(plan["Plan"])
        if node.get("Parent Relationship") == "SubPlan" and node.get("Subplan Name") not in hashed
        for inner in _nodes(node)
        if inner["Node Type"] in {"Seq Scan", "CTE Scan"}
    ]


def _text(value: object) -> str | None:
    if isinstance(value, list):
        return "{" + ",".join(map(str, value)) + "}"
    return None if value is None else str(value)


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


each_way = pytest.mark.parametrize(
    ("mode", "known"),
    [("force_custom_plan", False), ("force_custom_plan", True), ("force_generic_plan", True)],
    ids=["all", "one", "whichever"],
)


@each_way
@pytest.mark.parametrize("name", sorted(SQL))
async def test_nothing_is_read_again_for_each_row_of_something_else(
    planner: asyncpg.Connection, name: str, mode: str, known: bool
) -> None:
    assert await read_for_each_row(planner, SQL[name], mode, known) == []


@pytest.mark.parametrize("question", AS_ONE_WOULD_WRITE_IT)
async def test_as_one_would_write_it_all_of_it_is_read_again_for_each_row(
    planner: asyncpg.Connection, question: str
) -> None:
    statement = AS_ONE_WOULD_WRITE_IT[question]
    assert await read_for_each_row(planner, statement, "force_generic_plan", known=True)
