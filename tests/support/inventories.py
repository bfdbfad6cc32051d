"""The seat engine on a real server, for tests: scripts asked raw, and an audit of what they leave behind.

`runner` is a fixture for the conftest of whoever needs it. Every test works on showtimes of its own, so
nothing has to be cleared and any number of tests may share a server.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

import pytest_asyncio
from redis.asyncio import Redis

from kernel.ids import HOLD_RANDOM_LENGTH, PARTITIONS, new_hold_id, new_showtime_id
from reservation.keys import epoch_key, hold_prefix, keys_of
from reservation.packing import pack_numbers, plane_of, seats_in, unpack_numbers
from reservation.ports import Phase, Possession, Terms
from reservation.restore_redis import restore
from runtime.lua import Script, load_scripts
from runtime.redis_link import Argument, Nodes, ScriptRunner, connect
from tests.support.runner import WatchedRunner

EPOCH: Final = 41
NOW_MS: Final = 1_800_000_000_000
TTL_MS: Final = 60_000
TOMBSTONE_MS: Final = 600_000

_STATES: Final[dict[str, Literal["claimed", "sold"]]] = {"c": "claimed", "s": "sold"}
_DECLARED_KEY: Final = re.compile(r"(\d+) (\w+) +(hash|string|zset|stream|set) ")


@pytest_asyncio.fixture(loop_scope="session")
async def runner(valkey_url: str) -> AsyncIterator[WatchedRunner]:
    """Every script, loaded under `EPOCH`, and data of that epoch."""
    redis = connect(valkey_url)
    runner = WatchedRunner(redis, Nodes(valkey_url))
    await open_gate(runner)
    yield runner
    await runner.nodes.aclose()
    await redis.aclose()


async def open_gate(runner: WatchedRunner) -> None:
    """What a rebuild leaves behind on a server without showtimes."""
    runner.adopt_epochs([EPOCH] * PARTITIONS)
    await teach(runner)
    written = (runner.command("SET", epoch_key(partition), EPOCH) for partition in range(PARTITIONS))
    await asyncio.gather(*written)


async def teach(runner: ScriptRunner) -> None:
    """Have every primary know the scripts of the runner's epochs."""
    for link in await runner.nodes.primaries():
        await runner.load(link, {*runner.epochs})


async def make_forget(runner: ScriptRunner) -> None:
    """Have every primary forget every script, as a restart does."""
    for link in await runner.nodes.primaries():
        await link.command("SCRIPT", "FLUSH")


def declared_keys(script: Script) -> list[tuple[str, str]]:
    """Name and type of each key in a script's header, in order."""
    section = re.split(r"^  (?:ARGV|RETURNS)  ", script.path.read_text(), maxsplit=1, flags=re.MULTILINE)[0]
    return [(name, kind) for _, name, kind in _DECLARED_KEY.findall(section.split("  KEYS  ")[1])]


def terms_of(
    showtime_id: str,
    *,
    seats: int = 40,
    opens_at_ms: int = 0,
    closes_at_ms: int = 0,
    most: int = 10,
    phase: Phase = "open",
) -> Terms:
    """Terms of a sale that is open to everybody unless told otherwise."""
    return Terms(showtime_id, seats, opens_at_ms, closes_at_ms, most, phase)


@dataclass(frozen=True, slots=True)
class Record:
    """A hold's record as it lies in Redis, read without the code under test."""

    state: str
    expires_at_ms: int
    created_at_ms: int
    seats: tuple[int, ...]
    buyer: str


def read_record(packed: bytes) -> Record:
    """The layout of `lua/shared/read_record.lua`, spelt a second time."""
    count = packed[13]
    return Record(
        state=chr(packed[0]),
        expires_at_ms=int.from_bytes(packed[1:7]),
        created_at_ms=int.from_bytes(packed[7:13]),
        seats=struct.unpack_from(f">{count}H", packed, 14),
        buyer=packed[14 + 2 * count :].decode(),
    )


def tail_of(hold_id: str) -> str:
    """What a hold is called in the keys of its showtime."""
    return hold_id[-HOLD_RANDOM_LENGTH:]


def _is_tail(name: str) -> bool:
    return len(name) == HOLD_RANDOM_LENGTH and "_" not in name


@dataclass(frozen=True)
class Picture:
    """Everything Redis knows of one showtime, at one instant."""

    fields: dict[str, str]
    records: dict[str, Record]
    counters: dict[str, int]
    due: dict[str, int]
    taken: bytes | None
    sold: bytes | None
    blocked: bytes

    @property
    def version(self) -> int:
        return int(self.fields["version"])

    def problems(self, *, kept: Iterable[int] = ()) -> list[str]:
        """Every way in which planes, records, counters and expiries contradict each other.

        `kept` are seats a return left sold because PostgreSQL knows an owner we do not.
        """
        assert self.taken is not None
        assert self.sold is not None
        seat_count = int(self.fields["seat_count"])
        live = [record for record in self.records.values() if record.state in "hcs"]
        everyone = [seat for record in live for seat in record.seats]
        owned = [seat for record in live if record.state in "cs" for seat in record.seats]
        counted = Counter[str]()
        for record in live:
            counted[record.buyer] += len(record.seats)
        blocked = seats_in(self.blocked)
        due = {
            hold_id: record.expires_at_ms for hold_id, record in self.records.items() if record.state == "h"
        }
        buried = {hold_id for hold_id, record in self.records.items() if record.state == "x"}
        found = {
            "planes differ in length": len({len(p) for p in (self.taken, self.sold, self.blocked)}) > 1
            or len(self.taken) != (seat_count + 7) // 8,
            "sold is not within taken": bool(set(seats_in(self.sold)) - set(seats_in(self.taken))),
            "taken is not held, owned and blocked": self.taken
            != plane_of([*everyone, *blocked, *kept], seat_count),
            "sold is not what claims and sales say": self.sold != plane_of([*owned, *kept], seat_count),
            "a seat is in two live records": len(set(everyone)) < len(everyone),
            "a blocked seat has an owner": bool(set(blocked) & set(everyone)),
            "a counter is negative": any(count < 0 for count in self.counters.values()),
            "counters differ from the records": +Counter(self.counters) != +counted,
            "a live hold has another deadline in the set": due
            != {hold_id: at for hold_id, at in self.due.items() if hold_id not in buried},
            "a tombstone holds seats": any(self.records[hold_id].seats for hold_id in buried),
            "a tombstone has no burial date": not buried <= self.due.keys(),
        }
        return [problem for problem, is_so in found.items() if is_so]


async def picture_of(redis: Redis, showtime_id: str) -> Picture:
    """Look at everything in one transaction."""
    keys = keys_of(showtime_id)
    pipeline = redis.pipeline(transaction=True)
    pipeline.hgetall(keys.showtime)
    pipeline.zrange(keys.expiry, 0, -1, withscores=True)
    for key in (keys.taken, keys.sold, keys.blocked):
        pipeline.get(key)
    fields, due, taken, sold, blocked = await pipeline.execute()
    named = {name.decode(): value for name, value in fields.items()}
    prefix = hold_prefix(showtime_id)
    return Picture(
        fields={
            name: value.decode()
            for name, value in named.items()
            if not (_is_tail(name) or name.startswith("acc_"))
        },
        records={prefix + name: read_record(value) for name, value in named.items() if _is_tail(name)},
        counters={name: int(value) for name, value in named.items() if name.startswith("acc_")},
        due={prefix + tail.decode(): int(at) for tail, at in due},
        taken=taken,
        sold=sold,
        blocked=blocked or bytes(len(taken or b"")),  # no seat is blocked while there is no such plane
    )


class Stage:
    """A showtime of its own on a real server, asked script by script."""

    def __init__(self, runner: WatchedRunner, *, seats: int = 40) -> None:
        self.runner = runner
        self.redis = runner.redis
        self.scripts = load_scripts()
        self.seats = seats
        self.showtime_id = new_showtime_id()
        self.keys = keys_of(self.showtime_id)
        self.now_ms: Any = NOW_MS  # '' = the server's own clock
        self.latest_ms: Any = ""  # what is asked may take effect whenever it comes to it
        self._request = f"test:request:{secrets.token_hex(8)}"
        self._seats_of: dict[str, bytes] = {}
        self._numbers = itertools.count(1)

    def new_hold(self) -> str:
        """A hold id of this showtime."""
        return new_hold_id(self.showtime_id)

    def new_buyer(self) -> str:
        """A buyer nobody has seen."""
        return f"acc_new_{next(self._numbers)}"

    def key(self, name: str) -> str:
        """The key a header means by a name."""
        if name == "request":
            return self._request
        return str(getattr(self.keys, name))

    async def ask(self, verb: str, *arguments: Argument, epoch: int = EPOCH) -> list[Any]:
        """The raw answer of a verb: its status, then its payload."""
        script = self.scripts[verb]
        keys = [self.key(name) for name, _ in declared_keys(script)]
        reply: Any = await self.redis.evalsha(script.sha(epoch), len(keys), *keys, *arguments)
        return [reply[0].decode(), *reply[1:]]

    async def picture(self) -> Picture:
        """Everything Redis knows of this showtime."""
        return await picture_of(self.redis, self.showtime_id)

    async def open(self, *, epoch: int = EPOCH, **changes: Any) -> list[Any]:
        """Put the showtime on sale."""
        terms = terms_of(self.showtime_id, **{"seats": self.seats, **changes})
        return await self.ask("open_showtime", *_terms(terms), epoch=epoch)

    async def hold(
        self,
        hold_id: str,
        buyer: str,
        seats: Iterable[int],
        *,
        rule: str = "off",
        stretches: Iterable[tuple[int, int, int]] = (),
        area: Iterable[tuple[int, int, int]] = (),
        guards: str = "buyer",
        ttl_ms: int = TTL_MS,
    ) -> list[Any]:
        """Hold seats at the stage's own instant."""
        packed = pack_numbers(list(seats))
        reply = await self.ask(
            "hold_seats",
            hold_id,
            buyer,
            ttl_ms,
            self.now_ms,
            packed,
            rule,
            pack_numbers(list(itertools.chain.from_iterable(stretches))),
            pack_numbers(list(itertools.chain.from_iterable(area))),
            guards,
            self.latest_ms,
        )
        if reply[0] == "held":
            self._seats_of[hold_id] = packed
        return reply

    async def held(self, seats: Iterable[int], *, ttl_ms: int = TTL_MS) -> tuple[str, str]:
        """A hold of a buyer of its own: hold id and buyer id."""
        hold_id, buyer = self.new_hold(), self.new_buyer()
        reply = await self.hold(hold_id, buyer, seats, ttl_ms=ttl_ms)
        assert reply[0] == "held"
        return hold_id, buyer

    async def claimed(self, seats: Iterable[int]) -> tuple[str, str]:
        """A claim of a buyer of its own."""
        hold_id, buyer = await self.held(seats)
        assert (await self.claim(hold_id, buyer))[0] == "claimed"
        return hold_id, buyer

    async def sold(self, seats: Iterable[int]) -> tuple[str, str]:
        """A sale to a buyer of its own."""
        hold_id, buyer = await self.held(seats)
        assert (await self.confirm(hold_id, buyer))[0] == "confirmed"
        return hold_id, buyer

    async def claim(
        self,
        hold_id: str,
        buyer: str,
        *,
        seats: Iterable[int] | None = None,
        pay_by_ms: int = NOW_MS + 900_000,
    ) -> list[Any]:
        packed = self._meant(hold_id, seats)
        return await self.ask(
            "claim_hold", hold_id, buyer, pay_by_ms, self.now_ms, b"the claim", packed, self.latest_ms
        )

    async def confirm(self, hold_id: str, buyer: str, *, seats: Iterable[int] | None = None) -> list[Any]:
        return await self.ask("confirm_hold", hold_id, buyer, b"the sale", "", self._meant(hold_id, seats))

    def _meant(self, hold_id: str, seats: Iterable[int] | None) -> bytes:
        """Those the hold was granted here, unless told otherwise."""
        return self._seats_of.get(hold_id, b"") if seats is None else pack_numbers(list(seats))

    async def release(self, hold_id: str, buyer: str) -> list[Any]:
        return await self.ask("release_hold", hold_id, buyer, self.now_ms)

    async def extend(
        self, hold_id: str, buyer: str, *, ttl_ms: int = TTL_MS, lifetime_ms_max: int = 10 * TTL_MS
    ) -> list[Any]:
        return await self.ask(
            "extend_hold", hold_id, buyer, ttl_ms, lifetime_ms_max, self.now_ms, self.latest_ms
        )

    async def read(self, hold_id: str, buyer: str) -> list[Any]:
        return await self.ask("read_hold", hold_id, buyer, self.now_ms)

    async def give_back(self, hold_id: str, *, states: str = "csx", keep: Iterable[int] = ()) -> list[Any]:
        return await self.ask("return_seats", hold_id, pack_numbers(list(keep)), states, self.now_ms)

    async def block(self, seats: Iterable[int]) -> list[Any]:
        return await self.ask("block_seats", pack_numbers(list(seats)))

    async def read_blocked(self) -> list[Any]:
        return await self.ask("read_blocked")

    async def unblock(self, seats: Iterable[int]) -> list[Any]:
        return await self.ask("unblock_seats", pack_numbers(list(seats)))

    async def sweep(self, holds_max: int = 100) -> list[Any]:
        return await self.ask("sweep_expired", self.now_ms, holds_max)

    async def read_map(
        self, known_version: Argument = "", *, holds_from_ms: Argument = "", holds_within_ms: Argument = ""
    ) -> list[Any]:
        return await self.ask("read_map", known_version, self.now_ms, holds_from_ms, holds_within_ms)

    async def restore(
        self,
        *,
        blocked: Iterable[int] = (),
        owned: Iterable[tuple[str, str, str, Iterable[int]]] = (),
        losses_for_ms: int = 0,
        epoch: int = EPOCH,
        **changes: Any,
    ) -> tuple[int, int]:
        """Build the map anew, step by step; `owned` is hold id, state letter, buyer, seats.

        The answer is holds kept and dropped.
        """
        runner = ScriptRunner(self.runner.nodes, self.scripts)
        runner.adopt_epochs([epoch] * PARTITIONS)
        return await restore(
            runner,
            terms_of(self.showtime_id, **{"seats": self.seats, **changes}),
            blocked=list(blocked),
            possessions=[
                Possession(self.showtime_id, hold_id, buyer, _STATES[state], NOW_MS, tuple(seats))
                for hold_id, state, buyer, seats in owned
            ],
            losses_for_ms=losses_for_ms,
            now_ms=None if self.now_ms == "" else self.now_ms,
        )

    async def begin_restore(self, *, epoch: int = EPOCH) -> list[Any]:
        return await self.ask("begin_restore", self.now_ms, epoch=epoch)

    async def add_records(
        self,
        names: Mapping[str, Argument] = MappingProxyType({}),
        deadlines: Mapping[str, int] = MappingProxyType({}),
        *,
        epoch: int = EPOCH,
    ) -> list[Any]:
        """A piece: values by name, instants by tail."""
        named = [word for pair in names.items() for word in pair]
        due = [word for tail, at_ms in deadlines.items() for word in (at_ms, tail)]
        return await self.ask("add_records", len(named), *named, *due, epoch=epoch)

    async def put_in_place(
        self,
        *,
        version: int,
        names: int,
        deadlines: int,
        held: Iterable[int] = (),
        blocked: Iterable[int] = (),
        epoch: int = EPOCH,
    ) -> list[Any]:
        """The last step of a rebuild, of a map where nothing is sold."""
        off_sale = plane_of(blocked, self.seats)
        planes = (plane_of([*held, *blocked], self.seats), bytes(len(off_sale)), off_sale)
        terms = _terms(terms_of(self.showtime_id, seats=self.seats))
        return await self.ask("restore_showtime", *terms, 0, version, *planes, names, deadlines, epoch=epoch)

    async def log(self) -> list[dict[bytes, bytes]]:
        """Entries of the partition's log, this showtime's and its neighbours'."""
        entries: Any = await self.redis.xrange(self.keys.log)
        return [fields for _, fields in entries]

    async def taken(self) -> set[int]:
        """Seats that cannot be held now."""
        return set(seats_in((await self.picture()).taken or b""))


def _terms(terms: Terms) -> tuple[Argument, ...]:
    return (
        terms.showtime_id,
        terms.seat_count,
        terms.opens_at_ms,
        terms.closes_at_ms,
        terms.buyer_seats_max,
        terms.phase,
    )


def numbers_in(packed: bytes) -> list[int]:
    """Packed numbers of an answer as a list."""
    return list(unpack_numbers(packed))
