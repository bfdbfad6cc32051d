"""Seats as the scripts take them: two bytes each, big-endian, and bit planes, most significant bit first."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from reservation.domain import bytes_for


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
