"""Entries of the order log: what the seat scripts append and the order writer reads.

An entry is complete: the writer needs nothing else to write the order, so it can be written by any
writer, at any time after, any number of times. `version` is there for the roll: a writer that meets a
newer one leaves it pending for a newer writer (fault F29), and never calls it poison. No personal data:
ids only (invariant I15).
"""

from __future__ import annotations

from typing import Final

import msgspec

ENTRY_VERSION: Final = 1


class Claim(msgspec.Struct, frozen=True, kw_only=True, tag="claim", tag_field="kind"):
    """An order as it is claimed: seats, frozen prices, deadline, and the answer its buyer was given."""

    version: int = ENTRY_VERSION
    order_id: str
    showtime_id: str
    account_id: str
    epoch: int
    currency: str
    total: int
    pay_by_ms: int
    seats: list[tuple[int, str, str, int]]  # seat index, label, area id, amount in minor units
    request_key: str
    fingerprint: str
    answer: str


class Confirm(msgspec.Struct, frozen=True, kw_only=True, tag="confirm", tag_field="kind"):
    """An order whose payment was captured and whose seats are sold in Redis."""

    version: int = ENTRY_VERSION
    order_id: str
    showtime_id: str


Entry = Claim | Confirm

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final[msgspec.json.Decoder[Entry]] = msgspec.json.Decoder(Entry)


class _Versioned(msgspec.Struct):
    version: int = ENTRY_VERSION


class EntryTooNew(ValueError):
    """The entry was written by newer code; a newer writer must take it."""


def encode(entry: Entry) -> bytes:
    """The entry as it lies on the log."""
    return _ENCODER.encode(entry)


def decode(data: bytes) -> Entry:
    """The inverse of `encode`.

    Raises EntryTooNew, or msgspec.ValidationError / DecodeError for what never was an entry.
    """
    try:
        return _DECODER.decode(data)
    except msgspec.ValidationError:
        if msgspec.json.decode(data, type=_Versioned).version > ENTRY_VERSION:
            raise EntryTooNew(f"entry version above {ENTRY_VERSION}") from None
        raise
