"""What PostgreSQL can prove alone.

Every change of orders and money is one transaction that leaves all its rows in agreement, so a snapshot
never shows half of one: what `prove_records` finds wrong on one is wrong, and needs no second look.

Sentences about time are another matter: captured money that waits for its tickets, events nobody has acted
on, claims past their deadline. A backlog after an outage is worked off in seconds, so these are looked at
again like everything that is under way, by `RecordsLook`. Their ages are judged by PostgreSQL's clock, the
one that stamped them.

Snapshots are read-only, may sort in memory what a few hundred thousand orders need, and are never compiled:
that would take longer than most of the statements.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Final

from entrypoints.audit import money
from entrypoints.audit.entries import Claim, Confirm, Entry, read_entry
from entrypoints.audit.findings import STOPPING, Patience, Seen
from entrypoints.audit.sources import Sources
from kernel import states
from kernel.ids import partition_of
from runtime.postgres import Connection, Database, Record
from runtime.queries import load_queries

SQL: Final[Mapping[str, str]] = {**load_queries(__file__), **money.SQL}

#: Statements about what is true at every instant, and the check each belongs to.
_PROOFS: Final[Mapping[str, str]] = {
    "no_seat_has_two_owners": "no_seat_has_two_owners",
    "every_order_has_all_its_seats": "every_order_has_all_its_seats",
    "confirmed_orders_have_tickets": "confirmed_orders_have_tickets",
    "nobody_owns_beyond_the_limit": "nobody_exceeds_the_limit",
    **money.PROOFS,
    "no_order_is_of_the_future": "epochs_agree",
}
_DEAD_LETTERS: Final = "dead_letters_are_accounted_for"
#: The end of an order whose refused entry has therefore been taken care of.
_SETTLED: Final = frozenset({"confirmed", "refunded", "cancelled"})
_WORDS: Final = (states.ORDER, states.PAYMENT, states.REFUND, states.TICKET, states.CLAIM)


async def prove_records(database: Database, showtime_id: str | None) -> Seen:
    """Every promise that rows alone can prove at any instant, on one snapshot."""
    seen = Seen()
    async with _snapshot(database) as connection:
        for statement, check in _PROOFS.items():
            await _prove(connection, seen, check, statement, showtime_id)
        await _prove_fence(connection, seen, showtime_id)
        await _prove(connection, seen, "states_are_legal", "guards_are_there")
        words = [list(table) for table in _WORDS]
        await _prove(connection, seen, "states_are_legal", "states_are_legal", showtime_id, *words)
        words = [list(states.CHARGEBACK)]
        await _prove(connection, seen, "states_are_legal", money.CHARGEBACKS, showtime_id, *words)
    return seen


class RecordsLook:
    """Promises about how long something may take."""

    def __init__(self, sources: Sources, showtime_id: str | None, patience: Patience) -> None:
        self._database = sources.database
        self._showtime_id = showtime_id
        self._patience = patience
        self._timed: Mapping[str, tuple[str, tuple[object, ...]]] = {
            "possessions_end": ("holds_end", (showtime_id, patience.claim_s, patience.freeing_s)),
            "one_effect_per_event": ("one_effect_per_event", (patience.money_s,)),
        }

    async def look(self, subjects: Collection[str] | None) -> Seen:
        """See `Look.look`; subjects are statements, and the dead letters."""
        seen = Seen()
        async with _snapshot(self._database) as connection:
            for statement, (check, arguments) in self._timed.items():
                if subjects is None or statement in subjects:
                    await _prove(connection, seen, check, statement, *arguments)
            if subjects is None or money.TIMED in subjects:
                await self._find_homes(connection, seen)
            if subjects is None or _DEAD_LETTERS in subjects:
                await self._account_for_dead_letters(connection, seen)
        return seen

    async def _find_homes(self, connection: Connection, seen: Seen) -> None:
        """A sale can be made since its partition is there; which that is follows from the showtime."""
        rows = await connection.fetch(SQL["showtimes_of_paid_orders"], self._showtime_id)
        showtime_ids = [row["showtime_id"] for row in rows]
        await _prove(
            connection,
            seen,
            "money_has_a_home",
            money.TIMED,
            self._showtime_id,
            self._patience.money_s,
            self._patience.asked_s,
            showtime_ids,
            [partition_of(one) for one in showtime_ids],
        )

    async def _account_for_dead_letters(self, connection: Connection, seen: Seen) -> None:
        """An entry put aside is accounted for when its order came to an end all the same."""
        letters = await connection.fetch(SQL["open_dead_letters"], self._patience.log_s)
        messages = [read_entry(letter["data"]) for letter in letters]
        order_ids = [message.order_id for message in messages if message is not None]
        found = await connection.fetch(SQL["standing_of_orders"], order_ids)
        state_of = {row["order_id"]: row["state"] for row in found}
        seen.counted[_DEAD_LETTERS] += len(letters)
        for letter, message in zip(letters, messages, strict=True):
            problem = _unaccounted(letter, message, state_of)
            if problem is not None:
                name = f"entry {letter['log_id']} of partition {letter['partition']:02d}"
                sentence = f"{name} was put aside ({letter['reason']}): {problem}"
                seen.suspect(_DEAD_LETTERS, _DEAD_LETTERS, sentence)


@asynccontextmanager
async def _snapshot(database: Database) -> AsyncIterator[Connection]:
    async with database.transaction(snapshot=True) as connection:
        await connection.execute("SET LOCAL jit = off; SET LOCAL work_mem = '64MB'")
        yield connection


async def _prove(connection: Connection, seen: Seen, check: str, statement: str, *arguments: object) -> None:
    row = await connection.fetchrow(SQL[statement], *arguments)
    assert row is not None, f"{statement} answers one row"
    seen.counted[check] += row["counted"]
    sentences = row["sentences"] or ()
    for sentence in sentences:
        seen.suspect(check, statement, sentence)
    seen.unnamed[check] += row["offenders"] - len(sentences)
    if check in STOPPING:
        seen.proven_at |= {(check, showtime_id) for showtime_id in row["showtimes"] or ()}


async def _prove_fence(connection: Connection, seen: Seen, showtime_id: str | None) -> None:
    """I12: what was of an epoch that was over became no order, but for what was waited for."""
    rows = await connection.fetch(SQL["showtimes_with_orders"], showtime_id)
    showtime_ids = [row["showtime_id"] for row in rows]
    partitions = [partition_of(one) for one in showtime_ids]
    await _prove(
        connection,
        seen,
        "epochs_agree",
        "no_order_came_past_the_fence",
        showtime_id,
        showtime_ids,
        partitions,
    )


def _unaccounted(letter: Record, message: Entry | None, state_of: Mapping[str, str]) -> str | None:
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
