"""Goal: a row that is named by its key is found by its key, however many others are in the same state.

Method: PostgreSQL is asked how it would carry out each statement of checkout, in the form it keeps for good
(a generic plan, made while the tables are empty, as after an installation). Whatever is looked up must be
looked up by an index condition: an index that is read from end to end, or a table, is as long as the queue.
Statements that ask for all there are say so here.
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
from checkout.writer import store as writer_store
from tests.support.engines import DatabaseMaker
from tests.support.shop import migrated

STATEMENTS = {**store._SQL, **{f"writer: {name}": text for name, text in writer_store._SQL.items()}}

#: They are meant to find whatever is in a state: the completers' work, health, a rebuild, the positions.
READ_ALL = {
    "positions",
    "owners",
    "orders_to_free",
    "payments_to_ask",
    "refunds_to_send",
    "oldest_open",
    "writer: positions",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def planner(make_database: DatabaseMaker) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(await make_database(migrated))
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    yield connection
    await connection.close()


async def read_from_end_to_end(planner: asyncpg.Connection, statement: str) -> list[str]:
    """Tables and indexes a statement reads without knowing what it looks for."""
    count = max((int(number) for number in re.findall(r"\$(\d+)", statement)), default=0)
    await planner.execute(f"PREPARE asked AS {statement}")
    try:
        arguments = f"({', '.join(['NULL'] * count)})" if count else ""
        (plan,) = json.loads(await planner.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE asked{arguments}"))
    finally:
        await planner.execute("DEALLOCATE asked")
    return [
        node.get("Index Name") or node["Relation Name"]
        for node in _nodes(plan["Plan"])
        if node["Node Type"] == "Seq Scan" or ("Index Name" in node and not node.get("Index Cond"))
        if node["Node Type"] != "ModifyTable"
    ]


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


@pytest.mark.parametrize("name", [name for name in STATEMENTS if name not in READ_ALL])
async def test_what_is_named_is_found_by_its_name(planner: asyncpg.Connection, name: str) -> None:
    assert await read_from_end_to_end(planner, STATEMENTS[name]) == []


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("take_captures", "orders_awaiting_payment"),
        ("writer: write_batch", "orders_paid_unconfirmed"),
        ("cancel_paid", "orders_paid_unconfirmed"),
        ("expire_orders", "seat_claims_one_owner"),
        ("release_claims", "seat_claims_one_owner"),
        ("give_up_sold", "seat_claims_one_owner"),
    ],
)
async def test_with_the_state_in_plain_words_the_whole_queue_is_read_for_each(
    planner: asyncpg.Connection, name: str, index: str
) -> None:
    """The control: the same statement as one would write it."""
    plain = re.sub(r"\(SELECT ('\w+')\)", r"\1", STATEMENTS[name]).replace(" || ''", "")
    assert index in await read_from_end_to_end(planner, plain)


@pytest.mark.parametrize("name", sorted(READ_ALL))
async def test_who_reads_all_there_are_is_on_the_list_for_a_reason(
    planner: asyncpg.Connection, name: str
) -> None:
    assert await read_from_end_to_end(planner, STATEMENTS[name])
