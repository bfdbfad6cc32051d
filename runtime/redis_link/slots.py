"""Which node of a cluster a key belongs to: hash slots, the map of them, and what redirections say.

`binascii.crc_hqx` is the CRC the cluster specification asks for (XMODEM), in C.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from runtime.redis_link.address import Place

SLOTS: Final = 16_384


def slot_of(key: str) -> int:
    """The hash slot of a key: of what stands between its first braces, if anything does."""
    start = key.find("{")
    if start >= 0:
        end = key.find("}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key.encode(), 0) % SLOTS


class Stretch(NamedTuple):
    """Slots `first` to `last`, both included, and the primary that serves them."""

    first: int
    last: int
    place: Place


def stretches_in(reply: Sequence[Sequence[Any]]) -> list[Stretch]:
    """The reply of `CLUSTER SLOTS`. A node that does not know its own name is the one that was asked."""
    found = []
    for first, last, primary, *_ in reply:
        host = (primary[0] or b"").decode()
        found.append(Stretch(first, last, Place("" if host == "?" else host, primary[1])))
    return found


class Redirection(NamedTuple):
    """`MOVED`: the slot lives there from now on. `ASK`: this command, this once."""

    for_good: bool
    slot: int
    place: Place


def redirection_in(error: str) -> Redirection | None:
    """What `MOVED 3999 127.0.0.1:6381` says; None for any other error."""
    word, _, rest = error.partition(" ")
    if word not in ("MOVED", "ASK"):
        return None
    slot, _, address = rest.partition(" ")
    host, _, port = address.partition(" ")[0].rpartition(":")
    return Redirection(word == "MOVED", int(slot), Place("" if host == "?" else host, int(port)))
