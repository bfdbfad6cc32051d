"""The product's scripts in a peer's hands: loaded, showtimes opened, holds called and counted.

Peers use database 1 of the very server the product uses, under an epoch of their own, so both sides have
the same engine with the same durability and the same data. The orphan rule is off for peers: its
geometry is the product's work. Arguments are packed as the script's header wants them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from kernel.ids import new_showtime_id
from reservation import keys_of
from runtime.lua import load_scripts

EPOCH: Final = 1
HOLD_TTL_MS: Final = 480_000
SEATS_PER_BUYER: Final = 1_000
_DATABASE: Final = 1


@dataclass(frozen=True, slots=True)
class HoldScript:
    """How to call `hold_seats`."""

    sha: str

    @classmethod
    def known(cls) -> HoldScript:
        return cls(load_scripts()["hold_seats"].sha(EPOCH))

    def call(
        self, showtime_id: str, hold_id: str, buyer_id: str, seats: Sequence[int]
    ) -> tuple[tuple[str, ...], tuple[str | int | bytes, ...]]:
        """Keys and arguments of one hold."""
        keys = keys_of(showtime_id)
        packed = struct.pack(f">{len(seats)}H", *seats)
        return (
            (keys.showtime, keys.taken, keys.expiry),
            (hold_id, buyer_id, HOLD_TTL_MS, "", packed, "off", b"", b"", "buyer", ""),
        )


def peers_url(redis_url: str) -> str:
    """The peers' database on a server."""
    address, _, number = redis_url.rpartition("/")
    assert number.isdigit()
    return f"{address}/{_DATABASE}"


async def open_showtimes(redis_url: str, count: int, seats: int) -> list[str]:
    """So many showtimes with so many free seats, for peers that use the scripts."""
    script = load_scripts()["open_showtime"]
    ids = [new_showtime_id() for _ in range(count)]
    async with aclosing(Redis.from_url(redis_url, protocol=3)) as redis:
        for one in load_scripts().values():
            await redis.script_load(one.text(EPOCH))
        for showtime_id in ids:
            keys = keys_of(showtime_id)
            await redis.set(keys.epoch, EPOCH)
            names = (keys.showtime, keys.taken, keys.sold, keys.showtimes, keys.epoch)
            terms = (showtime_id, seats, 0, 0, SEATS_PER_BUYER, "open")
            status, *_ = await redis.evalsha(script.sha(EPOCH), len(names), *names, *terms)
            assert status == b"opened", status
    return ids


async def seats_taken(redis_url: str, showtime_ids: Sequence[str]) -> int:
    """How many seats of these showtimes are taken."""
    async with aclosing(Redis.from_url(redis_url, protocol=3)) as redis:
        return sum([await redis.bitcount(keys_of(one).taken) for one in showtime_ids])
