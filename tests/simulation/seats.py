"""The seat server: the twin of the scripts behind a fence, with the order log beside it.

Seats are `MemoryInventory`, which sits the same examination as the scripts. Around it stands what the twin
does not know: scripts that are loaded or not, data that carries an epoch or not, and streams with a
consumer group. All of it is one server's memory, so it is lost together, and comes back together as it was
some time ago.

`Redis` is as much of the plain client as a blocking read of the logs needs; `Runner`, `Link`, `Nodes` and
`Inventory` are what stands on the link, and `Commands` what the server makes of plain commands sent there.
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

from checkout.log_entries import log_position
from checkout.log_redis import COMMITTED_CHANNEL
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
#: Of trips of plain commands, by the name of the first.
_PHASES_OF_COMMANDS: Final = {
    "PUBLISH": "log",
    "XACK": "log",
    "XAUTOCLAIM": "log",
    "XGROUP": "log",
    "XTRIM": "log",
    "XINFO": "rebuild",
    "XPENDING": "rebuild",
    "XRANGE": "rebuild",
    "DEL": "rebuild",
    "SMEMBERS": "expire",
    "HGET": "expire",
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
    """One server. `on_grant` hears of every fresh hold, `on_restore` of every map, the instant it is made."""

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
        self.on_restore: Callable[[], None] = lambda: None
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
        if verb == "restore":
            self.on_restore()
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


def _told(stream: Stream, at: LogId) -> tuple[bytes, list[bytes] | None]:
    """An entry as the link brings it, its fields in a row."""
    data = stream.entries.get(at)
    return _name(at), None if data is None else [b"data", data]


def _showtime_in(key: str) -> str:
    return key.rpartition(":")[2]


_PARTITION_OF: Final = {
    key(partition): partition
    for partition in range(PARTITIONS)
    for key in (log_key, epoch_key, showtimes_key)
}


def _is_between(at: LogId, first: str, last: str) -> bool:
    """Whether an id is in a range; its ends are, but for those that are excluded."""
    after = log_position(first.removeprefix("("))
    if at < after or (at == after and first.startswith("(")):
        return False
    if last == "+":
        return True
    until = log_position(last.removeprefix("("))
    return at < until if last.startswith("(") else at <= until


#: Of showtimes' and partitions' keys, as these scripts are given one.
_GATE_VERBS: Final = frozenset({"shut_partition", "shut_showtime", "open_partition"})


def _partition_named_in(key: str) -> int:
    return int(key[6:8])


class Commands:
    """Plain commands on a server's memory, in the words the platform sends them in."""

    def __init__(self, server: SeatServer) -> None:
        self._server = server

    def do(self, words: Sequence[Any]) -> Any:
        """The reply, or a ResponseError."""
        name, *rest = words
        try:
            return getattr(self, f"_{name.lower()}")(*rest)
        except ResponseError as refusal:
            return refusal.with_traceback(None)

    # Of the server

    def _info(self, *sections: str) -> bytes:
        starts = self._server.starts
        told = {
            "server": f"run_id:{starts}\r\n",
            "replication": f"role:master\r\nmaster_replid:{starts}\r\nmaster_replid2:0000\r\n",
        }
        return "".join(told[section] for section in sections).encode()

    def _time(self) -> list[bytes]:
        return [b"%d" % part for part in divmod(self._server.world.now_ms * 1_000, 1_000_000)]

    # Of partitions and showtimes

    def _get(self, key: str) -> bytes | None:
        if key == PLACE_KEY:
            return self._server.memory.place
        return _as_bytes(self._server.memory.epochs.get(_PARTITION_OF[key]))

    def _set(self, key: str, place: str) -> bytes:
        assert key == PLACE_KEY
        self._server.memory.place = place.encode()
        return b"OK"

    def _del(self, key: str) -> int:
        memory = self._server.memory
        if key == PLACE_KEY:
            had, memory.place = memory.place, None
            return int(had is not None)
        return int(memory.listed.pop(_PARTITION_OF[key], None) is not None)

    def _smembers(self, key: str) -> list[bytes]:
        return [one.encode() for one in self._server.memory.listed.get(_PARTITION_OF[key], {})]

    def _hget(self, key: str, name: str) -> bytes | None:
        assert name == "epoch"
        return _as_bytes(self._server.memory.epoch_of.get(_showtime_in(key)))

    def _strlen(self, key: str) -> int:
        return int(_showtime_in(key) in self._server.memory.showtimes)

    def _zrange(self, key: str, first: int, last: int, word: str) -> list[list[Any]]:
        assert (first, last, word) == (0, 0, "WITHSCORES")
        showtime = self._server.memory.showtimes.get(_showtime_in(key))
        due = sorted((at, hold_id) for hold_id, at in showtime.due.items()) if showtime else []
        return [[hold_id.encode(), float(at)] for at, hold_id in due[:1]]

    # Of logs

    def _publish(self, channel: str, message: bytes) -> int:
        assert channel == COMMITTED_CHANNEL
        self._server.tell(message)
        return 1

    def _xack(self, key: str, group: str, *log_ids: str) -> int:
        stream = self._server.memory.streams.get(_PARTITION_OF[key])
        if stream is None or stream.group is None:
            return 0
        pending = stream.group.pending
        return sum(pending.pop(log_position(log_id), None) is not None for log_id in log_ids)

    def _xautoclaim(
        self, key: str, group: str, consumer: str, idle_ms: int, first: str, word: str, count: int
    ) -> list[Any]:
        stream, found = self._server.group(_PARTITION_OF[key])
        now_ms, pending = self._server.world.now_ms, found.pending
        ids = [at for at, (_, given_ms) in pending.items() if now_ms - given_ms >= idle_ms]
        for at in ids[:count]:
            pending[at] = (consumer, now_ms)
        return [b"0-0", [_told(stream, at) for at in ids[:count] if at in stream.entries], []]

    def _xgroup(self, verb: str, key: str, group: str, log_id: str, make: str = "") -> bytes:
        if verb == "SETID":
            self._server.group(_PARTITION_OF[key])[1].last = log_position(log_id)
            return b"OK"
        assert (verb, make) == ("CREATE", "MKSTREAM")
        stream = self._server.stream(_PARTITION_OF[key])
        if stream.group is not None:
            raise ResponseError("BUSYGROUP Consumer Group name already exists")
        stream.group = Group(stream.last if log_id == "$" else log_position(log_id))
        return b"OK"

    def _xinfo(self, about: str, key: str) -> Any:
        stream = self._server.memory.streams.get(_PARTITION_OF[key])
        if stream is None:
            raise ResponseError("no such key")
        if about == "GROUPS":
            found = stream.group
            return [{b"name": b"writers", b"last-delivered-id": _name(found.last)}] if found else []
        assert about == "STREAM"
        first = next(iter(stream.entries), None)
        return {
            b"first-entry": None if first is None else _told(stream, first),
            b"entries-added": stream.added,
            b"length": len(stream.entries),
        }

    def _xpending(self, key: str, group: str, *of: Any) -> list[Any]:
        _, found = self._server.group(_PARTITION_OF[key])
        if not of:
            return [len(found.pending), _name(min(found.pending)) if found.pending else None, None, None]
        first, last, count = of
        ids = sorted(at for at in found.pending if _is_between(at, first, last))
        now_ms = self._server.world.now_ms
        return [
            [_name(at), consumer.encode(), now_ms - given_ms, 1]
            for at in ids[:count]
            for consumer, given_ms in [found.pending[at]]
        ]

    def _xrange(self, key: str, first: str, last: str, word: str, count: int) -> list[Any]:
        stream = self._server.memory.streams.get(_PARTITION_OF[key])
        if stream is None:
            return []
        return [_told(stream, at) for at in stream.entries if _is_between(at, first, last)][:count]

    def _xtrim(self, key: str, word: str, exactly: str, first: str) -> int:
        assert (word, exactly) == ("MINID", "=")
        stream = self._server.memory.streams.get(_PARTITION_OF[key])
        if stream is None:
            return 0
        old = [at for at in stream.entries if at < log_position(first)]
        for at in old:
            del stream.entries[at]
        return len(old)


class Redis:
    """The plain client of a blocking read: what goes wrong on the way is a broken connection."""

    def __init__(self, process: Process, server: SeatServer) -> None:
        self._wire = Wire(process, server)
        self._process = process
        self._server = server

    async def xreadgroup(
        self, group: str, consumer: str, streams: Mapping[bytes, str], *, count: int, block: int | None
    ) -> Any:
        wanted = {_PARTITION_OF[key.decode()]: position for key, position in streams.items()}
        # A blocked reader is a message under way for as long as it waits; faults are aimed at the others.
        phase = "log" if block is None else "read"
        try:
            return await self._wire.ask(
                phase,
                "xreadgroup",
                lambda: self._server.news(self._process, wanted, consumer, count, block),
                COLD_PATIENCE_S + (block or 0) / 1_000,
            )
        except Lost as error:
            raise ConnectionLost("xreadgroup") from error


_UNHEARD: Final = "unheard: its connection has ended"


class Link:
    """The way to the one server there is."""

    def __init__(self, process: Process, server: SeatServer, commands: Commands) -> None:
        self._wire = Wire(process, server)
        self._server = server
        self._commands = commands

    async def ask(self, phase: str, word: str, work: Callable[[], Any]) -> Any:
        """Raises SeatsUnavailable when nobody knows."""
        try:
            return await self._wire.ask(phase, word, work, LINK_PATIENCE_S)
        except Lost as error:
            raise SeatsUnavailable() from error

    @property
    def connection(self) -> int:
        """It ends with the process at the other end."""
        return self._server.starts

    async def command(self, *words: Any, on: int | None = None) -> Any:
        reply = await self.on(on, "read", f"{words[0]}", lambda: self._commands.do(words))
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    async def on(self, connection: int | None, phase: str, word: str, work: Callable[[], Any]) -> Any:
        """Ask on a connection, or on any: what comes on one that has ended is not heard."""

        def heard() -> Any:
            return work() if connection in (None, self._server.starts) else _UNHEARD

        reply = await self.ask(phase, word, heard)
        if reply == _UNHEARD:
            raise SeatsUnavailable
        return reply

    async def commands(self, calls: Sequence[Sequence[Any]]) -> list[Any]:
        """In one trip; done at one instant, which a server between others' commands may do."""
        if not calls:
            return []
        first = str(calls[0][0])
        phase = _PHASES_OF_COMMANDS.get(first, "read")
        replies = await self.ask(phase, f"{first}…", lambda: [*map(self._commands.do, calls)])
        assert isinstance(replies, list)
        return replies


class Nodes:
    """All servers, of which there is one, as everybody knows: the way to it, and where its news is heard."""

    may_move: Final = False

    def __init__(self, process: Process, server: SeatServer, commands: Commands) -> None:
        self._process = process
        self._server = server
        self.only = Link(process, server, commands)

    async def primaries(self) -> Sequence[Link]:
        return [self.only]

    def link_of(self, key: str) -> Link:
        return self.only

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

    def __init__(self, process: Process, server: SeatServer, commands: type[Commands] = Commands) -> None:
        self.nodes = Nodes(process, server, commands(server))
        self._link = self.nodes.only
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

    async def command(self, *words: Any) -> Any:
        return await self._link.command(*words)

    async def commands(self, *calls: Sequence[Any]) -> list[Any]:
        return await self._link.commands(calls)

    async def ask_each(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """What each of them met; raises nothing."""
        try:
            return await self._link.commands([words for _, words in calls])
        except SeatsUnavailable as away:
            return [away] * len(calls)

    async def load(self, link: Link, epochs: Iterable[int], *, on: int | None = None) -> None:
        wanted = {*epochs}
        await link.on(on, "rebuild", "script load", lambda: self._server.scripts.update(wanted))

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
