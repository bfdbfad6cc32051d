"""Bit planes: the packed bytes Redis keeps, and the Python integer every search works on.

A plane on the wire has seat *i* at bit *i*, most significant first, as ``SETBIT`` counts. In memory
the same set of seats is one arbitrarily long integer with seat *i* at the bit worth ``1 << i``. One
``&`` or ``>>`` then treats a whole hall in about a microsecond, whatever its fill; neighbours are a
shift away and ``x & -x`` is the seat with the lowest index.

Refused: the most-significant-first integer that ``int.from_bytes(plane)`` would give for nothing.
Seat *i* would sit at a place that depends on the length of the plane, every mask and every line of
the search would count backwards, and all that to save one table look-up per byte.

Invariant: an integer here never has a bit beyond the last seat of its layout, and is never negative.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_MIRROR: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_BITS_OF_BYTE: Final = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))
_NOT_EMPTY: Final = re.compile(rb"[^\0]")
_WORD: Final = (1 << 64) - 1


def to_bits(plane: bytes) -> int:
    """The set of seats of a packed plane. A plane cut short by Redis reads as if padded with zeros."""
    return int.from_bytes(plane.translate(_MIRROR), "little")


def to_plane(bits: int, size: int) -> bytes:
    """The packed plane of a set of seats, `size` bytes long: the inverse of `to_bits`."""
    return bits.to_bytes(size, "little").translate(_MIRROR)


def mask_of(seats: Iterable[int]) -> int:
    """The set of these seats."""
    bits = 0
    for seat in seats:
        bits |= 1 << seat
    return bits


def mask_of_many(seats: Iterable[int], seat_count: int) -> int:
    """The set of these seats of a layout; `mask_of` for as many as there are seats."""
    plane = bytearray((seat_count + 7) // 8)
    for seat in seats:
        plane[seat >> 3] |= 1 << (seat & 7)
    return int.from_bytes(plane, "little")


def seats_in(bits: int) -> list[int]:
    """The seats of a set in ascending order; empty bytes are skipped at the speed of a regular expression."""
    plane = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
    return [
        found.start() * 8 + bit for found in _NOT_EMPTY.finditer(plane) for bit in _BITS_OF_BYTE[found[0][0]]
    ]


def range_mask(start: int, stop: int) -> int:
    """The seats ``start`` … ``stop - 1``."""
    return (1 << stop) - (1 << start)


def window(plane: bytes, start: int, length: int) -> int:
    """Seats ``start`` … ``start + length - 1`` of a packed plane, moved down to bit 0.

    Costs the same in a cinema and in a stadium: only the bytes that hold the window are read.
    """
    piece = plane[start >> 3 : (start + length + 7) >> 3].translate(_MIRROR)
    return (int.from_bytes(piece, "little") >> (start & 7)) & ((1 << length) - 1)


def stretches(bits: int) -> list[tuple[int, int]]:
    """The maximal runs of ones as (start, stop), lowest first. For sets of one segment."""
    found: list[tuple[int, int]] = []
    while bits:
        start = (bits & -bits).bit_length() - 1
        length = (~(bits >> start) & ((bits >> start) + 1)).bit_length() - 1
        found.append((start, start + length))
        bits &= -1 << (start + length)
    return found


def scramble(number: int) -> int:
    """A well-mixed 64-bit number: consecutive seeds must not lead to consecutive seats."""
    word = (number + 0x9E3779B97F4A7C15) & _WORD
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _WORD
    return word ^ word >> 31
