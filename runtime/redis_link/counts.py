"""What a link has done so far, as plain numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class LinkCounts:
    """Totals since the process started, for metrics; `in_flight` is of this moment.

    `commands` ÷ `flushes` is how many commands shared a write. `deadlines_missed` counts callers who were
    told that the outcome is unknown while the connection stood.
    """

    commands: int = 0
    flushes: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    reconnects: int = 0
    deadlines_missed: int = 0
    in_flight: int = 0


class Tally:
    """The running numbers behind `LinkCounts`; they outlive a connection."""

    __slots__ = ("bytes_in", "bytes_out", "commands", "connects", "deadlines_missed", "flushes")

    def __init__(self) -> None:
        self.commands = 0
        self.flushes = 0
        self.bytes_out = 0
        self.bytes_in = 0
        self.connects = 0
        self.deadlines_missed = 0

    def read(self, in_flight: int) -> LinkCounts:
        """The numbers of this moment."""
        return LinkCounts(
            commands=self.commands,
            flushes=self.flushes,
            bytes_out=self.bytes_out,
            bytes_in=self.bytes_in,
            reconnects=max(0, self.connects - 1),
            deadlines_missed=self.deadlines_missed,
            in_flight=in_flight,
        )


def total(counts: Iterable[LinkCounts]) -> LinkCounts:
    """The sum over nodes."""
    return LinkCounts(*map(sum, zip(*map(astuple, counts), strict=True)))
