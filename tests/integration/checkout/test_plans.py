"""Goal: a row that is named by its key is found by its key, however many others are in the same state.

Method: PostgreSQL is asked how it would carry out each statement of checkout and of the audit, in the form it
keeps for good (a generic plan, made while the tables are empty, as after an installation). Whatever is looked
up must be looked up by an index condition: an index that is read from end to end, or a table, is as long as
the queue. Statements that ask for all there are say so here.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from checkout import store
from checkout.chargebacks import store as chargeback_store
from checkout.forgetting import store as forgetting_store
from checkout.reconciliation import store as book_store
from checkout.writer import store as writer_store
from entrypoints.audit import records
from tests.support.engines import DatabaseMaker
from tests.support.shop import migrated

STATEMENTS = {
    **store._SQL,
    **{f"writer: {name}": text for name, text in writer_store._SQL.items()},
    **{f"books: {name}": text for name, text in book_store._SQL.items()},
    **{f"chargebacks: {name}": text for name, text in chargeback_store._SQL.items()},
    **{f"forgetting: {name}": text for name, text in forgetting_store._SQL.items()},
    **{f"audit: {name}": text for name, text in records.SQL.items()},
}

#: They are meant to find whatever is in a state: the completers' work, health, a rebuild, the positions.
READ_ALL = {
    "positions",
    "owners",
    "payments_to_ask",
    "refunds_to_send",
    "oldest_open",
    "forgetting: drop_old_fences",
}
#: An audit counts whatever there is, and looks at the rest in portions, which it asks for by name.
AUDITED_WHOLE = {
    f"audit: {name}"
    for name in (
        "no_seat_has_two_owners",
        "every_order_has_all_its_seats",
        "confirmed_orders_have_tickets",
        "nobody_owns_beyond_the_limit",
        "possessions_end",
        "guards_are_there",
        "states_are_legal",
        "one_effect_per_event",
        "no_order_is_of_the_future",
        "showtimes_with_orders",
        "no_order_came_past_the_fence",
        "open_dead_letters",
        "epochs_now",
        "showtimes_on_sale",
        "showtimes_of_paid_orders",
        "positions_with_instants",
        "ledger_has_what_happened",
        "ledger_adds_up",
        "money_has_a_home",
        "chargebacks_agree",
    )
}
#: One row, or as many as a server has databases: nothing to look up.
SHORT = {"claim_fence", "pg_database"}

CLAIMS = 1_000
_A_HALL_OF_CLAIMS = f"""
INSERT INTO checkout.orders (order_id, showtime_id, account_id, epoch, state, currency, total, pay_by)
VALUES ('ord_1', 'sho_1', 'acc_1', 1, 'pending_payment', 'CNY', 1, now());
INSERT INTO checkout.seat_claims (order_id, showtime_id, seat_index, state)
SELECT 'ord_1', 'sho_1', seat, 'claimed' FROM generate_series(1, {CLAIMS}) AS seat;
"""
ORDERS = 5_000
_A_HALL_OF_ORDERS = f"""
INSERT INTO checkout.orders (order_id, showtime_id, account_id, epoch, state, currency, total, pay_by)
SELECT 'ord_' || number, 'sho_1', 'acc_1', 1, 'pending_payment', 'CNY', 1, now()
FROM generate_series(1, {ORDERS}) AS number;
INSERT INTO checkout.seat_claims (order_id, showtime_id, seat_index, state)
SELECT 'ord_' || (1 + seat / 2), 'sho_1', seat, 'claimed' FROM generate_series(0, {2 * ORDERS - 1}) AS seat;
ANALYZE;
"""
_UPDATES = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'seat_claims'"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def planner(make_database: DatabaseMaker) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(await make_database(migrated))
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    yield connection
    await connection.close()


async def read_from_end_to_end(planner: asyncpg.Connection, statement: str) -> list[str]:
    """Tables and indexes a statement reads without knowing what it looks for."""
    return [
        node.get("Index Name") or node["Relation Name"]
        for node in await _planned(planner, statement)
        if node.get("Relation Name") not in SHORT
        if node["Node Type"] == "Seq Scan" or ("Index Name" in node and not node.get("Index Cond"))
        if node["Node Type"] != "ModifyTable"
    ]


async def _planned(planner: asyncpg.Connection, statement: str) -> list[dict[str, Any]]:
    """The steps of the plan that is kept for a statement."""
    count = max((int(number) for number in re.findall(r"\$(\d+)", statement)), default=0)
    await planner.execute(f"PREPARE asked AS {statement}")
    try:
        arguments = f"({', '.join(['NULL'] * count)})" if count else ""
        (plan,) = json.loads(await planner.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE asked{arguments}"))
    finally:
        await planner.execute("DEALLOCATE asked")
    return list(_nodes(plan["Plan"]))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


@pytest.mark.parametrize("name", sorted(STATEMENTS.keys() - READ_ALL - AUDITED_WHOLE))
async def test_what_is_named_is_found_by_its_name(planner: asyncpg.Connection, name: str) -> None:
    assert await read_from_end_to_end(planner, STATEMENTS[name]) == []


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("take_captures", "orders_awaiting_payment"),
        ("writer: write_batch", "orders_paid_unconfirmed"),
        ("cancel_paid", "orders_paid_unconfirmed"),
    ],
)
async def test_with_the_state_in_plain_words_the_whole_queue_is_read_for_each(
    planner: asyncpg.Connection, name: str, index: str
) -> None:
    """The control: the same statement as one would write it."""
    plain = re.sub(r"\(SELECT ('\w+')\)", r"\1", STATEMENTS[name]).replace(" || ''", "")
    assert index in await read_from_end_to_end(planner, plain)


async def test_whoever_is_waited_for_is_known_by_a_hash_and_not_compared_with_thousands(
    planner: asyncpg.Connection,
) -> None:
    """The control: the same statement as one would write it."""
    statement, waited = STATEMENTS["paid_unconfirmed"], "NOT IN (SELECT unnest($2::text[]))"
    assert waited in statement
    assert await _looks_up_by_hash(planner, statement)
    assert not await _looks_up_by_hash(planner, statement.replace(waited, "<> ALL ($2::text[])"))


async def _looks_up_by_hash(planner: asyncpg.Connection, statement: str) -> bool:
    """Whether what is not among some others is found so."""
    return any("hashed SubPlan" in node.get("Filter", "") for node in await _planned(planner, statement))


async def test_in_other_words_than_its_index_every_claim_is_read_for_a_portion_of_an_audit(
    planner: asyncpg.Connection,
) -> None:
    """The control: the same statement as one would write it."""
    plain = STATEMENTS["audit: owners_of_sales"].replace("c.owned", "c.state IN ('claimed', 'sold')")
    assert "seat_claims" in await read_from_end_to_end(planner, plain)


@pytest.mark.parametrize("name", sorted(READ_ALL | AUDITED_WHOLE))
async def test_who_reads_all_there_are_is_on_the_list_for_a_reason(
    planner: asyncpg.Connection, name: str
) -> None:
    assert await read_from_end_to_end(planner, STATEMENTS[name])


async def test_who_sends_refunds_reads_those_that_are_open_and_no_others(planner: asyncpg.Connection) -> None:
    assert await read_from_end_to_end(planner, STATEMENTS["refunds_to_send"]) == ["refunds_open"]


async def test_joined_with_what_is_due_every_refund_there_ever_was_would_be_read(
    planner: asyncpg.Connection,
) -> None:
    """The control: the same statement as one would write it."""
    joined = re.sub(
        r"= ANY \(ARRAY(\(.*SKIP LOCKED\))\)", r"IN \1", STATEMENTS["refunds_to_send"], flags=re.S
    )
    assert "refunds" in await read_from_end_to_end(planner, joined)


async def test_a_rebuild_of_a_sold_out_hall_is_planned_for_as_many_orders_as_there_are(
    make_database: DatabaseMaker,
) -> None:
    """Else each of them is looked up by itself. The control asks the same of both halves put together."""
    connection = await asyncpg.connect(await make_database(migrated))
    together = """
        SELECT order_id, array_agg(seat_index) FROM (
          SELECT order_id, seat_index FROM checkout.seat_claims WHERE owned AND showtime_id = ANY ($1::text[])
          UNION ALL
          SELECT order_id, seat_index FROM checkout.seat_claims WHERE state = 'released'
        ) AS seats GROUP BY order_id"""
    try:
        await connection.execute(_A_HALL_OF_ORDERS)
        planned, mistaken = [
            await _orders_planned(connection, statement) for statement in (STATEMENTS["owners"], together)
        ]
    finally:
        await connection.close()
    assert planned > ORDERS / 2
    assert mistaken < ORDERS / 5


async def _orders_planned(connection: asyncpg.Connection, statement: str) -> int:
    """For how many orders the planner gets ready."""
    (plan,) = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", ["sho_1"]))
    return max(node["Plan Rows"] for node in _nodes(plan["Plan"]) if node["Node Type"] == "Aggregate")


async def test_a_claim_that_is_sold_touches_no_index(make_database: DatabaseMaker) -> None:
    """Its owner stays who it is; whoever lets go of a seat is another matter."""
    connection = await asyncpg.connect(await make_database(migrated))
    try:
        await connection.execute(_A_HALL_OF_CLAIMS)
        updated: list[asyncpg.Record] = []
        for state in ("sold", "returned"):
            await connection.execute("UPDATE checkout.seat_claims SET state = $1", state)
            await connection.execute("SELECT pg_stat_force_next_flush()")
            updated += await connection.fetch(_UPDATES)
    finally:
        await connection.close()
    assert [tuple(row) for row in updated] == [(CLAIMS, CLAIMS), (2 * CLAIMS, CLAIMS)]
