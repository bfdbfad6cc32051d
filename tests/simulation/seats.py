"""The seat server: the twin of the scripts behind a fence, with the order log beside it.

Seats are `MemoryInventory`, which sits the same examination as the scripts. Around it stands what the twin
does not know: scripts that are loaded or not, data that carries an epoch or not, and streams with a
consumer group. All of it is one server's memory, so it is lost together, and comes back together as it was
some time ago.

`Redis` is as much of the plain client as the order log, the rebuild and the reaper use; `Runner`, `Nodes`
and `Inventory` are what stands on the link.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import ResponseError

from checkout.log_redis import log_position
from kernel.errors import InventoryRebuilding, SeatsUnavailable
from kernel.ids import partition_of, showtime_of
from reservation import epoch_key, log_key, showtimes_key
from reservation.inventory_memory import MemoryInventory
from reservation.ports import Swept, Terms
from tests.simulation.world import Lost, Process, Wire, World

#: Partitions of this small world; every showtime of it lies in one of them.
PARTITIONS: Final = 2
LINK_PATIENCE_S: Final = 2.0
COLD_PATIENCE_S: Final = 5.0

LogId = tuple[int, int]

_PHASES: Final = {
    "hold": "hold",
    "extend": "hold",
    "release": "hold",
    "claim": "claim",
    "confirm": "sale",
    "return_seats": "free",
    "sweep": "expire",
    "restore": "rebuild",
    "open_showtime": "rebuild",
}


@dataclass
class Group:
    """Who was given what and has not acknowledged it."""

    last: LogId
    pending: dict[LogId, tuple[str, int]] = field(default_factory=dict)


@dataclass
class Stream:
    """One partition's log."""

    entries: dict[LogId, bytes] = field(default_factory=dict)
    last: LogId = (0, 0)
    group: Group | None = None
    added: int = 0


@dataclass
class Memory:
    """Everything a server has that is lost with it."""

    showtimes: dict[str, Any] = field(default_factory=dict)
    epoch_of: dict[str, int] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)
    listed: dict[int, dict[str, None]] = field(default_factory=dict)
    streams: dict[int, Stream] = field(default_factory=dict)


class SeatServer:
    """One server. `on_grant` hears of every fresh hold, at the instant it is granted."""

    def __init__(self, world: World, inventory: type[MemoryInventory] = MemoryInventory) -> None:
        self.world = world
        self.memory = Memory()
        self.scripts: set[int] = set()
        self.inventory = inventory(lambda: world.now_ms)
        self.is_away = False
        self.has_lost = False
        self.checks_epoch = True
        self.on_grant: Callable[[str, Sequence[int]], None] = lambda showtime_id, seats: None
        self.listeners: dict[Callable[[bytes], None], Process] = {}
        self._readers: list[asyncio.Event] = []
        self._adopt(self.memory)

    def _adopt(self, memory: Memory) -> None:
        self.memory = memory
        self.inventory._showtimes = memory.showtimes

    def stream(self, partition: int) -> Stream:
        """A partition's log, made if it is not there."""
        return self.memory.streams.setdefault(partition, Stream())

    def group(self, partition: int) -> tuple[Stream, Group]:
        """A log and its group. Raises ResponseError."""
        stream = self.memory.streams.get(partition)
        if stream is None or stream.group is None:
            raise ResponseError("NOGROUP No such key or consumer group")
        return stream, stream.group

    # What it loses

    def snapshot(self) -> Memory:
        """What would come back if it went down now."""
        return deepcopy(self.memory)

    def restart(self, memory: Memory) -> None:
        """Down and up again, with the data of some earlier instant; scripts are never kept."""
        self.has_lost = True
        self.scripts.clear()
        self._adopt(memory)

    def flush_all(self) -> None:
        """All data is gone, and the scripts are not."""
        self.has_lost = True
        self._adopt(Memory())

    # Scripts

    def run(self, verb: str, epoch: int, showtime_id: str, words: Any, named: Any) -> Any:
        """One script. Raises Refused or InventoryRebuilding."""
        memory = self.memory
        if epoch not in self.scripts:
            raise InventoryRebuilding(retry_after_s=1.0)
        known = memory.epoch_of.get(showtime_id)
        if verb == "open_showtime" and known is None:
            known = memory.epochs.get(partition_of(showtime_id))
        is_known = known == epoch if verb != "restore" else known is None or abs(known) <= epoch
        if not is_known and self.checks_epoch:
            raise InventoryRebuilding(retry_after_s=1.0)
        answer = _at_once(getattr(self.inventory, verb)(*words, **named))
        if verb in {"open_showtime", "restore"}:
            memory.epoch_of[showtime_id] = epoch
            memory.listed.setdefault(partition_of(showtime_id), {})[showtime_id] = None
        if verb == "hold" and answer.fresh:
            self.on_grant(showtime_id, words[3])
        for partition, _, entry in self.inventory.log:
            self.append(partition, entry)
        self.inventory.log.clear()
        return answer

    def read_epoch(self, epoch: int, partition: int) -> None:
        if epoch not in self.scripts or (self.memory.epochs.get(partition) != epoch and self.checks_epoch):
            raise InventoryRebuilding(retry_after_s=1.0)

    def open_partition(self, epoch: int, partition: int) -> None:
        if epoch not in self.scripts:
            raise InventoryRebuilding(retry_after_s=1.0)
        self.memory.epochs[partition] = epoch

    # The log

    def append(self, partition: int, data: bytes) -> None:
        """XADD."""
        stream = self.stream(partition)
        now_ms = self.world.now_ms
        stream.last = (now_ms, 0) if now_ms > stream.last[0] else (stream.last[0], stream.last[1] + 1)
        stream.entries[stream.last] = data
        stream.added += 1
        readers, self._readers = self._readers, []
        for reader in readers:
            reader.set()

    async def news(
        self, process: Process, wanted: Mapping[int, str], consumer: str, count: int, block_ms: int | None
    ) -> dict[bytes, Any] | None:
        """XREADGROUP; blocked, it waits for the next entry of any log, unless its reader is gone."""
        found = self._give_out(wanted, consumer, count)
        if found or block_ms is None or ">" not in wanted.values():
            return found or None
        came = asyncio.Event()
        self._readers.append(came)
        try:
            async with asyncio.timeout(block_ms / 1_000):
                await came.wait()
        except TimeoutError:
            return None
        return self._give_out(wanted, consumer, count) if process.alive else None

    def _give_out(self, wanted: Mapping[int, str], consumer: str, count: int) -> dict[bytes, Any]:
        answer: dict[bytes, Any] = {}
        for partition, position in wanted.items():
            stream, group = self.group(partition)
            if position == ">":
                ids = [at for at in stream.entries if at > group.last][:count]
                for at in ids:
                    group.last = at
                    group.pending[at] = (consumer, self.world.now_ms)
            else:
                ids = [at for at, (whose, _) in group.pending.items() if whose == consumer][:count]
            if ids:
                answer[log_key(partition).encode()] = [[_entry(stream, at) for at in ids]]
        return answer

    def tell(self, message: bytes) -> None:
        """PUBLISH: a word that may not arrive."""
        for hear, process in self.listeners.items():
            if not self.world.happens("news_lost", 0.3):
                self.world.later(self.world.latency_s(), _hear_if_alive, process, hear, message)


def _at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine answers that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the twin waits for something")


def _hear_if_alive(process: Process, hear: Callable[[bytes], None], message: bytes) -> None:
    if process.alive:
        hear(message)


def _name(at: LogId) -> bytes:
    return f"{at[0]}-{at[1]}".encode()


def _entry(stream: Stream, at: LogId) -> tuple[bytes, dict[bytes, bytes] | None]:
    data = stream.entries.get(at)
    return _name(at), None if data is None else {b"data": data}


_PARTITION_OF: Final = {
    key(partition): partition
    for partition in range(PARTITIONS)
    for key in (log_key, epoch_key, showtimes_key)
}


def _groups(server: SeatServer, key: str) -> list[dict[str, Any]]:
    """XINFO GROUPS. Raises ResponseError."""
    found = _stream(server, key).group
    return [] if found is None else [{"name": b"writers", "last-delivered-id": _name(found.last)}]


def _stream(server: SeatServer, key: str) -> Stream:
    stream = server.memory.streams.get(_PARTITION_OF[key])
    if stream is None:
        raise ResponseError("no such key")
    return stream


def _after(position: str) -> LogId:
    """The least id in a range that begins there; behind it when it is excluded."""
    at = log_position(position.removeprefix("("))
    return (at[0], at[1] + 1) if position.startswith("(") else at


def _is_until(at: LogId, position: str) -> bool:
    if position == "+":
        return True
    last = log_position(position.removeprefix("("))
    return at < last if position.startswith("(") else at <= last


class Redis:
    """The plain client: what goes wrong on the way is a broken connection."""

    def __init__(self, process: Process, server: SeatServer) -> None:
        self._wire = Wire(process, server)
        self._process = process
        self._server = server

    async def _ask(
        self, phase: str, word: str, work: Callable[[], Any], patience_s: float = COLD_PATIENCE_S
    ) -> Any:
        try:
            return await self._wire.ask(phase, word, work, patience_s)
        except Lost as error:
            raise ConnectionLost(word) from error

    async def xgroup_create(self, key: str, group: str, *, id: str, mkstream: bool) -> Any:
        def work() -> None:
            stream = self._server.stream(_PARTITION_OF[key])
            if stream.group is not None:
                raise ResponseError("BUSYGROUP Consumer Group name already exists")
            stream.group = Group(stream.last if id == "$" else log_position(id))

        return await self._ask("log", "xgroup_create", work)

    async def xreadgroup(
        self, group: str, consumer: str, streams: Mapping[bytes, str], *, count: int, block: int | None
    ) -> Any:
        wanted = {_PARTITION_OF[key.decode()]: position for key, position in streams.items()}
        # A blocked reader is a message under way for as long as it waits; faults are aimed at the others.
        phase = "log" if block is None else "read"
        return await self._ask(
            phase,
            "xreadgroup",
            lambda: self._server.news(self._process, wanted, consumer, count, block),
            COLD_PATIENCE_S + (block or 0) / 1_000,
        )

    async def xautoclaim(self, key: str, group: str, consumer: str, *, min_idle_time: int, count: int) -> Any:
        def work() -> Any:
            stream, found = self._server.group(_PARTITION_OF[key])
            now_ms, pending = self._server.world.now_ms, found.pending
            ids = [at for at, (_, given_ms) in pending.items() if now_ms - given_ms >= min_idle_time]
            for at in ids[:count]:
                pending[at] = (consumer, now_ms)
            return [b"0-0", [_entry(stream, at) for at in ids[:count] if at in stream.entries], []]

        return await self._ask("log", "xautoclaim", work)

    async def xrange(self, key: str, *, min: str, count: int) -> Any:
        def work() -> Any:
            stream, after = (
                self._server.memory.streams.get(_PARTITION_OF[key]),
                log_position(min.removeprefix("(")),
            )
            if stream is None:
                return []
            return [_entry(stream, at) for at in stream.entries if at > after][:count]

        return await self._ask("rebuild", "xrange", work)

    async def xpending(self, key: str, group: str) -> Any:
        def work() -> Any:
            _, found = self._server.group(_PARTITION_OF[key])
            first = _name(min(found.pending)) if found.pending else None
            return {"pending": len(found.pending), "min": first}

        return await self._ask("rebuild", "xpending", work)

    async def xinfo_groups(self, key: str) -> Any:
        return await self._ask("rebuild", "xinfo_groups", lambda: _groups(self._server, key))

    async def xtrim(self, key: str, *, minid: str, approximate: bool) -> int:
        def work() -> int:
            stream, first = self._server.memory.streams.get(_PARTITION_OF[key]), log_position(minid)
            if stream is None:
                return 0
            old = [at for at in stream.entries if at < first]
            for at in old:
                del stream.entries[at]
            return len(old)

        return int(await self._ask("log", "xtrim", work))

    async def delete(self, key: str) -> Any:
        return await self._ask(
            "rebuild", "delete", lambda: self._server.memory.listed.pop(_PARTITION_OF[key], None) and None
        )

    def pipeline(self, *, transaction: bool) -> _Pipeline:
        return _Pipeline(self, self._server)


class _Pipeline:
    """Commands in one trip; they are done at one instant, which a server between others' commands may do."""

    def __init__(self, redis: Redis, server: SeatServer) -> None:
        self._redis = redis
        self._server = server
        self._work: list[Callable[[], Any]] = []
        self._phase = "expire"

    def publish(self, channel: str, message: bytes) -> None:
        self._phase = "log"
        self._work.append(lambda: self._server.tell(message))

    def xack(self, key: str, group: str, *log_ids: str) -> None:
        self._phase = "log"

        def work() -> None:
            stream = self._server.memory.streams.get(_PARTITION_OF[key])
            found = stream.group if stream else None
            for log_id in log_ids if found else ():
                assert found is not None
                found.pending.pop(log_position(log_id), None)

        self._work.append(work)

    def smembers(self, key: str) -> None:
        partition = _PARTITION_OF[key]
        self._work.append(lambda: [one.encode() for one in self._server.memory.listed.get(partition, {})])

    def time(self) -> None:
        self._work.append(lambda: divmod(self._server.world.now_ms * 1_000, 1_000_000))

    def hget(self, key: str, name: str) -> None:
        showtime_id = key.rpartition(":")[2]

        def work() -> Any:
            epoch = self._server.memory.epoch_of.get(showtime_id)
            return None if epoch is None else b"%d" % epoch

        assert name == "epoch"
        self._work.append(work)

    def strlen(self, key: str) -> None:
        showtime_id = key.rpartition(":")[2]
        self._work.append(lambda: int(showtime_id in self._server.memory.showtimes))

    def zrange(self, key: str, first: int, last: int, *, withscores: bool) -> None:
        showtime_id = key.rpartition(":")[2]

        def work() -> Any:
            showtime = self._server.memory.showtimes.get(showtime_id)
            due = sorted((at, hold_id) for hold_id, at in showtime.due.items()) if showtime else []
            return [(hold_id.encode(), float(at)) for at, hold_id in due[:1]]

        self._work.append(work)

    def xinfo_groups(self, key: str) -> None:
        self._phase = "rebuild"
        self._work.append(lambda: _groups(self._server, key))

    def xinfo_stream(self, key: str) -> None:
        def work() -> Any:
            stream = _stream(self._server, key)
            first = next(iter(stream.entries), None)
            entry = None if first is None else _entry(stream, first)
            return {"first-entry": entry, "entries-added": stream.added, "length": len(stream.entries)}

        self._work.append(work)

    def xgroup_setid(self, key: str, group: str, log_id: str) -> None:
        def work() -> None:
            self._server.group(_PARTITION_OF[key])[1].last = log_position(log_id)

        self._work.append(work)

    def xpending_range(self, key: str, group: str, *, min: str, max: str, count: int) -> None:
        def work() -> Any:
            _, found = self._server.group(_PARTITION_OF[key])
            ids = sorted(at for at in found.pending if at >= _after(min) and _is_until(at, max))
            return [{"message_id": _name(at)} for at in ids[:count]]

        self._work.append(work)

    def xrange(self, key: str, *, min: str, max: str, count: int) -> None:
        def work() -> Any:
            stream = _stream(self._server, key)
            ids = [at for at in stream.entries if at >= _after(min) and _is_until(at, max)]
            return [_entry(stream, at) for at in ids[:count]]

        self._work.append(work)

    async def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        work, self._work = self._work, []

        def one_by_one() -> list[Any]:
            replies: list[Any] = []
            for one in work:
                try:
                    replies.append(one())
                except ResponseError as error:
                    if raise_on_error:
                        raise
                    replies.append(error)
            return replies

        answer = await self._redis._ask(self._phase, "pipeline", one_by_one)
        assert isinstance(answer, list)
        return answer


class Nodes:
    """Where news is heard."""

    def __init__(self, process: Process, server: SeatServer) -> None:
        self._process = process
        self._server = server

    def listen(self, channel: str, hear: Callable[[bytes], None]) -> Callable[[], None]:
        self._server.listeners[hear] = self._process
        self._process.last_will.append(lambda: self._server.listeners.pop(hear, None) and None)
        return lambda: self._server.listeners.pop(hear, None) and None


class Runner:
    """The link to the scripts, under one epoch. With `loads_itself` it does what no client may."""

    def __init__(self, process: Process, server: SeatServer, redis: Redis) -> None:
        self._wire = Wire(process, server)
        self._server = server
        self.redis = redis
        self.epoch = -1
        self.loads_itself = False

    def adopt_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    async def ask(self, phase: str, word: str, work: Callable[[], Any]) -> Any:
        """Raises SeatsUnavailable when nobody knows."""
        try:
            return await self._wire.ask(phase, word, work, LINK_PATIENCE_S)
        except Lost as error:
            raise SeatsUnavailable() from error

    async def call(self, verb: str, showtime_id: str, words: Any, named: Any) -> Any:
        epoch = self.epoch
        if epoch < 0:
            raise InventoryRebuilding(retry_after_s=1.0)

        def work() -> Any:
            if self.loads_itself:
                self._server.scripts.add(epoch)
            return self._server.run(verb, epoch, showtime_id, words, named)

        names = [word for word in words if isinstance(word, str)]
        return await self.ask(_PHASES.get(verb, "read"), " ".join([verb, *names]), work)

    async def run_many(self, verb: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> None:
        on_partition = {"read_epoch": self._server.read_epoch, "open_partition": self._server.open_partition}
        assert verb in on_partition, "everything else goes through the inventory"
        epoch, partitions = self.epoch, [_PARTITION_OF[keys[0]] for keys, _ in calls]

        def work() -> None:
            if self.loads_itself:
                self._server.scripts.add(epoch)
            for partition in partitions:
                on_partition[verb](epoch, partition)

        await self.ask("read" if verb == "read_epoch" else "rebuild", verb, work)

    async def load(self) -> None:
        epoch = self.epoch

        def work() -> None:
            self._server.scripts.add(epoch)

        await self.ask("rebuild", "script load", work)

    async def forget(self) -> None:
        def work() -> None:
            self._server.scripts.clear()

        await self.ask("rebuild", "script flush", work)


class Inventory:
    """The inventory's port on the link."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.sold: Callable[[str], None] = lambda _: None

    async def open_showtime(self, terms: Terms) -> Any:
        return await self._runner.call("open_showtime", terms.showtime_id, (terms,), {})

    async def restore(self, terms: Terms, **named: Any) -> Any:
        return await self._runner.call("restore", terms.showtime_id, (terms,), named)

    async def hold(self, showtime_id: str, *words: Any, **named: Any) -> Any:
        return await self._runner.call("hold", showtime_id, (showtime_id, *words), named)

    async def read_map(self, showtime_id: str, **named: Any) -> Any:
        return await self._runner.call("read_map", showtime_id, (showtime_id,), named)

    async def sweep(self, showtime_id: str, **named: Any) -> Any:
        return await self._runner.call("sweep", showtime_id, (showtime_id,), named)

    async def sweep_many(self, showtime_ids: Sequence[str], *, holds_max: int) -> list[Swept]:
        return [await self.sweep(showtime_id, holds_max=holds_max) for showtime_id in showtime_ids]

    async def extend(self, hold_id: str, *words: Any, **named: Any) -> Any:
        return await self._of_hold("extend", hold_id, words, named)

    async def release(self, hold_id: str, *words: Any, **named: Any) -> Any:
        return await self._of_hold("release", hold_id, words, named)

    async def claim(self, hold_id: str, *words: Any, **named: Any) -> Any:
        answer = await self._of_hold("claim", hold_id, words, named)
        self.sold(showtime_of(hold_id))
        return answer

    async def confirm(self, hold_id: str, *words: Any, **named: Any) -> Any:
        answer = await self._of_hold("confirm", hold_id, words, named)
        self.sold(showtime_of(hold_id))
        return answer

    async def return_seats(self, hold_id: str, **named: Any) -> Any:
        return await self._of_hold("return_seats", hold_id, (), named)

    async def read_hold(self, hold_id: str, *words: Any) -> Any:
        return await self._of_hold("read_hold", hold_id, words, {})

    async def _of_hold(self, verb: str, hold_id: str, words: Any, named: Any) -> Any:
        return await self._runner.call(verb, showtime_of(hold_id), (hold_id, *words), named)
