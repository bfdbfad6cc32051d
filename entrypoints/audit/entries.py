"""Entries of the order log, as far as the audit looks at them.

Spelt a second time, like the records of holds: what the order writer could not read is for the audit to
notice, not to read the same way. An entry of newer code is read as well, for the little that every version
has; whether it is written is a question to PostgreSQL, not to its version.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Claim(msgspec.Struct, frozen=True, tag="claim", tag_field="kind"):
    """An order as its buyer was promised it."""

    order_id: str
    showtime_id: str
    account_id: str
    currency: str
    total: int
    seats: list[tuple[int, str, str, int]]  # seat index, label, area id, amount in minor units


class Confirm(msgspec.Struct, frozen=True, tag="confirm", tag_field="kind"):
    """An order whose seats are sold in Redis."""

    order_id: str


Entry = Claim | Confirm

_DECODER: Final[msgspec.json.Decoder[Entry]] = msgspec.json.Decoder(Entry)


def read_entry(data: bytes) -> Entry | None:
    """An entry, or None for what is none."""
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
