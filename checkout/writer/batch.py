"""A batch: decoded entries, laid out as the rows PostgreSQL will have.

Laying out is done while an earlier batch is being written, a slice at a time, so that the loop keeps
serving that one's replies. Rows stand in the order of their order ids: neighbours in the batch are
neighbours in every index, and two writers with the same entries meet at the first one instead of each
holding what the other wants.

An order that stands in a batch twice is laid out once; its other claims are `repeats`, to be compared with
what is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple

from checkout.entries import Claim, Confirm, Entry
from checkout.log_entries import LogEntry, log_position
from kernel.clock import from_ms
from kernel.ids import partition_of

OrderRow = tuple[str, str, str, int, str, str, int, datetime]
LineRow = tuple[str, int, str, str, int]
SeatRow = tuple[str, str, int, str]
AnswerRow = tuple[str, str, str, int, bytes]

_by_order = attrgetter("message.order_id")


class Item(NamedTuple):
    """An entry and what it says."""

    entry: LogEntry
    message: Entry


@dataclass(slots=True)
class Batch:
    """What is written in one transaction, and how far the logs it came from reach."""

    claims: dict[str, Claim] = field(default_factory=dict)
    repeats: list[Claim] = field(default_factory=list)
    #: Orders whose sale is in the batch, and the entry of each.
    confirms: list[str] = field(default_factory=list)
    sales: list[LogEntry] = field(default_factory=list)
    positions: dict[int, str] = field(default_factory=dict)
    #: The least epoch among the claims of each partition.
    oldest: dict[int, int] = field(default_factory=dict)
    orders: list[OrderRow] = field(default_factory=list)
    lines: list[LineRow] = field(default_factory=list)
    seats: list[SeatRow] = field(default_factory=list)
    answers: list[AnswerRow] = field(default_factory=list)

    @classmethod
    def of(cls, items: Iterable[Item]) -> Batch:
        """All of these at once."""
        batch = cls()
        batch.add(in_order(items))
        return batch

    def add(self, items: Sequence[Item]) -> None:
        """Lay out some more; the caller brings them in order."""
        for item in items:
            entry = item.entry
            known = self.positions.get(entry.partition)
            if known is None or log_position(entry.log_id) > log_position(known):
                self.positions[entry.partition] = entry.log_id
            if isinstance(item.message, Confirm):
                self.confirms.append(item.message.order_id)
                self.sales.append(entry)
        messages = [item.message for item in items]
        self._lay_out([claim for claim in messages if isinstance(claim, Claim) and self._is_first(claim)])

    def _is_first(self, claim: Claim) -> bool:
        if claim.order_id in self.claims:
            self.repeats.append(claim)
            return False
        self.claims[claim.order_id] = claim
        return True

    def _lay_out(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            partition = partition_of(claim.showtime_id)
            self.oldest[partition] = min(claim.epoch, self.oldest.get(partition, claim.epoch))
        self.orders += [
            (
                claim.order_id,
                claim.showtime_id,
                claim.account_id,
                claim.epoch,
                "pending_payment",
                claim.currency,
                claim.total,
                from_ms(claim.pay_by_ms),
            )
            for claim in claims
        ]
        self.lines += [(claim.order_id, *seat) for claim in claims for seat in claim.seats]
        self.seats += [
            (claim.order_id, claim.showtime_id, seat[0], "claimed")
            for claim in claims
            for seat in claim.seats
        ]
        self.answers += [
            (claim.account_id, claim.request_key, claim.fingerprint, 201, claim.answer.encode())
            for claim in claims
        ]


def in_order(items: Iterable[Item]) -> list[Item]:
    """As a batch lays them out: by order, and each order's entries as they came."""
    return sorted(items, key=_by_order)
