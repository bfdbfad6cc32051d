"""What Redis knows of one showtime, at one instant.

Hash, planes, expiries and the server's clock are read in one transaction, so the picture can be held
against itself without mercy: the scripts leave all of it in agreement after every step. The biggest hall
costs the server some ten milliseconds, once per audit.

The record's layout is that of `lua/shared/read_record.lua`, spelt a second time on purpose: an audit that
decoded with the code it audits would believe its mistakes.

What no script of ours ever wrote (a record cut short, a counter that is no number, a list in a plane's place)
is a finding, and an ordinary one: it is said of its showtime (`Unreadable`), and the others are looked at.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from kernel.ids import HOLD_RANDOM_LENGTH, PARTITIONS
from reservation import epoch_key, hold_prefix, keys_of, showtimes_key
from runtime.redis_link import ResponseError, ScriptRunner, Server, server_at

_SEATS_FROM: Final = 14
#: Pictures taken at once: enough to hide the way to the server, few enough to leave it to the sale.
_AT_ONCE: Final = 8
_STATES: Final = "hcsx"

T = TypeVar("T")


class HoldRecord(NamedTuple):
    """A hold: `state` is h held, c claimed, s sold, x expired."""

    state: str
    expires_at_ms: int
    seats: tuple[int, ...]
    buyer: str

    @property
    def is_live(self) -> bool:
        """Whether it keeps its seats."""
        return self.state in "hcs"


@dataclass(frozen=True)
class Picture:
    """One showtime at one instant of Redis's own clock."""

    terms: Mapping[str, str]
    records: Mapping[str, HoldRecord]
    counters: Mapping[str, int]
    due_ms: Mapping[str, int]
    taken: bytes
    sold: bytes
    blocked: bytes
    now_ms: int

    @property
    def epoch(self) -> str | None:
        return self.terms.get("epoch")


class Unreadable(NamedTuple):
    """A showtime with something no script wrote; `epoch` is its map's, None where not even that is read."""

    epoch: str | None
    why: str


def read_record(packed: bytes) -> HoldRecord:
    """One packed record. Raises ValueError, IndexError or struct.error for what is none."""
    count = packed[13]
    if chr(packed[0]) not in _STATES:
        raise ValueError(f"no hold is {chr(packed[0])!a}")
    return HoldRecord(
        state=chr(packed[0]),
        expires_at_ms=int.from_bytes(packed[1:7]),
        seats=struct.unpack_from(f">{count}H", packed, _SEATS_FROM),
        buyer=packed[_SEATS_FROM + 2 * count :].decode(),
    )


async def pictures_of(server: ScriptRunner, showtime_ids: Sequence[str]) -> dict[str, Picture | Unreadable]:
    """A picture of each showtime, each of an instant of its own. Raises SeatsUnavailable."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def take(showtime_id: str) -> Picture | Unreadable:
        async with turn:
            return await picture_of(server, showtime_id)

    pictures = await asyncio.gather(*(take(showtime_id) for showtime_id in showtime_ids))
    return dict(zip(showtime_ids, pictures, strict=True))


async def picture_of(server: ScriptRunner, showtime_id: str) -> Picture | Unreadable:
    """Everything Redis knows of a showtime. Raises SeatsUnavailable."""
    keys = keys_of(showtime_id)
    *replies, (seconds, microseconds) = await server.look(
        keys.showtime,
        ("HGETALL", keys.showtime),
        ("ZRANGE", keys.expiry, 0, -1, "WITHSCORES"),
        ("GET", keys.taken),
        ("GET", keys.sold),
        ("GET", keys.blocked),
        ("TIME",),
    )
    names = ("the hash", "the list of ends", "the plane taken", "the plane sold", "the plane blocked")
    faults = [f"{name}: {reply}" for name, reply in zip(names, replies, strict=True) if _is_refused(reply)]
    fields, due, taken, sold, blocked = (None if _is_refused(reply) else reply for reply in replies)
    prefix = hold_prefix(showtime_id)
    terms: dict[str, str] = {}
    records: dict[str, HoldRecord] = {}
    counters: dict[str, int] = {}
    due_ms: dict[str, int] = {}

    def keep(into: dict[str, T], what: str, name: bytes, read: Callable[[Any], T], value: object) -> None:
        """Read one thing; what cannot be read hides no other."""
        try:
            into[name.decode()] = read(value)
        except (IndexError, struct.error, ValueError, OverflowError) as error:
            faults.append(f"{what} {ascii(name)[2:-1]}: {error}")

    for name, value in (fields or {}).items():
        if name[3:4] == b"_":  # an id: three letters and an underscore; no word of the terms looks so
            keep(counters, "the counter of", name, int, value)
        elif len(name) == HOLD_RANDOM_LENGTH:  # nor is any as long as the tail of a hold's id
            keep(records, "the record of", name, read_record, value)
        else:
            keep(terms, "the word", name, bytes.decode, value)
    for tail, at_ms in due or ():
        keep(due_ms, "the end of", tail, int, at_ms)
    if faults:
        return Unreadable(terms.get("epoch"), min(faults))
    return Picture(
        terms=terms,
        records={prefix + tail: record for tail, record in records.items()},
        counters=counters,
        due_ms={prefix + tail: at_ms for tail, at_ms in due_ms.items()},
        taken=taken or b"",
        sold=sold or b"",
        blocked=blocked or bytes(len(taken or b"")),  # a hall that keeps no seat off sale has no such plane
        now_ms=int(seconds) * 1000 + int(microseconds) // 1000,
    )


def _is_refused(reply: Any) -> bool:
    """Whether there is something else at this key than is asked for."""
    return isinstance(reply, ResponseError)


async def partitions_of(server: ScriptRunner) -> tuple[list[str | None], set[str]]:
    """The epoch each partition's data is of, and every showtime the reaper would find.

    What is no epoch is said as it stands; a list that is none has nobody. Raises SeatsUnavailable.
    """
    replies = await server.commands(
        *(
            (verb, key_of(partition))
            for partition in range(PARTITIONS)
            for verb, key_of in (("GET", epoch_key), ("SMEMBERS", showtimes_key))
        )
    )
    epochs = [None if epoch is None else _text(epoch) for epoch in replies[::2]]
    lists = [members for members in replies[1::2] if not _is_refused(members)]
    return epochs, {_text(member) for members in lists for member in members}


def _text(reply: Any) -> str:
    return reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)


async def servers_of(server: ScriptRunner) -> list[Server]:
    """Who serves each partition. Raises SeatsUnavailable, Overloaded."""
    links = [server.nodes.link_of(epoch_key(partition)) for partition in range(PARTITIONS)]
    told = {link: await server_at(link) for link in dict.fromkeys(links)}
    return [told[link] for link in links]
