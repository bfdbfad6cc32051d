"""The words a tester can say, and what each one means.

A payment's outcome is chosen when it is paid, on the page or through its test address; the outcome of
refunds is a setting of the whole sandbox, because nobody stands before a page while money goes back.
Both come down to the same three questions: how does it end, when, and what is the shop told? A bank that
takes money back does so when a tester says so; of that only the last question is left.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

DELAY_S_MAX: Final = 3_600
DUPLICATE_COPIES: Final = 3

#: `once`: one webhook. `thrice`: the same event several times at once. `never`: it gets lost.
#: `disordered`: news of what came before arrive after it. Before a capture that is an earlier failed try,
#: before a chargeback the capture, before its reversal the chargeback.
Telling = Literal["once", "thrice", "never", "disordered"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How something ends, when, and how the shop hears of it."""

    succeeds: bool = True
    delay_ms: int = 0
    telling: Telling = "once"
    even_if_expired: bool = False


_PAYMENTS: Final = {
    "approve": Outcome(),
    "decline": Outcome(succeeds=False),
    "duplicate": Outcome(telling="thrice"),
    "lose": Outcome(telling="never"),
    "reorder": Outcome(telling="disordered"),
    "late": Outcome(even_if_expired=True),
}
_REFUNDS: Final = {
    "complete": Outcome(),
    "fail": Outcome(succeeds=False),
    "duplicate": Outcome(telling="thrice"),
    "lose": Outcome(telling="never"),
}
_DELAY: Final = re.compile(r"delay:([0-9]{1,4}(?:\.[0-9]{1,3})?)")

PAYMENT_WORDS: Final = (*_PAYMENTS, "delay:SECONDS")
REFUND_WORDS: Final = (*_REFUNDS, "delay:SECONDS")


def payment_outcome(word: str) -> Outcome | None:
    """The outcome a word stands for, or None for a word we do not know."""
    return _PAYMENTS.get(word) or _delayed(word)


def refund_outcome(word: str) -> Outcome | None:
    """The same for the `refunds` setting."""
    return _REFUNDS.get(word) or _delayed(word)


def _delayed(word: str) -> Outcome | None:
    match = _DELAY.fullmatch(word)
    if match is None or float(match[1]) > DELAY_S_MAX:
        return None
    return Outcome(delay_ms=round(float(match[1]) * 1000))
