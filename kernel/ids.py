"""Ids people may see: a prefix that says what it is, then lower-case base 32.

Two shapes. Most ids are a millisecond instant and 80 random bits (26 characters, sortable, kind to
indexes). Showtimes are short (10 characters, 50 random bits, uniqueness held by PostgreSQL), because
a hold id begins with its showtime: the partition and every key of a hold follow from its id, so no
look-up table is needed between `GET /holds/{id}` and the right Redis slot. The order of a hold has
the same tail: one order per hold is then a fact of naming, not a check.

The alphabet is Crockford's (no i, l, o, u).
"""

from __future__ import annotations

import hashlib
import secrets
import time
import zlib
from functools import lru_cache
from typing import Final

ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
PARTITIONS: Final = 64  # fixed: changing it moves every key (docs/adr/0002)

SHOWTIME_TAIL_LENGTH: Final = 10
HOLD_RANDOM_LENGTH: Final = 16
_LONG_LENGTH: Final = 26
_LENGTH_MAX: Final = 32  # of any of them, prefix and all: what is longer is not worth remembering


#: Two digits at a time: an id is written with every hold.
_PAIRS: Final = tuple(high + low for high in ALPHABET for low in ALPHABET)


def _base32(value: int, length: int) -> str:
    """The last `length` digits (an even number) of a value."""
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(5 * length - 10, -1, -10)])


def _base32_of_80_bits(value: int) -> str:
    """Sixteen digits, written out: a loop would cost as much as the digest."""
    p = _PAIRS
    return (
        f"{p[value >> 70]}{p[value >> 60 & 1023]}{p[value >> 50 & 1023]}{p[value >> 40 & 1023]}"
        f"{p[value >> 30 & 1023]}{p[value >> 20 & 1023]}{p[value >> 10 & 1023]}{p[value & 1023]}"
    )


def new_id(prefix: str) -> str:
    """A fresh id such as ``pay_01jd…``: 48 bits of milliseconds, then 80 random bits."""
    value = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    return f"{prefix}_{_base32(value, _LONG_LENGTH)}"


def new_showtime_id() -> str:
    """A fresh showtime id, ``sho_`` and ten characters."""
    return f"sho_{_base32(secrets.randbits(50), SHOWTIME_TAIL_LENGTH)}"


def hold_id_for(showtime_id: str, account_id: str, idempotency_key: str) -> str:
    """The hold id of one request, the same however often it is repeated.

    Derived, not drawn: a repeat after a lost reply meets its own hold inside the Lua script.
    """
    digest = hashlib.blake2b(f"{account_id}\n{idempotency_key}".encode(), digest_size=10).digest()
    return f"hld_{showtime_id[4:]}{_base32_of_80_bits(int.from_bytes(digest))}"


def new_hold_id(showtime_id: str) -> str:
    """A hold id for a caller without an idempotency key (counter, simulator, re-seating)."""
    return f"hld_{showtime_id[4:]}{_base32(secrets.randbits(80), HOLD_RANDOM_LENGTH)}"


def showtime_of(hold_or_order_id: str) -> str:
    """The showtime a hold or order id belongs to."""
    return f"sho_{hold_or_order_id[4 : 4 + SHOWTIME_TAIL_LENGTH]}"


def order_id_of(hold_id: str) -> str:
    """The one order a hold can become."""
    return f"ord_{hold_id[4:]}"


def hold_id_of(order_id: str) -> str:
    """The hold an order came from."""
    return f"hld_{order_id[4:]}"


def partition_of(any_id: str) -> int:
    """The partition (0 to 63) a showtime lives in, for good; of an account, the one its requests do."""
    return zlib.crc32(any_id.encode()) % PARTITIONS


def is_id(text: str, prefix: str) -> bool:
    """Whether ``text`` has the shape of an id of this kind."""
    return len(text) <= _LENGTH_MAX and _has_shape(text, prefix)


@lru_cache(maxsize=16_384)  # in a rush everybody names the same showtime
def _has_shape(text: str, prefix: str) -> bool:
    length = {
        "sho": SHOWTIME_TAIL_LENGTH,
        "hld": SHOWTIME_TAIL_LENGTH + HOLD_RANDOM_LENGTH,
        "ord": SHOWTIME_TAIL_LENGTH + HOLD_RANDOM_LENGTH,
    }.get(prefix, _LONG_LENGTH)
    head, separator, tail = text.partition("_")
    return head == prefix and separator == "_" and len(tail) == length and not tail.strip(ALPHABET)
