"""Seats as the scripts take them: two bytes each, big-endian, and bit planes, most significant bit first.

A hold's record is packed here and in `lua/shared/write_record.lua`; the layout is told in `read_record.lua`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final

from reservation.domain import bytes_for

#: A record up to its buyer, by the number of seats. Instants have six bytes: two, then four.
_RECORDS: Final = tuple(struct.Struct(f">cHIHIB{seats}H") for seats in range(256))
_HEAD: Final = struct.Struct(">cHIHIB")
_DIGITS: Final = bytes.maketrans(b"\0\1", b"01")


def pack_numbers(numbers: Sequence[int]) -> bytes:
    """Unsigned 16-bit numbers, one after the other."""
    return struct.pack(f">{len(numbers)}H", *numbers)


def unpack_numbers(packed: bytes) -> tuple[int, ...]:
    """The inverse of `pack_numbers`."""
    return struct.unpack(f">{len(packed) // 2}H", packed)


def has_seat(plane: bytes, seat: int) -> bool:
    """Whether the seat's bit is set."""
    return bool(plane[seat >> 3] & (0x80 >> (seat & 7)))


def plane_of(seats: Iterable[int], seat_count: int) -> bytes:
    """A plane with the bits of `seats` set."""
    plane = bytearray(bytes_for(seat_count))
    for seat in seats:
        plane[seat >> 3] |= 0x80 >> (seat & 7)
    return bytes(plane)


def plane_of_flags(flags: bytearray) -> bytes:
    """A plane from a byte for each seat, 1 or 0: many times faster where many bits are set."""
    length = bytes_for(len(flags))
    return int(flags.translate(_DIGITS).ljust(8 * length, b"0"), 2).to_bytes(length)


def mask_of(seats: Iterable[int], seat_count: int) -> int:
    """That plane as an integer, to be compared with `int.from_bytes` of others."""
    first = 8 * bytes_for(seat_count) - 1
    mask = 0
    for seat in seats:
        mask |= 1 << (first - seat)
    return mask


def count_seats(plane: bytes) -> int:
    """How many bits are set."""
    return int.from_bytes(plane).bit_count()


def seats_in(plane: bytes) -> list[int]:
    """The seats whose bits are set, in order."""
    return [
        (place << 3) + bit
        for place, byte in enumerate(plane)
        if byte
        for bit in range(8)
        if byte & (0x80 >> bit)
    ]


def pack_record(
    state: str, expires_at_ms: int, created_at_ms: int, seats: Sequence[int], buyer_id: str
) -> bytes:
    """A hold's record; `state` is its letter. At most 255 seats."""
    count = len(seats)
    head = _RECORDS[count].pack(
        state.encode(),
        expires_at_ms >> 32,
        expires_at_ms & 0xFFFF_FFFF,
        created_at_ms >> 32,
        created_at_ms & 0xFFFF_FFFF,
        count,
        *seats,
    )
    return head + buyer_id.encode()


def read_record(packed: bytes) -> tuple[str, int, int, tuple[int, ...], str]:
    """The inverse of `pack_record`."""
    state, expiry_high, expiry_low, creation_high, creation_low, count = _HEAD.unpack_from(packed)
    buyer_from = _HEAD.size + 2 * count
    seats = unpack_numbers(packed[_HEAD.size : buyer_from])
    expires_at_ms, created_at_ms = expiry_high << 32 | expiry_low, creation_high << 32 | creation_low
    return state.decode(), expires_at_ms, created_at_ms, seats, packed[buyer_from:].decode()
