"""Goal: the state tables are sound as tables: closed, reachable, one way.

Method: every table is walked. That statements keep to them is tested on PostgreSQL, in
tests/integration/checkout/test_states.py.
"""

from __future__ import annotations

import pytest

from kernel import states
from kernel.states import Table, may_move

TABLES = {
    "order": states.ORDER,
    "payment": states.PAYMENT,
    "refund": states.REFUND,
    "ticket": states.TICKET,
    "claim": states.CLAIM,
    "chargeback": states.CHARGEBACK,
}
FINAL = {
    "order": {"cancelled", "refunded"},
    "payment": {"captured"},
    "refund": {"completed"},
    "ticket": {"admitted", "void"},
    "claim": {"returned"},
    "chargeback": {"reversed"},
}
each_table = pytest.mark.parametrize(("name", "table"), TABLES.items(), ids=list(TABLES))


def reachable(table: Table, start: str) -> set[str]:
    """Every state one can come to from here, in one step or more."""
    found: set[str] = set()
    todo = list(table[start])
    while todo:
        state = todo.pop()
        if state not in found:
            found.add(state)
            todo += table[state]
    return found


@each_table
def test_a_table_leads_from_its_beginning_to_all_of_its_states_and_nowhere_else(
    name: str, table: Table
) -> None:
    beginning = next(iter(table))
    assert reachable(table, beginning) | {beginning} == table.keys()


@each_table
def test_what_is_final_stays(name: str, table: Table) -> None:
    assert {state for state, targets in table.items() if not targets} == FINAL[name]
    for state in FINAL[name]:
        assert not any(may_move(table, state, target) for target in table)


@each_table
def test_nothing_comes_back_to_its_beginning(name: str, table: Table) -> None:
    beginning = next(iter(table))
    assert all(beginning not in targets for targets in table.values())


@each_table
def test_every_arrow_that_is_not_drawn_is_missing(name: str, table: Table) -> None:
    drawn = {(source, target) for source, targets in table.items() for target in targets}
    for source in [*table, "no state"]:
        for target in [*table, "no state"]:
            assert may_move(table, source, target) == ((source, target) in drawn)


def test_money_never_turns_back() -> None:
    assert reachable(states.PAYMENT, "captured") == set()
    assert reachable(states.REFUND, "completed") == set()
    assert "pending_payment" not in reachable(states.ORDER, "paid")
    assert "confirmed" not in reachable(states.ORDER, "refunded") | reachable(states.ORDER, "cancelled")
