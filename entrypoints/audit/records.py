"""What PostgreSQL can prove alone, on one snapshot.

Every change of orders and money is one transaction that leaves all its rows in agreement, so a snapshot
never shows half of one: what is wrong on it is wrong, and needs no second look. Only a few sentences are
about time (captured money without tickets, events nobody acted on); their ages are judged by
PostgreSQL's clock, the one that stamped them.

The snapshot is read-only, may sort in memory what a few hundred thousand orders need, and is never
compiled: that would take longer than most of the statements.
"""

from __future__ import annotations

from typing import Final

from entrypoints.audit.entries import Claim, Confirm, Entry, read_entry
from entrypoints.audit.findings import Patience, Seen
from kernel import states
from runtime.postgres import Connection, Database, Record
from runtime.queries import load_queries

SQL: Final = load_queries(__file__)

#: The end of an order whose refused entry has therefore been taken care of.
_SETTLED: Final = frozenset({"confirmed", "refunded", "cancelled"})


async def prove_records(database: Database, showtime_id: str | None, patience: Patience) -> Seen:
    """Every promise that rows alone can prove."""
    seen = Seen()
    words = [
        list(table) for table in (states.ORDER, states.PAYMENT, states.REFUND, states.TICKET, states.CLAIM)
    ]
    proofs: tuple[tuple[str, str, tuple[object, ...]], ...] = (
        ("no_seat_has_two_owners", "no_seat_has_two_owners", (showtime_id,)),
        ("every_order_has_all_its_seats", "every_order_has_all_its_seats", (showtime_id,)),
        ("confirmed_orders_have_tickets", "confirmed_orders_have_tickets", (showtime_id,)),
        ("nobody_exceeds_the_limit", "nobody_owns_beyond_the_limit", (showtime_id,)),
        ("holds_end", "possessions_end", (showtime_id, patience.claim_s, patience.freeing_s)),
        ("ledger_balances", "ledger_has_what_happened", (showtime_id,)),
        ("ledger_balances", "ledger_adds_up", (showtime_id,)),
        ("money_has_a_home", "money_has_a_home", (showtime_id, patience.money_s)),
        ("states_are_legal", "states_are_legal", (showtime_id, *words)),
        ("one_effect_per_event", "one_effect_per_event", (patience.money_s,)),
        ("epochs_agree", "no_order_is_of_the_future", (showtime_id,)),
    )
    async with (
        database.connection() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await connection.execute("SET LOCAL jit = off; SET LOCAL work_mem = '64MB'")
        for check, statement, arguments in proofs:
            row = await connection.fetchrow(SQL[statement], *arguments)
            assert row is not None, f"{statement} answers one row"
            seen.counted[check] += row["counted"]
            if row["offenders"]:
                seen.suspect(check, statement, row["offender"])
                seen.unnamed[check] += row["offenders"] - 1
        await _account_for_dead_letters(connection, patience, seen)
    return seen


async def _account_for_dead_letters(connection: Connection, patience: Patience, seen: Seen) -> None:
    """An entry put aside is accounted for when its order came to an end all the same."""
    check = "dead_letters_are_accounted_for"
    letters = await connection.fetch(SQL["open_dead_letters"], patience.log_s)
    messages = [read_entry(letter["data"]) for letter in letters]
    order_ids = [message.order_id for message in messages if message is not None]
    found = await connection.fetch(SQL["standing_of_orders"], order_ids)
    state_of = {row["order_id"]: row["state"] for row in found}
    for letter, message in zip(letters, messages, strict=True):
        seen.counted[check] += 1
        problem = _unaccounted(letter, message, state_of)
        if problem is not None:
            name = f"entry {letter['log_id']} of partition {letter['partition']:02d}"
            seen.suspect(check, name, f"{name} was put aside ({letter['reason']}): {problem}")


def _unaccounted(letter: Record, message: Entry | None, state_of: dict[str, str]) -> str | None:
    match message:
        case None:
            return "nobody can read it"
        case Claim(order_id=order_id) if order_id not in state_of:
            return f"order {order_id} does not exist, so its buyer was never told"
        case Confirm(order_id=order_id):
            state = state_of.get(order_id, "unknown")
            if state in _SETTLED or (state == "paid" and not letter["is_old"]):
                return None
            return f"order {order_id} was to be sold and is {state}"
    return None
