"""The seat server: the twin of the scripts behind a fence, with the order log beside it.

Seats are `MemoryInventory`, which sits the same examination as the scripts. Around it stands what the twin
does not know: scripts that are loaded or not, data that carries an epoch or not, and streams with a
consumer group. All of it is one server's memory, so it is lost together, and comes back together as it was
some time ago.

`Redis` is as much of the plain client as the order log uses; `Runner`, `Link`, `Nodes` and `Inventory` are
what stands on the link, and `SeatServer.command` what the server makes of plain commands sent there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import ResponseError

from checkout.log_redis import COMMITTED_CHANNEL, log_position
from kernel.errors import InventoryRebuilding, SeatsUnavailable
from kernel.ids import partition_of, showtime_of
from reservation import epoch_key, keys_of, log_key, showtimes_key
from reservation.inventory_memory import MemoryInventory
from reservation.keys import FREED_CHANNEL, PLACE_KEY
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


#: Scripts after which more may be had than before, if they changed the map.
_FREES: Final = frozenset({"release", "return_seats", "sweep", "open_showtime"})


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
    #: Of showtimes and of partitions; negative while a rebuild makes it.
    epoch_of: dict[str, int] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)
    place: bytes | None = None
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
        #: How often it was started, which is its name.
        self.starts = 1
        self.has_lost = False
        self.checks_epoch = True
        self.on_grant: Callable[[str, Sequence[int]], None] = lambda showtime_id, seats: None
        self.listeners: dict[tuple[str, Callable[[bytes], None]], Process] = {}
        #: What came free and a process has not heard of: when it was told, by process.
        self.unheard: dict[Process, dict[object, float]] = {}
        #: Blocked reads: whether something came.
        self._readers: list[asyncio.Future[bool]] = []
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
        self.starts += 1
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
        believed = abs(known or 0) <= epoch if verb == "restore" else known == epoch
        if self.checks_epoch and not believed:
            raise InventoryRebuilding(retry_after_s=1.0)
        showtime = memory.showtimes.get(showtime_id)
        version = showtime.version if showtime else 0
        answer = _at_once(getattr(self.inventory, verb)(*words, **named))
        if verb in _FREES and showtime and showtime.version > version:
            self._tell_freed(showtime_id, showtime.version)
        if verb in {"open_showtime", "restore"}:
            memory.epoch_of[showtime_id] = epoch
            memory.listed.setdefault(partition_of(showtime_id), {})[showtime_id] = None
        if verb == "hold" and answer.fresh:
            self.on_grant(showtime_id, words[3])
        for partition, _, entry in self.inventory.log:
            self.append(partition, entry)
        self.inventory.log.clear()
        return answer

    def turn_gate(self, verb: str, epoch: int, key: str) -> None:
        """One of the scripts that shut and open, on the key it is given. Raises InventoryRebuilding."""
        kept: dict[Any, int] = self.memory.epochs
        at: Any = _PARTITION_OF.get(key)
        if verb == "shut_showtime":
            kept, at = self.memory.epoch_of, key.rpartition(":")[2]
            if at not in kept:
                return
        known = kept.get(at, 0)
        may = known in {epoch, -epoch} if verb == "open_partition" else abs(known) <= epoch
        if epoch not in self.scripts or not may:
            raise InventoryRebuilding(retry_after_s=1.0)
        kept[at] = epoch if verb == "open_partition" else -epoch

    # Plain commands

    def command(self, words: Sequence[Any]) -> Any:
        """One of those a rebuild and the reaper send."""
        memory, world = self.memory, self.world
        key = str(words[1]) if len(words) > 1 else ""
        showtime_id = key.rpartition(":")[2]
        match words:
            case ["INFO", "server"]:
                return f"run_id:{self.starts}\r\n".encode()
            case ["INFO", "replication"]:
                return f"role:master\r\nmaster_replid:{self.starts}\r\nmaster_replid2:0000\r\n".encode()
            case ["TIME"]:
                return [b"%d" % part for part in divmod(world.now_ms * 1_000, 1_000_000)]
            case ["GET", _] if key == PLACE_KEY:
                return memory.place
            case ["GET", _]:
                return _as_bytes(memory.epochs.get(_PARTITION_OF[key]))
            case ["SET", _, place] if key == PLACE_KEY:
                memory.place = str(place).encode()
            case ["DEL", _] if key == PLACE_KEY:
                memory.place = None
            case ["DEL", _]:
                memory.listed.pop(_PARTITION_OF[key], None)
            case ["SMEMBERS", _]:
                return [one.encode() for one in memory.listed.get(_PARTITION_OF[key], {})]
            case ["HGET", _, "epoch"]:
                return _as_bytes(memory.epoch_of.get(showtime_id))
            case ["STRLEN", _]:
                return int(showtime_id in memory.showtimes)
            case ["ZRANGE", _, 0, 0, "WITHSCORES"]:
                showtime = memory.showtimes.get(showtime_id)
                due = sorted((at, hold_id) for hold_id, at in showtime.due.items()) if showtime else []
                return [[hold_id.encode(), float(at)] for at, hold_id in due[:1]]
            case _:
                raise AssertionError(f"nobody has said what {words[0]} does here")
        return b"OK"

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
            _wake(reader, True)

    async def news(
        self, process: Process, wanted: Mapping[int, str], consumer: str, count: int, block_ms: int | None
    ) -> dict[bytes, Any] | None:
        """XREADGROUP; blocked, it waits for the next entry of any log, unless its reader is gone."""
        found = self._give_out(wanted, consumer, count)
        if found or block_ms is None or ">" not in wanted.values():
            return found or None
        came = asyncio.get_running_loop().create_future()
        self._readers.append(came)
        self.world.later(block_ms / 1_000, _wake, came)
        if not await came:
            self._readers.remove(came)
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

    # The news

    def tell(self, message: bytes) -> None:
        """PUBLISH by the order writer: a word that may not arrive."""
        for (channel, hear), process in self.listeners.items():
            if channel == COMMITTED_CHANNEL and not self.world.happens("news_lost", 0.3):
                self.world.later(self.world.latency_s(), _hear_if_alive, process, hear, message)

    def _tell_freed(self, showtime_id: str, version: int) -> None:
        """PUBLISH by a script that made more possible."""
        message = f"{keys_of(showtime_id).showtime} {version}".encode()
        for (channel, hear), process in self.listeners.items():
            if channel != FREED_CHANNEL:
                continue
            unheard, number = self.unheard.setdefault(process, {}), object()
            unheard[number] = self.world.now_s

            def heard(
                process: Process = process, hear: Any = hear, unheard: Any = unheard, number: Any = number
            ) -> None:
                del unheard[number]
                _hear_if_alive(process, hear, message)

            if not self.world.happens("news_lost", 0.3):
                self.world.later(self.world.latency_s(), heard)


def _at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine answers that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the twin waits for something")


def _as_bytes(number: int | None) -> bytes | None:
    return None if number is None else b"%d" % number


def _wake(reader: asyncio.Future[bool], has_come: bool = False) -> None:
    if not reader.done():
        reader.set_result(has_come)


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


#: Of showtimes' and partitions' keys, as these scripts are given one.
_GATE_VERBS: Final = frozenset({"shut_partition", "shut_showtime", "open_partition"})


def _partition_named_in(key: str) -> int:
    return int(key[6:8])


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

    def pipeline(self, *, transaction: bool) -> _Pipeline:
        return _Pipeline(self, self._server)


class _Pipeline:
    """Commands in one trip; they are done at one instant, which a server between others' commands may do."""

    def __init__(self, redis: Redis, server: SeatServer) -> None:
        self._redis = redis
        self._server = server
        self._work: list[Callable[[], Any]] = []

    def publish(self, channel: str, message: bytes) -> None:
        self._work.append(lambda: self._server.tell(message))

    def xack(self, key: str, group: str, *log_ids: str) -> None:
        def work() -> None:
            stream = self._server.memory.streams.get(_PARTITION_OF[key])
            found = stream.group if stream else None
            for log_id in log_ids if found else ():
                assert found is not None
                found.pending.pop(log_position(log_id), None)

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


class Link:
    """The way to the one server there is."""

    def __init__(self, process: Process, server: SeatServer) -> None:
        self._wire = Wire(process, server)
        self._server = server

    async def ask(self, phase: str, word: str, work: Callable[[], Any]) -> Any:
        """Raises SeatsUnavailable when nobody knows."""
        try:
            return await self._wire.ask(phase, word, work, LINK_PATIENCE_S)
        except Lost as error:
            raise SeatsUnavailable() from error

    async def command(self, *words: Any) -> Any:
        return await self.ask("read", f"{words[0]}", lambda: self._server.command(words))


class Nodes:
    """All servers, of which there is one: the way to it, and where its news is heard."""

    def __init__(self, process: Process, server: SeatServer) -> None:
        self._process = process
        self._server = server
        self.link = Link(process, server)

    async def primaries(self) -> Sequence[Link]:
        return [self.link]

    def link_of(self, key: str) -> Link:
        return self.link

    def listen(
        self, channel: str, hear: Callable[[bytes], None], missed: Callable[[], None] = lambda: None
    ) -> Callable[[], None]:
        listeners, listener = self._server.listeners, (channel, hear)
        listeners[listener] = self._process

        def stop() -> None:
            listeners.pop(listener, None)

        self._process.last_will.append(stop)
        return stop


class Runner:
    """Scripts on the link, each partition's under its epoch."""

    def __init__(self, server: SeatServer, nodes: Nodes) -> None:
        self.nodes = nodes
        self._link = nodes.link
        self._server = server
        self.epochs: Sequence[int] = (-1,) * PARTITIONS

    def adopt_epochs(self, epochs: Sequence[int]) -> None:
        self.epochs = tuple(epochs)

    async def call(self, verb: str, showtime_id: str, words: Any, named: Any) -> Any:
        epoch = self.epochs[partition_of(showtime_id)]
        if epoch < 0:
            raise InventoryRebuilding(retry_after_s=1.0)

        names = [word for word in words if isinstance(word, str)]
        work = partial(self._server.run, verb, epoch, showtime_id, words, named)
        return await self._link.ask(_PHASES.get(verb, "read"), " ".join([verb, *names]), work)

    async def run_many(self, verb: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> None:
        assert verb in _GATE_VERBS, "everything else goes through the inventory"
        asked = [(keys[0], self.epochs[_partition_named_in(keys[0])]) for keys, _ in calls]

        def work() -> None:
            for key, epoch in asked:
                self._server.turn_gate(verb, epoch, key)

        await self._link.ask("rebuild", verb, work)

    async def commands(self, *calls: Sequence[Any]) -> list[Any]:
        """In one trip; done at one instant, which a server between others' commands may do."""
        if not calls:
            return []
        phase = {"SMEMBERS": "expire", "HGET": "expire", "DEL": "rebuild"}.get(str(calls[0][0]), "read")
        answers = await self._link.ask(phase, f"{calls[0][0]}…", lambda: [*map(self._server.command, calls)])
        assert isinstance(answers, list)
        return answers

    async def command(self, *words: Any) -> Any:
        return await self._link.command(*words)

    async def load(self, link: Link, epochs: Iterable[int]) -> None:
        wanted = {*epochs}
        await link.ask("rebuild", "script load", lambda: self._server.scripts.update(wanted))

    async def are_known(self, link: Link, epochs: Iterable[int]) -> bool:
        wanted = {*epochs}
        return bool(await link.ask("read", "script exists", lambda: wanted <= self._server.scripts))


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
