"""Entries of the order log: what the seat scripts append and the order writer reads.

An entry is complete: the writer needs nothing else to write the order, so it can be written by any
writer, at any time after, any number of times. `version` is there for the roll: a writer that meets a
newer one leaves it pending for a newer writer (fault F29), and never calls it poison. No personal data:
ids only (invariant I15).
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

ENTRY_VERSION: Final = 1

#: What a claim may hold, so that nothing that can be read is too large for PostgreSQL or for a datetime.
_Version = Annotated[int, Meta(ge=1)]
_Count = Annotated[int, Meta(ge=0, le=2**53)]
_InstantMs = Annotated[int, Meta(ge=0, le=253_402_300_799_999)]  # the end of the year 9999
_SeatIndex = Annotated[int, Meta(ge=0, le=65_534)]
_Seat = tuple[_SeatIndex, str, str, _Count]  # seat index, label, area id, amount in minor units


class Claim(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="claim", tag_field="kind"):
    """An order as it is claimed: seats, frozen prices, deadline, and the answer its buyer was given."""

    version: _Version = ENTRY_VERSION
    order_id: str
    showtime_id: str
    account_id: str
    epoch: _Count
    currency: str
    total: _Count
    pay_by_ms: _InstantMs
    seats: Annotated[list[_Seat], Meta(min_length=1)]
    request_key: str
    fingerprint: str
    answer: str


class Confirm(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="confirm", tag_field="kind"):
    """An order whose payment was captured and whose seats are sold in Redis."""

    version: _Version = ENTRY_VERSION
    order_id: str
    showtime_id: str


Entry = Claim | Confirm

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final[msgspec.json.Decoder[Entry]] = msgspec.json.Decoder(Entry)


#: What `decode` raises for bytes that never were an entry.
UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Versioned(msgspec.Struct):
    version: int = ENTRY_VERSION


class EntryTooNew(ValueError):
    """The entry was written by newer code; a newer writer must take it."""


def encode(entry: Entry) -> bytes:
    """The entry as it lies on the log."""
    return _ENCODER.encode(entry)


def decode(data: bytes) -> Entry:
    """The inverse of `encode`.

    Raises EntryTooNew, also for a newer entry this code could read: it may mean more than we see in it.
    Raises one of UNDECODABLE for what never was an entry.
    """
    try:
        entry = _DECODER.decode(data)
    except msgspec.ValidationError:
        if msgspec.json.decode(data, type=_Versioned).version > ENTRY_VERSION:
            raise EntryTooNew(f"entry version above {ENTRY_VERSION}") from None
        raise
    if entry.version > ENTRY_VERSION:
        raise EntryTooNew(f"entry version {entry.version} above {ENTRY_VERSION}")
    return entry
