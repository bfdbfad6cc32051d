"""The states of things that cost money, as tables.

Conditional statements move the states; tests walk every arrow and every missing one against them, and the
audit takes its words from here.
States only move forward; *unknown* is a state with a resolver, never a synonym for failed.
"""

from __future__ import annotations

from typing import Final

Table = dict[str, frozenset[str]]

#: `claiming` is only ever shown, never stored: the claim is on the log and not yet committed.
ORDER: Final[Table] = {
    "pending_payment": frozenset({"paid", "expired", "cancelled"}),
    "expired": frozenset({"paid"}),  # a late payment: fulfilled if the seats are free, else refunded
    "paid": frozenset({"confirmed", "cancelled"}),
    "confirmed": frozenset({"refunded"}),
    "cancelled": frozenset(),
    "refunded": frozenset(),
}

PAYMENT: Final[Table] = {
    "initiated": frozenset({"pending", "unknown", "captured", "failed"}),
    "pending": frozenset({"captured", "failed", "unknown"}),
    "unknown": frozenset({"captured", "failed", "pending"}),
    "failed": frozenset({"captured"}),  # a gateway may change its mind upwards, never downwards
    "captured": frozenset(),
}

REFUND: Final[Table] = {
    "requested": frozenset({"sent", "completed", "failed"}),
    "sent": frozenset({"completed", "failed"}),
    "failed": frozenset({"sent", "completed"}),  # kept open: retried by a person or the completer
    "completed": frozenset(),
}

TICKET: Final[Table] = {
    "issued": frozenset({"admitted", "void"}),
    "admitted": frozenset(),
    "void": frozenset(),
}

#: A payment stays captured, whatever a bank does afterwards: each time it takes the money is a record of its
#: own, and once it has given it back, taking it again is another one.
CHARGEBACK: Final[Table] = {
    "charged_back": frozenset({"reversed"}),
    "reversed": frozenset(),
}

CLAIM: Final[Table] = {
    "claimed": frozenset({"sold", "released"}),
    "sold": frozenset({"returned"}),
    "released": frozenset({"sold"}),  # paid late, and its seats still free: the owner index is the arbiter
    "returned": frozenset(),
}


def may_move(table: Table, source: str, target: str) -> bool:
    """Whether the table has an arrow from ``source`` to ``target``."""
    return target in table.get(source, frozenset())
