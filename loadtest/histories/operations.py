"""One recorded operation of a client, and the file a history is kept in: one line an operation.

An operation begins when its question leaves and ends when its answer has arrived, both by the client's own
monotonic clock. An operation whose outcome nobody learnt (no answer, a timeout, a 5xx) has no end: it may
have had its effect at any time since, may have it later still, or never. Refusals are not recorded: they
change nothing, and one that comes from a picture a breath old says nothing about the seat.

The file is JSON, an operation a line, in order of the questions; its fields are those of `Operation`, and a
field that has nothing to say is left out. A line that lacks what every operation has, or has what none has,
is no operation: who judges a part of what was told must not call the whole proven.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

import msgspec

#: How far two machines' clocks may be apart; a deadline told by another clock counts as that much earlier.
CLOCKS_DIFFER_S: Final = 0.5

#: hold: seats granted. extend: granted for longer. release: let go. claim: the hold became an order. sell:
#: the order is confirmed. give_back: its seats came back. saw_taken, saw_free: a reading that was exact.
#: lost: seat maps forgot, so from `asked_s` on a hold asked for until `answered_s` may be gone, and no order;
#: it has no seats.
What = Literal["hold", "extend", "release", "claim", "sell", "give_back", "saw_taken", "saw_free", "lost"]


class Operation(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What was asked about some seats, all of them together, and when that was answered.

    `hold_id` names the owner through all its phases (a reading has none); instants are seconds of one
    monotonic clock. `answered_s` is None when the outcome is unknown, or a loss has no end. `until_s`: from
    when what was granted (hold, extend, claim) may end by itself; None when it may not. `total_minor` and
    `currency`: what a claim was first said to cost; None and empty when nobody was told.
    """

    what: What
    hold_id: str
    seats: tuple[str, ...]
    asked_s: float
    answered_s: float | None = None
    until_s: float | None = None
    showtime_id: str = ""
    total_minor: int | None = None
    currency: str = ""


def save(operations: Iterable[Operation], file: Path) -> None:
    """Write a history, in order of the questions; what the file held before is gone."""
    ordered = sorted(operations, key=lambda operation: operation.asked_s)
    file.write_bytes(b"".join(msgspec.json.encode(operation) + b"\n" for operation in ordered))


def load(file: Path) -> list[Operation]:
    """Read a history.

    Raises msgspec.DecodeError when it is none.
    """
    return [msgspec.json.decode(line, type=Operation) for line in file.read_bytes().splitlines()]
