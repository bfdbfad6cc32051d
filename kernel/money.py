"""Money is an integer of minor units and an ISO 4217 code; it never meets a float."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in minor units (4990 CNY is 49.90 yuan)."""

    amount: int
    currency: str

    def __add__(self, other: Money) -> Money:
        if other.currency != self.currency:
            raise ValueError(f"cannot add {other.currency} to {self.currency}")
        return Money(self.amount + other.amount, self.currency)


def total(amounts: Iterable[Money], currency: str) -> Money:
    """The sum, zero in ``currency`` for nothing."""
    result = Money(0, currency)
    for amount in amounts:
        result = result + amount
    return result
