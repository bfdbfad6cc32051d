"""What the audit asks about money: of the ledger, of payments, refunds and chargebacks, of a gateway's books.

Owns the questions alone; who asks them, when, and what the answers are held against is the audit's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runtime.queries import load_queries

SQL: Final = load_queries(__file__)

#: Statements about what is true at every instant, and the check each belongs to.
PROOFS: Final[Mapping[str, str]] = {
    "ledger_has_what_happened": "ledger_balances",
    "ledger_adds_up": "ledger_balances",
}
#: The same of chargebacks and their states, which it is told.
CHARGEBACKS: Final = "chargebacks_agree"
#: About how long money may be on its way.
TIMED: Final = "money_has_a_home"
#: Every movement that a gateway's books are held against.
MOVEMENTS: Final = SQL["movements_here"]
